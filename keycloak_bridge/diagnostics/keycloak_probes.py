"""Probes of Keycloak and the realm: reachable, token, clock, roles, profile, mail and the links in it.

Whether people can follow the links that Keycloak mails.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Protocol
from urllib.parse import urlsplit

from keycloak_bridge.app.realm_check import NEEDED_ROLES, Problem
from keycloak_bridge.diagnostics.probe import Probe, Sighting, gray, green, red, yellow
from keycloak_bridge.domain.errors import KeycloakConflictError
from keycloak_bridge.keycloak.partial_import import IMPORT_ROLE, IMPORTING
from keycloak_bridge.keycloak.survey import Discovery, KeycloakSurvey, TokenFacts, token_facts
from keycloak_bridge.mapping.profile_findings import Severity

_FIX = (
    "start Keycloak with KC_HOSTNAME=<public URL> and KC_HOSTNAME_BACKCHANNEL_DYNAMIC=true "
    "(docs/keycloak.md, The public host)"
)


def host_sighting(issuer: str, *, follows: bool | None) -> Sighting:
    """Return what is to be said of links that lead to the host of `issuer`.

    `follows` says that Keycloak takes its address from whoever calls it; None that this could not be found out.
    """
    parts = urlsplit(issuer)
    host = parts.hostname or ""
    leads = f"links in mails lead to {parts.scheme}://{parts.netloc}"
    if is_inside(host):
        return yellow(f"{leads}, which people outside cannot open", _FIX)
    if follows:
        return yellow(f"{leads} because the bridge calls Keycloak by that name", _FIX)
    if parts.scheme != "https":
        return yellow(f"{leads}, without encryption", _FIX.replace("<public URL>", "https://…"))
    return green(leads)


def is_inside(host: str) -> bool:
    """Say whether a host name or address means something inside a machine or a private network only."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith((".local", ".internal", ".localhost", ".svc", ".lan"))


CONNECTION, TOKEN = "keycloak.connection", "keycloak.token"
MANAGEMENT = "realm-management"

_SKEW_RED_S, _SKEW_YELLOW_S = 30.0, 5.0
_SYNCHRONISE = "let both machines follow a time server (NTP)"
_AS_GOOD = {"view-clients": ("manage-clients",)}
"""Optional roles, and those that Keycloak takes instead of them."""
_OF_OTHER_PROBES = frozenset({"role-missing", "internationalization-off", "mail-ledger-missing"})


class Realm(Protocol):
    """What the probes need to know of the settings, and the one long check of the realm."""

    @property
    def url(self) -> str:
        """keycloak.url."""
        ...

    @property
    def name(self) -> str:
        """keycloak.realm."""
        ...

    @property
    def invites(self) -> bool:
        """Whether the bridge sends mails."""
        ...

    @property
    def attributes(self) -> Sequence[str]:
        """The attributes that the mapping writes; raises ConfigError for a broken one."""
        ...

    @property
    def optional_roles(self) -> dict[str, bool]:
        """The optional roles by what they are for, and whether the mapping uses that."""
        ...

    @property
    def bursts(self) -> bool:
        """Whether a backlog is written in batches where the account may."""
        ...

    def problems(self) -> Sequence[Problem]:
        """Return what keeps the bridge from working on the realm."""
        ...


