"""One version: the package says it, and what cannot read it there follows it."""

import configparser
import re
from datetime import date
from pathlib import Path

from keycloak_bridge import __version__

ROOT = Path(__file__).parents[3]


def test_the_metadata_reads_the_version_of_the_package() -> None:
    """It stands in keycloak_bridge/__init__.py alone; image, chart and manifests have tests of their own."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")

    assert "attr: keycloak_bridge.__version__" == config["metadata"]["version"]


def test_the_changelog_has_the_version_with_its_date() -> None:
    """`Unreleased` stands first, then the version of the package, then older ones with older dates."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## \[(.+?)\](?: - (.+))?$", text, re.MULTILINE)
    dates = [date.fromisoformat(day) for _, day in released]

    assert ("Unreleased", "") == first
    assert __version__ == released[0][0]
    assert dates == sorted(dates, reverse=True)


def test_the_policy_supports_the_version() -> None:
    """SECURITY.md names the minor version that gets fixes."""
    minor = __version__.rpartition(".")[0]

    assert f"({minor})" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
