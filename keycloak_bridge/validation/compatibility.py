"""Whether a new version of a schema accepts everything that an older version accepted.

Each keyword of the new schema must follow from what the old schema says of a valid value. The keywords that schemas of
events use are compared; any other keyword must be unchanged. What cannot be proven counts as incompatible and says so.
Beside that there are notes for those who read the data: what a compatible version may bring that they do not expect.
Published versions are also compared with their recorded SHA-256.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import inf
from typing import Any

from referencing import Registry

from keycloak_bridge.domain.patterns import compile_pattern
from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.validation.documents import SchemaDocument, check_documents
from keycloak_bridge.validation.subschema import (
    TYPES,
    Subschema,
    applied,
    endless,
    same,
    same_value,
    types_of,
)
from keycloak_bridge.validation.validator import compile_schema

UNPROVEN = "unproven"

_MOST_STEPS = 5_000
_MOST_SHOWN = 5
_LONGEST_TEXT = 80


@dataclass(frozen=True, slots=True)
class Change:
    """One change: where (JSON pointer into the new schema), a stable code, and what it means.

    A `breaking` one may refuse data that was valid; any other is a note for those who read the data.
    """

    pointer: str
    code: str
    message: str
    breaking: bool = True


def breaking(changes: Sequence[Change]) -> list[Change]:
    """Return those of `changes` that may refuse data that was valid."""
    return [change for change in changes if change.breaking]


@dataclass(frozen=True, slots=True)
class Finding:
    """A change of the version in `file` against the `older` one, or a published version that is not what it was."""

    file: str
    pointer: str
    code: str
    message: str
    breaking: bool = True
    older: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.pointer}" if self.pointer else self.file
        against = f" (against {self.older})" if self.older else ""
        return f"{where}: {self.message}{against} [{self.code}]"


def compare_versions(
    documents: Sequence[SchemaDocument], *, strict: bool = False
) -> Iterator[Finding]:
    """Compare each version with every earlier one of its major version, the nearest first.

    What the comparison with a nearer one reports already is not repeated. Raises ConfigError for unsound schemas.
    """
    registry = check_documents(documents)
    ordered = sorted(documents, key=lambda document: (document.type, document.version))
    for new in ordered:
        reported: set[Change] = set()
        for old in reversed(ordered):
            is_of_major = (old.type, old.version[0]) == (new.type, new.version[0])
            if not is_of_major or old.version >= new.version:
                continue
            before, after = (Subschema.root(one.schema, registry) for one in (old, new))
            changes = [
                *incompatibilities(before, after, registry, strict=strict),
                *reader_notes(before, after),
            ]
            for one in changes:
                if one not in reported:
                    reported.add(one)
                    where = new.as_written(one.pointer) or "/"
                    yield Finding(
                        new.origin, where, one.code, one.message, one.breaking, old.number
                    )


def incompatibilities(
    old: Subschema, new: Subschema, registry: Registry[Any], *, strict: bool = False
) -> list[Change]:
    """Return what may refuse data that was valid, and notes about properties that were not described before.

    A property that is new and optional is only noted, since data that was written by the older version does not have
    it; `strict` counts it as breaking where any data could have it in another form.
    """
    try:
        changes = _Proof(registry, strict=strict).below([old], new)
    except (_TooLongError, RecursionError):
        return [_unproven(new, "is too intricate to be compared")]
    return list(dict.fromkeys(changes))


def reader_notes(old: Subschema, new: Subschema) -> list[Change]:
    """Return what readers of the older version may miss or not expect in data of the new one."""
    return list(dict.fromkeys(_notes([old], [new], set())))


@dataclass(frozen=True, slots=True)
class _Known:
    """What holds for a value that is valid under all schemas in `old`."""

    old: tuple[Subschema, ...]
    parts: tuple[Subschema, ...] = field(init=False)
    types: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        parts = applied(self.old)
        types = reduce(frozenset.intersection, (types_of(one.schema) for one in parts), TYPES)
        impossible = any(one.schema is False for one in parts)
        object.__setattr__(self, "parts", tuple(one for one in parts if one.schema is not False))
        object.__setattr__(self, "types", frozenset() if impossible else types)

    def having(self, keyword: str) -> list[Subschema]:
        return [part for part in self.parts if keyword in part.schema]

    def all(self, keyword: str) -> list[Any]:
        return [part.schema[keyword] for part in self.having(keyword)]

    @property
    def named(self) -> list[str]:
        return sorted({name for properties in self.all("properties") for name in properties})

    @property
    def required(self) -> set[str]:
        return {name for names in self.all("required") for name in names}

    def properties(self, name: str) -> list[Subschema]:
        """Return what holds for the property, where it is present."""
        found: list[Subschema] = []
        for part in self.parts:
            steps = [
                ("patternProperties", pattern)
                for pattern in part.get("patternProperties")
                if compile_pattern(pattern).is_in(name)
            ]
            if name in part.get("properties"):
                steps.append(("properties", name))
            found += [part.inside(*one) for one in steps] or part.under("additionalProperties")
        return [one for one in found if not one.is_trivial]

    def other_properties(self, patterns: Mapping[str, Any]) -> list[Subschema]:
        """Return what holds for a property that nothing names and none of `patterns` matches."""
        parts = [one for one in self.parts if set(one.get("patternProperties")) <= set(patterns)]
        found = [inner for part in parts for inner in part.under("additionalProperties")]
        return [one for one in found if not one.is_trivial]

    def items(self, first: int) -> list[Subschema]:
        """Return what holds for the items after the `first` ones."""
        parts = [one for one in self.having("items") if len(one.get("prefixItems")) <= first]
        return [part.inside("items") for part in parts]

    def mentions(self, name: str) -> bool:
        """Say whether the schemas say anything of the property, even under a condition only.

        An object of which no property is described may have any property: it is free in form.
        """
        names: set[str] = set()
        for one in same_value(self.parts):
            dependents = one.get("dependentRequired", {})
            names.update(one.get("properties"), one.get("required"), one.get("dependentSchemas"))
            names.update(dependents, *dependents.values())
            others = [*one.under("additionalProperties", "unevaluatedProperties")]
            patterned = one.get("patternProperties") or one.get("$dynamicRef")
            if patterned or any(not other.is_trivial for other in others):
                return True
        return name in names or not names


class _TooLongError(Exception):
    """The proof takes more steps than any sensible schema needs."""


class _Proof:
    """One comparison."""

    def __init__(self, registry: Registry[Any], *, strict: bool) -> None:
        self.strict = strict
        self._validator: Any = compile_schema({}, registry)
        self._under_way: set[tuple[frozenset[int], int]] = set()
        self._steps = 0

    def below(self, old: Sequence[Subschema], new: Subschema) -> list[Change]:
        """Return what keeps a property or an item that is valid under all of `old` from being valid under `new`."""
        if endless(new) is not None:
            return [_unproven(new, "refers to itself without end")]
        claim = (frozenset(id(one.schema) for one in old), id(new.schema))
        if claim in self._under_way:
            return []  # the value is smaller than the one of the same claim above: a proof by induction
        self._under_way.add(claim)
        try:
            return self.follows(_Known(tuple(old)), new)
        finally:
            self._under_way.remove(claim)

    def follows(self, known: _Known, new: Subschema, *, by_cases: bool = True) -> list[Change]:
        """Return what keeps the value that `known` is about from being valid under `new`."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooLongError
        if new.is_trivial or not known.types or any(same(old, new) for old in known.parts):
            return []
        listed = [*known.all("enum"), *([value] for value in known.all("const"))]
        if listed:
            values = [one for one in listed[0] if all(self._accepts(old, one) for old in known.old)]
            return self._refused(values, new)
        changes = [change for part in applied([new]) for change in self._part(known, part)]
        if not by_cases or not breaking(changes):
            return changes
        for keyword in ("anyOf", "oneOf"):
            for part in known.having(keyword):
                cases = [
                    self.follows(_Known((*known.old, form)), new, by_cases=False)
                    for form in part.under(keyword)
                ]
                if not any(map(breaking, cases)):
                    return [change for case in cases for change in case]
        return changes

    def _part(self, known: _Known, new: Subschema) -> Iterator[Change]:
        """Yield what the keywords of `new` itself refuse."""
        if new.schema is False:
            code = _CLOSING.get(str(new.path[-1]) if new.path else "", "value-refused")
            yield Change(new.pointer(), code, "refuses everything that was allowed here")
            return
        for keyword in new.asserting():
            is_about_it = not known.types.isdisjoint(_ABOUT.get(keyword, TYPES))
            if is_about_it and keyword not in _BESIDE_OTHERS:
                yield from _RULES.get(keyword, _unchanged)(self, known, new, keyword)

    def _refused(self, values: list[Any], new: Subschema) -> list[Change]:
        refused = [_shown(value) for value in values if not self._accepts(new, value)]
        if not refused:
            return []
        at, code = new.pointer(), "value-refused"
        for part in applied([new]):
            for keyword, its_code in (("enum", "enum-value-removed"), ("const", "const-changed")):
                if part.get(keyword, None) is not None:
                    at, code = part.pointer(keyword), its_code
        more = "" if len(refused) <= _MOST_SHOWN else f" and {len(refused) - _MOST_SHOWN} more"
        return [Change(at, code, f"no longer takes {', '.join(refused[:_MOST_SHOWN])}{more}")]

    def _accepts(self, place: Subschema, value: Any) -> bool:
        errors = self._validator.descend(value, place.schema, resolver=place.resolver)
        return next(iter(errors), None) is None


