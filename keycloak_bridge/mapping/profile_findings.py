"""Compare a mapping, and the schema of what it maps, with the realm's user profile, before the first event.

Hold what a schema allows for a property to what the realm's user profile takes of the attribute made from it.

What is known of a mapping's targets before an event, and what can be found wrong with them.

What a mapping and the schemas of its events say about each target, for a comparison with the user profile.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keycloak_bridge.domain.events import USER_CREATED, USER_UPDATED
from keycloak_bridge.keycloak.user_profile import (
    LOCALE,
    PROFILE_FIELDS,
    Answer,
    ProfileAttribute,
    RealmProfile,
    java_pattern,
    judge_value,
    judge_values,
    length_limits,
    options_of,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.mapping.rules import ATTRIBUTE_PREFIX, TargetRule
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.property_facts import PropertyFacts
from keycloak_bridge.validation.subschema import Path


class Severity(StrEnum):
    """Whether the bridge would do harm or nothing (`error`), or merely less than it could (`warning`)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that mapping, schema and profile do not agree on, and how to mend it; `target` as in the mapping."""

    code: str
    severity: Severity
    target: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MappedTarget:
    """What is known of one target of a mapping before there is an event.

    `facts` are the schema's word on the property that it copies, one for each version of the schema; none where an
    expression computes the value. `always` says that no event can leave the target without a value.
    """

    target: str
    facts: tuple[PropertyFacts, ...] = ()
    default: Any = None
    always: bool = True

    @property
    def name(self) -> str:
        """The name in the user profile."""
        return self.target.removeprefix(ATTRIBUTE_PREFIX)

    @property
    def is_attribute(self) -> bool:
        """Whether it is an attribute, rather than a field of the user."""
        return self.target.startswith(ATTRIBUTE_PREFIX)


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


def check_mapping(
    profile: RealmProfile,
    targets: Sequence[MappedTarget],
    *,
    whole: bool = True,
    hidden: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return what Keycloak would drop or refuse of users that have these targets, and who sees too much.

    `whole` says that `targets` are all that a user is created with; of a target that stands there twice the first counts
    then. `hidden` are attributes that are nobody's business
    but the bridge's.
    """
    findings = [finding for one in targets for finding in _target_findings(profile, one)]
    if whole:
        findings += _required_findings(profile, targets)
    findings += _visible_findings(profile, hidden)
    # versions of a schema say the same again
    return tuple({(one.code, one.target): one for one in reversed(findings)}.values())[::-1]


def _target_findings(profile: RealmProfile, target: MappedTarget) -> Iterator[Finding]:
    if target.is_attribute and target.name == LOCALE:
        return  # built in: internationalization decides
    if not target.is_attribute and target.name not in PROFILE_FIELDS:
        return
    attribute = profile.attributes.get(target.name)
    if attribute is None:
        if not profile.keeps_unmanaged and target.target not in ("username", "email"):
            yield _unknown(target)
        return
    yield from _permission_findings(attribute, target)
    yield from default_findings(attribute, target)
    yield from value_findings(attribute, target)


def _unknown(target: MappedTarget) -> Finding:
    what = "attribute" if target.is_attribute else "field"
    return Finding(
        "attribute-unknown",
        Severity.ERROR,
        target.target,
        f"the realm's user profile does not know the {what} {target.name}: Keycloak would drop it silently",
        f"add it under {_PAGE}, editable and visible for admins, or set "
        "'Unmanaged attributes' to 'Only administrators can write'",
    )


def _permission_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    what = "attribute" if target.is_attribute else "field"
    for right, allowed in (("edit", attribute.edit), ("view", attribute.view)):
        if "admin" not in allowed:
            yield Finding(
                f"attribute-no-{right}",
                Severity.ERROR,
                target.target,
                f"the realm's user profile does not let admins {right} the {what} {attribute.name}",
                f"under {_PAGE} > {attribute.name}, allow admins to {right} it",
            )


def _required_findings(profile: RealmProfile, targets: Sequence[MappedTarget]) -> Iterator[Finding]:
    # the targets of a new user come first
    mapped = {target.name: target for target in reversed(targets)}
    for name, attribute in profile.attributes.items():
        if not attribute.demanded:
            continue
        where = name if name in PROFILE_FIELDS else ATTRIBUTE_PREFIX + name
        remedy = f"map it with a default, or make it optional for admins under {_PAGE} > {name}"
        if name not in mapped:
            message = f"the realm's user profile requires {name}, and the mapping does not give it: Keycloak would refuse every user"
            yield Finding("attribute-required", Severity.ERROR, where, message, remedy)
        elif not mapped[name].always:
            message = f"the realm's user profile requires {name}, and an event may lack it: Keycloak would refuse that user"
            yield Finding("attribute-required", Severity.WARNING, where, message, remedy)


def _visible_findings(profile: RealmProfile, hidden: Sequence[str]) -> Iterator[Finding]:
    for name in hidden:
        attribute = profile.attributes.get(name)
        if attribute is not None and "user" in attribute.view:
            yield Finding(
                "attribute-user-visible",
                Severity.WARNING,
                ATTRIBUTE_PREFIX + name,
                f"the realm shows users the bridge's own attribute {name}",
                f"under {_PAGE} > {name}, let only admins view it",
            )


_PLAIN_PATH = re.compile(r"data((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")


def mapped_targets(
    rules: Sequence[TargetRule], schemas: SchemaCatalog, event_type: str
) -> tuple[MappedTarget, ...]:
    """Return each rule with what the schemas of `event_type` say about the property that it copies.

    Of an expression that computes something, only whether it always has a value is known.
    """
    return tuple(_mapped(rule, schemas, event_type) for rule in rules)


def _mapped(rule: TargetRule, schemas: SchemaCatalog, event_type: str) -> MappedTarget:
    path = plain_path(rule)
    facts: Sequence[PropertyFacts | None] = ()
    if path is not None:
        facts = schemas.property_facts(event_type, path)
    return MappedTarget(
        target=rule.target,
        facts=tuple(one for one in facts if one is not None),
        default=rule.default,
        always=_always(rule, schemas, event_type),
    )


def plain_path(rule: TargetRule) -> Path | None:
    """Return the property that the rule copies as it is; None where it computes a value or has none."""
    match = None if rule.expression is None else _PLAIN_PATH.fullmatch(rule.expression.text.strip())
    return None if match is None else tuple(match[1].split(".")[1:])


def _always(rule: TargetRule, schemas: SchemaCatalog, event_type: str) -> bool:
    """Say whether every valid event gives a value: by a default, or by a property that the schema requires.

    A rule with `required` refuses the event itself, so Keycloak never sees the user.
    """
    if rule.expression is None or rule.default is not None or rule.required:
        return True
    return any(
        all(one is not None and one.required for one in schemas.property_facts(event_type, path))
        for path in rule.expression.data_paths
    )


def all_mapped_targets(mappings: Mappings, schemas: SchemaCatalog) -> tuple[MappedTarget, ...]:
    """Return the targets of every mapping with what the schemas of its events say; those of a new user come first."""
    creating = mappings.by_type.get(USER_CREATED, mappings.default)
    updating = mappings.by_type.get(USER_UPDATED, mappings.default)
    others = [(event_type, one) for (event_type, _), one in mappings.by_major.items()]
    pairs = [(USER_CREATED, creating), (USER_UPDATED, updating), *others]
    return tuple(
        target
        for event_type, mapping in pairs
        for target in mapped_targets(mapping.rules.targets, schemas, event_type)
    )
