"""Questions asked by several threads, and the order of their answers."""

import threading
from collections.abc import Iterator

import pytest

from keycloak_bridge.population.side_by_side import side_by_side


def test_answers_come_in_the_order_of_the_questions() -> None:
    """However late the first of them is answered."""
    second_asked = threading.Event()

    def ask(question: int) -> int:
        if question == 0:
            assert second_asked.wait(60)
        else:
            second_asked.set()
        return question * 10

    assert [0, 10, 20, 30] == list(side_by_side(ask, range(4), workers=2))


def test_few_questions_are_drawn_ahead() -> None:
    """A hundred thousand questions are not in memory at once."""
    drawn = 0

    def questions() -> Iterator[int]:
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield number

    answers = side_by_side(str, questions(), workers=2)

    assert "0" == next(answers)
    assert 8 == drawn
    assert 999 == len(list(answers))


def test_what_a_question_raises_comes_in_its_turn() -> None:
    """Answers before it come first, and nothing is asked any more."""
    answers = side_by_side(lambda number: 10 // number, [2, 1, 0, 5], workers=1)

    assert [5, 10] == [next(answers), next(answers)]
    with pytest.raises(ZeroDivisionError):
        next(answers)
    assert [] == list(answers)
