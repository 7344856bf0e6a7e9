"""Plain expressions as functions give what JMESPath's interpreter gives."""

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from keycloak_bridge.expressions.expression import NotPlainError, plain
from keycloak_bridge.expressions.functions import MappingFunctions

FUNCTIONS = MappingFunctions({})
OPTIONS = jmespath.Options(custom_functions=FUNCTIONS)
NAMES = ("data", "a", "b", "c")

_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, False, True, 0, 1, 0.0, "", "A", " é ", [], {}, [0], [""], ["a"]]),
    st.text(max_size=3),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3), st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
SCOPES = st.fixed_dictionaries({"data": VALUES}, optional={"a": VALUES, "b": VALUES})

_PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(".".join)
_CONSTANTS = st.sampled_from(["'x'", "''", "`null`", "`false`", "`0`", "`[]`", '`{"a": "B"}`'])


def _around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    names = st.sampled_from(["lower", "upper", "trim", "normalize_diacritics"])
    return st.one_of(
        st.tuples(inner, inner).map(lambda both: f"({both[0]} || {both[1]})"),
        st.tuples(inner, _PATHS).map(lambda both: f"({both[0]}).{both[1]}"),
        st.tuples(names, inner).map(lambda call: f"{call[0]}({call[1]})"),
    )


TEXTS = st.recursive(st.one_of(_PATHS, _CONSTANTS), _around, max_leaves=4)


@given(TEXTS, SCOPES)
def test_same_as_the_interpreter(text: str, scope: dict[str, Any]) -> None:
    """Missing keys, nulls, parents that are no objects, and what is false for `||` mean the same."""
    parsed = jmespath.compile(text)
    evaluate = plain(parsed.parsed, FUNCTIONS)
    assert evaluate is not None

    try:
        expected = parsed.search(scope, options=OPTIONS)
    except JMESPathError:
        with pytest.raises(NotPlainError):
            evaluate(scope)
    else:
        found = evaluate(scope)

        assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize(
    "text",
    [
        "data.tags[0]",
        "data.people[?city == 'x'].name | [0]",
        "join(' ', [data.a, data.b])",
        "lower(data.tags[0])",
        "data.a || data.tags[0]",
        "data.a && data.b",
        "!(data.a)",
        "data.*",
        "length(data.a)",
    ],
)
def test_all_others_are_left_to_the_interpreter(text: str) -> None:
    """What is not plain, or holds something that is not, has no function."""
    assert plain(jmespath.compile(text).parsed, FUNCTIONS) is None
