"""Check at start whether the bridge's service account and the realm allow what the bridge is set up to do.

Refuse to start on a realm that would lose or refuse users, but give one that is being imported a while.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from keycloak_bridge.domain.users import ATTRIBUTE_PREFIX
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

NEEDED_ROLES = ("manage-users", "view-users", "query-users")


InviteDelivery = Literal["at-least-once", "at-most-once"]
"""What is done where nobody can tell whether a mail went out (`invite.delivery`)."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the access or the realm, and how to mend it."""

    code: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """What was seen in the realm. `profile` is None when it may not be read.

    `roles` holds only those of NEEDED_ROLES that the account has in effect. `mail_ledger` says whether admin events record
    the mails and may be read; None when nobody asked.
    """

    roles: frozenset[str]
    profile: Mapping[str, Any] | None
    internationalization: bool | None
    mail_ledger: bool | None = None


def realm_problems(interpretation: Interpretation, admin: KeycloakAdmin) -> Sequence[Problem]:
    """Return what in the realm would make events fail, or lose what they write; asks Keycloak."""
    names = (*interpretation.mapping.attribute_names, *BOOKKEEPING_ATTRIBUTES)
    guarded = (interpretation.mapping.external_id, *BOOKKEEPING_ATTRIBUTES)
    invite = interpretation.settings.invite
    return check_access(
        admin,
        names,
        guarded,
        invite_delivery=invite.delivery if invite.mode != "none" else None,
        targets=all_mapped_targets(interpretation.mapping, interpretation.catalog),
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

    `attributes` are those that the mapping writes and the bridge's own. `guarded` are those that decide whose user it is
    and what was done to it: no user may edit them. `invite_delivery` is None where the bridge sends no mails. `targets`
    are all that the mapping writes, with what the schemas say about them: with these, what Keycloak would refuse is
    found too. Raises KeycloakUnavailableError.
    """
    try:
        token = admin.access_token()
    except KeycloakAuthError as error:
        return (_problem(error),)
    try:
        facts = gather(admin, token, mails=invite_delivery is not None)
        return judge(facts, attributes, guarded, invite_delivery=invite_delivery, targets=targets)
    except KeycloakAuthError as error:
        return (_problem(error),)


def gather(admin: KeycloakAdmin, token: str, *, mails: bool = False) -> AccessFacts:
    """Return the facts; only a token that does not name its roles costs calls for each of them.

    `mails` asks whether mails can be looked up.
    """
    named = granted_roles(token)
    roles = _probed_roles(admin) if named is None else named.intersection(NEEDED_ROLES)
    profile = _allowed(admin.users_profile)
    metadata = _allowed(admin.users_profile_metadata)
    return AccessFacts(
        roles=roles,
        profile=profile,
        internationalization=None if metadata is None else "locale" in _by_name(metadata),
        mail_ledger=can_look_up_mails(admin) if mails else None,
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
    profile = None if facts.profile is None else read_profile(facts.profile)
    return (
        *_role_problems(facts.roles),
        *profile_problems(profile, attributes, targets),
        *_guard_problems(profile, guarded),
        *_locale_problems(facts.internationalization, attributes),
        *_ledger_problems(facts.mail_ledger, invite_delivery),
    )


def _role_problems(roles: frozenset[str]) -> list[Problem]:
    missing = [role for role in NEEDED_ROLES if role not in roles]
    if not missing:
        return []
    # manage-users implies the two others in today's Keycloak; without it not one user can be written
    severity = Severity.ERROR if "manage-users" in missing else Severity.WARNING
    return [
        Problem(
            "role-missing",
            f"the service account lacks the realm-management roles {', '.join(missing)}",
            "assign them on the client's tab 'Service account roles', and let the client's scope hold them",
            severity,
        )
    ]


def profile_problems(
    profile: RealmProfile | None, attributes: Sequence[str], targets: Sequence[MappedTarget]
) -> list[Problem]:
    """Return what the realm's user profile would drop or refuse; None is a profile that may not be read."""
    if profile is None:
        return [
            Problem(
                "profile-unreadable",
                "the service account may not read the realm's user profile",
                "assign it the realm-management role view-users",
                Severity.WARNING,
            )
        ]
    known = {target.target for target in targets}
    named = [ATTRIBUTE_PREFIX + name for name in attributes]
    others = [MappedTarget(name) for name in named if name not in known]
    findings = check_mapping(
        profile, [*targets, *others], whole=bool(targets), hidden=BOOKKEEPING_ATTRIBUTES
    )
    return [Problem(one.code, one.message, one.remedy, one.severity) for one in findings]


def _guard_problems(profile: RealmProfile | None, guarded: Sequence[str]) -> list[Problem]:
    """Return a problem for each attribute by which a user could pass for another, or keep the bridge away."""
    if profile is None:
        return []  # told already
    problems = []
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
            problems.append(Problem("attribute-user-editable", _user_editable(name), remedy))
    return problems


def _user_editable(name: str) -> str:
    return (
        f"the realm lets users edit their own attribute {name}: one could pass for somebody else, "
        "or have events about oneself refused"
    )


def _locale_problems(internationalization: bool | None, attributes: Sequence[str]) -> list[Problem]:
    if "locale" not in attributes or internationalization is not False:
        return []
    return [
        Problem(
            "internationalization-off",
            "the mapping writes the attribute locale, and the realm has internationalization switched "
            "off: Keycloak would drop it silently and mail in one language only",
            "switch it on under Realm settings > Localization, or take locale out of the mapping",
        )
    ]


def _ledger_problems(
    mail_ledger: bool | None, invite_delivery: InviteDelivery | None
) -> list[Problem]:
    if mail_ledger is not False or invite_delivery is None:
        return []
    then = "is sent again" if invite_delivery == "at-least-once" else "is never sent again"
    return [
        Problem(
            "mail-ledger-missing",
            "Keycloak's admin events cannot be read, so a mail whose answer was lost "
            f"{then} (invite.delivery)",
            "give the service account the realm-management role view-events, in the client's scope too, and "
            "switch on Realm settings > Events > Admin events settings > Save events",
            Severity.WARNING,
        )
    ]


def _probed_roles(admin: KeycloakAdmin) -> frozenset[str]:
    """Find out by calls that change nothing; a scope may keep the roles out of the token itself."""
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


def _by_name(profile: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {attribute["name"]: attribute for attribute in profile.get("attributes", ())}


def _problem(error: KeycloakAuthError) -> Problem:
    return Problem(error.code, error.message, error.remedy or "look at Keycloak's log")


IMPORT_GRACE_S = 20.0
"""How long a realm may be missing at start before it counts as misspelt."""


class RealmGate:
    """Checks the realm, and gives one that is not there yet a while to be imported.

    Keycloak answers before its import at start-up is through.
    """

    def __init__(self, check: Callable[[], Sequence[Problem]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._missing_since_s: float | None = None

    def __call__(self) -> Sequence[Problem]:
        """Return the problems; raises KeycloakUnavailableError while a missing realm may yet come."""
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
