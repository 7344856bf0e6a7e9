import contextlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from bridge_harness import Bench, an_event, wait_until
from browser import open_browser
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as until
from selenium.webdriver.support.wait import WebDriverWait
from ship.authorization_code import AuthorizationCode, claims

pytestmark = pytest.mark.e2e

CLIENT = "demo-app"
WAIT_S = 120


@contextlib.contextmanager
def demo_app(url: str) -> Iterator[list[str]]:
    """Listen where the demo application would and keep the addresses that it is called back at."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>welcome</h1>")

        def log_message(self, *_: Any) -> None:
            pass

    address = urlsplit(url)
    server = HTTPServer(("localhost", address.port or 80), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield calls
    finally:
        server.shutdown()
        server.server_close()


def screenshot(browser: WebDriver, name: str) -> None:
    """Keep a picture of the page where the environment names a folder for it (`make screenshots`)."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def set_password(browser: WebDriver, link: str, password: str) -> str:
    """Follow the mailed link, set the password, return the text of the last page."""
    browser.get(link)
    proceed = WebDriverWait(browser, WAIT_S).until(
        until.element_to_be_clickable(
            (By.CSS_SELECTOR, "#kc-info-message a, a[href*='action-token']")
        )
    )
    screenshot(browser, "1-confirm")
    proceed.click()
    WebDriverWait(browser, WAIT_S).until(until.element_to_be_clickable((By.ID, "password-new")))
    browser.find_element(By.ID, "password-new").send_keys(password)
    browser.find_element(By.ID, "password-confirm").send_keys(password)
    screenshot(browser, "2-set-password")
    browser.find_element(By.CSS_SELECTOR, "[type=submit]").click()
    WebDriverWait(browser, WAIT_S).until_not(
        until.presence_of_element_located((By.ID, "password-new"))
    )
    screenshot(browser, "3-done")
    return browser.find_element(By.TAG_NAME, "body").text


def log_in(
    browser: WebDriver, bench: Bench, login: str, password: str
) -> dict[str, dict[str, Any]]:
    """Log in to the demo client by the authorization-code flow with PKCE; return the tokens' claims."""
    app_url = bench.sandbox.options.demo_app_url
    base = f"{bench.sandbox.keycloak_public_url}/realms/{bench.realm.name}/protocol/openid-connect"
    flow = AuthorizationCode(CLIENT, app_url)
    with demo_app(app_url) as calls:
        browser.get(f"{base}/auth?{urlencode(flow.request)}")
        WebDriverWait(browser, WAIT_S).until(until.element_to_be_clickable((By.ID, "username")))
        browser.find_element(By.ID, "username").send_keys(login)
        browser.find_element(By.ID, "password").send_keys(password)
        screenshot(browser, "4-log-in")
        browser.find_element(By.CSS_SELECTOR, "[type=submit]").click()
        WebDriverWait(browser, WAIT_S).until(lambda _: calls)
    (code,) = parse_qs(urlsplit(calls[0]).query)["code"]
    answer = requests.post(f"{base}/token", data=flow.exchange(code), timeout=WAIT_S)
    answer.raise_for_status()
    return {name: claims(answer.json()[name]) for name in ("id_token", "access_token")}


def told(bench: Bench, outcome: str) -> list[dict[str, Any]]:
    """Return the CloudEvents with this outcome."""
    events = [json.loads(record.value) for record in bench.read("results")]
    return [event for event in events if event["data"]["outcome"] == outcome]


def test_event_to_token(bench: Bench) -> None:
    """Event, mail in the user's language, password on Keycloak's page, `activated`, log-in by e-mail, claims in the token."""
    user_id = f"jorg-{bench.suffix}"
    email = f"{user_id}@acme.example"
    password = "correct horse battery 7"
    bench.publish(
        an_event(
            user_id,
            givenName="Jörg",
            familyName="Größe",
            email=email,
            locale="de",
            tenantId="tenant-07",
            department="Finance",
            phoneNumber="+4930123456",
            roles=["editor"],
            groups=["/staff/engineering"],
        )
    )
    with bench.running():
        wait_until(lambda: bench.mails_to(email))
        (mail,) = bench.mails_to(email)
        (link,) = [link for link in mail.links if "action-token" in link]
        with open_browser("de") as browser:
            set_password(browser, link, password)
            wait_until(lambda: told(bench, "activated"))
            tokens = log_in(browser, bench, email, password)

    (activated,) = told(bench, "activated")
    assert user_id == activated["subject"]
    assert mail.subject == "Aktualisieren Sie Ihr Konto", "the mail is in the user's language"
    assert link.startswith(bench.sandbox.keycloak_public_url)
    wanted = {
        "user_id": user_id,
        "tenant_id": "tenant-07",
        "department": "Finance",
        "phone_number": "+4930123456",
        "locale": "de",
        "email": email,
        "email_verified": True,
        "given_name": "Jörg",
        "family_name": "Größe",
        "groups": ["/staff/engineering"],
    }
    for token in tokens.values():
        assert wanted == {name: token.get(name) for name in wanted}
        assert "editor" in token["roles"]
    assert [] == bench.user(user_id)["requiredActions"]


def test_a_user_with_a_password_gets_no_second_mail(bench: Bench) -> None:
    """Once the password is set, a newer event of the same user changes data and mails nothing."""
    user_id = f"ada-{bench.suffix}"
    email = f"{user_id}@acme.example"
    password = "correct horse battery 8"
    bench.publish(an_event(user_id))
    bench.catch_up()
    (mail,) = bench.mails_to(email)
    (link,) = [link for link in mail.links if "action-token" in link]
    with open_browser() as browser:
        set_password(browser, link, password)

    newer = an_event(user_id, event_id=f"newer-{user_id}", department="Legal")
    bench.publish({**newer, "time": "2026-11-02T08:00:00Z"})
    bench.catch_up()

    assert ["Legal"] == bench.user(user_id)["attributes"]["department"]
    assert bench.user(user_id)["emailVerified"]
    assert 1 == len(bench.mails_to(email))
