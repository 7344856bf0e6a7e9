"""The page itself: `/` shows state, stages, plot, invitations, dead letters and outcomes, `/user` one user's timeline.

Everything on it may have been written by anybody, so templates escape it, and what is not printable is shown as an escape.
"""

import base64
import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from keycloak_bridge.delivery.guards import LimitedAction, Limits
from keycloak_bridge.delivery.rate_limit import RateLimiter
from keycloak_bridge.domain.errors import BridgeError
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.times import Limit, format_duration, parse_duration
from keycloak_bridge.domain.unicode_text import printable
from keycloak_bridge.messages.recommended_actions import recommended_action
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.ops.http_server import Answer, Request, Route
from keycloak_bridge.ops.stage_reports import StageReport
from keycloak_bridge.ops.status import Status
from keycloak_bridge.outcome_log.log import OutcomeFilter
from keycloak_bridge.ui.access import PageAccess
from keycloak_bridge.ui.follower import Follower
from keycloak_bridge.ui.plot import plot_of
from keycloak_bridge.ui.recent import BUCKET, BUCKETS, OpenDeadLetters, RecentOutcomes

SHOWN = 100
"""Outcomes on one page."""

MOST_PER_S = 10.0
"""Pages a second; more are refused for a moment, so that nobody slows the flow down by looking."""

_METHODS = ("GET", "HEAD")
_LONGEST_QUERY = 4096
_LONGEST_SHOWN = 120
_TEXT = "text/html; charset=utf-8"
_FIELDS = ("outcome", "type", "code", "user", "event", "since", "until")


class UnreadableTimeError(ValueError):
    """A field of the form holds what is no time."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: write a time such as 2026-11-02T08:00 (UTC), or an age such as 2 hours"
        )
        self.field = name


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage as the page shows it; without a report it has not begun."""

    name: str
    report: StageReport | None
    rate_per_s: float

    @property
    def lag(self) -> int | None:
        """Records that are not committed, over the partitions of this process."""
        return sum(self.report.lag.values()) if self.report and self.report.lag else None


@dataclass(frozen=True, slots=True)
class LimitView:
    """How much of one limit is used."""

    stage: str
    action: LimitedAction
    used: int
    limit: Limit