_Rule = Callable[[_Proof, _Known, Subschema, str], Iterator[Change]]


def _type(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    lost = known.types - types_of(new.schema)
    if lost:
        code = "type-narrowed" if known.types - lost else "type-changed"
        yield Change(new.pointer(keyword), code, f"no longer takes {_type_names(lost)}")


def _bound(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """A bound of numbers, lengths or counts is no tighter than it was."""
    inclusive, exclusive, sign = _BOUNDS[keyword]
    # the largest of these pairs is the strictest: an exclusive bound refuses more than an equal one
    before = [(sign * value, 0) for value in known.all(inclusive)]
    before += [(sign * value, 1) for value in known.all(exclusive)]
    if inclusive.startswith("min") and inclusive != "minimum":
        before.append((0, 0))
    value = new.schema[keyword]
    strictest = max(before, default=(-inf, 0))
    if strictest < (sign * value, int(keyword == exclusive)):
        was = f"it was {sign * strictest[0]}" if before else "there was no such bound"
        yield Change(new.pointer(keyword), "bound-tightened", f"is {value} now, {was}")


def _pattern(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """Only the same pattern is known to match the same texts."""
    pattern, before = new.schema[keyword], known.all(keyword)
    if before and pattern not in before:
        message = (
            f"is {_shown(pattern)} now; that it takes every text that matched {_shown(before[0])} "
            "cannot be proven"
        )
        yield Change(new.pointer(keyword), "pattern-changed", message)
    elif not before:
        yield Change(
            new.pointer(keyword), "pattern-added", f"refuses texts unlike {_shown(pattern)}"
        )


def _format(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    name, before = new.schema[keyword], known.all(keyword)
    if name in FORMATS and name not in before:
        code = "format-changed" if before else "format-added"
        yield Change(new.pointer(keyword), code, f"refuses texts that are no {name}")


def _listed(_: _Proof, __: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """The values that were valid could not be listed, so there are more than these."""
    yield Change(new.pointer(keyword), f"{keyword}-added", "refuses all values but those listed")


def _required(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    for index, name in enumerate(new.schema[keyword]):
        if name not in known.required:
            message = f"refuses data without the property {_shown(name)}, which was optional"
            yield Change(new.pointer(keyword, index), "required-added", message)


def _properties(proof: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """A property accepts what it accepted; one that is new may have any schema."""
    for name in new.schema[keyword]:
        place, before = new.inside(keyword, name), known.properties(name)
        changes = proof.below(before, place)
        if breaking(changes) and not before and not known.mentions(name):
            message = (
                f"describes the property {_shown(name)}, of which nothing was said: data that has "
                "it in another form already will be refused"
            )
            yield Change(place.pointer(), "property-added", message, breaking=proof.strict)
        else:
            yield from changes


def _additional(proof: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """Properties that the new schema does not describe accept what they accepted."""
    place, patterns = new.inside(keyword), new.get("patternProperties", {})
    for name in known.named:
        matches = any(compile_pattern(pattern).is_in(name) for pattern in patterns)
        if matches or name in new.get("properties"):
            continue
        changes = proof.below(known.properties(name), place)
        if place.schema is False and breaking(changes):
            message = f"no longer allows the property {_shown(name)}"
            yield Change(place.pointer(), "property-removed", message)
        else:
            yield from changes
    yield from proof.below(known.other_properties(patterns), place)


def _items(proof: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """Items behind `prefixItems` accept what they accepted."""
    yield from proof.below(known.items(len(new.get("prefixItems"))), new.inside(keyword))


def _any_of(proof: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """One of the forms accepts everything."""
    for form in new.under(keyword):
        changes = proof.follows(known, form, by_cases=False)
        if not breaking(changes):
            yield from changes
            return
    reason = "that one of the forms takes everything that was valid cannot be proven"
    yield Change(new.pointer(keyword), "any-of-changed", reason)


def _one_of(proof: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """The choice is the same, or the type of a value allows one form only, which accepts everything."""
    if any(_same_at(old, new, keyword) for old in known.having(keyword)):
        return
    fitting = [form for form in new.under(keyword) if _Known((form,)).types & known.types]
    if len(fitting) == 1:
        changes = proof.follows(known, fitting[0], by_cases=False)
        if not breaking(changes):
            yield from changes
            return
    yield _unproven(new, "that exactly one of the forms fits cannot be proven", keyword)


def _unchanged(_: _Proof, known: _Known, new: Subschema, keyword: str) -> Iterator[Change]:
    """A keyword that is not compared is the same as before, with those that belong to it."""
    together = [keyword, *_TOGETHER.get(keyword, ())]
    unchanged = any(_same_at(old, new, *together) for old in known.having(keyword))
    if keyword in _OF_THE_WHOLE or not unchanged:
        reason = "that everything that was valid is still taken cannot be proven"
        yield Change(new.pointer(keyword), _CHANGED.get(keyword, UNPROVEN), reason)


def _same_at(old: Subschema, new: Subschema, *keywords: str) -> bool:
    """Say whether two schemas, reduced to `keywords`, assert the same."""

    def reduced(place: Subschema) -> Subschema:
        some = {word: value for word, value in place.schema.items() if word in keywords}
        return Subschema(some, place.resolver)

    return same(reduced(old), reduced(new))


def _unproven(new: Subschema, reason: str, *steps: str) -> Change:
    return Change(new.pointer(*steps), UNPROVEN, reason)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _type_names(types: frozenset[str]) -> str:
    if {"integer", "fraction"} <= types:
        types = types - {"integer", "fraction"} | {"number"}
    return ", ".join(sorted(_TYPE_NAMES[one] for one in types))


_TYPE_NAMES = {
    "array": "lists",
    "boolean": "true and false",
    "fraction": "other numbers",
    "integer": "whole numbers",
    "null": "null",
    "number": "numbers",
    "object": "objects",
    "string": "texts",
}
_KEYWORDS_OF = {
    ("integer", "fraction"): "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
    ("string",): "minLength maxLength pattern format",
    ("array",): "items prefixItems contains minItems maxItems uniqueItems unevaluatedItems",
    ("object",): "properties patternProperties additionalProperties unevaluatedProperties required "
    "propertyNames dependentRequired dependentSchemas minProperties maxProperties",
}
_ABOUT = {
    keyword: frozenset(types)
    for types, keywords in _KEYWORDS_OF.items()
    for keyword in keywords.split()
}
"""The types that a keyword is about; one that is not listed is about all."""

_BOUNDS: Mapping[str, tuple[str, str, int]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum"), ("minimum", "exclusiveMinimum", 1)),
    **dict.fromkeys(("maximum", "exclusiveMaximum"), ("maximum", "exclusiveMaximum", -1)),
    **{word: (word, "", 1) for word in ("minLength", "minItems", "minProperties")},
    **{word: (word, "", -1) for word in ("maxLength", "maxItems", "maxProperties")},
}
"""Each bound with its inclusive and exclusive keyword, and 1 for a lower, -1 for an upper one."""

_RULES: Mapping[str, _Rule] = {
    "type": _type,
    "pattern": _pattern,
    "format": _format,
    "const": _listed,
    "enum": _listed,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "anyOf": _any_of,
    "oneOf": _one_of,
    **dict.fromkeys(_BOUNDS, _bound),
}
_OF_THE_WHOLE = {"unevaluatedItems", "unevaluatedProperties", "$dynamicRef"}
"""What these mean depends on the schemas around them."""

_TOGETHER = {"contains": ("minContains", "maxContains"), "if": ("then", "else")}
_BESIDE_OTHERS = {"$ref", "allOf", "then", "else", "minContains", "maxContains"}
"""`applied` follows the first two; the others mean nothing without their keyword."""

_CHANGED = {
    "contains": "contains-changed",
    "dependentRequired": "dependent-required-added",
    "multipleOf": "multiple-of-changed",
    "uniqueItems": "unique-items-added",
}
_CLOSING = {"additionalProperties": "additional-properties-closed", "items": "items-closed"}


def _notes(
    old: Sequence[Subschema], new: Sequence[Subschema], seen: set[tuple[int, ...]]
) -> Iterator[Change]:
    """Yield the notes about a value; `new` is empty where its schema says nothing of it."""
    before, after = _Known(tuple(old)), _Known(tuple(new))
    pair = (*(id(one.schema) for one in before.parts), 0, *(id(one.schema) for one in after.parts))
    if not before.parts or not new or pair in seen:
        return
    seen.add(pair)
    wider = after.types - before.types
    if before.types and wider:
        yield _note(new[0], "type-widened", f"readers may meet {_type_names(wider)} now", "type")
    if before.all("enum"):
        for part in after.having("enum")[:1]:
            added = [one for one in part.schema["enum"] if one not in before.all("enum")[0]]
            listed = ", ".join(map(_shown, added))
            if added:
                yield _note(part, "enum-value-added", f"readers may meet {listed} now", "enum")
    if "object" in before.types & after.types:
        for name in sorted(before.required - after.required):
            reason = f"readers may miss the property {_shown(name)} now"
            yield _note(new[0], "required-removed", reason, "required")
        for name in before.named:
            schemas = after.properties(name)
            if name not in after.named and not schemas:
                reason = f"the property {_shown(name)} is no longer described to readers"
                yield _note(new[0], "property-removed", reason, "properties")
            else:
                yield from _notes(before.properties(name), schemas, seen)
    if "array" in before.types & after.types:
        yield from _notes(before.items(0), after.items(0), seen)


def _note(new: Subschema, code: str, message: str, *steps: str) -> Change:
    return Change(new.pointer(*steps), code, message, breaking=False)


def publication_problems(
    documents: Sequence[SchemaDocument], published: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield every version of `published`, SHA-256 by name, whose file has changed or is gone."""
    present = {document.name: document for document in documents}
    for name, digest in sorted(published.items()):
        document = present.get(name)
        if document is None:
            yield Finding(name, "", "published-removed", "was published and is not there")
        elif document.digest != digest:
            message = "was published and has changed since"
            yield Finding(document.origin, "", "published-changed", message)
