"""What the user shall be in Keycloak, and what was found there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict, cast

from keycloak_bridge.domain.unicode_text import has_invisible_character

GROUPS = "groups"
REALM_ROLES = "realmRoles"
ORGANIZATIONS = "organizations"
_CLIENT_ROLES = "clientRoles."
_LONGEST_GROUP_NAME = 255

ATTRIBUTE_PREFIX = "attributes."
"""What the targets of attributes begin with; those of fields are the fields' names."""


def client_roles(client_id: str) -> str:
    """Return the kind of membership that the roles of a client are."""
    return _CLIENT_ROLES + client_id


def client_of(kind: str) -> str | None:
    """Return the client whose roles `kind` are, or None for another kind of membership."""
    return kind.removeprefix(_CLIENT_ROLES) if kind.startswith(_CLIENT_ROLES) else None


def can_be_created(path: str) -> bool:
    """Say whether a group can be stored at `path`, with those above it, found there again, and told from others."""
    return why_not_created(path) is None


def why_not_created(path: str) -> str | None:
    """Return what is wrong with the path of a group that is not to be created, None where it can be.

    Keycloak answers a long name by a bare 500, and PostgreSQL stores no NUL. Where a server escapes slashes in names, `~/` is
    one of them, and where it does not, the end of a name: what would be created is not known.
    """
    if "~/" in path:
        return "has an escaped slash or a name that ends in a tilde"
    for name in path.strip("/").split("/"):
        if name.strip() in ("", ".", ".."):
            return "has a blank name, or one of dots alone"
        if len(name) > _LONGEST_GROUP_NAME:
            return f"has a name of more than {_LONGEST_GROUP_NAME} characters"
        if has_invisible_character(name) or name != name.strip():
            return "has a character that nobody sees, or a space at the end of a name"
    return None


EXACT_ID_ATTRIBUTE = "bridgeUserId"
"""Where the external id is the username, this attribute has it as it was given: Keycloak lower-cases usernames."""

EXACT_ID = ATTRIBUTE_PREFIX + EXACT_ID_ATTRIBUTE
"""The target of that attribute, which only ever is an external id that is the username."""


class UserRepresentation(TypedDict, total=False):
    """Keycloak's UserRepresentation, as far as the bridge touches it; keys keep Keycloak's spelling."""

    id: str
    username: str
    email: str
    emailVerified: bool
    enabled: bool
    firstName: str
    lastName: str
    attributes: dict[str, list[str]]
    groups: list[str]
    requiredActions: list[str]
    serviceAccountClientId: str
    federationLink: str
    createdTimestamp: int


def targets_of(user: UserRepresentation) -> dict[str, Any]:
    """Return every field and every attribute of `user` under its target, fields first."""
    targets: dict[str, Any] = {name: value for name, value in user.items() if name != "attributes"}
    attributes = user.get("attributes") or {}
    return targets | {ATTRIBUTE_PREFIX + name: values for name, values in attributes.items()}


def representation_of(targets: Mapping[str, Any]) -> UserRepresentation:
    """Return the user with these targets, the inverse of `targets_of`."""
    user: dict[str, Any] = {"attributes": {}}
    for target, value in targets.items():
        if target.startswith(ATTRIBUTE_PREFIX):
            user["attributes"][target.removeprefix(ATTRIBUTE_PREFIX)] = value
        else:
            user[target] = value
    return cast("UserRepresentation", user)


@dataclass(frozen=True, slots=True)
class MatchCriterion:
    """One way to find the user: `target` is `username`, `email` or `attributes.<name>`."""

    target: str
    value: str

    @property
    def is_username(self) -> bool:
        """Whether this is an external id that is the username too: Keycloak finds it by an index and keeps it unique."""
        return self.target == EXACT_ID


def external_ids(user: UserRepresentation, external_id: MatchCriterion) -> list[str]:
    """Return what `user` carries in the attribute of the external id; it should be one, and may be any number."""
    name = external_id.target.removeprefix(ATTRIBUTE_PREFIX)
    return (user.get("attributes") or {}).get(name) or []


def may_be(user: UserRepresentation, owner: MatchCriterion | None) -> bool:
    """Return whether `user` can be the one with this external id: it carries the id, or none. All can be without `owner`."""
    carried = [] if owner is None else external_ids(user, owner)
    return owner is None or not carried or owner.value in carried


@dataclass(frozen=True, slots=True)
class InvitationTerms:
    """What the mail asks for: required actions, how long the link lives, where it leads back to."""

    actions: tuple[str, ...]
    lifespan_s: int
    client_id: str | None = None
    redirect_uri: str | None = None


class LinkPolicy(StrEnum):
    """When an event may take on a user that carries no external id yet."""

    NEVER = "never"
    VERIFIED_EMAIL = "verified-email"
    MATCHING_ATTRIBUTE = "matching-attribute"


