"""Hold what a schema allows for a property to what the realm's user profile takes of the attribute made from it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keycloak_bridge.core.findings import Finding, MappedTarget, Severity
from keycloak_bridge.core.profile import ProfileAttribute, judge_values
from keycloak_bridge.core.profile_validators import (
    Answer,
    java_pattern,
    judge_value,
    length_limits,
    options_of,
)
from keycloak_bridge.core.property_facts import PropertyFacts

_MOST_VALUES_TOLD = 5
_PAGE = "Realm settings > User profile"
_NUMBERS = frozenset(("integer", "double"))
_ANY_TEXT = (".*", r"[^\n\r\x85\u2028\u2029]*")


def value_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    """Yield what the profile may refuse of the values that the schema allows, version by version."""
    for facts in target.facts:
        yield from _list_findings(attribute, target, facts)
        text = facts.item if facts.item is not None and "string" not in facts.types else facts
        yield from _value_findings(attribute, target, text)


def default_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    """Yield what the profile refuses of the value that the mapping gives by itself."""
    if target.default is None:
        return
    given = target.default if isinstance(target.default, list | tuple) else [target.default]
    refused, _ = judge_values(attribute, list(map(_text, given)))
    if refused:
        yield Finding(
            "attribute-default",
            Severity.ERROR,
            target.target,
            f"Keycloak would refuse the mapping's own value for {target.name}: it "
            f"{refused[0].message}",
            f"change the default in the mapping, or the rule under {_PAGE} > {target.name}",
        )


def _list_findings(
    attribute: ProfileAttribute, target: MappedTarget, facts: PropertyFacts
) -> Iterator[Finding]:
    # a schema that names no type says nothing about lists either
    if attribute.multivalued or "array" not in facts.types or "object" in facts.types:
        return
    if facts.max_items is None or facts.max_items > 1:
        yield _warning(
            "attribute-multivalued",
            target,
            "the schema allows a list, and the profile takes a single value",
            f"switch on 'Multivalued' under {_PAGE} > {target.name}, or map only one of the values",
        )


def _value_findings(
    attribute: ProfileAttribute, target: MappedTarget, facts: PropertyFacts
) -> Iterator[Finding]:
    if facts.values is not None:
        yield from _enumerated_findings(attribute, target, facts.values)
        return
    if "string" not in facts.types:
        return
    validations = attribute.validations
    if "length" in validations:
        yield from _length_findings(validations["length"], target, facts)
    if "pattern" in validations:
        yield from _pattern_findings(str(validations["pattern"].get("pattern", "")), target, facts)
    options = options_of(validations["options"]) if "options" in validations else None
    if options is not None and not facts.partial:
        yield _warning(
            "attribute-options",
            target,
            "the profile takes a few options only, and the schema allows any text",
            f"list the same values in the schema as enum, or take the options away under {_PAGE}",
        )
    for validator in sorted(_NUMBERS & set(validations)):
        if not facts.patterns and not facts.partial:
            yield _warning(
                "attribute-number",
                target,
                f"the profile takes only numbers ({validator}), and the schema allows any text",
                "let the schema say so by type or pattern, or take the rule away "
                f"under {_PAGE} > {target.name}",
            )


def _enumerated_findings(
    attribute: ProfileAttribute, target: MappedTarget, values: Sequence[Any]
) -> Iterator[Finding]:
    refused = [
        text
        for text in (_text(value) for value in values if value is not None)
        if any(
            judge_value(validator, config, text) is Answer.REFUSED
            for validator, config in attribute.validations.items()
        )
    ]
    if not refused:
        return
    told = ", ".join(repr(one) for one in refused[:_MOST_VALUES_TOLD])
    more = ", …" if len(refused) > _MOST_VALUES_TOLD else ""
    yield _warning(
        "attribute-options",
        target,
        f"the profile refuses {len(refused)} of the {len(values)} values that the schema allows: {told}{more}",
        f"allow the same values under {_PAGE} > {target.name} and in the schema",
    )


def _length_findings(
    config: Mapping[str, Any], target: MappedTarget, facts: PropertyFacts
) -> Iterator[Finding]:
    least, greatest = length_limits(config)
    longest = facts.longest
    if greatest is not None and (
        facts.may_be_endless or (longest is not None and longest > greatest and not facts.partial)
    ):
        allowed = "any length" if longest is None else f"{longest} characters"
        yield _warning(
            "attribute-length",
            target,
            f"the schema allows {allowed}, and the profile takes {greatest}",
            f"raise 'length' under {_PAGE} > {target.name}, or lower maxLength in a new version of the schema",
        )
    elif least > 1 and facts.min_length < least and not (facts.patterns or facts.partial):
        yield _warning(
            "attribute-length",
            target,
            f"the schema allows {facts.min_length} characters, and the profile takes at least {least}",
            f"lower 'length' under {_PAGE} > {target.name}, or raise minLength in a new version of the schema",
        )


def _pattern_findings(
    pattern: str, target: MappedTarget, facts: PropertyFacts
) -> Iterator[Finding]:
    bare = _bare(pattern)
    if facts.partial or any(_bare(one) == bare and _anchored(one) for one in facts.patterns):
        return
    compiled = java_pattern(pattern)
    if compiled is not None and compiled.pattern in _ANY_TEXT:
        return
    other = "another pattern" if facts.patterns else "any text"
    yield _warning(
        "attribute-pattern",
        target,
        f"the profile asks for a pattern, and the schema allows {other}",
        f"use the same pattern in the schema and under {_PAGE} > {target.name}",
    )


def _warning(code: str, target: MappedTarget, reason: str, remedy: str) -> Finding:
    return Finding(
        code,
        Severity.WARNING,
        target.target,
        f"Keycloak may refuse {target.name}: {reason}",
        remedy,
    )


def _text(value: Any) -> str:
    """Return a value the way the mapping writes it into an attribute."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _anchored(pattern: str) -> bool:
    return pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$")


def _bare(pattern: str) -> str:
    """Return a pattern without the anchors, which Keycloak implies."""
    return pattern.removeprefix("^").removesuffix("$")
