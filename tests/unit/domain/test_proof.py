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
from keycloak_bridge.domain.ports import Proof, needed_proof


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MailDeliveryError("SMTP refused"), Proof.MAIL),
        (KeycloakUnavailableError("503"), Proof.KEYCLOAK),
        (KeycloakAuthError("403"), Proof.KEYCLOAK),
        (KeycloakNotFoundError("404"), Proof.KEYCLOAK),
        (BrokerUnavailableError("no leader"), Proof.KAFKA),
        (BrokerAccessError("no ACL"), Proof.KAFKA),
        (DeadLetterError("not written"), Proof.KAFKA),
        (InternalError("a fault"), Proof.NONE),
        (EventValidationError("invalid"), Proof.NONE),
        (HoldError("later", wait_s=1), Proof.NONE),
        (BridgeError("anything"), Proof.NONE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_an_error_is_over_when_what_it_failed_on_works(error: BridgeError, expected: Proof) -> None:
    """Mail is its own need although its error is one of Keycloak's."""
    assert expected == needed_proof(error)
