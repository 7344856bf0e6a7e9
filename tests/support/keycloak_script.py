"""Keycloak's Admin REST API over a script and a clock, for the tests of what is built on it."""

from stub_adapter import StubAdapter

from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.client_auth import by_secret
from keycloak_bridge.keycloak.http import KeycloakConnection, KeycloakHttp
from keycloak_bridge.keycloak.token import TokenSource
from keycloak_bridge.testing.fake_clock import FakeClock


def scripted_admin(stub: StubAdapter, clock: FakeClock | None = None) -> KeycloakAdmin:
    http = KeycloakHttp(KeycloakConnection("https://keycloak.example", "acme"), stub)
    return KeycloakAdmin(
        http, TokenSource(http, by_secret("bridge", lambda: "x"), clock or FakeClock())
    )


class KeycloakScript:
    """Both ends; the subject of a test is built on `admin`."""

    def __init__(self) -> None:
        self.stub = StubAdapter()
        self.clock = FakeClock()
        self.admin = scripted_admin(self.stub, self.clock)

    def answers(self, *answers: object) -> None:
        """Answer the next requests: each a JSON body, a status without one, or a pair of both."""
        for answer in answers:
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            if isinstance(answer, int):
                status, body = answer, None
            self.stub.answer(status, body)

    def sent(self) -> list[str]:
        """Return what was asked, each as method and path below the realm."""
        return [
            f"{sent.method} {sent.path.removeprefix('/admin/realms/acme')}"
            for sent in self.stub.requests
        ]
