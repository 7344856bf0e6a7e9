"""Decide whether a found user is the event's own: an event never takes over an account."""

from collections.abc import Collection

from keycloak_bridge.core.errors import ConflictError, Violation
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.model import DesiredUser, FoundUser, LinkPolicy, UserRepresentation
from keycloak_bridge.core.usernames import is_reserved


def refuse_foreign_user(
    desired: DesiredUser, found: FoundUser, reserved: Collection[str] = ()
) -> None:
    """Return when the event may write to `found`, raise ConflictError otherwise.

    It may when `found` carries exactly the event's external id, or carries none and the link policy allows it.
    """
    user = found.representation
    if user.get("serviceAccountClientId") or is_reserved(user.get("username", ""), reserved):
        raise _conflict(
            found,
            "reserved-user",
            "is a service account or has a reserved username",
            "correct the event; events never change such users",
        )
    external_id = desired.matching[0]
    name = external_id.target.removeprefix(ATTRIBUTE_PREFIX)
    stored = (user.get("attributes") or {}).get(name) or []
    if stored == [external_id.value]:
        return
    if stored:
        raise _conflict(
            found,
            "conflict",
            f"belongs to another user of user management (its {name} differs)",
            "correct the event, or the user in Keycloak; then replay the event",
        )
    if not _may_link(desired, user):
        raise _conflict(
            found,
            "conflict",
            f"exists already and carries no {name}",
            f"set the attribute {name} of that user in Keycloak, or allow it by link in the mapping; "
            "then replay the event",
        )


def _may_link(desired: DesiredUser, user: UserRepresentation) -> bool:
    """Say whether the policy lets the event take on a user that carries no external id."""
    if desired.link is LinkPolicy.VERIFIED_EMAIL:
        email = desired.representation.get("email")
        verified = bool(user.get("emailVerified"))
        return verified and email is not None and (user.get("email") or "").lower() == email
    return desired.link is LinkPolicy.MATCHING_ATTRIBUTE


def _conflict(found: FoundUser, code: str, reason: str, remedy: str) -> ConflictError:
    pointer = "/user/" + found.matched_by.replace(ATTRIBUTE_PREFIX, "attributes/", 1)
    return ConflictError(
        f"the Keycloak user found by {found.matched_by} {reason}",
        code=code,
        remedy=remedy,
        violations=(Violation(pointer, "owner", f"the user found by it {reason}"),),
    )
