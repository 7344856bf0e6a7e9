"""What a process remembers of mails that are not settled, and how much of it."""

from keycloak_bridge.invitations.inviter import Attempt, Fate, MailMemory

FIRST, SECOND, THIRD = (("user-1", "e"), ("user-2", "e"), ("user-3", "e"))
SENT, IN_DOUBT = Attempt(Fate.SENT, 1.0), Attempt(Fate.IN_DOUBT, 2.0)


def test_the_last_attempt_is_remembered_until_it_is_forgotten() -> None:
    """Each invitation has one, and forgetting twice is harmless."""
    memory = MailMemory()
    memory.remember(FIRST, IN_DOUBT)
    memory.remember(FIRST, SENT)
    memory.remember(SECOND, IN_DOUBT)
    known = [memory.recall(key) for key in (FIRST, SECOND, THIRD)]
    memory.forget(FIRST)
    memory.forget(FIRST)

    assert [SENT, IN_DOUBT, None] == known
    assert memory.recall(FIRST) is None


def test_the_longest_known_goes_first_when_there_is_too_much() -> None:
    """Memory is bounded; an attempt that was made again counts as new."""
    memory = MailMemory(capacity=2)
    memory.remember(FIRST, SENT)
    memory.remember(SECOND, SENT)
    memory.remember(FIRST, IN_DOUBT)
    memory.remember(THIRD, SENT)

    assert [IN_DOUBT, None, SENT] == [memory.recall(key) for key in (FIRST, SECOND, THIRD)]
