"""What the page says, and what it never does."""

import base64
import hashlib
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from page_harness import PageHarness, Text

from keycloak_bridge.delivery.guards import LimitedAction
from keycloak_bridge.domain.errors import BrokerUnavailableError
from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.ops.stage_reports import StageReport
from keycloak_bridge.ui.page import MOST_PER_S, SHOWN, UserView

NOW = datetime(2026, 11, 1, tzinfo=UTC)
FIELDS = ("outcome", "type", "code", "user", "event", "since", "until", "id")
HOSTILE = (
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "</style></script><b>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "line\nfeed\r\x00\x1b[2J\x7f",
    "\u202eright to left\u2066",
    "\ud800 lone",
    "long-" + "x" * 5000,
    "  ",
    "&amp;&#x41;",
)


@pytest.fixture
def harness() -> PageHarness:
    return PageHarness()


def a_report(**given: object) -> StageReport:
    """Return the report of a stage that is well."""
    values = {"in_hand": 0, "running": 0, "paused": False, "oldest_s": 0.0, "breaker": "closed"}
    return StageReport(**{**values, "brake": None, "done": 0, **given})  # type: ignore[arg-type]


def an_outcome(number: int = 0, **given: object) -> PastOutcome:
    values = {"time": NOW, "outcome": "provisioned", "action": "created", "id": f"r{number}"}
    return PastOutcome(**{**values, "user_id": f"u{number}", **given})  # type: ignore[arg-type]


def test_the_state_is_one_sentence(harness: PageHarness) -> None:
    """The same as `/ready` says, in the title too."""
    well = harness.read()
    harness.status.set_problem("provision", "Keycloak cannot be reached")
    harness.status.set_problem("zinvite", "Kafka neither")
    harness.status.note("provision", "a record was lost")
    ill = harness.read()

    assert "Ready: nothing is wrong." in well.text
    assert "Not ready: provision: Keycloak cannot be reached zinvite: Kafka neither" in ill.text
    assert "Not ready · acme" in ill.text
    assert "provision: a record was lost" in ill.text


def test_each_stage_says_how_it_is(harness: PageHarness) -> None:
    """Rate over the last minute, lag, what is in hand, breaker, brake; limits with how much is used."""
    waiting = harness.read()
    for second in range(100):
        harness.clock.advance(1.0)
        report = a_report(
            in_hand=7,
            running=3,
            paused=True,
            oldest_s=65.4,
            breaker="open",
            brake="20 dead letters in a row",
            done=4 * second,
            lag={0: 10, 1: 2},
        )
        harness.status.reports.put("provision", report, harness.clock.monotonic())
    for number in range(4):
        key = f"user-{number}"
        harness.limits.admit((LimitedAction.DISABLE,), key, harness.clock.monotonic())

    text = harness.read().text

    assert "provision joining its consumer group" in waiting.text
    assert (
        "provision 3.9 records/s 12 7 (3 running, fetching paused) 1 minute 5 seconds open" in text
    )
    assert "engaged: 20 dead letters in a row" in text
    assert "disables 4 4 5 in 1 hour" in text


def test_before_the_stages_the_page_is_there(harness: PageHarness) -> None:
    """While the bridge waits for Kafka, somebody wants to know that."""
    harness.stages.clear()
    harness.status.set_problem("kafka", "no broker answers")

    text = harness.read().text
    assert "The stages have not started." in text
    assert "Not ready: kafka: no broker answers" in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["u4", "u3", "u2", "u1"]),
        ("outcome=rejected", ["u2"]),
        ("type=user.updated", ["u3"]),
        ("code=schema-violation", ["u2"]),
        ("user=u1", ["u1"]),
        ("event=e4", ["u4"]),
        ("since=2026-11-01T00:03", ["u4", "u3"]),
        ("since=2026-11-01T00:03:00Z&until=2026-11-01T00:04%2B00:00", ["u3"]),
        ("until=1+h", []),
        ("outcome=&type=+&unknown=1&user=u1&user=u2", ["u2"]),
        ("user=nobody", []),
        ("%00=%ff&user=%ff", []),
    ],
)
def test_outcomes_are_filtered(harness: PageHarness, query: str, expected: list[str]) -> None:
    """By a form that works without a script; the newest are first."""
    harness.clock.advance(600)
    kinds: tuple[dict[str, object], ...] = (
        {"event_type": "user.created"},
        {"outcome": "rejected", "action": None, "reason": "schema-violation"},
        {"event_type": "user.updated"},
        {"event_id": "e4"},
    )
    for number, given in enumerate(kinds, 1):
        harness.outcomes.add(an_outcome(number, time=NOW + timedelta(minutes=number), **given))

    page = harness.read(f"/?{query}")

    links = [link for name, link in page.attributes if name == "href" and link]
    assert expected == [link.partition("?id=")[2] for link in links if link.startswith("/user?id=")]


