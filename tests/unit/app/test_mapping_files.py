"""Every type of event can have a mapping of its own, and all of them speak of the same users."""

import json
from pathlib import Path
from typing import Any

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.users import EmailChange, Intent, UnknownUser
from keycloak_bridge.mapping.lifecycle import LifecyclePolicy, Mappings
from keycloak_bridge.settings import (
    EventsSettings,
    LifecycleSettings,
    MappingSettings,
    SchemasSettings,
    Settings,
)

HEAD = 'matching = ["attributes.userId"]\n'
USER = '[user]\nusername = "data.email"\n'
IDENTITY = '[user.attributes]\nuserId = "data.userId"\n'
WHOLE = HEAD + USER + IDENTITY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A schema user.created 2.0 and an update of the user's own."""
    for kind, version, names in (
        ("user.created", "2.0", ("userId", "email", "mail")),
        ("user.updated", "3.0", ("userId", "email", "nick")),
    ):
        schema = {
            "$id": f"urn:acme:{kind}:{version}",
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
        }
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{version}.json").write_text(json.dumps(schema))
    return tmp_path


def mappings(folder: Path, default: str | None = None, **files: str) -> Mappings:
    """Return the mappings of settings that name a file with each content; `_` stands for the dot in a type."""
    paths = {}
    for key, content in files.items():
        paths[key.replace("_", ".")] = folder / f"{key.replace('/', '-')}.toml"
        paths[key.replace("_", ".")].write_text(content)
    own = None
    if default is not None:
        own = folder / "default.toml"
        own.write_text(default)
    settings = Settings(
        schemas=SchemasSettings(folders=(folder,)),
        mapping=MappingSettings(file=own, files=paths),
    )
    return Interpretation(settings).mapping


def test_without_any_file_the_shipped_mapping_serves_all(folder: Path) -> None:
    """It finds the user in every lifecycle event."""
    found = mappings(folder)

    assert (found.default,) == found.all
    assert 2 == found.majors["urn:acme:user.created:2.0"]


def test_mappings_by_type_and_by_version(folder: Path) -> None:
    """Each is checked against the schemas of what it serves."""
    nick, mail = IDENTITY + 'nick = "data.nick"\n', IDENTITY + 'mail = "data.mail"\n'
    files: dict[str, str] = {
        "user_updated": HEAD + USER + nick,
        "user_created/2": HEAD + USER + mail,
    }
    found = mappings(folder, **files)

    assert ["user.updated"] == list(found.by_type)
    assert [("user.created", 2)] == list(found.by_major)
    assert {"mail", "nick", "userId"} < set(found.attribute_names)


def test_a_mapping_that_only_identifies(folder: Path) -> None:
    """Of an event that only names its user, the external id is enough."""
    found = mappings(folder, user_deleted=HEAD + IDENTITY)

    assert ["user.deleted"] == list(found.by_type)


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"user_update": WHOLE},
            "mapping.files: 'user.update': is no type of event that the bridge maps; did you mean 'user.updated'?",
        ),
        (
            {"user_created/3": WHOLE},
            "'user.created/3': there is no schema of user.created with this major version",
        ),
        ({"user_created/x": WHOLE}, "'user.created/x': there is no schema"),
        ({"user_created/": WHOLE}, "'user.created/': there is no schema"),
        (
            {"user_created/2": WHOLE + 'nick = "data.nick"'},
            "user.attributes.nick: 'data.nick' is not a property of the event's schema",
        ),
        (
            {"user_created/1": WHOLE + 'mail = "data.mail"'},
            "user.attributes.mail: 'data.mail' is not a property",
        ),
        ({"user_updated": HEAD + IDENTITY}, "user.username: is missing"),
        ({"user_updated": "x = "}, "user_updated.toml: not valid TOML"),
        (
            {"user_deleted": 'matching = ["attributes.id"]\n[user.attributes]\nid = "data.userId"'},
            "matching: must begin with attributes.userId, as in default_mapping.toml",
        ),
    ],
)
def test_what_cannot_work_is_refused(folder: Path, files: dict[str, str], line: str) -> None:
    """With the file or the key, and the reason."""
    with pytest.raises(ConfigError) as caught:
        mappings(folder, **files)

    assert line in caught.value.message
    assert 1 == len(caught.value.message.splitlines())


BLIND = HEAD + '[user]\nusername = "data.mail"\n[user.attributes]\nuserId = "data.mail"\n'


def test_every_event_must_say_whose_user_it_is(folder: Path) -> None:
    """A mapping for one schema alone would make dead letters of all later events."""
    with pytest.raises(ConfigError) as caught:
        mappings(folder, BLIND, user_deleted=HEAD + IDENTITY, user_updated=WHOLE)

    assert "no data.mail in user.disabled, user.enabled, user.invitation.requested;" in str(
        caught.value
    )
    assert "[mapping.files]" in str(caught.value)


def test_types_that_are_ignored_need_no_mapping(folder: Path) -> None:
    """Nor do those that the id can be read of in another way."""
    rest = ("user.updated", "user.disabled", "user.enabled", "user.deleted")
    (folder / "m.toml").write_text(BLIND)
    settings = Settings(
        events=EventsSettings(ignore_types=(*rest, "user.invitation.requested")),
        schemas=SchemasSettings(folders=(folder,)),
        mapping=MappingSettings(file=folder / "m.toml"),
    )

    Interpretation(settings).check()
    mappings(folder, BLIND.replace('userId = "data.mail"', 'userId = "data.mail || data.userId"'))
    mappings(folder, BLIND.replace('userId = "data.mail"', 'userId = "subject"'))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, LifecyclePolicy()),
        (
            {
                "unknown_user": "wait",
                "deleted": "anonymise",
                "end_sessions": False,
                "email_change": "verify",
            },
            LifecyclePolicy(UnknownUser.WAIT, Intent.ANONYMISE, False, EmailChange.VERIFY),
        ),
    ],
)
def test_the_policy_is_that_of_the_settings(
    settings: dict[str, Any], expected: LifecyclePolicy
) -> None:
    """Word for word."""
    lifecycle = LifecycleSettings(**settings)

    assert expected == Interpretation(Settings(lifecycle=lifecycle)).mapping.policy
