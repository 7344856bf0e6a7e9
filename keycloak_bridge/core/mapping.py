"""The attribute mapping: from a validated event to the user that Keycloak shall hold."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.core.errors import (
    ConfigError,
    ConflictError,
    KeyMismatchError,
    MappingError,
    UnknownSchemaError,
    Violation,
)
from keycloak_bridge.core.expression_analysis import Path
from keycloak_bridge.core.expressions import event_scope
from keycloak_bridge.core.mapping_reader import read_rules
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX, MappingRules
from keycloak_bridge.core.mapping_values import memberships, target_value
from keycloak_bridge.core.model import (
    USER_CREATED,
    DesiredUser,
    InvitationTerms,
    MatchCriterion,
    OutOfScope,
    UserEvent,
    UserRepresentation,
)
from keycloak_bridge.core.representation import normalised
from keycloak_bridge.core.usernames import is_reserved, username_problem

_FINGERPRINT_LENGTH = 12


def compile_mapping(
    document: Mapping[str, Any],
    *,
    origin: str,
    has_property: Callable[[Path], bool],
    invitation: InvitationTerms | None = None,
    match_subject: bool = True,
) -> "AttributeMapping":
    """Return the mapping that `document` describes, every expression compiled and checked.

    `has_property` says whether the event's schema has a path below `data`. `invitation` is what the mail asks for where
    the mapping says nothing; None means that this bridge invites nobody. `match_subject` demands that the event's
    subject is the external id. Raises ConfigError with one line for every problem.
    """
    rules = read_rules(document, origin=origin, has_property=has_property)
    terms = None if invitation is None else rules.invite.over(invitation)
    if terms is not None and terms.redirect_uri and not terms.client_id:
        raise ConfigError(
            f"{origin}: invite.redirect_uri: Keycloak takes it only together with invite.client_id",
            code="mapping",
            remedy="add client_id under [invite], of the client that owns the address",
        )
    return AttributeMapping(
        rules=rules,
        invitation=terms,
        match_subject=match_subject,
        fingerprint=_fingerprint(document),
    )


@dataclass(frozen=True, slots=True)
class AttributeMapping:
    """A mapping ready for use; `fingerprint` changes with every change of its content."""

    rules: MappingRules
    invitation: InvitationTerms | None
    match_subject: bool
    fingerprint: str

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The user attributes that this mapping writes, sorted; the realm's user profile must know them."""
        return tuple(sorted(rule.attribute for rule in self.rules.targets if rule.attribute))

    @property
    def reserved(self) -> frozenset[str]:
        """The usernames that no event may hold or touch, in lower case."""
        return self.rules.reserved

    @property
    def accepts_every_group(self) -> bool:
        """Whether an event may join any group of the realm, with whatever roles that group carries."""
        groups = self.rules.groups
        return groups is not None and groups.allow is None

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return the user that `event` describes.

        Raises UnknownSchemaError (`unknown-type`), MappingError, KeyMismatchError (`subject-mismatch`) or ConflictError
        (`reserved-user`).
        """
        if event.type != USER_CREATED:
            raise UnknownSchemaError(
                f"the mapping serves events of type {USER_CREATED} only",
                code="unknown-type",
                remedy=f"rename the type in [envelope.types] if it means {USER_CREATED}, or name it in "
                "events.ignore_types",
                violations=(Violation("/type", "const", f"must be {USER_CREATED}"),),
            )
        scope = event_scope(event)
        when = self.rules.when
        if when is not None and not when.is_true(scope, "/when"):
            return OutOfScope(when.text)
        values = {rule.target: target_value(rule, scope) for rule in self.rules.targets}
        representation = normalised(_representation(values))
        self._check_username(representation.get("username", ""))
        self._check_external_id(event, values)
        create_only = {rule.target for rule in self.rules.targets if rule.create_only}
        if "enabled" not in representation:
            # Keycloak creates a user without it disabled
            representation["enabled"] = True
            create_only.add("enabled")
        return DesiredUser(
            representation=representation,
            matching=self._criteria(representation),
            create_only=frozenset(create_only),
            groups=memberships(self.rules.groups, scope),
            realm_roles=memberships(self.rules.realm_roles, scope),
            link=self.rules.link,
            invitation=self.invitation,
        )

    def _check_username(self, username: str) -> None:
        if problem := username_problem(username):
            raise MappingError(
                f"the mapping makes a username that Keycloak refuses: {problem}",
                code="invalid-username",
                remedy="correct the username in user management, or the mapping's user.username",
                violations=(Violation("/user/username", "username", problem),),
            )
        if is_reserved(username, self.rules.reserved):
            raise ConflictError(
                "the event would give a user a reserved username",
                code="reserved-user",
                remedy="choose another username in user management",
                violations=(Violation("/user/username", "reserved", "the username is reserved"),),
            )

    def _check_external_id(self, event: UserEvent, values: Mapping[str, Any]) -> None:
        external_id = values[self.rules.matching[0]]
        pointer = f"/user/attributes/{self.rules.external_id}"
        # Keycloak drops an attribute of nothing but blanks, and the user would never be found again
        empty = not external_id or not external_id[0].strip()
        if empty or len(external_id) > 1:
            reason = "the external id is empty" if empty else "there are several ids"
            raise MappingError(
                f"the event does not say which user it is about: {reason}",
                code="missing-external-id",
                remedy="the producer must send the user's id in user management",
                violations=(Violation(pointer, "required", reason),),
            )
        if self.match_subject and event.subject is not None and event.subject != external_id[0]:
            raise KeyMismatchError(
                "the event's subject and the user's id in its data differ",
                code="subject-mismatch",
                remedy="the producer must name the same user in both",
                violations=(Violation("/subject", "match", f"differs from {pointer}"),),
            )

    def _criteria(self, representation: UserRepresentation) -> tuple[MatchCriterion, ...]:
        """Return those ways to find the user for which the event has exactly one value."""
        attributes = representation.get("attributes", {})
        found = []
        for target in self.rules.matching:
            if target.startswith(ATTRIBUTE_PREFIX):
                values = attributes.get(target.removeprefix(ATTRIBUTE_PREFIX), [])
            else:
                field = representation.get(target)
                values = [field] if isinstance(field, str) else []
            if len(values) == 1:
                found.append(MatchCriterion(target, values[0]))
        return tuple(found)


def _representation(values: Mapping[str, Any]) -> UserRepresentation:
    """Return fields and attributes in Keycloak's shape, without those that have no value."""
    representation = UserRepresentation(attributes={})
    for target, value in values.items():
        if value is None:
            continue
        if target.startswith(ATTRIBUTE_PREFIX):
            representation["attributes"][target.removeprefix(ATTRIBUTE_PREFIX)] = value
        else:
            representation[target] = value  # type: ignore[literal-required]  # a USER_FIELDS name
    return representation


def _fingerprint(document: Mapping[str, Any]) -> str:
    """Return a short hash of the content that ignores the order of keys, comments and layout."""
    content = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:_FINGERPRINT_LENGTH]
