"""Whatever a record holds, reading it ends soon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import worst_cases

from keycloak_bridge.events.formats import FORMATS
from keycloak_bridge.expressions.functions import MappingFunctions

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [("300000", "worst"), pytest.param(("1000000",), marks=pytest.mark.full)],
    ids=["worst", "all"],
)
def test_every_call_ends(arguments: tuple[str, ...]) -> None:
    """Each format, pattern, function and whole events, with texts that would take quadratic time for hours."""
    ended = subprocess.run(
        [sys.executable, worst_cases.__file__, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert [worst_cases.DONE] == ended.stdout.splitlines()[-1:], ended.stderr[-4000:]


def test_every_format_and_function_is_called() -> None:
    """One that is added is tried as well."""
    assert set(FORMATS) == set(worst_cases.BEGINNINGS)
    assert set(MappingFunctions.FUNCTION_TABLE) == set(worst_cases.of_functions("ab"))