def test_a_filter_that_is_no_time_is_explained(harness: PageHarness) -> None:
    """With the field marked, and what was written still in it."""
    answer = harness.answer("/?since=yesterday%22%3E&user=u1")
    page = Text(answer.body.decode())

    assert 400 == answer.status
    assert (
        "since: write a time such as 2026-11-02T08:00 (UTC), or an age such as 2 hours" in page.text
    )
    assert {("aria-invalid", "true"), ("value", 'yesterday">'), ("value", "u1")} <= set(
        page.attributes
    )


def test_the_same_is_to_be_had_from_the_whole_topic(harness: PageHarness) -> None:
    """The page names the command, quoted for a shell; it shows no more than fits."""
    for number in range(SHOWN + 5):
        harness.outcomes.add(an_outcome(number))

    page = harness.read("/?outcome=provisioned&since=2+hours&code=$(id)")
    every = harness.read("/")

    assert "keycloak-bridge log --outcome provisioned --code '$(id)' --since '2 hours'" in page.text
    assert f"{SHOWN} of {SHOWN + 5} that match" in every.text


def test_dead_letters_have_a_remedy_and_a_command(harness: PageHarness) -> None:
    """By code, the most frequent first; the code may have been written by anybody."""
    letters = harness.letters._open
    for number, code in enumerate(("parked", "parked", "$(reboot)")):
        letters[bytes([number])] = (code, NOW, "u1")

    text = harness.read().text

    assert "parked 2 2026-11-01 00:00:00 replay the user's earlier dead letter and this one" in text
    assert "keycloak-bridge dead-letters replay --dry-run --code parked" in text
    assert "--code '$(reboot)'" in text


def test_invitations_are_counted_by_state(harness: PageHarness) -> None:
    """What is due is the invite stage's lag."""
    harness.outcomes.add(an_outcome(1, outcome="invited"))
    harness.status.reports.put("invite", a_report(lag={0: 3}), 1.0)

    assert "Due 3 Sent 1 Activated 0 Expired 0" in harness.read().text


def test_a_user_has_a_timeline(harness: PageHarness) -> None:
    """What `explain` says, without a value."""
    harness.users["u1"] = UserView(
        (("Keycloak id", "0a7b"), ("invitation", "the mail was handed to Keycloak")),
        (an_outcome(1, event_id="e1", changed=("email",)),),
        {"email": an_outcome(1, event_id="e1"), "attributes.locale": None},
        "older ones: keycloak-bridge explain u1",
    )

    answer = harness.answer("/user?id=u1")
    text = Text(answer.body.decode()).text

    assert 200 == answer.status
    assert "Keycloak id 0a7b invitation the mail was handed to Keycloak" in text
    assert "2026-11-01 00:00:00 provisioned created e1" in text
    assert "attributes.locale not by the bridge" in text
    assert "older ones: keycloak-bridge explain u1" in text


def test_an_unknown_user_is_said_so(harness: PageHarness) -> None:
    """And who asks is told which ids count."""
    answers = [harness.answer(path) for path in ("/user?id=nobody", "/user", "/user?id=+")]

    assert [404] * 3 == [one.status for one in answers]
    assert (
        "Neither the realm nor the topics know such a user." in Text(answers[0].body.decode()).text
    )


