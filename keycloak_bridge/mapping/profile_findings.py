"""Compare a mapping, and the schemas of the events that it maps, with the realm's user profile before the first event."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keycloak_bridge.domain.errors import Violation
from keycloak_bridge.domain.events import USER_CREATED, USER_UPDATED
from keycloak_bridge.domain.numbers import number_text
from keycloak_bridge.domain.users import ATTRIBUTE_PREFIX, EXACT_ID, DesiredUser, UnknownUser
from keycloak_bridge.keycloak.user_profile import (
    LOCALE,
    PROFILE_FIELDS,
    USERNAME_CHARACTERS,
    Answer,
    ProfileAttribute,
    RealmProfile,
    broken_defaults,
    java_pattern,
    judge_value,
    judge_values,
    length_limits,
    options_of,
)
from keycloak_bridge.mapping.lifecycle import Mappings
from keycloak_bridge.mapping.rules import TargetRule
from keycloak_bridge.validation.catalog import SchemaCatalog
from keycloak_bridge.validation.subschema import PropertyFacts

_PAGE = "Realm settings > User profile"
_PLAIN_PATH = re.compile(r"data((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")
_MOST_VALUES_NAMED = 5
_SIMPLE = re.compile(
    r"\^(?:[\w@+?*-]|\\[d.-]|\{[0-9,]*\}|\((?:\?:)?|[)|]|\[(?:[\w@+.-]|\\[d.-])*\])*\$", re.ASCII
)
"""A pattern of letters, digits, and what usernames may have besides, in whatever groups and counts."""

_Doubt = tuple[str, str, str]
"""Code, reason and remedy of a finding about values."""

_NUMBERS = frozenset(("integer", "double"))
_ANY_TEXT = (".*", r"[^\n\r\x85\u2028\u2029]*")


class Severity(StrEnum):
    """Whether users would be wrong or refused (`error`), or only some values may be (`warning`)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction between mapping, schema and profile, and how to fix it; `target` as in the mapping."""

    code: str
    severity: Severity
    target: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MappedTarget:
    """What is known about one target of a mapping before there is an event.

    `facts` are what each version of the schema says about the property that it copies; there are none where an
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

    @property
    def may_have_several(self) -> bool:
        """Whether a schema allows a list of more than one value."""
        return any(map(_is_list, self.facts))

    @property
    def longest(self) -> int | None:
        """The greatest length that a schema allows for a value; None where none says so."""
        found = (_text_facts(one) for one in self.facts)
        known = (one.longest for one in found if one.values is None and not one.partial)
        return max((length for length in known if length is not None), default=None)

    @property
    def described(self) -> str:
        """The kind and the name of the target, for messages."""
        return f"the {'attribute' if self.is_attribute else 'field'} {self.name}"


def default_profile_warnings(desired: DesiredUser) -> tuple[Violation, ...]:
    """Return what a realm with Keycloak's defaults would refuse of a user, where the realm itself is not asked."""
    user = desired.representation
    found = [
        Violation(
            f"/user/{name}",
            rule,
            "Keycloak's default user profile refuses it; the realm's own profile"
            + (", or its 'Email as username'," if name == "username" else "")
            + " decides",
        )
        for name, rule in broken_defaults(user)
    ]
    if desired.unknown is UnknownUser.CREATE and not user.get("username"):
        reason = "is missing; only a realm with 'Email as username' creates such a user"
        found.append(Violation("/user/username", "required", reason))
    return tuple(found)


def all_mapped_targets(mappings: Mappings, schemas: SchemaCatalog) -> tuple[MappedTarget, ...]:
    """Return the targets of every mapping with what the schemas of its events say; those of a new user come first."""
    creating = mappings.by_type.get(USER_CREATED, mappings.default)
    updating = mappings.by_type.get(USER_UPDATED, mappings.default)
    others = [(event_type, one) for (event_type, _), one in mappings.by_major.items()]
    pairs = [(USER_CREATED, creating), (USER_UPDATED, updating), *others]
    return tuple(
        _mapped_target(rule, schemas, event_type)
        for event_type, mapping in pairs
        for rule in mapping.rules.targets
    )


def _mapped_target(rule: TargetRule, schemas: SchemaCatalog, event_type: str) -> MappedTarget:
    """Return what the schemas say about a rule; of a computed value only whether it is always there."""
    expression, always = rule.expression, True
    facts: tuple[PropertyFacts, ...] = ()
    if expression is not None and (match := _PLAIN_PATH.fullmatch(expression.text.strip())):
        found = schemas.property_facts(event_type, tuple(match[1].split(".")[1:]))
        facts = tuple(one for one in found if one is not None)
    # `required` refuses the event itself, so Keycloak never gets the user
    if expression is not None and rule.default is None and not rule.required:
        always = any(
            all(
                one is not None and one.required for one in schemas.property_facts(event_type, path)
            )
            for path in expression.data_paths
        )
    return MappedTarget(rule.target, facts, rule.default, always)


