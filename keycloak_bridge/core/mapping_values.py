"""Turn what an expression gives into what a field, an attribute or a membership can hold."""

import json
from collections.abc import Mapping
from typing import Any

from keycloak_bridge.core.desired import GROUPS, IdentityLink, Membership
from keycloak_bridge.core.errors import MappingError, Violation
from keycloak_bridge.core.mapping_rules import (
    IdentityRule,
    MembershipRule,
    TargetRule,
    group_path,
)

Scope = Mapping[str, Any]
_NOTHING: frozenset[str] = frozenset()


def target_value(rule: TargetRule, scope: Scope) -> Any:
    """Return the value of the target; None when the event has none.

    Fields get text or a flag, attributes and required actions a list of different texts. Raises MappingError.
    """
    value = None if rule.expression is None else rule.expression.evaluate(scope, rule.pointer)
    if value is None or _is_empty(value):
        value = rule.default
    if value is None:
        converted: Any = None
    elif rule.kind is bool:
        converted = _flag(value, rule.pointer)
    elif rule.kind is str:
        converted = None if _is_empty(value) else _text(value, rule.pointer)
    else:
        converted = _texts(value, rule.pointer) or None
    if converted is None and rule.required:
        raise _refusal(rule.pointer, "required", "the event gives no value", code="missing-value")
    return converted


def membership(rule: MembershipRule, scope: Scope) -> Membership | None:
    """Return what the event names, each once; None where nothing is given and nothing can be taken away.

    Raises MappingError (`group-not-allowed`, `role-not-allowed`, `organization-not-allowed`) for what the mapping does
    not allow.
    """
    given = _texts(rule.expression.evaluate(scope, rule.pointer), rule.pointer)
    if rule.kind == GROUPS:
        given = list(map(group_path, given))
    names = given or rule.default
    if not names and not rule.managed:
        return None
    allow = rule.allow
    if allow is not None:
        refused = [index for index, name in enumerate(names) if name not in allow]
        if refused and not rule.ignore_others:
            raise _not_allowed(rule, refused)
        names = [name for name in names if name in allow]
    owned = allow if rule.managed and allow is not None else _NOTHING
    if not names and not owned:
        return None
    return Membership(rule.kind, tuple(dict.fromkeys(names)), owned, rule.create_missing)


def identity_link(rule: IdentityRule, scope: Scope) -> IdentityLink:
    """Return the user's account at the provider; its `user_id` is None where the event names none.

    Raises MappingError.
    """
    pointer = rule.pointer + "/userId"
    user_id = rule.user_id.evaluate(scope, pointer)
    if _is_empty(user_id):
        return IdentityLink(rule.alias, None)
    name_pointer = rule.pointer + "/userName"
    name = None if rule.user_name is None else rule.user_name.evaluate(scope, name_pointer)
    return IdentityLink(
        rule.alias,
        _text(user_id, pointer),
        None if _is_empty(name) else _text(name, name_pointer),
    )


def _not_allowed(rule: MembershipRule, refused: list[int]) -> MappingError:
    what = rule.word
    reason = f"the mapping does not allow this {what}"
    return MappingError(
        f"the event asks for {len(refused)} {what}(s) that the mapping does not allow",
        code=f"{what}-not-allowed",
        remedy=f"add the {what} to allow in [user.{rule.kind}], or correct the event",
        violations=[Violation(f"{rule.pointer}/{index}", "allow", reason) for index in refused],
    )


def _is_empty(value: Any) -> bool:
    """Say whether there is nothing to store."""
    return value is None or (not value and isinstance(value, str | list | dict))


def _flag(value: Any, pointer: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise _refusal(pointer, "type", f"the value must be true or false, not {_kind(value)}")


def _texts(value: Any, pointer: str) -> list[str]:
    """Return a value or a list of values as different texts, without empty ones."""
    if isinstance(value, str):
        return [_text(value, pointer)] if value else []
    if _is_empty(value):
        return []
    items = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(_text(item, pointer) for item in items if not _is_empty(item)))


def _text(value: Any, pointer: str) -> str:
    """Return text, a number or a flag as text."""
    if isinstance(value, list | dict):
        raise _refusal(pointer, "type", f"the value must be text, not {_kind(value)}")
    text = value if isinstance(value, str) else json.dumps(value)
    if "\0" in text or not (text.isascii() or _is_encodable(text)):
        # PostgreSQL stores neither; Keycloak would answer 500 for ever
        raise _refusal(
            pointer,
            "characters",
            "the value contains a character that cannot be stored",
            code="invalid-value",
        )
    return text


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _kind(value: Any) -> str:
    """Return the JSON type of `value` as a word."""
    kinds = {"dict": "an object", "list": "a list", "str": "text"}
    return kinds.get(type(value).__name__, "a number")


def _refusal(
    pointer: str, keyword: str, reason: str, *, code: str = MappingError.default_code
) -> MappingError:
    return MappingError(
        f"the mapping cannot set {pointer}: {reason}",
        code=code,
        remedy="correct the event, or the expression in the mapping file",
        violations=(Violation(pointer, keyword, reason),),
    )
