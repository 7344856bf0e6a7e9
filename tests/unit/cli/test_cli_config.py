"""`check-config`, `init` and `doctor`: right before anything runs."""

import json
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cli_harness import SECRET, call, smallest_mapping
from click.testing import Result

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.diagnostics.doctor import content_probes, registry_probe
from keycloak_bridge.diagnostics.probes import ProbeResult, examine, gray, green, red, yellow
from keycloak_bridge.domain.errors import ConfigError, KeycloakUnavailableError
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.settings.fields import environment_name
from keycloak_bridge.settings.loading import LoadedSettings
from keycloak_bridge.settings.schema import settings_by_name


def test_init_writes_files_that_load() -> None:
    """Both files, the way on, and nothing wrong with them."""
    result = call("init", "bridge")

    assert (0, True) == (
        result.exit_code,
        "check-config --config bridge/bridge.toml" in result.stdout,
    )
    assert "acme" == tomllib.loads(Path("bridge/bridge.toml").read_text())["keycloak"]["realm"]
    assert 0 == call("check-config", "-c", "bridge/bridge.toml").exit_code
    assert 0o600 == stat.S_IMODE(Path("bridge/bridge.toml").stat().st_mode)


def test_init_writes_through_no_link() -> None:
    """Whoever can write to the folder could lead it to another file, or read what will be written there."""
    Path("bridge.toml").symlink_to("elsewhere.toml")
    present, forced = call("init"), call("init", "--force")

    assert (2, 2) == (present.exit_code, forced.exit_code)
    assert "bridge.toml: exists already" in present.stderr
    assert "bridge.toml: is a symbolic link, and is not written to" in forced.stderr
    assert not Path("elsewhere.toml").exists()


def test_init_never_overwrites() -> None:
    """What exists stays, each file is named; --force overwrites, but puts no folder in the place of a file."""
    Path("bridge.toml").write_text("# mine")
    refused = call("init")

    assert (2, "# mine", False) == (
        refused.exit_code,
        Path("bridge.toml").read_text(),
        Path("mapping.toml").exists(),
    )
    assert "error: bridge.toml: exists already\n" in refused.stderr
    assert "--force" in refused.stderr
    assert 0 == call("init", "--force").exit_code
    assert "# mine" != Path("bridge.toml").read_text()
    assert 2 == call("init", "bridge.toml/y").exit_code


def test_check_config_shows_what_is_in_force() -> None:
    """Values with their origin, secrets masked, and what was found."""
    Path("secret").write_text(SECRET)
    Path("bridge.toml").write_text(
        '[keycloak]\nrealm = "acme"\nclient_secret_file = "secret"\n'
        '[kafka]\nsession_timeout = "1 minute"\n[envelope]\ntypes = { A = "user.created" }\n'
    )
    result = call(
        "check-config",
        "--set",
        "topics.create=yes",
        KEYCLOAK_BRIDGE_KAFKA_SASL_PASSWORD=SECRET,
        KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS="a:1,b:2",
    )
    rows = [line.split("  ") for line in result.stdout.splitlines()]
    values = {
        row[0]: [cell.strip() for cell in row if cell.strip()][1:] for row in rows if len(row) > 1
    }

    assert 0 == result.exit_code
    assert SECRET not in result.output
    assert ["1 minute", "bridge.toml: kafka.session_timeout"] == values["kafka.session_timeout"]
    assert ["a:1, b:2", "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS"] == values[
        "kafka.bootstrap_servers"
    ]
    assert ["true", "--set topics.create"] == values["topics.create"]
    assert ["A=user.created", "bridge.toml: envelope.types"] == values["envelope.types"]
    assert ["********", "KEYCLOAK_BRIDGE_KAFKA_SASL_PASSWORD"] == values["kafka.sasl_password"]
    assert values["keycloak.client_secret"][0].startswith("******** (in ")
    assert "envelope: CloudEvents\n" in result.stdout
    assert "attributes department, locale, phoneNumber, tenantId, userId\n" in result.stdout
    assert result.stdout.endswith("all is well\n")


