"""A page over what a test says that the process knows, without a server."""

from collections.abc import Mapping
from email.message import Message
from html.parser import HTMLParser

from keycloak_bridge.delivery.guards import Brake, LimitedAction, Limits
from keycloak_bridge.domain.times import Limit
from keycloak_bridge.events.decode import EnvelopeRules
from keycloak_bridge.ops.http_server import Answer, Request
from keycloak_bridge.ops.status import Status
from keycloak_bridge.testing.fake_clock import FakeClock
from keycloak_bridge.ui.access import PageAccess
from keycloak_bridge.ui.page import Page, UserView
from keycloak_bridge.ui.recent import OpenDeadLetters, RecentOutcomes


class Text(HTMLParser):
    """The text that a reader sees, the tags, and every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._unseen = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._unseen += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class PageHarness:
    """A page, and everything that it shows."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.status = Status()
        self.brake = Brake(20, 50, 200)
        self.limits = Limits(self.brake, {LimitedAction.DISABLE: Limit(5, 3600.0)})
        self.stages: list[tuple[str, Limits]] = [("provision", self.limits)]
        self.outcomes = RecentOutcomes()
        self.letters = OpenDeadLetters(EnvelopeRules())
        self.users: dict[str, UserView] = {}
        self.page = Page(
            "acme",
            self.status,
            self.clock,
            PageAccess(None),
            lambda: self.stages,
            self.outcomes,
            self.letters,
            self.users.get,
        )

    def answer(self, path: str = "/", headers: Mapping[str, str] | None = None) -> Answer:
        """Return what the server would send."""
        self.clock.advance(1.0)
        message = Message()
        for name, value in (headers or {"Host": "localhost"}).items():
            message[name] = value
        route, _, query = path.partition("?")
        return self.page.routes()[route].answer(Request(query, message))

    def read(self, path: str = "/") -> Text:
        """Return the page as a reader sees it."""
        return Text(self.answer(path).body.decode())
