import threading

import pytest

from keycloak_bridge.delivery.guards import Brake


def letters(brake: Brake, asked: int) -> int:
    """Return how many of so many dead letters in a row get through."""
    return sum(brake.admits() for _ in range(asked))


@pytest.mark.parametrize("in_a_row", [1, 3, 20])
def test_exactly_so_many_get_through_in_a_row(in_a_row: int) -> None:
    """The one after them is held, and so is everything later."""
    brake = Brake(in_a_row, 0, 200)

    assert in_a_row == letters(brake, in_a_row * 3)
    assert f"{in_a_row} dead letters in a row" == brake.reason


def test_a_good_record_begins_a_new_row() -> None:
    """Bad records between good ones are exceptions."""
    brake = Brake(3, 0, 200)
    for _ in range(50):
        letters(brake, 2)
        brake.good()

    assert brake.reason is None
    assert 3 == letters(brake, 10)


@pytest.mark.parametrize(
    ("good", "through", "share"), [(100, 5, 5), (6, 5, 5), (5, 5, 5), (4, 6, 6), (0, 10, 10)]
)
def test_the_share_holds_once_the_window_is_full(good: int, through: int, share: int) -> None:
    """Half of the last ten, however many came before them; fewer than ten records are no share."""
    brake = Brake(0, 50, 10)
    for _ in range(good):
        brake.good()

    assert through == letters(brake, 100)
    assert f"{share} of the last 10 records became dead letters" == brake.reason


def test_the_share_forgets_what_left_the_window() -> None:
    """Old dead letters do not add up with new ones."""
    brake = Brake(0, 50, 10)
    for _ in range(20):
        letters(brake, 4)
        for _ in range(8):
            brake.good()

    assert brake.reason is None


def test_without_limits_everything_passes() -> None:
    """0 is no limit."""
    brake = Brake(0, 0, 10)

    assert 1000 == letters(brake, 1000)


def test_good_records_do_not_disengage_it() -> None:
    """Somebody has to look; records that were under way meanwhile change nothing."""
    brake = Brake(2, 0, 10)
    letters(brake, 3)
    for _ in range(100):
        brake.good()

    assert not brake.admits()
    assert "2 dead letters in a row" == brake.reason


def test_a_release_lets_the_storm_pass() -> None:
    """The limits rest until as many good records came in a row, then hold as from the start."""
    brake = Brake(3, 50, 10)
    letters(brake, 4)
    brake.release()
    storm = letters(brake, 50)
    brake.good()
    brake.good()
    storm += letters(brake, 50)  # two good ones are not three
    for _ in range(3):
        brake.good()

    assert 100 == storm
    assert 3 == letters(brake, 50)
    assert "3 dead letters in a row" == brake.reason


def test_the_share_alone_rests_for_twenty_good_records() -> None:
    """Without a limit in a row there is still a measure of calm."""
    brake = Brake(0, 50, 10)
    letters(brake, 11)
    brake.release()
    for _ in range(19):
        brake.good()
    storm = letters(brake, 30)
    for _ in range(20):
        brake.good()

    assert 30 == storm
    assert 10 == letters(brake, 30)


def test_a_release_of_what_is_not_engaged_keeps_the_limits() -> None:
    """Nobody switches the brake off by releasing it twice."""
    brake = Brake(3, 0, 10)
    brake.release()

    assert 3 == letters(brake, 10)


def test_threads_share_one_count() -> None:
    """However many ask at once, exactly the limit gets through."""
    brake, through = Brake(100, 0, 10), []
    threads = [
        threading.Thread(target=lambda: through.append(letters(brake, 100))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 100 == sum(through)
