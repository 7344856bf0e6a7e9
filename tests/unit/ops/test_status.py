import threading

from keycloak_bridge.ops.health import Status


def test_nothing_noted_is_ready_and_alive() -> None:
    """A status without notes has no complaint."""
    status = Status()

    assert ((), ()) == (status.why_not_ready(), status.stuck(1e9, 1.0))


def test_problems_are_told_by_component_until_they_pass() -> None:
    """Sorted by name, the latest sentence each."""
    status = Status()
    status.set_problem("provision", "old")
    status.set_problem("provision", "Keycloak does not answer")
    status.set_problem("invite", "the SMTP server does not answer")

    assert (
        "invite: the SMTP server does not answer",
        "provision: Keycloak does not answer",
    ) == status.why_not_ready()
    status.set_problem("invite", None)
    assert ("provision: Keycloak does not answer",) == status.why_not_ready()


def test_only_a_change_is_news() -> None:
    """So that a long outage is one warning."""
    status = Status()

    told = [status.set_problem("kafka", text) for text in (None, "away", "away", "slow", None)]

    assert [False, True, False, True, True] == told


def test_a_loop_is_stuck_after_the_limit() -> None:
    """Exactly the limit is still fine; a beat helps."""
    status = Status()
    status.beat("provision", 10.0)
    status.beat("invite", 50.0)

    assert () == status.stuck(70.0, 60.0)
    assert ("provision",) == status.stuck(70.1, 60.0)
    status.beat("provision", 70.0)
    assert () == status.stuck(70.1, 60.0)


def test_a_component_that_ended_is_forgotten() -> None:
    """Neither its loop nor its last problem counts any more; forgetting twice is harmless."""
    status = Status()
    status.beat("provision", 0.0)
    status.set_problem("provision", "away")

    status.forget("provision")
    status.forget("provision")

    assert ((), ()) == (status.why_not_ready(), status.stuck(1e9, 1.0))


def test_notes_of_many_threads_are_all_kept() -> None:
    """Stages write while the health endpoint reads."""
    status = Status()

    def note(name: str) -> None:
        for at in range(200):
            status.beat(name, float(at))
            status.set_problem(name, str(at))
            status.why_not_ready()
            status.stuck(0.0, 1.0)

    threads = [threading.Thread(target=note, args=(f"stage-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tuple(f"stage-{n}: 199" for n in range(4)) == status.why_not_ready()
