"""What every type of event wants of its user: the mapping that serves it, and the policy for the user's life cycle."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from keycloak_bridge.domain.errors import MappingError, UnknownSchemaError, Violation
from keycloak_bridge.domain.events import (
    INVITATION_REQUESTED,
    USER_CREATED,
    USER_DELETED,
    USER_DISABLED,
    USER_ENABLED,
    USER_EVENTS,
    USER_UPDATED,
    Purpose,
    UserEvent,
)
from keycloak_bridge.domain.users import (
    ATTRIBUTE_PREFIX,
    GROUPS,
    DesiredUser,
    EmailChange,
    Intent,
    InvitationTerms,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.mapping import AttributeMapping, is_complete

VERIFY_LIFESPAN_S = 43_200
"""Keycloak's own default, for a bridge that sends no invitations and so has no terms."""

MAPPED_TYPES = frozenset({USER_CREATED, USER_UPDATED})
"""Types of which every target of the mapping is evaluated; of the others only the external id is."""

_INTENTS: Mapping[str, Intent] = MappingProxyType(
    {
        USER_DISABLED: Intent.DISABLE,
        USER_ENABLED: Intent.ENABLE,
        INVITATION_REQUESTED: Intent.INVITE,
    }
)
_DISABLING = frozenset({Intent.DISABLE, Intent.ANONYMISE})
_INVITING = frozenset({Intent.INVITE, Intent.ENABLE})


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """What the events after `user.created` do to a user; `deleted` is DISABLE, DELETE or ANONYMISE."""

    unknown_user: UnknownUser = UnknownUser.DEAD_LETTER
    deleted: Intent = Intent.DISABLE
    end_sessions: bool = True
    email_change: EmailChange = EmailChange.TRUSTED


