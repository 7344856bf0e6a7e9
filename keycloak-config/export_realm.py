"""Write a realm of a running Keycloak to a file that Keycloak can import when it starts.

normal_form.py describes the form of the file. To learn Keycloak's defaults, the script creates a realm
named export-reference-… and deletes it after some seconds: use a development server.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from normal_form import bare, dump, normal_form

TIMEOUT_S = 60
FILE = Path(__file__).with_name("acme-realm.json")
EPILOG = """\
The administrator's password is read from the environment: KC_BOOTSTRAP_ADMIN_PASSWORD, or
SANDBOX_ADMIN_PASSWORD, so that this works beside a running sandbox:
  env $(keycloak-bridge sandbox env) python keycloak-config/export_realm.py
"""


class ExportError(Exception):
    """The realm could not be exported; the message says why and what to do."""


class Administration:
    """The calls of the Admin REST API that an export needs."""

    def __init__(self, url: str, username: str, password: str) -> None:
        """Log in; raises ExportError if Keycloak cannot be reached or refuses."""
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        answer = self._call(
            "POST",
            "/realms/master/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": "admin-cli",
                "username": username,
                "password": password,
            },
        )
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def exported(self, realm: str) -> dict[str, Any]:
        """Return the realm with clients, groups and roles; secrets are masked."""
        answer = self._call(
            "POST",
            f"/admin/realms/{realm}/partial-export",
            params={"exportClients": "true", "exportGroupsAndRoles": "true"},
        )
        found: dict[str, Any] = answer.json()
        return found

    @contextmanager
    def temporary(self, realm: dict[str, Any]) -> Iterator[None]:
        """Create a realm and delete it at the end."""
        self._call("POST", "/admin/realms", json=realm)
        try:
            yield
        finally:
            self._call("DELETE", f"/admin/realms/{realm['realm']}")

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            answer = self._session.request(method, self._url + path, timeout=TIMEOUT_S, **options)
        except requests.RequestException as error:
            raise ExportError(
                f"Keycloak does not answer at {self._url} ({type(error).__name__}): "
                "start it, or name another one with --url."
            ) from error
        if not answer.ok:
            raise ExportError(
                f"Keycloak answered {answer.status_code} to {method} {path}: check --realm, --admin "
                "and the password; the account must administer the master realm."
            )
        return answer


def export(
    administration: Administration,
    realm: str,
    template: dict[str, Any],
    environment: Mapping[str, str],
) -> str:
    """Return the realm as the text of an import file, with the placeholders and keys of `template`."""
    exported = administration.exported(realm)
    reference = f"export-reference-{secrets.token_hex(4)}"
    with administration.temporary(bare(exported, reference)):
        defaults = administration.exported(reference)
    return dump(normal_form(exported, defaults, template, environment))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns 1 if --check found a difference, 2 if nothing could be exported."""
    options = _parser().parse_args(arguments)
    try:
        template = json.loads(options.file.read_text("utf-8")) if options.file.exists() else {}
        administration = Administration(options.url, options.admin, _password())
        text = export(administration, options.realm, template, _environment())
    except (ExportError, OSError, json.JSONDecodeError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    if options.check:
        same = options.file.exists() and options.file.read_text("utf-8") == text
        print(f"{options.file} {'is' if same else 'is not'} the export of {options.realm}.")
        return 0 if same else 1
    options.file.write_text(text, "utf-8")
    print(f"{options.file} written.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    url = os.environ.get("KEYCLOAK_BRIDGE_KEYCLOAK_URL", "http://localhost:8080")
    realm = os.environ.get("KEYCLOAK_BRIDGE_KEYCLOAK_REALM", "acme")
    admin = os.environ.get(
        "KC_BOOTSTRAP_ADMIN_USERNAME", os.environ.get("SANDBOX_ADMIN_USERNAME", "admin")
    )
    parser.add_argument("--url", default=url, help="address of Keycloak (%(default)s)")
    parser.add_argument("--realm", default=realm, help="realm to export (%(default)s)")
    parser.add_argument("--admin", default=admin, help="administrator (%(default)s)")
    parser.add_argument("--file", type=Path, default=FILE, help="file to write (%(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="only compare; the exit code is 1 if the file differs"
    )
    return parser


def _environment() -> dict[str, str]:
    """Return the values of the placeholders; a sandbox has its own variable for the demo client's address."""
    sandbox = os.environ.get("SANDBOX_DEMO_APP_URL")
    return ({"DEMO_APP_URL": sandbox} if sandbox else {}) | dict(os.environ)


def _password() -> str:
    for name in ("KC_BOOTSTRAP_ADMIN_PASSWORD", "SANDBOX_ADMIN_PASSWORD"):
        if os.environ.get(name):
            return os.environ[name]
    raise ExportError(
        "The administrator's password is missing: set KC_BOOTSTRAP_ADMIN_PASSWORD, "
        "or take it from a running sandbox (--help shows how)."
    )


if __name__ == "__main__":
    sys.exit(main())
