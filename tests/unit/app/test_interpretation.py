"""The shipped mapping fits the default schema; own mappings, one or several, are read with errors that name them."""

import json
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import records
from stage_harness import event_of

from keycloak_bridge.app.interpretation import Interpretation, invitation_terms
from keycloak_bridge.app.mapping_files import default_mapping_text, load_mapping
from keycloak_bridge.app.schema_files import load_schemas
from keycloak_bridge.domain.errors import ConfigError, EventValidationError, MappingError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    DesiredUser,
    EmailChange,
    Intent,
    InvitationTerms,
    OutOfScope,
    UnknownUser,
    client_roles,
)
from keycloak_bridge.mapping.lifecycle import LifecyclePolicy, Mappings
from keycloak_bridge.mapping.mapping import compile_mapping
from keycloak_bridge.pipeline.interpret import Prepared, Skipped
from keycloak_bridge.settings.model import (
    EnvelopeSettings,
    EventsSettings,
    InviteSettings,
    LifecycleSettings,
    MappingSettings,
    SchemasSettings,
    Settings,
)

has_property = partial(load_schemas().has_property, "user.created")


def test_the_shipped_mapping_gives_no_other_group() -> None:
    """A group may carry an administrator's roles: only those of the shipped realm can be joined."""
    mapping = load_mapping(None, has_property=has_property)
    groups = mapping.rules.membership(GROUPS)

    assert groups is not None
    assert frozenset({"/staff", "/staff/engineering", "/customers"}) == groups.allow
    assert Mappings(mapping).accepts_every_group is False


