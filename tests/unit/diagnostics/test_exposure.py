"""What the doctor says of settings that leave something open."""

import os
from pathlib import Path

import pytest

from keycloak_bridge.diagnostics.exposure import exposure_probes
from keycloak_bridge.diagnostics.probes import Light, ProbeResult, examine
from keycloak_bridge.settings.loading import read_settings

PLANTED = "planted-secret"


def found(*overrides: str, file: Path | None = None, **secrets: str) -> list[ProbeResult]:
    """Return the results under these settings; secrets by section and key, which the environment has."""
    environ = {f"KEYCLOAK_BRIDGE_{name.upper()}": secret for name, secret in secrets.items()}
    loaded = read_settings(file, environ=environ, overrides=overrides)
    assert () == loaded.problems
    return list(examine(exposure_probes(loaded)))


def risks(results: list[ProbeResult]) -> list[str | None]:
    """Return what is yellow, by its subject; nothing of it repeats a secret."""
    assert not any(PLANTED in f"{one.message} {one.remedy}" for one in results)
    assert all(one.remedy for one in results if one.light is Light.YELLOW)
    return [one.subject for one in results if one.light is Light.YELLOW]


def secret_file(tmp_path: Path, mode: int) -> Path:
    """Return a secret in a file of this mode, in folders that everybody may enter."""
    path = tmp_path / "secret"
    path.write_text(PLANTED)
    path.chmod(mode)
    return path


@pytest.fixture
def public_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose parents let everybody in; pytest's own do not."""
    stat = Path.stat

    def entered(path: Path, **options: bool) -> os.stat_result:
        seen = stat(path, **options)
        if path in tmp_path.parents or path == tmp_path:
            return os.stat_result((seen.st_mode | 0o001, *seen[1:]))
        return seen

    monkeypatch.setattr(Path, "stat", entered)
    return tmp_path


def test_the_defaults_are_for_one_machine() -> None:
    """Nothing is yellow as long as everything is on this machine and no secret is set."""
    results = found()

    assert [] == risks(results)
    assert {"secrets", "encryption", "guards"} == {one.probe for one in results}
    assert [Light.GRAY] == [one.light for one in results if one.probe == "secrets"]


def test_a_secret_as_text(tmp_path: Path, public_folder: Path) -> None:
    """In the environment, or in the settings file, which everybody may read besides."""
    file = public_folder / "bridge.toml"
    file.write_text(f'[registry]\nurl = "https://registry"\ntoken = "{PLANTED}"\n')
    file.chmod(0o644)
    results = found(file=file, keycloak_client_secret=PLANTED)

    assert ["keycloak.client_secret", "registry.token"] == risks(results)
    assert "by KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET" in results[0].message
    assert results[1].message.endswith("which all users of this machine may read")
    file.chmod(0o600)
    assert not found(file=file)[0].message.endswith("may read")


@pytest.mark.parametrize(
    ("mode", "subjects"),
    [
        (0o600, []),
        (0o640, []),
        (0o644, ["keycloak.client_secret_file"]),
        (0o602, ["keycloak.client_secret_file"]),
    ],
)
def test_a_secret_in_a_file(public_folder: Path, mode: int, subjects: list[str]) -> None:
    """Group rights are for the administrator to give; those of everybody are a risk."""
    path = secret_file(public_folder, mode)

    assert subjects == risks(found(f"keycloak.client_secret_file={path}"))


def test_a_folder_that_keeps_others_out(tmp_path: Path) -> None:
    """Then the mode of the file does not matter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path = secret_file(closed, 0o644)

    assert [] == risks(found(f"keycloak.client_secret_file={path}"))


def test_a_read_only_mount_is_of_the_container(
    public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes and Compose mount secrets."""
    path = secret_file(public_folder, 0o444)
    fields = list(os.statvfs(path))
    fields[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))

    assert [] == risks(found(f"keycloak.client_secret_file={path}"))


def test_the_key_of_a_certificate_is_a_secret(public_folder: Path) -> None:
    """By itself, or in the file of the certificate."""
    path = secret_file(public_folder, 0o644)
    both = ("kafka.security_protocol=SSL", f"kafka.ssl_certfile={path}")

    assert ["kafka.ssl_certfile"] == risks(found(*both))
    assert ["kafka.ssl_keyfile"] == risks(found(*both, f"kafka.ssl_keyfile={path}"))


@pytest.mark.parametrize(
    ("overrides", "subjects"),
    [
        (("kafka.bootstrap_servers=[::1]:9092,127.0.0.1:9093",), []),
        (("kafka.bootstrap_servers=localhost:1,kafka:9092",), ["kafka", "kafka.login"]),
        (("kafka.bootstrap_servers=kafka:9092", "kafka.security_protocol=SSL"), ["kafka.login"]),
        (("keycloak.url=http://127.0.0.1:8080",), []),
        (("keycloak.url=http://keycloak:8080",), ["keycloak"]),
        (("keycloak.url=https://keycloak:8443",), []),
        (("registry.url=http://registry:8081",), ["registry"]),
        (("registry.url=http://localhost:8081",), []),
        (("limits.deletes=none", "brake.in_a_row=0"), ["limits.deletes"]),
        (("brake.share=0", "brake.in_a_row=0"), ["brake"]),
        (("verify.mode=off", "limits.mails=none"), ["verify.mode"]),
    ],
)
def test_what_is_open(overrides: tuple[str, ...], subjects: list[str]) -> None:
    """Clear text and missing log-ins count beyond this machine, guards that are off anywhere."""
    assert subjects == risks(found(*overrides))


def test_a_login_in_clear_text_names_the_password() -> None:
    """SASL without TLS: SCRAM keeps the password, PLAIN does not."""
    kafka = ("kafka.bootstrap_servers=kafka:9092", "kafka.security_protocol=SASL_PLAINTEXT")
    for mechanism, told in (("PLAIN", True), ("SCRAM-SHA-512", False)):
        of_login = (f"kafka.sasl_mechanism={mechanism}", "kafka.sasl_username=bridge")
        results = found(*kafka, *of_login, kafka_sasl_password=PLANTED)
        assert ["kafka.sasl_password", "kafka"] == risks(results)
        (one,) = [one for one in results if one.subject == "kafka"]
        assert told == ("and the password" in one.message)
