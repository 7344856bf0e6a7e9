"""Check that the event may change the found user: an event never takes over an account."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from keycloak_bridge.domain.errors import ConflictError, Violation
from keycloak_bridge.domain.events import INVITATION_ATTRIBUTE
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    REALM_ROLES,
    DesiredUser,
    FoundUser,
    LinkPolicy,
    UserRepresentation,
    client_of,
    external_ids,
)
from keycloak_bridge.mapping.reserved_names import is_protected, reserved_name
from keycloak_bridge.mapping.rules import MembershipRule
from keycloak_bridge.planning.bookkeeping import mark_text

_REALM_MANAGEMENT = "realm-management"
_REALM_CLIENT = "-realm"
"""Suffix of the clients in the realm master whose roles administer other realms."""

_ADMINISTRATIVE_ROLES = frozenset({"admin", "create-realm"})
"""Roles of the realm master."""

_RESERVED = "is a service account or has a reserved username or e-mail address"


def refuse_foreign_user(
    desired: DesiredUser, found: FoundUser, reserved: Collection[str] = ()
) -> None:
    """Raise ConflictError unless the event may write to `found`.

    It may when `found` has exactly the event's external id, or has none and the link policy allows it. It may not when
    its username or e-mail address is reserved, or the user is in a protected group or a group below one, which inherits its roles.
    """
    user = found.representation
    external_id = desired.external_id
    name = external_id.target.removeprefix(ATTRIBUTE_PREFIX)
    stored = external_ids(user, external_id)
    code = "conflict"
    if _is_reserved(user, reserved):
        code = "reserved-user"
        reason = _RESERVED
        remedy = "correct the event; events never change such users"
    elif _protected(found.memberships.get(GROUPS, ()), desired.protected_groups):
        code = "protected-user"
        reason = "is a member of a protected group"
        remedy = "change that user in Keycloak itself; events never change members of such groups"
    elif stored == [external_id.value] or (not stored and _may_link(desired, found, user)):
        return
    elif stored:
        reason = f"belongs to another user of user management (its {name} differs)"
        remedy = "correct the event, or the user in Keycloak; then replay the event"
    else:
        reason = f"exists already and carries no {name}"
        remedy = (
            f"set the attribute {name} of that user in Keycloak, or allow it by link in the mapping; "
            "then replay the event"
        )
    pointer = "/user/" + found.matched_by.replace(ATTRIBUTE_PREFIX, "attributes/", 1)
    raise ConflictError(
        f"the Keycloak user found by {found.matched_by} {reason}",
        code=code,
        remedy=remedy,
        violations=(Violation(pointer, "owner", f"the user found by it {reason}"),),
    )


@dataclass(frozen=True, slots=True)
class OwnUsers:
    """Which users are the bridge's own, as far as that shows without an event: those it may mail.

    `external_id` is the attribute with the id in user management; `reserved` and `protected_groups` are those of all
    mappings.
    """

    external_id: str
    reserved: frozenset[str] = frozenset()
    protected_groups: frozenset[str] = frozenset()

    def refuse_another(self, user: UserRepresentation, external_id: str) -> None:
        """Raise ConflictError (`reserved-user`, `foreign-user`) unless `user` is the bridge's own with this id."""
        if _is_reserved(user, self.reserved):
            raise _no_mail("reserved-user", _RESERVED)
        stored = (user.get("attributes") or {}).get(self.external_id) or []
        if stored != [external_id]:
            raise _no_mail(
                "foreign-user", f"does not have the record's userId as its {self.external_id}"
            )
        if mark_text(user) is None:
            raise _no_mail("foreign-user", f"has no {INVITATION_ATTRIBUTE}: no event asks for it")

    def refuse_protected(self, groups: Collection[str]) -> None:
        """Raise ConflictError (`protected-user`) when one of a user's groups is protected."""
        if _protected(groups, self.protected_groups):
            raise _no_mail("protected-user", "is a member of a protected group")


def _no_mail(code: str, reason: str) -> ConflictError:
    return ConflictError(
        f"the Keycloak user that the record names {reason}",
        code=code,
        remedy="no mail was sent; find out who wrote the record: only the bridge may write to the invitations topic",
        violations=(Violation("/data/keycloakId", "owner", f"the user {reason}"),),
    )


def refuse_protected_groups(desired: DesiredUser) -> None:
    """Raise ConflictError when the event would make its user a member of a protected group."""
    groups = [name for one in desired.memberships if one.kind == GROUPS for name in one.names]
    if _protected(groups, desired.protected_groups):
        raise ConflictError(
            "the event would make its user a member of a protected group",
            code="protected-user",
            remedy="take the group out of the event or out of the mapping's `allow`; then replay the event",
            violations=(Violation("/user/groups", "protected", "a protected group is among them"),),
        )


def administering(rules: Iterable[MembershipRule]) -> tuple[str, ...]:
    """Return the kinds of membership by which an event may make its user an administrator of a realm, sorted.

    Groups and organizations are not among them: their roles depend on the realm.
    """
    kinds = set()
    for rule in rules:
        client = client_of(rule.kind) or ""
        if rule.kind == REALM_ROLES:
            administers = rule.allow is None or bool(rule.allow & _ADMINISTRATIVE_ROLES)
        else:
            administers = client == _REALM_MANAGEMENT or client.endswith(_REALM_CLIENT)
        if administers:
            kinds.add(rule.kind)
    return tuple(sorted(kinds))


def _is_reserved(user: UserRepresentation, reserved: Collection[str]) -> bool:
    return bool(user.get("serviceAccountClientId")) or reserved_name(user, reserved) is not None


def _protected(groups: Collection[str], protected: Collection[str]) -> bool:
    return any(is_protected(group, protected) for group in groups)


def _may_link(desired: DesiredUser, found: FoundUser, user: UserRepresentation) -> bool:
    """Return whether the policy lets the event adopt a user that has no external id.

    A username is no proof: anybody who registers it in advance would get the account of the person it was meant for.
    """
    if not desired.intent.describes_user:
        return False
    if desired.link is LinkPolicy.VERIFIED_EMAIL:
        email = desired.representation.get("email")
        verified = bool(user.get("emailVerified"))
        return verified and email is not None and (user.get("email") or "").lower() == email
    if desired.link is LinkPolicy.MATCHING_ATTRIBUTE:
        return found.matched_by.startswith(ATTRIBUTE_PREFIX)
    return False
