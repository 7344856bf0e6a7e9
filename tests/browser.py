"""The browser of the end-to-end tests: found, installed where that is possible, started headless.

`python -m tests.browser` makes sure that it is there, and npm, from which the tests of the page take axe-core once; `make test`
calls it first.
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


def missing() -> list[str]:
    """Return the packages of Debian whose programs are not on this machine."""
    needed = {"chromium": _BROWSERS, "chromium-driver": ("chromedriver",), "npm": ("npm",)}
    return [name for name, programs in needed.items() if not any(map(shutil.which, programs))]


def ensure() -> int:
    """Install what is missing where this user may; return the exit code, which is not 0 without a browser and its driver."""
    if (packages := missing()) and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(packages)} for the browser tests", flush=True)
        quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=False)
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
            stdout=subprocess.DEVNULL,
            env=quiet,
            check=False,
        )
        packages = missing()
    if packages:
        print(
            f"The browser tests need {', '.join(packages)}: sudo apt-get install {' '.join(packages)}\n"
            "(or the equivalent of your system), then run this again.",
            file=sys.stderr,
        )
    # without npm only the tests of the page fail that look for axe-core, unless the cache has it
    return 0 if find() else 2


if __name__ == "__main__":
    sys.exit(ensure())
