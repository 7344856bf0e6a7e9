"""A schema registry in memory, reached through a transport for `requests`."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from answering_adapter import AnsweringAdapter, answer_of

URL = "http://registry:8081/apis/ccompat/v7"
CORE = "http://registry:8081/apis/registry/v2"

Given = tuple[int, object] | Exception
"""A status and a body (text, or what becomes JSON); or why there is no answer."""


def described(
    content: object, kind: str | None = "JSON", references: Sequence[Mapping[str, Any]] = ()
) -> tuple[int, object]:
    """Return the answer for a schema; a `content` that is no text is written as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    said = {"schema": text, "schemaType": kind, "references": list(references) or None}
    return 200, {name: value for name, value in said.items() if value is not None}


class StubRegistry(AnsweringAdapter):
    """Answers by path what `answers` says, 404 with a registry's error for all others; safe to share between threads.

    `asked` counts the requests by path, `authorizations` has the header of each.
    """

    def __init__(self, answers: Mapping[str, Given] | None = None) -> None:
        super().__init__()
        self.answers: dict[str, Given] = {"/schemas/types": (200, ["JSON", "PROTOBUF", "AVRO"])}
        self.answers.update(answers or {})
        self.otherwise: Given = (404, {"error_code": 40403, "message": "Schema not found"})
        self.asked: Counter[str] = Counter()
        self.authorizations: list[str | None] = []
        self.before: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def answered(self, request: requests.PreparedRequest, timeout: Any) -> requests.Response:
        """Give the answer for the path of `request`, which must be below URL or CORE."""
        del timeout
        url = str(request.url)
        base = next(one for one in (URL, CORE) if url.startswith(one))
        path = unquote(url.removeprefix(base))
        with self._lock:
            self.asked[path] += 1
            self.authorizations.append(request.headers.get("Authorization"))
        self.before()
        given = self.answers.get(path, self.otherwise)
        if isinstance(given, Exception):
            raise given
        status, body = given
        assert urlsplit(url).scheme == "http"
        return answer_of(status, (body if isinstance(body, str) else json.dumps(body)).encode())
