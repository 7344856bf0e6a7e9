from keycloak_bridge.provisioning.provisioner import FirstSeen


def test_the_first_time_is_kept() -> None:
    """However often it is seen again, until it is forgotten."""
    seen = FirstSeen()
    times = [seen.since("a", now_s) for now_s in (1.0, 2.0, 3.0)]
    seen.forget("a")
    seen.forget("never seen")

    assert [1.0, 1.0, 1.0, 4.0] == [*times, seen.since("a", 4.0)]


def test_memory_is_bounded_and_keeps_what_is_seen_again() -> None:
    """What was not seen for the longest time goes first."""
    seen = FirstSeen(limit=2)
    seen.since("a", 1.0)
    seen.since("b", 2.0)
    seen.since("a", 3.0)
    seen.since("c", 4.0)

    assert (1.0, 6.0) == (seen.since("a", 5.0), seen.since("b", 6.0))