def test_a_mapping_may_begin_with_a_mark_of_the_byte_order() -> None:
    """Editors of Windows write one."""
    Path("m.toml").write_text(smallest_mapping(), encoding="utf-8-sig")

    assert 0 == call("check-config", "--set", "mapping.file=m.toml").exit_code


def test_check_config_shows_values_as_people_write_them() -> None:
    """No dataclass and no number of seconds; what is wrong is not in force, so it is not shown."""
    Path("bridge.toml").write_text(
        '[limits]\ndisables = "5/1 h"\n[invite]\nmax_age = "30 days"\npace = "200/hour"\n'
        '[kafka]\ngroup_id = "x"\n[keycloak]\nca_file = "nope"\nclient_secret_file = "nope"\n'
        '[envelope]\nid = "a.("\nkey = "key.id"\n'
    )
    result = call("check-config")
    values = {
        line.split()[0]: line for line in result.stdout.splitlines() if "bridge.toml:" in line
    }

    assert ["invite.max_age", "invite.pace", "kafka.group_id", "limits.disables"] == list(values)
    for name, value in (("limits.disables", "5/1 h"), ("invite.max_age", "30 days"), ("invite.pace", "200/hour")):  # fmt: skip
        assert f"  {value}  " in values[name]


def test_check_config_tells_everything_at_once() -> None:
    """Settings, envelope and mapping in one go, exit code 2."""
    Path("m.toml").write_text('matching = ["attributes.userId"]\nnonsense = 1\n')
    Path("bridge.toml").write_text(
        '[kafka]\ngroup = "x"\n[mapping]\nfile = "m.toml"\n[envelope]\nid = "a.("\n'
    )
    result = call("check-config")
    lines = result.stderr.splitlines()

    assert (2, 2) == (result.exit_code, sum(line.startswith("fix:   ") for line in lines))
    assert "error: bridge.toml: kafka.group: unknown key; did you mean 'group_id'?" == lines[0]
    assert any("bridge.toml: envelope.id: is no JMESPath expression" in line for line in lines)
    assert 1 == result.stderr.count("envelope.id")
    assert any("m.toml" in line and "nonsense" in line for line in lines)
    assert "error" not in result.stdout


def test_check_config_warns_of_types_that_no_mapping_serves() -> None:
    """A schema for new users alone is enough to begin with; exit code 0."""
    Path("own/user.created").mkdir(parents=True)
    Path("own/user.created/2.0.json").write_text(
        json.dumps({"$id": "urn:x:1", "type": "object", "properties": {"id": {"type": "string"}}})
    )
    Path("m.toml").write_text(
        'matching = ["attributes.userId"]\n[user]\nusername = "data.id"\n'
        '[user.attributes]\nuserId = "data.id"\n'
    )
    result = call("check-config", "--set", "schemas.folders=own", "--set", "mapping.file=m.toml")

    assert 0 == result.exit_code
    warned = " ".join(result.stdout.split())
    assert "m.toml: user.attributes.userId: nothing says whose user it is" in warned
    assert "no data.id in user.updated" in warned
    assert "fix:   name mappings for these types in [mapping.files]" in result.stdout


