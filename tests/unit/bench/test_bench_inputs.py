import json

import jsonschema
import pytest

from bench import rivals
from bench.contenders import BY_USERNAME, contenders, settings_of
from bench.sizes import Sizes
from bench.users import USERNAME_MAPPING, events, make_people
from bench.wire import prepared_post, whole_body
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES, event_id_in


def test_people_are_their_own() -> None:
    """No two people of a run, or of two runs, share an id, a username or an address; the same tag gives the same people."""
    people = [*make_people("a", 2100), *make_people("b", 10)]
    usernames = {one.representation["username"] for one in people}
    addresses = {one.representation["email"] for one in people}

    assert (len(people),) * 3 == (len(usernames), len(addresses), len({one.key for one in people}))
    assert make_people("a", 5) == people[:5]


def test_events_have_the_size_that_is_told() -> None:
    """About 560 bytes, as the peers were measured with."""
    values = [value for _, value in events("round1n", 2000)]

    assert 545 < sum(map(len, values)) / len(values) < 575


def test_the_bare_client_sends_what_the_bridge_would() -> None:
    """The body holds the mapped fields, the attributes, and the bridge's own two of bookkeeping; no mark of a mail."""
    (person,) = make_people("a", 1)
    body = json.loads(person.body)

    assert json.loads(person.value)["id"] == event_id_in(body["attributes"]["bridgeEventId"][0])
    assert set(BOOKKEEPING_ATTRIBUTES) - {"bridgeInvitation"} <= set(body["attributes"])
    assert "groups" not in body


@pytest.mark.parametrize(
    ("head", "rest", "body"),
    [
        (b"HTTP/1.1 201 Created\r\ncontent-length: 0", b"", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4", b"ab", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4", b"abcd", b"abcd"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"2\r\nab\r\n1\r\nc\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 204 No Content", b"", b""),
    ],
)
def test_an_answer_is_read_whole(head: bytes, rest: bytes, body: bytes | None) -> None:
    """A body counts once all of it is there, by its length or by its chunks."""
    assert body == whole_body(head, rest)


def test_a_request_is_prepared_to_the_byte() -> None:
    """Nothing is left to do but to send it."""
    expected = (
        b"POST /users HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer t\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )

    assert expected == prepared_post("http://127.0.0.1:8080/users", "t", b"{}")


def test_sizes_come_from_the_environment() -> None:
    """What is not named keeps its default; a check is small by default and can be chosen too."""
    chosen = {"BENCH_ROUNDS": "5", "BENCH_EVENTS": "", "OTHER": "1"}
    whole, small = (Sizes.from_environment(chosen, check=check) for check in (False, True))

    assert (5, Sizes().events) == (whole.rounds, whole.events)
    assert (5, 0) == (small.rounds, small.backlog)
    assert Sizes.from_environment({}, check=True).events < Sizes().events


def test_redpanda_connect_validates_what_the_bridge_does() -> None:
    """Its one schema takes every event of the benchmark, and none that the shipped schema refuses."""
    validator = jsonschema.Draft202012Validator(rivals.event_schema())
    event = json.loads(events("a", 1)[0][1])

    assert all(validator.is_valid(json.loads(value)) for _, value in events("a", 2000))
    assert not validator.is_valid(event | {"data": event["data"] | {"email": 1}})


def test_without_go_the_bare_client_is_the_one_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is told what is missing."""
    monkeypatch.setenv("PATH", "/nowhere")
    found = rivals.built()

    assert ("Python", "Go is not installed") == (found.bare_client, found.problem)
    assert ["bare", "trickle", "burst"] == contenders(found, layouts=False)
    assert ["bare", "trickle", "by-username", "burst"] == contenders(found, layouts=True)


def test_people_by_username_are_found_by_it_alone() -> None:
    """Each has the id as its username, and as the mark of the bridge; the bridge of that contender maps so too."""
    (person,) = make_people("a", 1, USERNAME_MAPPING)
    user = person.representation

    assert person.key.decode() == user["username"]
    assert [person.key.decode()] == user["attributes"]["bridgeUserId"]
    assert "userId" not in user["attributes"]
    assert str(USERNAME_MAPPING) == settings_of(BY_USERNAME)["MAPPING_FILE"]
