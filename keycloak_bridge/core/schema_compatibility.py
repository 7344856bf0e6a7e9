"""Whether a new version of a schema takes everything that an older one took, proven keyword by keyword.

What cannot be proven counts as incompatible and says so. The proof goes along the structure of the schemas: each keyword
of the new schema must follow from what is known of a value that was valid under the old one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from referencing import Registry

from keycloak_bridge.core.schema_changes import UNPROVEN, Change, breaking
from keycloak_bridge.core.schema_inner_rules import INNER_RULES
from keycloak_bridge.core.schema_known import (
    Known,
    unevaluated_is_additional,
    unevaluated_is_items,
)
from keycloak_bridge.core.schema_places import Place, parts, same
from keycloak_bridge.core.schema_value_rules import VALUE_RULES, shown
from keycloak_bridge.core.violations import compile_schema

_MOST_STEPS = 5_000
_MOST_SHOWN = 5
_ENUMERABLE = {"null": (None,), "boolean": (True, False)}
_CLOSING = {
    "additionalProperties": "additional-properties-closed",
    "unevaluatedProperties": "additional-properties-closed",
    "items": "items-closed",
    "unevaluatedItems": "items-closed",
}
_Claim = tuple[frozenset[int], int, frozenset[tuple[int, str]]]


def incompatibilities(
    old: Place, new: Place, registry: Registry[Any], *, strict: bool = False
) -> list[Change]:
    """Return what may refuse data that was valid, and notes about properties of which nothing was said before.

    A property that is new and optional is only noted, since data that was written by the older version does not have
    it; `strict` counts it as breaking where any data could have it in another form.
    """
    try:
        changes = _Proof(registry, strict=strict).below([old], new)
    except (_TooLongError, RecursionError):
        return [Change(new.pointer(), UNPROVEN, "is too intricate to be compared")]
    return list(dict.fromkeys(changes))


class _TooLongError(Exception):
    """The proof takes more steps than any sensible schema needs."""


class _Proof:
    """One comparison; see `Prover`."""

    def __init__(self, registry: Registry[Any], *, strict: bool) -> None:
        self.strict = strict
        self._validator: Any = compile_schema({}, registry)
        self._under_way: dict[_Claim, int] = {}
        self._depth = 0
        self._steps = 0

    def below(self, old: list[Place], new: Place) -> list[Change]:
        """See `Prover`."""
        if new.is_endless():
            return [_unproven(new, "refers to itself without end")]
        self._depth += 1
        try:
            return self._changes(Known(tuple(old)), new)
        finally:
            self._depth -= 1

    def beside(self, known: Known, more: list[Place], new: Place) -> list[Change]:
        """See `Prover`."""
        return self._changes(replace(known, old=(*known.old, *more)) if more else known, new)

    def _changes(self, known: Known, new: Place) -> list[Change]:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _TooLongError
        claim = (frozenset(id(one.schema) for one in known.old), id(new.schema), known.chosen)
        begun = self._under_way.get(claim)
        if begun is not None:
            # behind a property or an item the value is smaller: this is a proof by induction
            smaller = self._depth > begun
            return [] if smaller else [_unproven(new, "refers to itself without end")]
        self._under_way[claim] = self._depth
        try:
            return self._prove(known, new)
        finally:
            del self._under_way[claim]

    def _prove(self, known: Known, new: Place) -> list[Change]:
        if new.is_trivial or not known.types or any(same(old, new) for old in known.parts):
            return []
        values = self._values(known)
        if values is not None:
            return self._refused(values, new)
        changes = [change for part in parts([new]) for change in self._part(known, part)]
        choice = _choice(known)
        if choice is None or not breaking(changes):
            return changes
        place, keyword = choice
        chosen = known.chosen | {(id(place.schema), keyword)}
        return [
            change
            for index in range(len(place.schema[keyword]))
            for change in self._changes(
                Known((*known.old, place.inside(keyword, index)), chosen), new
            )
        ]

    def _part(self, known: Known, new: Place) -> Iterator[Change]:
        """Yield what `new` itself asks that does not follow; what it refers to is asked elsewhere."""
        if new.schema is False:
            code = _CLOSING.get(str(new.path[-1]) if new.path else "", "value-refused")
            yield Change(new.pointer(), code, "refuses everything that was allowed here")
            return
        for keyword in new.schema:
            if keyword in VALUE_RULES:
                types, rule = VALUE_RULES[keyword]
                if types is None or types & known.types:
                    yield from rule(known, new, keyword)
            elif keyword in INNER_RULES:
                inner_types, inner_rule = INNER_RULES[keyword]
                if inner_types & known.types:
                    yield from inner_rule(self, known, new, keyword)
            elif keyword in _WHOLE_RULES:
                yield from _WHOLE_RULES[keyword](self, known, new, keyword)

    def _values(self, known: Known) -> list[Any] | None:
        """Return every value that was valid, None where they cannot be listed."""
        listed = [*known.all("enum"), *([value] for value in known.all("const"))]
        if listed:
            candidates = listed[0]
        elif known.types <= _ENUMERABLE.keys():
            candidates = [value for name in sorted(known.types) for value in _ENUMERABLE[name]]
        else:
            return None
        return [one for one in candidates if all(self._takes(old, one) for old in known.old)]

    def _refused(self, values: list[Any], new: Place) -> list[Change]:
        refused = [shown(value) for value in values if not self._takes(new, value)]
        if not refused:
            return []
        pointer, code = new.pointer(), "value-refused"
        for part in parts([new]):
            for keyword, its_code in (("enum", "enum-value-removed"), ("const", "const-changed")):
                if isinstance(part.schema, dict) and keyword in part.schema:
                    pointer, code = part.pointer(keyword), its_code
        more = "" if len(refused) <= _MOST_SHOWN else f" and {len(refused) - _MOST_SHOWN} more"
        return [Change(pointer, code, f"no longer takes {', '.join(refused[:_MOST_SHOWN])}{more}")]

    def _takes(self, place: Place, value: Any) -> bool:
        errors = self._validator.descend(value, place.schema, resolver=place.resolver)
        return next(iter(errors), None) is None


def _choice(known: Known) -> tuple[Place, str] | None:
    """Return the next choice between schemas of which one held, None when all were made."""
    for keyword in ("anyOf", "oneOf"):
        for part in known.having(keyword):
            if (id(part.schema), keyword) not in known.chosen:
                return part, keyword
    return None


def _any_of(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Every value has one of the forms, each type of value perhaps another."""
    forms = [new.inside(keyword, index) for index in range(len(new.schema[keyword]))]
    whole = _first_that_takes(proof, known, [], forms)
    if whole is not None:
        yield from whole
        return
    types = known.types - {"fraction"} | ({"number"} if "fraction" in known.types else set())
    types -= {"integer"} if "number" in types else set()
    for name in sorted(types):
        found = None
        if len(types) > 1:
            found = _first_that_takes(proof, known, [new.of_type(name)], forms)
        if found is None:
            reason = "that one of the forms takes everything that was valid cannot be proven"
            yield Change(new.pointer(keyword), "any-of-changed", reason)
            return
        yield from found


