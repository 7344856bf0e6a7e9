"""Turn a mapping document into rules, or say everything that is wrong with it.

Read the targets of a mapping: `[user]` fields and `[user.attributes]`.

Read what the user shall belong to: groups, roles, organizations, and accounts at identity providers.

A parsed TOML document, read key by key, with every problem collected instead of the first one raised.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.domain.times import parse_duration
from keycloak_bridge.domain.users import (
    GROUPS,
    ORGANIZATIONS,
    REALM_ROLES,
    LinkPolicy,
    client_roles,
)
from keycloak_bridge.expressions.analysis import Path, suggestion
from keycloak_bridge.expressions.expression import (
    Expression,
    ExpressionError,
    Tables,
    compile_expression,
)
from keycloak_bridge.mapping.rules import (
    ATTRIBUTE_PREFIX,
    CREATE_ONLY_FIELDS,
    DEFAULT_RESERVED,
    FLAG_FIELDS,
    NEVER_CLEARED,
    TEXT_FIELDS,
    USER_FIELDS,
    IdentityRule,
    InviteOverrides,
    MappingRules,
    MembershipRule,
    TargetRule,
    group_path,
)


class Problems:
    """What is wrong with one document, in the order of finding."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._lines: list[str] = []

    def add(self, key: str, reason: str) -> None:
        """Note that `key` cannot stay as it is."""
        self._lines.append(f"{self._origin}: {key}: {reason}")

    def raise_if_any(self) -> None:
        """Raise one ConfigError with a line for each problem, if there is one."""
        if self._lines:
            raise ConfigError(
                "\n".join(self._lines), code="mapping", remedy="correct the mapping file"
            )