class Intent(StrEnum):
    """What an event wants of the user.

    `PROVISION` and `UPDATE` bring it to the representation, `DISABLE` and `ENABLE` turn the one switch, `ANONYMISE`
    disables it and erases all that names a person, `DELETE` removes it, `INVITE` sends its invitation again.
    """

    PROVISION = "provision"
    UPDATE = "update"
    DISABLE = "disable"
    ENABLE = "enable"
    ANONYMISE = "anonymise"
    DELETE = "delete"
    INVITE = "invite"

    @property
    def describes_user(self) -> bool:
        """Whether the event describes the user (`PROVISION`, `UPDATE`), and may so create it or adopt one."""
        return self in (Intent.PROVISION, Intent.UPDATE)


class UnknownUser(StrEnum):
    """What becomes of an event about a user that Keycloak does not have."""

    CREATE = "create"
    DEAD_LETTER = "dead-letter"
    WAIT = "wait"
    SKIP = "skip"


class EmailChange(StrEnum):
    """What becomes of a changed e-mail address: trusted as user management says, or verified by a mail first."""

    TRUSTED = "trusted"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Membership:
    """What the user shall belong to: groups (paths), roles (names) or organizations (aliases).

    `kind` is `groups`, `realmRoles`, `organizations` or `clientRoles.<client id>`. What of `owned` is not among `names` is
    taken away; empty where the mapping only adds. `create_missing` creates groups that the realm lacks.
    """

    kind: str
    names: tuple[str, ...]
    owned: frozenset[str] = frozenset()
    create_missing: bool = False


@dataclass(frozen=True, slots=True)
class IdentityLink:
    """The user's account at an identity provider; `user_id` is None where the link shall be taken away."""

    alias: str
    user_id: str | None
    user_name: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What to look up of a found user besides its representation; each costs a call."""

    memberships: frozenset[str] = frozenset()
    identities: bool = False
    sessions: bool = False

    def covers(self, other: "Lookup") -> bool:
        """Return whether everything that `other` asks for is asked for here too."""
        return (
            self.memberships >= other.memberships
            and self.identities >= other.identities
            and self.sessions >= other.sessions
        )


class Access(StrEnum):
    """Whether a user may log in."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Switch:
    """What one event does to the access of its user; `occurrence` tells the event from every other.

    `latest` is the time that its producer states, where `time` is that of the record because that is earlier.
    `for_new_users` says that it does so only where it creates the user, `erases` that it erases all that names a person, `tacit`
    that it lets in by creating the user without a word about it.
    """

    access: Access
    time: datetime | None
    occurrence: str
    for_new_users: bool = False
    erases: bool = False
    tacit: bool = False
    latest: datetime | None = None


@dataclass(frozen=True, slots=True)
class DesiredUser:
    """What mapping and lifecycle make of an event.

    `representation` is normalised as Keycloak stores it (lower-case username and e-mail, no empty values) and holds no
    bookkeeping attributes and no groups; what it lacks is left alone, what `cleared` names is erased. `create_only` names
    targets (`firstName`, `attributes.department`, `requiredActions`) that are written when the user is created and left
    alone afterwards. `matching` is in order of precedence, its first entry is the external id. `protected_groups` are
    paths whose members no event may touch. `ends_sessions` logs a disabled user out. `switches` are what several events did to
    the access one after the other; None where it is a single event, which does what the intent and `enabled` say.
    """

    representation: UserRepresentation
    matching: tuple[MatchCriterion, ...]
    create_only: frozenset[str] = frozenset()
    cleared: frozenset[str] = frozenset()
    memberships: tuple[Membership, ...] = ()
    identities: tuple[IdentityLink, ...] = ()
    link: LinkPolicy = LinkPolicy.NEVER
    invitation: InvitationTerms | None = None
    intent: Intent = Intent.PROVISION
    unknown: UnknownUser = UnknownUser.CREATE
    email_change: EmailChange = EmailChange.TRUSTED
    ends_sessions: bool = False
    protected_groups: frozenset[str] = frozenset()
    switches: tuple[Switch, ...] | None = None

    @property
    def external_id(self) -> MatchCriterion:
        """The attribute that decides whose user it is, and its value."""
        return self.matching[0]

    @property
    def lookup(self) -> Lookup:
        """What must be known of the found user to plan."""
        kinds = {one.kind for one in self.memberships}
        if self.protected_groups:
            kinds.add(GROUPS)
        identities = bool(self.identities) or self.intent is Intent.ANONYMISE
        return Lookup(frozenset(kinds), identities, self.ends_sessions)


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The mapping's `when` filter says that this event is not for Keycloak."""

    expression: str


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user as Keycloak holds it; `matched_by` is the target that found it.

    `memberships` (by kind), `identities` and `sessions` (how many) are filled only when the search asked for them.
    """

    user_id: str
    representation: UserRepresentation
    matched_by: str
    memberships: Mapping[str, frozenset[str]] = field(default_factory=dict)
    identities: tuple[IdentityLink, ...] = ()
    sessions: int = 0


def single_value(user: UserRepresentation, attribute: str) -> str | None:
    """Return the value of an attribute that has exactly one, else None."""
    values = (user.get("attributes") or {}).get(attribute) or []
    return values[0] if len(values) == 1 else None
