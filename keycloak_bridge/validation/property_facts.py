"""What a JSON Schema says of one property: how long its texts are, which values it has, whether it is required."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.validation.subschema import TYPES, Path, Subschema, applied, types_of

_ALTERNATIVES = ("anyOf", "oneOf", "if", "not", "dependentSchemas", "$dynamicRef")
_SHORT_FORMATS = frozenset(("date", "date-time", "ipv4", "ipv6", "time", "uuid"))
_WIDTH_PART = re.compile(
    r"(?P<one>\\[dDwWsS.+*?^$|/-]|\[(?:\\.|[^\]\\])*\]|[^\\\[\](){}|*+?^$])"
    r"(?P<times>\{(?P<least>[0-9]+)(?P<more>,(?P<most>[0-9]*))?\}|[*+?])?"
)


@dataclass(frozen=True, slots=True)
class PropertyFacts:
    """What holds for every value of a property; `partial` when the schema says more, in alternatives."""

    types: frozenset[str] = TYPES
    required: bool = False
    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    formats: frozenset[str] = frozenset()
    values: tuple[Any, ...] | None = None
    max_items: int | None = None
    item: "PropertyFacts | None" = None
    partial: bool = False

    @property
    def may_be_endless(self) -> bool:
        """Whether nothing in the schema limits the length of a text."""
        if self.max_length is not None or self.values is not None or self.partial:
            return False
        if "string" not in self.types or self.formats & _SHORT_FORMATS:
            return False
        return all(_has_no_end(pattern) for pattern in self.patterns)

    @property
    def longest(self) -> int | None:
        """The greatest length of a text, where it is known."""
        widths = [width for pattern in self.patterns if (width := widest(pattern)) is not None]
        limits = [*widths, *([] if self.max_length is None else [self.max_length])]
        return min(limits, default=None)


def property_facts(schema: Subschema, path: Path) -> PropertyFacts | None:
    """Return what `schema` says of the property at `path`; None where it does not describe it by name."""
    here = applied([schema])
    required, partial = True, False
    for name in path:
        named = [one for one in here if name in one.get("properties", {})]
        if not named:
            return None
        required = required and any(name in one.get("required") for one in here)
        partial = partial or _has_alternatives(here)
        inner = [one.inside("properties", name) for one in named]
        here = (*applied(inner), *(one for one in inner if one.is_trivial))
    return _facts(here, required=required, partial=partial)


def widest(pattern: str) -> int | None:
    """Return how long a text that matches the whole pattern can be; None where that is unlimited or hard to tell."""
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        return None
    body, position, width = pattern[1:-1], 0, 0
    while position < len(body):
        part = _WIDTH_PART.match(body, position)
        if part is None:
            return None
        most = _most(part)
        if most is None:
            return None
        width += most
        position = part.end()
    return width


def _most(part: re.Match[str]) -> int | None:
    times = part["times"]
    if times is None or times == "?":
        return 1
    if times in ("*", "+"):
        return None
    if part["more"] is None:
        return int(part["least"])
    return int(part["most"]) if part["most"] else None


def _has_no_end(pattern: str) -> bool:
    """Say whether the pattern is one that certainly limits no length; of a complicated one nothing is said."""
    if widest(pattern) is not None:
        return False
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return not anchored or not re.search(r"[(|{\\]", pattern)


def _facts(places: Sequence[Subschema], *, required: bool, partial: bool) -> PropertyFacts:
    schemas = [one.schema for one in places if isinstance(one.schema, dict)]
    items = [inner for one in places for inner in one.under("items")]
    values = [tuple(one["enum"]) for one in schemas if "enum" in one]
    values += [(one["const"],) for one in schemas if "const" in one]
    return PropertyFacts(
        types=frozenset.intersection(TYPES, *map(types_of, schemas)),
        required=required,
        min_length=max((one.get("minLength", 0) for one in schemas), default=0),
        max_length=_least(schemas, "maxLength"),
        patterns=tuple(one["pattern"] for one in schemas if "pattern" in one),
        formats=frozenset(one["format"] for one in schemas if "format" in one),
        values=min(values, key=len, default=None),
        max_items=_least(schemas, "maxItems"),
        item=_facts(applied(items), required=False, partial=partial) if items else None,
        partial=partial or _has_alternatives(places),
    )


def _least(schemas: Sequence[dict[str, Any]], keyword: str) -> int | None:
    return min((int(one[keyword]) for one in schemas if keyword in one), default=None)


def _has_alternatives(places: Sequence[Subschema]) -> bool:
    return any(one.get(word, None) is not None for one in places for word in _ALTERNATIVES)
