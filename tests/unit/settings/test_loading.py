"""Flags over environment over file over defaults, and every problem at once."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.limits import Limit
from keycloak_bridge.settings import (
    KEYCLOAK_ACCESS,
    Secret,
    Settings,
    environment_names,
    load_settings,
    read_settings,
)

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


def problems(
    path: Path | None, environ: Mapping[str, str] | None = None, *overrides: str
) -> list[str]:
    """Return the lines of the one error, without the file's folder."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ=environ or {}, overrides=overrides)
    message = caught.value.message
    return (message.replace(f"{path.parent}/", "") if path else message).splitlines()


def test_defaults_need_no_file(write: Write) -> None:
    """Without file, environment and flags everything has its default."""
    assert Settings() == load_settings(environ={})


def test_precedence(write: Write) -> None:
    """A flag goes before the environment, that before the file, that before the default."""
    path = write('[kafka]\ngroup_id = "file"\nclient_id = "file"\n[keycloak]\nrealm = "file"\n')
    settings = load_settings(
        path,
        environ={
            "KEYCLOAK_BRIDGE_KAFKA_GROUP_ID": "environment",
            "KEYCLOAK_BRIDGE_KAFKA_CLIENT_ID": "environment",
        },
        overrides=["kafka.group_id=flag"],
    )

    assert ("flag", "environment", "file", "user-events") == (
        settings.kafka.group_id,
        settings.kafka.client_id,
        settings.keycloak.realm,
        settings.topics.events,
    )


def test_later_flags_win(write: Write) -> None:
    """The same key twice: the later flag counts."""
    settings = load_settings(environ={}, overrides=["health.port=1", "health.port = 2"])

    assert 2 == settings.health.port


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
        ("envelope.types", "UserCreated=user.created, B = c", {"UserCreated": "user.created", "B": "c"}),
        ("envelope.types", '{ UserCreated = "user.created" }', {"UserCreated": "user.created"}),
        ("envelope.id", "meta.id", "meta.id"),
        ("events.tombstones", "DEAD-letter", "dead-letter"),
        ("limits.disables", "3/1 h", Limit(3, 3600.0)),
        ("limits.deletes", "none", None),
        ("log.level", "debug", "DEBUG"),
        ("keycloak.url", "https://id.example.com/auth/", "https://id.example.com/auth"),
        ("keycloak.client_secret", "a=b,c", Secret("a=b,c")),
    ],
)  # fmt: skip
def test_texts_are_read_by_the_form_of_the_setting(
    write: Write, name: str, text: str, expected: object
) -> None:
    """A flag and a variable give the same value."""
    section, _, key = name.partition(".")
    variable = f"KEYCLOAK_BRIDGE_{section}_{key}".upper()

    by_flag = load_settings(environ={}, overrides=[f"{name}={text}"])
    by_variable = load_settings(environ={variable: text})

    assert expected == getattr(getattr(by_flag, section), key)
    assert by_flag == by_variable


def test_everything_in_a_file(write: Write, tmp_path: Path) -> None:
    """The file's values have TOML's types, and relative paths start at its folder."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "m.toml").touch()
    path = write(
        """
        [topics]
        create = true
        retention = "1 day"
        [events]
        max_bytes = 2048
        ignore_types = ["a", "b"]
        [envelope]
        types = { A = "b" }
        [schemas]
        folders = ["schemas"]
        [mapping]
        file = "m.toml"
        """
    )
    settings = load_settings(path, environ={})

    assert (True, 86400.0) == (settings.topics.create, settings.topics.retention)
    assert (2048, ("a", "b")) == (settings.events.max_bytes, settings.events.ignore_types)
    assert {"A": "b"} == settings.envelope.types
    assert (tmp_path / "schemas",) == settings.schemas.folders
    assert tmp_path / "m.toml" == settings.mapping.file


def test_paths_start_where_they_are_given(write: Write, tmp_path: Path) -> None:
    """In the file they start at its folder, in a flag at the working folder."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "m.toml").touch()
    (tmp_path / "other.toml").touch()
    path = folder / "bridge.toml"
    path.write_text('[mapping]\nfile = "m.toml"\n')

    in_file = load_settings(path, environ={})
    by_flag = load_settings(path, environ={}, overrides=["mapping.file=other.toml"])

    assert (folder / "m.toml", tmp_path / "other.toml") == (
        in_file.mapping.file,
        by_flag.mapping.file,
    )


