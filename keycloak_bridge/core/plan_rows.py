"""Show a plan as rows, for people to read."""

from typing import Any

from keycloak_bridge.core.desired import (
    GROUPS,
    ORGANIZATIONS,
    InvitationTerms,
    UserRepresentation,
)
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX
from keycloak_bridge.core.operations import (
    CreateUser,
    DeleteUser,
    EndSessions,
    Join,
    Leave,
    LinkIdentity,
    Operation,
    Plan,
    UnlinkIdentity,
    UpdateUser,
)

Row = tuple[str, str, Any, Any]
"""Verb, target, value before and value after."""

_JOINED = (GROUPS, ORGANIZATIONS)
_IDENTITY = "identities."


def describe(plan: Plan) -> tuple[Row, ...]:
    """Return the plan as rows of verb, target, value before and value after."""
    return tuple(row for operation in plan.operations for row in _rows(operation))


def _rows(operation: Operation) -> list[Row]:
    match operation:
        case CreateUser(representation):
            return [("create", name, None, value) for name, value in _flat(representation)]
        case UpdateUser(_, changes):
            return [("update", one.target, one.before, one.after) for one in changes]
        case Join(kind, names):
            verb = "join" if kind in _JOINED else "grant"
            return [(verb, kind, None, name) for name in names]
        case Leave(kind, names):
            verb = "leave" if kind in _JOINED else "revoke"
            return [(verb, kind, name, None) for name in names]
        case LinkIdentity(link, before):
            known = None if before is None else before.user_id
            return [("link", _IDENTITY + link.alias, known, link.user_id)]
        case UnlinkIdentity(before):
            return [("unlink", _IDENTITY + before.alias, before.user_id, None)]
        case EndSessions():
            return [("end", "sessions", None, None)]
        case DeleteUser():
            return [("delete", "user", None, None)]
        case _:
            return [(operation.purpose.value, "actions", None, _actions(operation.terms))]


def _actions(terms: InvitationTerms) -> list[str]:
    return list(terms.actions)


def _flat(representation: UserRepresentation) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in representation.items():
        if name == "attributes":
            attributes = representation["attributes"]
            rows += [(ATTRIBUTE_PREFIX + key, values) for key, values in attributes.items()]
        else:
            rows.append((name, value))
    return rows
