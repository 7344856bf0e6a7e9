"""What every type of event wants of its user: the mapping that serves it, and the policy of the user's whole life."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from keycloak_bridge.domain.errors import UnknownSchemaError, Violation
from keycloak_bridge.domain.events import (
    INVITATION_REQUESTED,
    USER_CREATED,
    USER_DELETED,
    USER_DISABLED,
    USER_ENABLED,
    USER_EVENTS,
    USER_UPDATED,
    UserEvent,
)
from keycloak_bridge.domain.users import (
    DesiredUser,
    EmailChange,
    Intent,
    OutOfScope,
    UnknownUser,
    UserRepresentation,
)
from keycloak_bridge.mapping.mapping import AttributeMapping, says_everything
from keycloak_bridge.mapping.rules import ATTRIBUTE_PREFIX

MAPPED_TYPES = frozenset({USER_CREATED, USER_UPDATED})
"""Types of which every target of the mapping is evaluated; of the others only the external id is."""


class Deleted(StrEnum):
    """What becomes in Keycloak of a user that user management deleted."""

    DISABLE = "disable"
    DELETE = "delete"
    ANONYMISE = "anonymise"


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """What the events after `user.created` do to a user, where people may want different things."""

    unknown_user: UnknownUser = UnknownUser.DEAD_LETTER
    deleted: Deleted = Deleted.DISABLE
    end_sessions: bool = True
    email_change: EmailChange = EmailChange.TRUSTED


_INTENTS: Mapping[str, Intent] = MappingProxyType(
    {
        USER_DISABLED: Intent.DISABLE,
        USER_ENABLED: Intent.ENABLE,
        INVITATION_REQUESTED: Intent.INVITE,
    }
)
_OF_DELETED: Mapping[Deleted, Intent] = MappingProxyType(
    {
        Deleted.DISABLE: Intent.DISABLE,
        Deleted.DELETE: Intent.DELETE,
        Deleted.ANONYMISE: Intent.ANONYMISE,
    }
)
_SWITCHED_OFF = frozenset({Intent.DISABLE, Intent.ANONYMISE})
_INVITING = frozenset({Intent.INVITE, Intent.ENABLE})


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
    protected_groups: frozenset[str] = field(init=False, repr=False, compare=False)
    """The groups whose members no event may touch; what one mapping protects is protected from all."""

    def __post_init__(self) -> None:
        groups = frozenset[str]().union(*(one.rules.protected_groups for one in self.all))
        object.__setattr__(self, "protected_groups", groups)

    @property
    def all(self) -> tuple[AttributeMapping, ...]:
        """Every mapping that some event may be served by, the default first."""
        return (self.default, *self.by_type.values(), *self.by_major.values())

    @property
    def external_id(self) -> str:
        """The attribute that holds the user's id in user management; it is the same in all mappings."""
        return self.default.rules.external_id

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The user attributes that any mapping writes, sorted; the realm's user profile must know them."""
        return tuple(sorted({name for one in self.all for name in one.attribute_names}))

    @property
    def reserved(self) -> frozenset[str]:
        """The usernames that no event may hold or touch, of all mappings, in lower case."""
        return frozenset().union(*(one.reserved for one in self.all))

    @property
    def accepts_every_group(self) -> bool:
        """Whether some event may join any group of the realm, with whatever roles that group carries."""
        return any(one.accepts_every_group for one in self.all)

    def serving(self, event: UserEvent) -> AttributeMapping:
        """Return the mapping that serves `event`."""
        major = self.majors.get(event.schema_id)
        if major is not None and (event.type, major) in self.by_major:
            return self.by_major[event.type, major]
        return self.by_type.get(event.type, self.default)

    def fingerprint_of(self, event: UserEvent) -> str:
        """Return the fingerprint of the mapping that serves `event`."""
        return self.serving(event).fingerprint

    def apply(self, event: UserEvent) -> DesiredUser | OutOfScope:
        """Return what `event` wants of its user.

        Raises UnknownSchemaError (`unknown-type`), MappingError, KeyMismatchError (`subject-mismatch`) or ConflictError
        (`reserved-user`).
        """
        if event.type not in USER_EVENTS:
            raise _unknown_type()
        mapping = self.serving(event)
        if event.type not in MAPPED_TYPES:
            return mapping.out_of_scope(event) or self._named(event, mapping)
        desired = mapping.apply(event)
        if isinstance(desired, OutOfScope):
            return desired
        switched_off = desired.representation.get("enabled") is False
        desired = _under(
            desired,
            email_change=self.policy.email_change,
            ends_sessions=self.policy.end_sessions and switched_off,
            protected_groups=self.protected_groups,
        )
        return desired if event.type == USER_CREATED else self._updated(event, desired)

    def _updated(self, event: UserEvent, desired: DesiredUser) -> DesiredUser:
        return replace(
            desired,
            intent=Intent.UPDATE,
            unknown=self._unknown(creatable=says_everything(event)),
        )

    def _named(self, event: UserEvent, mapping: AttributeMapping) -> DesiredUser:
        """Return what an event wants that only names its user."""
        external_id = mapping.identify(event)
        is_deleted = event.type == USER_DELETED
        intent = _OF_DELETED[self.policy.deleted] if is_deleted else _INTENTS[event.type]
        name = external_id.target.removeprefix(ATTRIBUTE_PREFIX)
        representation = UserRepresentation(attributes={name: [external_id.value]})
        enables = intent is Intent.ENABLE
        if enables or intent in _SWITCHED_OFF:
            representation["enabled"] = enables
        return DesiredUser(
            representation=representation,
            matching=(external_id,),
            # whoever is enabled may have been created disabled, and its first invitation is due by then
            invitation=mapping.invitation if intent in _INVITING else None,
            intent=intent,
            # as may be the verification of an address that it got meanwhile
            email_change=self.policy.email_change if enables else EmailChange.TRUSTED,
            unknown=UnknownUser.SKIP if is_deleted else self._unknown(creatable=False),
            # those of a user that is removed end by themselves
            ends_sessions=self.policy.end_sessions and intent in _SWITCHED_OFF,
            protected_groups=self.protected_groups,
        )

    def _unknown(self, *, creatable: bool) -> UnknownUser:
        policy = self.policy.unknown_user
        return UnknownUser.DEAD_LETTER if policy is UnknownUser.CREATE and not creatable else policy


def _under(
    desired: DesiredUser,
    *,
    email_change: EmailChange,
    ends_sessions: bool,
    protected_groups: frozenset[str],
) -> DesiredUser:
    """Return `desired` as the policy wants it, itself where that is so already, as of nearly every event."""
    asked = (email_change, ends_sessions, protected_groups)
    if (desired.email_change, desired.ends_sessions, desired.protected_groups) == asked:
        return desired
    return replace(
        desired,
        email_change=email_change,
        ends_sessions=ends_sessions,
        protected_groups=protected_groups,
    )


def _unknown_type() -> UnknownSchemaError:
    known = ", ".join(USER_EVENTS)
    return UnknownSchemaError(
        f"the bridge serves events of these types only: {known}",
        code="unknown-type",
        remedy="rename the type in [envelope.types] if it means one of these, or name it in events.ignore_types",
        violations=(Violation("/type", "enum", f"must be one of: {known}"),),
    )