@dataclass(frozen=True, slots=True)
class Mappings:
    """The mapping of every event: one by type and major version, else one by type, else the default.

    `majors` gives the major version of each schema by its `$id`.
    """

    default: AttributeMapping
    by_type: Mapping[str, AttributeMapping] = field(default_factory=dict)
    by_major: Mapping[tuple[str, int], AttributeMapping] = field(default_factory=dict)
    majors: Mapping[str, int] = field(default_factory=dict)
    policy: LifecyclePolicy = LifecyclePolicy()
    unmapped: frozenset[str] = frozenset()
    """Types of events whose data cannot say to the default mapping whose user it is, and that have none of their own."""

    protected_groups: frozenset[str] = field(init=False, repr=False, compare=False)
    """The groups whose members no event may change; a group that one mapping protects is protected from all."""

    def __post_init__(self) -> None:
        groups = frozenset[str]().union(*(one.rules.protected_groups for one in self.all))
        object.__setattr__(self, "protected_groups", groups)

    @property
    def all(self) -> tuple[AttributeMapping, ...]:
        """Every mapping that may serve an event, the default first."""
        return (self.default, *self.by_type.values(), *self.by_major.values())

    @property
    def fingerprint(self) -> str:
        """Changes with every change of content of any mapping, or of which events it serves."""
        served = [
            ("", self.default.fingerprint),
            *sorted((kind, one.fingerprint) for kind, one in self.by_type.items()),
            *sorted((f"{kind}/{at}", one.fingerprint) for (kind, at), one in self.by_major.items()),
        ]
        if len(served) == 1:
            return self.default.fingerprint
        return hashlib.sha256(repr(served).encode()).hexdigest()[: len(self.default.fingerprint)]

    @property
    def external_id(self) -> str:
        """The attribute that holds the user's id in user management; it is the same in all mappings."""
        return self.default.rules.external_id

    @property
    def matching_attributes(self) -> tuple[str, ...]:
        """The user attributes by which any mapping finds a user, the external id first; no user may edit its own."""
        targets = (target for one in self.all for target in one.rules.matching)
        names = (
            one.removeprefix(ATTRIBUTE_PREFIX)
            for one in targets
            if one.startswith(ATTRIBUTE_PREFIX)
        )
        return tuple(dict.fromkeys(names))

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The user attributes that any mapping writes, sorted; the realm's user profile must know them."""
        rules = (rule for one in self.all for rule in one.rules.targets)
        return tuple(sorted({rule.attribute for rule in rules if rule.attribute}))

    @property
    def reserved(self) -> frozenset[str]:
        """The usernames that no event may use or change, of all mappings, in lower case."""
        return frozenset().union(*(one.rules.reserved for one in self.all))

    @property
    def accepts_every_group(self) -> bool:
        """Whether some event may join any group of the realm, with whatever roles that group has."""
        groups = (one.rules.membership(GROUPS) for one in self.all)
        return any(rule is not None and rule.allow is None for rule in groups)

    def serving(self, event: UserEvent) -> AttributeMapping:
        """Return the mapping that serves `event`."""
        return self._serving(event.type, event.schema_id)

    def invitation_terms(
        self, event_type: str | None, schema_id: str | None, purpose: Purpose
    ) -> InvitationTerms:
        """Return on which terms a mail goes out that an event of this type and schema makes due.

        They have no actions where this bridge invites nobody. Raises MappingError (`not-an-invitation`) for a
        verification, where changed addresses are not verified.
        """
        mapping = self.default
        if event_type is not None:
            mapping = self._serving(event_type, schema_id)
        terms = mapping.invitation or InvitationTerms((), VERIFY_LIFESPAN_S)
        if purpose is not Purpose.VERIFY_EMAIL:
            return terms
        if self.policy.email_change is not EmailChange.VERIFY:
            raise MappingError(
                "the record asks to verify a changed address, and these settings verify none",
                code="not-an-invitation",
                remedy='only the bridge may write to the invitations topic; see lifecycle.email_change = "verify"',
            )
        return replace(terms, actions=("VERIFY_EMAIL",))

    def _serving(self, event_type: str, schema_id: str | None) -> AttributeMapping:
        major = None if schema_id is None else self.majors.get(schema_id)
        if major is not None and (event_type, major) in self.by_major:
            return self.by_major[event_type, major]
        return self.by_type.get(event_type, self.default)

    def refuse_unmapped(self, event_type: str, schema_id: str) -> None:
        """Raise MappingError (`unmapped-type`) where no mapping can serve an event of that type and schema."""
        own = (event_type, self.majors.get(schema_id, -1)) in self.by_major
        if event_type not in self.unmapped or own:
            return
        raise MappingError(
            f"no mapping serves {event_type}: the default one cannot say whose user such an event is about",
            code="unmapped-type",
            remedy="name a mapping for the type in [mapping.files], or the type in events.ignore_types",
            violations=(Violation("/type", "mapping", "is served by no mapping"),),
        )

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return what `event` wants of its user.

        Raises UnknownSchemaError (`unknown-type`), MappingError, KeyMismatchError (`subject-mismatch`) or ConflictError
        (`reserved-user`).
        """
        if event.type not in USER_EVENTS:
            known = ", ".join(USER_EVENTS)
            raise UnknownSchemaError(
                f"the bridge serves events of these types only: {known}",
                code="unknown-type",
                remedy="rename the type in [envelope.types] if it means one of these, or name it in events.ignore_types",
                violations=(Violation("/type", "enum", f"must be one of: {known}"),),
            )
        mapping = self.serving(event)
        if event.type not in MAPPED_TYPES:
            return mapping.out_of_scope(event) or self._named(event, mapping)
        desired = mapping.apply(event)
        if isinstance(desired, OutOfScope):
            return desired
        creates = event.type == USER_CREATED
        disables = desired.representation.get("enabled") is False
        return replace(
            desired,
            intent=desired.intent if creates else Intent.UPDATE,
            email_change=self.policy.email_change,
            unknown=desired.unknown if creates else self._unknown(creatable=is_complete(event)),
            ends_sessions=self.policy.end_sessions and disables,
            protected_groups=self.protected_groups,
        )

    def _named(self, event: UserEvent, mapping: AttributeMapping) -> DesiredUser:
        """Return what an event wants that only names its user."""
        external_id = mapping.identify(event)
        is_deleted = event.type == USER_DELETED
        intent = self.policy.deleted if is_deleted else _INTENTS[event.type]
        name = external_id.target.removeprefix(ATTRIBUTE_PREFIX)
        representation = UserRepresentation(attributes={name: [external_id.value]})
        enables = intent is Intent.ENABLE
        if enables or intent in _DISABLING:
            representation["enabled"] = enables
        return DesiredUser(
            representation=representation,
            matching=(external_id,),
            # a user may have been created disabled: its first invitation is due when it is enabled
            invitation=mapping.invitation if intent in _INVITING else None,
            intent=intent,
            # and so may be the verification of an address that changed meanwhile
            email_change=self.policy.email_change if enables else EmailChange.TRUSTED,
            unknown=UnknownUser.SKIP if is_deleted else self._unknown(creatable=False),
            # Keycloak itself ends the sessions of a user that it deletes
            ends_sessions=self.policy.end_sessions and intent in _DISABLING,
            protected_groups=self.protected_groups,
        )

    def _unknown(self, *, creatable: bool) -> UnknownUser:
        policy = self.policy.unknown_user
        return UnknownUser.DEAD_LETTER if policy is UnknownUser.CREATE and not creatable else policy
