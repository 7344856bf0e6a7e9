"""One Keycloak that imports the project's realm when it starts."""

import shutil
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from threading import Event

from keycloak_bridge.sandbox.distribution import (
    ADMIN_USERNAME,
    Distribution,
    http_arguments,
    server_command,
    status_of,
)
from keycloak_bridge.sandbox.errors import SandboxError
from keycloak_bridge.sandbox.java import Java, child_environment
from keycloak_bridge.sandbox.ports import LOOPBACK, loopback_port
from keycloak_bridge.sandbox.realms import REALM_FILES, realm_name
from keycloak_bridge.sandbox.service import Service


class KeycloakServer(Service):
    """A Keycloak with a database of its own, on a shared read-only distribution."""

    def __init__(
        self,
        java: Java,
        distribution: Distribution,
        folder: Path,
        *,
        realm: str,
        port: int = 0,
        java_options: Sequence[str] = (),
        timeout_s: float = 180.0,
        cancelled: Event | None = None,
    ) -> None:
        super().__init__("Keycloak", folder / "keycloak.log", timeout_s, cancelled or Event())
        self.port = loopback_port(port, "Keycloak")
        self.realm = realm
        self._java = java
        self._java_options = tuple(java_options)
        self._distribution = distribution
        self._home = folder / "home"
        self._environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Return the address programs call."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def public_url(self) -> str:
        """Return the address that stands in mails and tokens."""
        return f"http://localhost:{self.port}"

    @property
    def admin_username(self) -> str:
        """Return the name of the administrator of the master realm."""
        return ADMIN_USERNAME

    @property
    def admin_password(self) -> str:
        """Return the password of the administrator of the master realm."""
        return self._distribution.admin_password

    def import_at_start(self, config_dir: Path, environment: Mapping[str, str]) -> None:
        """Lay out the data folder and say what `${NAME}` in the realm files stands for."""
        self._distribution.lay_out(self._home)
        target = self._home / "data" / "import"
        target.mkdir()
        for source in config_dir.glob(REALM_FILES):
            # Keycloak refuses a file whose name disagrees with the realm in it.
            name = realm_name(source, environment)
            shutil.copy(source, target / f"{name}-realm.json")
        self._environment = dict(environment)

    def is_ready(self) -> bool:
        """Tell whether the imported realm answers."""
        status = status_of(f"{self.url}/realms/{self.realm}")
        if status == HTTPStatus.NOT_FOUND:  # until it has imported everything it answers 503
            raise SandboxError(
                f"Keycloak is up and has no realm {self.realm!r}: let the realm file say "
                '"realm": "${KEYCLOAK_REALM}", or name its realm with --realm. '
                f"Its log is {self.process.log_path}"
            )
        return status == HTTPStatus.OK

    def _launch(self) -> None:
        arguments = http_arguments(self.public_url, self.port)
        command = server_command(
            self._java,
            self._distribution.server,
            self._home,
            [*arguments, "--import-realm"],
            self._java_options,
        )
        self.process.start(command, child_environment() | self._environment)
