"""Probes of the realm: reachable, token, clock, roles, profile, mail, look-ups, and where the links in mails lead."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from keycloak_bridge.app.realm_check import Problem
from keycloak_bridge.diagnostics.keycloak_survey import (
    Discovery,
    FederationProvider,
    KeycloakSurvey,
)
from keycloak_bridge.diagnostics.probes import Probe, ProbeResult, gray, green, red, yellow
from keycloak_bridge.domain.errors import KeycloakConflictError
from keycloak_bridge.domain.numbers import counted
from keycloak_bridge.domain.users import EXACT_ID_ATTRIBUTE
from keycloak_bridge.keycloak.calls import ALTERNATIVES, EVENTS_ROLE, IMPORT_ROLE, USERS_ROLE
from keycloak_bridge.keycloak.lookup_times import SLOW_S, TOO_SLOW_S
from keycloak_bridge.keycloak.partial_import import IMPORTING
from keycloak_bridge.keycloak.token import TokenFacts, token_facts
from keycloak_bridge.mapping.profile_findings import Severity
from keycloak_bridge.realm.needs import EXACT, MANAGEMENT, MAPPING_ROLES, REALM_PLAN, surplus_roles
from keycloak_bridge.settings.loading import is_loopback

KEYCLOAK_CONNECTION, TOKEN = "keycloak.connection", "keycloak.token"

_LINKS_DO_NOT_VERIFY = (26, 8)
"""From this version of Keycloak on, a link verifies the address only if it is asked to."""

_SKEW_RED_S, _SKEW_YELLOW_S = 30.0, 5.0
_SYNCHRONISE = "synchronise both machines with a time server (NTP)"
_NO_MAILS = "the bridge sends no mails (invite.mode)"
INDEX_STATEMENT = (
    "CREATE INDEX CONCURRENTLY user_attribute_lower_value ON user_attribute (name, lower(value))"
)
"""Keycloak compares `lower(value)`, and its own index has the value as it is."""

_OF_OTHER_PROBES = frozenset({"role-missing", "internationalization-off", "mail-ledger-missing"})


@dataclass(frozen=True, slots=True)
class RealmSetup:
    """What settings and mapping say about the realm; the functions raise ConfigError for a broken mapping.

    `watched_events` are the types of user events that tell who set a password. `attributes` returns those that the mapping
    writes, `external_id` the one by which users are found, `used_roles` those that the bridge makes use of, and
    `problems` runs the check that `run` makes at start. `links_only_set_passwords` says whether some invitation asks for a
    password and not for the verification of the address. `authentication` is how the bridge's client authenticates.
    """

    url: str
    name: str
    invites: bool
    watched_events: Sequence[str]
    attributes: Callable[[], Sequence[str]]
    external_id: Callable[[], str]
    used_roles: Callable[[], frozenset[str]]
    problems: Callable[[], Sequence[Problem]]
    links_only_set_passwords: Callable[[], bool] = lambda: False
    authentication: str | None = None


class KeycloakProbes:
    """The probes of one realm; `token` returns the service account's token, `now` the local time."""

    def __init__(
        self,
        realm: RealmSetup,
        survey: KeycloakSurvey,
        token: Callable[[], str],
        now: Callable[[], datetime],
        *,
        test_mail: str | None = None,
    ) -> None:
        self._realm = realm
        self._survey = survey
        self._token = token
        self._now = now
        self._test_mail = test_mail

    def probes(self) -> Sequence[Probe]:
        """Return the probes; those that others need come first."""
        needs = (KEYCLOAK_CONNECTION, TOKEN)
        found = [
            Probe(KEYCLOAK_CONNECTION, self._check_connection),
            Probe("keycloak.links", self._check_links, (KEYCLOAK_CONNECTION,)),
            Probe(TOKEN, self._check_token, (KEYCLOAK_CONNECTION,)),
            Probe("keycloak.clock", self._check_clock, needs),
            Probe("keycloak.version", self._check_version, needs),
            Probe("keycloak.roles", self._check_roles, needs),
            Probe("keycloak.profile", self._check_profile, (*needs, "mapping")),
            Probe("keycloak.languages", self._check_languages, (*needs, "mapping")),
            Probe("keycloak.admin-events", self._check_admin_events, (*needs, "mapping")),
            Probe("keycloak.user-events", self._check_user_events, needs),
            Probe("keycloak.federation", self._check_federation, needs),
            Probe("keycloak.mail-server", self._check_mail_server, needs),
            Probe("keycloak.passwords", self._check_passwords, needs),
            Probe("keycloak.lookups", self._check_lookups, (*needs, "mapping")),
        ]
        if self._test_mail is not None:
            found.append(Probe("keycloak.test-mail", self._check_test_mail, needs))
        return found

    def _check_connection(self) -> Iterable[ProbeResult]:
        _ = self._discovery
        how = f" ({self._realm.authentication})" if self._realm.authentication else ""
        yield green(f"realm {self._realm.name} at {self._realm.url}{how}")

    def _check_links(self) -> Iterable[ProbeResult]:
        if not self._realm.invites:
            yield gray(_NO_MAILS)
            return
        yield links_result(self._discovery.issuer, follows=self._survey.follows_its_callers())

    def _check_token(self) -> Iterable[ProbeResult]:
        facts = self._facts
        if not facts.audience and not facts.roles:
            yield gray("granted; it does not name its audience, so each role is tried instead")
        elif MANAGEMENT in facts.audience or MANAGEMENT in facts.roles:
            yield green(f"granted, with {MANAGEMENT} in its audience")
        else:
            yield yellow(
                f"granted, but {MANAGEMENT} is neither in its audience nor among its roles",
                f"assign roles of {MANAGEMENT} to the service account, and let the client's scope hold them",
            )
        issuer = facts.issuer
        if issuer is not None and issuer != self._discovery.issuer:
            yield yellow(
                f"the token was issued by {_place(issuer)}, and Keycloak says that it is "
                f"{_place(self._discovery.issuer)}",
                "give Keycloak one public address (KC_HOSTNAME)",
            )

    def _check_clock(self) -> Iterable[ProbeResult]:
        _ = self._facts
        server = self._discovery.server_time
        local = self._discovered_at
        if server is None:
            server, local = self._facts.issued_at, self._granted_at
        if server is None:
            yield gray("Keycloak's answers do not contain its time")
            return
        apart_s = abs((local - server).total_seconds())
        message = f"Keycloak's clock and this one are {apart_s:.0f} s apart"
        if apart_s > _SKEW_RED_S:
            yield red(message, _SYNCHRONISE)
        elif apart_s > _SKEW_YELLOW_S:
            yield yellow(message, _SYNCHRONISE)
        else:
            yield green(message)

    def _check_version(self) -> Iterable[ProbeResult]:
        version = self._survey.server_version()
        if version is None:
            yield gray("unknown: only administrators of the server can read it")
        else:
            yield green(version)
        if self._realm.links_only_set_passwords():
            yield _unverified_addresses(version)

    def _check_roles(self) -> Iterable[ProbeResult]:
        named = self._facts.roles.get(MANAGEMENT)
        if named is not None and USERS_ROLE in named:
            well = f"has {USERS_ROLE}"
        else:
            well = "may create users, and sees all of them"
        yield from self._problem_or_green("role-missing", well)
        if named is None:
            for role in MAPPING_ROLES:
                yield gray(f"{role}: the token does not name its roles", subject=role)
            return
        used = self._realm.used_roles()
        for role in MAPPING_ROLES:
            held = named & {role, *ALTERNATIVES.get(role, ())}
            if role in used and held:
                yield green(f"has {', '.join(sorted(held))}", role)
            elif role in used:
                yield red(
                    f"lacks {role}, which the mapping needs: such events wait, and then all others too",
                    f"assign the {MANAGEMENT} role {role} to the service account, in the client's scope too; {REALM_PLAN}",
                    role,
                )
            elif role not in named:
                yield gray(f"lacks {role}; nothing needs it", subject=role)
        if IMPORT_ROLE in used:
            yield _batch_role(named)
        if surplus := surplus_roles(named, used):
            yield yellow(
                f"has {', '.join(surplus)} beyond what these settings and this mapping need: whoever gets the bridge's credentials can use that",
                f"take it away from the service account and from the client's scope: {EXACT}",
                "surplus",
            )

    def _check_profile(self) -> Iterable[ProbeResult]:
        found = [one for one in self._problems if one.code not in _OF_OTHER_PROBES]
        yield from map(_result, found)
        if not found:
            yield green(f"keeps {', '.join(self._realm.attributes())}")

    def _check_languages(self) -> Iterable[ProbeResult]:
        if "locale" in self._realm.attributes():
            yield from self._problem_or_green(
                "internationalization-off", "internationalization is on"
            )
        else:
            yield gray("the mapping writes no locale")

    def _check_admin_events(self) -> Iterable[ProbeResult]:
        if self._realm.invites:
            yield from self._problem_or_green(
                "mail-ledger-missing", "on, so the bridge can look up whether a mail was sent"
            )
        else:
            yield gray(_NO_MAILS)

    def _check_user_events(self) -> Iterable[ProbeResult]:
        watched = self._realm.watched_events
        if not watched:
            yield gray("nobody asks who set a password (invite.mode, activation.enabled)")
            return
        recorded = self._survey.user_events()
        if missing := [one for one in watched if one not in recorded]:
            yield yellow(
                f"the realm does not save {', '.join(missing)}, or the service account may not read it: each invited user is "
                "asked for in turn",
                "save it under Realm settings > Events > User events settings, and give the service account the role "
                f"{EVENTS_ROLE}, in the client's scope too; {REALM_PLAN}",
            )
        else:
            yield green(f"{', '.join(watched)} are saved, so one call tells who set a password")

    def _check_federation(self) -> Iterable[ProbeResult]:
        providers = self._survey.user_federation()
        if providers is None:
            yield gray(
                "unknown: reading the providers of user federation needs the role view-realm"
            )
        elif not providers:
            yield green("none: all users are Keycloak's own")
        for one in providers or ():
            yield _federation_result(one)

    def _check_lookups(self) -> Iterable[ProbeResult]:
        name = self._realm.external_id()
        users, took_s = self._survey.count_users(), self._survey.lookup_s(name)
        yield lookup_result("username" if name == EXACT_ID_ATTRIBUTE else name, users, took_s)

    def _check_mail_server(self) -> Iterable[ProbeResult]:
        server = self._survey.smtp()
        if not self._realm.invites:
            yield gray(_NO_MAILS)
        elif server is None:
            yield gray(
                "unknown: reading it needs the role view-realm",
                "try it: keycloak-bridge doctor --send-test-mail ADDRESS",
            )
        elif not server.get("host") or not server.get("from"):
            yield red(
                "the realm has no mail server, or no sender address",
                "set both under Realm settings > Email",
            )
        else:
            yield _mail_server_result(server)

    def _check_passwords(self) -> Iterable[ProbeResult]:
        rules = self._survey.password_rules()
        if rules is None:
            yield gray("unknown: reading it needs the role view-realm")
            return
        problems = []
        if self._realm.invites and not rules.get("passwordPolicy"):
            problems.append(_NO_PASSWORD_POLICY)
        if not rules.get("bruteForceProtected"):
            problems.append(_NO_BRUTE_FORCE_DETECTION)
        if rules.get("sslRequired") == "none":
            problems.append(_NO_SSL_REQUIRED)
        yield from problems
        if not problems:
            yield green("there is a password policy, brute force detection, and TLS for log-ins")

    def _check_test_mail(self) -> Iterable[ProbeResult]:
        try:
            self._survey.send_test_mail(str(self._test_mail))
        except KeycloakConflictError:
            yield gray(
                "no mail was sent: the address belongs to a user of the realm",
                "name another address, such as one with a +tag; Keycloak gives an address to one user only",
            )
            return
        yield green("Keycloak's mail server took the test mail; the link in it is dead")

    def _problem_or_green(self, code: str, well: str) -> Iterator[ProbeResult]:
        found = [_result(one) for one in self._problems if one.code == code]
        yield from found or [green(well)]

    @cached_property
    def _discovery(self) -> Discovery:
        found = self._survey.discovery()
        self._discovered_at = self._now()
        return found

    @cached_property
    def _facts(self) -> TokenFacts:
        facts = token_facts(self._token())
        self._granted_at = self._now()
        return facts

    @cached_property
    def _problems(self) -> Sequence[Problem]:
        return self._realm.problems()


