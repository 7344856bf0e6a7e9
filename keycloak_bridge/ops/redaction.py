"""Mask what must never appear in a log: e-mail addresses, tokens, passwords and the secrets in use.

This is the second safeguard; the first is that `logs.log_event` takes only fields without personal data.
"""

import base64
import json
import re
import threading
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
SHORTEST_SECRET = 4
"""Shorter texts are not masked, since ordinary words contain them."""

_AT = r"(?:@|%40|\\u0040|\\x40)"
_WORD = r"[^\s\"<>()\[\],;]"
_POSITION = r"\d{1,19}(?:[\s:;,)]|$)"
_PATTERNS = (
    # credentials in headers
    (re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=\-]{8,}"), MASK),
    (re.compile(r"\bBasic\s+(?=[a-z]*[A-Z0-9+/=])[A-Za-z0-9+/]{8,}={0,2}"), MASK),
    # JSON Web Tokens wherever they stand: access tokens and the keys of action links
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)*"), MASK),
    # name=value, name: value, "name": "value"; the name stays readable
    (
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|credential|token|authorization|api[_-]?key)"
            r"[\w.\-]{0,64}[\"']?\s{0,4}[=:]\s{0,4})(?!\[redacted\])"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"'}\])]+)"
        ),
        rf"\1{MASK}",
    ),
    # "quoted local part"@domain, then any word with an at sign in it, except a position such as user-events/3@17;
    # words are tried from their first character only, which keeps the search linear
    (re.compile(rf"\"[^\"\n]{{0,320}}\"{_AT}{_WORD}+"), MASK),
    (re.compile(rf"(?<!{_WORD}){_WORD}+?{_AT}(?!{_POSITION})(?:\[[^\]\s]*\]|{_WORD})+"), MASK),
)


_TRACES = (
    "@",
    "%40",
    "\\u0040",
    "\\x40",
    "eyj",
    "bearer",
    "basic",
    "passw",
    "passphrase",
    "secret",
    "credential",
    "token",
    "authorization",
    "apikey",
    "api-key",
    "api_key",
)
"""Every ASCII text of which a pattern masks something contains one of these, in lower case."""


class Redactor:
    """Masks texts; secrets may be added from any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Mask `secret` from now on, in the forms that logs and URLs give it."""
        if len(secret) < SHORTEST_SECRET or secret in self._forms:
            return
        with self._lock:
            forms = {*self._forms, *_forms(secret)}
            self._forms = tuple(sorted(forms, key=len, reverse=True))

    def redact(self, text: str) -> str:
        """Return `text` with everything masked that must not appear."""
        if not self.may_mask(text):
            return text
        for form in self._forms:
            text = text.replace(form, MASK)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def may_mask(self, text: str) -> bool:
        """Say whether `redact` can mask anything in `text`; quicker than searching for it."""
        if not text.isascii():
            return True  # a letter beyond ASCII may match one of the words: the long s is an s
        lower = text.lower()
        return any(trace in lower for trace in _TRACES) or any(form in text for form in self._forms)


shared = Redactor()
"""The redactor of the process; every secret is added when it is revealed."""


def _forms(secret: str) -> set[str]:
    """Return the ways in which a secret is written: as it is, escaped, in a URL, in base64."""
    # the environment can hold bytes that are no UTF-8; they must not keep a secret from being masked
    encoded = base64.b64encode(secret.encode(errors="surrogatepass")).decode()
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe="", errors="surrogatepass"),
        quote(secret, errors="surrogatepass"),
        quote_plus(secret, errors="surrogatepass"),
        encoded,
        encoded.rstrip("="),
    }
