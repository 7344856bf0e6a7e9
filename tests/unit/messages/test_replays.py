"""Headers that tell a replay from the first time."""

import pytest

from keycloak_bridge.domain.events import Record
from keycloak_bridge.messages.dead_letters import Place, is_replay, place_header, wants_no_invite


def record(*headers: tuple[str, bytes | None]) -> Record:
    """Return a record with these headers."""
    return Record("user-events", 0, 0, 0, None, b"{}", headers)


@pytest.mark.parametrize(
    ("headers", "replay", "quiet"),
    [
        ((), False, False),
        ((("kb-replay-of", b"3/41"),), True, False),
        ((("kb-replay-of", b"3/41"), ("kb-replay-invite", b"none")), True, True),
        ((("kb-replay-invite", b"yes"),), False, False),
        ((("kb-replay-invite", None),), False, False),
    ],
)
def test_a_replay_says_so(
    headers: tuple[tuple[str, bytes | None], ...], replay: bool, quiet: bool
) -> None:
    """By its headers alone."""
    told = record(*headers)

    assert (replay, quiet) == (is_replay(told), wants_no_invite(told))


@pytest.mark.parametrize("place", [Place(0, 0), Place(3, 41), Place(2**31 - 1, 2**63 - 1)])
def test_a_place_is_read_back(place: Place) -> None:
    """What is printed can be typed."""
    assert place == Place.parse(str(place))


@pytest.mark.parametrize("text", ["", "3", "3/", "/41", "3/-1", "3/41/1", " 3/41", "٣/41", "3/41\n", "a/b"])  # fmt: skip
def test_what_is_no_place_is_refused(text: str) -> None:
    """The sentence says what to write."""
    with pytest.raises(ValueError, match="PARTITION/OFFSET"):
        Place.parse(text)


@pytest.mark.parametrize(
    ("value", "place"), [(b"3/41", Place(3, 41)), (None, None), (b"\xff", None), (b"x", None)]
)
def test_a_header_that_holds_no_place_is_none(value: bytes | None, place: Place | None) -> None:
    """Anybody can write a header."""
    assert place == place_header(record(("kb-replay-of", value)), "kb-replay-of")