def _result(problem: Problem) -> ProbeResult:
    light = red if problem.severity is Severity.ERROR else yellow
    return light(problem.message, problem.remedy, problem.code)


_NO_PASSWORD_POLICY = yellow(
    "the realm has no password policy: an invitation's link takes any password",
    "set one under Authentication > Policies > Password policy",
    "passwordPolicy",
)
_NO_BRUTE_FORCE_DETECTION = yellow(
    "brute force detection is off: passwords can be guessed without end",
    "switch it on under Realm settings > Security defenses",
    "bruteForceProtected",
)
_NO_SSL_REQUIRED = yellow(
    "the realm takes passwords in clear text from everywhere",
    "set Require SSL to External requests under Realm settings > General",
    "sslRequired",
)


def _mail_server_result(server: Mapping[str, Any]) -> ProbeResult:
    address = f"{server['host']}:{server.get('port', 25)}"
    encrypted = [name for name in ("ssl", "starttls") if str(server.get(name)).lower() == "true"]
    if encrypted or is_loopback(str(server["host"])):
        return green(address)
    return yellow(
        f"{address}: mails, whose links set passwords, cross the network in clear text",
        "switch on SSL or StartTLS under Realm settings > Email",
    )


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _batch_role(roles: frozenset[str]) -> ProbeResult:
    if IMPORTING.isdisjoint(roles):
        return gray(f"lacks {IMPORT_ROLE}; a backlog is written one by one", subject=IMPORT_ROLE)
    return yellow(
        f"has {IMPORT_ROLE}: a backlog of new users is written in batches, and whoever gets the bridge's credentials can change the realm",
        f"take it away when the backlog is written: {EXACT}",
        IMPORT_ROLE,
    )


