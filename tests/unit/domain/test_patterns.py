"""A pattern means what ECMA 262 says with its flag `u`, takes no time that explodes, or is refused with the reason."""

from random import Random

import pytest
import regress

from keycloak_bridge.domain.patterns import PatternError, check_syntax, compile_pattern

TEXTS = (
    *("", "a", "ab", "aab", "abc", "b", "B", "_", "-", "a-b", "a.b", "1", "12", "a1", "\n", "a\n"),
    *("é", "É", "ß", "漢", "Zoë", "O'Brien", "Ana María", "١", "\u00a0", "\u2028", "\ufeff", "😀"),
    *("a😀", "Ω", "ж", "\u0301", "e\u0301", "/", "[", "]", "$", "^", "{", "x" * 40, "\x08", "\x00"),
)


def oracle(pattern: str, text: str) -> bool:
    """Return what the library regress, an implementation of ECMA 262, says."""
    return regress.Regex(pattern, "u").find(text) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"^[\p{L}' -]+$", r"^\p{Lu}\p{Ll}+$", r"\P{L}", r"[^\p{L}\p{N}]", r"^[\p{L}\P{L}]$"),
        *(r"\p{Letter}", r"\p{gc=Lu}", r"\p{Script=Greek}", r"\p{sc=Grek}", r"\p{scx=Cyrl}"),
        *(r"\p{Alphabetic}", r"\p{Emoji}", r"\p{Any}", r"\p{ASCII}", r"\p{White_Space}", r"\p{C}"),
        *("", "b", "^$", "a|b", "^(?:a|b)+$", "^(a)(b)?$", "(?<year>[0-9]{2})", "^a{2}b$", "a{1,}b"),
        *(r"^\d+$", r"^\D$", r"^\w$", r"^\W$", r"^\s$", r"^\S$", r"^[\sx]$", r"[^\s\S]", "^.$", "."),
        *("[$.]", r"a\.b", "^[[]$", r"^[\]$]$", "[]", "[^]", "^[^]$", "^[a-c]+$", "[a-]", "[-a]"),
        *(r"\u0061", r"\x61", r"\u{1F600}", r"\uD83D\uDE00", r"^[\u{1F600}]$", r"[\b]", r"\0", r"\cJ"),
        *(r"\t|\n|\v|\f|\r", r"\bb", r"b\b", r"\/", r"[\-a]", "a*?b", "a+?", "a??b"),
        *("^(?=a)ab", "^(?!ab)a", "^(?=.*b)(?=.*[a-c]).{2,3}$", "^(?!.*c)[a-c]+$", r"^[ab-]+(?<!-)$"),
        *("^a(?<=a)$", "^(?!a)b|^a(?<!b)$", "^(?!a$)", "^(?=a|b)", "(?<=b)$", "^.{2,100}$", "^.{0,5000}$"),
        *(r"^\p{L}{1,300}$", r"^\p{L}[\p{L} ]{0,254}$", "^x{40}$", "^x{0,39}$", "^a{3000}$"),
    ],
)  # fmt: skip
def test_a_pattern_matches_as_in_ecma(pattern: str) -> None:
    """On texts of all kinds, as an independent implementation says."""
    compiled = compile_pattern(pattern)

    assert [oracle(pattern, text) for text in TEXTS] == [compiled.is_in(text) for text in TEXTS]


ATOMS = (
    *("a", "b", ".", r"\w", r"\W", r"\d", r"\s", r"\S", r"\p{L}", r"\P{Lu}", "[ab]", "[^a]", "é"),
    *(r"[\p{Ll}\d_-]", "(?:a|b)", "(ab?)", "(?:a*)", r"\u{1F600}", r"\.", r"[^\w\s]", "(?:^a|b$)"),
)
TIMES = ("", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "{2,3}?")
EDGES = ("", "", r"\b", "^", "$")