def test_an_outage_is_a_sentence(harness: PageHarness) -> None:
    """With what is in memory below it."""

    def explain(_: str) -> UserView | None:
        raise BrokerUnavailableError("Kafka gives no records")

    object.__setattr__(harness.page, "explain", explain)
    harness.outcomes.add(an_outcome(1, event_id="e1"))

    answer = harness.answer("/user?id=u1")
    text = Text(answer.body.decode()).text
    assert 503 == answer.status
    assert "Kafka gives no records" in text
    assert "Recent outcomes" in text
    assert "e1" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_are_text(harness: PageHarness, text: str) -> None:
    """Nothing that was published becomes a tag, an attribute or a control character, and nothing breaks the page."""
    plain = PageHarness()
    for one, written in ((plain, "x"), (harness, text)):
        texts = {field.name: written for field in fields(PastOutcome)}
        one.outcomes.add(PastOutcome(**{**texts, "time": NOW, "changed": (written,)}))  # type: ignore[arg-type]
        one.letters._open[b"1"] = (written, NOW, written)
        one.status.note("provision", written)
        set_by = an_outcome(2, event_id=written)
        one.users["x"] = UserView(((written, written),), (set_by,), {written: set_by}, written)
    query = urlencode(dict.fromkeys(FIELDS, text[:300]), errors="backslashreplace")

    for path in ("/", "/user?id=x", f"/?{query}", f"/user?{query}"):
        body = harness.answer(path).body.decode()
        page = Text(body)

        if "?o" not in path and "?i" not in path:
            options = ("option",)
            tags = [
                [tag for tag in one.tags if tag not in options] for one in (plain.read(path), page)
            ]
            assert tags[0] == tags[1]
        assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
        assert {"img", "b"}.isdisjoint(page.tags)
        assert 1 == page.tags.count("script")
        assert all(one.isprintable() or one == "\n" for one in body)
        links = [value or "" for name, value in page.attributes if name in ("href", "action")]
        assert all(re.match(r"/|#|data:,$", one) for one in links)


@pytest.mark.parametrize("query", ["id=" + "x" * 5000, "a=b&" * 60, "id=%00%ff%1b", "=", "&&;&"])
@pytest.mark.parametrize("path", ["/", "/user"])
def test_hostile_requests_are_answered(harness: PageHarness, path: str, query: str) -> None:
    """With a page or a refusal."""
    assert harness.answer(f"{path}?{query}").status in (200, 404, 414)


def test_a_link_leads_to_the_user_that_it_names(harness: PageHarness) -> None:
    """Also where the id has every character that an address has a meaning for."""
    harness.users["a&b=c#d%/é+ f"] = UserView((("Keycloak id", "0a7b"),))
    harness.outcomes.add(an_outcome(1, user_id="a&b=c#d%/é+ f"))

    (link,) = [
        value
        for name, value in harness.read().attributes
        if value and value.startswith("/user?id=")
    ]
    assert "0a7b" in harness.read(link).text


def test_nothing_but_its_own_script_and_style_takes_effect(harness: PageHarness) -> None:
    """The policy names both by their digest, and the page loads nothing."""
    answer = harness.answer()
    body, policy = answer.body.decode(), answer.headers["Content-Security-Policy"]

    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    page = Text(body)
    assert [] == [value for name, value in page.attributes if name == "src"]
    assert "http" not in re.sub(r"<(script|style)>.*?</\1>", "", body, flags=re.DOTALL)
    assert ("nosniff", "no-referrer", "no-store") == tuple(
        answer.headers[name]
        for name in ("X-Content-Type-Options", "Referrer-Policy", "Cache-Control")
    )
    assert "Set-Cookie" not in answer.headers


def test_a_refusal_is_as_strict(harness: PageHarness) -> None:
    """No other machine's request, no other name."""
    answer = harness.answer("/", {"Host": "evil.example"})

    assert 403 == answer.status
    assert "Content-Security-Policy" in answer.headers
    assert b"<" not in answer.body


def test_too_many_requests_wait(harness: PageHarness) -> None:
    """So that nobody slows the flow down by looking."""
    harness.answer()
    statuses = []
    for _ in range(int(2 * MOST_PER_S)):
        harness.clock.advance(-1.0)
        statuses.append(harness.answer().status)

    assert 429 in statuses
    harness.clock.advance(1.0)
    assert 200 == harness.answer().status
