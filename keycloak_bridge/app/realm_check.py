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
from keycloak_bridge.keycloak.calls import USERS_ROLE, VIEW_ROLE
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
    FIXED_BY_PLAN,
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

    `writes_users` and `sees_all_users` say what the account may do, the latter None where that cannot be found out.
    `mail_ledger` says whether admin events record the mails and may be read. `realm` has what may be read of the realm's
    settings.
    """

    writes_users: bool
    sees_all_users: bool | None
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
        AccessFacts(True, True, plan.profile, internationalization=True, realm=realm),
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
    """Return the facts; what the account may do is only tried where the token does not name the role for it.

    With `mails`, whether mails can be looked up is found out as well, with `usernames` what the realm does with usernames.
    """
    named = granted_roles(token)
    profile = _allowed(admin.users_profile)
    metadata = _allowed(admin.users_profile_metadata)
    languages = None
    if metadata is not None:
        languages = any(one["name"] == "locale" for one in metadata.get("attributes") or ())
    writes = (named is not None and USERS_ROLE in named) or _may_create_users(admin)
    realm = _allowed(admin.realm) if usernames or named is None else None
    return AccessFacts(
        writes,
        _sees_all_users(named, realm),
        profile,
        languages,
        can_look_up_mails(admin) if mails else None,
        realm if usernames else None,
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
    problems = [*_account_problems(facts)]
    if facts.profile is None:
        problems.append(
            Problem(
                "profile-unreadable",
                "the service account may not read the realm's user profile",
                f"assign it the realm-management role {VIEW_ROLE}",
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


def _account_problems(facts: AccessFacts) -> Iterator[Problem]:
    """Yield what the account may not do; a search that leaves users out would have them created once more."""
    assign = "to the client's service account, and let the client's scope hold it"
    if not facts.writes_users:
        yield Problem(
            "role-missing",
            f"the service account may not create users: it lacks the role {USERS_ROLE} of realm-management",
            f"assign {USERS_ROLE} {assign}",
        )
    elif not facts.sees_all_users:
        known = facts.sees_all_users is not None
        may = (
            f"lacks the role {VIEW_ROLE}"
            if known
            else f"may lack the role {VIEW_ROLE}, which its token does not say"
        )
        yield Problem(
            "role-missing",
            f"the service account {may}: with fine-grained permissions alone, Keycloak leaves users out of what the bridge "
            "looks up, without saying so, and they would be created a second time",
            f"assign {VIEW_ROLE} of realm-management {assign}",
            Severity.ERROR if known else Severity.WARNING,
        )


def _with_command(problem: Problem) -> Problem:
    """Name the command that mends the problem, where one does."""
    if problem.code not in FIXED_BY_PLAN:
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


def _sees_all_users(named: frozenset[str] | None, realm: Mapping[str, Any] | None) -> bool | None:
    """Say whether no search leaves users out: a role sees them all, and permissions, which no token names, may hide some.

    `realm` is None where no role lets the account read it.
    """
    if named is not None:
        return not named.isdisjoint((VIEW_ROLE, USERS_ROLE))
    if realm is None:
        return False
    return None if realm.get("adminPermissionsEnabled") else True


def _may_create_users(admin: KeycloakAdmin) -> bool:
    """Find out with a call that changes nothing; roles may not be in the token, and fine-grained permissions are nowhere."""
    try:
        admin.create_user({})  # without a username nothing can be created
    except KeycloakRejectedError:
        return True
    except KeycloakAuthError as error:
        if error.status != 403:
            raise
    return False


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
