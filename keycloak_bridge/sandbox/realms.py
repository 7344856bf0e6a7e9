"""Realms of the running Keycloak: a fresh one for each test, from the project's realm file."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from keycloak_bridge.sandbox.options import SandboxError

REALM_FILES = "*-realm.json"
_PLACEHOLDER = re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")
_TIMEOUT_S = 60
_TOKEN_AGE_S = 30  # Keycloak's administrators get tokens of 60 s


@dataclass(frozen=True, slots=True)
class FreshRealm:
    """A realm that nobody else uses, and the bridge's client in it."""

    name: str
    client_id: str
    client_secret: str


def realm_file(config_dir: Path) -> Path:
    """Return the realm export of a config folder."""
    found = sorted(config_dir.glob(REALM_FILES)) if config_dir.is_dir() else []
    if not found:
        raise SandboxError(
            f"{config_dir} holds no realm export ({REALM_FILES}): "
            "name the folder that does with --config-dir."
        )
    return found[0]


def representation(source: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return a realm file's content with its placeholders filled."""
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SandboxError(f"{source} is not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("realm"), str):
        raise SandboxError(f'{source} is no realm export: it has no "realm".')
    result: dict[str, Any] = filled(content, environment)
    return result


def realm_name(source: Path, environment: Mapping[str, str]) -> str:
    """Return the name of the realm that a file holds."""
    return str(representation(source, environment)["realm"])


def default_config_dir() -> Path:
    """Return the `keycloak-config` folder beside the package or in the current folder."""
    beside = Path(__file__).parents[2] / "keycloak-config"
    here = Path.cwd() / "keycloak-config"
    for folder in (beside, here):
        if folder.is_dir():
            return folder
    raise SandboxError(
        "There is no folder keycloak-config here, and an installed package brings none: "
        "name a folder with a realm export with --config-dir."
    )


def filled(value: Any, environment: Mapping[str, str]) -> Any:
    """Return JSON with `${NAME}` and `${NAME:default}` filled the way Keycloak's import does."""
    if isinstance(value, dict):
        return {key: filled(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, environment) for item in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _fill(match, environment), value)
    return value


def _fill(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, fallback = match.group(1), match.group(2)
    if name in environment:
        return environment[name]
    return match.group(0) if fallback is None else fallback


class KeycloakRealms:
    """Creates and deletes realms as the administrator of the master realm."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url
        self._login = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": username,
            "password": password,
        }
        self._session = requests.Session()
        self._session.trust_env = False
        self._token = ""
        self._token_taken = -math.inf

    def admin_token(self) -> str:
        """Return an access token for the Admin REST API that is good for half a minute more."""
        if time.monotonic() - self._token_taken < _TOKEN_AGE_S:
            return self._token
        path = "/realms/master/protocol/openid-connect/token"
        answer = self._session.post(self._url + path, data=self._login, timeout=_TIMEOUT_S)
        _check(answer, "log in as the administrator")
        self._token = answer.json()["access_token"]
        self._token_taken = time.monotonic()
        return self._token

    def create(self, realm: Mapping[str, Any]) -> None:
        """Create one realm."""
        answer = self._session.post(
            f"{self._url}/admin/realms",
            json=realm,
            headers=self._authorization(),
            timeout=_TIMEOUT_S,
        )
        _check(answer, f"create the realm {realm['realm']}")

    def delete(self, name: str) -> None:
        """Delete one realm."""
        answer = self._session.delete(
            f"{self._url}/admin/realms/{name}",
            headers=self._authorization(),
            timeout=_TIMEOUT_S,
        )
        _check(answer, f"delete the realm {name}")

    @contextmanager
    def fresh(
        self, source: Path, environment: Mapping[str, str], client_id: str
    ) -> Iterator[FreshRealm]:
        """Create a realm from a realm file under a new name, and delete it afterwards."""
        name = f"test-{uuid4().hex[:12]}"
        values = {**environment, "KEYCLOAK_REALM": name}
        self.create(representation(source, values) | {"realm": name})
        try:
            yield FreshRealm(name, client_id, values["KEYCLOAK_BRIDGE_CLIENT_SECRET"])
        finally:
            self.delete(name)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin_token()}"}


def _check(answer: requests.Response, what: str) -> None:
    if not answer.ok:
        raise SandboxError(f"Keycloak answered {answer.status_code} to: {what}.")