@pytest.mark.parametrize(
    ("line", "told"),
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
        ('[kafka]\nheartbeat_interval = "9 s"', "kafka.heartbeat_interval: must be at most a third of `kafka.session_timeout`"),
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
        ('[keycloak]\nclient_secret_file = "nope"', "keycloak.client_secret_file: names a file that does not exist: nope"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_key_and_reason(write: Write, line: str, told: str) -> None:
    """One problem is one line: file, key, what is expected."""
    assert [f"bridge.toml: {told}"] == problems(write(line))


def test_a_key_needs_its_certificate(write: Write, tmp_path: Path) -> None:
    """A key alone authenticates nobody."""
    (tmp_path / "k.pem").touch()

    assert ["bridge.toml: kafka.ssl_keyfile: needs `kafka.ssl_certfile`"] == problems(
        write('[kafka]\nssl_keyfile = "k.pem"')
    )


def test_a_byte_order_mark_is_no_mistake(write: Write) -> None:
    """Editors on Windows write one."""
    assert "x" == load_settings(write('\ufeff[kafka]\ngroup_id = "x"'), environ={}).kafka.group_id


def test_sasl_needs_its_credentials(write: Write) -> None:
    """Each missing part is named."""
    found = problems(write('[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_username = "x"'))

    assert [
        'bridge.toml: kafka.sasl_mechanism: is needed by security_protocol = "SASL_SSL"',
        'bridge.toml: kafka.sasl_password: is needed by security_protocol = "SASL_SSL"',
    ] == found


def test_all_problems_are_told_together(write: Write) -> None:
    """File, environment and flags, each with its own place."""
    path = write('[kafka]\ngroup = "x"\n[health]\nport = "x"\n')
    found = problems(
        path,
        {"KEYCLOAK_BRIDGE_TOPICS_CREATE": "perhaps", "KEYCLOAK_BRIDGE_KAFKA_GRUOP_ID": "x"},
        "nothing",
        "log.levle=DEBUG",
        "envelope.types=a",
    )

    assert [
        "bridge.toml: kafka.group: unknown key; did you mean 'group_id'?",
        "bridge.toml: health.port: must be a whole number from 0 to 65535",
        "KEYCLOAK_BRIDGE_KAFKA_GRUOP_ID: unknown variable; did you mean 'KEYCLOAK_BRIDGE_KAFKA_GROUP_ID'?",
        "KEYCLOAK_BRIDGE_TOPICS_CREATE: must be true or false",
        "--set: must be section.key=value",
        "--set log.levle: unknown key; did you mean 'level'?",
        '--set envelope.types: must be a table such as { UserCreated = "user.created" }, separated by commas',
    ] == found


def test_what_is_right_counts_although_something_is_wrong(write: Write) -> None:
    """`check-config` goes on with what can be read; a wrong setting holds its default."""
    loaded = read_settings(write('[kafka]\ngroup_id = "x"\nclient_id = 1\n'), environ={})

    assert ("x", "keycloak-bridge") == (
        loaded.settings.kafka.group_id,
        loaded.settings.kafka.client_id,
    )
    assert 1 == len(loaded.problems)
    assert ["kafka.group_id"] == list(loaded.origins)


@pytest.mark.parametrize("value", ["", "x"])
def test_variables_of_others_are_no_mistake(write: Write, value: str) -> None:
    """The realm import's and the sandbox's variables, empty ones and foreign ones are left alone."""
    others = ("KEYCLOAK_BRIDGE_CLIENT_SECRET", "KEYCLOAK_BRIDGE_CACHE", "PATH")
    empty = {"KEYCLOAK_BRIDGE_KAFKA_GROUP_ID": ""}

    assert Settings() == load_settings(environ=dict.fromkeys(others, value) | empty)


def test_required_settings_are_named_with_both_ways_to_give_them(write: Write) -> None:
    """What a command needs is told with key and variable, once."""
    path = write("[keycloak]\nrealm = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ={}, require=KEYCLOAK_ACCESS)

    assert [
        f"{path}: keycloak.realm: must be the name of a realm",
        f"{path}: keycloak.client_secret: is needed; set it in the file or as KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET",
    ] == caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[keycloak]\nrealm = "acme"\nclient_secret_file = "nope"',
            "keycloak.client_secret_file: names a file that does not exist: nope",
        ),
        (
            (
                '[keycloak]\nrealm = "acme"\nclient_secret = "x"\n'
                '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\n'
                'sasl_username = "u"\nsasl_password_file = "nope"'
            ),
            "kafka.sasl_password_file: names a file that does not exist: nope",
        ),
    ],
)
def test_a_secret_file_that_is_missing_is_told_once(write: Write, text: str, told: str) -> None:
    """The setting was given: it is not called missing besides."""
    path = write(text)
    found = read_settings(path, environ={}, require=KEYCLOAK_ACCESS).problems

    assert 1 == len(found)
    assert found[0].startswith(f"{path}: {told.removesuffix('nope')}")


