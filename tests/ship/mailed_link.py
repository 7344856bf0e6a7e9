"""Follow a mailed link, set a password and log in, as a browser does but without one: some tests need only what follows."""

import html
import json
import re
from http.client import HTTPMessage
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from .authorization_code import AuthorizationCode, claims

PASSWORD = "correct horse battery 7"

_TIMEOUT_S = 120
_PROCEED = re.compile(r'href="([^"]*action-token[^"]*)"')
_FORM = re.compile(r'action="([^"]*required-action[^"]*)"')
_LOG_IN = re.compile(r'action="([^"]*login-actions/authenticate[^"]*)"')


def set_password_by(link: str) -> None:
    """Confirm, set the password, and fail where Keycloak does not take it."""
    browser = _browser()
    confirm = _leads_to(_page(browser, link), _PROCEED)
    form = _leads_to(_page(browser, confirm), _FORM)
    fields = {"password-new": PASSWORD, "password-confirm": PASSWORD}
    done = _page(browser, form, urlencode(fields).encode())
    assert "password-new" not in done, "the password was not taken"


def log_in(realm_url: str, client_id: str, app_url: str, login: str) -> dict[str, Any]:
    """Log in by the authorization-code flow with PKCE and that password; return the claims of the access token."""
    browser = _browser(_StopAt(app_url))
    base = f"{realm_url}/protocol/openid-connect"
    flow = AuthorizationCode(client_id, app_url)
    form = _leads_to(_page(browser, f"{base}/auth?{urlencode(flow.request)}"), _LOG_IN)
    fields = {"username": login, "password": PASSWORD}
    try:
        page = _page(browser, form, urlencode(fields).encode())
    except HTTPError as stopped:
        with stopped:
            arrived = parse_qs(urlsplit(stopped.headers["Location"]).query)
    else:
        raise AssertionError(f"the log-in was refused: {page[-3000:]}")
    exchange = urlencode(flow.exchange(arrived["code"][0])).encode()
    return claims(json.loads(_page(browser, f"{base}/token", exchange))["access_token"])


class _StopAt(HTTPRedirectHandler):
    """Follows redirects, but not to the application, which need not be there."""

    def __init__(self, app_url: str) -> None:
        self._app_url = app_url

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        """Return None to leave the answer as it is."""
        if newurl.startswith(self._app_url):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _browser(*handlers: HTTPRedirectHandler) -> OpenerDirector:
    # Keycloak's cookies are for secure contexts, which a browser takes this machine for
    policy = DefaultCookiePolicy(secure_protocols=("http", "https"))
    return build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar(policy)), *handlers)


def _page(browser: OpenerDirector, url: str, form: bytes | None = None) -> str:
    with browser.open(url, form, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
        return text


def _leads_to(page: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(page)
    assert found is not None, page[-3000:]
    return html.unescape(found[1])
