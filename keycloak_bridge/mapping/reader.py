"""Turn a mapping document into rules, or report everything that is wrong with it at once."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import isfinite
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.domain.times import parse_duration
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    EXACT_ID,
    EXACT_ID_ATTRIBUTE,
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    LinkPolicy,
    client_roles,
)
from keycloak_bridge.expressions.expression import (
    Expression,
    ExpressionError,
    Path,
    Tables,
    TypesOf,
    compile_expression,
    suggestion,
)
from keycloak_bridge.mapping.reserved_names import is_protected
from keycloak_bridge.mapping.rules import (
    CREATE_ONLY_FIELDS,
    DEFAULT_RESERVED,
    FLAG_FIELDS,
    NEVER_CLEARED,
    TEXT_FIELDS,
    USER_FIELDS,
    IdentityRule,
    MappingRules,
    MembershipRule,
    TargetRule,
    group_path,
)

REMOVALS = ("add-only", "managed")
"""Whether a value that an event no longer names stays, or is removed."""

_TOP_KEYS = ("matching", "when", "link", "reserved", "protected_groups", "user", "invite", "tables")
_USER_KEYS = (
    *USER_FIELDS,
    *("attributes", GROUPS, REALM_ROLES, "clientRoles", ORGANIZATIONS, "federatedIdentities"),
)
_RULE_KEYS = ("from", "default", "apply", "required", "removal")
_MEMBERSHIP_KEYS = ("from", "default", "allow", "otherwise", "removal")
_IDENTITY_KEYS = ("userId", "userName", "removal")
_INVITE_KEYS = ("actions", "lifespan", "client_id", "redirect_uri")

_CHANGES_CASE = re.compile(r"\b(lower|upper|normalize_diacritics)\(")
_ALWAYS, _CREATE = "always", "create"
_GRANTED = {GROUPS: "groups", ORGANIZATIONS: "organizations"}
_LONGEST_LIFESPAN_S = 2**31 - 1  # Keycloak stores it in 32 bits


def read_rules(
    document: Mapping[str, Any],
    *,
    origin: str,
    has_property: Callable[[Path], bool],
    types_of: TypesOf | None = None,
    identifies_only: bool = False,
) -> MappingRules:
    """Return the rules of `document`; `origin` names it in errors.

    `identifies_only` is for events that only name the user: their mapping needs no username. Raises ConfigError (code
    `mapping`) with one line for every problem.
    """
    problems: list[str] = []
    rules = _Reader(problems, has_property, types_of).read(
        document, identifies_only=identifies_only
    )
    if problems:
        lines = "\n".join(f"{origin}: {problem}" for problem in problems)
        raise ConfigError(lines, code="mapping", remedy="correct the mapping file")
    return rules


class _Section:
    """One table of the document; an unknown key is a problem that names the nearest right one.

    `known` is None where the document chooses the keys itself.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        key: str,
        problems: list[str],
        known: Iterable[str] | None,
        hint: str = "",
    ) -> None:
        self._content = content
        self._key = key
        self._problems = problems
        if known is None:
            return
        keys = tuple(known)
        for name in content:
            if name not in keys:
                other = suggestion(name, keys) or f"; {hint or 'known here: ' + ', '.join(keys)}"
                self.add_problem(name, f"unknown key{other}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def add_problem(self, name: str, reason: str) -> None:
        self._problems.append(f"{self._key_of(name)}: {reason}")

    def raw(self, name: str) -> Any:
        return self._content.get(name)

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self.add_problem(name, "must be text that is not empty")
        return None

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.add_problem(name, "must be true or false")
        return False

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.add_problem(name, 'must be a list of texts, as in ["one", "two"]')
        return None

    def choice(self, name: str, options: Iterable[str]) -> str | None:
        value = self.text(name)
        options = tuple(options)
        if value is None or value in options:
            return value
        hint = suggestion(value, options)
        self.add_problem(name, f"must be one of {', '.join(options)}{hint}")
        return None

    def section(self, name: str, known: Iterable[str] | None, hint: str = "") -> "_Section":
        value = self.raw(name)
        if value is not None and not isinstance(value, Mapping):
            self.add_problem(name, "must be a table")
            value = None
        return _Section(value or {}, self._key_of(name), self._problems, known, hint)

    def as_table(self, name: str, known: Iterable[str]) -> "_Section":
        """Return the table at `name`; text there is short for a table with that `from`, a list for these constants."""
        value = self.raw(name)
        short: dict[str, Any] | None = None
        if isinstance(value, str):
            short = {"from": value}
        elif isinstance(value, list):
            short = {"from": "`[]`", "default": value, "allow": value}
        if short is not None:
            return _Section(short, self._key_of(name), self._problems, None)
        return self.section(name, known)

    def _key_of(self, name: str) -> str:
        bare = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
        return f"{self._key}.{bare}" if self._key else bare


class _Reader:
    """Reads one document; what cannot be read becomes a problem and an empty rule, or none."""

    def __init__(
        self,
        problems: list[str],
        has_property: Callable[[Path], bool],
        types_of: TypesOf | None,
    ) -> None:
        self._problems = problems
        self._has_property = has_property
        self._types_of = types_of
        self._tables: Tables = {}

    def read(self, document: Mapping[str, Any], *, identifies_only: bool) -> MappingRules:
        top = _Section(document, "", self._problems, _TOP_KEYS)
        self._tables = _tables(top)
        user = top.section("user", _USER_KEYS, "attributes belong under [user.attributes]")
        when = self._expression(top, "when")
        targets = self._targets(user)
        by_target = {rule.target: rule for rule in targets}
        matching = _matching(top, by_target)
        if "username" not in by_target and not identifies_only:
            example = "lower(data.username || data.email)"
            user.add_problem("username", f'is missing; map it, for example "{example}"')
        if matching[0] == "username" and "username" in by_target:
            targets = (*targets, _exact_id(user, by_target))
            matching = (EXACT_ID, *matching)
        elif matching[0] in by_target:
            _check_external_id(user, by_target[matching[0]])
        memberships = self._memberships(user)
        protected = frozenset(map(group_path, top.texts("protected_groups") or ()))
        _check_protected(top, user, memberships, protected)
        reserved = top.texts("reserved")
        return MappingRules(
            matching=matching,
            targets=targets,
            when=when,
            link=_link(top, matching, by_target.get("username")),
            reserved=frozenset(map(str.lower, DEFAULT_RESERVED if reserved is None else reserved)),
            memberships=memberships,
            identities=self._identities(user),
            protected_groups=protected,
            invite=_invite(top),
        )

    def _expression(
        self, section: _Section, name: str, needed: str | None = None
    ) -> Expression | None:
        """Return the expression at `name`, None where there is none; `needed` says what for there must be one."""
        if needed and name not in section:
            section.add_problem(name, f"is missing: the expression that gives {needed}")
        text = section.text(name)
        if text is None:
            return None
        try:
            return compile_expression(
                text,
                tables=self._tables,
                has_property=self._has_property,
                types_of=self._types_of,
            )
        except ExpressionError as error:
            for problem in error.problems:
                section.add_problem(name, problem)
        return None

    def _targets(self, user: _Section) -> tuple[TargetRule, ...]:
        fields = [self._target(user, name, name) for name in USER_FIELDS if name in user]
        attributes = user.section("attributes", None)
        return tuple(fields) + tuple(
            self._target(attributes, name, ATTRIBUTE_PREFIX + name)
            for name in attributes
            if _may_be_attribute(attributes, name)
        )

    def _target(self, section: _Section, name: str, target: str) -> TargetRule:
        value = section.raw(name)
        if isinstance(value, str):
            expression = self._expression(section, name)
            return TargetRule(target, expression, create_only=target in CREATE_ONLY_FIELDS)
        if not isinstance(value, dict):
            if expected := _unfit(value, target):
                form = "an expression (text), a table { from = …, default = … } or a constant"
                section.add_problem(name, f"must be {form}: {expected}")
                value = None
            return TargetRule(target, None, value, create_only=target in CREATE_ONLY_FIELDS)
        rule = section.section(name, _RULE_KEYS)
        needed = None if "default" in rule else "the value"  # a default alone is a constant
        return TargetRule(
            target,
            self._expression(rule, "from", needed),
            default=_default(rule, target),
            create_only=_create_only(rule, target),
            required=rule.flag("required"),
            managed=_managed(rule, target),
        )

    def _memberships(self, user: _Section) -> tuple[MembershipRule, ...]:
        clients = user.section("clientRoles", None)
        rules = [
            self._membership(user, GROUPS, GROUPS),
            self._membership(user, REALM_ROLES, REALM_ROLES),
            *(self._membership(clients, client, client_roles(client)) for client in clients),
            self._membership(user, ORGANIZATIONS, ORGANIZATIONS),
        ]
        return tuple(rule for rule in rules if rule is not None)

    def _membership(self, section: _Section, name: str, kind: str) -> MembershipRule | None:
        if name not in section:
            return None
        keys = (*_MEMBERSHIP_KEYS, "missing") if kind == GROUPS else _MEMBERSHIP_KEYS
        rule = section.as_table(name, keys)
        expression = self._expression(rule, "from", "the list")
        allow = rule.texts("allow")
        default = rule.texts("default") or ()
        otherwise = rule.choice("otherwise", ("reject", "ignore"))
        managed = rule.choice("removal", REMOVALS) == "managed"
        missing = rule.choice("missing", ("reject", "create"))
        _check_allow(rule, kind, default, allow)
        if expression is None:
            return None
        normal = group_path if kind == GROUPS else str
        return MembershipRule(
            kind=kind,
            expression=expression,
            default=tuple(map(normal, default)),
            allow=None if allow is None else frozenset(map(normal, allow)),
            ignore_others=otherwise == "ignore",
            managed=managed,
            create_missing=missing == "create",
        )

    def _identities(self, user: _Section) -> tuple[IdentityRule, ...]:
        identities = user.section("federatedIdentities", None)
        rules = []
        for alias in identities:
            rule = identities.section(alias, _IDENTITY_KEYS)
            user_id = self._expression(rule, "userId", "the id at the provider")
            user_name = self._expression(rule, "userName")
            managed = rule.choice("removal", REMOVALS) == "managed"
            if user_id is not None:
                rules.append(IdentityRule(alias, user_id, user_name, managed))
        return tuple(rules)


def _may_be_attribute(attributes: _Section, name: str) -> bool:
    reason = None
    if name in BOOKKEEPING_ATTRIBUTES:
        reason = "is written by the bridge itself and cannot be mapped"
    elif name in TEXT_FIELDS:
        reason = f"Keycloak keeps this outside the attributes: map it as user.{name}"
    elif not name.strip():
        reason = "an attribute needs a name"
    if reason is not None:
        attributes.add_problem(name, reason)
    return reason is None


def _create_only(rule: _Section, target: str) -> bool:
    apply = rule.choice("apply", (_ALWAYS, _CREATE))
    if target == "requiredActions" and apply == _ALWAYS:
        reason = "every event would ask the user for the actions again; only 'create' works"
        rule.add_problem("apply", reason)
    return target in CREATE_ONLY_FIELDS if apply is None else apply == _CREATE


def _managed(rule: _Section, target: str) -> bool:
    """Return whether a complete event without a value erases the target; report why it cannot."""
    if rule.choice("removal", REMOVALS) != "managed":
        return False
    if target in NEVER_CLEARED:
        rule.add_problem("removal", f"'{target}' is never erased; only 'add-only' works")
    elif rule.raw("apply") == _CREATE:
        rule.add_problem("removal", 'has no effect with apply = "create"')
    elif rule.raw("default") is not None or rule.raw("required") is True:
        rule.add_problem("removal", "has no effect with default or required")
    return True


def _default(rule: _Section, target: str) -> Any:
    default = rule.raw("default")
    if default is None:
        return None
    if rule.flag("required"):
        rule.add_problem("required", "has no effect with a default")
    if expected := _unfit(default, target):
        rule.add_problem("default", f"must be {expected}")
        return None
    return default


def _unfit(value: Any, target: str) -> str | None:
    """Return what a constant of the target must be, None where `value` is."""
    if target in FLAG_FIELDS:
        fits, expected = isinstance(value, bool), "true or false"
    elif target == "requiredActions":
        fits, expected = _is_list_of(value, str), "a list of texts"
    elif target in TEXT_FIELDS:
        fits, expected = _is_scalar(value), "text, a number or true/false"
    else:
        fits = _is_scalar(value) or (isinstance(value, list) and all(map(_is_scalar, value)))
        expected = "text, a number, true/false, or a list of these"
    return None if fits else expected


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _is_list_of(value: Any, *types: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, types) for item in value)


