"""Inputs made after public bug reports (`tests/cases`), each with what is right."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_harness import call
from click.testing import Result
from stage_harness import EVENTS, Flow, record_of

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.mapping_files import default_mapping_text
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.users import DesiredUser
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.decode import EnvelopeRules, decode
from keycloak_bridge.pipeline.interpret import Prepared
from keycloak_bridge.settings.loading import read_settings
from keycloak_bridge.testing.in_memory_keycloak import InMemoryKeycloak

CASES = Path(__file__).parents[2] / "cases"
AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def lines(name: str) -> list[dict[str, Any]]:
    """Return what is in a file of one JSON a line."""
    return [json.loads(line) for line in (CASES / name).read_text("utf-8").splitlines()]


def records(name: str) -> Iterator[Record]:
    """Yield the records of a file; the value is text, base64, JSON, or none."""
    for offset, line in enumerate(lines(name)):
        value = None
        if "value" in line:
            value = json.dumps(line["value"], ensure_ascii=False).encode()
        elif "text" in line:
            value = line["text"].encode()
        elif "b64" in line:
            value = base64.b64decode(line["b64"])
        headers = tuple((key, text.encode()) for key, text in line.get("headers", {}).items())
        key = line["key"].encode() if line.get("key") else None
        yield Record(EVENTS, 0, offset, int(AT.timestamp() * 1000), key, value, headers)


def known(settings: str, folder: Path) -> Interpretation:
    """Return what reads events by these settings, which stand in `folder`."""
    file = folder / "bridge.toml"
    file.write_text(settings, encoding="utf-8")
    loaded = read_settings(file, environ={}, overrides=())
    loaded.raise_if_wrong()
    interpretation = Interpretation(loaded.settings)
    interpretation.check()
    return interpretation


def take(flow: Flow, name: str) -> list[str]:
    """Take the records of a file through the provision stage, and return the outcome of each."""
    for record in records(name):
        flow.settle(flow.provision.handle(record))
    return [result["outcome"] for result in flow.results]


def usernames(flow: Flow) -> list[str]:
    """Return the usernames of the realm."""
    return [user["username"] for user in flow.keycloak.users()]


def check(folder: str) -> Result:
    """Run `schemas check` on a folder of schemas."""
    return call("schemas", "check", str(CASES / folder))


# times, keys and frames


def test_hyphens_in_headers() -> None:
    """`ce-` is read like `ce_`."""
    flow = Flow()

    assert ["provisioned"] * 2 == take(flow, "01-ce-hyphen.ndjson")
    assert ["u-1@acme.example", "u-2@acme.example"] == usernames(flow)


def test_a_tombstone_whose_key_is_json(tmp_path: Path) -> None:
    """Both keys name their users, who are deleted by the policy: disabled."""
    settings = '[events]\nmatch_key = false\ntombstones = "delete"\n'
    flow = Flow(known=known(settings, tmp_path), tombstones="delete")
    for name in ("u-1", "u-2"):
        flow.keycloak.add_user(
            {
                "username": name,
                "enabled": True,
                "attributes": {"userId": [name], "bridgeEventId": ["event-1"]},
            }
        )

    assert ["provisioned"] * 2 == take(flow, "02-json-key-tombstone.ndjson")
    assert [False, False] == [user["enabled"] for user in flow.keycloak.users()]


RFC_3339 = ("nanos", "lower", "unknown-offset", "7digits")
FORMS = {
    **dict.fromkeys(("array", "array-ns"), "timestamp(body.time, 'list', 'UTC')"),
    **dict.fromkeys(("no-zone", "no-zone-us"), "timestamp(body.time, 'iso', 'UTC')"),
    **dict.fromkeys(("epoch-s", "float"), "timestamp(body.time, 's')"),
    **dict.fromkeys(("epoch-ms", "epoch-text"), "timestamp(body.time, 'ms')"),
    "rfc1123": "timestamp(body.time, 'rfc1123')",
    "dotnet": "timestamp(replace(replace(body.time, '/Date(', ''), ')/', ''), 'ms')",
}
HALF_PAST_TEN = datetime(2026, 11, 28, 10, 30, tzinfo=UTC)
READ = {
    "array-ns": HALF_PAST_TEN.replace(second=4, microsecond=783706),
    **dict.fromkeys(("no-zone-us", "nanos", "7digits"), HALF_PAST_TEN.replace(microsecond=123456)),
    **dict.fromkeys(
        ("epoch-ms", "epoch-text", "float", "comma", "dotnet"),
        HALF_PAST_TEN.replace(microsecond=123000),
    ),
    **dict.fromkeys(("offset-nocolon", "zone-name", "hour-offset"), HALF_PAST_TEN.replace(hour=9)),
}
TIMES = {event["id"]: event for event in lines("05-times.ndjson")}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_in_an_envelope_of_ones_own(name: str) -> None:
    """Each, to the microsecond."""
    names = ("id", "type", "subject", "data")
    time = FORMS.get(name, "timestamp(body.time, 'iso')")
    custom = compile_envelope({**{one: f"body.{one}" for one in names}, "time": time})
    event = {key: value for key, value in TIMES[name].items() if key != "specversion"}

    read = decode(record_of(event), EnvelopeRules(custom=custom))

    assert READ.get(name, HALF_PAST_TEN) == read.time


def test_times_of_cloudevents_are_those_of_rfc_3339() -> None:
    """All others are refused, with what would read them."""
    validated = call("validate", "--format=json", str(CASES / "05-times.ndjson"))
    rows = dict(zip(TIMES, map(json.loads, validated.stdout.splitlines()), strict=True))

    assert set(RFC_3339) == {name for name, row in rows.items() if row["valid"]}
    for row in (row for row in rows.values() if not row["valid"]):
        assert ["/time"] == [one["pointer"] for one in row["violations"]]
        assert "timestamp() in [envelope] reads other forms" in row["message"]


@pytest.mark.parametrize("name", ["07a-text-data.json", "07b-text-value.json"])
def test_json_inside_a_text_is_named(name: str) -> None:
    """With what to do about it."""
    refused = call("validate", str(CASES / name))

    assert 1 == refused.exit_code
    assert "JSON inside a text" in refused.output
    assert "from_json(" in refused.output


def test_json_inside_a_text_is_read() -> None:
    """By the settings that were handed along, and by what the message of the other two says."""
    whole = [f"--set=envelope.{one}=from_json(body).{one}" for one in ("id", "type", "data")]
    data = [f"--set=envelope.{one}=body.{one}" for one in ("id", "type", "subject")]
    calls = (
        ("--config", str(CASES / "07c.toml"), "07c.json"),
        (*whole, "07b-text-value.json"),
        (*data, "--set=envelope.data=from_json(body.data)", "07a-text-data.json"),
    )

    for *options, name in calls:
        shown = call("validate", "--show-mapped", *options, str(CASES / name))
        assert (0, True) == (shown.exit_code, '"username": "o@acme.example"' in shown.output), name


def test_frames() -> None:
    """JSON in a frame of Confluent, Apicurio or Glue is read; everything else is named as what it is."""
    flow = Flow()

    assert [*["provisioned"] * 3, *["rejected"] * 3] == take(flow, "22-frames.ndjson")
    assert [
        ("unsupported-format", "the value is Avro in a Confluent frame, schema 7"),
        ("batch-not-supported", "the record holds a batch: an array of 1 object"),
        ("not-a-cloudevent", "and the value is JSON inside a text"),
    ] == [
        (reason["code"], said)
        for (_, reason), said in zip(
            flow.letters,
            (
                "the value is Avro in a Confluent frame, schema 7",
                "the record holds a batch: an array of 1 object",
                "and the value is JSON inside a text",
            ),
            strict=True,
        )
        if said in reason["message"]
    ]


def test_nulls() -> None:
    """A violation says that absent is meant; with the setting, the event is read as if they were absent."""
    refused = call("validate", str(CASES / "24-nulls.json"))
    shown = call(
        "validate", "--show-mapped", "--set=events.nulls=absent", str(CASES / "24-nulls.json")
    )

    assert 9 == refused.output.count("not null; leave the property out (type)")
    assert 'events.nulls = "absent"' in refused.output
    assert 0 == shown.exit_code
    assert '"username": "n@acme.example"' in shown.output


def test_the_primary_address_of_clerk(tmp_path: Path) -> None:
    """Milliseconds become the time, and the address is the one whose id the event names, also where another is verified."""
    settings = (CASES / "04.toml").read_text("utf-8")
    mapping = (CASES / "04-mapping.toml").read_text("utf-8")
    handed = call("validate", "--config", str(CASES / "04.toml"), str(CASES / "04-clerk.json"))
    primary = "find(data.email_addresses, 'id', data.primary_email_address_id).email_address"
    chosen = "\n".join(
        f'{line.partition(" = ")[0]} = "{primary}"'
        if line.startswith(("username", "email"))
        else line
        for line in mapping.splitlines()
    )
    (tmp_path / "04-mapping.toml").write_text(chosen)
    (tmp_path / "04-schemas").symlink_to(CASES / "04-schemas")
    reading = known(f"{settings}time = \"timestamp(body.timestamp, 'ms')\"\n", tmp_path)
    event = json.loads((CASES / "04-clerk.json").read_text("utf-8"))
    for address in event["data"]["email_addresses"]:
        address["verification"] = {"status": "verified"}

    read = reading.read(record_of(event))

    assert 0 == handed.exit_code
    assert isinstance(read, Prepared)
    assert isinstance(read.desired, DesiredUser)
    assert datetime(2025, 11, 28, 10, 40, 0, 123000, tzinfo=UTC) == read.event.time
    assert "mira@acme.example" == read.desired.representation["email"]


# schemas as people write them


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("08d-no-id", "/$id: is missing"),
        ("08e-nothing", "/$id: is missing"),
        ("08f-array", "must be a JSON object"),
        ("08i-true", "must be a JSON object"),
    ],
)
def test_a_schema_that_is_none_is_refused(folder: str, said: str) -> None:
    """In the words of check-config, with its exit code."""
    refused = check(folder)
    at_start = call("check-config", f"--set=schemas.folders={CASES / folder}")

    assert [2, 2] == [refused.exit_code, at_start.exit_code]
    assert f"{folder}/user.created/1.100.json: {said}" in refused.output
    assert f"{folder}/user.created/1.100.json: {said}" in at_start.output


def test_letters_of_any_script() -> None:
    r"""`\p{L}` in a definition of an older draft works; what breaks it is refused."""
    folder = f"--set=schemas.folders={CASES / '08j-definitions-pattern'}"
    data = {"userId": "u-1", "email": "a@acme.example", "familyName": "X"}
    names = {"Zoë O'Brien-Łuczak": 0, "Zoë 2": 1}

    codes = {
        name: call(
            "validate",
            folder,
            "--type=user.created",
            "-",
            stdin=json.dumps({**data, "givenName": name}),
        ).exit_code
        for name in names
    }

    assert names == codes


def test_what_a_reference_reaches_is_checked_at_start() -> None:
    """The remote reference and the old form are refused with file and pointer, so that no event meets them."""
    refused = check("08k-components-format")
    started = call(
        "validate",
        f"--set=schemas.folders={CASES / '08k-components-format'}",
        "-",
        stdin=json.dumps(lines("08k-records.ndjson")[1]["value"]),
    )

    assert [2, 2] == [refused.exit_code, started.exit_code]
    for one in (refused.output, started.output):
        assert (
            "1.100.json: /components/schemas/Far/$ref: 'https://example.com/far.json' names no schema"
            in one
        )
        assert "1.100.json: /components/schemas/Tup/items: is written as in an older draft" in one


def test_the_rest_behind_a_reference_is_noted(tmp_path: Path) -> None:
    """Once those two are mended, the format that nobody checks and the keyword of OpenAPI have a note."""
    text = (CASES / "08k-components-format/user.created/1.100.json").read_text("utf-8")
    text = text.replace('"$ref":"https://example.com/far.json"', '"type":"string"')
    text = text.replace('"items":[{"type":"string"}]', '"prefixItems":[{"type":"string"}]')
    (tmp_path / "user.created").mkdir()
    (tmp_path / "user.created" / "1.100.json").write_text(text)

    checked = call("schemas", "check", str(tmp_path))
    strict = call(
        "check-config", f"--set=schemas.folders={tmp_path}", "--set=schemas.unknown_formats=error"
    )

    assert (
        "/components/schemas/Phone/format: 'phone' is not a format that is checked"
        in checked.output
    )
    assert "/components/schemas/Nul/nullable: is no keyword of Draft 2020-12" in checked.output
    assert 2 == strict.exit_code
    assert "/components/schemas/Phone/format" in strict.output


def test_one_finding_is_printed_once() -> None:
    """A schema of draft 4 is refused with a line for each place."""
    refused = check("08m-draft04")
    found = [line for line in refused.output.splitlines() if ".json: /" in line]

    assert 2 == refused.exit_code
    assert sorted(set(found)) == sorted(found)
    assert 3 == len(found)


def test_misspelt_keywords_and_those_of_other_drafts_are_noted() -> None:
    """Each with the nearest right one."""
    noted = check("08n-typo").output

    for pointer, said in {
        "/requried": "did you mean 'required'?",
        "/properties/userId/maxlength": "did you mean 'maxLength'?",
        "/properties/email/typ": "did you mean 'type'?",
        "/properties/userId/nullable": 'add "null" to the list of type',
        "/dependencies": "use dependentRequired",
        "/additionalItems": "use prefixItems",
    }.items():
        (line,) = [one for one in noted.splitlines() if f".json: {pointer}: " in one]
        assert said in line


# the realm decides


def test_usernames_of_a_realm_without_validators() -> None:
    """All are created."""
    flow = Flow()

    with flow.keycloak.usernames_unchecked():
        outcomes = take(flow, "10-relaxed-usernames.ndjson")

    assert ["provisioned"] * 5 == outcomes
    assert ["jd", "dom\\jdoe", "maria lopez", "josé#1", "plain"] == usernames(flow)


def test_usernames_of_a_realm_that_takes_the_address() -> None:
    """All are created, with the address as their username, as `POST /users` does."""
    flow = Flow()

    with flow.keycloak.addresses_are_usernames():
        outcomes = take(flow, "11-email-as-username.ndjson")

    assert ["provisioned"] * 6 == outcomes
    assert [
        line["value"]["data"]["email"] for line in lines("11-email-as-username.ndjson")
    ] == usernames(flow)


def test_an_event_without_a_username(tmp_path: Path) -> None:
    """A realm that takes the address creates the user; any other refuses it in Keycloak's words, and no preview is sure."""
    (tmp_path / "m.toml").write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.username"\nemail = "data.email"\n'
        '[user.attributes]\nuserId = "data.userId"\n'
    )
    reading = known('[mapping]\nfile = "m.toml"\n', tmp_path)
    taking, other = Flow(known=reading), Flow(known=reading)

    with taking.keycloak.addresses_are_usernames():
        take(taking, "11-email-as-username.ndjson")
    take(other, "11-email-as-username.ndjson")
    event = tmp_path / "event.json"
    event.write_text(json.dumps(lines("11-email-as-username.ndjson")[0]["value"]))
    previewed = call("validate", f"--set=mapping.file={tmp_path / 'm.toml'}", str(event))

    assert 6 == len(usernames(taking))
    assert ["other"] == usernames(other)
    assert {("keycloak", "keycloak-rejected")} == set(other.reasons)
    assert "/user/username" in other.letters[0][1]["errors"]
    assert 0 == previewed.exit_code
    assert (
        "warning: /user/username: is missing; only a realm with 'Email as username'"
        in previewed.output
    )


