import pytest

from keycloak_bridge.domain.errors import (
    BridgeError,
    BrokerAccessError,
    BrokerUnavailableError,
    DeadLetterError,
    EventValidationError,
    HoldError,
    InternalError,
    KeycloakAuthError,
    KeycloakNotFoundError,
    KeycloakUnavailableError,
    MailDeliveryError,
)
from keycloak_bridge.domain.ports import Dependency, dependency_of


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MailDeliveryError("SMTP refused"), Dependency.MAIL),
        (KeycloakUnavailableError("503"), Dependency.KEYCLOAK),
        (KeycloakAuthError("403"), Dependency.KEYCLOAK),
        (KeycloakNotFoundError("404"), Dependency.KEYCLOAK),
        (BrokerUnavailableError("no leader"), Dependency.KAFKA),
        (BrokerAccessError("no ACL"), Dependency.KAFKA),
        (DeadLetterError("not written"), Dependency.KAFKA),
        (InternalError("a fault"), Dependency.NONE),
        (EventValidationError("invalid"), Dependency.NONE),
        (HoldError("later", wait_s=1), Dependency.NONE),
        (BridgeError("anything"), Dependency.NONE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_an_error_is_over_when_what_it_failed_on_works(
    error: BridgeError, expected: Dependency
) -> None:
    """Mail is its own need although its error is one of Keycloak's."""
    assert expected == dependency_of(error)
