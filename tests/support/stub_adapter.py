"""A transport for `requests` that answers from a script, so that no socket is opened."""

import json as jsonlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from answering_adapter import AnsweringAdapter, answer_of

TOKEN = "stub-token"


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it would have gone out."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    timeout: Any = field(compare=False)

    @property
    def path(self) -> str:
        """The path, still encoded."""
        return urlsplit(self.url).path

    @property
    def params(self) -> dict[str, str]:
        """The query parameters, decoded."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}

    @property
    def form(self) -> dict[str, str]:
        """The form fields of the body, decoded."""
        return {name: values[0] for name, values in parse_qs(self.body).items()}

    @property
    def json(self) -> Any:
        """The JSON of the body."""
        return jsonlib.loads(self.body)


class StubAdapter(AnsweringAdapter):
    """Answers with what `answer` and `fail` were given, in that order; requests for tokens are always answered by `token`.

    With `scripted_tokens` requests for tokens are answered from the script too. `requests` lists what was sent, without
    requests for tokens unless they are scripted.
    """

    def __init__(self, *, scripted_tokens: bool = False) -> None:
        super().__init__()
        self.requests: list[SentRequest] = []
        self.token = TOKEN
        self._scripted_tokens = scripted_tokens
        self._script: deque[requests.Response | Exception] = deque()

    def answer(
        self,
        status: int,
        json: object = None,
        *,
        text: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next request with `json`, or with `text` where that is None."""
        self._script.append(_response(status, json, text, headers or {}))

    def fail(self, error: Exception) -> None:
        """Fail the next request with `error`."""
        self._script.append(error)

    def answered(self, request: requests.PreparedRequest, timeout: Any) -> requests.Response:
        """Record the request and give the next answer."""
        sent = _sent(request, timeout)
        if sent.path.endswith("/token") and not self._scripted_tokens:
            return _response(200, {"access_token": self.token, "expires_in": 300}, "", {})
        self.requests.append(sent)
        if not self._script:
            raise AssertionError(f"nothing scripted for {sent.method} {sent.url}")
        scripted = self._script.popleft()
        if isinstance(scripted, Exception):
            raise scripted
        return scripted


def _sent(request: requests.PreparedRequest, timeout: Any) -> SentRequest:
    body = request.body or b""
    text = body if isinstance(body, str) else bytes(body).decode()
    return SentRequest(str(request.method), str(request.url), dict(request.headers), text, timeout)


def _response(
    status: int, json: object, text: str, headers: Mapping[str, str]
) -> requests.Response:
    return answer_of(status, (text if json is None else jsonlib.dumps(json)).encode(), headers)
