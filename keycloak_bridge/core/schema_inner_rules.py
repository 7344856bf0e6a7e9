"""When rules about properties and items take everything that was valid before."""

from collections.abc import Callable, Iterator, Mapping

from keycloak_bridge.core.patterns import compile_pattern
from keycloak_bridge.core.schema_changes import PROPERTY_ADDED, Change, breaking
from keycloak_bridge.core.schema_known import Known, Prover
from keycloak_bridge.core.schema_places import Place, same
from keycloak_bridge.core.schema_value_rules import shown

Rule = Callable[[Prover, Known, Place, str], Iterator[Change]]


def required(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """Whatever is required was required before."""
    for index, name in enumerate(new.schema[keyword]):
        if name not in known.required:
            yield Change(
                new.pointer(keyword, index),
                "required-added",
                f"refuses data without the property {shown(name)}, which was optional",
            )


def dependent_required(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Whatever a property requires it required before."""
    for name, others in new.schema[keyword].items():
        before = {
            one for dependents in known.all(keyword) for one in dependents.get(name, ())
        } | known.required
        added = [other for other in others if other not in before]
        if added and not _is_never_there(prover, known, name):
            yield Change(
                new.pointer(keyword, name),
                "dependent-required-added",
                f"refuses data with {shown(name)} and without {shown(added[0])}",
            )


def dependent_schemas(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """What a property asks of the whole was asked before."""
    for name in new.schema[keyword]:
        if not _is_never_there(prover, known, name):
            before = [
                part.inside(keyword, name)
                for part in known.having(keyword)
                if name in part.schema[keyword]
            ]
            yield from prover.beside(known, before, new.inside(keyword, name))


def _is_never_there(prover: Prover, known: Known, name: str) -> bool:
    """Say whether no data has the property, or none that was written by the older version."""
    places = known.property_places(name)
    if any(place.schema is False for place in places):
        return True
    return _is_new(prover, known, name, places)


def _is_new(prover: Prover, known: Known, name: str, places: list[Place]) -> bool:
    return not prover.strict and not places and not known.mentioned().covers(name)


def properties(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """A property takes what it took; one that is new takes what it likes."""
    for name in new.schema[keyword]:
        place = new.inside(keyword, name)
        before = known.property_places(name)
        changes = prover.below(before, place)
        if breaking(changes) and not before and not known.mentioned().covers(name):
            yield _added(prover, place, f"the property {shown(name)}")
        else:
            yield from changes


def pattern_properties(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Properties whose names match take what they took."""
    for pattern in new.schema[keyword]:
        place = new.inside(keyword, pattern)
        mentioned = known.mentioned()
        named = known.named
        for name in filter(compile_pattern(pattern).search, named):
            yield from prover.below(known.property_places(name), place)
        before = known.matching_places(pattern)
        changes = prover.below(before, place)
        others = [one for one in mentioned.names if one not in named]
        silent = not mentioned.everything and not mentioned.patterns
        silent = silent and not any(map(compile_pattern(pattern).search, others))
        if breaking(changes) and not before and silent:
            yield _added(prover, place, f"properties like {shown(pattern)}")
        else:
            yield from changes


def _added(prover: Prover, place: Place, what: str) -> Change:
    return Change(
        place.pointer(),
        PROPERTY_ADDED,
        f"describes {what}, of which nothing was said: data that has it in another form already will be refused",
        breaking=prover.strict,
    )


def additional_properties(
    prover: Prover, known: Known, new: Place, keyword: str
) -> Iterator[Change]:
    """Properties that are not described here take what they took."""
    place = new.inside(keyword)
    named = new.schema.get("properties", ())
    patterns = new.schema.get("patternProperties", ())
    for name in known.named:
        if name in named or any(compile_pattern(one).search(name) for one in patterns):
            continue
        changes = prover.below(known.property_places(name), place)
        if place.schema is False and breaking(changes):
            yield Change(
                place.pointer(), "property-removed", f"no longer allows the property {shown(name)}"
            )
        else:
            yield from changes
    for pattern in sorted(known.patterns):
        if pattern not in patterns:
            yield from prover.below(known.matching_places(pattern), place)
    yield from prover.below(known.other_places(), place)


def property_names(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Names that were allowed are allowed."""
    before = [part.inside(keyword) for part in known.having(keyword)]
    yield from prover.below([*before, new.of_type("string")], new.inside(keyword))


def prefix_items(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """Each item takes what it took."""
    for index in range(len(new.schema[keyword])):
        if index < known.most_items:
            yield from prover.below(known.item_places(index), new.inside(keyword, index))


def items(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:
    """The other items take what they took."""
    first = len(new.schema.get("prefixItems", ()))
    others = max([first, *map(len, known.all("prefixItems"))])
    for index in range(first, others + 1):
        if index < known.most_items:
            yield from prover.below(known.item_places(index), new.inside(keyword))


def contains(prover: Prover, known: Known, new: Place, keyword: str) -> Iterator[Change]:  # noqa: ARG001
    """As many items of the same form were asked for before."""
    least, most = new.schema.get("minContains", 1), new.schema.get("maxContains")
    for part in known.having(keyword):
        before = part.schema.get("maxContains")
        enough = part.schema.get("minContains", 1) >= least
        few = most is None or (before is not None and before <= most)
        if enough and few and same(part.inside(keyword), new.inside(keyword)):
            return
    if least > 0 or most is not None:
        yield Change(
            new.pointer(keyword),
            "contains-changed",
            "asks for items that were not asked for; that every list has them cannot be proven",
        )


_LISTS = frozenset({"array"})
_OBJECTS = frozenset({"object"})

INNER_RULES: Mapping[str, tuple[frozenset[str], Rule]] = {
    "required": (_OBJECTS, required),
    "dependentRequired": (_OBJECTS, dependent_required),
    "dependentSchemas": (_OBJECTS, dependent_schemas),
    "properties": (_OBJECTS, properties),
    "patternProperties": (_OBJECTS, pattern_properties),
    "additionalProperties": (_OBJECTS, additional_properties),
    "propertyNames": (_OBJECTS, property_names),
    "prefixItems": (_LISTS, prefix_items),
    "items": (_LISTS, items),
    "contains": (_LISTS, contains),
}
"""Each keyword with the types that it is about and its rule."""
