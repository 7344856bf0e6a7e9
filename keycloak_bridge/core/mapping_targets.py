"""Read the targets of a mapping: `[user]` fields and `[user.attributes]`."""

from collections.abc import Callable
from typing import Any

from keycloak_bridge.core.document import Section
from keycloak_bridge.core.expressions import Expression
from keycloak_bridge.core.mapping_rules import (
    ATTRIBUTE_PREFIX,
    CREATE_ONLY_FIELDS,
    FLAG_FIELDS,
    NEVER_CLEARED,
    TEXT_FIELDS,
    USER_FIELDS,
    TargetRule,
)
from keycloak_bridge.core.model import BOOKKEEPING_ATTRIBUTES

_RULE_KEYS = ("from", "default", "apply", "required", "removal")
REMOVALS = ("add-only", "managed")
"""Whether what an event no longer names stays, or goes."""

_ALWAYS, _CREATE = "always", "create"

Compile = Callable[[Section, str, str], Expression | None]


class TargetReader:
    """Makes a rule of every target; `compile_` notes what is wrong with an expression and gives None then."""

    def __init__(self, compile_: Compile) -> None:
        self._compile = compile_

    def read(self, user: Section) -> tuple[TargetRule, ...]:
        """Return the rules of all targets, fields first."""
        fields = [self._rule(user, name, name) for name in USER_FIELDS if name in user]
        attributes = user.section("attributes", None)
        return tuple(fields) + tuple(
            self._rule(attributes, name, ATTRIBUTE_PREFIX + name)
            for name in attributes
            if _may_be_attribute(attributes, name)
        )

    def _rule(self, section: Section, name: str, target: str) -> TargetRule:
        value = section.raw(name)
        if isinstance(value, str):
            return self._simple(section, name, target)
        if target == "requiredActions" and isinstance(value, list):
            actions = section.texts(name)
            return TargetRule(target, None, list(actions or ()), create_only=True)
        if not isinstance(value, dict):
            form = "an expression (text) or a table { from = …, default = … }"
            section.add_problem(name, f"must be {form}")
            return TargetRule(target, None)
        return self._table(section.section(name, _RULE_KEYS), target)

    def _simple(self, section: Section, name: str, target: str) -> TargetRule:
        text = section.text(name)
        expression = None if text is None else self._compile(section, name, text)
        return TargetRule(target, expression, create_only=target in CREATE_ONLY_FIELDS)

    def _table(self, rule: Section, target: str) -> TargetRule:
        text = rule.text("from")
        if "from" not in rule:
            rule.add_problem("from", "is missing: the expression that gives the value")
        return TargetRule(
            target,
            None if text is None else self._compile(rule, "from", text),
            default=_default(rule, target),
            create_only=_create_only(rule, target),
            required=rule.flag("required"),
            managed=_managed(rule, target),
        )


def _may_be_attribute(attributes: Section, name: str) -> bool:
    """Note why `name` cannot be a mapped attribute; say whether it can."""
    if name in BOOKKEEPING_ATTRIBUTES:
        attributes.add_problem(name, "is written by the bridge itself and cannot be mapped")
        return False
    if name in TEXT_FIELDS:
        attributes.add_problem(
            name, f"Keycloak keeps this outside the attributes: map it as user.{name}"
        )
        return False
    if not name.strip():
        attributes.add_problem(name, "an attribute needs a name")
        return False
    return True


def _create_only(rule: Section, target: str) -> bool:
    apply = rule.choice("apply", (_ALWAYS, _CREATE))
    if target == "requiredActions" and apply == _ALWAYS:
        rule.add_problem(
            "apply", "every event would ask the user for the actions again; only 'create' works"
        )
    if apply is None:
        return target in CREATE_ONLY_FIELDS
    return apply == _CREATE


def _managed(rule: Section, target: str) -> bool:
    """Say whether a complete event without a value erases the target; note why it cannot."""
    if rule.choice("removal", REMOVALS) != "managed":
        return False
    if target in NEVER_CLEARED:
        rule.add_problem("removal", f"'{target}' is never erased; only 'add-only' works")
    elif rule.raw("apply") == _CREATE:
        rule.add_problem("removal", 'has no effect with apply = "create"')
    elif rule.raw("default") is not None or rule.raw("required") is True:
        rule.add_problem("removal", "has no effect with default or required")
    return True


def _default(rule: Section, target: str) -> Any:
    """Return the default, checked against what the target can hold."""
    default = rule.raw("default")
    if default is None:
        return None
    if rule.flag("required"):
        rule.add_problem("required", "has no effect with a default")
    if target in FLAG_FIELDS:
        fits, expected = isinstance(default, bool), "true or false"
    elif target == "requiredActions":
        fits, expected = _is_list_of(default, str), "a list of texts"
    elif target in TEXT_FIELDS:
        fits, expected = isinstance(default, str | int | float), "text, a number or true/false"
    else:
        scalars = (str, int, float)
        fits = isinstance(default, scalars) or _is_list_of(default, *scalars)
        expected = "text, a number, true/false, or a list of these"
    if not fits:
        rule.add_problem("default", f"must be {expected}")
        return None
    return default


def _is_list_of(value: Any, *types: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, types) for item in value)
