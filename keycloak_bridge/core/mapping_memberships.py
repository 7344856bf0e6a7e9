"""Read what the user shall belong to: groups, roles, organizations, and accounts at identity providers."""

from keycloak_bridge.core.desired import GROUPS, ORGANIZATIONS, REALM_ROLES, client_roles
from keycloak_bridge.core.document import Problems, Section
from keycloak_bridge.core.expression_analysis import suggestion
from keycloak_bridge.core.mapping_rules import IdentityRule, MembershipRule, group_path
from keycloak_bridge.core.mapping_targets import REMOVALS, Compile

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
