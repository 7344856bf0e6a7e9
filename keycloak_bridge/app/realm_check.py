"""Check at start whether the service account and the realm allow what the bridge is set up to do.

The bridge does not start on a realm that would lose or refuse users, but waits a while for one that is being imported.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from keycloak_bridge.app.interpretation import Interpretation
from keycloak_bridge.domain.errors import (
    ConfigError,
    KeycloakAuthError,
    KeycloakRejectedError,
    KeycloakUnavailableError,
)
from keycloak_bridge.domain.events import BOOKKEEPING_ATTRIBUTES
from keycloak_bridge.domain.ports import Clock
from keycloak_bridge.domain.users import ATTRIBUTE_PREFIX, EXACT_ID_ATTRIBUTE
from keycloak_bridge.keycloak.admin import KeycloakAdmin
from keycloak_bridge.keycloak.token import granted_roles
from keycloak_bridge.keycloak.user_profile import RealmProfile, read_profile
from keycloak_bridge.keycloak.users import can_look_up_mails
from keycloak_bridge.mapping.profile_findings import (
    MappedTarget,
    Severity,
    all_mapped_targets,
    check_mapping,
)
from keycloak_bridge.realm.needs import (
    MENDED_BY_PLAN,
    NEEDED_ROLES,
    REALM_PLAN,
    RealmNeeds,
    guarded_attributes,
    realm_needs,
    written_attributes,
)
from keycloak_bridge.realm.plan import RealmPlan

IMPORT_GRACE_S = 20.0
"""How long a realm may be missing at start before its name counts as wrong."""

InviteDelivery = Literal["at-least-once", "at-most-once"]
"""What is done with a mail in doubt (`invite.delivery`)."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the access or the realm, and how to fix it."""

    code: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """What was found in the realm; None is what may not be read, or was not asked for.

    `roles` are those of NEEDED_ROLES that the account has. `mail_ledger` says whether admin events record the mails and
    may be read. `realm` has what may be read of the realm's settings.
    """

    roles: frozenset[str]
    profile: Mapping[str, Any] | None
    internationalization: bool | None
    mail_ledger: bool | None = None
    realm: Mapping[str, Any] | None = None


def realm_problems(interpretation: Interpretation, admin: KeycloakAdmin) -> Sequence[Problem]:
    """Return what in the realm would make events fail, or lose what they write; asks Keycloak."""
    mapping, invite = interpretation.mapping, interpretation.settings.invite
    return check_access(
        admin,
        written_attributes(mapping),
        guarded_attributes(mapping),
        invite_delivery=invite.delivery if invite.mode != "none" else None,
        targets=all_mapped_targets(mapping, interpretation.catalog),
    )


def needs_of(
    interpretation: Interpretation,
    *,
    added: Iterable[str] = (),
    left_out: Iterable[str] = (),
    locales: Sequence[str] = (),
) -> RealmNeeds:
    """Return what a realm needs for this bridge; the options are those of `realm_needs`. Raises ConfigError."""
    mapping = interpretation.mapping
    targets = all_mapped_targets(mapping, interpretation.catalog)
    return realm_needs(
        interpretation.settings,
        mapping,
        targets,
        added=added,
        left_out=left_out,
        locales=locales,
    )


def problems_left(
    interpretation: Interpretation, plan: RealmPlan, realm: Mapping[str, Any]
) -> Sequence[Problem]:
    """Return what the checks at start would still find in a realm to which `plan` was applied."""
    mapping = interpretation.mapping
    return judge(
        AccessFacts(frozenset(NEEDED_ROLES), plan.profile, internationalization=True, realm=realm),
        written_attributes(mapping),
        guarded_attributes(mapping),
        targets=all_mapped_targets(mapping, interpretation.catalog),
    )


