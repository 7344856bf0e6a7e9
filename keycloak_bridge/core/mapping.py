"""The attribute mapping: from a validated event to the user that Keycloak shall hold."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keycloak_bridge.core.desired import (
    GROUPS,
    DesiredUser,
    IdentityLink,
    InvitationTerms,
    MatchCriterion,
    Membership,
    OutOfScope,
    UserRepresentation,
)
from keycloak_bridge.core.errors import (
    ConfigError,
    ConflictError,
    KeyMismatchError,
    MappingError,
    Violation,
)
from keycloak_bridge.core.expression_analysis import Path
from keycloak_bridge.core.expressions import event_scope
from keycloak_bridge.core.mapping_presence import Spoken, has_all, is_partial, says_everything
from keycloak_bridge.core.mapping_reader import read_rules
from keycloak_bridge.core.mapping_rules import ATTRIBUTE_PREFIX, NEVER_CLEARED, MappingRules
from keycloak_bridge.core.mapping_values import Scope, identity_link, membership, target_value
from keycloak_bridge.core.model import UserEvent
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
    identifies_only: bool = False,
) -> "AttributeMapping":
    """Return the mapping that `document` describes, every expression compiled and checked.

    `has_property` says whether the event's schema has a path below `data`. `invitation` is what the mail asks for where
    the mapping says nothing; None means that this bridge invites nobody. `match_subject` demands that the event's
    subject is the external id. `identifies_only` is for events that only name the user: their mapping needs no username.
    Raises ConfigError with one line for every problem.
    """
    rules = read_rules(
        document, origin=origin, has_property=has_property, identifies_only=identifies_only
    )
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
        groups = self.rules.membership(GROUPS)
        return groups is not None and groups.allow is None

    def out_of_scope(self, event: UserEvent) -> OutOfScope | None:
        """Return the filter that says that `event` is not for Keycloak, None where it is.

        An event that does not say everything about the user is asked only when it has all that `when` reads.
        """
        when = self.rules.when
        if when is None or not (says_everything(event) or has_all(event.data, when)):
            return None
        return None if when.is_true(event_scope(event), "/when") else OutOfScope(when.text)

    def identify(self, event: UserEvent, scope: Scope | None = None) -> MatchCriterion:
        """Return the external id of the user that `event` is about; nothing else of the mapping is evaluated.

        Raises MappingError (`missing-external-id`) or KeyMismatchError (`subject-mismatch`).
        """
        rule = self.rules.identity
        external_id = target_value(rule, event_scope(event) if scope is None else scope)
        pointer = rule.pointer
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
        return MatchCriterion(rule.target, external_id[0])

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return the user that `event`, a `user.created` or `user.updated`, describes.

        A partial event makes only what it speaks of: what it gives no value for is cleared, and what it does not mention
        is left alone. Raises MappingError, KeyMismatchError (`subject-mismatch`) or ConflictError (`reserved-user`).
        """
        if (outside := self.out_of_scope(event)) is not None:
            return outside
        scope, spoken = event_scope(event), Spoken(event.data, is_partial(event))
        values = self._values(event, scope, spoken)
        representation = normalised(_representation(values))
        if "username" in values:
            self._check_username(representation.get("username", ""))
        create_only = set() if spoken.partial else self._create_only()
        if "enabled" not in representation and not spoken.partial:
            # Keycloak creates a user without it disabled
            representation["enabled"] = True
            create_only.add("enabled")
        return DesiredUser(
            representation=representation,
            matching=self._criteria(representation),
            create_only=frozenset(create_only),
            cleared=self._cleared(values, representation, partial=spoken.partial),
            memberships=self._memberships(scope, spoken),
            identities=self._identities(scope, spoken),
            link=self.rules.link,
            invitation=self.invitation,
            protected_groups=self.rules.protected_groups,
        )

    def _values(self, event: UserEvent, scope: Scope, spoken: Spoken) -> dict[str, Any]:
        """Return the value of every target that the event speaks of, None where it gives none."""
        values: dict[str, Any] = {}
        external_id = self.identify(event, scope)
        for rule in self.rules.targets:
            if rule.target == external_id.target:
                values[rule.target] = [external_id.value]
            elif not spoken.partial:
                values[rule.target] = target_value(rule, scope)
            elif rule.expression is None or rule.create_only:
                continue  # what counts at creation only is no concern of a partial event
            elif spoken.of(rule.pointer, rule.expression):
                values[rule.target] = target_value(rule, scope)
        return values

    def _create_only(self) -> set[str]:
        return {rule.target for rule in self.rules.targets if rule.create_only}

    def _cleared(
        self, values: Mapping[str, Any], representation: UserRepresentation, *, partial: bool
    ) -> frozenset[str]:
        attributes = representation.get("attributes", {})
        return frozenset(
            rule.target
            for rule in self.rules.targets
            if (partial or rule.managed)
            and rule.target in values
            and rule.target not in NEVER_CLEARED
            and rule.target not in representation
            and rule.attribute not in attributes
        )

    def _memberships(self, scope: Scope, spoken: Spoken) -> tuple[Membership, ...]:
        found = (
            membership(rule, scope)
            for rule in self.rules.memberships
            if spoken.of(rule.pointer, rule.expression)
        )
        return tuple(one for one in found if one is not None)

    def _identities(self, scope: Scope, spoken: Spoken) -> tuple[IdentityLink, ...]:
        """Return the accounts that are named, and those to unlink where the event or the mapping says so."""
        links = []
        for rule in self.rules.identities:
            if not spoken.of_any(rule.user_id):
                continue  # a provider's name for the user changes nothing without the id
            both = [rule.user_id] if rule.user_name is None else [rule.user_id, rule.user_name]
            spoken.of(rule.pointer, *both)
            link = identity_link(rule, scope)
            if link.user_id is not None or rule.managed or spoken.partial:
                links.append(link)
        return tuple(links)

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
