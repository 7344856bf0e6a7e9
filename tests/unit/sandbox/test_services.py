"""Realm exports and their placeholders."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.sandbox.options import SandboxError
from keycloak_bridge.sandbox.services import default_config_dir, filled, realm_file, representation

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "${" not in text),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NAME}", "acme"),
        ("${NAME:other}", "acme"),
        ("${MISSING:other}", "other"),
        ("${MISSING:}", ""),
        ("${username}", "${username}"),
        ("${URL:http://localhost:8000}/*", "http://localhost:8000/*"),
        ("a ${NAME} b ${NAME}", "a acme b acme"),
        ("$NAME", "$NAME"),
    ],
)
def test_placeholders_are_filled_like_keycloak_does(text: str, expected: str) -> None:
    """The environment first, then the default; an unknown name without one stays."""
    assert filled(text, {"NAME": "acme"}) == expected


def test_placeholders_are_found_at_any_depth() -> None:
    """Values in lists and objects are filled, keys are not."""
    given_json = {"${NAME}": [{"a": "${NAME}"}, 1, None, True]}

    assert filled(given_json, {"NAME": "x"}) == {"${NAME}": [{"a": "x"}, 1, None, True]}


@given(JSON)
def test_json_without_placeholders_is_untouched(value: object) -> None:
    """Filling changes nothing else."""
    assert filled(value, {"NAME": "x"}) == value


def test_realm_file_is_found(tmp_path: Path) -> None:
    """The export is the file that Keycloak's import looks for; without one the error names folder and option."""
    (tmp_path / "readme.json").write_text("{}")
    with pytest.raises(SandboxError, match=rf"{tmp_path} holds no realm export.*--config-dir"):
        realm_file(tmp_path)

    (tmp_path / "acme-realm.json").write_text("{}")

    assert realm_file(tmp_path).name == "acme-realm.json"


def test_an_installed_package_takes_the_folder_here_or_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a source tree the current folder is looked at, then what the wheel brings."""
    module = tmp_path / "a/b/c/services.py"
    monkeypatch.setattr("keycloak_bridge.sandbox.services.__file__", str(module))
    monkeypatch.chdir(tmp_path)
    without = default_config_dir()

    (tmp_path / "keycloak-config").mkdir()

    assert module.with_name("keycloak_config") == without
    assert default_config_dir() == tmp_path / "keycloak-config"


def test_realm_is_named_by_its_filled_content(tmp_path: Path) -> None:
    """The name follows the environment, wherever the file got its own name from."""
    source = tmp_path / "acme-realm.json"
    source.write_text('{"realm": "${KEYCLOAK_REALM:acme}"}')

    assert representation(source, {})["realm"] == "acme"
    assert representation(source, {"KEYCLOAK_REALM": "other"})["realm"] == "other"


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "is not JSON"), ("[]", 'has no "realm"'), ('{"id": 1}', 'has no "realm"')],
)
def test_broken_realm_file_is_named(tmp_path: Path, content: str, reason: str) -> None:
    """A file that is no realm export is an error before anything starts."""
    source = tmp_path / "acme-realm.json"
    source.write_text(content)

    with pytest.raises(SandboxError, match=f"acme-realm.json.*{reason}"):
        representation(source, {})