class TestSecrets:
    """A secret as text or in a file, in any place."""

    def test_in_a_file_beside_the_settings(self, write: Write, tmp_path: Path) -> None:
        """`<key>_file` in the settings file is relative to it."""
        (tmp_path / "s").write_text("from-file\n")
        secret = load_settings(
            write('[keycloak]\nclient_secret_file = "s"'), environ={}
        ).keycloak.client_secret

        assert secret == Secret(path=tmp_path / "s")
        assert secret is not None
        assert "from-file" == secret.reveal()

    def test_a_file_named_in_the_environment(self, write: Write, tmp_path: Path) -> None:
        """`…_FILE` in the environment."""
        (tmp_path / "s").write_text("x")
        environ = {"KEYCLOAK_BRIDGE_KAFKA_SASL_PASSWORD_FILE": "s"}

        assert Secret(path=tmp_path / "s") == load_settings(environ=environ).kafka.sasl_password

    def test_both_ways_in_the_file(self, write: Write, tmp_path: Path) -> None:
        """Text and file in one place contradict each other."""
        (tmp_path / "s").write_text("x")
        path = write('[keycloak]\nclient_secret = "planted"\nclient_secret_file = "s"')

        assert [
            "bridge.toml: keycloak.client_secret: stands beside `client_secret_file`; keep one of them"
        ] == problems(path)

    def test_both_ways_in_the_environment(self, write: Write, tmp_path: Path) -> None:
        """The same there."""
        (tmp_path / "s").write_text("x")
        name = "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET"

        assert [f"{name}: stands beside `client_secret_file`; keep one of them"] == problems(
            None, {name: "planted", f"{name}_FILE": "s"}
        )

    def test_another_place_overrides(self, write: Write, tmp_path: Path) -> None:
        """A text in the environment goes before a file that the settings file names."""
        (tmp_path / "s").write_text("x")
        path = write('[keycloak]\nclient_secret_file = "s"')
        environ = {"KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET": "y"}

        assert Secret("y") == load_settings(path, environ=environ).keycloak.client_secret

    def test_never_in_a_problem(self, write: Write) -> None:
        """A secret of the wrong type is told without it."""
        path = write("[keycloak]\nclient_secret = 123456789\n")

        assert ["bridge.toml: keycloak.client_secret: must be text"] == problems(path)


class TestFile:
    """Which file is read, and what if that fails."""

    def test_named_by_the_environment(self, write: Write) -> None:
        """KEYCLOAK_BRIDGE_CONFIG names the file."""
        path = write('[kafka]\ngroup_id = "x"').rename("other.toml")

        assert "x" == load_settings(environ={"KEYCLOAK_BRIDGE_CONFIG": str(path)}).kafka.group_id

    def test_in_the_working_folder(self, write: Write) -> None:
        """`bridge.toml` is read when it is there."""
        write('[kafka]\ngroup_id = "x"')

        assert "x" == load_settings(environ={}).kafka.group_id

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (None, "there is no settings file"),
            (b"[kafka\n", "is not TOML: Expected"),
            (b"a = '\xff'", "is not UTF-8"),
        ],
    )
    def test_unreadable(
        self, write: Write, tmp_path: Path, content: bytes | None, told: str
    ) -> None:
        """Missing, broken and badly encoded files are named."""
        path = tmp_path / "x.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=told) as caught:
            load_settings(path, environ={})

        assert str(path) in caught.value.message
        assert caught.value.remedy

    def test_a_folder(self, write: Write, tmp_path: Path) -> None:
        """A folder is no settings file."""
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            load_settings(tmp_path, environ={})


def test_environment_names_follow_the_settings() -> None:
    """Every setting has its variable, secrets two; the reserved ones are known."""
    names = environment_names()

    assert {
        "KEYCLOAK_BRIDGE_CONFIG",
        "KEYCLOAK_BRIDGE_CLIENT_SECRET",
        "KEYCLOAK_BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET",
        "KEYCLOAK_BRIDGE_KEYCLOAK_CLIENT_SECRET_FILE",
    } <= names
    assert "KEYCLOAK_BRIDGE_KAFKA_GROUP_ID_FILE" not in names
