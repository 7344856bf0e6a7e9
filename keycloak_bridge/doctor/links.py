"""Whether people can follow the links that Keycloak mails."""

import ipaddress
from urllib.parse import urlsplit

from keycloak_bridge.doctor.examination import Sighting, green, yellow

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
