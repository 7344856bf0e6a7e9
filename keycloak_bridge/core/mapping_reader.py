"""Turn a mapping document into rules, or say everything that is wrong with it."""

from collections.abc import Callable, Mapping
from typing import Any

from keycloak_bridge.core.desired import GROUPS, LinkPolicy
from keycloak_bridge.core.document import Problems, Section
from keycloak_bridge.core.durations import parse_duration
from keycloak_bridge.core.expression_analysis import Path, suggestion
from keycloak_bridge.core.expressions import (
    Expression,
    ExpressionError,
    Tables,
    compile_expression,
)
from keycloak_bridge.core.mapping_memberships import MEMBERSHIP_KINDS, MembershipReader
from keycloak_bridge.core.mapping_rules import (
    ATTRIBUTE_PREFIX,
    DEFAULT_RESERVED,
    USER_FIELDS,
    InviteOverrides,
    MappingRules,
    MembershipRule,
    TargetRule,
    group_path,
)
from keycloak_bridge.core.mapping_targets import TargetReader

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
