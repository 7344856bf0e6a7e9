"""axe-core, which finds what keeps people from using a page: fetched from npm once, and kept with the other downloads."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from selenium.webdriver.chrome.webdriver import WebDriver

from keycloak_bridge.sandbox.distribution import cache_dir, exclusive, sha256_of

VERSION = "4.11.0"
SHA256 = "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107"
_TIMEOUT_S = 300


def serious_findings(browser: WebDriver) -> list[dict[str, Any]]:
    """Return what axe calls serious or critical on the page that is open, with where it is."""
    browser.execute_script(_script().read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [
        {"id": one["id"], "help": one["help"], "at": [node["target"] for node in one["nodes"]]}
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def _script() -> Path:
    """Return the script's file; raises AssertionError with what to do where it cannot be had."""
    target = cache_dir() / f"axe-core-{VERSION}.min.js"
    with exclusive(cache_dir(), "axe-core", Event()):
        if not target.exists():
            npm = shutil.which("npm")
            assert npm, "axe-core comes from npm, which is not installed: apt-get install npm"
            with tempfile.TemporaryDirectory() as scratch:
                done = subprocess.run(
                    [npm, "pack", "--silent", f"axe-core@{VERSION}"],
                    cwd=scratch,
                    capture_output=True,
                    text=True,
                    timeout=_TIMEOUT_S,
                    check=False,
                )
                archive = Path(scratch) / f"axe-core-{VERSION}.tgz"
                assert done.returncode == 0, f"npm does not give axe-core {VERSION}: {done.stderr}"
                assert sha256_of(archive) == SHA256, f"npm gave another axe-core {VERSION}"
                with tarfile.open(archive) as files:
                    content = files.extractfile("package/axe.min.js")
                    assert content is not None
                    (Path(scratch) / "axe.min.js").write_bytes(content.read())
                # whole or not at all, also where the cache is on another file system
                Path(shutil.move(Path(scratch) / "axe.min.js", f"{target}.new")).replace(target)
    return target
