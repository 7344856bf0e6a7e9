"""The users of the realm at one moment, so that plans of many users need no search for each.

Keycloak takes about as long to list a user as to search for one, and the time of a search may grow with the realm. So the
realm is listed once where that is less than a search for each user of the population. In a larger realm, usernames and
addresses alone are listed, which is a small part of that: then nobody need search for those of a new user.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any, cast

from keycloak_bridge.app.connections import all_users, count_users, user_directory
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.fingerprint import is_among
from keycloak_bridge.domain.ports import NOTHING_MORE, Clock, UserDirectory
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    FoundUser,
    Lookup,
    MatchCriterion,
    UserRepresentation,
)
from keycloak_bridge.keycloak.admin import quote_query
from keycloak_bridge.keycloak.lookup_times import (
    LISTED_S,
    NAME_SEARCHED_S,
    NAMED_S,
    SLOW_S,
    search_cost_s,
)
from keycloak_bridge.ops.clock import SystemClock
from keycloak_bridge.population.packing import Packer
from keycloak_bridge.population.population import Population
from keycloak_bridge.settings.model import Settings

FEW = 500
"""A population that small is searched for: users change while a realm is listed."""

_SAMPLE, _SLOW_SAMPLE = 20, 3


class Way(StrEnum):
    """How to know the users of a population: list all users, list their names, or search for each."""

    USERS = "users"
    NAMES = "names"
    SEARCHES = "searches"


@dataclass(frozen=True, slots=True)
class Sample:
    """What some users of a population tell of all: how long the search for one takes, and how many the realm lacks."""

    search_s: float
    new_share: float
    is_username: bool = False
    """Whether the external id is the username, so that a list of names tells of an id that it is not there."""


def least_way(listed: int, wanted: int, sample: Sample) -> Way:
    """Return what costs Keycloak least: it has so many users, and so many are wanted.

    A new user costs more searches, for its username and its address.
    """
    if wanted < FEW:
        return Way.SEARCHES
    search_s = search_cost_s(sample.search_s)
    new = wanted * sample.new_share
    names = 1 if sample.is_username else 2
    costs = {
        Way.USERS: listed * LISTED_S,
        Way.NAMES: listed * NAMED_S + (wanted - new * sample.is_username) * search_s,
        Way.SEARCHES: wanted * search_s + new * names * NAME_SEARCHED_S,
    }
    return min(costs, key=lambda way: costs[way])


def sample_of(directory: UserDirectory, population: Population, clock: Clock) -> Sample:
    """Search for some users of the population, fewer where that takes long; raises what keeps all from being found."""
    took_s: list[float] = []
    new = 0
    is_username = False
    for user in population.some(_SAMPLE):
        external_id = user.folded.desired.external_id
        is_username = external_id.is_username
        begun_s = clock.monotonic()
        try:
            new += directory.find([external_id]) is None
        except BridgeError as error:
            if not error.is_final:
                raise  # what is wrong with one user is told when it is planned
        took_s.append(clock.monotonic() - begun_s)
        if len(took_s) >= _SLOW_SAMPLE and median(took_s) > SLOW_S:
            break
    return Sample(median(took_s or [0.0]), new / max(1, len(took_s)), is_username)


class RealmSnapshot:
    """A UserDirectory whose `find` knows the realm as it was listed; all else goes to `directory`.

    Kept are, packed, the users with an external id that is `wanted`, and of all others 16 bytes. Whatever the list alone does
    not decide, such as which of several users has a name, is asked of Keycloak. Safe to share between threads.
    """

    def __init__(
        self,
        directory: UserDirectory,
        users: Iterable[UserRepresentation],
        external_id: str,
        wanted: Callable[[str], bool],
        *,
        whole: bool = True,
    ) -> None:
        """Read all of `users`, which have their attributes where they are `whole`; raises what they raise."""
        self._directory = directory
        self._whole = whole
        self._attribute = external_id
        self._packer: Packer[UserRepresentation] = Packer()
        self._known: dict[str, list[bytes]] = {}
        names = array("q")
        seen: set[str] = set()
        for user in users:
            names.extend(_name(user[field]) for field in ("username", "email") if user.get(field))
            values = {one for one in self._ids(user) if wanted(one)}
            if values and user["id"] not in seen:  # pages overlap
                seen.add(user["id"])
                packed = self._packer.pack(user)
                for value in values:
                    self._known.setdefault(value, []).append(packed)
        self._names = array("q", sorted(names))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._directory, name)

    def find(
        self,
        criteria: Sequence[MatchCriterion],
        lookup: Lookup = NOTHING_MORE,
        *,
        owner: MatchCriterion | None = None,
    ) -> FoundUser | None:
        """Return what `UserDirectory.find` would; raises as it does."""
        for criterion in criteria:
            if self._excludes(criterion):
                continue
            found = self._listed(criterion, lookup) or self._directory.find(
                [criterion], lookup, owner=owner
            )
            if found is not None:
                return found
        return None

    def _excludes(self, criterion: MatchCriterion) -> bool:
        """Say whether certainly no user had this."""
        target, value = criterion.target, criterion.value
        try:
            quote_query(value)
        except ValueError:  # Keycloak cannot be asked for it, and the error says so
            return False
        names = target in ("username", "email") or criterion.is_username
        if not names and not (self._whole and target == self._target):
            return False
        return value not in self._known and not self._has_name(value)

    def _listed(self, criterion: MatchCriterion, lookup: Lookup) -> FoundUser | None:
        """Return the user that alone has this external id, None where Keycloak must be asked."""
        known = self._known.get(criterion.value, ()) if criterion.target == self._target else ()
        if len(known) != 1 or lookup.identities or lookup.sessions:
            return None
        user = self._packer.unpack(known[0])
        if criterion.is_username and user["username"] != criterion.value.lower():
            return None
        memberships = {
            kind: self._directory.belongs_to(user["id"], kind)
            for kind in sorted(lookup.memberships)
        }
        return FoundUser(user["id"], user, matched_by=criterion.target, memberships=memberships)

    @property
    def _target(self) -> str:
        return ATTRIBUTE_PREFIX + self._attribute

    def _ids(self, user: UserRepresentation) -> Sequence[str]:
        return (user.get("attributes") or {}).get(self._attribute) or ()

    def _has_name(self, name: str) -> bool:
        return is_among(self._names, _name(name))


def _name(name: str) -> int:
    return hash(name.lower())


def users_to_plan_with(
    settings: Settings,
    population: Population,
    external_id: str,
    listing: Callable[[Iterator[UserRepresentation], int], Iterator[UserRepresentation]],
) -> UserDirectory:
    """Return where to find the users of `population`: the realm, or what it lists where that is less.

    `listing` passes the users on, of whom there are so many, for a progress bar. Raises KeycloakError or ConfigError.
    """
    directory = user_directory(settings)
    if len(population) < FEW:
        return directory
    count = count_users(settings)
    way = least_way(count, len(population), sample_of(directory, population, SystemClock()))
    if way is Way.SEARCHES:
        return directory
    whole = way is Way.USERS
    users = listing(all_users(settings, brief=not whole), count)
    snapshot = RealmSnapshot(directory, users, external_id, population.mentions, whole=whole)
    return cast("UserDirectory", snapshot)
