"""One exchange: what goes out, and what becomes of every failure to be answered."""

import email.message
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3
from requests import exceptions as requests_errors

from keycloak_bridge.domain.errors import (
    ConfigError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.keycloak.errors import Call
from keycloak_bridge.keycloak.http import CODES, KeycloakConnection, KeycloakHttp, translate
from keycloak_bridge.testing.stub_adapter import StubAdapter

CALL = Call("GET", "/users")
URL = "https://keycloak.example/users"


@pytest.fixture
def stub() -> StubAdapter:
    """The other end."""
    return StubAdapter()


@pytest.fixture
def http(stub: StubAdapter) -> KeycloakHttp:
    """The subject."""
    return KeycloakHttp(
        KeycloakConnection("https://keycloak.example/auth/", "a realm", 1.5, 20.0), stub
    )


def subclasses(of: type[Exception]) -> Iterator[type[Exception]]:
    """Walk the tree of an exception."""
    yield of
    for each in of.__subclasses__():
        yield from subclasses(each)


def test_urls_hold_path_and_encoded_realm(http: KeycloakHttp) -> None:
    """Keycloak may live below a path, and realm names may hold spaces."""
    assert (http.realm_url, http.admin_url) == (
        "https://keycloak.example/auth/realms/a%20realm",
        "https://keycloak.example/auth/admin/realms/a%20realm",
    )


def test_request_carries_token_agent_and_timeouts(http: KeycloakHttp, stub: StubAdapter) -> None:
    """Both timeouts go with every request."""
    stub.answer(200, [])

    http.send(CALL, URL, token="t0k3n", params={"q": "a b"})

    (sent,) = stub.requests
    assert sent.headers["Authorization"] == "Bearer t0k3n"
    assert sent.headers["User-Agent"].startswith("keycloak-bridge/")
    assert sent.timeout == (1.5, 20.0)
    assert sent.params == {"q": "a b"}


def test_redirects_are_not_followed(http: KeycloakHttp, stub: StubAdapter) -> None:
    """A token must not be carried to another host."""
    stub.answer(302, headers={"Location": "https://elsewhere.example/"})

    assert http.send(CALL, URL).status_code == 302
    assert len(stub.requests) == 1


def test_environment_decides_nothing(
    http: KeycloakHttp, stub: StubAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a .netrc nor a proxy variable changes whom the bridge talks to, and as whom."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine keycloak.example login ada password lovelace\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    stub.answer(200, [])

    http.send(CALL, URL)

    assert "Authorization" not in stub.requests[0].headers
    assert http._session.trust_env is False


def test_cookies_are_not_kept(http: KeycloakHttp, stub: StubAdapter) -> None:
    """A session of one call does not reach the next one."""
    headers = email.message.Message()
    headers["Set-Cookie"] = "KEYCLOAK_SESSION=x; Path=/"
    raw = types.SimpleNamespace(_original_response=types.SimpleNamespace(msg=headers))
    stub.answer(200, [])
    stub._script[0].raw = raw  # type: ignore[union-attr]
    stub.answer(200, [])

    http.send(CALL, URL)
    http.send(CALL, URL)

    assert "Cookie" not in stub.requests[1].headers


def test_pool_is_bounded_and_never_retries() -> None:
    """More threads than connections wait; only the delivery decides to try again."""
    http = KeycloakHttp(KeycloakConnection("http://localhost", "acme", pool_size=3))

    adapter = http._session.get_adapter("http://localhost")

    made = vars(adapter)
    assert (made["_pool_maxsize"], made["_pool_block"]) == (3, True)
    assert made["max_retries"].total == 0
    http.close()


def test_unusable_ca_file_is_a_wrong_setting(tmp_path: Path) -> None:
    """Found at start, not at every call."""
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")

    for ca_file in (broken, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match="ca_file"):
            KeycloakHttp(KeycloakConnection("https://localhost", "acme", ca_file=ca_file))


def test_every_error_of_requests_is_mapped() -> None:
    """A new one in a later `requests` shows here, not in production."""
    unmapped = [
        each.__name__
        for each in subclasses(requests.RequestException)
        if each.__module__.startswith("requests") and each not in CODES
    ]

    assert unmapped == []


@pytest.mark.parametrize(
    "kind",
    [
        each
        for each in subclasses(requests.RequestException)
        if each is not requests_errors.JSONDecodeError
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_of_requests_is_translated(
    http: KeycloakHttp, stub: StubAdapter, kind: type[requests.RequestException]
) -> None:
    """Nothing of `requests` escapes, and nothing of what it says."""
    stub.fail(kind("ada.lovelace@acme.example"))

    with pytest.raises((KeycloakUnavailableError, KeycloakRejectedError, ConfigError)) as caught:
        http.send(CALL, URL)

    assert "ada" not in f"{caught.value} {caught.value.remedy}"
    assert caught.value.remedy or isinstance(caught.value, KeycloakRejectedError)


class Surprise(requests_errors.ConnectTimeout):
    """One that is not known here: it counts as its parent."""


def refused_connection() -> requests_errors.ConnectionError:
    """Return a connection that was never made, which `requests` wraps twice."""
    refused = urllib3.exceptions.NewConnectionError(
        urllib3.connection.HTTPConnection("localhost"), "refused"
    )
    pool = urllib3.HTTPConnectionPool("localhost")
    return requests_errors.ConnectionError(
        urllib3.exceptions.MaxRetryError(pool, "/users", refused)
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (requests_errors.ConnectTimeout(), "keycloak-unreachable"),
        (refused_connection(), "keycloak-unreachable"),
        (Surprise(), "keycloak-unreachable"),
        (requests_errors.ReadTimeout(), "keycloak-no-answer"),
        (requests_errors.ConnectionError("reset"), "keycloak-no-answer"),
        (requests_errors.ConnectionError(), "keycloak-no-answer"),
        (requests_errors.ChunkedEncodingError(), "keycloak-no-answer"),
        (requests_errors.SSLError(), "keycloak-tls"),
        (requests_errors.InvalidURL(), "keycloak-url"),
        (requests_errors.InvalidJSONError(), "keycloak-rejected"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_kind_of_failure_is_reported(error: requests.RequestException, code: str) -> None:
    """Above all whether the call may have taken effect; an unknown error can delay users but lose none."""
    assert code == translate(CALL, error).code