@dataclass(frozen=True, slots=True)
class UserView:
    """What is known of one user: facts as name and text, its outcomes with the newest first, and what set each target last.

    `cut` says why older outcomes may be missing.
    """

    facts: Sequence[tuple[str, str]]
    outcomes: Sequence[PastOutcome] = ()
    targets: Mapping[str, PastOutcome | None] = field(default_factory=dict)
    cut: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Makes the page. Safe to share between threads.

    `limits` returns the limits of each running stage. `explain` returns what is known of the user with an id, None where that
    is nothing; it raises BridgeError, and takes seconds at worst.
    """

    title: str
    status: Status
    clock: Clock
    access: PageAccess
    limits: Callable[[], Sequence[tuple[str, Limits]]]
    outcomes: RecentOutcomes
    letters: OpenDeadLetters
    explain: Callable[[str], UserView | None]
    followers: Mapping[str, Follower[Any]] = field(default_factory=dict)
    _rate: RateLimiter = field(default_factory=lambda: RateLimiter(MOST_PER_S))

    def routes(self) -> Mapping[str, Route]:
        """Return what the health server serves of it."""
        return {
            "/": Route(self._guarded(self._overview), "the page", _METHODS),
            "/user": Route(self._guarded(self._user), "one user's timeline", _METHODS),
        }

    def _guarded(
        self, show: Callable[[Mapping[str, str]], tuple[HTTPStatus, str]]
    ) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            refusal = self.access.refusal(request.headers)
            if refusal is not None:
                return refusal._replace(headers={**refusal.headers, **security_headers()})
            if self._rate.take(self.clock.monotonic()) or len(request.query) > _LONGEST_QUERY:
                return _too_much(len(request.query) > _LONGEST_QUERY)
            status, text = show(_form(request.query))
            body = text.encode("utf-8", "backslashreplace")
            return Answer(status, _TEXT, body, security_headers())

        return answer

    def _overview(self, form: Mapping[str, str]) -> tuple[HTTPStatus, str]:
        now, now_s = self.clock.now(), self.clock.monotonic()
        wrong: UnreadableTimeError | None = None
        try:
            chosen = _filter(form, now)
        except UnreadableTimeError as error:
            wrong, chosen = error, OutcomeFilter()
        found = self.outcomes.find(chosen, SHOWN)
        text = _template("page.html").render(
            **self._common(),
            stages=self._stages(now_s),
            limits=self._limits(now_s),
            plot=plot_of(self.outcomes.by_time(now)),
            hours=BUCKET * BUCKETS // timedelta(hours=1),
            invitations=self.outcomes.invitations(),
            due=self._due(),
            letters=self.letters.by_code(),
            letters_cut=self.letters.is_cut,
            form=form,
            wrong=wrong,
            found=found,
            oldest=self.outcomes.oldest() if self.outcomes.is_full() else None,
            seen=_choices(self.outcomes.seen()),
            command=_log_command(form),
            now=now,
        )
        return HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK, text

    def _user(self, form: Mapping[str, str]) -> tuple[HTTPStatus, str]:
        user_id = form.get("id", "").strip()
        known: UserView | None = None
        problem: str | None = None
        if user_id:
            try:
                known = self.explain(user_id)
            except BridgeError as error:
                problem = error.message
        status = HTTPStatus.OK
        if problem is not None:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        elif known is None:
            status = HTTPStatus.NOT_FOUND
        recent = self.outcomes.find(OutcomeFilter(users=frozenset((user_id,))), SHOWN).outcomes
        return status, _template("user.html").render(
            **self._common(), user_id=user_id, known=known, problem=problem, recent=recent
        )

    def _common(self) -> Mapping[str, Any]:
        return {
            "title": self.title,
            "problems": self.status.why_not_ready(),
            "notes": self.status.noted(),
            "trouble": {
                name: one.problem for name, one in self.followers.items() if one.problem is not None
            },
            "reading": [
                name
                for name, one in self.followers.items()
                if one.problem is None and not one.caught_up
            ],
            "style": _asset("page.css"),
            "script": _asset("page.js"),
        }

    def _stages(self, now_s: float) -> Sequence[StageView]:
        reports = self.status.reports
        return [
            StageView(name, reports.get(name), reports.rate_per_s(name, now_s))
            for name, _ in self.limits()
        ]

    def _limits(self, now_s: float) -> Sequence[LimitView]:
        return [
            LimitView(stage, action, limits.used(action, now_s), limit)
            for stage, limits in self.limits()
            for action, limit in limits.allowed().items()
        ]

    def _due(self) -> int | None:
        report = self.status.reports.get("invite")
        return sum(report.lag.values()) if report is not None and report.lag else None


def security_headers() -> Mapping[str, str]:
    """Return the headers of the page: it loads nothing, and nothing but its own script and style takes effect."""
    return _SECURITY


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


_SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digest(_asset('page.css'))}",
            f"script-src {_digest(_asset('page.js'))}",
            "connect-src 'self'",
            "img-src data:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _form(query: str) -> Mapping[str, str]:
    """Return the last value of each field."""
    try:
        fields = parse_qs(query, max_num_fields=50, errors="backslashreplace")
    except ValueError:
        return {}
    return {name: values[-1].strip() for name, values in fields.items()}


def _filter(form: Mapping[str, str], now: datetime) -> OutcomeFilter:
    def one(name: str) -> frozenset[str]:
        return frozenset((form[name],)) if form.get(name) else frozenset()

    return OutcomeFilter(
        outcomes=one("outcome"),
        types=one("type"),
        codes=one("code"),
        users=one("user"),
        events=one("event"),
        since=_moment("since", form.get("since", ""), now),
        until=_moment("until", form.get("until", ""), now),
    )


def _moment(name: str, text: str, now: datetime) -> datetime | None:
    """Return the time that a field gives in ISO 8601 or as an age."""
    if not text:
        return None
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableTimeError(name) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _choices(seen: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Return what a form can ask for: texts that are on one line as they are."""
    return {
        name: [one for one in texts if one.isprintable() and len(one) <= _LONGEST_SHOWN]
        for name, texts in seen.items()
    }


def _log_command(form: Mapping[str, str]) -> str:
    """Return the command that shows the same from the whole topic."""
    words = ["keycloak-bridge", "log"]
    for name in _FIELDS:
        if form.get(name):
            words += [f"--{name}", shlex.quote(printable(form[name]))]
    return " ".join(words)


def _too_much(long: bool) -> Answer:
    why = b"the address is too long\n" if long else b"too many requests; try again in a second\n"
    status = HTTPStatus.REQUEST_URI_TOO_LONG if long else HTTPStatus.TOO_MANY_REQUESTS
    return Answer(
        status, "text/plain; charset=utf-8", why, {"Retry-After": "1", **security_headers()}
    )


def _shown(value: object) -> str:
    """Return `value` for people: what is not printable is escaped, and a long text is shortened in the middle."""
    text = "–" if value is None or value == "" else printable(str(value))
    if len(text) > _LONGEST_SHOWN:
        half = _LONGEST_SHOWN // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text


def _time(value: datetime | str | None) -> str:
    """Return a time to the second, in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return "–" if value is None else value.replace("T", " ")[:19]


def _duration(seconds: float) -> str:
    return format_duration(round(seconds) if seconds >= 1 else 0) if seconds else "–"


def _user_link(user_id: str) -> str:
    return "/user?" + urlencode({"id": user_id}, errors="backslashreplace")


def _code_link(code: str) -> str:
    query = urlencode({"code": code}, errors="backslashreplace")
    return f"/?{query}#outcomes-title"


def _replay_command(code: str) -> str:
    return f"keycloak-bridge dead-letters replay --dry-run --code {shlex.quote(printable(code))}"


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keycloak_bridge.ui", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        shown=_shown,
        at=_time,
        lasting=_duration,
        printable=printable,
        user_link=_user_link,
        code_link=_code_link,
        replay=_replay_command,
        remedy=recommended_action,
    )
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
