"""The port UserDirectory on Keycloak's Admin REST API: finding, writing and inviting the users of one realm."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from keycloak_bridge.domain.errors import (
    KeycloakAuthError,
    KeycloakError,
    KeycloakNotFoundError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.ports import NOTHING_MORE, Clock
from keycloak_bridge.domain.representation import without_blanks
from keycloak_bridge.domain.users import (
    FoundUser,
    IdentityLink,
    InvitationTerms,
    Lookup,
    MatchCriterion,
    UserRepresentation,
    external_ids,
    may_be,
)
from keycloak_bridge.keycloak.admin import USERS, KeycloakAdmin, Params, each_page
from keycloak_bridge.keycloak.errors import conflict, mail_refusal, refuse_unusable, unsearchable
from keycloak_bridge.keycloak.lookup_times import LookupKind, LookupTimes
from keycloak_bridge.keycloak.mail_server import MailServer
from keycloak_bridge.keycloak.memberships import AllMemberships, Cache, Identities, normal_path

_EVENTS = "admin events"
_PAGE = 500
_SLACK = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(seconds=60)
_FEW = 20
_NEVER = -1
_ATTRIBUTE_PREFIX = "attributes."
_NO_USERS = frozenset(("count", "profile"))
"""What else there is below /users: a forged invitation may name it as a user's id."""

_COMPUTED = ("access", "userProfileMetadata")


