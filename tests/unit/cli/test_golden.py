"""Golden cases under tests/golden, held as `keycloak-bridge test-mapping` holds a user's own."""

from functools import cache
from pathlib import Path

import pytest

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.cli.test_mapping import Case, find_cases, run_case
from keycloak_bridge.settings import read_settings

GOLDEN = Path(__file__).parents[2] / "golden"
SETS = {"default": None, "hr": GOLDEN / "hr" / "bridge.toml"}
"""Folders below tests/golden, and the settings that their cases are held to."""


@cache
def interpretation(name: str) -> Interpretation:
    """Return schemas, envelope and mapping of a set; without a settings file, the shipped ones."""
    loaded = read_settings(SETS[name], environ={}, overrides=())
    loaded.raise_if_wrong()
    return Interpretation(loaded.settings)


CASES = [(name, case) for name in SETS for case in find_cases(GOLDEN / name)]


@pytest.mark.parametrize(
    ("name", "case"), CASES, ids=[f"{name}/{case.name}" for name, case in CASES]
)
def test_a_case_is_as_expected(name: str, case: Case) -> None:
    """What the mapping makes of the event is what stands beside it."""
    held = run_case(case, interpretation(name))

    assert ("equal", ()) == (held.state, held.differences)


def test_every_set_has_cases() -> None:
    """No folder is forgotten, neither here nor there."""
    assert {path.name for path in GOLDEN.iterdir()} == {name for name, _ in CASES} == set(SETS)
