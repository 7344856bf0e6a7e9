"""What must not be read is masked, what people need stays readable."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keycloak_bridge.ops.redaction import Redactor

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user ada@acme.example exists", "user [redacted] exists"),
        ("mailto:ada+x@acme.example.", "[redacted]"),
        ("GET /users?email=ada%40acme.example&max=2", "GET [redacted]"),
        ('{"email": "ada@acme.example", "n": 1}', '{"email": "[redacted]", "n": 1}'),
        ('to "ada l"@acme.example', "to [redacted]"),
        ("x/3@17:ada@acme.example", "[redacted]"),
        ("{ada@acme.example}{bob@acme.example}", "[redacted]"),
        ("ada@[10.0.0.1] left", "[redacted] left"),
        ("ünï.cødé@exämple.de", "[redacted]"),
        ("https://bridge:hunter2@id.example.com/x", "[redacted]"),
        (f"Authorization: Bearer {JWT}", "Authorization: [redacted]"),
        (f"bearer {JWT}", "[redacted]"),
        (f"link https://x/action-token?key={JWT}&client_id=a", "link https://x/action-token?key=[redacted]&client_id=a"),
        ("sent Basic YWRhOmh1bnRlcjI=", "sent [redacted]"),
        ("client_secret=abc123&grant_type=x", "client_secret=[redacted]&grant_type=x"),
        ("{'password': 'hunter 2', 'n': 1}", "{'password': [redacted], 'n': 1}"),
        ('{"access_token":"abc","expires_in":300}', '{"access_token":[redacted],"expires_in":300}'),
        ("sasl_plain_password = hunter2, next", "sasl_plain_password = [redacted], next"),
        ("x-api-key: abc", "x-api-key: [redacted]"),
    ],
)  # fmt: skip
def test_masks(text: str, expected: str) -> None:
    """Addresses, tokens and values of telling names."""
    assert expected == Redactor().redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "user-events/3@17 could not be written",
        "caught up at user-events/0@2000",
        "Basic authentication is not offered",
        "required action UPDATE_PASSWORD",
        "realm acme, client keycloak-bridge, 250 ms",
        "Connection refused: http://127.0.0.1:8080/realms/acme/protocol/openid-connect",
    ],
)
def test_leaves_readable(text: str) -> None:
    """Positions, words and addresses of servers."""
    assert text == Redactor().redact(text)


def test_short_secrets_are_no_secrets() -> None:
    """Masking three letters would blot out words."""
    assert "a cat sat" == Redactor(["cat"]).redact("a cat sat")


def test_a_secret_that_is_no_utf8_is_masked_too() -> None:
    """The environment can hold any bytes."""
    assert "x [redacted]" == Redactor(["abc\udcff"]).redact("x abc\udcff")


@given(
    secret=st.text(min_size=4, max_size=40).filter(lambda text: text.strip() and "[" not in text),
    before=st.text(max_size=10),
    write=st.sampled_from(
        (
            str,
            repr,
            json.dumps,
            lambda text: quote(text, safe=""),
            lambda text: base64.b64encode(text.encode()).decode(),
        )
    ),
)
def test_a_known_secret_never_survives(secret: str, before: str, write: object) -> None:
    """However a secret is written, its form is gone."""
    try:
        written = write(secret)  # type: ignore[operator]
    except UnicodeEncodeError:
        return
    redacted = Redactor([secret]).redact(f"{before} {written} after")

    assert written.strip("\"'") not in redacted


@given(address=st.emails(), write=st.sampled_from((str, repr, json.dumps, quote)))
def test_an_address_never_survives(address: str, write: object) -> None:
    """Any e-mail address, plain or encoded."""
    written = write(address)  # type: ignore[operator]
    redacted = Redactor().redact(f"the user {written} exists")

    assert address not in redacted
    assert written.strip("\"'") not in redacted


def test_long_words_cost_little() -> None:
    """A body of a megabyte without spaces is masked in linear time."""
    text = "x" * 200_000 + "@example.com"

    assert "example.com" not in Redactor(["planted-secret"]).redact(text)


class Thorough(Redactor):
    """Looks for everything in every text."""

    def may_mask(self, text: str) -> bool:
        """Never be sure."""
        return True


_FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "password=", "PassWord: ", "pa\u017f\u017fword=", "passwd:", "Passphrase =", "secret'='", "Credentials:",
            "to\u212aen=", "token: ", "AUTHORIZATION=", "api-key=", "api_key:", "apikey=", "Bearer ", "bearer\t",
            "Basic ", "QWxhZGRpbg==", "eyJhbGciOi", ".eyJ", "@", "%40", "\\u0040", "\\x40", "@17 ", '"', "'", "a.b",
            "hunter2", "Hunter2", " ", "\n", "abcdefgh",
        ]
    ),
    st.text(max_size=6),
)  # fmt: skip


@given(st.lists(_FRAGMENTS, max_size=8).map("".join))
def test_a_quick_look_overlooks_nothing(text: str) -> None:
    """Whatever a thorough search masks is masked."""
    secrets = ["hunter2"]

    assert Thorough(secrets).redact(text) == Redactor(secrets).redact(text)