def check_access(
    admin: KeycloakAdmin,
    attributes: Sequence[str],
    guarded: Sequence[str] = (),
    *,
    invite_delivery: InviteDelivery | None = None,
    targets: Sequence[MappedTarget] = (),
) -> tuple[Problem, ...]:
    """Return what keeps the bridge from writing users with these attributes; empty when all is well.

    `attributes` are those that the mapping writes and the bridge's own. `guarded` are those by which a user is found, and
    those that say what was done to it: no user may edit them. `invite_delivery` is None where the bridge sends no mails. `targets` are
    all that the mapping writes, with what the schemas say about them: these are needed to find what Keycloak would
    refuse. Raises KeycloakUnavailableError.
    """
    try:
        facts = gather(
            admin,
            admin.access_token(),
            mails=invite_delivery is not None,
            usernames=EXACT_ID_ATTRIBUTE in guarded,
        )
    except KeycloakAuthError as error:
        remedy = error.remedy or "look at Keycloak's log"
        return (Problem(error.code, error.message, remedy),)
    return judge(facts, attributes, guarded, invite_delivery=invite_delivery, targets=targets)


def gather(
    admin: KeycloakAdmin, token: str, *, mails: bool = False, usernames: bool = False
) -> AccessFacts:
    """Return the facts; roles are only tried one by one if the token does not name them.

    With `mails`, whether mails can be looked up is found out as well, with `usernames` what the realm does with usernames.
    """
    named = granted_roles(token)
    roles = _probed_roles(admin) if named is None else named.intersection(NEEDED_ROLES)
    profile = _allowed(admin.users_profile)
    metadata = _allowed(admin.users_profile_metadata)
    languages = None
    if metadata is not None:
        languages = any(one["name"] == "locale" for one in metadata.get("attributes") or ())
    return AccessFacts(
        roles,
        profile,
        languages,
        can_look_up_mails(admin) if mails else None,
        _allowed(admin.realm) if usernames else None,
    )


def judge(
    facts: AccessFacts,
    attributes: Sequence[str],
    guarded: Sequence[str] = (),
    *,
    invite_delivery: InviteDelivery | None = None,
    targets: Sequence[MappedTarget] = (),
) -> tuple[Problem, ...]:
    """Return what is wrong, the service account's roles first."""
    problems: list[Problem] = []
    missing = [role for role in NEEDED_ROLES if role not in facts.roles]
    if missing:
        # manage-users implies the two others in today's Keycloak; without it no user can be written
        severity = Severity.ERROR if "manage-users" in missing else Severity.WARNING
        problems.append(
            Problem(
                "role-missing",
                f"the service account lacks the realm-management roles {', '.join(missing)}",
                "assign them on the client's tab 'Service account roles', and let the client's scope hold them",
                severity,
            )
        )
    if facts.profile is None:
        problems.append(
            Problem(
                "profile-unreadable",
                "the service account may not read the realm's user profile",
                "assign it the realm-management role view-users",
                Severity.WARNING,
            )
        )
    else:
        profile = read_profile(facts.profile)
        problems += _profile_problems(profile, attributes, targets)
        problems += _guard_problems(profile, guarded)
        problems += _username_problems(profile, facts.realm or {})
    if "locale" in attributes and facts.internationalization is False:
        problems.append(
            Problem(
                "internationalization-off",
                "the mapping writes the attribute locale, and the realm has internationalization switched "
                "off: Keycloak would drop it silently and mail in one language only",
                "switch it on under Realm settings > Localization, or remove locale from the mapping",
            )
        )
    if facts.mail_ledger is False and invite_delivery is not None:
        then = "is sent again" if invite_delivery == "at-least-once" else "is never sent again"
        problems.append(
            Problem(
                "mail-ledger-missing",
                "Keycloak's admin events cannot be read, so a mail whose answer was lost "
                f"{then} (invite.delivery)",
                "give the service account the realm-management role view-events, in the client's scope too, and "
                "switch on Realm settings > Events > Admin events settings > Save events",
                Severity.WARNING,
            )
        )
    return tuple(map(_with_command, problems))


def _with_command(problem: Problem) -> Problem:
    """Name the command that mends the problem, where one does."""
    if problem.code not in MENDED_BY_PLAN:
        return problem
    return replace(problem, remedy=f"{problem.remedy}; {REALM_PLAN}")


