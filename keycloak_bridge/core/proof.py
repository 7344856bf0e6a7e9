"""What a record that ended shows to work, and what an error needs to see working again."""

from enum import Flag

from keycloak_bridge.core.errors import BridgeError, BrokerError, KeycloakError, MailDeliveryError


class Proof(Flag):
    """What a finished record proves to work."""

    NONE = 0
    KAFKA = 1
    KEYCLOAK = 2
    MAIL = 4


def needed_proof(error: BridgeError) -> Proof:
    """Return what must be seen working before what caused `error` is over; NONE: any success will do."""
    match error:
        case MailDeliveryError():
            return Proof.MAIL
        case KeycloakError():
            return Proof.KEYCLOAK
        case BrokerError():
            return Proof.KAFKA
        case _:
            return Proof.NONE
