"""The page in a real browser: what it shows, that it can be used by all, that it talks to nobody else."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe import serious_findings
from bridge_harness import Bench, an_event, free_port, wait_until
from browser import open_browser
from page_scene import NOW, Scene
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait
from ship.mailed_link import set_password_by

from keycloak_bridge.messages.results import PastOutcome
from keycloak_bridge.sandbox.distribution import status_of

pytestmark = pytest.mark.e2e

WAIT_S = 120
DESKTOP, PHONE = (1280, 900), (360, 740)
TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    with open_browser() as driver:
        yield driver


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def address(scene: Scene) -> Iterator[str]:
    with scene.served() as url:
        yield url


def look(
    browser: WebDriver,
    url: str,
    size: tuple[int, int] = DESKTOP,
    scheme: str = "light",
    *,
    scripts: bool = True,
) -> None:
    """Open `url` in a window of this size and colour scheme."""
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    browser.get(url)


def picture(browser: WebDriver, name: str) -> None:
    """Keep a picture of the page where the environment names a folder for it (`make screenshots`)."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def texts(browser: WebDriver, selector: str) -> list[str]:
    """Return the text of each element, as it is at one moment: the page may be refreshed at any."""
    while True:
        with contextlib.suppress(StaleElementReferenceException):
            return [one.text for one in browser.find_elements(By.CSS_SELECTOR, selector)]


def section(browser: WebDriver, name: str) -> str:
    (text,) = texts(browser, f"#{name}")
    return text


def rows(browser: WebDriver, part: str) -> list[str]:
    return texts(browser, f"#{part} tbody tr")


def requests_of(browser: WebDriver) -> list[str]:
    """Return the addresses on a network that the browser asked for since the last call."""
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    asked = [str(one["request"]["url"]) for one in sent]
    return [one for one in asked if not one.startswith(("data:", "chrome"))]


def complaints(browser: WebDriver, address: str) -> Sequence[Mapping[str, Any]]:
    """Return what the browser complained about on pages of `address`: policy, script, network.

    What it says of the pages of earlier tests, which have other addresses, may come late.
    """
    said = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [one for one in said if one["level"] == "SEVERE" and address in one["message"]]


def test_it_says_what_the_bridge_does_and_talks_to_nobody_else(
    browser: WebDriver, address: str
) -> None:
    """State, stages, limits, plot, invitations, dead letters, outcomes; every request goes to the bridge."""
    requests_of(browser)
    look(browser, address)
    picture(browser, "page")

    assert "Ready: nothing is wrong." in section(browser, "state")
    stages = section(browser, "stages")
    assert "provision" in stages
    assert "412" in stages
    assert "1400" in stages
    plots = browser.find_elements(By.CSS_SELECTOR, "#hours svg[role=img]")
    assert ["users", "mails", "dead letters"] == [
        " ".join((one.get_attribute("aria-label") or "").partition(" in the")[0].split()[1:])
        for one in plots
    ]
    assert all(one.find_elements(By.TAG_NAME, "rect") for one in plots)
    assert "schema-violation 2" in section(browser, "letters")
    assert "dead-letters replay --dry-run --code parked" in section(browser, "letters")
    assert "412" in section(browser, "invitations")
    assert 100 == len(rows(browser, "outcomes"))
    assert {urlsplit(address).netloc} == {urlsplit(one).netloc for one in requests_of(browser)}
    assert [] == complaints(browser, address)


def test_it_is_filtered_and_read_without_a_script(browser: WebDriver, address: str) -> None:
    """By a form, whose choice stands in the address and in the form again; a user id leads to the timeline."""
    look(browser, address, scripts=False)
    Select(browser.find_element(By.ID, "outcome")).select_by_value("rejected")
    browser.find_element(By.ID, "code").send_keys("schema-violation")
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    filtered = rows(browser, "outcomes")
    picture(browser, "page-outcomes")

    assert 8 == len(filtered)
    assert all("rejected schema-violation" in one for one in filtered)
    assert "outcome=rejected" in browser.current_url
    assert "schema-violation" == browser.find_element(By.ID, "code").get_attribute("value")
    assert "--code schema-violation" in section(browser, "outcomes")
    assert not browser.find_element(By.ID, "pause").is_displayed()

    browser.get(f"{address}?user=u-00042")
    browser.find_element(By.LINK_TEXT, "u-00042").click()
    picture(browser, "page-user")
    text = browser.find_element(By.TAG_NAME, "main").text
    assert "the mail was handed to Keycloak, caused by evt-00042" in text
    assert "provisioned created" in text
    assert "attributes.locale" in text