def shipped(folder: Path, old: str, new: str) -> Interpretation:
    """Return the shipped mapping with `new` in the place of `old`."""
    text = default_mapping_text()
    assert 1 == text.count(old)
    (folder / "m.toml").write_text(text.replace(old, new), encoding="utf-8")
    return known('[mapping]\nfile = "m.toml"\n', folder)


def test_people_who_share_an_address(tmp_path: Path) -> None:
    """In a realm that allows it, each gets an account, though a verified address may be linked."""
    reading = shipped(tmp_path, 'link = "never"', 'link = "verified-email"')
    flow = Flow(known=reading)

    with flow.keycloak.addresses_shared():
        outcomes = take(flow, "14-duplicate-emails.ndjson")

    assert ["provisioned"] * 3 == outcomes
    assert ["anna", "bert", "cleo"] == usernames(flow)


def test_groups_with_escaped_slashes(tmp_path: Path) -> None:
    """Of a path with one nothing is created; what can be created is."""
    allow = 'allow = ["/staff", "/staff/engineering", "/customers"]'
    reading = shipped(tmp_path, allow, 'missing = "create"')
    flow = Flow(known=reading, keycloak=InMemoryKeycloak())

    outcomes = take(flow, "12e-escaped-groups.ndjson")
    there = [
        one
        for one in ("/R&D", "/R&D~", "/New~", "/New~/One")
        if not flow.keycloak.missing("groups", [one])
    ]

    assert ["rejected", "provisioned", "rejected"] == outcomes
    assert [("keycloak", "group-missing")] * 2 == flow.reasons
    assert ["/R&D"] == there


