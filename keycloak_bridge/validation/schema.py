"""A schema that is ready to check data: of the catalog's files, or of a schema registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from referencing import Registry

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.validation.compiled import compile_verdict
from keycloak_bridge.validation.dialects import id_keyword
from keycloak_bridge.validation.documents import (
    SchemaDocument,
    can_be_joined,
    check_documents,
    own_name,
    usable_id,
)
from keycloak_bridge.validation.notes import refuse_unknown_formats, schema_notes
from keycloak_bridge.validation.subschema import Subschema
from keycloak_bridge.validation.validator import compile_schema, find_violations


class CompiledSchema:
    """A checked `document` of `registry`, compiled once. Immutable, safe to share between threads."""

    def __init__(self, document: SchemaDocument, registry: Registry[Any]) -> None:
        self.id = document.id
        self.root = Subschema.root(document.schema, registry)
        self._validator = compile_schema(document.schema, registry)
        self._verdict = compile_verdict(self.root)

    def violations(self, value: Any, root: str) -> tuple[Violation, ...]:
        """Return what `value` breaks, by pointer; pointers begin with `root`."""
        if self._verdict(value):
            return ()
        return find_violations(self._validator, value, root=root)


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema as a registry has it: how messages call it, what it says, and the name by which others refer to it."""

    origin: str
    content: Any
    name: str = ""


def compile_registered(
    schema: Registered,
    made_id: str,
    references: Sequence[Registered] = (),
    *,
    formats_must_be_known: bool = False,
) -> CompiledSchema:
    """Return the `schema` of a registry, checked as the files of a folder are; it is called `made_id` where it has no `$id`.

    References lead nowhere but to `references`, which may refer to each other. Raises ConfigError (code `schema`) with one
    line for every problem.
    """
    documents = [_document(schema, made_id)]
    documents += [_document(one, f"{made_id}:{n}") for n, one in enumerate(references, 1)]
    problems = [one for one in documents if not isinstance(one.content, dict)]
    if problems:
        check_documents(problems)
    names: dict[str, SchemaDocument] = {}
    for one, document in zip(references, documents[1:], strict=True):
        for base in documents:
            if can_be_joined(one.name) and "#" not in one.name:
                names[urljoin(base.id, one.name)] = document
    registry = check_documents(documents, names)
    if formats_must_be_known:
        refuse_unknown_formats(schema_notes(documents, registry))
    return CompiledSchema(documents[0], registry)


def _document(one: Registered, made_id: str) -> SchemaDocument:
    content: Any = one.content
    named = None
    if isinstance(content, dict):
        keyword = id_keyword(content)
        schema_id = usable_id(content.get(keyword)) or made_id
        content, named = {**content, keyword: schema_id}, own_name(schema_id)
    kind, version = named or (one.origin, (0, 0))
    return SchemaDocument(kind, version, content, one.origin)