def any_pattern(random: Random) -> str:
    branches = []
    for _ in range(random.choice((1, 1, 1, 2))):
        start = "^" * random.randrange(2)
        ahead = random.choice(("", "", "(?=", "(?!")) if start else ""
        body = "".join(
            random.choice(EDGES) + random.choice(ATOMS) + random.choice(TIMES)
            for _ in range(random.randrange(1, 4))
        )
        look = f"{ahead}{random.choice(ATOMS)}{random.choice(ATOMS)})" if ahead else ""
        end = random.choice(("", "$", "(?<!a)$", "(?<=[ab])$"))
        branches.append(start + look + body + end)
    return "|".join(branches)


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.full)])
def test_patterns_at_random_match_as_in_ecma(count: int) -> None:
    """The translation and an independent implementation agree on each text."""
    differing = []
    for number in range(count):
        random = Random(number)  # noqa: S311 # nothing secret
        pattern = any_pattern(random)
        compiled = compile_pattern(pattern)
        texts = ["".join(random.choices("ab é_1 \nÉ.😀", k=random.randrange(5))) for _ in range(20)]
        differing += [
            (pattern, text) for text in texts if compiled.is_in(text) is not oracle(pattern, text)
        ]

    assert differing == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "missing )"),
        (")", "unmatched )"),
        ("[", "missing ]"),
        ("[z-a]", "end is before its start"),
        (r"[\w-a]", "a range needs a character on both sides"),
        ("*a", "nothing to repeat"),
        ("a**", "nothing to repeat"),
        ("^*", "nothing to repeat"),
        ("(?=a)*", "nothing to repeat"),
        ("a{2,1}", "end is before its start"),
        ("a{,5}", "has to be escaped"),
        ("a}", "has to be escaped"),
        (r"\Z", "\\Z means nothing"),
        (r"\A", "\\A means nothing"),
        (r"\p{Nope}", "is no property of Unicode"),
        (r"\p{L", "\\p means nothing"),
        ("\\", "means nothing"),
        (r"\u{110000}", "beyond Unicode"),
        ("(?i)a", "a group that ECMA 262 does not know"),
        ("(?P<n>a)", "a group that ECMA 262 does not know"),
        ("(?>a)", "a group that ECMA 262 does not know"),
        (r"\01", "means nothing"),
        ("(" * 1000, "nest deeper"),
        ("a" * 100_001, "longer than"),
        ("a{9999999999}", "too many digits"),
    ],
)
def test_what_is_no_regular_expression_is_refused(pattern: str, reason: str) -> None:
    """Better no pattern than one that means something else; the message says what is wrong."""
    with pytest.raises(PatternError) as caught:
        compile_pattern(pattern)
    with pytest.raises(PatternError):
        check_syntax(pattern)

    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "refers back"),
        (r"(?<n>a)\k<n>", "refers back"),
        ("a(?=b)", "looks ahead or behind elsewhere"),
        ("(?<=a)b", "looks ahead or behind elsewhere"),
        ("(?:(?!a)b)+", "looks ahead or behind elsewhere"),
        (r"a\B", "uses"),
        ("a{2001}b", "counts too far"),
        ("(?:a{50}){50}", "counts too far"),
        ("a{999}b{999}c{999}", "counts too far"),
        ("^(?=a{999}b{999}c{999})a", "counts too far"),
    ],
)
def test_what_may_take_too_long_is_refused(pattern: str, reason: str) -> None:
    """At start, with the reason; it is a regular expression all the same."""
    check_syntax(pattern)

    with pytest.raises(PatternError, match=reason):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"\@", r"\-", r"\ ", r"\'", r"a\_b"])
def test_an_escaped_punctuation_mark_is_itself(pattern: str) -> None:
    """The one thing that the flag refuses and that is taken, since it means the same everywhere."""
    assert compile_pattern(pattern).is_in(pattern.replace("\\", ""))


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*)*x", "^(?=(a+)+$)a", "^(a?){99}a{99}$"])  # fmt: skip
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    """A backtracking engine would not come back from this text."""
    assert not compile_pattern(pattern).is_in("a" * 100_000 + "!")


def test_a_lone_surrogate_matches_nothing_and_raises_nothing() -> None:
    """No JSON has one, but a caller may."""
    assert not compile_pattern(r"\uD800").is_in("a")
    assert compile_pattern("^a").is_in("a\ud800")
