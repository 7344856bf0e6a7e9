"""A reserved name is reserved in whatever way it is written."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.domain.errors import ConflictError
from keycloak_bridge.domain.users import UserRepresentation
from keycloak_bridge.mapping.lookalikes import LOOKALIKES
from keycloak_bridge.mapping.mapping import username_problem
from keycloak_bridge.mapping.reserved_names import (
    anonymous_username,
    is_protected,
    is_reserved,
    refuse_reserved_name,
    skeleton,
)

RESERVED = frozenset({"admin", "root", "boss@acme.example", "система"})
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u17b4\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\u2066\u2069\u2800\u3164"
    "\ufe0f\ufeff\uffa0\U0001d159\U000e0061\U000e0100\x00\x07\x7f\x9f"
)


@pytest.mark.parametrize(
    "name",
    [
        *("admin", "Admin", " admin\t", "\u3000admin\u00a0", "ａｄｍｉｎ", "𝐚𝐝𝐦𝐢𝐧", "ⓐⓓⓜⓘⓝ"),
        *("аdmin", "adm\u0456n", "admın", "ADMİN", "adrnin", "αdmin", "аԁmіո", "r00t", "rοοt"),
        *("boss@acme.example", "boss＠acme.example", "bоss@acme。example", "сиcтема"),
        *("service-account-x", "service‐account‐x", "sеrvice-account-x", "Service\u00ad-Account-x"),
    ],
)  # fmt: skip
def test_a_name_that_looks_reserved_is(name: str) -> None:
    """Width, style, case, script, dashes, invisible characters and white space do not tell names apart."""
    assert is_reserved(name, RESERVED)


@pytest.mark.parametrize(
    "name",
    [
        *("", "admins", "administrator", "ádmin", "ad-min", "ad min", "adm1n", "toor", "админ"),
        *("boss@acme.exampl", "service-accounts", "сервис", "\u200b"),
    ],
)
def test_a_name_that_people_can_tell_apart_is_free(name: str) -> None:
    """A letter more, an accent, or another word."""
    assert not is_reserved(name, RESERVED | {"\u200b", ""})


@given(st.sampled_from(sorted(RESERVED)), st.sampled_from(INVISIBLE), st.integers(0, 20))
def test_nothing_invisible_helps(name: str, character: str, at: int) -> None:
    """Wherever it stands; and no such username is taken at all."""
    hidden = name[:at] + character + name[at:]

    assert is_reserved(hidden, RESERVED)
    if name.isascii():
        assert username_problem(hidden) is not None


@given(st.text(max_size=40))
def test_a_skeleton_is_its_own(text: str) -> None:
    """Any text has one, and taking it twice changes nothing."""
    assert skeleton(text) == skeleton(skeleton(text))


def test_the_table_has_only_what_normalising_leaves() -> None:
    """Each character once, below the ASCII character that it looks like."""
    listed = "".join(LOOKALIKES.values())

    assert len(set(listed)) == len(listed)
    assert all(len(one) == 1 and one.isascii() for one in LOOKALIKES)
    assert [] == [
        one
        for one in listed
        if unicodedata.normalize("NFKD", one).casefold() != one or one.isascii()
    ]


@pytest.mark.parametrize(
    ("user", "pointer"),
    [
        ({"username": "Ａdmin", "email": "ada@acme.example"}, "/user/username"),
        ({"username": "ada", "email": "bоss@acme.example"}, "/user/email"),
        ({"email": "boss@acme.example"}, "/user/email"),
        ({"username": "ada"}, None),
    ],
)
def test_an_address_may_be_reserved_too(user: UserRepresentation, pointer: str | None) -> None:
    """A realm may take the address as the username whatever the event says."""
    if pointer is None:
        refuse_reserved_name(user, RESERVED)
        return
    with pytest.raises(ConflictError) as caught:
        refuse_reserved_name(user, RESERVED)
    assert ("reserved-user", pointer) == (caught.value.code, caught.value.violations[0].pointer)


@pytest.mark.parametrize(
    ("username", "fine"),
    [
        ("نام\u200cکاربر", True),
        ("ada\u200clovelace", False),
        ("\u200cada", False),
        ("ada\u202egpj", False),
        ("عمر\u202bada", False),
        (anonymous_username("0f8fad5b-d9cb-469f-a165-70867728950e"), False),
        ("anonymous-coward", True),
    ],
)
def test_usernames_have_nothing_to_hide(username: str, fine: bool) -> None:
    """A joiner belongs to the scripts that need it; the names of anonymised users are theirs."""
    assert fine is (username_problem(username) is None)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("/admins", True),
        ("/Admins/sub", True),
        ("/аdmins", True),
        ("/ad\u00admins", True),
        ("/administration", False),
        ("/staff/admins", False),
    ],
)
def test_a_protected_group_is_protected_however_it_is_written(group: str, expected: bool) -> None:
    """Databases differ in how exactly they compare names, and an event may only name what is not close to it."""
    assert expected is is_protected(group, {"/admins"})
