"""The probe of certificates: how long those that the bridge trusts, and its own, are valid yet."""

import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from keycloak_bridge.diagnostics.probes import Probe, ProbeResult, green, red, yellow
from keycloak_bridge.settings.model import Settings

SOON = timedelta(days=30)


class _File(NamedTuple):
    setting: str
    path: Path
    authorities: bool
    """Whether all in the file are trusted; of another file, only the first certificate is the bridge's own."""


def certificate_probe(settings: Settings, now: Callable[[], datetime]) -> Sequence[Probe]:
    """Return the probe, where the settings name any file of certificates."""
    kafka, keycloak, registry = settings.kafka, settings.keycloak, settings.registry
    named = (
        ("[kafka] ssl_cafile", kafka.ssl_cafile, True),
        ("[kafka] ssl_certfile", kafka.ssl_certfile, False),
        ("[keycloak] ca_file", keycloak.ca_file, True),
        ("[keycloak] tls_cert_file", keycloak.tls_cert_file, False),
        ("[registry] ca_file", registry.ca_file, True),
    )
    files = [_File(name, path, many) for name, path, many in named if path is not None]

    def check() -> Iterable[ProbeResult]:
        for one in files:
            yield _result(one, now())

    return (Probe("certificates", check),) if files else ()


def _result(file: _File, now: datetime) -> ProbeResult:
    try:
        ends = sorted(_ends(file))
    except (OSError, ValueError):  # what OpenSSL raises is one or the other
        ends = []
    if not ends:
        return red(
            f"{file.setting} has no certificate that can be read",
            "point it at a PEM file that the bridge may read",
            file.setting,
        )
    first, last = ends[0], ends[-1]
    which = "" if len(ends) == 1 else f"the first of {len(ends)} "
    renew = f"renew {file.setting}; it is read again at the next connection"
    if last <= now:
        return red(f"{file.setting} expired on {last:%Y-%m-%d}", renew, file.setting)
    if first <= now + SOON:
        what = "expired" if first <= now else "expires"
        return yellow(f"{file.setting}: {which}{what} on {first:%Y-%m-%d}", renew, file.setting)
    return green(f"{file.setting}: {which}expires on {first:%Y-%m-%d}", file.setting)


def _ends(file: _File) -> Iterable[datetime]:
    """Return when the certificates in the file expire."""
    if file.authorities:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(file.path))
        found: Sequence[Any] = context.get_ca_certs()
    else:
        # of a certificate that is no authority's, `ssl` tells this in no other way without a connection
        decode: Callable[[str], Any] = ssl._ssl._test_decode_cert  # type: ignore[attr-defined] # noqa: SLF001
        found = [decode(str(file.path))]
    return [datetime.fromtimestamp(ssl.cert_time_to_seconds(one["notAfter"]), UTC) for one in found]