def test_it_refreshes_itself_and_leaves_alone_what_is_in_use(
    browser: WebDriver, scene: Scene, address: str
) -> None:
    """A problem appears by itself; what is open stays open, what was typed stays; updates can be paused."""
    look(browser, address)
    browser.find_element(By.TAG_NAME, "summary").click()
    browser.find_element(By.ID, "user").send_keys("u-000")
    scene.status.set_problem("provision", "Keycloak cannot be reached")
    WebDriverWait(browser, WAIT_S).until(lambda one: one.title.startswith("Not ready"))

    assert "Not ready: provision: Keycloak cannot be reached" in section(browser, "state")
    assert browser.find_element(By.ID, "numbers").is_displayed()
    assert "u-000" == browser.find_element(By.ID, "user").get_attribute("value")
    pause = browser.find_element(By.ID, "pause")
    pause.click()
    assert "true" == pause.get_attribute("aria-pressed")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_all_can_use_it(
    browser: WebDriver, scene: Scene, address: str, size: tuple[int, int], scheme: str
) -> None:
    """On a phone and in the dark: axe finds nothing serious, nothing reaches beyond the window, whatever an id is."""
    scene.status.set_problem("invite", "the mail server does not take mails")
    scene.outcomes.add(
        PastOutcome(NOW, "rejected", reason="x" * 100, event_id="y" * 255, user_id="z" * 255)
    )
    for path in ("", "user?id=u-00042", "user?id=nobody", "?since=never"):
        look(browser, address + path, size, scheme)
        if (size, scheme, path) == (PHONE, "dark", ""):
            picture(browser, "page-phone")
        assert [] == serious_findings(browser), path
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0], path
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(colour.partition("(")[2].partition(",")[0])
    assert (red < 60) == (scheme == "dark")


def test_what_was_published_runs_nowhere(browser: WebDriver, scene: Scene, address: str) -> None:
    """Tags in ids are text, and the policy would not run them either."""
    attack = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    scene.outcomes.add(PastOutcome(NOW, attack, attack, attack, attack, attack, user_id=attack))
    look(browser, f"{address}?user=%3Cscript%3Edocument.title%3D1%3C/script%3E")
    look(browser, address)

    assert attack in section(browser, "outcomes")
    assert "Ready · acme · keycloak-bridge" == browser.title
    assert [] == complaints(browser, address)
    blocked = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    browser.execute_script(blocked)
    assert browser.execute_script("return window.ran") is None


def test_a_token_is_the_password(browser: WebDriver) -> None:
    """The browser asks for it, and refreshes with it."""
    guarded = Scene(TOKEN)
    with guarded.served() as url:
        look(browser, url)
        refused = browser.find_element(By.TAG_NAME, "body").text
        look(browser, url.replace("//", f"//ops:{TOKEN}@"))
        shown = browser.title
        guarded.status.set_problem("provision", "Keycloak cannot be reached")
        WebDriverWait(browser, WAIT_S).until(lambda one: one.title.startswith("Not ready"))

    assert "Ready" not in refused
    assert shown.startswith("Ready")


def counts(browser: WebDriver) -> dict[str, str]:
    """Return the numbers under `Invitations` by their state."""
    return dict(one.split("\n") for one in texts(browser, "#invitations .cards div"))


def test_a_running_bridge_shows_its_users(browser: WebDriver, bench: Bench) -> None:
    """Real topics, real users: what became of them is there, after kill -9 too, without a name, an address or a value."""
    user_id, other = f"ada-{bench.suffix}", f"bob-{bench.suffix}"
    port = free_port()
    bench.publish(
        an_event(user_id), an_event(other), an_event(f"bad-{bench.suffix}", email="no address")
    )
    url = f"http://localhost:{port}/"
    watching = bench.but(UI_ENABLED="true", HEALTH_PORT=str(port), ACTIVATION_INTERVAL="1 s")
    with watching.running() as bridge:
        wait_until(lambda: len(bench.results()) >= 5)
        (mail,) = bench.mails_to(f"{user_id}@acme.example")
        set_password_by(next(link for link in mail.links if "action-token" in link))
        look(browser, url)
        WebDriverWait(browser, WAIT_S).until(lambda _: counts(browser).get("Activated") == "1")
        WebDriverWait(browser, WAIT_S).until(lambda _: rows(browser, "letters"))
        before = counts(browser), sorted(rows(browser, "outcomes"))
        overview, state = browser.page_source, section(browser, "state")
        letters = section(browser, "letters")
        bridge.kill()
        bridge.wait()
    with watching.running():
        wait_until(lambda: status_of(url) == HTTPStatus.OK)
        look(browser, url)
        WebDriverWait(browser, WAIT_S).until(
            lambda _: section(browser, "state").startswith("Ready")
        )
        WebDriverWait(browser, WAIT_S).until(
            lambda _: (counts(browser), sorted(rows(browser, "outcomes"))) == before
        )
        look(browser, f"{url}user?id={user_id}")
        timeline = browser.find_element(By.TAG_NAME, "main").text
        sources = overview + browser.page_source

    assert "Ready: nothing is wrong." in state
    assert {"Due": "0", "Sent": "1", "Activated": "1", "Expired": "0"} == before[0]
    assert "schema-violation" in letters
    assert bench.user(user_id)["id"] in timeline
    assert "the mail was handed to Keycloak" in timeline
    assert "activated" in timeline
    assert "attributes.tenantId" in timeline
    for value in (
        "Ada",
        "Lovelace",
        f"{user_id}@acme.example",
        "tenant-1",
        "R&amp;D",
        "no address",
    ):
        assert value not in sources
