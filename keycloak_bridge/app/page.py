"""The page of the running bridge: what it shows, from where, and the threads that follow the topics for it."""

import contextlib
import shlex
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.app.stages import Stage
from keycloak_bridge.delivery.guards import Limits
from keycloak_bridge.domain.errors import BusyError
from keycloak_bridge.domain.events import Record
from keycloak_bridge.domain.ports import Clock, UserDirectory
from keycloak_bridge.domain.times import format_time
from keycloak_bridge.domain.users import MatchCriterion, UserRepresentation, single_value
from keycloak_bridge.kafka.dead_letter_topic import DeadLetterReader
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.ops.status import Status
from keycloak_bridge.outcome_log.log import OutcomeFilter, OutcomeLog
from keycloak_bridge.outcome_log.user_state import setters_by_target, state_of
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.ui.access import PageAccess
from keycloak_bridge.ui.follower import Follower
from keycloak_bridge.ui.page import Page, UserView
from keycloak_bridge.ui.recent import (
    BUCKET,
    BUCKETS,
    MOST_DEAD_LETTERS,
    OpenDeadLetters,
    RecentOutcomes,
)

_QUEUE_S, _TIMELINE_S, _ANSWER_S = 2.0, 4.0, 6.0
"""How long a request for one user waits for another one's, reads the results topic, and waits for all of its answer.

The server ends requests soon after (SLOWEST_REQUEST_S).
"""

_MOST_TIMELINE = 200
_NEWEST = 1000
"""Outcomes that are read at the start, however old they are."""


@dataclass(frozen=True, slots=True)
class RunningPage:
    """The page and what follows the topics for it."""

    page: Page
    followers: Sequence[Follower[Any]]

    def start(self) -> None:
        """Begin to follow the topics; Kafka is waited for."""
        for one in self.followers:
            one.start()

    def close(self) -> None:
        """Stop following."""
        for one in self.followers:
            one.stop()
        for one in self.followers:
            one.join()


def running_page(
    settings: Settings,
    interpretation: Interpretation,
    status: Status,
    clock: Clock,
    directory: UserDirectory,
    stages: Sequence[Stage],
) -> RunningPage:
    """Return the page of a bridge, `stages` of which may be added later; raises ConfigError for a token that is no use."""
    outcomes, letters = RecentOutcomes(), OpenDeadLetters(interpretation.rules)
    results = Follower(
        "the results topic",
        partial(followed_outcomes, settings, clock),
        outcomes.clear,
        outcomes.add,
    )
    dead_letters = Follower(
        "the dead-letter topic",
        partial(followed_dead_letters, settings),
        letters.clear,
        letters.add,
    )
    page = Page(
        settings.keycloak.realm or "",
        status,
        clock,
        PageAccess(None if settings.ui.token is None else settings.ui.token.reveal),
        lambda: limits_of_stages(stages),
        outcomes,
        letters,
        UserViews(settings, interpretation.mapping.external_id, directory, letters).view,
        {"outcomes": results, "dead letters": dead_letters},
    )
    return RunningPage(page, (results, dead_letters))


def limits_of_stages(stages: Sequence[Stage]) -> Sequence[tuple[str, Limits]]:
    """Return the limits of each stage by its name."""
    return [(one.name, one.context.limits) for one in stages if one.context.limits is not None]


def followed_outcomes(
    settings: Settings, clock: Clock
) -> Generator[PastOutcome | None, None, None]:
    """Yield the newest outcomes, at least all of the time that the page shows, and then what comes; None while nothing does."""
    with contextlib.closing(OutcomeLog(settings.kafka, settings.topics.results)) as log:
        since = clock.now() - BUCKET * BUCKETS
        newest = log.newest(_NEWEST)
        oldest = newest[0].time if newest else None
        if len(newest) == _NEWEST and oldest is not None and oldest > since:
            yield from log.read(OutcomeFilter(since=since))
        else:
            yield from newest
        yield None
        yield from log.follow()


def followed_dead_letters(settings: Settings) -> Generator[Record | None, None, None]:
    """Yield the newest dead letters and marks, and then what comes; None while nothing does."""
    reader = DeadLetterReader(settings.kafka, settings.topics.dead_letters)
    with contextlib.closing(reader):
        reader.begin_near_end(MOST_DEAD_LETTERS)
        yield from reader.read()
        yield None
        for records in reader.follow():
            yield from records or (None,)


