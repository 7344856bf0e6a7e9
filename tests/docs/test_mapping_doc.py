"""The mapping's reference is in step with the code: its examples run, and nothing is left out."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.test_mapping import Case, run_case
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, USER_EVENTS, UserEvent
from keycloak_bridge.domain.users import DesiredUser, Intent, LinkPolicy
from keycloak_bridge.mapping.mapping import compile_mapping
from keycloak_bridge.mapping.reader import REMOVALS
from keycloak_bridge.mapping.rules import USER_FIELDS
from keycloak_bridge.settings.model import MappingSettings, Settings

DOC = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text("utf-8")
BLOCKS = {
    (kind, name): text
    for kind, name, text in re.findall(
        r"^```\w+ (\w+)=(\w+)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL
    )
}
INTENTS = [intent for intent in Intent if intent is not Intent.PROVISION]
PROPERTIES = {
    (name,)
    for name in (
        *("userId", "email", "givenName", "familyName", "username", "locale", "tenantId"),
        *("department", "phoneNumber", "active", "roles", "groups", "attributes"),
    )
}


def compiled(name: str) -> Any:
    """Return the example `name`, compiled against the default schema's properties."""
    return compile_mapping(
        tomllib.loads(BLOCKS["example", name]),
        origin="mapping.toml",
        has_property=PROPERTIES.__contains__,
    )


@pytest.mark.parametrize("name", [name for kind, name in BLOCKS if kind == "user"])
def test_an_example_makes_the_user_it_shows(name: str) -> None:
    """Each mapping makes of its event exactly the user printed below it."""
    kind = "event" if ("event", name) in BLOCKS else "update"
    data = json.loads(BLOCKS[kind, name])
    type_ = {"event": "user.created", "update": "user.updated"}[kind]
    user = compiled(name).apply(UserEvent("e1", "/um", type_, data["userId"], None, "urn:s", data))

    assert isinstance(user, DesiredUser)
    shown: dict[str, Any] = {**user.representation}
    shown |= {one.kind: list(one.names) for one in user.memberships}
    if user.cleared:
        shown["cleared"] = sorted(user.cleared)
    assert json.loads(BLOCKS["user", name]) == shown


def test_the_golden_case_is_the_example(tmp_path: Path) -> None:
    """What is shown as expected file is what `test-mapping` expects of the first example."""
    (tmp_path / "mapping.toml").write_text(BLOCKS["example", "small"], encoding="utf-8")
    data = json.loads(BLOCKS["event", "small"])
    envelope = {"specversion": "1.0", "id": "e1", "source": "/um", "type": "user.created"}
    case = Case("small", tmp_path)
    case.event.write_text(json.dumps({**envelope, "data": data}), encoding="utf-8")
    case.expected.write_text(BLOCKS["golden", "small"], encoding="utf-8")
    settings = Settings(mapping=MappingSettings(file=tmp_path / "mapping.toml"))

    assert "equal" == run_case(case, Interpretation(settings)).state


@pytest.mark.parametrize("name", [name for kind, name in BLOCKS if kind == "error"])
def test_a_broken_example_is_refused_as_shown(name: str) -> None:
    """The report is the one that the reference prints."""
    with pytest.raises(ConfigError) as caught:
        compiled(name)

    assert BLOCKS["error", name].strip() == caught.value.message


@pytest.mark.parametrize(
    "word", [*USER_FIELDS, *BOOKKEEPING_ATTRIBUTES, *LinkPolicy, *REMOVALS, *USER_EVENTS, *INTENTS]
)
def test_every_word_is_explained(word: str) -> None:
    """No target, bookkeeping attribute, policy, type of event or intent is left out."""
    assert f"`{word}`" in DOC


def test_the_examples_were_found() -> None:
    """The reference has examples of all kinds."""
    kinds = [kind for kind, _ in BLOCKS if kind in ("user", "event", "update", "error")]

    assert ["error", "event", "event", "update", "user", "user", "user"] == sorted(kinds)
