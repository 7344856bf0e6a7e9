"""Who may see the page."""

import base64
from email.message import Message

import pytest

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ui.access import PageAccess

TOKEN = "correct-horse-battery-staple"


def headers(**given: str) -> Message:
    """Return request headers; `_` stands for `-`."""
    message = Message()
    for name, value in given.items():
        message[name.replace("_", "-")] = value
    return message


def basic(text: str) -> str:
    """Return the header that a browser sends for `user:password`."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def status(access: PageAccess, **given: str) -> int | None:
    """Return the status of the refusal, None where there is none."""
    refusal = access.refusal(headers(**given))
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (basic(f"ops:{TOKEN}"), None),
        (basic(f":{TOKEN}"), None),
        (f"Bearer {TOKEN}", None),
        (f"bearer  {TOKEN} ", None),
        (basic(f"ops:{TOKEN}x"), 401),
        (basic(TOKEN), 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer", 401),
        ("Bearer \udcff\udcfe", 401),
        ("Basic %%%", 401),
        ("Basic é", 401),
        (f"Digest {TOKEN}", 401),
        ("", 401),
    ],
)
def test_the_token_is_a_password_or_a_bearer_token(
    authorization: str, expected: int | None
) -> None:
    """Under any user name; from any machine, and through a proxy."""
    access = PageAccess(lambda: TOKEN)

    assert expected == status(access, Authorization=authorization, X_Forwarded_For="192.0.2.1")


def test_a_browser_is_asked_for_the_token() -> None:
    """By HTTP Basic, so that no address and no cookie holds it; nothing says what was wrong."""
    refusal = PageAccess(lambda: TOKEN).refusal(headers())

    assert refusal is not None
    assert refusal.headers["WWW-Authenticate"].startswith("Basic ")
    assert TOKEN.encode() not in refusal.body


def test_a_token_that_was_rotated_counts_at_once() -> None:
    """The file is read at each request; one that cannot be read lets nobody in."""
    tokens = [TOKEN, TOKEN + "-2", TOKEN + "-2"]

    def token() -> str:
        if not tokens:
            raise ConfigError("the secret file /run/ui-token is empty", code="secret-unreadable")
        return tokens.pop(0)

    access = PageAccess(token)

    old, new = f"Bearer {TOKEN}", f"Bearer {TOKEN}-2"
    assert [401, None, 503] == [status(access, Authorization=one) for one in (old, new, new)]


def test_a_short_token_stops_the_bridge() -> None:
    """Before anything is served."""
    with pytest.raises(ConfigError, match="shorter than 16 characters"):
        PageAccess(lambda: "0123456789abcde")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"Host": "localhost:9090"}, None),
        ({"Host": "127.0.0.1:9090"}, None),
        ({"Host": "127.9.9.9"}, None),
        ({"Host": "[::1]:9090"}, None),
        ({"Host": "evil.example:9090"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "user@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({}, 403),
        ({"Host": "localhost", "X_Forwarded_For": "192.0.2.1"}, 403),
        ({"Host": "localhost", "Forwarded": "for=192.0.2.1"}, 403),
        ({"Host": "localhost", "X_Forwarded_Proto": "https"}, 403),
    ],
)
def test_without_a_token_only_this_machine_sees_the_page(
    given: dict[str, str], expected: int | None
) -> None:
    """Not a page of the web whose name leads to the loopback address, and not what a proxy asks for."""
    assert expected == status(PageAccess(None), **given)
