import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.unicode_text import normalize

LETTERS = st.sampled_from(
    ["a", "e\u0301", "é", "q\u0316\u0301", "ﷺ", "각", "\u1100\u1161\u11a8", "কো", "字", " ", "Å"]
)
FORMS: Any = ("NFC", "NFD", "NFKC", "NFKD")


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(LETTERS, min_size=300, max_size=700).map("".join))
def test_long_texts_are_normalized_as_short_ones(form: Any, text: str) -> None:
    """Wherever they are cut."""
    assert unicodedata.normalize(form, text) == normalize(form, text)


@pytest.mark.parametrize("form", FORMS)
def test_a_letter_with_many_marks_loses_none(form: Any) -> None:
    """Only their order may not be the normal one."""
    text = "a" + "\u0301\u0316" * 5000

    found = "".join(unicodedata.normalize("NFD", one) for one in normalize(form, text))

    assert sorted(text) == sorted(found)
