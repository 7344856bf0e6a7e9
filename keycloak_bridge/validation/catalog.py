"""The catalog of schemas: checked and compiled once, then used to validate every event.

What is wrong with schema files is found before, in `documents`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from referencing import Registry

from keycloak_bridge.domain.errors import (
    EventValidationError,
    UnknownSchemaError,
    Violation,
)
from keycloak_bridge.domain.events import (
    DEAD_LETTER,
    DEAD_LETTER_REPLAYED,
    INVITATION_DUE,
    RESULT,
    CloudEvent,
    UserEvent,
)
from keycloak_bridge.validation.documents import SchemaDocument, check_documents
from keycloak_bridge.validation.notes import schema_notes
from keycloak_bridge.validation.schema import CompiledSchema
from keycloak_bridge.validation.subschema import (
    Path,
    PropertyFacts,
    has_property,
    property_facts,
    property_types,
)
from keycloak_bridge.validation.validator import (
    MOST_VIOLATIONS,
    NOT_INSIDE_TEXT,
    NULL_FOR_ABSENT,
)

OWN_MESSAGES = frozenset({RESULT, INVITATION_DUE, DEAD_LETTER, DEAD_LETTER_REPLAYED})
"""Types that the bridge publishes; they have schemas and are no events about a user."""


class SchemaCatalog:
    """Every known schema by type, version and `$id`, `documents` in that order, with `notes` on them; immutable, safe to share between threads."""

    def __init__(self, documents: Iterable[SchemaDocument]) -> None:
        """Compile `documents`; raises ConfigError with one line for every problem."""
        self.documents = tuple(sorted(documents, key=lambda d: (d.type, d.version)))
        registry: Registry[Any] = check_documents(self.documents)
        self.notes = schema_notes(self.documents, registry)
        self._by_id = {document.id: document for document in self.documents}
        # sorted by version, so the newest of a type is what remains
        self._newest = {document.type: document for document in self.documents}
        self._schemas = {
            document.id: CompiledSchema(document, registry) for document in self.documents
        }

    def document(self, id_or_type: str) -> Mapping[str, Any]:
        """Return the schema with that `$id`, or the newest one of that type; raises UnknownSchemaError."""
        document = self._by_id.get(id_or_type) or self._newest.get(id_or_type)
        if document is None:
            raise _unknown("schema", "there is no such schema", self._by_id)
        content: Mapping[str, Any] = document.content
        return content

    def has_property(self, event_type: str, path: Path, major: int | None = None) -> bool:
        """Say whether any version of the type, or of its `major` version, has a property at `path` below `data`."""
        return any(
            has_property(self._schemas[document.id].root, path)
            for document in self.documents
            if document.type == event_type and major in (None, document.version[0])
        )

    def property_types(
        self, event_type: str, path: Path, major: int | None = None
    ) -> frozenset[str] | None:
        """Return the JMESPath types that the versions leave the property at `path`; None for all, or where no version has it."""
        found = [
            property_types(self._schemas[document.id].root, path)
            for document in self.documents
            if document.type == event_type and major in (None, document.version[0])
        ]
        named = [types for types in found if types != frozenset()]
        known = [types for types in named if types is not None]
        if not known or len(known) < len(named):
            return None
        return frozenset().union(*known)

    def property_facts(self, event_type: str, path: Path) -> tuple[PropertyFacts | None, ...]:
        """Return what each version of the type's schema says about the property at `path`, None where it is not named."""
        return tuple(
            property_facts(self._schemas[document.id].root, path)
            for document in self.documents
            if document.type == event_type
        )

    def schema_id(self, event_type: str, dataschema: str | None = None) -> str:
        """Return the `$id` that data of the type is checked against: `dataschema`, or the newest.

        Raises UnknownSchemaError (`unknown-type`, `unknown-schema`).
        """
        if event_type not in self._newest:
            known = [name for name in self._newest if name not in OWN_MESSAGES]
            raise _unknown("type", "the event's type has no schema", known)
        if dataschema is None:
            return self._newest[event_type].id
        if not self.knows(event_type, dataschema):
            known = [one.id for one in self.documents if one.type == event_type]
            raise _unknown("schema", f"dataschema names no schema of {event_type}", known)
        return dataschema.removesuffix("#")

    def knows(self, event_type: str, schema_id: str) -> bool:
        """Say whether a schema of the type has this `$id`."""
        document = self._by_id.get(schema_id.removesuffix("#"))
        return document is not None and document.type == event_type

    def violations(
        self, event_type: str, data: Any, dataschema: str | None = None, *, root: str = "/data"
    ) -> tuple[Violation, ...]:
        """Return what `data` breaks of the type's schema, by pointer; pointers begin with `root`.

        Raises UnknownSchemaError.
        """
        schema_id = self.schema_id(event_type, dataschema)
        return self._schemas[schema_id].violations(data, root)

    def validate(self, event: CloudEvent) -> UserEvent:
        """Return `event` once its data keeps every rule of its schema.

        Raises UnknownSchemaError (`unknown-type`, `unknown-schema`) or EventValidationError with all violations.
        """
        schema_id = self.schema_id(event.type, event.dataschema)
        violations = self._schemas[schema_id].violations(event.data, "/data")
        return accepted(event, schema_id, violations)


def accepted(
    event: CloudEvent, schema_id: str, violations: tuple[Violation, ...], *, name: str | None = None
) -> UserEvent:
    """Return `event` if its schema found no `violations`; raises EventValidationError, which calls the schema `name`."""
    if not violations and not isinstance(event.data, dict):
        violations = (Violation("/data", "type", "must be an object"),)
    if violations:
        raise _invalid(name or schema_id, violations)
    return UserEvent(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time,
        schema_id=schema_id,
        data=event.data,
    )


def _unknown(what: str, reason: str, known: Iterable[str]) -> UnknownSchemaError:
    names = ", ".join(known) or "none"
    where = {"type": "/type", "schema": "/dataschema"}[what]
    return UnknownSchemaError(
        f"{reason}; known: {names}",
        code=f"unknown-{what}",
        remedy="publish a known one, or add the schema to a folder in schemas.folders",
        violations=(Violation(where, "enum", f"must be one of: {names}"),),
    )


def _invalid(schema_id: str, violations: tuple[Violation, ...]) -> EventValidationError:
    first, count = violations[0], len(violations)
    more = "" if count == 1 else f", and {count - 1} more"
    if count == MOST_VIOLATIONS:
        more = ", and many more"
    remedy = "correct the event in user management and publish it again"
    for mistake, correction in _MISTAKES.items():
        if any(violation.message.endswith(mistake) for violation in violations):
            remedy = correction
    return EventValidationError(
        f"the data breaks {schema_id}: {first.pointer} {first.message}{more}",
        remedy=remedy,
        violations=violations,
    )


_MISTAKES = {
    NULL_FOR_ABSENT: 'leave out what has no value, or set events.nulls = "absent" if the producer cannot',
    NOT_INSIDE_TEXT: "let the producer serialize once, or read the text with from_json() in [envelope]",
}
"""What to do about the mistakes of serializers, by the end of a violation's message."""
