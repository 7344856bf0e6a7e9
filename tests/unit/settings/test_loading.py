"""Each source overrides the one before it, and all problems are reported at once."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner

from keycloak_bridge.cli.main import app
from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.settings.fields import SECRET_FILE, Secret, environment_name
from keycloak_bridge.settings.loading import KEYCLOAK_ACCESS, RESERVED_NAMES, read_settings
from keycloak_bridge.settings.model import GONE, Settings
from keycloak_bridge.settings.schema import settings_by_name

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a settings file into a folder that is the working folder too."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> Path:
        path = tmp_path / "bridge.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def load_settings(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = MappingProxyType({}),
    overrides: Sequence[str] = (),
) -> Settings:
    loaded = read_settings(path, environ=environ, overrides=overrides)
    loaded.raise_if_wrong()
    return loaded.settings


def problems(
    path: Path | None, environ: Mapping[str, str] | None = None, *overrides: str
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ=environ or {}, overrides=overrides)
    message = caught.value.message
    return (message.replace(f"{path.parent}/", "") if path else message).splitlines()


def test_defaults_need_no_file(write: Write) -> None:
    """Without file, environment and flags everything has its default."""
    assert Settings() == load_settings()


def test_precedence(write: Write) -> None:
    """A later flag overrides an earlier one, that the environment, which overrides the file, which overrides the default."""
    path = write('[kafka]\ngroup_id = "file"\nclient_id = "file"\n[keycloak]\nrealm = "file"\n')
    settings = load_settings(
        path,
        environ={
            "KEYCLOAK_BRIDGE_KAFKA_GROUP_ID": "environment",
            "KEYCLOAK_BRIDGE_KAFKA_CLIENT_ID": "environment",
        },
        overrides=["kafka.group_id=earlier", "kafka.group_id = flag"],
    )

    assert ("flag", "environment", "file", "user-events") == (
        settings.kafka.group_id,
        settings.kafka.client_id,
        settings.keycloak.realm,
        settings.topics.events,
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("kafka.bootstrap_servers", "a:1, b:2,", ("a:1", "b:2")),
        ("topics.create", "Yes", True),
        ("topics.create", "0", False),
        ("topics.partitions", "12", 12),
        ("topics.replication_factor", "-1", -1),
        ("kafka.session_timeout", "1 minute", 60.0),
        ("retry.initial", "250 ms", 0.25),
        ("invite.lifespan", "PT72H", 259200.0),
        ("invite.actions", "UPDATE_PASSWORD,CONFIGURE_TOTP", ("UPDATE_PASSWORD", "CONFIGURE_TOTP")),
        ("envelope.types", "UserCreated=user.created, B = user.deleted", {"UserCreated": "user.created", "B": "user.deleted"}),
        ("envelope.types", '{ UserCreated = "user.created" }', {"UserCreated": "user.created"}),
        ("envelope.key", "key.id", "key.id"),
        ("events.tombstones", "DEAD-letter", "dead-letter"),
        ("limits.disables", "3/1 h", Limit(3, 3600.0)),
        ("limits.deletes", "none", None),
        ("log.level", "debug", "DEBUG"),
        ("keycloak.url", "https://id.example.com/auth/", "https://id.example.com/auth"),
    ],
)  # fmt: skip
def test_texts_are_read_by_the_form_of_the_setting(
    write: Write, name: str, text: str, expected: object
) -> None:
    """A flag and a variable give the same value."""
    section, _, key = name.partition(".")
    variable = f"KEYCLOAK_BRIDGE_{section}_{key}".upper()

    by_flag = load_settings(overrides=[f"{name}={text}"])
    by_variable = load_settings(environ={variable: text})

    assert expected == getattr(getattr(by_flag, section), key)
    assert by_flag == by_variable


def test_everything_in_a_file(write: Write, tmp_path: Path) -> None:
    """The file's values have TOML's types; relative paths start at its folder, those in a flag at the working folder.

    The file is the one that KEYCLOAK_BRIDGE_CONFIG names, else `bridge.toml`; editors may begin it with a byte order mark.
    """
    folder = tmp_path / "etc"
    (folder / "schemas").mkdir(parents=True)
    (folder / "m.toml").touch()
    (tmp_path / "other.toml").touch()
    path = write(
        """\ufeff
        [topics]
        create = true
        retention = "1 day"
        [events]
        max_bytes = 2048
        ignore_types = ["a", "b"]
        [envelope]
        types = { A = "user.updated" }
        [schemas]
        folders = ["schemas"]
        [mapping]
        file = "m.toml"
        """
    )
    path = path.rename(folder / "x.toml")
    settings = load_settings(environ={"KEYCLOAK_BRIDGE_CONFIG": str(path)})
    by_flag = load_settings(path, overrides=["mapping.file=other.toml"])

    assert (True, 86400.0) == (settings.topics.create, settings.topics.retention)
    assert (2048, ("a", "b")) == (settings.events.max_bytes, settings.events.ignore_types)
    assert {"A": "user.updated"} == settings.envelope.types
    assert (folder / "schemas",) == settings.schemas.folders
    assert folder / "m.toml" == settings.mapping.file
    assert tmp_path / "other.toml" == by_flag.mapping.file
    write('[kafka]\ngroup_id = "x"')
    assert "x" == load_settings().kafka.group_id


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("[kafak]\na = 1", "kafak: unknown section; did you mean 'kafka'?"),
        ("kafka = 1", "kafka: must be a table: [kafka]"),
        ('[kafka]\ngroupid = "x"', "kafka.groupid: unknown key; did you mean 'group_id'?"),
        ('[kafka]\nzzz = "x"', "kafka.zzz: unknown key"),
        ("[kafka]\ngroup_id = 3", "kafka.group_id: must be text"),
        ('[kafka]\nbootstrap_servers = "a:1"', 'kafka.bootstrap_servers: must be a list of "host:port"'),
        ('[kafka]\nbootstrap_servers = ["a"]', 'kafka.bootstrap_servers: must be a list of "host:port"'),
        ("[kafka]\nbootstrap_servers = []", 'kafka.bootstrap_servers: must be a list of "host:port"'),
        ("[kafka]\nsession_timeout = 5", 'kafka.session_timeout: must be a length of time such as "5 s", "10 minutes" or "3 days"'),
        ('[kafka]\nsession_timeout = "5 parsecs"', "kafka.session_timeout: the unit of time is unknown; use weeks, days, hours, minutes or seconds"),
        ('[kafka]\nsession_timeout = "30 days"', "kafka.session_timeout: must be from 1 s to 24 days"),
        ('[kafka]\nmax_poll_interval = "5 s"', "kafka.max_poll_interval: must not be shorter than `kafka.session_timeout`"),
        ('[kafka]\nssl_cafile = "nope.pem"', "kafka.ssl_cafile: names a file that does not exist: nope.pem"),
        ("[topics]\npartitions = 0", "topics.partitions: must be a whole number from 1 to 10000"),
        ('[topics]\ncreate = "yes"', "topics.create: must be true or false"),
        ("[topics]\nreplication_factor = 0", "topics.replication_factor: must be -1 (the brokers' default) or at least 1"),
        ('[topics]\nresults = "user-events"', "topics.results: must be another topic than `topics.events`"),
        ('[topics]\nevents = "a b"', "topics.events: must be the name of a topic"),
        ('[keycloak]\nurl = "ftp://x"', 'keycloak.url: must be an address such as "https://id.example.com", without credentials'),
        ('[keycloak]\nurl = "https://a:b@x"', 'keycloak.url: must be an address such as "https://id.example.com", without credentials'),
        ('[keycloak]\nrealm = "a/b"', "keycloak.realm: must be the name of a realm"),
        ('[events]\ntombstones = "drop"', 'events.tombstones: must be one of "ignore", "delete", "dead-letter"'),
        ('[schemas]\nfolders = ["nope"]', "schemas.folders: names a folder that does not exist: nope"),
        ('[mapping]\nfiles = { "user.updated" = "nope.toml" }', "mapping.files: names a file that does not exist: nope.toml"),
        ('[lifecycle]\ndeleted = "forget"', 'lifecycle.deleted: must be one of "disable", "delete", "anonymise"'),
        ('[limits]\nmails = "fast"', 'limits.mails: must be a limit such as "500/1 h" or "50/10 minutes", or "none"'),
        ('[limits]\nmails = "5/h"', 'limits.mails: write for example "500/1 h", "50/10 minutes" or "none"'),
        ('[invite]\nredirect_uri = "https://x"', "invite.redirect_uri: needs `invite.client_id`: Keycloak checks the page with it"),
        ("[invite]\nactions = []", "invite.actions: must be a list of required actions"),
        ('[retry]\ninitial = "1 hour"', "retry.initial: must not be longer than `retry.max`"),
        ("[envelope]\ntypes = { a = 1 }", 'envelope.types: must be a table such as { UserCreated = "user.created" }'),
        ('[keycloak]\nclient_secret_file = "nope"', "keycloak.client_secret_file: names a file that does not exist in {}"),
        ('[keycloak]\nclient_secret = "planted"\nclient_secret_file = "exists"', "keycloak.client_secret: is given together with `client_secret_file`; keep one of them"),
        ("[keycloak]\nclient_secret = 123456789", "keycloak.client_secret: must be text"),
        ('[kafka]\nssl_keyfile = "exists"', "kafka.ssl_keyfile: needs `kafka.ssl_certfile`"),
        (
            '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_username = "x"',
            ['kafka.sasl_mechanism: is needed by security_protocol = "SASL_SSL"', 'kafka.sasl_password: is needed by security_protocol = "SASL_SSL"'],
        ),
        ('[registry]\nurl = "https://ada:secret@registry"', 'registry.url: must be an address such as "https://id.example.com", without credentials'),
        ('[registry]\nurl = "http://r"\nusername = "a:b"\npassword = "p"', "registry.username: must be a name without colon"),
        ('[registry]\nurl = "http://r"\nusername = "ada"', "registry.password: is needed by `registry.username`"),
        ('[registry]\nurl = "http://r"\npassword = "p"', "registry.username: is needed by `registry.password`"),
        ('[registry]\nurl = "http://r"\nusername = "ada"\npassword = "p"\ntoken = "t"', "registry.token: must not be given with `registry.username`"),
        ('[registry]\ntoken = "t"', "registry.token: needs `registry.url`"),
        ("[ui]\nenabled = true\n[health]\nenabled = false", "ui.enabled: needs `health.enabled`: the health server serves the page"),
        *(
            (
                f'[ui]\nenabled = true\n[health]\nhost = "{host}"',
                f"ui.token: is needed, or `ui.token_file`, since `health.host` ({host}) is not a loopback address",
            )
            for host in ("0.0.0.0", "::", "10.1.2.3", "bridge.internal")  # noqa: S104 # only read
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_reported_with_key_and_reason(
    write: Write, tmp_path: Path, line: str, reported: str | list[str]
) -> None:
    """Each problem is one line: file, key, what is expected."""
    (tmp_path / "exists").touch()
    expected = [reported] if isinstance(reported, str) else reported

    assert [
        f"bridge.toml: {one.format(tmp_path)}" if one.endswith("{}") else f"bridge.toml: {one}"
        for one in expected
    ] == problems(write(line))


@pytest.mark.parametrize("setting", ["keycloak.url", "registry.url"])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://h:99999", "must be an address such as .*; a port is from 1 to 65535"),
        ("http://h:0", "must be an address such as .*; a port is from 1 to 65535"),
        ("http://h:abc", "must be an address such as .*; a port is from 1 to 65535"),
        ("http://[::1", "must be an address such as .*an IPv6 address stands in brackets"),
        ("http://:80", "has a host that is no name"),
        ("http://a..b", "has a host that no name can be"),
        (f"http://{'a' * 64}", "has a host that no name can be"),
    ],
)
def test_an_address_that_no_call_can_have_is_refused(
    write: Write, setting: str, address: str, reason: str
) -> None:
    """It looked like an outage, at the first call and ever after."""
    (found,) = problems(write(""), None, f"{setting}={address}")

    assert re.match(f"--set {setting}: {reason}", found)
    assert address not in found


@pytest.mark.parametrize("address", ["http://[::1]:8080", "https://my_host", "http://10.0.0.1/auth/", "http://müller.example:1"])  # fmt: skip
def test_any_other_address_is_taken(write: Write, address: str) -> None:
    """IP addresses, names of services and international names."""
    assert address.rstrip("/") == load_settings(overrides=[f"keycloak.url={address}"]).keycloak.url


@pytest.mark.parametrize(
    "broker", ["localhost:99999", "localhost:0", "http://x:9", "u:p@h:1", "a..b:1", "::1:9092"]
)
def test_a_broker_that_no_connection_can_have_is_refused(write: Write, broker: str) -> None:
    """It looked like an outage of Kafka."""
    (found,) = problems(write(""), None, f"kafka.bootstrap_servers=kafka:9092,{broker}")

    assert found.startswith("--set kafka.bootstrap_servers: ")
    assert broker not in found
    good = ("[::1]:9092", "10.0.0.1:1", "my-kafka_1:65535")
    taken = load_settings(overrides=[f"kafka.bootstrap_servers={','.join(good)}"])
    assert good == taken.kafka.bootstrap_servers


def test_a_host_to_listen_on_is_one(write: Write) -> None:
    """`guard` asks the bridge there."""
    (found,) = problems(write(""), None, "health.host=a..b")

    assert found.startswith("--set health.host: has a host that no name can be")


def test_types_of_events_are_those_of_the_bridge(write: Write) -> None:
    """Each event of a type that nothing is done with would become a dead letter, unless it is to be ignored."""
    (found,) = problems(write(""), None, "envelope.types=UserCreated=user.craeted")

    assert (
        "--set envelope.types: 'UserCreated': 'user.craeted' is no type of event that the bridge maps, nor in "
        "`events.ignore_types`; did you mean 'user.created'?"
    ) == found
    overrides = ["envelope.types=OrderPlaced=order.placed", "events.ignore_types=order.placed"]
    taken = load_settings(overrides=overrides).envelope.types
    assert {"OrderPlaced": "order.placed"} == taken


@pytest.mark.parametrize("name", GONE)
def test_a_setting_that_is_gone_is_reported_with_what_to_do_instead(
    write: Write, name: str
) -> None:
    """In the file, in the environment and in a flag; a command ends with exit code 2."""
    section, _, key = name.partition(".")
    variable = environment_name(name)

    assert name not in settings_by_name()
    assert [
        f"bridge.toml: {name}: is gone: {GONE[name]}",
        f"{variable}: is gone: {GONE[name]}",
        f"--set {name}: is gone: {GONE[name]}",
    ] == problems(write(f"[{section}]\n{key} = 1"), {variable: "1"}, f"{name}=1")
    result = CliRunner().invoke(app, ["--set", f"{name}=1", "schemas", "list"])
    assert 2 == result.exit_code
    assert GONE[name] in result.output


def test_all_problems_are_reported_together(write: Write) -> None:
    """File, environment and flags, each with its own place."""
    path = write('[kafka]\ngroup = "x"\n[health]\nport = "x"\n')
    found = problems(
        path,
        {
            "KEYCLOAK_BRIDGE_TOPICS_CREATE": "perhaps",
            "KEYCLOAK_BRIDGE_KAFKA_GRUOP_ID": "x",
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "planted",
            "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET_FILE": "bridge.toml",
        },
        "nothing",
        "log.levle=DEBUG",
        "envelope.types=a",
    )

    assert [
        "bridge.toml: kafka.group: unknown key; did you mean 'group_id'?",
        "bridge.toml: health.port: must be a whole number from 0 to 65535",
        "KEYCLOAK_BRIDGE_KAFKA_GRUOP_ID: unknown variable; did you mean 'KEYCLOAK_BRIDGE_KAFKA_GROUP_ID'?",
        "KEYCLOAK_BRIDGE_TOPICS_CREATE: must be true or false",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET: is given together with `client_secret_file`; keep one of them",
        "--set: must be section.key=value",
        "--set log.levle: unknown key; did you mean 'level'?",
        '--set envelope.types: must be a table such as { UserCreated = "user.created" }, separated by commas',
    ] == found


def test_valid_settings_count_although_others_are_wrong(write: Write) -> None:
    """`check-config` continues with what can be read; a wrong setting has its default."""
    loaded = read_settings(write('[kafka]\ngroup_id = "x"\nclient_id = 1\n'), environ={})
    kafka = loaded.settings.kafka

    assert ("x", "keycloak-bridge") == (kafka.group_id, kafka.client_id)
    assert 1 == len(loaded.problems)
    assert ["kafka.group_id"] == list(loaded.origins)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kafka.group_id", "m\udcfcller"),
        ("keycloak.client_secret", "m\udcfcller"),
        ("kafka.bootstrap_servers", "kafka:9092,m\udcfcller:9092"),
        ("envelope.types", "m\udcfcller=user.created"),
    ],
)
def test_a_text_outside_the_file_is_utf_8_as_well(write: Write, name: str, text: str) -> None:
    """No other can be sent to Kafka or Keycloak; it is said at the start, and without the value."""
    variable = environment_name(name)

    assert [f"{variable}: must be UTF-8"] == problems(None, {variable: text})


def test_a_path_may_have_any_name(write: Write) -> None:
    """What the system calls a file is no text of anybody else."""
    path = write("").with_name("m\udcfcller")
    path.touch()
    environ = {
        "KEYCLOAK_BRIDGE_MAPPING_FILE": path.name,
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET_FILE": path.name,
    }

    loaded = load_settings(environ=environ)

    assert path == loaded.mapping.file
    assert Secret(path=path) == loaded.keycloak.client_secret


@pytest.mark.parametrize("value", ["", "x"])
def test_variables_of_others_are_no_mistake(write: Write, value: str) -> None:
    """The realm import's and the sandbox's variables, empty ones and foreign ones are left alone."""
    others = ("KEYCLOAK_BRIDGE_CLIENT_SECRET", "KEYCLOAK_BRIDGE_CACHE", "PATH")
    assert {*others[:2], "KEYCLOAK_BRIDGE_CONFIG"} == RESERVED_NAMES
    empty = {"KEYCLOAK_BRIDGE_KAFKA_GROUP_ID": ""}

    assert Settings() == load_settings(environ=dict.fromkeys(others, value) | empty)


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (
            "[keycloak]\nrealm = 3\n",
            [
                "keycloak.realm: must be the name of a realm",
                "keycloak.client_secret: is needed; set it in the file or as KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET",
            ],
        ),
        (
            '[keycloak]\nrealm = "acme"\nclient_secret_file = "nope"',
            ["keycloak.client_secret_file: names a file that does not exist in {}"],
        ),
        (
            (
                '[keycloak]\nrealm = "acme"\nclient_secret = "x"\n'
                '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\n'
                'sasl_username = "u"\nsasl_password_file = "nope"'
            ),
            ["kafka.sasl_password_file: names a file that does not exist in {}"],
        ),
    ],
)
def test_a_required_setting_is_reported_once(
    write: Write, content: str, reported: list[str]
) -> None:
    """A missing one with the key and the variable; one that is given and wrong is not called missing besides."""
    path = write(content)
    found = read_settings(path, environ={}, require=KEYCLOAK_ACCESS).problems

    assert [f"{path}: {one.format(path.parent)}" for one in reported] == list(found)


@pytest.mark.parametrize(
    ("content", "environ", "expected"),
    [
        ('client_secret_file = "s"', {}, Secret(path=Path("s"))),
        ("", {"_FILE": "s"}, Secret(path=Path("s"))),
        ('client_secret_file = "s"', {"": "y"}, Secret("y")),
    ],
    ids=["beside the settings file", "in the environment", "a later source overrides"],
)
def test_a_secret_is_text_or_a_file_in_every_source(
    write: Write, content: str, environ: Mapping[str, str], expected: Secret
) -> None:
    """`<key>_file` in the settings file is relative to it; text in the environment overrides a file's path."""
    path = write(f"[keycloak]\n{content}")
    (path.parent / "s").write_text("from-file\n")
    if expected.path:
        expected = Secret(path=path.parent / expected.path)
    named = {f"KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET{end}": text for end, text in environ.items()}
    secret = load_settings(path, environ=named).keycloak.client_secret

    assert expected == secret
    assert secret is not None
    assert ("from-file" if secret.path else "y") == secret.reveal()


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (None, "there is no settings file"),
        (b"[kafka\n", "is not TOML: Expected"),
        (b"a = '\xff'", "is not UTF-8"),
        (Path(), "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, content: bytes | Path | None, reported: str
) -> None:
    """Missing, broken and badly encoded files and folders are named."""
    path = tmp_path if isinstance(content, Path) else tmp_path / "x.toml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=reported) as caught:
        load_settings(path)

    assert str(path) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "name", ["keycloak.ca_file", "keycloak.client_secret_file", "schemas.folders", "mapping.files"]
)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("~nosuchuser/x", "in the home of a user who does not exist"),
        ("x" * 300, "cannot be read (File name too long)"),
    ],
)
def test_a_path_that_can_be_none_is_a_wrong_setting(
    write: Write, name: str, value: str, reason: str
) -> None:
    """No user of that name, and a name that no file can have."""
    if name == "mapping.files":
        value = f"user.updated={value}"
    (found,) = problems(write(""), None, f"{name}={value}")

    assert found.startswith(f"--set {name}: ")
    assert reason in found


