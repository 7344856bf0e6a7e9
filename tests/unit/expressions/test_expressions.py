"""Expressions are checked once and evaluated without ever quoting a value."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from keycloak_bridge.domain.errors import ConfigError, MappingError
from keycloak_bridge.domain.events import UserEvent
from keycloak_bridge.events.custom_envelope import compile_envelope
from keycloak_bridge.events.record_key import compile_keys
from keycloak_bridge.expressions.expression import (
    Expression,
    ExpressionError,
    NotPlainError,
    compile_expression,
    event_scope,
    plain,
)
from keycloak_bridge.expressions.functions import MappingFunctions, function_docs

TABLES = {"countries": {"DE": "Germany", "1": "one", "true": "yes"}}
PROPERTIES = {
    ("email",),
    ("name",),
    ("n",),
    ("flag",),
    ("tags",),
    ("people",),
    ("people", "city"),
    ("address",),
    ("address", "city"),
}


def compiled(text: str) -> Expression:
    return compile_expression(text, tables=TABLES, has_property=PROPERTIES.__contains__)


def evaluate(text: str, **data: Any) -> Any:
    return compiled(text).evaluate({"data": data}, "/user/x")


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("lower(data.name)", {"name": "ÀDA"}, "àda"),
        ("upper(data.name)", {"name": "ada"}, "ADA"),
        ("trim(data.name)", {"name": "  a b\n"}, "a b"),
        ("replace(data.name, '.', '-')", {"name": "a.b.c"}, "a-b-c"),
        ("split(data.name, ',')", {"name": "a,,b"}, ["a", "", "b"]),
        ("first(data.tags)", {"tags": [None, "a", "b"]}, "a"),
        ("first(data.tags)", {"tags": []}, None),
        ("lookup('countries', data.name)", {"name": "DE"}, "Germany"),
        ("lookup('countries', data.name)", {"name": "FR"}, None),
        ("lookup('countries', data.n)", {"n": 1}, "one"),
        ("lookup('countries', data.n)", {"n": 1.0}, "one"),
        ("lookup('countries', data.flag)", {"flag": True}, "yes"),
        ("data.tags[].lookup('countries', @)", {"tags": ["DE", "FR"]}, ["Germany"]),
        (
            "normalize_diacritics(data.name)",
            {"name": "Łukasz Ångström-Großmann"},
            "Lukasz Angstrom-Grossmann",
        ),
        ("normalize_diacritics(data.name)", {"name": "최현우 й हिंदी ガ"}, "최현우 й हिंदी ガ"),
        ("lower(data.name || data.email)", {"email": "A@B"}, "a@b"),
        (
            "find(data.people, 'city', data.name).city",
            {"people": [None, "x", {"city": 1}, {"city": "Bern"}], "name": "Bern"},
            "Bern",
        ),
        ("find(data.people, 'city', data.n)", {"people": [{"city": True}], "n": 1}, None),
        ("find(data.people, 'city', data.n).city", {"people": [{"city": 1.0}], "n": 1}, 1.0),
        ("find(data.people, 'city', data.name)", {"people": [{"city": None}, {}]}, None),
        ("text(data.n)", {"n": 4711}, "4711"),
        ("text(data.n)", {"n": 1.5}, "1.5"),
        ("text(data.n)", {"n": 4711.0}, "4711"),
        ("text(data.flag)", {"flag": True}, "true"),
        ("text(data.name)", {"name": "a"}, "a"),
        ("from_base64(data.name)", {"name": "eyJhIjogIsOpPyJ9"}, '{"a": "é?"}'),
        ("from_base64(data.name)", {"name": "w78_Pz8"}, "ÿ???"),
        ("from_json(data.name).a[1]", {"name": ' {"a": [1, "é"]}'}, "é"),
        ("to_number(data.name)", {"name": "-1.5e3"}, -1500),
        *(
            ("to_number(data.name)", {"name": text}, None)
            for text in ("nan", "Infinity", "1_0", "٣", " 1", "01", "1e999", "9" * 5000)
        ),
    ],
)
def test_functions(text: str, data: dict[str, Any], expected: Any) -> None:
    """Each function does what its description promises; null for a property that the event lacks needs no guard."""
    assert expected == evaluate(text, **data)
    assert evaluate(text) is None or "[]" in text


@pytest.mark.parametrize(
    ("text", "data", "reason"),
    [
        ("from_json(data.name)", {"name": "4711"[:0]}, "from_json() cannot read the text (not-json)"),
        ("from_json(data.name)", {"name": "{4711}"}, "from_json() cannot read the text (not-json)"),
        ("from_json(data.name)", {"name": "[" * 4711}, "from_json() cannot read the text (too-deep)"),
        (
            "from_json(data.name)",
            {"name": "1" * 4711},
            "from_json() cannot read the text (invalid-number)",
        ),
        (
            "from_json(data.name)",
            {"name": '{"4711": 1, "4711": 2}'},
            "from_json() cannot read the text (duplicate-key)",
        ),
        (
            "from_json(data.name)",
            {"name": '"\\ud800 4711"'},
            "from_json() cannot read the text (invalid-text)",
        ),
        (
            "from_json(data.name)",
            {"name": '"\ud800 4711"'},
            "from_json() cannot read the text (invalid-text)",
        ),
        ("from_base64(data.name)", {"name": "4711?"}, "from_base64() cannot read the text"),
        ("from_base64(data.name)", {"name": "/w=="}, "from_base64() cannot read the text"),
        ("from_base64(data.name)", {"name": "4711\ud800"}, "from_base64() cannot read the text"),
        ("from_json(data.n)", {"n": 4711}, "from_json() takes string or null, not number"),
        ("split(data.name, data.email)", {"name": "a", "email": ""}, "split() needs a separator, not an empty text"),
        (
            "replace(data.name, data.email, 'x')",
            {"name": "a", "email": ""},
            "replace() needs a text to look for, not an empty one",
        ),
        (
            "replace(data.name, 'a', data.email)",
            {"name": "a" * 10_000, "email": "4711" * 1_000},
            "replace() would make a text that is too long",
        ),
        (
            "join(data.name, data.tags)",
            {"name": "4711" * 1_000, "tags": ["a"] * 10_000},
            "join() would make a text that is too long",
        ),
        ("timestamp(data.name, 'ms')", {"name": "4711x"}, "timestamp(): the text is no number of units since 1970"),
    ],
)  # fmt: skip
def test_hostile_values_are_refused_with_a_reason_that_quotes_none(
    text: str, data: dict[str, Any], reason: str
) -> None:
    """Whatever the event holds, the function ends with an error of ours, and no result is far larger than the event."""
    with pytest.raises(MappingError) as caught:
        evaluate(text, **data)

    assert reason == caught.value.violations[0].message
    assert "4711" not in str(caught.value)
    assert caught.value.__context__ is None


HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["2026-11-28T10:30", "+0100", "{", "[[[[", "9999-12-31T23:59:60-23:59"]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.just("city"), inner),
    max_leaves=10,
)


@given(
    st.sampled_from(
        [
            *(f"timestamp(data.name, {form})" for form in ("'s'", "'ms'", "'us'", "'ns'", "'iso'", "'rfc1123'")),
            *(f"timestamp(data.name, {form}, 'America/New_York')" for form in ("'list'", "'iso'", "'%Y-%m-%dT%H:%M'")),
            "find(data.people, 'city', data.n)",
            "from_json(data.name)",
            "text(data.name)",
            "to_number(data.name)",
            "split(data.name, data.n)",
            "replace(data.name, data.n, data.n)",
            "join(data.name, data.n)",
        ]
    ),
    HOSTILE,
    HOSTILE,
)  # fmt: skip
def test_no_value_raises_anything_else(text: str, name: Any, n: Any) -> None:
    """Numbers without end, wrong types and odd texts give a value or a MappingError."""
    with suppress(MappingError):
        evaluate(text, name=name, people=name, n=n)


def test_every_function_is_documented() -> None:
    """The reference can be generated: each description begins with the call."""
    docs = function_docs()

    assert all(text.startswith(f"`{name}(") for name, text in docs.items())
    assert {"lower", "upper", "trim", "replace", "split", "first", "lookup"} < set(docs)


@pytest.mark.parametrize(
    ("text", "data", "reason"),
    [
        ("lower(data.n)", {"n": 4711}, "lower() takes string or null, not number"),
        ("first(data.name)", {"name": "4711"}, "first() takes array or null, not string"),
        (
            "data.name < data.n",
            {"name": "4711", "n": 4711},
            "a comparison or function does not work with values of these types",
        ),
    ],
)
def test_a_failing_evaluation_names_target_and_reason_only(
    text: str, data: dict[str, Any], reason: str
) -> None:
    """The error says where and why; the value appears nowhere, not even in what caused it."""
    with pytest.raises(MappingError) as caught:
        evaluate(text, **data)

    error = caught.value
    assert error.violations[0].pointer == "/user/x"
    assert error.violations[0].message == reason
    assert reason in error.message
    assert "4711" not in f"{error} {error.remedy}"
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the expression is empty"),
        ("data.", "the expression ends too early"),
        ("lower(data.email", "the expression ends too early"),
        ("data.email data", "breaks off at column 12: 'data'"),
        ("data..email", "breaks off at column 6"),
        ("lwer(data.email)", "there is no function lwer(); did you mean 'lower'?"),
        ("qqq(data.email)", "there is no function qqq()"),
        ("lower(data.email, 'x')", "lower() takes 1 argument, not 2"),
        ("not_null()", "not_null() takes at least 1 argument, not 0"),
        ("dta.email", "'dta' is a name that expressions do not know; did you mean 'data'?"),
        ("email", "an expression sees data, id, type"),
        ("subject.id", "'subject' is text and has no properties"),
        ("data.mail", "'data.mail' is not a property of the event's schema"),
        ("data.address.town", "'data.address.town' is not a property"),
        ("data.people[].town", "'data.people.town' is not a property"),
        ("data.people[?town=='x'].city", "'data.people.town' is not a property"),
        ("data.people[0].town", "'data.people.town' is not a property"),
        ("data | mail", "'data.mail' is not a property"),
        ("(data.address || data.people).town", "'data.address.town' is not a property"),
        ("[data.mail, data.email]", "'data.mail' is not a property"),
        ("{a: data.mail}", "'data.mail' is not a property"),
        ("!(data.mail)", "'data.mail' is not a property"),
        ("!data.email", "'!' needs brackets before a path"),
        ("data.mail == data.email && data.name", "'data.mail' is not a property"),
        ("lookup('contries', data.name)", "unknown table 'contries'; did you mean 'countries'?"),
        ("lookup('zz', data.name)", "add [tables.zz]"),
        ("lookup(data.name, data.name)", "takes the name of its table as plain text"),
        ("split(data.name, '')", "split() needs a separator"),
        ("replace(data.name, '', 'x')", "replace() needs a text"),
        ("lower(`5`)", "lower() takes string or null, never number"),
        ("lower(split(data.name, ','))", "lower() takes string or null, never array"),
        ("upper(length(data.tags))", "upper() takes string or null, never number"),
        ("first(lower(data.name))", "first() takes array or null, never string"),
        ("first({a: data.name})", "first() takes array or null, never object"),
        ("lower([data.name])", "lower() takes string or null, never array"),
        ("lower(data.tags[])", "lower() takes string or null, never array"),
        ("split(data.name, `null`)", "split() takes string, never null"),
        ("join(',', `[1]`)", "join() takes array-string"),
        ("map(data.tags, data.tags)", "map() takes a reference (&…), as in &name"),
        ("lower(&name)", "lower() takes string or null, never a reference (&…)"),
        ("from_json('{')", "from_json() cannot read the text"),
        ("from_base64('?')", "from_base64() cannot read the text"),
        ("merge(data.address, 'x')", "merge() takes object, never string"),
        ("not_null(data.mail, data.n)", "'data.mail' is not a property"),
        ("data.people[?city == data.name]", "use find(list, 'key', value)"),
        ("data.flag == true", "the constant is `true`"),
        ("data.people[?city == null]", "the constant is `null`"),
        ("data.n == 1", "a number stands in backticks"),
        ("data.n > `true`", "compare numbers or texts, never boolean"),
        ("data.tags[] > data.n", "compare numbers or texts, never array"),
        ("find(data.people, 'town', data.n)", "'data.people.town' is not a property"),
        ("find(data.people, 'city', data.n).town", "'data.people.town' is not a property"),
        (
            "find(data.people, data.name, data.n)",
            "find() takes the name of a property as plain text",
        ),
        ("find(data.people, 'city')", "find() takes 3 arguments, not 2"),
        ("timestamp(data.n)", "timestamp() takes 2 or 3 arguments, not 1"),
        ("timestamp(data.n, 'ms', 'UTC', 'x')", "timestamp() takes 2 or 3 arguments, not 4"),
        ("timestamp(data.n, data.name)", "timestamp() takes form and zone as plain text"),
        ("timestamp(data.n, 'ms', `1`)", "timestamp() takes form and zone as plain text"),
        ("timestamp(data.n, 'millis')", "timestamp() knows no form 'millis': use one of s, ms"),
        ("timestamp(data.n, 'iso', 'Mars/Base')", "timestamp() knows no time zone 'Mars/Base'"),
        ("timestamp(data.n, 'iso', '../etc')", "timestamp() knows no time zone '../etc'"),
        ("timestamp(data.n, 'list')", "timestamp() needs a time zone as its third argument"),
        ("timestamp(data.n, '%d.%m.%Y')", "timestamp() needs a time zone as its third argument"),
        ("timestamp(data.n, '%H:%M', 'UTC')", "timestamp() needs year, month and day in a format"),
        ("timestamp(data.n, '%Q', 'UTC')", "timestamp() cannot read %Q in a format"),
        (
            "timestamp(`{}`, 'ms')",
            "timestamp() takes string or number or array or null, never object",
        ),
    ],
)
def test_an_expression_that_cannot_work_is_refused(text: str, problem: str) -> None:
    """Syntax, names, functions, tables and paths are checked before any event."""
    with pytest.raises(ExpressionError) as caught:
        compiled(text)

    assert problem in str(caught.value)


def test_all_problems_are_reported_together() -> None:
    """One run shows everything; what follows from a wrong path is not repeated."""
    with pytest.raises(ExpressionError) as caught:
        compiled("lwer(data.mail.x) || dta.email")

    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("data.address.city", {("address",), ("address", "city")}),
        ("lower(data.name || data.email)", {("name",), ("email",)}),
        ("data.people[*].city | [0]", {("people",), ("people", "city")}),
        ("data.people[1:].city", {("people",), ("people", "city")}),
        ("sort_by(data.people, &anything)[0].whatever", {("people",)}),
        ("data.address.*.anything", {("address",)}),
        ("merge(data.address, `{}`).anything", {("address",)}),
        ("id || subject || time", set()),
        ("find(data.people, 'city', data.name).city", {("people",), ("people", "city"), ("name",)}),
        ("from_json(data.name).whatever", {("name",)}),
        ("timestamp(data.n, 'ms')", {("n",)}),
        ("data", set()),
    ],
)
def test_finds_the_paths_an_expression_reads(text: str, paths: set[tuple[str, ...]]) -> None:
    """Paths are known through lists, filters, pipes and functions, without evaluating anything."""
    assert paths == compiled(text).data_paths


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), ("", False), ([], False), (False, False), (0, True), ("x", True)],
)
def test_truth_is_that_of_jmespath(value: Any, expected: bool) -> None:
    """Zero is true, and everything empty is false."""
    assert compiled("data.name").is_true({"data": {"name": value}}, "/when") is expected


def test_the_scope_holds_envelope_and_data() -> None:
    """Expressions see the event's data and the attributes of its envelope."""
    time = datetime(2026, 11, 1, tzinfo=UTC)
    event = UserEvent("e1", "/um", "user.created", "u1", time, "urn:x", {"email": "a@b"})

    assert event_scope(event) == {
        "data": {"email": "a@b"},
        "id": "e1",
        "type": "user.created",
        "subject": "u1",
        "source": "/um",
        "time": "2026-11-01T00:00:00.000000Z",
    }


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