def _check_allow(
    rule: _Section, kind: str, default: tuple[str, ...], allow: tuple[str, ...] | None
) -> None:
    if allow is not None:
        for name in default:
            if name not in allow:
                rule.add_problem("default", f"'{name}' is not in allow{suggestion(name, allow)}")
        return
    if "allow" in rule:
        return
    if kind != GROUPS:
        what = _GRANTED.get(kind, "roles")
        reason = f"is missing: the {what} that an event may grant; nothing else ever is"
        rule.add_problem("allow", reason)
    if "otherwise" in rule:
        rule.add_problem("otherwise", "has no effect without allow")
    if rule.raw("removal") == "managed":
        rule.add_problem("removal", "needs allow: only what it lists is ever removed")


def _tables(top: _Section) -> Tables:
    tables: dict[str, Mapping[str, Any]] = {}
    section = top.section("tables", None)
    for name in section:
        table = section.section(name, None)
        tables[name] = {key: table.raw(key) for key in table}
        for key, value in tables[name].items():
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(item, str | int | float | bool) for item in items):
                table.add_problem(key, "must be text, a number, true/false, or a list of these")
    return tables


def _matching(top: _Section, targets: Mapping[str, TargetRule]) -> tuple[str, ...]:
    report = partial(top.add_problem, "matching")
    matching = top.texts("matching")
    if not matching:
        if "matching" not in top or matching == ():
            example = '["attributes.userId", "username", "email"]'
            report(f"is missing: the targets to find a user by, as in {example}")
        return (ATTRIBUTE_PREFIX,)
    by_username = matching[0] == "username"
    if not by_username and not matching[0].startswith(ATTRIBUTE_PREFIX):
        report(
            "must begin with attributes.<name>, the attribute that holds the user's id in user management, or with "
            f"username where that id is the username, not with '{matching[0]}': e-mail addresses change and can be taken over"
        )
    for target in matching:
        if target == EXACT_ID:
            report(f"'{target}' is found by the username: write username")
        elif by_username and target.startswith(ATTRIBUTE_PREFIX):
            report(
                f"'{target}' is not searched for where the username is the external id: leave it out"
            )
        if target not in ("username", "email") and not target.startswith(ATTRIBUTE_PREFIX):
            report(f"'{target}' is none of username, email and attributes.<name>")
        elif target not in targets:
            hint = suggestion(target, targets) or "; map it under [user]"
            report(f"'{target}' is not mapped{hint}")
        elif targets[target].default is not None:
            report(f"'{target}' has a default, which would make different users look like one")
    if len(set(matching)) < len(matching):
        report("names a target twice")
    return matching