class KeycloakProbes:
    """The probes of one realm; `token` gives the service account's, `now` the local time."""

    def __init__(
        self,
        realm: Realm,
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
        """Return the probes, those that others need first."""
        needs = (CONNECTION, TOKEN)
        found = [
            Probe(CONNECTION, self.connection),
            Probe("keycloak.links", self.links, (CONNECTION,)),
            Probe(TOKEN, self.token, (CONNECTION,)),
            Probe("keycloak.clock", self.clock, needs),
            Probe("keycloak.version", self.version, needs),
            Probe("keycloak.roles", self.roles, needs),
            Probe("keycloak.profile", self.profile, (*needs, "mapping")),
            Probe("keycloak.languages", self.languages, (*needs, "mapping")),
            Probe("keycloak.admin-events", self.admin_events, (*needs, "mapping")),
            Probe("keycloak.mail-server", self.mail_server, needs),
        ]
        if self._test_mail is not None:
            found.append(Probe("keycloak.test-mail", self.test_mail, needs))
        return found

    def connection(self) -> Iterable[Sighting]:
        """See whether Keycloak answers and has the realm."""
        _ = self._discovery
        yield green(f"realm {self._realm.name} at {self._realm.url}")

    def links(self) -> Iterable[Sighting]:
        """See where the links in the mails will lead."""
        if not self._realm.invites:
            yield gray("the bridge sends no mails (invite.mode)")
            return
        yield host_sighting(self._discovery.issuer, follows=self._survey.follows_its_callers())

    def token(self) -> Iterable[Sighting]:
        """See whether the service account gets a token, and one that the Admin API is meant by."""
        facts = self._facts
        if not facts.audience and not facts.roles:
            yield gray("granted; it does not name its audience, so each role is tried out")
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

    def clock(self) -> Iterable[Sighting]:
        """See how far the clocks are apart: tokens, links and the order of events depend on it."""
        _ = self._facts
        server = self._discovery.server_time
        local = self._discovered_at
        if server is None:
            server, local = self._facts.issued_at, self._granted_at
        if server is None:
            yield gray("Keycloak's answers do not tell its time")
            return
        apart_s = abs((local - server).total_seconds())
        told = f"Keycloak's clock and this one are {apart_s:.0f} s apart"
        if apart_s > _SKEW_RED_S:
            yield red(told, _SYNCHRONISE)
        elif apart_s > _SKEW_YELLOW_S:
            yield yellow(told, _SYNCHRONISE)
        else:
            yield green(told)

    def version(self) -> Iterable[Sighting]:
        """See which Keycloak it is, where that may be asked."""
        version = self._survey.server_version()
        if version is None:
            yield gray("unknown: only administrators of the server may ask")
        else:
            yield green(version)

    def roles(self) -> Iterable[Sighting]:
        """See whether the service account has each role, and each optional one that is made use of."""
        yield from self._told("role-missing", f"has {', '.join(NEEDED_ROLES)}")
        named = self._facts.roles.get(MANAGEMENT)
        for role, used in self._realm.optional_roles.items():
            if named is None:
                yield gray(f"{role}: the token does not name its roles", subject=role)
            elif held := named & {role, *_AS_GOOD.get(role, ())}:
                yield green(f"has {', '.join(sorted(held))}", role)
            elif used:
                yield red(
                    f"lacks {role}, which the mapping makes use of: such events wait, and then all others too",
                    f"assign the {MANAGEMENT} role {role} to the service account, in the client's scope too",
                    role,
                )
            else:
                yield gray(f"lacks {role}; nothing needs it", subject=role)
        if named is not None and self._realm.bursts:
            yield _burst(named)

    def profile(self) -> Iterable[Sighting]:
        """See whether the user profile keeps and takes what the mapping writes."""
        found = [one for one in self._problems if one.code not in _OF_OTHER_PROBES]
        yield from map(_sighting, found)
        if not found:
            yield green(f"keeps {', '.join(self._realm.attributes)}")

    def languages(self) -> Iterable[Sighting]:
        """See whether the realm knows languages, where the mapping writes one."""
        if "locale" in self._realm.attributes:
            yield from self._told("internationalization-off", "internationalization is on")
        else:
            yield gray("the mapping writes no locale")

    def admin_events(self) -> Iterable[Sighting]:
        """See whether mails in doubt can be looked up."""
        if self._realm.invites:
            yield from self._told("mail-ledger-missing", "on, and mails in doubt can be looked up")
        else:
            yield gray("the bridge sends no mails (invite.mode)")

    def mail_server(self) -> Iterable[Sighting]:
        """See whether the realm has a mail server, where the service account may read that."""
        server = self._survey.smtp()
        if not self._realm.invites:
            yield gray("the bridge sends no mails (invite.mode)")
        elif server is None:
            yield gray(
                "unknown: reading it needs the role view-realm",
                "try it out: keycloak-bridge doctor --send-test-mail ADDRESS",
            )
        elif not server.get("host") or not server.get("from"):
            yield red(
                "the realm has no mail server, or no sender address",
                "set both under Realm settings > Email",
            )
        else:
            yield green(f"{server['host']}:{server.get('port', 25)}")

    def test_mail(self) -> Iterable[Sighting]:
        """Have Keycloak send a mail the way that invitations go."""
        try:
            self._survey.send_test_mail(str(self._test_mail))
        except KeycloakConflictError:
            yield gray(
                "no mail was sent: the address belongs to a user of the realm",
                "name another address, such as one with a +tag; Keycloak gives an address to one user only",
            )
            return
        yield green("Keycloak's mail server took the test mail; the link in it is dead")

    def _told(self, code: str, well: str) -> Iterator[Sighting]:
        found = [_sighting(one) for one in self._problems if one.code == code]
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


def _sighting(problem: Problem) -> Sighting:
    light = red if problem.severity is Severity.ERROR else yellow
    return light(problem.message, problem.remedy, problem.code)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _burst(roles: frozenset[str]) -> Sighting:
    if IMPORTING.isdisjoint(roles):
        return gray(f"lacks {IMPORT_ROLE}; a backlog is written one by one", subject=IMPORT_ROLE)
    return green(f"has {IMPORT_ROLE}; a backlog of new users is written in batches", IMPORT_ROLE)
