"""Who may do what in the Kafka of the secure sandbox: the access control lists of docs/security.md."""

from typing import NamedTuple

from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

BRIDGE, PRODUCER, OPERATOR = "keycloak-bridge", "user-management", "bridge-operator"
_BRIDGE, _PRODUCER, _OPERATOR = (f"User:{name}" for name in (BRIDGE, PRODUCER, OPERATOR))


class Right(NamedTuple):
    """What a principal may do with one resource of Kafka, in the words of `kafka-acls.sh`."""

    principal: str
    operation: str
    kind: str
    name: str

    def acl(self) -> ACL:
        """Return the access control list that gives it, from any host."""
        kind = ResourceType[self.kind.upper().replace("-", "_")]
        operation = ACLOperation[self.operation.upper()]
        pattern = ResourcePattern(kind, self.name)
        return ACL(self.principal, "*", operation, ACLPermissionType.ALLOW, pattern)


RIGHTS = (
    Right(_PRODUCER, "Write", "topic", "user-events"),
    Right(_PRODUCER, "Read", "topic", "user-results"),
    Right(_PRODUCER, "Read", "group", PRODUCER),
    Right(_BRIDGE, "Read", "topic", "user-events"),
    Right(_BRIDGE, "Read", "topic", "user-invitations"),
    Right(_BRIDGE, "Write", "topic", "user-invitations"),
    Right(_BRIDGE, "Write", "topic", "user-results"),
    Right(_BRIDGE, "Read", "topic", "user-events-dead-letters"),
    Right(_BRIDGE, "Write", "topic", "user-events-dead-letters"),
    Right(_BRIDGE, "Read", "group", BRIDGE),
    Right(_BRIDGE, "Read", "group", f"{BRIDGE}-invite"),
    Right(_BRIDGE, "Read", "group", f"{BRIDGE}-activation"),
    Right(_OPERATOR, "Read", "topic", "user-results"),
    Right(_OPERATOR, "Read", "topic", "user-events"),
    Right(_OPERATOR, "Write", "topic", "user-events"),
    Right(_OPERATOR, "Read", "topic", "user-invitations"),
    Right(_OPERATOR, "Write", "topic", "user-invitations"),
    Right(_OPERATOR, "Read", "topic", "user-events-dead-letters"),
    Right(_OPERATOR, "Write", "topic", "user-events-dead-letters"),
    Right(_OPERATOR, "Write", "transactional-id", f"{BRIDGE}-replay"),
    Right(_OPERATOR, "Describe", "transactional-id", f"{BRIDGE}-replay"),
)
"""Those of the page; a test compares them."""
