"""The drafts of JSON Schema that are read, and what a schema of an older one says in the words of Draft 2020-12.

Everything that works with schemas knows Draft 2020-12 only. A schema of another draft is checked against the metaschema of its own
and then rewritten; places in it are reported as its author wrote them.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import quote, unquote

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)
from jsonschema.protocols import Validator

NEWEST = "https://json-schema.org/draft/2020-12/schema"
_2019 = "https://json-schema.org/draft/2019-09/schema"
_4 = "http://json-schema.org/draft-04/schema"
DIALECTS: Mapping[str, type[Validator]] = {
    NEWEST: Draft202012Validator,
    _2019: Draft201909Validator,
    "http://json-schema.org/draft-07/schema": Draft7Validator,
    "http://json-schema.org/draft-06/schema": Draft6Validator,
    _4: Draft4Validator,
}
"""The metaschema of each draft that is read, by the `$schema` that names it, without an empty fragment."""

_BY_PLACE = {name.partition("//")[2]: name for name in DIALECTS}

_BY_NAME = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_IN_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    *("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_LATER = frozenset(
    {
        *("dependentRequired", "dependentSchemas", "maxContains", "minContains", "$anchor"),
        *("unevaluatedItems", "unevaluatedProperties", "$recursiveRef", "$recursiveAnchor"),
    }
)
"""Keywords that Draft 7 does not have."""
_LATER_THAN_4 = frozenset({"const", "contains", "propertyNames", "$id"})
_LIMITS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_NEWEST_ONLY = frozenset({"prefixItems", "$dynamicRef", "$dynamicAnchor"})
_CONDITIONS = frozenset({"if", "then", "else"})
_BESIDE_REF = frozenset({"$ref", "definitions", "$defs", "title", "description"})
_RECURSIVE = "recursiveAnchor"


def dialect_of(content: Any) -> str | None:
    """Return the draft that a schema names, or the newest where it names none; None for one that is not read."""
    named = content.get("$schema", NEWEST) if isinstance(content, dict) else NEWEST
    scheme, _, place = named.partition("//") if isinstance(named, str) else ("", "", "")
    if scheme not in ("http:", "https:"):  # people write either
        return None
    return _BY_PLACE.get(place.removesuffix("#"))


def id_keyword(content: Any) -> str:
    """Return the keyword that holds the identifier of this schema: `$id`, or `id` in Draft 4."""
    return "id" if dialect_of(content) == _4 and "$id" not in content else "$id"


def in_newest(content: Any) -> Any:
    """Return what a schema says in Draft 2020-12, its `$id` without an empty fragment; what names no draft that is read is left."""
    dialect = dialect_of(content)
    if not isinstance(content, dict) or dialect in (None, NEWEST):
        named = content.get("$id") if isinstance(content, dict) else None
        if isinstance(named, str) and named.endswith("#"):
            return {**content, "$id": named.removesuffix("#")}
        return content
    return {**_Rewriting(content, str(dialect)).whole(), "$schema": NEWEST}


def as_written(content: Any, pointer: str) -> str:
    """Return the place in `content` of what stands at `pointer` in the rewritten schema."""
    if dialect_of(content) == NEWEST:
        return pointer
    here, steps = content, []
    for step in pointer.split("/")[1:]:
        written = _old_name(here, step)
        steps.append(written)
        here = _below(here, written.replace("~1", "/").replace("~0", "~"))
    return "".join(f"/{step}" for step in steps)


def _old_name(schema: Any, step: str) -> str:
    if not isinstance(schema, dict) or (step in schema and not _is_positional(schema)):
        return step
    if _is_positional(schema) and step in ("prefixItems", "items"):
        return "items" if step == "prefixItems" else "additionalItems"
    if step in ("$id", "$anchor") and "$id" not in schema and "id" in schema:
        return "id"
    old = {
        "dependentSchemas": "dependencies",
        "dependentRequired": "dependencies",
        "$anchor": "$id",
        "$dynamicRef": "$recursiveRef",
        "$dynamicAnchor": "$recursiveAnchor",
    }.get(step, step)
    return old if old in schema else step


def _is_positional(schema: Any) -> bool:
    return isinstance(schema, dict) and isinstance(schema.get("items"), list)


def _below(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
        return value[int(step)]
    return None


class _Rewriting:
    """Rewrites one file: every place in it that is a schema, as it stands there or since a reference names it."""

    def __init__(self, content: dict[str, Any], dialect: str) -> None:
        self._content = content
        self._is_2019 = dialect == _2019
        self._is_4 = dialect == _4
        self._id = "id" if self._is_4 else "$id"
        self._unknown = _NEWEST_ONLY if self._is_2019 else _NEWEST_ONLY | _LATER
        if self._is_4 or dialect.endswith("draft-06/schema"):
            self._unknown |= _CONDITIONS
        if self._is_4:
            self._unknown |= _LATER_THAN_4
        self._named: list[list[str]] = []
        self._written: dict[int, Any] = {}
        """All that was written as a schema, by its identity."""

    def whole(self) -> dict[str, Any]:
        written: dict[str, Any] = self._schema(self._content, self._content)
        if "$id" in self._content:
            named = self._content["$id"]
            written["$id"] = named.removesuffix("#") if isinstance(named, str) else named
        while self._named:
            self._rewrite_at(self._named.pop(), written)
        return written

    def _rewrite_at(self, steps: list[str], written: Any) -> None:
        """Rewrite what a reference names, unless it is a schema by its place."""
        old, new = self._content, written
        for step in steps[:-1]:
            old, new = _below(old, step), _below(new, self._new_name(old, step))
        last = self._new_name(old, steps[-1])
        named = _below(new, last)
        if isinstance(named, dict) and id(named) not in self._written:
            rewritten = self._schema(_below(old, steps[-1]), self._content)
            if isinstance(new, dict):
                new[last] = rewritten
            else:
                new[int(last)] = rewritten

    def _schema(self, schema: Any, root: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        if isinstance(schema.get(self._id), str) and not schema[self._id].startswith("#"):
            root = schema
        kept = schema
        if not self._is_2019 and isinstance(schema.get("$ref"), str):
            names = _BESIDE_REF | {self._id} if schema is self._content else _BESIDE_REF
            kept = {word: value for word, value in schema.items() if word in names}
        written: dict[str, Any] = {}
        for word, value in kept.items():
            if word not in self._unknown or word in ("$recursiveRef", "$recursiveAnchor"):
                written.update(self._keyword(word, value, schema, root))
        self._written[id(written)] = written
        return written

    def _keyword(
        self, word: str, value: Any, schema: dict[str, Any], root: Any
    ) -> Iterator[tuple[str, Any]]:
        if word == "$ref" and isinstance(value, str):
            yield word, self._reference(value, root)
        elif word == self._id and isinstance(value, str):
            is_anchor = value.startswith("#") and not self._is_2019
            yield ("$anchor", value[1:]) if is_anchor else ("$id", value.removesuffix("#"))
        elif self._is_4 and (word in _LIMITS or word in _LIMITS.values()):
            yield from self._limit(word, value, schema)
        elif word in ("$recursiveRef", "$recursiveAnchor"):
            yield from self._recursive(word, schema, root) if self._is_2019 else ()
        elif word == "dependencies" and not self._is_2019 and isinstance(value, dict):
            yield from self._dependencies(value, root)
        elif word == "additionalItems":
            if _is_positional(schema):
                yield "items", self._schema(value, root)
        elif word == "items" and isinstance(value, list):
            yield "prefixItems", [self._schema(one, root) for one in value]
        elif word in _BY_NAME and isinstance(value, dict):
            yield word, {name: self._schema(one, root) for name, one in value.items()}
        elif word in _IN_LIST and isinstance(value, list):
            yield word, [self._schema(one, root) for one in value]
        elif word in _SINGLE:
            yield word, self._schema(value, root)
        else:
            yield word, deepcopy(value)

    def _limit(self, word: str, value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield a limit of Draft 4, which a flag beside it may exclude."""
        excluding = next((name for name, limit in _LIMITS.items() if limit == word), None)
        if excluding is not None:
            yield excluding if schema.get(excluding) is True else word, value

    def _dependencies(self, named: dict[str, Any], root: Any) -> Iterator[tuple[str, Any]]:
        lists = {name: one for name, one in named.items() if isinstance(one, list)}
        schemas = {n: self._schema(one, root) for n, one in named.items() if n not in lists}
        if lists:
            yield "dependentRequired", lists
        if schemas:
            yield "dependentSchemas", schemas

    def _recursive(self, word: str, schema: dict[str, Any], root: Any) -> Iterator[tuple[str, Any]]:
        if word == "$recursiveAnchor":
            if schema[word] is True:
                yield "$dynamicAnchor", _RECURSIVE
        elif isinstance(root, dict) and root.get("$recursiveAnchor") is True:
            yield "$dynamicRef", f"#{_RECURSIVE}"
        else:
            yield ("$dynamicRef" if "$ref" in schema else "$ref"), "#"

    def _new_name(self, schema: Any, step: str) -> str:
        if _is_positional(schema) and step in ("items", "additionalItems"):
            return "prefixItems" if step == "items" else "items"
        named = schema.get(step) if isinstance(schema, dict) and not self._is_2019 else None
        if step == "dependencies" and isinstance(named, dict) and not _is_plain_schema(named):
            return "dependentSchemas"
        return step

    def _reference(self, reference: str, root: Any) -> str:
        """Return a reference into the same file by the names that its steps have now."""
        if not reference.startswith("#/"):
            return reference
        here, steps = root, []
        plain = [_plain(step) for step in reference.split("/")[1:]]
        for step in plain:
            steps.append(self._new_name(here, step))
            here = _below(here, step)
        if root is self._content:
            self._named.append(plain)
        return "#/" + "/".join(quote(s.replace("~", "~0").replace("/", "~1")) for s in steps)


def _plain(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")


def _is_plain_schema(value: dict[str, Any]) -> bool:
    """Say whether this is a schema of a property that is called `dependencies`, and not that keyword's value."""
    return any(isinstance(one, str | int) for one in value.values())