def test_a_settings_file_that_may_be_there_is_not_passed_over(write: Write) -> None:
    """It cannot be known, as in a folder that may not be searched."""
    write("").unlink()
    Path("bridge.toml").symlink_to("bridge.toml")

    with pytest.raises(ConfigError, match=r"bridge.toml cannot be read: Too many levels"):
        load_settings()


def test_a_working_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found in it; settings without relative paths are fine."""
    file, gone = tmp_path / "bridge.toml", tmp_path / "gone"
    file.write_text('[kafka]\ngroup_id = "x"\n')
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert "x" == load_settings(file).kafka.group_id
    assert ["--set mapping.file: names a file that does not exist: m.toml"] == problems(
        None, None, "mapping.file=m.toml"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"a = {'9' * 5000}", "is not TOML: a number in it has too many digits"),
        (f"a = {'[' * 2000}", "is not TOML: it nests too deeply"),
    ],
)
def test_a_file_that_no_reader_takes(write: Write, text: str, reason: str) -> None:
    """Python limits the digits of a number and the depth of its stack."""
    with pytest.raises(ConfigError, match=reason):
        load_settings(write(text))


def test_a_table_that_no_reader_takes(write: Write) -> None:
    """The variable is named, as for any other mistake."""
    variable = "KEYCLOAK_BRIDGE_ENVELOPE_TYPES"

    assert [f'{variable}: must be a table such as {{ UserCreated = "user.created" }}, separated by commas'] == problems(
        None, {variable: f"{{a={'[' * 2000}"}
    )  # fmt: skip


@pytest.mark.parametrize("secret", ["Tr0ub4dor-3", "~Tr0ub4dor", "Tr0ub4dor" * 40])
@pytest.mark.parametrize("name", [one for one in settings_by_name() if settings_by_name()[one].kind is SECRET_FILE])  # fmt: skip
def test_a_secret_in_the_place_of_its_file_is_not_printed(
    write: Write, name: str, secret: str
) -> None:
    """The setting and the folder are enough; a path is shown."""
    path = write("")
    variable = environment_name(name)
    (found,) = [
        one for one in problems(None, {variable: secret}) if one.startswith(f"{variable}: ")
    ]

    assert "Tr0ub4dor" not in found
    assert secret.startswith("~") or found.endswith(f" in {path.parent}")
    assert any("secrets/nope" in one for one in problems(None, {variable: "secrets/nope"}))


def test_what_is_there_and_no_file_is_called_what_it_is(write: Write) -> None:
    """A folder or a FIFO in the place of a file, and a file in the place of a folder."""
    folder = write("").parent
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()

    assert [
        f"--set keycloak.ca_file: names a folder, where a file is needed: {folder}/folder",
        f"--set mapping.file: names what is no regular file: {folder}/fifo",
        f"--set schemas.folders: names a file, where a folder is needed: {folder}/bridge.toml",
    ] == problems(
        None,
        None,
        "keycloak.ca_file=folder",
        "mapping.file=fifo",
        "schemas.folders=bridge.toml",
    )
