"""Patterns mean what ECMA 262 says."""

import re

import pytest

from keycloak_bridge.validation.validator import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^[a-z]+$", ["en"], ["en\n"]),
        ("b", ["abc"], ["acd"]),
        (r"^\d+$", ["12"], ["１", "1\n"]),
        (r"^\w$", ["a"], ["é"]),
        (r"^\s$", ["\u00a0", " "], ["x"]),
        (r"^[\sx]$", ["\u00a0", "x"], ["y"]),
        (r"\S", ["x"], ["\u00a0"]),
        (r"^.$", ["é"], ["\n", "\r", "\u2028"]),
        ("[$.]", ["$", "."], ["x"]),
        (r"a\$", ["a$"], ["a"]),
        ("^[[]$", ["["], ["a"]),
        (r"^[\]$]$", ["]", "$"], ["a"]),
        ("(?<year>[0-9]{4})", ["2026"], ["x"]),
        ("(?<=a)b", ["ab"], ["b"]),
        ("(?<!a)b", ["b"], ["ab"]),
    ],
)
def test_pattern_matches_as_in_ecma(pattern: str, good: list[str], bad: list[str]) -> None:
    """The end is the end, classes are ASCII where ECMA has them so."""
    compiled = compile_pattern(pattern)

    assert [text for text in good + bad if compiled.search(text)] == good


@pytest.mark.parametrize("pattern", [r"\p{L}", "(", "[z-a]"])
def test_what_python_cannot_express_is_an_error(pattern: str) -> None:
    """Better no pattern than one that means something else."""
    with pytest.raises(re.error):
        compile_pattern(pattern)