def test_to_string_writes_a_number_as_text_does() -> None:
    """Whatever it is given otherwise is JMESPath's own matter."""
    assert ["4711", "[4711]", "x"] == [
        evaluate("to_string(data.n)", n=one) for one in (4711.0, [4711], "x")
    ]


@pytest.mark.parametrize("function", ["text", "to_string"])
@pytest.mark.parametrize("number", [9007199254740993.0, 1e22])
def test_a_number_that_may_have_been_another_is_no_text(function: str, number: float) -> None:
    """It could become the id of somebody else; the refusal does not repeat it."""
    with pytest.raises(MappingError) as caught:
        evaluate(f"{function}(data.n)", n=number)

    assert "mapping-failed" == caught.value.code
    assert str(number) not in str(caught.value)


TYPES = {
    ("n",): frozenset({"number"}),
    ("email",): frozenset({"string", "null"}),
    ("tags",): frozenset({"array"}),
    ("people", "city"): frozenset({"number"}),
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lower(data.n)", "lower() takes string or null, never number"),
        ("lower(data.tags)", "lower() takes string or null, never array"),
        ("first(data.email)", "first() takes array or null, never string"),
        ("upper(data)", "upper() takes string or null, never object"),
        ("first(time)", "first() takes array or null, never string"),
        ("data.tags > data.n", "compare numbers or texts, never array"),
        ("lower(data.email)", None),
        ("text(data.n)", None),
        ("lower(data.name)", None),
        ("lower(data.tags[0])", None),
        ("data.people[].lower(city)", None),
        ("data.tags[].lower(@)", None),
        ("lower(data.n || data.name)", None),
    ],
)
def test_functions_are_checked_against_the_schemas_types(text: str, problem: str | None) -> None:
    """What no valid event can give a function is refused at start; what the schema leaves open is not."""
    found: tuple[str, ...] = ()
    try:
        compile_expression(
            text,
            tables={},
            has_property={*PROPERTIES, ("people", "city")}.__contains__,
            types_of=TYPES.get,
        )
    except ExpressionError as error:
        found = error.problems

    assert ([] if problem is None else [True]) == [(problem or "") in one for one in found]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"data.roles[{'9' * 5000}]", "a number in the expression has too many digits"),
        (f"{'(' * 3000}data.name{')' * 3000}", "nests too deeply"),
        (f"{'!' * 3000}data.name", "nests too deeply"),
        ("[" * 3000, "nests too deeply"),
        (" || ".join(["data.name"] * 3000), "nests too deeply"),
    ],
    ids=["digits", "brackets", "not", "lists", "or"],
)
def test_an_expression_that_no_interpreter_takes_is_refused(text: str, problem: str) -> None:
    """Here, in an envelope and as the user of a record key; up to a hundred levels work everywhere."""
    with pytest.raises(ExpressionError, match=problem):
        compile_expression(text, tables={}, has_property=lambda _: True)
    with pytest.raises(ConfigError, match=f"envelope.id: .*{problem}"):
        compile_envelope({"id": text, "type": "key", "data": "key"})
    with pytest.raises(ConfigError, match=f"envelope.key: .*{problem}"):
        compile_keys(text, None)


@pytest.mark.parametrize("text", ["lower({})", "[{}]", "!({})", "{} || data.name", "{{a: {}}}"])
def test_an_expression_of_many_levels_is_evaluated(text: str) -> None:
    """What passes the check at the start is evaluated for each event."""
    nested, before = "data.name", ""
    while True:
        try:
            expression = compile_expression(nested, tables={}, has_property=lambda _: True)
        except ExpressionError:
            break
        before, nested = nested, text.format(nested)
        if len(nested) > 5000:
            break
    expression = compile_expression(before, tables={}, has_property=lambda _: True)
    expression.evaluate({"data": {"name": None}}, "/user/x")


@pytest.mark.parametrize("text", ["data.roles[0:5:0]", "lower(data.roles[::0][0])"])
def test_a_slice_without_a_step_is_refused(text: str) -> None:
    """It fails for each event that has a list there."""
    with pytest.raises(ExpressionError, match="a slice has a step other than 0"):
        compile_expression(text, tables={}, has_property=lambda _: True)
    compile_expression("data.roles[0:5:1]", tables={}, has_property=lambda _: True)
