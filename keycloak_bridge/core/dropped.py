"""What Keycloak did not store of a user although it accepted the write.

It answers 201 and drops attributes that its user profile does not know, required actions that it does not have, and what
the realm switches off.
"""

from collections.abc import Sequence
from typing import Any, cast

from keycloak_bridge.core.desired import UserRepresentation
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.model import EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE
from keycloak_bridge.core.operations import Change
from keycloak_bridge.core.representation import differences, normalised

_ANOTHERS = frozenset(
    (f"{ATTRIBUTE_PREFIX}{INVITATION_ATTRIBUTE}", "emailVerified", "requiredActions")
)
"""What the invite stage or the user may have changed since a user that was there already was written."""


def dropped_of_new(sent: UserRepresentation, stored: UserRepresentation) -> tuple[str, ...]:
    """Return the targets of a created user that are not stored as they were sent."""
    if _written_since(sent, stored):
        return ()
    wanted = _even(sent)
    actions = set(stored.get("requiredActions") or ())
    if actions.issuperset(wanted.get("requiredActions") or ()):
        wanted.pop("requiredActions", None)  # the realm's default actions come on top
    return _judged(differences(_even(stored), wanted), stored)


def dropped_of_changes(
    sent: UserRepresentation, changes: Sequence[Change], stored: UserRepresentation
) -> tuple[str, ...]:
    """Return the targets among `changes` that are not stored as the PUT of `sent` said."""
    if _written_since(sent, stored):
        return ()
    judged = [change for change in changes if change.target not in _ANOTHERS]
    wanted = _made_of([one for one in judged if one.after or one.after is False])
    erased = {one.target for one in judged if not one.after and one.after is not False}
    return _judged(differences(_even(stored), _even(wanted), frozenset(), erased), stored)


def _judged(missed: Sequence[Change], stored: UserRepresentation) -> tuple[str, ...]:
    """Return the targets among `missed`, without those that are another's to decide.

    That is the username where the realm takes the e-mail address for it, and every field of a user that a federation
    such as LDAP stores, by its own rules.
    """
    user = _even(stored)
    if stored.get("federationLink"):
        missed = [one for one in missed if one.target.startswith(ATTRIBUTE_PREFIX)]
    if user.get("email") and user.get("email") == user.get("username"):
        missed = [one for one in missed if one.target != "username"]
    return tuple(one.target for one in missed)


def _written_since(sent: UserRepresentation, stored: UserRepresentation) -> bool:
    """Say whether somebody wrote the user meanwhile; then nothing can be said about this write.

    That is another event, or the invite stage, perhaps of the process that took over while this one stood still.
    """
    then, now = _attributes(sent), _attributes(stored)
    return any(
        now.get(name) and now.get(name) != then.get(name)
        for name in (EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE)
    )


def _made_of(changes: Sequence[Change]) -> UserRepresentation:
    made: dict[str, Any] = {}
    for change in changes:
        if change.target.startswith(ATTRIBUTE_PREFIX):
            name = change.target.removeprefix(ATTRIBUTE_PREFIX)
            made.setdefault("attributes", {})[name] = change.after
        else:
            made[change.target] = change.after
    return cast("UserRepresentation", made)


def _even(user: UserRepresentation) -> UserRepresentation:
    """Return `user` without what Keycloak evens out by itself: case, white space around, order, repetitions."""
    even: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in user.items()
    }
    even["attributes"] = {
        name: [value.strip() for value in values] for name, values in _attributes(user).items()
    }
    return normalised(cast("UserRepresentation", even))


def _attributes(user: UserRepresentation) -> dict[str, list[str]]:
    return user.get("attributes") or {}