def _exact_id(user: _Section, targets: Mapping[str, TargetRule]) -> TargetRule:
    """Return the rule of the attribute that has the external id as it is given, where it is the username."""
    expression = targets["username"].expression
    if expression is not None and (changed := _CHANGES_CASE.search(expression.text)):
        reason = f"is the external id, which must be given as it is: leave out {changed[1]}(), Keycloak compares usernames without case"
        user.add_problem("username", reason)
    email = targets.get("email")
    if (
        expression is not None
        and email is not None
        and email.expression is not None
        and expression.data_paths & email.expression.data_paths
    ):
        reason = "is the external id, which must be an id that never changes and that nobody can take over, not the e-mail address"
        user.add_problem("username", reason)
    if EXACT_ID in targets:
        reason = (
            "is written by the bridge itself where the username is the external id: leave it out"
        )
        user.section("attributes", None).add_problem(EXACT_ID_ATTRIBUTE, reason)
    return TargetRule(EXACT_ID, expression)


def _check_external_id(user: _Section, external_id: TargetRule) -> None:
    report = partial(user.section("attributes", None).add_problem, external_id.attribute or "")
    if external_id.create_only:
        report('holds the external id, which is always written: remove apply = "create"')
    if external_id.managed:
        report('holds the external id, which is never erased: remove removal = "managed"')


