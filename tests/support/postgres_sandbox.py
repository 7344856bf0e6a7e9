"""The tests' sandbox, whose Keycloak stands on PostgreSQL where SANDBOX_TEST_DATABASE says so (`make matrix`)."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.postgres import (
    DATABASE_VARIABLE,
    PostgresServer,
    arguments_on_postgres,
    build_for_postgres,
)
from keycloak_bridge.sandbox import Sandbox
from keycloak_bridge.sandbox.distribution import ADMIN_USERNAME, PreparedKeycloak
from keycloak_bridge.sandbox.processes import find_java
from keycloak_bridge.sandbox.services import KeycloakServer


def chosen_sandbox() -> Sandbox:
    """Return the sandbox that the tests are to run on."""
    database = os.environ.get(DATABASE_VARIABLE, "H2")
    return {"H2": Sandbox, "PostgreSQL": SandboxOnPostgres}[database]()


class KeycloakOnPostgres(KeycloakServer):
    """A Keycloak that keeps its data in a PostgreSQL on this port."""

    database_port = 0

    def import_at_start(
        self,
        config_dir: Path,
        environment: Mapping[str, str],
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Also name the administrator, whom no prepared database has."""
        super().import_at_start(config_dir, environment, change)
        self._environment |= {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN_USERNAME,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self.admin_password,
        }

    def _arguments(self) -> list[str]:
        return arguments_on_postgres(super()._arguments(), self.database_port)


class SandboxOnPostgres(Sandbox):
    """A sandbox with a throw-away PostgreSQL under its Keycloak."""

    def start(self) -> None:
        """Start the database first."""
        self._scratch = tempfile.TemporaryDirectory(prefix="keycloak-bridge-postgres-")
        self._folder = Path(self._scratch.name)
        self._folder.chmod(0o755)  # root's PostgreSQL runs as somebody else
        self.database = PostgresServer(self._folder / "postgres")
        self.database.start()
        super().start()

    def stop(self) -> None:
        """Stop the database last."""
        super().stop()
        self.database.stop()
        self._scratch.cleanup()

    def _keycloak_server(self, prepared: PreparedKeycloak) -> KeycloakServer:
        copy = self._folder / "keycloak"
        build_for_postgres(prepared.server, copy / "server", self._folder)
        (copy / "h2").mkdir()
        credentials = {"password": secrets.token_urlsafe(18)}
        (copy / "admin.json").write_text(json.dumps(credentials), encoding="utf-8")
        server = KeycloakOnPostgres(
            find_java(),
            PreparedKeycloak(copy),
            self.run_dir / "keycloak",
            realm=self.realm,
            timeout_s=400.0,
            cancelled=self._cancelled,
        )
        server.database_port = self.database.port
        return server