def _federation_result(provider: FederationProvider) -> ProbeResult:
    what = f"{provider.name} ({provider.kind}), edit mode {provider.edit_mode or 'unknown'}"
    if not provider.enabled:
        return green(f"{what}: switched off", provider.name)
    if provider.edit_mode == "READ_ONLY":
        return yellow(
            f"{what}: its users can be disabled and enabled; any other change is a dead letter, and "
            "a deleted user comes back and is disabled",
            "delete and change such users in the directory, or leave them out by `when` in the mapping",
            provider.name,
        )
    if provider.edit_mode == "WRITABLE":
        return green(f"{what}: events write to the directory", provider.name)
    return yellow(
        f"{what}: a deleted user may come back from the directory, and is disabled then",
        "delete such users in the directory",
        provider.name,
    )


def lookup_result(name: str, users: int, took_s: float) -> ProbeResult:
    """Judge how long a search by `username` or an attribute takes, which most events cost that are not of a new user."""
    message = f"a search by {name} takes {took_s * 1000:.0f} ms among {counted(users, 'user')}"
    if took_s <= SLOW_S:
        return green(message)
    light = yellow if took_s <= TOO_SLOW_S else red
    if name == "username":
        return light(
            message, "Keycloak has an index for it: look at its load, its database and the network"
        )
    return light(
        f"{message}; without an index, it takes longer with each new user",
        f"have the database administrator run {INDEX_STATEMENT} (PostgreSQL), or make the external id the username "
        "(docs/keycloak.md, Large realms)",
    )


