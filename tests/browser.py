"""The browser of the end-to-end tests: found, installed where that is possible, started headless.

`python -m tests.browser` makes sure that it is there; `make test` calls it first.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,900",
)
_INSTALL = "apt-get install chromium chromium-driver"


def find() -> tuple[str, str] | None:
    """Return the paths of the browser and of its driver, or None."""
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def open_browser(language: str = "en") -> Iterator[webdriver.Chrome]:
    """Lend a fresh headless browser without any history, which logs its requests and errors."""
    found = find()
    if found is None:
        raise RuntimeError(f"no Chromium with its driver on this machine: {_INSTALL}")
    options = Options()
    options.binary_location = found[0]
    for flag in (*_FLAGS, f"--lang={language}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options=options, service=Service(executable_path=found[1]))
        try:
            yield driver
        finally:
            driver.quit()


def ensure() -> int:
    """Install the browser if it is missing and this user may; return the exit code."""
    if find():
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing Chromium and its driver for the browser tests")
        quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=False)
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *_INSTALL.split()[2:]],
            stdout=subprocess.DEVNULL,
            env=quiet,
            check=False,
        )
    if find():
        return 0
    print(
        f"The browser tests need Chromium and chromedriver: sudo {_INSTALL}\n"
        "(or the equivalent of your system), then run this again.",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(ensure())