class Section:
    """One table of the document; an unknown key is a problem that names the nearest right one.

    `known` is None where the document chooses the keys itself.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        key: str,
        problems: Problems,
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
                problems.add(self.key_of(name), f"unknown key{other}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def key_of(self, name: str) -> str:
        """Return the full key of `name`, as it is written in the file."""
        bare = name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'
        return f"{self._key}.{bare}" if self._key else bare

    def add_problem(self, name: str, reason: str) -> None:
        """Note what is wrong with the key `name` of this table."""
        self._problems.add(self.key_of(name), reason)

    def raw(self, name: str) -> Any:
        """Return whatever stands at `name`, or None."""
        return self._content.get(name)

    def text(self, name: str) -> str | None:
        """Return the text at `name`; None where there is none."""
        value = self.raw(name)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self.add_problem(name, "must be text that is not empty")
        return None

    def flag(self, name: str) -> bool:
        """Return the flag at `name`; False where there is none."""
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.add_problem(name, "must be true or false")
        return False

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return the list of texts at `name`; None where there is none."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.add_problem(name, 'must be a list of texts, as in ["one", "two"]')
        return None

    def choice(self, name: str, options: Iterable[str]) -> str | None:
        """Return which of `options` stands at `name`; None where nothing or something else does."""
        value = self.text(name)
        options = tuple(options)
        if value is None or value in options:
            return value
        hint = suggestion(value, options)
        self.add_problem(name, f"must be one of {', '.join(options)}{hint}")
        return None

    def section(self, name: str, known: Iterable[str] | None, hint: str = "") -> "Section":
        """Return the table at `name`, empty where there is none."""
        value = self.raw(name)
        if value is not None and not isinstance(value, Mapping):
            self.add_problem(name, "must be a table")
            value = None
        return Section(value or {}, self.key_of(name), self._problems, known, hint)


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


_CLIENT_ROLES = "clientRoles"
MEMBERSHIP_KINDS = (GROUPS, REALM_ROLES, _CLIENT_ROLES, ORGANIZATIONS)
"""Keys of `[user]` that say what the user belongs to."""

_KEYS = ("from", "default", "allow", "otherwise", "removal")
_IDENTITY_KEYS = ("userId", "userName", "removal")
_NAMES = {GROUPS: "groups", ORGANIZATIONS: "organizations"}


class MembershipReader:
    """Makes a rule of every membership and every account; whatever cannot be read becomes a problem and no rule."""

    def __init__(self, problems: Problems, compile_: Compile) -> None:
        self._problems = problems
        self._compile = compile_

    def read(self, user: Section) -> tuple[MembershipRule, ...]:
        """Return the rules of groups, realm roles, client roles and organizations, in this order."""
        clients = user.section(_CLIENT_ROLES, None)
        rules = [
            self._rule(user, GROUPS, GROUPS),
            self._rule(user, REALM_ROLES, REALM_ROLES),
            *(self._rule(clients, client, client_roles(client)) for client in clients),
            self._rule(user, ORGANIZATIONS, ORGANIZATIONS),
        ]
        return tuple(rule for rule in rules if rule is not None)

    def read_identities(self, user: Section) -> tuple[IdentityRule, ...]:
        """Return the rules of `[user.federatedIdentities]`."""
        identities = user.section("federatedIdentities", None)
        rules = (
            self._identity(identities.section(alias, _IDENTITY_KEYS), alias) for alias in identities
        )
        return tuple(rule for rule in rules if rule is not None)

    def _rule(self, section: Section, name: str, kind: str) -> MembershipRule | None:
        if name not in section:
            return None
        if isinstance(section.raw(name), str):
            rule = Section({"from": section.raw(name)}, section.key_of(name), self._problems, None)
        else:
            rule = section.section(name, (*_KEYS, "missing") if kind == GROUPS else _KEYS)
        text = rule.text("from")
        if "from" not in rule:
            rule.add_problem("from", "is missing: the expression that gives the list")
        expression = None if text is None else self._compile(rule, "from", text)
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

    def _identity(self, rule: Section, alias: str) -> IdentityRule | None:
        if "userId" not in rule:
            rule.add_problem(
                "userId", "is missing: the expression that gives the id at the provider"
            )
        user_id, user_name = rule.text("userId"), rule.text("userName")
        compiled = None if user_id is None else self._compile(rule, "userId", user_id)
        name = None if user_name is None else self._compile(rule, "userName", user_name)
        managed = rule.choice("removal", REMOVALS) == "managed"
        return None if compiled is None else IdentityRule(alias, compiled, name, managed)


def _check_allow(
    rule: Section, kind: str, default: tuple[str, ...], allow: tuple[str, ...] | None
) -> None:
    if allow is not None:
        for name in default:
            if name not in allow:
                rule.add_problem("default", f"'{name}' is not in allow{suggestion(name, allow)}")
        return
    if "allow" in rule:
        return
    if kind != GROUPS:
        what = _NAMES.get(kind, "roles")
        reason = f"is missing: the {what} that an event may grant; nothing else ever is"
        rule.add_problem("allow", reason)
    if "otherwise" in rule:
        rule.add_problem("otherwise", "has no effect without allow")
    if rule.raw("removal") == "managed":
        rule.add_problem("removal", "needs allow: what is in it is the mapping's to take away")


_TOP_KEYS = (
    *("matching", "when", "link", "reserved", "protected_groups"),
    *("user", "invite", "tables"),
)
_USER_KEYS = (*USER_FIELDS, "attributes", *MEMBERSHIP_KINDS, "federatedIdentities")
_INVITE_KEYS = ("actions", "lifespan", "client_id", "redirect_uri")
_LONGEST_LIFESPAN_S = 2**31 - 1  # Keycloak holds it in 32 bits


def read_rules(
    document: Mapping[str, Any],
    *,
    origin: str,
    has_property: Callable[[Path], bool],
    identifies_only: bool = False,
) -> MappingRules:
    """Return the rules of `document`; `origin` names it in errors.

    `identifies_only` is for events that only name the user: their mapping needs no username. Raises ConfigError (code
    `mapping`) with one line for every problem.
    """
    problems = Problems(origin)
    rules = _Reader(problems, has_property).read(document, identifies_only=identifies_only)
    problems.raise_if_any()
    return rules


class _Reader:
    """Reads one document; whatever cannot be read becomes a problem and an empty rule."""

    def __init__(self, problems: Problems, has_property: Callable[[Path], bool]) -> None:
        self._problems = problems
        self._has_property = has_property
        self._tables: Tables = {}

    def read(self, document: Mapping[str, Any], *, identifies_only: bool) -> MappingRules:
        top = Section(document, "", self._problems, _TOP_KEYS)
        self._tables = _tables(top)
        user = top.section("user", _USER_KEYS, "attributes stand under [user.attributes]")
        when = top.text("when")
        targets = TargetReader(self._compile).read(user)
        matching = _matching(top, targets)
        _check_identity(user, targets, matching, identifies_only=identifies_only)
        members = MembershipReader(self._problems, self._compile)
        memberships = members.read(user)
        protected = _protected_groups(top)
        self._check_protected(memberships, protected)
        return MappingRules(
            matching=matching,
            targets=targets,
            when=None if when is None else self._compile(top, "when", when),
            link=_link(top, matching),
            reserved=_reserved(top),
            memberships=memberships,
            identities=members.read_identities(user),
            protected_groups=protected,
            invite=_invite(top),
        )

    def _check_protected(
        self, memberships: tuple[MembershipRule, ...], protected: frozenset[str]
    ) -> None:
        for rule in memberships:
            if rule.kind != GROUPS:
                continue
            for path in sorted(rule.allow or ()):
                if any(path == one or path.startswith(one + "/") for one in protected):
                    reason = f"'{path}' is protected by protected_groups: no event may join it"
                    self._problems.add("user.groups.allow", reason)

    def _compile(self, section: Section, name: str, text: str) -> Expression | None:
        try:
            return compile_expression(text, tables=self._tables, has_property=self._has_property)
        except ExpressionError as error:
            for problem in error.problems:
                section.add_problem(name, problem)
        return None


def _tables(top: Section) -> Tables:
    """Return `[tables.*]`, whose values are text, numbers, flags or lists of text."""
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


def _matching(top: Section, targets: tuple[TargetRule, ...]) -> tuple[str, ...]:
    """Return what users are found by; the first is the external id."""
    matching = top.texts("matching")
    if not matching:
        if "matching" not in top or matching == ():
            top.add_problem(
                "matching",
                'is missing: the targets to find a user by, as in ["attributes.userId", "username", "email"]',
            )
        return ("attributes.",)
    if not matching[0].startswith(ATTRIBUTE_PREFIX):
        top.add_problem(
            "matching",
            f"must begin with attributes.<name>, the attribute that holds the user's id in user management, "
            f"not with '{matching[0]}': usernames and e-mail addresses change and can be taken over",
        )
    mapped = {rule.target: rule for rule in targets}
    for target in matching:
        _check_criterion(top, target, mapped)
    if len(set(matching)) < len(matching):
        top.add_problem("matching", "names a target twice")
    return matching


def _check_criterion(top: Section, target: str, mapped: Mapping[str, TargetRule]) -> None:
    if target not in ("username", "email") and not target.startswith(ATTRIBUTE_PREFIX):
        top.add_problem("matching", f"'{target}' is none of username, email and attributes.<name>")
    elif target not in mapped:
        hint = suggestion(target, mapped) or "; map it under [user]"
        top.add_problem("matching", f"'{target}' is not mapped{hint}")
    elif mapped[target].default is not None:
        top.add_problem(
            "matching", f"'{target}' has a default, which would make different users look like one"
        )


def _check_identity(
    user: Section,
    targets: tuple[TargetRule, ...],
    matching: tuple[str, ...],
    *,
    identifies_only: bool,
) -> None:
    by_target = {rule.target: rule for rule in targets}
    if "username" not in by_target and not identifies_only:
        user.add_problem(
            "username", 'is missing; map it, for example "lower(data.username || data.email)"'
        )
    external_id = by_target.get(matching[0])
    if external_id is None:
        return
    name, attributes = external_id.attribute or "", user.section("attributes", None)
    if external_id.create_only:
        attributes.add_problem(
            name, 'holds the external id, which is always written: remove apply = "create"'
        )
    if external_id.managed:
        attributes.add_problem(
            name, 'holds the external id, which is never erased: remove removal = "managed"'
        )


def _reserved(top: Section) -> frozenset[str]:
    own = top.texts("reserved")
    return frozenset(name.lower() for name in (DEFAULT_RESERVED if own is None else own))


def _protected_groups(top: Section) -> frozenset[str]:
    """Return the paths of the groups whose members, and those of groups below, no event may touch."""
    paths = frozenset(map(group_path, top.texts("protected_groups") or ()))
    if "/" in paths:
        top.add_problem("protected_groups", "names no group: a path is like /admins")
    return paths


def _link(top: Section, matching: tuple[str, ...]) -> LinkPolicy:
    link = LinkPolicy(top.choice("link", tuple(LinkPolicy)) or LinkPolicy.NEVER)
    if link is LinkPolicy.VERIFIED_EMAIL and "email" not in matching:
        top.add_problem("link", "'verified-email' needs 'email' in matching")
    return link


def _invite(top: Section) -> InviteOverrides:
    invite = top.section("invite", _INVITE_KEYS)
    actions = invite.texts("actions")
    if actions == ():
        invite.add_problem("actions", "is empty: the mail would ask for nothing")
    return InviteOverrides(
        actions=actions,
        lifespan_s=_lifespan(invite),
        client_id=invite.text("client_id"),
        redirect_uri=invite.text("redirect_uri"),
    )


def _lifespan(invite: Section) -> int | None:
    text = invite.text("lifespan")
    if text is None:
        return None
    try:
        seconds = int(parse_duration(text))
    except ValueError as error:
        invite.add_problem("lifespan", str(error))
        return None
    if not 1 <= seconds <= _LONGEST_LIFESPAN_S:
        invite.add_problem("lifespan", "must be at least a second and less than 68 years")
    return seconds