def _profile_problems(
    profile: RealmProfile, attributes: Sequence[str], targets: Sequence[MappedTarget]
) -> Iterator[Problem]:
    """Yield what the realm's user profile would drop or refuse."""
    known = {target.target for target in targets}
    named = [ATTRIBUTE_PREFIX + name for name in attributes]
    others = [MappedTarget(name) for name in named if name not in known]
    for finding in check_mapping(
        profile, [*targets, *others], whole=bool(targets), hidden=BOOKKEEPING_ATTRIBUTES
    ):
        yield Problem(finding.code, finding.message, finding.remedy, finding.severity)


def _guard_problems(profile: RealmProfile, guarded: Sequence[str]) -> Iterator[Problem]:
    """Yield each attribute by which a user could pretend to be another, or keep the bridge away."""
    for name in guarded:
        attribute = profile.attributes.get(name)
        if attribute is not None:
            editable = "user" in attribute.edit
            remedy = f"under Realm settings > User profile > {name}, let only admins edit it"
        else:
            editable = profile.users_edit_unmanaged
            remedy = (
                f"add {name} under Realm settings > User profile, editable for admins only, or set "
                "'Unmanaged attributes' to 'Only administrators can write'"
            )
        if editable:
            yield Problem(
                "attribute-user-editable",
                f"the realm lets users edit their own attribute {name}: a user could pretend to be another "
                "one, or have events refused",
                remedy,
            )


def _username_problems(profile: RealmProfile, realm: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what keeps the username from being the external id; `realm` is empty where it need not be, or is unknown."""
    if realm.get("registrationEmailAsUsername"):
        yield Problem(
            "username-not-the-id",
            "the realm makes the e-mail address the username, and the mapping the external id: no user would be found again",
            "switch off 'Email as username' under Realm settings > Login, or begin matching with an attribute",
        )
    username = profile.attributes.get("username")
    if realm.get("editUsernameAllowed") and (username is None or "user" in username.edit):
        yield Problem(
            "username-user-editable",
            "the realm lets users change their own username, which is the external id: a user could get lost, or have "
            "events of others refused",
            "switch off 'Edit username' under Realm settings > Login, or under Realm settings > User profile > username let "
            "only admins edit it",
        )


def _probed_roles(admin: KeycloakAdmin) -> frozenset[str]:
    """Find out with calls that change nothing; a client scope may keep the roles out of the token itself."""
    roles = set()
    if _allowed(lambda: admin.search_users({"max": 1})) is not None:
        roles |= {"query-users", "view-users"}
    try:
        admin.create_user({})  # without a username nothing can be created
    except KeycloakAuthError:
        pass
    except KeycloakRejectedError:
        roles.add("manage-users")
    return frozenset(roles)


def _allowed(call: Callable[[], Answer]) -> Answer | None:
    """Return the answer, or None where the service account is refused (403)."""
    try:
        return call()
    except KeycloakAuthError as error:
        if error.status == 403:
            return None
        raise


class RealmGate:
    """Checks the realm, and waits a while for one that is missing.

    Keycloak answers before its import at start-up is done.
    """

    def __init__(self, check: Callable[[], Sequence[Problem]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._missing_since_s: float | None = None

    def __call__(self) -> Sequence[Problem]:
        """Return the problems; raises KeycloakUnavailableError while a missing realm may still appear."""
        problems = self._check()
        missing = next((one for one in problems if one.code == "realm-not-found"), None)
        if missing is not None:
            now_s = self._clock.monotonic()
            if self._missing_since_s is None:
                self._missing_since_s = now_s
            if now_s - self._missing_since_s < IMPORT_GRACE_S:
                raise KeycloakUnavailableError(missing.message, code=missing.code)
        return problems


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ConfigError naming every problem that is an error."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise ConfigError(
            "the realm is not ready for the bridge:\n"
            + "\n".join(f"  - {problem.message} ({problem.remedy})" for problem in errors),
            code=errors[0].code,
        )