def _first_that_takes(
    proof: _Proof, known: Known, more: list[Place], forms: list[Place]
) -> list[Change] | None:
    for form in forms:
        changes = proof.beside(known, more, form)
        if not breaking(changes):
            return changes
    return None


def _one_of(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The same choice was there before, or the type of a value tells which form it has."""
    if any(_same_list(old, new, keyword) for old in known.having(keyword)):
        return
    forms = [new.inside(keyword, index) for index in range(len(new.schema[keyword]))]
    for name in sorted(known.types):
        fitting = [form for form in forms if name in Known((form,)).types]
        more = [new.of_type("number" if name == "fraction" else name)]
        found = _first_that_takes(proof, known, more, fitting)
        if len(fitting) != 1 or found is None:
            yield _unproven(new, "that exactly one of the forms fits cannot be proven", keyword)
            return
        yield from found


def _same_list(old: Place, new: Place, keyword: str) -> bool:
    count = len(new.schema[keyword])
    return len(old.schema[keyword]) == count and all(
        same(old.inside(keyword, index), new.inside(keyword, index)) for index in range(count)
    )


def _not(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """The same was excluded before."""
    excluded = new.inside(keyword)
    if not any(same(old.inside(keyword), excluded) for old in known.having(keyword)):
        yield _unproven(new, "that nothing valid is excluded cannot be proven", keyword)


def _if(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The condition stood there before, and what follows from it takes what it took; or it asks nothing."""
    branches = [new.inside(one) for one in ("then", "else") if one in new.schema]
    if all(branch.is_trivial for branch in branches):
        return
    for old in known.having(keyword):
        if same(old.inside(keyword), new.inside(keyword)):
            for one in ("then", "else"):
                if one in new.schema:
                    before = [old.inside(one)] if one in old.schema else []
                    yield from proof.beside(known, before, new.inside(one))
            return
    for branch in branches:
        if breaking(proof.beside(known, [], branch)):
            yield _unproven(
                new, "that the condition takes what was valid cannot be proven", keyword
            )
            return


def _listed(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """Whatever was valid could not be listed, so it is more than this list."""
    yield Change(new.pointer(keyword), f"{keyword}-added", "refuses all values but those listed")


def _unevaluated(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """What is left over takes what it took, where the schema stands alone."""
    inner = new.inside(keyword)
    of_objects = keyword == "unevaluatedProperties"
    if inner.is_trivial or ("object" if of_objects else "array") not in known.types:
        return
    if of_objects and unevaluated_is_additional(new):
        yield from INNER_RULES["additionalProperties"][1](proof, known, new, keyword)
    elif not of_objects and unevaluated_is_items(new):
        yield from INNER_RULES["items"][1](proof, known, new, keyword)
    else:
        yield _unproven(new, "what is left over beside other schemas cannot be told", keyword)


def _dynamic(proof: _Proof, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    yield _unproven(new, "what it refers to depends on where validation begins", keyword)


def _unproven(new: Place, reason: str, *steps: str) -> Change:
    return Change(new.pointer(*steps), UNPROVEN, reason)


_WHOLE_RULES = {
    "const": _listed,
    "enum": _listed,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "$dynamicRef": _dynamic,
    "unevaluatedItems": _unevaluated,
    "unevaluatedProperties": _unevaluated,
}
_FOLLOWED = {"$ref", "allOf"}
"""Parts of the same schema: `parts` follows them."""

DECIDED = frozenset({*VALUE_RULES, *INNER_RULES, *_WHOLE_RULES, *_FOLLOWED})
"""Every keyword that is compared; `then`, `else`, `minContains` and `maxContains` with theirs."""
