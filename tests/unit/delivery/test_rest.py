import pytest

from keycloak_bridge.delivery.consumer_loop import BUSY_POLL_S, PollTimeout


@pytest.mark.parametrize(
    ("in_hand", "finished", "idle_s", "expected_s"),
    [
        (1, 0, 0.0, BUSY_POLL_S),
        (1, 0, 60.0, BUSY_POLL_S),
        (0, 0, 0.0, 0.5),
        (0, 0, 9.9, 0.5),
        (0, 0, 10.0, 1.0),
        (0, 3, 10.0, 0.5),
    ],
)
def test_a_poll_is_longer_the_longer_there_was_nothing_to_do(
    in_hand: int, finished: int, idle_s: float, expected_s: float
) -> None:
    """Short while records are in hand, long only after a while without any."""
    rest = PollTimeout(100.0)

    assert expected_s == rest.poll_s(in_hand, finished, 100.0 + idle_s)


def test_a_record_ends_the_rest() -> None:
    """The time without records begins anew."""
    rest = PollTimeout(0.0)
    rest.poll_s(1, 0, 60.0)

    assert [0.5, 1.0] == [rest.poll_s(0, 0, at_s) for at_s in (69.9, 70.0)]
