"""An adapter of `requests` that answers by itself, so that tests need no server."""

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict


class AnsweringAdapter(BaseAdapter):
    """Gives the answer of `answered` to each request."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Return the answer."""
        del stream, verify, cert, proxies
        response = self.answered(request, timeout)
        response.request = request
        response.url = str(request.url)
        return response

    def answered(self, request: requests.PreparedRequest, timeout: Any) -> requests.Response:
        """Return the answer to `request`, whose time-out is `timeout`."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: there is no connection."""


def answer_of(
    status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> requests.Response:
    """Return an answer that was read whole."""
    response = requests.Response()
    response.status_code = status
    response._content = body
    response.headers = CaseInsensitiveDict(headers or {})
    return response
