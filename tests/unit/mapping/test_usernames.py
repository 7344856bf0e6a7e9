"""The username checks of Keycloak's default user profile."""

import pytest

from keycloak_bridge.mapping.mapping import is_reserved, username_problem


@pytest.mark.parametrize(
    "username", ["ada", "ada.lovelace+news@acme.example", "ça-va_9", "山田太郎", "x" * 255]
)
def test_accepts_what_keycloak_accepts(username: str) -> None:
    """Letters of any script, digits and . - _ + @ are fine."""
    assert username_problem(username) is None


@pytest.mark.parametrize("username", ["", "ab", "x" * 256, "𝒜" * 128])
def test_refuses_wrong_lengths(username: str) -> None:
    """Keycloak takes 3 to 255 UTF-16 units."""
    problem = username_problem(username)

    assert problem is not None
    assert "3 to 255" in problem


@pytest.mark.parametrize(
    "space", [" ", "\t", "\n", "\0", "\x7f", "\x85", "\xa0", "\u180e", "\u2028", "\u3000"]
)
def test_refuses_white_space_and_controls(space: str) -> None:
    """Every kind of white space and control character is refused."""
    assert username_problem(f"ada{space}l") == (
        "the username contains white space or a control character"
    )


@pytest.mark.parametrize("character", "<>&\"'$%!#?§,;:*~/\\|^=[]{}()`")
def test_refuses_prohibited_characters(character: str) -> None:
    """Each character that Keycloak prohibits is refused, without being quoted."""
    assert username_problem(f"ada{character}l") == (
        "the username contains a character that Keycloak prohibits in usernames"
    )


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        ("admin", True),
        ("ADMIN", True),
        ("service-account-keycloak-bridge", True),
        ("administrator", False),
    ],
)
def test_reserved_names_are_out_of_reach(username: str, expected: bool) -> None:
    """Reserved names are compared without case; service accounts always are reserved."""
    assert is_reserved(username, {"admin"}) is expected