def test_check_config_and_doctor_refuse_what_run_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem is found before the bridge is started, and all of them at once."""
    Path("m.toml").write_text(smallest_mapping() + '[invite]\nlifespan = "1 day"\n')
    for name in ("junk.pem", "empty"):
        Path(name).write_text("")
    arguments = [
        f"--set={one}"
        for one in (
            *("mapping.file=m.toml", "invite.remind_before=2 days"),
            *("registry.url=http://r", "registry.ca_file=junk.pem", "keycloak.ca_file=junk.pem"),
            *("kafka.ssl_cafile=junk.pem", "keycloak.client_secret_file=empty"),
        )
    ]
    monkeypatch.setattr("keycloak_bridge.cli.config.check_up", content_of_the_doctor)

    checked, validated = call("check-config", *arguments), call("validate", *arguments, "x.json")
    doctor = call("doctor", *arguments)

    assert (2, 2, 1) == (checked.exit_code, validated.exit_code, doctor.exit_code)
    assert "all is well" not in checked.stdout
    for reason in (
        "an invitation does not live longer than invite.remind_before",
        "[registry] ca_file cannot be read as certificates",
        "[keycloak] ca_file cannot be read as certificates",
        "[kafka] ssl_cafile cannot be read as certificates",
        "empty is empty",
    ):
        assert 1 == checked.stderr.count(reason)
    found = " ".join(doctor.stdout.split())
    assert "an invitation does not live longer than invite.remind_before" in found
    assert "[registry] ca_file cannot be read as certificates" in found


def content_of_the_doctor(loaded: LoadedSettings, **_: object) -> Iterator[ProbeResult]:
    """Yield what the doctor finds without a network."""
    known = Interpretation(loaded.settings)
    yield from examine([*content_probes(loaded, known), *registry_probe(known)])


def test_check_config_with_broken_schemas() -> None:
    """Without schemas the mapping cannot be checked, and nothing is invented about it."""
    Path("own/x").mkdir(parents=True)
    Path("own/x/1.0.json").write_text("{")
    result = call("check-config", "--set", "schemas.folders=own")

    assert 2 == result.exit_code
    assert "own/x/1.0.json" in result.stderr
    assert "mapping:" not in result.output


EVERY_GROUP = "join any group of the realm; name those meant in user.groups.allow"
ADMINISTRATOR = "make its user an administrator of the realm"


@pytest.mark.parametrize(
    ("kind", "allow", "warning"),
    [
        ("groups", None, EVERY_GROUP),
        ("groups", "/staff", None),
        ("clientRoles.realm-management", "view-users", ADMINISTRATOR),
        ("clientRoles.acme-realm", "manage-users", ADMINISTRATOR),
        ("clientRoles.demo-app", "admin", None),
        ("realmRoles", "create-realm", ADMINISTRATOR),
        ("realmRoles", "viewer", None),
    ],
)
def test_check_config_warns_of_what_events_may_give(
    kind: str, allow: str | None, warning: str | None
) -> None:
    """A mapping that gives away any group, or makes administrators, is in order and dangerous; exit code 0."""
    Path("m.toml").write_text(
        smallest_mapping()
        + f'[user.{kind}]\nfrom = "data.roles"\n'
        + ("" if allow is None else f'allow = ["{allow}"]\n')
    )
    result = call("check-config", "--set", "mapping.file=m.toml")
    warnings = [one for one in result.stdout.splitlines() if one.startswith("warning: ")]

    expected = [] if warning is None else [f"warning: user.{kind}: an event may {warning}"]
    assert (0, expected) == (result.exit_code, warnings)


def test_check_config_of_the_defaults_warns_of_nothing() -> None:
    """What is shipped is careful."""
    assert "warning" not in call("check-config").output


def test_check_config_of_an_envelope() -> None:
    """The attributes that expressions find are named."""
    envelope = '[envelope]\nid = "body.a"\ntype = "body.b"\ndata = "body.c"\n'
    Path("bridge.toml").write_text(envelope)

    assert "envelope: id, type, data by expression\n" in call("check-config").stdout


@pytest.mark.parametrize(
    "name", sorted(name for name, one in settings_by_name().items() if one.kind.secret)
)
def test_no_secret_is_taken_from_the_command_line(name: str) -> None:
    """Every user of the machine can read it there; the remedy names the other ways, and nothing repeats the secret."""
    variable, key = environment_name(name), name.partition(".")[2]
    for words in (("check-config", "--set", f"{name}={SECRET}"), ("--set", f" {name} = {SECRET}", "run")):  # fmt: skip
        result = call(*words)

        assert 2 == result.exit_code
        assert f"--set {name}: is a secret" in result.stderr
        assert f"set {variable}, or {key}_file in the settings file" in result.stderr
        assert SECRET not in result.output
    Path("secret").write_text(SECRET)
    others = ("--set", "registry.url=http://registry", "--set", "registry.username=ada")
    beside = {"registry.password": others, "registry.token": others[:2]}.get(name, ())
    assert 0 == call("check-config", "--set", f"{name}_file=secret", *beside).exit_code


def test_asking_the_realm_needs_access() -> None:
    """Without realm and secret there is nothing to ask."""
    result = call("check-config", "--against-realm")

    assert 2 == result.exit_code
    assert "keycloak.realm: is needed" in result.stderr
    assert "keycloak.client_secret: is needed" in result.stderr
    assert "fix:   " in result.stderr


@pytest.mark.parametrize(
    ("found", "code", "printed"),
    [
        ((), 0, "realm: acme is ready\n"),
        (
            (Problem("x", "could be better", "do y", Severity.WARNING),),
            0,
            "warning: could be better\nfix:   do y\n",
        ),
        (
            (Problem("x", "a role is missing", "assign it"), Problem("y", "so is b", "add it")),
            2,
            "error: a role is missing\nfix:   assign it\nerror: so is b\nfix:   add it\n",
        ),
        (
            KeycloakUnavailableError("no answer", remedy="wait"),
            2,
            "error: no answer; asked at keycloak.url = http://nowhere:1\nfix:   wait\n",
        ),
        (
            ConfigError("keycloak.url is none", remedy="correct it"),
            2,
            "error: keycloak.url is none\nfix:   correct it\n",
        ),
    ],
)
def test_the_realm_is_asked(
    monkeypatch: pytest.MonkeyPatch, found: Sequence[Problem] | Exception, code: int, printed: str
) -> None:
    """A warning does not fail; a realm that is not ready, or that does not answer, does, and the address is named."""

    def check(*_: object) -> Sequence[Problem]:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("keycloak_bridge.cli.config.realm_problems", check)
    monkeypatch.setenv("KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET", SECRET)
    access = ("--set", "keycloak.url=http://nowhere:1", "--set", "keycloak.realm=acme")
    result = call("check-config", "--against-realm", *access)

    assert code == result.exit_code
    assert printed == result.stderr if code else printed in result.stdout


MIXED = [
    green("two topics"),
    yellow("clocks are 6 s apart", "use NTP"),
    gray("unknown"),
    red("no realm", "name it\nwell", "acme"),
]


def doctor(
    monkeypatch: pytest.MonkeyPatch, results: Sequence[ProbeResult], *words: str
) -> tuple[Result, str | None]:
    """Let the check-up find `results`; return what is printed, and the address of the test mail."""
    addresses: list[str | None] = []

    def check_up(_: object, *, test_mail: str | None = None) -> Iterator[ProbeResult]:
        addresses.append(test_mail)
        yield from (replace(one, probe=f"probe.{at}") for at, one in enumerate(results))

    monkeypatch.setattr("keycloak_bridge.cli.config.check_up", check_up)
    return call("doctor", *words), addresses[0]


def test_doctor_prints_a_row_for_each_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each result, its remedy below, a total at the end; red is exit code 1."""
    result, address = doctor(monkeypatch, MIXED, "--send-test-mail", "ada@acme.example")

    assert 1 == result.exit_code
    assert (
        "green  probe.0                two topics\n"
        "yellow probe.1                clocks are 6 s apart\n"
        "                              fix: use NTP\n"
        "gray   probe.2                unknown\n"
        "red    probe.3                no realm\n"
        "                              fix: name it\n"
        "                              well\n"
        "\n"
        "1 green, 1 yellow, 1 red, 1 gray\n"
    ) == result.stdout
    assert "ada@acme.example" == address


def test_doctor_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for programs; without red the exit code is 0."""
    result, address = doctor(monkeypatch, MIXED[:3], "--format", "json")
    document = json.loads(result.stdout)

    assert (0, True) == (result.exit_code, document["healthy"])
    assert {"green": 1, "yellow": 1, "red": 0, "gray": 1} == document["counts"]
    assert {
        "probe": "probe.1",
        "light": "yellow",
        "subject": None,
        "message": "clocks are 6 s apart",
        "remedy": "use NTP",
    } == document["findings"][1]
    assert address is None