def test_required_actions(tmp_path: Path) -> None:
    """Those that the realm lacks are named by the remedy, which is not about the user profile."""
    head = "[user]\n"
    reading = shipped(tmp_path, head, f'{head}requiredActions = "data.requiredActions"\n')
    flow = Flow(known=reading)

    outcomes = take(flow, "21-required-actions.ndjson")
    remedies = [reason["action"] for _, reason in flow.letters]

    assert ["provisioned", "rejected", "provisioned", "provisioned", "rejected"] == outcomes
    assert [("keycloak", "dropped-by-keycloak")] * 2 == flow.reasons
    assert ["/user/requiredActions/0"] * 2 == [
        one["pointer"] for _, reason in flow.letters for one in json.loads(reason["errors"])
    ]
    assert ["ACCEPT_MY_TERMS", "webauthn_register"] == [
        name
        for name, remedy in zip(("ACCEPT_MY_TERMS", "webauthn_register"), remedies, strict=True)
        if name in remedy
    ]
    assert not any("user profile" in remedy for remedy in remedies)


def test_an_attribute_that_the_realm_lacks(tmp_path: Path) -> None:
    """The remedy is about it, and about nothing else."""
    head = "[user.attributes]\n"
    reading = shipped(tmp_path, head, f"{head}shoeSize = \"'42'\"\n")
    flow = Flow(known=reading)

    assert ["rejected"] * 5 == take(flow, "21-required-actions.ndjson")
    for _, reason in flow.letters:
        assert "dropped-by-keycloak" == reason["code"]
        assert "add the attribute shoeSize to the realm's user profile" in reason["action"]
        assert "required action" not in reason["action"]
