"""Lay one desired user over another: the last word on every target, membership and identity of a user that exists."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

from keycloak_bridge.core.desired import (
    DesiredUser,
    IdentityLink,
    Intent,
    Membership,
    UserRepresentation,
)
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.representation import is_erasable

NEUTRAL: Mapping[Intent, Intent] = MappingProxyType(
    {Intent.INVITE: Intent.ENABLE, Intent.ANONYMISE: Intent.DISABLE}
)
"""What is left of an intent that does more than its representation says, once that was done."""

_IMPERSONAL = frozenset(("emailVerified", "requiredActions"))
"""Fields that an anonymised user keeps, since they name nobody."""

_BRINGING = (Intent.PROVISION, Intent.UPDATE)


def overlaid(earlier: DesiredUser, later: DesiredUser) -> DesiredUser:
    """Return what brings a user to the state that `earlier` and then `later` would bring it to.

    Both are of the same user, which exists by the time of `later`: what that writes at creation only is passed over.
    Neither deletes or anonymises.
    """
    representation, create_only, cleared = _targets(earlier, later)
    speaks_of_enabled = "enabled" in later.representation
    brings = later.intent in _BRINGING
    return replace(
        earlier,
        representation=representation,
        matching=max(later.matching, earlier.matching, key=len),
        create_only=create_only,
        cleared=cleared,
        memberships=_memberships(earlier, later),
        identities=_identities(earlier, later),
        link=later.link if brings else earlier.link,
        invitation=later.invitation or earlier.invitation,
        intent=_intent(earlier, later),
        email_change=later.email_change if brings else earlier.email_change,
        ends_sessions=later.ends_sessions if speaks_of_enabled else earlier.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def anonymised(earlier: DesiredUser, later: DesiredUser, username: str | None) -> DesiredUser:
    """Return what is left of `earlier` once `later` erased all that names the person; memberships stay.

    `username` is what takes the place of the user's own, where that is known already.
    """
    user = cast("dict[str, Any]", earlier.representation)
    kept = {name: user[name] for name in _IMPERSONAL if name in user}
    left: dict[str, Any] = {**kept, **later.representation, "enabled": False}
    if username is not None:
        left["username"] = username
    return replace(
        earlier,
        representation=cast("UserRepresentation", left),
        create_only=earlier.create_only & _IMPERSONAL,
        cleared=earlier.cleared & _IMPERSONAL,
        identities=tuple(IdentityLink(one.alias, None) for one in earlier.identities),
        intent=earlier.intent if earlier.intent in _BRINGING else Intent.DISABLE,
        ends_sessions=later.ends_sessions,
        protected_groups=earlier.protected_groups | later.protected_groups,
    )


def _intent(earlier: DesiredUser, later: DesiredUser) -> Intent:
    if earlier.intent in _BRINGING or later.intent in _BRINGING:
        return Intent.PROVISION
    return NEUTRAL.get(later.intent, later.intent)


def _targets(
    earlier: DesiredUser, later: DesiredUser
) -> tuple[UserRepresentation, frozenset[str], frozenset[str]]:
    """Return the representation, and which of its targets are written at creation only or are erased."""
    held = dict(_flat(earlier.representation))
    create_only, cleared = set(earlier.create_only), set(earlier.cleared)
    spoken = {
        target: value
        for target, value in _flat(later.representation)
        if target not in later.create_only
    }
    for target, value in spoken.items():
        cleared.discard(target)
        if target == "emailVerified" and not value and target in held:
            continue  # an e-mail that was verified stays verified, be it by the creation or later
        held[target] = value
        create_only.discard(target)
    for target in later.cleared - later.create_only - set(spoken):
        if is_erasable(target):
            held.pop(target, None)
            create_only.discard(target)
            cleared.add(target)
    return _nested(held), frozenset(create_only), frozenset(cleared)


def _flat(representation: UserRepresentation) -> Iterator[tuple[str, Any]]:
    for name, value in representation.items():
        if name != "attributes":
            yield name, value
    for name, values in representation.get("attributes", {}).items():
        yield ATTRIBUTE_PREFIX + name, values


def _nested(targets: Mapping[str, Any]) -> UserRepresentation:
    user: dict[str, Any] = {"attributes": {}}
    for target, value in targets.items():
        if target.startswith(ATTRIBUTE_PREFIX):
            user["attributes"][target.removeprefix(ATTRIBUTE_PREFIX)] = value
        else:
            user[target] = value
    return cast("UserRepresentation", user)


def _memberships(earlier: DesiredUser, later: DesiredUser) -> tuple[Membership, ...]:
    """Return per kind who was named last and who was taken away last; `owned` is then only what is taken away."""
    kinds = {one.kind: one for one in earlier.memberships}
    for one in later.memberships:
        before = kinds.get(one.kind)
        kinds[one.kind] = one if before is None else _membership(before, one)
    return tuple(kinds.values())


def _membership(earlier: Membership, later: Membership) -> Membership:
    left_later = later.owned - set(later.names)
    left_earlier = earlier.owned - set(earlier.names)
    kept = [name for name in earlier.names if name not in left_later]
    names = tuple(dict.fromkeys([*kept, *later.names]))
    owned = (left_earlier | left_later) - set(names)
    return Membership(
        later.kind, names, frozenset(owned), earlier.create_missing or later.create_missing
    )


def _identities(earlier: DesiredUser, later: DesiredUser) -> tuple[IdentityLink, ...]:
    links = {one.alias: one for one in earlier.identities}
    links |= {one.alias: one for one in later.identities}
    return tuple(links.values())
