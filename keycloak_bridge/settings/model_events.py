"""The settings that decide what an event means: its envelope, its schema, the mapping and what it does to a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keycloak_bridge.settings import kinds
from keycloak_bridge.settings.fields import setting

_EXPRESSION = kinds.text("a JMESPath expression")


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """What an event may look like before its schema is asked."""

    max_bytes: int = setting(
        kinds.integer(1024, 104_857_600), 1_048_576, "Largest record value in bytes."
    )
    max_depth: int = setting(kinds.integer(4, 200), 32, "Deepest nesting of the JSON.")
    match_key: bool = setting(
        kinds.boolean(), True, "Refuse an event whose record key is not the user's id."
    )
    match_subject: bool = setting(
        kinds.boolean(), True, "Refuse an event whose `subject` is not the user's id."
    )
    tombstones: Literal["ignore", "delete", "dead-letter"] = setting(
        kinds.choice(("ignore", "delete", "dead-letter")),
        "ignore",
        "What to do with records without value; `delete` is a `user.deleted` of the key's user.",
    )
    ignore_types: tuple[str, ...] = setting(
        kinds.texts("a list of event types"), [], "Event types to skip instead of refusing."
    )
    after_dead_letter: Literal["park", "continue", "stop"] = setting(
        kinds.choice(("park", "continue", "stop")),
        "park",
        "What to do with later events of a user one of whose events became a dead letter.",
    )


@dataclass(frozen=True, slots=True)
class EnvelopeSettings:
    """A producer's own envelope: JMESPath expressions that see `key`, `headers` and `body`; all absent: CloudEvents."""

    id: str | None = setting(_EXPRESSION, None, "Expression for the event's id.")
    type: str | None = setting(_EXPRESSION, None, "Expression for the event's type.")
    subject: str | None = setting(_EXPRESSION, None, "Expression for the user's id.")
    time: str | None = setting(_EXPRESSION, None, "Expression for the time of the event.")
    dataschema: str | None = setting(_EXPRESSION, None, "Expression for the id of the schema.")
    source: str | None = setting(_EXPRESSION, None, "Expression for who published the event.")
    data: str | None = setting(
        _EXPRESSION, None, "Expression for the data that the schema describes."
    )
    types: Mapping[str, str] = setting(
        kinds.table('a table such as { UserCreated = "user.created" }'),
        {},
        "The producer's names of event types, and ours.",
    )


@dataclass(frozen=True, slots=True)
class SchemasSettings:
    """Schemas besides the shipped ones."""

    folders: tuple[Path, ...] = setting(
        kinds.folders(), [], "Folders with schemas of your own, as `<type>/<major>.<minor>.json`."
    )


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """How an event becomes a user."""

    file: Path | None = setting(
        kinds.path(), None, "Mapping of your own; without it the shipped one is used."
    )
    files: Mapping[str, Path] = setting(
        kinds.files(
            'a table such as { "user.updated" = "update.toml", "user.created/2" = "two.toml" }'
        ),
        {},
        "Mappings for single event types, or for one major version of a type's schema; `file` serves all others.",
    )


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    """What the events after `user.created` do to a user."""

    unknown_user: Literal["create", "dead-letter", "wait"] = setting(
        kinds.choice(("create", "dead-letter", "wait")),
        "dead-letter",
        "What becomes of an event about a user that Keycloak does not have; only a complete `user.updated` can create it.",
    )
    unknown_user_wait: float = setting(
        kinds.duration(at_least="1 s"),
        "10 minutes",
        "How long `wait` waits for the user to appear before the event becomes a dead letter.",
    )
    deleted: Literal["disable", "delete", "anonymise"] = setting(
        kinds.choice(("disable", "delete", "anonymise")),
        "disable",
        "What `user.deleted` does: switch the user off, remove it, or switch it off and erase all that names a person.",
    )
    end_sessions: bool = setting(
        kinds.boolean(), True, "Log a user out everywhere who is switched off."
    )
    email_change: Literal["trusted", "verify"] = setting(
        kinds.choice(("trusted", "verify")),
        "trusted",
        "Whether a changed e-mail address counts as it is, or must be verified by a mail.",
    )
    resend: Literal["always", "when-expired"] = setting(
        kinds.choice(("always", "when-expired")),
        "when-expired",
        "Whether `user.invitation.requested` sends a mail although the link of the last one still works.",
    )
