"""The page beside the probes, over HTTP."""

import http.client
from collections.abc import Iterator

import pytest
from page_scene import Scene
from pytest_socket import enable_socket

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of one server for all tests, which wants a token."""
    enable_socket()
    with Scene(TOKEN).served() as address:
        yield int(address.rstrip("/").rpartition(":")[2])


@pytest.fixture
def loopback(_no_network: None) -> None:
    enable_socket()


def ask(
    port: int, path: str, method: str = "GET", token: str | None = TOKEN
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("path", ["/", "/user"])
def test_the_page_is_read_only(port: int, path: str) -> None:
    """GET and HEAD; HEAD is the same without a body."""
    status, headers, body = ask(port, path)
    head_status, head, nothing = ask(port, path, "HEAD")
    refused = [ask(port, path, one) for one in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")]

    assert (status, b"") == (head_status, nothing)
    assert b"</html>" in body
    assert headers["Content-Security-Policy"] == head["Content-Security-Policy"]
    assert {(405, "GET, HEAD")} == {(code, answer["Allow"]) for code, answer, _ in refused}


@pytest.mark.usefixtures("loopback")
def test_probes_and_metrics_need_no_token(port: int) -> None:
    """They stay as they are; only the page does."""
    found = {path: ask(port, path, token=None)[0] for path in ("/live", "/ready", "/metrics")}

    assert {"/live": 200, "/ready": 200, "/metrics": 200} == found
    for token in (None, TOKEN[:-1], "x" * 10_000, "é".encode().decode("latin-1")):
        status, headers, body = ask(port, "/", token=token)
        assert (401, "no-store") == (status, headers["Cache-Control"])
        assert headers["WWW-Authenticate"].startswith("Basic")
        assert b"provision" not in body