def test_what_the_shipped_mapping_comments_out_works() -> None:
    """The mapping works with all comment signs removed."""
    lines = default_mapping_text().splitlines()
    commented = re.compile(r"# (\[[\w.-]+\]$|[\w-]+ = )")
    opened = [line.removeprefix("# ") if commented.match(line) else line for line in lines]
    document = tomllib.loads("\n".join(opened))

    mapping = compile_mapping(
        document,
        origin="opened.toml",
        has_property=has_property,
        invitation=InvitationTerms((), 60),
    )
    assert mapping.invitation == InvitationTerms(
        ("UPDATE_PASSWORD", "VERIFY_EMAIL"), 259200, "demo-app", "https://app.example/"
    )
    assert mapping.rules.when is not None
    assert mapping.rules.protected_groups == {"/admins"}
    kinds = {rule.kind for rule in mapping.rules.memberships}
    assert kinds == {GROUPS, REALM_ROLES, ORGANIZATIONS, client_roles("demo-app")}
    assert [rule.alias for rule in mapping.rules.identities] == ["corporate"]
    assert sum(one != line for one, line in zip(opened, lines, strict=True)) == 17


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"zzz = 1", "zzz: unknown key"),
        (b"matching = [", "not valid TOML"),
        (b"x = 1\ny = = 1", "not valid TOML: .*line 2"),
        (b"\xff", "is not UTF-8"),
        (b"#" * 1_000_001, "too large"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The error says which file, and where in it."""
    path = tmp_path / "mapping.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {reason}") as caught:
        load_mapping(path, has_property=has_property)
    assert caught.value.remedy or reason == "too large"


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
    """Return the mappings of settings that name a file with each content; `_` replaces the dot in a type."""
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
    """A mapping for one schema alone makes dead letters of all later events: a warning says so before any comes."""
    (folder / "m.toml").write_text(BLIND)
    (folder / "identity.toml").write_text(HEAD + IDENTITY)
    (folder / "whole.toml").write_text(WHOLE)
    own = {"user.deleted": folder / "identity.toml", "user.updated": folder / "whole.toml"}
    interpretation = Interpretation(
        Settings(
            schemas=SchemasSettings(folders=(folder,)),
            mapping=MappingSettings(file=folder / "m.toml", files=own),
        )
    )
    (warning,) = interpretation.warnings

    assert "no data.mail in user.disabled, user.enabled, user.invitation.requested;" in str(warning)
    assert "[mapping.files]" in (warning.remedy or "")
    for kind in ("user.disabled", "user.enabled", "user.invitation.requested"):
        with pytest.raises(MappingError) as caught:
            interpretation.read(record(type=kind))
        assert "unmapped-type" == caught.value.code
        assert ["/type"] == [one.pointer for one in caught.value.violations]
    assert isinstance(interpretation.read(record(type="user.deleted")), Prepared)


def test_a_version_with_a_mapping_of_its_own_is_mapped(folder: Path) -> None:
    """Though no other version of its type is."""
    own = ("user.disabled", "user.enabled", "user.deleted", "user.invitation.requested")
    (folder / "m.toml").write_text(BLIND)
    (folder / "whole.toml").write_text(WHOLE)
    interpretation = Interpretation(
        Settings(
            events=EventsSettings(ignore_types=own),
            schemas=SchemasSettings(folders=(folder,)),
            mapping=MappingSettings(
                file=folder / "m.toml", files={"user.updated/3": folder / "whole.toml"}
            ),
        )
    )
    named = {"dataschema": "urn:acme:user.updated:3.0"}
    older = {"dataschema": "urn:keycloak-bridge:schema:user.updated:1.0"}

    assert ["unmapped-type"] == [one.code for one in interpretation.warnings]
    assert isinstance(interpretation.read(record(type="user.updated", **named)), Prepared)
    with pytest.raises(MappingError, match="no mapping serves"):
        interpretation.read(record(type="user.updated", **older))


def test_types_that_are_ignored_need_no_mapping(folder: Path) -> None:
    """Nor do those that the id can be read of in another way."""
    rest = ("user.updated", "user.disabled", "user.enabled", "user.deleted")
    (folder / "m.toml").write_text(BLIND)
    settings = Settings(
        events=EventsSettings(ignore_types=(*rest, "user.invitation.requested")),
        schemas=SchemasSettings(folders=(folder,)),
        mapping=MappingSettings(file=folder / "m.toml"),
    )

    assert () == Interpretation(settings).warnings
    mappings(folder, BLIND.replace('userId = "data.mail"', 'userId = "data.mail || data.userId"'))
    mappings(folder, BLIND.replace('userId = "data.mail"', 'userId = "subject"'))


def test_the_policy_is_that_of_the_settings() -> None:
    """Setting by setting."""
    lifecycle = LifecycleSettings(
        unknown_user="wait", deleted="anonymise", end_sessions=False, email_change="verify"
    )
    policy = LifecyclePolicy(UnknownUser.WAIT, Intent.ANONYMISE, False, EmailChange.VERIFY)

    assert policy == Interpretation(Settings(lifecycle=lifecycle)).mapping.policy
    assert LifecyclePolicy() == Interpretation(Settings()).mapping.policy


# settings, schemas, envelope and mapping together


def record(**changes: Any) -> Record:
    """Return an event as it stands in a file."""
    return Record("x.json", 0, 1, 0, None, json.dumps(event_of(**changes)).encode())


def desired_of(read: Prepared | Skipped) -> DesiredUser | OutOfScope:
    """Return what the mapping made of an event that was not ignored."""
    assert isinstance(read, Prepared)
    return read.desired


def test_an_event_is_read_step_by_step() -> None:
    """Decoded, validated and mapped are traced, without a value of the data."""
    steps: list[tuple[str, object]] = []

    read = Interpretation(Settings()).read(record(), lambda *step: steps.append(step))

    desired = desired_of(read)
    assert isinstance(read, Prepared)
    assert isinstance(desired, DesiredUser)
    assert ("event-1", "u-1", "planted.mail@acme.example") == (
        read.event.id,
        desired.matching[0].value,
        desired.representation["email"],
    )
    assert ["decoded", "validated", "mapped"] == [step for step, _ in steps]
    assert "planted" not in str(steps).lower()


def test_settings_of_events_are_kept() -> None:
    """Limits, ignored keys and subjects, and the envelope reach the rules and the mapping."""
    settings = Settings(
        events=EventsSettings(max_bytes=2048, max_depth=7, match_key=False, match_subject=False),
        envelope=records.own_envelope(types={"UserCreated": "user.created"}),
    )

    known = Interpretation(settings)
    rules = known.rules

    assert (2048, 7, False, False, {"UserCreated": "user.created"}) == (
        rules.limits.max_bytes,
        rules.limits.max_depth,
        rules.match_key,
        known.mapping.default.match_subject,
        rules.types,
    )
    assert rules.custom is not None


@pytest.mark.parametrize("part", ["mapping", "schemas", "envelope"])
def test_a_broken_part_is_found_before_anything_is_consumed(part: str, tmp_path: Path) -> None:
    """Every file and expression is read by the check."""
    (tmp_path / "user.created").mkdir()
    (tmp_path / "user.created" / "9.0.json").write_text("{")
    (tmp_path / "mapping.toml").write_text("[user]\nnickname = 'data.x'\n")
    broken = {
        "mapping": Settings(mapping=MappingSettings(file=tmp_path / "mapping.toml")),
        "schemas": Settings(schemas=SchemasSettings(folders=(tmp_path,))),
        "envelope": Settings(envelope=EnvelopeSettings(id="[[")),
    }

    with pytest.raises(ConfigError):
        Interpretation(broken[part]).check()


def test_terms_of_the_mail_come_from_the_settings() -> None:
    """Actions, lifespan, client and page."""
    invite = InviteSettings(
        actions=("UPDATE_PASSWORD", "CONFIGURE_TOTP"),
        lifespan=90.0,
        client_id="demo-app",
        redirect_uri="https://app.example/",
    )

    assert InvitationTerms(
        ("UPDATE_PASSWORD", "CONFIGURE_TOTP"), 90, "demo-app", "https://app.example/"
    ) == invitation_terms(Settings(invite=invite))


def test_mode_none_has_no_terms() -> None:
    """Neither from the settings nor in what the mapping makes."""
    settings = Settings(invite=InviteSettings(mode="none"))

    desired = desired_of(Interpretation(settings).read(record()))

    assert invitation_terms(settings) is None
    assert isinstance(desired, DesiredUser)
    assert desired.invitation is None


NULLS = {
    "userId": "u-24",
    "email": "n@acme.example",
    "givenName": "Nia",
    "familyName": "Null",
    **dict.fromkeys(
        ("department", "locale", "phoneNumber", "tenantId", "username", "roles", "groups")
    ),
    **dict.fromkeys(("attributes", "active")),
}


def test_nulls_for_what_is_not_there() -> None:
    """Each violation says that absent is meant, the remedy names the setting, and with it the event is read."""
    with pytest.raises(EventValidationError) as caught:
        Interpretation(Settings()).read(record(data=NULLS, subject="u-24"))

    absent = Settings(events=EventsSettings(nulls="absent"))
    desired = desired_of(Interpretation(absent).read(record(data=NULLS, subject="u-24")))

    assert 9 == len(caught.value.violations)
    assert all(
        one.message.endswith(", not null; leave the property out")
        for one in caught.value.violations
    )
    assert 'events.nulls = "absent"' in (caught.value.remedy or "")
    assert isinstance(desired, DesiredUser)
    assert {"userId": ["u-24"]} == desired.representation["attributes"]


@pytest.mark.parametrize("nulls", [{"email": None}, {"roles": [None]}])
def test_a_null_in_the_place_of_what_is_needed(nulls: dict[str, Any]) -> None:
    """No setting mends it, and none is named."""
    with pytest.raises(EventValidationError) as caught:
        Interpretation(Settings()).read(record(data={**NULLS, "department": "x", **nulls}))

    needed = {"/data/email", "/data/roles/0"}
    messages = [one.message for one in caught.value.violations if one.pointer in needed]
    assert ["must be a string, not null"] == messages


def test_the_remedy_of_a_null_that_is_needed() -> None:
    """It is the ordinary one."""
    data = {"userId": "u-24", "givenName": "Nia", "familyName": "Null", "email": None}
    with pytest.raises(EventValidationError) as caught:
        Interpretation(Settings()).read(record(data=data, subject="u-24"))

    assert "events.nulls" not in (caught.value.remedy or "")


def test_data_that_are_json_inside_a_text() -> None:
    """The violation says so, and the remedy names the function that reads it."""
    text = json.dumps({"userId": "u-7", "email": "o@acme.example"})
    with pytest.raises(EventValidationError, match="not JSON inside a text") as caught:
        Interpretation(Settings()).read(records.record(records.envelope(data=text)))

    assert "from_json()" in (caught.value.remedy or "")
    assert "u-7" not in caught.value.message


def test_an_outbox_whose_payload_is_a_text() -> None:
    """An envelope of one's own reads it, whatever unit its time has."""
    envelope = records.own_envelope(
        subject="body.aggregateid",
        time="timestamp(body.timestamp, 'ms')",
        source="'outbox'",
        data="from_json(body.payload)",
        types={"UserRegistered": "user.created"},
    )
    payload = {"userId": "u-7", "email": "o@acme.example", "givenName": "O", "familyName": "B"}
    body = {
        "id": "0b8e",
        "aggregateid": "u-7",
        "type": "UserRegistered",
        "timestamp": 1795861800000,
        "payload": json.dumps(payload),
    }
    value = json.dumps(body).encode()
    found = Interpretation(Settings(envelope=envelope)).read(Record("t", 0, 0, 0, None, value))

    assert isinstance(found, Prepared)
    assert payload == found.event.data
    assert "2026-11-28T10:30:00+00:00" == str(found.event.time).replace(" ", "T")
