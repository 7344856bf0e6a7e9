"""Probes run one after the other, and none stops the others."""

from collections.abc import Callable, Iterable, Iterator

from keycloak_bridge.diagnostics.probe import (
    Light,
    Probe,
    Sighting,
    examine,
    gray,
    green,
    red,
    yellow,
)
from keycloak_bridge.domain.errors import KeycloakUnavailableError

WELL = green("well")
Look = Callable[[], Iterable[Sighting]]


def seeing(*sightings: Sighting) -> Look:
    """Return a look that sees these."""
    return lambda: sightings


def lights(*probes: Probe) -> list[tuple[str, Light]]:
    """Return each verdict's probe and light."""
    return [(one.probe, one.sighting.light) for one in examine(probes)]


def test_every_probe_is_asked_in_order() -> None:
    """One probe may see several things."""
    assert [("a", Light.GREEN), ("a", Light.YELLOW), ("b", Light.RED), ("c", Light.GRAY)] == lights(
        Probe("a", seeing(WELL, yellow("x", "y"))),
        Probe("b", seeing(red("x", "y"))),
        Probe("c", seeing(gray("x"))),
    )


def test_what_needs_something_red_is_passed_over() -> None:
    """And what needs that, naming the first cause; yellow is no reason."""
    verdicts = list(
        examine(
            [
                Probe("a", seeing(red("x", "y"))),
                Probe("b", seeing(WELL), needs=("a",)),
                Probe("c", seeing(WELL), needs=("b",)),
                Probe("d", seeing(yellow("x", "y"))),
                Probe("e", seeing(WELL), needs=("d", "unknown")),
            ]
        )
    )

    assert ["not looked at: a is red"] * 2 == [one.sighting.message for one in verdicts[1:3]]
    assert [Light.GRAY, Light.GRAY, Light.YELLOW, Light.GREEN] == [
        one.sighting.light for one in verdicts[1:]
    ]


def test_a_probe_that_fails_is_red() -> None:
    """An error of ours says its sentence, a bug its type but never its text; what was seen before stays."""

    def unavailable() -> Iterator[Sighting]:
        yield WELL
        raise KeycloakUnavailableError("no answer", remedy="wait")

    def broken() -> Iterator[Sighting]:
        yield WELL
        raise RuntimeError("planted-secret")

    seen = [
        one.sighting
        for one in examine([Probe("a", unavailable), Probe("b", broken), Probe("c", seeing(WELL))])
    ]

    assert [WELL, red("no answer", "wait"), WELL] == seen[:3]
    assert (Light.RED, True, False) == (
        seen[3].light,
        "RuntimeError" in seen[3].message,
        "planted-secret" in seen[3].message,
    )
    assert WELL == seen[4]