def _check_protected(
    top: _Section,
    user: _Section,
    memberships: tuple[MembershipRule, ...],
    protected: frozenset[str],
) -> None:
    if "/" in protected:
        top.add_problem("protected_groups", "names no group: a path is like /admins")
    for rule in memberships:
        for path in sorted(rule.allow or ()) if rule.kind == GROUPS else ():
            if is_protected(path, protected):
                reason = f"'{path}' is protected by protected_groups: no event may join it"
                user.section(GROUPS, None).add_problem("allow", reason)


def _link(top: _Section, matching: tuple[str, ...], username: TargetRule | None) -> LinkPolicy:
    link = LinkPolicy(top.choice("link", tuple(LinkPolicy)) or LinkPolicy.NEVER)
    keeps_name = matching[0] == EXACT_ID and username is not None and username.create_only
    if keeps_name and link is not LinkPolicy.NEVER:
        reason = 'needs apply = "always" for username, the external id: a linked user would not be found again by its old one'
        top.add_problem("link", reason)
    if link is LinkPolicy.VERIFIED_EMAIL and "email" not in matching:
        top.add_problem("link", "'verified-email' needs 'email' in matching")
    return link


def _invite(top: _Section) -> Mapping[str, Any]:
    invite = top.section("invite", _INVITE_KEYS)
    actions = invite.texts("actions")
    if actions == ():
        invite.add_problem("actions", "is empty: the mail would ask for nothing")
    lifespan, lifespan_s = invite.text("lifespan"), None
    try:
        lifespan_s = None if lifespan is None else int(parse_duration(lifespan))
    except ValueError as error:
        invite.add_problem("lifespan", str(error))
    if lifespan_s is not None and not 1 <= lifespan_s <= _LONGEST_LIFESPAN_S:
        invite.add_problem("lifespan", "must be at least a second and less than 68 years")
    terms = {
        "actions": actions,
        "lifespan_s": lifespan_s,
        "client_id": invite.text("client_id"),
        "redirect_uri": invite.text("redirect_uri"),
    }
    return {name: value for name, value in terms.items() if value is not None}
