"""What `make test` installs before the tests in a browser, on samples of what a machine has."""

import shutil
import subprocess

import browser
import pytest

ALL = {"chromium", "chromedriver", "npm"}


def on(monkeypatch: pytest.MonkeyPatch, has: set[str], *, root: bool) -> list[list[str]]:
    """Pretend a machine that has these programs, and on which apt-get gives the others; return what is called."""
    called: list[list[str]] = []

    def run(command: list[str], **_: object) -> None:
        called.append(command)
        has.update({"chromium-driver": "chromedriver"}.get(one, one) for one in command)

    monkeypatch.setattr(shutil, "which", lambda name: name if name in has else None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    return called


def test_nothing_is_installed_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    called = on(monkeypatch, {*ALL, "apt-get"}, root=True)

    assert 0 == browser.ensure()
    assert [] == called


def test_root_gets_what_is_missing_from_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    called = on(monkeypatch, {"chromium", "apt-get"}, root=True)

    assert 0 == browser.ensure()
    assert ["chromium-driver", "npm"] == called[-1][-2:]


def test_another_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = on(monkeypatch, {"npm", "apt-get"}, root=False)

    assert 2 == browser.ensure()
    assert "sudo apt-get install chromium chromium-driver\n" in capsys.readouterr().err
    assert [] == called


def test_npm_alone_keeps_no_test_in_a_browser_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, ALL - {"npm"}, root=False)

    assert 0 == browser.ensure()
    assert "sudo apt-get install npm" in capsys.readouterr().err
