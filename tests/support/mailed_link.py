"""Follow a mailed link and set a password, as a browser does but without one: some tests need only what follows."""

import html
import re
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, build_opener

PASSWORD = "correct horse battery 7"

_TIMEOUT_S = 120
_PROCEED = re.compile(r'href="([^"]*action-token[^"]*)"')
_FORM = re.compile(r'action="([^"]*required-action[^"]*)"')


def set_password_by(link: str) -> None:
    """Confirm, set the password, and fail where Keycloak does not take it."""
    # Keycloak's cookies are for secure contexts, which a browser takes this machine for
    policy = DefaultCookiePolicy(secure_protocols=("http", "https"))
    browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar(policy)))
    confirm = _leads_to(_page(browser, link), _PROCEED)
    form = _leads_to(_page(browser, confirm), _FORM)
    fields = {"password-new": PASSWORD, "password-confirm": PASSWORD}
    done = _page(browser, form, urlencode(fields).encode())
    assert "password-new" not in done, "the password was not taken"


def _page(browser: OpenerDirector, url: str, form: bytes | None = None) -> str:
    with browser.open(url, form, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
        return text


def _leads_to(page: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(page)
    assert found is not None, page[-3000:]
    return html.unescape(found[1])
