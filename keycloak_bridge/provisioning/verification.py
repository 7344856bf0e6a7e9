"""Read a written user back: is it stored completely?

Keycloak's 201 does not say that all of it is stored: Keycloak drops attributes that its user profile does not know,
required actions that it does not have, and what the realm switches off.
"""

import re
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from keycloak_bridge.domain.errors import DroppedError, KeycloakNotFoundError, Violation
from keycloak_bridge.domain.events import EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE
from keycloak_bridge.domain.operations import Change, CreateUser, UpdateUser
from keycloak_bridge.domain.ports import UserDirectory
from keycloak_bridge.domain.representation import differences, normalised
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    EXACT_ID_ATTRIBUTE,
    UserRepresentation,
    representation_of,
)

_PERCENT = 100
_MOST_ACTIONS = 256
"""How many different actions are remembered; a realm has a dozen."""

_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""What an action may be called to be shown: an event can hold anything in its place."""

_MOST_NAMED = 5
_ACTIONS = "requiredActions"
_LOCALE = f"{ATTRIBUTE_PREFIX}locale"
_WRITTEN_BY_OTHERS = frozenset(
    (f"{ATTRIBUTE_PREFIX}{INVITATION_ATTRIBUTE}", "emailVerified", "requiredActions")
)
"""What the invite stage or the user may have changed since an existing user was written."""


def dropped_of_new(sent: UserRepresentation, stored: UserRepresentation) -> tuple[str, ...]:
    """Return the targets of a created user that are not stored as they were sent."""
    if _written_since(sent, stored):
        return ()
    wanted = _normalised(sent)
    actions = set(stored.get("requiredActions") or ())
    if actions.issuperset(wanted.get("requiredActions") or ()):
        wanted.pop("requiredActions", None)  # the realm adds its default actions
    return _ours(differences(_normalised(stored), wanted), stored)


def dropped_of_changes(
    sent: UserRepresentation, changes: Sequence[Change], stored: UserRepresentation
) -> tuple[str, ...]:
    """Return the targets among `changes` that are not stored as the PUT of `sent` said."""
    if _written_since(sent, stored):
        return ()
    judged = [change for change in changes if change.target not in _WRITTEN_BY_OTHERS]
    wanted = representation_of(
        {one.target: one.after for one in judged if one.after or one.after is False}
    )
    erased = {one.target for one in judged if not one.after and one.after is not False}
    return _ours(differences(_normalised(stored), _normalised(wanted), frozenset(), erased), stored)


def _ours(missed: Sequence[Change], stored: UserRepresentation) -> tuple[str, ...]:
    """Return the targets among `missed` that this bridge decides.

    Others decide the username where the realm uses the e-mail address for it, and every field of a user that a
    federation such as LDAP stores by its own rules. A username that is the external id is always this bridge's.
    """
    user = _normalised(stored)
    by_id = EXACT_ID_ATTRIBUTE in _attributes(stored)
    if stored.get("federationLink"):
        missed = [one for one in missed if one.target.startswith(ATTRIBUTE_PREFIX)]
    if not by_id and user.get("email") and user.get("email") == user.get("username"):
        missed = [one for one in missed if one.target != "username"]
    return tuple(one.target for one in missed)


def _written_since(sent: UserRepresentation, stored: UserRepresentation) -> bool:
    """Say whether the user was written since; then nothing can be said about this write.

    By another event, or by the invite stage, perhaps of the process that took over while this one was frozen.
    """
    then, now = _attributes(sent), _attributes(stored)
    return any(
        now.get(name) and now.get(name) != then.get(name)
        for name in (EVENT_ID_ATTRIBUTE, INVITATION_ATTRIBUTE)
    )


def _normalised(user: UserRepresentation) -> UserRepresentation:
    """Return `user` without what Keycloak normalises: case, surrounding white space, order, repetitions."""
    body: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in user.items()
    }
    body["attributes"] = {
        name: [value.strip() for value in values] for name, values in _attributes(user).items()
    }
    return normalised(cast("UserRepresentation", body))


def _attributes(user: UserRepresentation) -> dict[str, list[str]]:
    return user.get("attributes") or {}


@dataclass(frozen=True, slots=True)
class VerificationPolicy:
    """Which written users are read back: `always`, `off`, or `sampled`.

    A sample has the `first` ones, until so many in a row agree, and `share_percent` of all later ones.
    """

    mode: str = "sampled"
    share_percent: int = 1
    first: int = 100


class Verification:
    """Compares what was written with what is stored. Safe to share between threads."""

    def __init__(self, directory: UserDirectory, policy: VerificationPolicy) -> None:
        self._directory = directory
        self._policy = policy
        self._lock = threading.Lock()
        self._agreed = 0
        self._actions: set[str] = set()

    def wants(self, identity: str, actions: Sequence[str] = ()) -> bool:
        """Say whether the user of this event is read back; of later events, the choice is the same in every process.

        A sample always has a new user with a required action that was never seen stored.
        """
        policy = self._policy
        if policy.mode != "sampled":
            return policy.mode == "always"
        with self._lock:
            if self._agreed < policy.first or not self._actions.issuperset(actions):
                return True
        hashed = zlib.crc32(identity.encode("utf-8", "surrogatepass"))
        return hashed % _PERCENT < policy.share_percent

    def created(
        self, user_id: str, operation: CreateUser, carriers: Sequence[UserRepresentation]
    ) -> None:
        """Raise DroppedError where the new user is not stored as it was sent.

        `carriers` are the users with its external id; without that, the user is not among them and is read by itself.
        """
        own = [one for one in carriers if one.get("id") == user_id]
        stored = own[0] if own else self._stored(user_id)
        sent = operation.representation
        actions = sent.get("requiredActions") or ()
        kept = set(stored.get("requiredActions") or ()).intersection(actions)
        with self._lock:
            if len(self._actions) < _MOST_ACTIONS:
                self._actions |= kept
        self._judge(dropped_of_new(sent, stored), actions, kept)

    def updated(self, user_id: str, operation: UpdateUser) -> None:
        """Raise DroppedError where a change is not stored as it was sent."""
        stored = self._stored(user_id)
        self._judge(dropped_of_changes(operation.representation, operation.changes, stored))

    def _stored(self, user_id: str) -> UserRepresentation:
        stored = self._directory.get(user_id)
        if stored is None:
            raise KeycloakNotFoundError("the user is gone", code="user-not-found")
        return stored

    def _judge(
        self,
        dropped: Sequence[str],
        actions: Sequence[str] = (),
        kept: Collection[str] = (),
    ) -> None:
        """Raise DroppedError where anything was dropped; of the required `actions`, those that are not `kept`."""
        with self._lock:
            self._agreed = 0 if dropped else self._agreed + 1
        if not dropped:
            return
        unknown = {at: one for at, one in enumerate(actions) if one not in kept}
        pointers = [
            pointer
            for target in dropped
            for pointer in (
                [f"{_pointer(target)}/{at}" for at in unknown]
                if target == _ACTIONS and unknown
                else [_pointer(target)]
            )
        ]
        raise DroppedError(
            f"Keycloak accepted the user and did not store all of it ({', '.join(dropped)})",
            remedy="; ".join((*_remedies(dropped, unknown.values()), "then replay the event")),
            violations=[
                Violation(one, "stored", "is not stored as it was sent") for one in pointers
            ],
        )


def _remedies(dropped: Sequence[str], unknown: Collection[str]) -> Iterator[str]:
    """Yield what to do about each kind of thing that Keycloak dropped, and name it."""
    if _ACTIONS in dropped:
        shown = [one for one in unknown if _ALIAS.fullmatch(one)][:_MOST_NAMED]
        which = ", ".join(shown) if shown else "such as the event's"
        yield (
            f"Keycloak has no required action {which}: send the names as its list has them "
            "(Authentication > Required actions; they are case-sensitive), or install the provider of the action"
        )
    if _LOCALE in dropped:
        yield (
            "switch internationalization on under Realm settings > Localization, or remove the attribute locale from "
            "the mapping"
        )
    attributes = [
        one.removeprefix(ATTRIBUTE_PREFIX)
        for one in dropped
        if one.startswith(ATTRIBUTE_PREFIX) and one != _LOCALE
    ]
    if attributes:
        yield (
            f"add the attribute {', '.join(attributes)} to the realm's user profile, editable for admins, or remove it "
            "from the mapping"
        )
    fields = [one for one in dropped if one != _ACTIONS and not one.startswith(ATTRIBUTE_PREFIX)]
    if fields:
        yield (
            f"find out what changes {', '.join(fields)} in the realm: permissions in its user profile, or an extension"
        )


def _pointer(target: str) -> str:
    parts = (part.replace("~", "~0").replace("/", "~1") for part in target.split(".", 1))
    return "/user/" + "/".join(parts)