class UserViews:
    """What is known of single users. Safe to share between threads: one is read after the other."""

    def __init__(
        self,
        settings: Settings,
        external_id: str,
        directory: UserDirectory,
        letters: OpenDeadLetters,
    ) -> None:
        self._settings = settings
        self._external_id = external_id
        self._directory = directory
        self._letters = letters
        self._one_at_a_time = threading.Lock()

    def view(self, asked: str) -> UserView | None:
        """Return what is known of the user with this id, in user management or in Keycloak; None where that is nothing.

        Raises BridgeError; BusyError where others are being read, or Keycloak or Kafka take too long.
        """
        if not self._one_at_a_time.acquire(timeout=_QUEUE_S):
            raise BusyError("another user is being read; try again in a few seconds")
        found: Future[UserView | None] = Future()
        threading.Thread(
            target=self._answer, args=(asked, found), name="ui-user", daemon=True
        ).start()
        try:
            return found.result(_ANSWER_S)
        except TimeoutError as error:
            raise BusyError(
                f"Keycloak and Kafka did not answer within {_ANSWER_S:g} s; try again in a few seconds"
            ) from error

    def _answer(self, asked: str, found: "Future[UserView | None]") -> None:
        try:
            view = self._view(asked)
        except Exception as error:  # noqa: BLE001 # whoever waits gets it
            found.set_exception(error)
        else:
            found.set_result(view)
        finally:
            self._one_at_a_time.release()

    def _view(self, asked: str) -> UserView | None:
        user = self._user(asked)
        user_id = asked if user is None else single_value(user, self._external_id)
        outcomes, cut = self._outcomes(user_id)
        opened = 0 if user_id is None else self._letters.of_user(user_id)
        if user is None and not outcomes and not opened and not cut:
            return None
        return UserView(
            self._facts(user, user_id, opened),
            outcomes[::-1][:_MOST_TIMELINE],
            setters_by_target(user or {}, outcomes),
            cut,
        )

    def _user(self, asked: str) -> UserRepresentation | None:
        """Find the user by id only: an address has no place in the address bar."""
        found = self._directory.having(MatchCriterion(f"attributes.{self._external_id}", asked))
        return found[0] if len(found) == 1 else self._directory.get(asked)

    def _outcomes(self, user_id: str | None) -> tuple[Sequence[PastOutcome], str | None]:
        """Return the outcomes of the user, and why there are none where the topic is too long to be read now."""
        if user_id is None:
            return (), None
        kafka, topic = self._settings.kafka, self._settings.topics.results
        watched = partial(_in_time, time.monotonic() + _TIMELINE_S)
        with contextlib.closing(OutcomeLog(kafka, topic, watched=watched)) as log:
            try:
                return log.of_user(user_id), None
            except TimeoutError:
                return (), (
                    "The results topic is too long to be read here; "
                    f"all that it holds of this user: keycloak-bridge explain {shlex.quote(user_id)}"
                )

    def _facts(
        self, user: UserRepresentation | None, user_id: str | None, opened: int
    ) -> Sequence[tuple[str, str]]:
        facts = [("User id", user_id or "none in user management")]
        if user is None:
            facts.append(("Keycloak id", "the realm has no such user"))
        else:
            state = state_of(user)
            last = "none"
            if state.event_id is not None:
                at = "" if state.event_time is None else f" of {_to_the_second(state.event_time)}"
                last = state.event_id + at
            invitation = "none"
            if state.invitation is not None:
                invitation = state.invitation.words
                if state.invitation.event_id:
                    invitation += f", caused by {state.invitation.event_id}"
                if state.invitation.link_ends is not None:
                    invitation += f"; its link ends {_to_the_second(state.invitation.link_ends)}"
            credentials = self._directory.has_credentials(user["id"])
            facts += [
                ("Keycloak id", user["id"]),
                ("Enabled", "yes" if state.enabled else "no"),
                ("Last event", last),
                ("Invitation", invitation),
                ("Credentials", "yes" if credentials else "none yet"),
                ("Required actions", ", ".join(user.get("requiredActions") or []) or "none"),
            ]
        return [*facts, ("Open dead letters", str(opened))]


def _to_the_second(time: datetime) -> str:
    return f"{format_time(time)[:19].replace('T', ' ')} UTC"


def _in_time(deadline_s: float, records: Iterable[Record], _: int) -> Iterator[Record]:
    for record in records:
        if time.monotonic() > deadline_s:
            raise TimeoutError
        yield record