def check_mapping(
    profile: RealmProfile,
    targets: Sequence[MappedTarget],
    *,
    whole: bool = True,
    hidden: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """Return what Keycloak would drop or refuse of users that have these targets, and who sees too much.

    `whole` says that `targets` are all that a user is created with; of two entries for one target the first counts
    then. `hidden` are attributes that users must not see.
    """
    findings = [finding for one in targets for finding in _target_findings(profile, one)]
    if whole:
        findings += _required_findings(profile, targets)
    findings += _visible_findings(profile, hidden)
    # versions of a schema repeat findings
    return tuple({(one.code, one.target): one for one in reversed(findings)}.values())[::-1]


def _target_findings(profile: RealmProfile, target: MappedTarget) -> Iterator[Finding]:
    if target.is_attribute and target.name == LOCALE:
        return  # built in: internationalization decides
    if not target.is_attribute and target.name not in PROFILE_FIELDS:
        return
    if target.target == EXACT_ID:
        yield from _id_findings(profile, target)
    attribute = profile.attributes.get(target.name)
    if attribute is not None:
        yield from _permission_findings(attribute, target)
        yield from _default_findings(attribute, target)
        for facts in target.facts:
            for code, reason, remedy in _doubts(attribute, facts):
                message = f"Keycloak may refuse {target.name}: {reason}"
                yield Finding(code, Severity.WARNING, target.target, message, remedy)
    elif not profile.keeps_unmanaged and target.target not in ("username", "email"):
        yield Finding(
            "attribute-unknown",
            Severity.ERROR,
            target.target,
            f"the realm's user profile does not know {target.described}: Keycloak would drop it silently",
            f"add it under {_PAGE}, editable and visible for admins, or set "
            "'Unmanaged attributes' to 'Only administrators can write'",
        )


def _id_findings(profile: RealmProfile, target: MappedTarget) -> Iterator[Finding]:
    """Yield what the schema allows as the id and Keycloak does not as a username, or takes for that of another user."""
    username = profile.attributes.get("username")
    validators = () if username is None else username.validations
    refuse = USERNAME_CHARACTERS in validators
    for facts in target.facts:
        if "string" not in facts.types or facts.partial or facts.formats:
            continue
        values = None if facts.values is None else list(map(_text, facts.values))
        if values is None:
            twins = not any(map(_is_of_one_case, facts.patterns))
            refused = not any(map(_is_of_plain_characters, facts.patterns))
        else:
            twins = len({value.lower() for value in values}) < len(values)
            refused = any(
                judge_value(USERNAME_CHARACTERS, {}, one) is Answer.REFUSED for one in values
            )
        if twins:
            yield _id_finding(
                "id-differs-in-case",
                "may differ in case alone, and it takes the second for the first",
            )
        if refused and refuse:
            yield _id_finding(
                "id-refused",
                "may contain white space, slashes and other characters that it refuses in usernames",
            )


def _id_finding(code: str, what: str) -> Finding:
    return Finding(
        code,
        Severity.WARNING,
        "username",
        f"Keycloak cannot tell all ids that the schema allows: they {what}; such events become dead letters ({code})",
        "let a pattern in the schema allow what user management really uses, or keep the id in an attribute "
        "(docs/keycloak.md, Large realms)",
    )


def _is_of_one_case(pattern: str) -> bool:
    """Say whether texts that match `pattern` certainly have letters of one case only; a few that have are not seen."""
    return _SIMPLE.fullmatch(pattern) is not None and not (
        re.search("[a-z]", bare := pattern.replace(r"\d", "")) and re.search("[A-Z]", bare)
    )


def _is_of_plain_characters(pattern: str) -> bool:
    """Say whether texts that match `pattern` certainly have none of the characters that usernames may not have."""
    return _SIMPLE.fullmatch(pattern) is not None


def _permission_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    for right, allowed in (("edit", attribute.edit), ("view", attribute.view)):
        if "admin" not in allowed:
            yield Finding(
                f"attribute-no-{right}",
                Severity.ERROR,
                target.target,
                f"the realm's user profile does not let admins {right} {target.described}",
                f"under {_PAGE} > {attribute.name}, allow admins to {right} it",
            )


def _default_findings(attribute: ProfileAttribute, target: MappedTarget) -> Iterator[Finding]:
    if target.default is None:
        return
    given = target.default if isinstance(target.default, list | tuple) else [target.default]
    refused, _ = judge_values(attribute, list(map(_text, given)))
    if refused:
        yield Finding(
            "attribute-default",
            Severity.ERROR,
            target.target,
            f"Keycloak would refuse the mapping's own value for {target.name}: it {refused[0]}",
            f"change the default in the mapping, or the rule under {_PAGE} > {target.name}",
        )


def _doubts(attribute: ProfileAttribute, facts: PropertyFacts) -> Iterator[_Doubt]:
    page = f"{_PAGE} > {attribute.name}"
    if not attribute.multivalued and _is_list(facts):
        reason = "the schema allows a list, and the profile takes a single value"
        remedy = f"switch on 'Multivalued' under {page}, or map only one of the values"
        yield "attribute-multivalued", reason, remedy
    facts = _text_facts(facts)
    if facts.values is not None:
        yield from _doubts_about_values(attribute, facts.values, page)
        return
    if "string" not in facts.types:
        return
    validations = attribute.validations
    if "length" in validations:
        yield from _doubts_about_length(validations["length"], facts, page)
    if "pattern" in validations:
        yield from _doubts_about_pattern(
            str(validations["pattern"].get("pattern", "")), facts, page
        )
    options = options_of(validations["options"]) if "options" in validations else None
    if options is not None and not facts.partial:
        reason = "the profile takes a few options only, and the schema allows any text"
        remedy = f"list the same values in the schema as enum, or remove the options under {_PAGE}"
        yield "attribute-options", reason, remedy
    for validator in sorted(_NUMBERS & set(validations)):
        if not facts.patterns and not facts.partial:
            reason = f"the profile takes only numbers ({validator}), and the schema allows any text"
            remedy = f"let the schema say so by type or pattern, or remove the rule under {page}"
            yield "attribute-number", reason, remedy


def _doubts_about_values(
    attribute: ProfileAttribute, values: Sequence[Any], page: str
) -> Iterator[_Doubt]:
    refused = [
        text
        for text in (_text(value) for value in values if value is not None)
        if any(
            judge_value(validator, config, text) is Answer.REFUSED
            for validator, config in attribute.validations.items()
        )
    ]
    if refused:
        named = ", ".join(map(repr, refused[:_MOST_VALUES_NAMED]))
        more = ", …" if len(refused) > _MOST_VALUES_NAMED else ""
        reason = f"the profile refuses {len(refused)} of the {len(values)} values that the schema allows: {named}{more}"
        yield "attribute-options", reason, f"allow the same values under {page} and in the schema"


def _doubts_about_length(
    config: Mapping[str, Any], facts: PropertyFacts, page: str
) -> Iterator[_Doubt]:
    least, greatest = length_limits(config)
    longest = facts.longest
    if greatest is not None and (
        facts.may_be_endless or (longest is not None and longest > greatest and not facts.partial)
    ):
        allowed = "any length" if longest is None else f"{longest} characters"
        reason = f"the schema allows {allowed}, and the profile takes {greatest}"
        remedy = f"raise 'length' under {page}, or lower maxLength in a new version of the schema"
        yield "attribute-length", reason, remedy
    elif least > 1 and facts.min_length < least and not (facts.patterns or facts.partial):
        shortest = f"{facts.min_length} characters"
        reason = f"the schema allows {shortest}, and the profile takes at least {least}"
        remedy = f"lower 'length' under {page}, or raise minLength in a new version of the schema"
        yield "attribute-length", reason, remedy


def _doubts_about_pattern(pattern: str, facts: PropertyFacts, page: str) -> Iterator[_Doubt]:
    # Keycloak implies the anchors
    bare = pattern.removeprefix("^").removesuffix("$")
    if facts.partial or (f"^{bare}$" in facts.patterns and not bare.endswith("\\")):
        return
    compiled = java_pattern(pattern)
    if compiled is not None and compiled.pattern in _ANY_TEXT:
        return
    other = "another pattern" if facts.patterns else "any text"
    reason = f"the profile asks for a pattern, and the schema allows {other}"
    yield "attribute-pattern", reason, f"use the same pattern in the schema and under {page}"


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


def _is_list(facts: PropertyFacts) -> bool:
    """Say whether the schema allows several values; one that names no type says nothing about lists either."""
    is_list = "array" in facts.types and "object" not in facts.types
    return is_list and (facts.max_items is None or facts.max_items > 1)


def _text_facts(facts: PropertyFacts) -> PropertyFacts:
    """Return what the schema says of one value, which is an item where it is a list."""
    return facts.item if facts.item is not None and "string" not in facts.types else facts


def _text(value: Any) -> str:
    return number_text(value) if isinstance(value, int | float) else str(value)