class KeycloakUserDirectory:
    """Finds, writes and invites the users of one realm. Safe to share between threads."""

    def __init__(
        self, admin: KeycloakAdmin, clock: Clock, times: LookupTimes | None = None
    ) -> None:
        self._admin = admin
        self.times = times or LookupTimes(clock)
        self._memberships = AllMemberships(admin, clock)
        self._identities = Identities(admin, clock)
        self._events_readable = Cache[bool](clock)
        self._knows_days_only = False
        self._mail_server = MailServer(admin, clock)

    def find(
        self,
        criteria: Sequence[MatchCriterion],
        lookup: Lookup = NOTHING_MORE,
        *,
        owner: MatchCriterion | None = None,
    ) -> FoundUser | None:
        """Return the user that the first successful criterion finds; see the port.

        Raises KeycloakRejectedError (`unsearchable-value`) for an external id that Keycloak cannot be asked for.
        """
        for criterion in criteria:
            matches = self._matches(criterion) if criterion.value else []
            if criterion.is_username:
                matches = exactly(matches, criterion)
            matches = [user for user in matches if may_be(user, owner)]
            if len(matches) > 1:
                raise conflict(code="ambiguous", name=criterion.target, count=len(matches))
            if matches:
                return self._found(matches[0], criterion.target, lookup)
        return None

    def having(self, criterion: MatchCriterion) -> Sequence[UserRepresentation]:
        """Return every user that `criterion` finds; see the port.

        Raises KeycloakRejectedError (`unsearchable-value`) for a value that Keycloak cannot be asked for.
        """
        if not criterion.value:
            return ()
        return tuple(map(_stored, carriers(self._matches(criterion), criterion)))

    def get(self, user_id: str) -> UserRepresentation | None:
        """Return the user with all attributes, or None."""
        if user_id in _NO_USERS:
            return None
        try:
            with self.times.timed(LookupKind.ID):
                return _stored(self._admin.get_user(user_id))
        except KeycloakNotFoundError:
            return None

    def belongs_to(self, user_id: str, kind: str) -> frozenset[str]:
        """Return what the user belongs to of this kind of membership; see the port."""
        return self._memberships.kind(kind).of(user_id)

    def missing(self, kind: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return those groups or organizations that the realm does not have, as they were given; none for roles."""
        return self._memberships.kind(kind).missing(names)

    def create(self, representation: UserRepresentation) -> str:
        """Create the user and return its Keycloak id; see the port.

        KeycloakUnavailableError leaves open whether it was created: find it again.
        """
        representation = without_blanks(representation)
        groups = [normal_path(path) for path in representation.get("groups", [])]
        if groups:
            representation = {**representation, "groups": groups}
        try:
            return self._admin.create_user(representation)
        except KeycloakUnavailableError:
            # a group that was deleted meanwhile shows as a bare 500: look it up again before the next attempt
            for path in groups:
                self._memberships.groups.forget(path)
            raise

    def update(self, user_id: str, representation: UserRepresentation) -> None:
        """Replace the user by `representation`; see the port."""
        self._admin.update_user(user_id, representation)

    def delete(self, user_id: str) -> None:
        """Remove the user for good; harmless when it is gone."""
        with contextlib.suppress(KeycloakNotFoundError):
            self._admin.delete_user(user_id)

    def join(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Make the user a member of these, or give it these roles; see the port."""
        self._memberships.kind(kind).join(user_id, names)

    def leave(self, user_id: str, kind: str, names: Sequence[str]) -> None:
        """Undo `join`; see the port.

        Raises KeycloakRejectedError (`managed-member`) where an organization owns the user's account.
        """
        self._memberships.kind(kind).leave(user_id, names)

    def create_group(self, path: str) -> None:
        """Create the group and those above it; see the port. Raises KeycloakNotFoundError for what can be no group."""
        self._memberships.groups.create(path)

    def identity_owner(self, alias: str, user_id: str) -> str | None:
        """Return the Keycloak id of the user that is linked to this account; see the port.

        Raises ConflictError (`identity-taken`) where several are.
        """
        with self.times.timed(LookupKind.IDENTITY):
            return self._identities.owner(alias, user_id)

    def link_identity(self, user_id: str, link: IdentityLink) -> None:
        """Link the user to its account; see the port."""
        self._identities.link(user_id, link)

    def unlink_identity(self, user_id: str, alias: str) -> None:
        """Remove the link; harmless when there is none."""
        self._identities.unlink(user_id, alias)

    def end_sessions(self, user_id: str) -> None:
        """Log the user out everywhere; harmless when it has no session or is gone.

        Offline sessions stay; Keycloak refreshes none of a disabled user.
        """
        with contextlib.suppress(KeycloakNotFoundError):
            self._admin.log_out(user_id)

    def has_credentials(self, user_id: str) -> bool:
        """Say whether the user can already log in: by a password, a passkey, or anything else.

        Keycloak shows a password, made at no time, of each user of an LDAP directory, whether or not it has one.
        """
        credentials = self._admin.credentials(user_id)
        return any(one.get("createdDate") != _NEVER for one in credentials)

    def execute_actions_email(self, user_id: str, terms: InvitationTerms) -> None:
        """Have Keycloak mail the link; see the port.

        KeycloakRejectedError says by its code what is wrong: `user-disabled`, `no-email`, `no-actions`, `unknown-action`,
        `unknown-client`, `client-disabled`, `invalid-redirect` or `invalid-address`.
        """
        refuse_unusable(terms)
        try:
            self._admin.execute_actions_email(
                user_id,
                terms.actions,
                lifespan_s=terms.lifespan_s,
                client_id=terms.client_id,
                redirect_uri=terms.redirect_uri,
            )
        except MailDeliveryError as error:
            error.server_greets = self._mail_server.greets()
            raise
        except KeycloakRejectedError as error:
            raise self._mail_refusal(user_id, error) from error

    def can_look_up_mails(self) -> bool:
        """Say whether admin events are on and may be read, as far as was seen within the last minute."""
        known = self._events_readable.get(_EVENTS)
        if known is None:
            known = can_look_up_mails(self._admin)
            self._events_readable.put(_EVENTS, known)
        return known

    def mail_recorded(self, user_id: str, since: datetime | None = None) -> bool:
        """Say whether Keycloak recorded a link mailed to the user; see the port.

        `since` may be the bridge's time while the record is in Keycloak's, so a mail up to a minute older counts as well:
        better to take an earlier mail for this one than to miss this one. Keycloak has no index for paths and reads all
        admin events of the period, hence `since`; one before 26.2 knows days only.
        """
        path = f"users/{user_id}/execute-actions-email"
        params: dict[str, str | int] = {
            "operationTypes": "ACTION",
            "resourceTypes": "USER",
            "resourcePath": path,
            "max": _FEW,
        }
        earliest_ms = 0 if since is None else int((since - _CLOCKS_DIFFER).timestamp() * 1000)
        try:
            with self.times.timed(LookupKind.MAIL):
                events = self._admin_events(params, since, earliest_ms)
        except KeycloakAuthError as error:
            if error.status == 403:
                self._events_readable.put(_EVENTS, False)
            raise
        # Keycloak's comparison knows wildcards
        times_ms = [event.get("time") for event in events if event.get("resourcePath") == path]
        recorded = any(not isinstance(at, int) or at >= earliest_ms for at in times_ms)
        if not recorded:  # or mails are not recorded any more
            self._events_readable.forget(_EVENTS)
        return recorded

    def _admin_events(
        self, params: Params, since: datetime | None, earliest_ms: int
    ) -> Sequence[Mapping[str, Any]]:
        if since is None:
            return self._admin.admin_events(params)
        if not self._knows_days_only:
            try:
                return self._admin.admin_events({**params, "dateFrom": earliest_ms})
            except KeycloakRejectedError:
                self._knows_days_only = True
        # Keycloak takes the day in its own time zone, and its nodes' clocks may differ
        day = (since.astimezone(UTC) - _SLACK).date().isoformat()
        return self._admin.admin_events({**params, "dateFrom": day})

    def _matches(self, criterion: MatchCriterion) -> list[UserRepresentation]:
        """Ask Keycloak, and compare again here: its comparisons depend on the database."""
        target, value = criterion.target, criterion.value
        if criterion.is_username:
            return self._named("username", value.lower())
        if target.startswith(_ATTRIBUTE_PREFIX):
            return self._with_attribute(target.removeprefix(_ATTRIBUTE_PREFIX), value)
        if target not in ("username", "email"):
            raise ValueError(f"users cannot be matched by {target}")
        users, wanted = self._named(target, value), value.lower()
        return [user for user in users if str(user.get(target, "")).lower() == wanted]

    def _named(self, field: str, value: str) -> list[UserRepresentation]:
        try:
            value.encode()  # half a surrogate pair cannot be sent
        except UnicodeEncodeError as error:
            raise unsearchable(f"/user/{field}") from error
        with self.times.timed(LookupKind(field)):
            return self._admin.find_users_by_name(field, value)

    def _with_attribute(self, name: str, value: str) -> list[UserRepresentation]:
        try:
            with self.times.timed(LookupKind.ATTRIBUTE):
                users = self._admin.find_users_by_attribute(name, value)
        except ValueError as error:
            raise unsearchable(f"/user/attributes/{name}") from error
        return [user for user in users if value in user.get("attributes", {}).get(name, [])]

    def _found(self, user: UserRepresentation, target: str, lookup: Lookup) -> FoundUser:
        user_id = user["id"]
        kinds = sorted(lookup.memberships)
        return FoundUser(
            user_id,
            _stored(user),
            matched_by=target,
            memberships={kind: self._memberships.kind(kind).of(user_id) for kind in kinds},
            identities=self._identities.of(user_id) if lookup.identities else (),
            sessions=len(self._admin.sessions(user_id)) if lookup.sessions else 0,
        )

    def _mail_refusal(self, user_id: str, error: KeycloakRejectedError) -> KeycloakRejectedError:
        """Find the reason from the user itself: Keycloak's wording may change."""
        user = self._admin.get_user(user_id)
        if not user.get("enabled"):
            return mail_refusal("User is disabled")
        if not user.get("email"):
            return mail_refusal("User email missing")
        return error


def carriers(
    users: Sequence[UserRepresentation], criterion: MatchCriterion
) -> list[UserRepresentation]:
    """Return those of `users` that `criterion` means: where it is an external id and their username, those that carry it."""
    return [
        user
        for user in users
        if not criterion.is_username or criterion.value in external_ids(user, criterion)
    ]


def exactly(
    users: Sequence[UserRepresentation], external_id: MatchCriterion
) -> list[UserRepresentation]:
    """Return those of `users` that have this external id, which is their username for Keycloak.

    Raises ConflictError (`id-differs-in-case`) where they have another one only.
    """
    found = carriers(users, external_id)
    if not found and any(external_ids(user, external_id) for user in users):
        raise conflict(code="id-differs-in-case")
    return found


def _stored(user: UserRepresentation) -> UserRepresentation:
    """Leave out what Keycloak computes for each answer, so that two answers about one user are equal."""
    kept = {key: value for key, value in user.items() if key not in _COMPUTED}
    return cast("UserRepresentation", kept)


def can_look_up_mails(admin: KeycloakAdmin) -> bool:
    """Say whether the realm records the mails that it sends and lets the service account read that; asks now."""
    try:
        return admin.events_config().get("adminEventsEnabled") is True
    except KeycloakError as error:
        # 404: a gateway may let only the calls about users pass
        if error.status in (403, 404):
            return False
        raise


@contextlib.contextmanager
def read_ahead(
    page: Callable[[int], list[UserRepresentation]], step: int, ahead: int
) -> Iterator[Callable[[int], list[UserRepresentation]]]:
    """Lend `page` as one that has asked for the next pages already, each `step` further on, once the second is wanted.

    So a realm of one page costs one call.
    """
    if not ahead:
        yield page
        return
    pool = ThreadPoolExecutor(ahead + 1, thread_name_prefix="users")
    asked: dict[int, Future[list[UserRepresentation]]] = {}

    def reading(first: int) -> list[UserRepresentation]:
        for number in range(1 + (ahead if first else 0)):
            at = first + number * step
            if at not in asked:
                asked[at] = pool.submit(page, at)
        return asked.pop(first).result()

    try:
        yield reading
    finally:
        pool.shutdown(cancel_futures=True)


def each_user(
    admin: KeycloakAdmin,
    page_size: int = _PAGE,
    overlap: int = 0,
    ahead: int = 0,
    *,
    username: str = "",
    brief: bool = False,
) -> Iterator[UserRepresentation]:
    """Yield every user of the realm whose username contains `username`; keeps one page in memory.

    Each comes with all attributes, or, far cheaper, as a `brief` one without them.

    Keycloak counts its pages by place: of users that come or go meanwhile, some may be left out or come twice. With an
    `overlap` each page repeats so many users of the one before, and at least one of them must be in both. Then every user
    that existed before the first page and exists after the last is among them, some twice, or KeycloakUnavailableError
    (`realm-in-motion`) says that more users were deleted than the overlap covers. Raises KeycloakError (`not-keycloak`) where
    the pages repeat. So many pages `ahead` are asked for while one is read.
    """
    named: Params = {"username": username} if username else {}
    form = "true" if brief else "false"

    def page(first: int) -> list[UserRepresentation]:
        return admin.search_users(
            {**named, "first": first, "max": page_size, "briefRepresentation": form}
        )

    tail = frozenset[str]()
    with read_ahead(page, page_size - overlap, ahead) as reading:
        for users in each_page(USERS, reading, page_size, overlap):
            ids = [user["id"] for user in users]
            if tail and tail.isdisjoint(ids):
                raise KeycloakUnavailableError(
                    "users are deleted faster than the realm can be listed",
                    code="realm-in-motion",
                    remedy="nothing need be done: the listing is tried again",
                )
            yield from map(_stored, users)
            tail = frozenset(ids[len(ids) - overlap :])