def links_result(issuer: str, *, follows: bool | None) -> ProbeResult:
    """Judge links that lead to the host of `issuer`.

    `follows` says whether Keycloak takes its address from the caller; None if that could not be found out.
    """
    parts = urlsplit(issuer)
    leads = f"links in mails lead to {parts.scheme}://{parts.netloc}"
    fix = (
        "start Keycloak with KC_HOSTNAME=<public URL> and KC_HOSTNAME_BACKCHANNEL_DYNAMIC=true "
        "(docs/keycloak.md, The public host)"
    )
    if is_internal(parts.hostname or ""):
        return yellow(f"{leads}, which people outside cannot open", fix)
    if follows:
        return yellow(f"{leads} because the bridge calls Keycloak by that name", fix)
    if parts.scheme != "https":
        return yellow(f"{leads}, without encryption", fix.replace("<public URL>", "https://…"))
    return green(leads)


def is_internal(host: str) -> bool:
    """Say whether a host name or address is only valid inside a machine or a private network."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith((".local", ".internal", ".localhost", ".svc", ".lan"))


def _unverified_addresses(version: str | None) -> ProbeResult:
    """Return what it means that the links of invitations do not ask for VERIFY_EMAIL."""
    message = "the actions of invitations lack VERIFY_EMAIL: from Keycloak 26.8 on, the link does not verify the address"
    remedy = "add VERIFY_EMAIL to [invite] actions, in the settings or the mapping; it is right for older versions too"
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if numbers is not None and (int(numbers[1]), int(numbers[2])) >= _LINKS_DO_NOT_VERIFY:
        return yellow(message, remedy, "VERIFY_EMAIL")
    return gray(message, remedy, "VERIFY_EMAIL")
