"""Probes of what the settings leave open, without any network: secrets as text, connections in clear text, guards that are off."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from keycloak_bridge.diagnostics.probes import Probe, ProbeResult, gray, green, yellow
from keycloak_bridge.settings.loading import LoadedSettings, is_loopback
from keycloak_bridge.settings.model import KafkaSettings, Settings
from keycloak_bridge.settings.schema import settings_by_name

_LIMITED = ("disables", "enables", "deletes", "email_changes")
"""The limits that are on by default; how many mails are wanted is for each operator to say."""
_MESH = "; nothing, where a service mesh encrypts it"


def exposure_probes(loaded: LoadedSettings) -> Sequence[Probe]:
    """Return the probes of secrets, of encryption and of guards."""
    settings = loaded.settings
    return (
        Probe("secrets", partial(_secrets, loaded)),
        Probe("encryption", partial(_encryption, settings)),
        Probe("guards", partial(_guards, settings)),
    )


def _secrets(loaded: LoadedSettings) -> Iterable[ProbeResult]:
    in_files = _key_files(loaded.settings)
    found = False
    for one in settings_by_name().values():
        secret = getattr(getattr(loaded.settings, one.section), one.attribute)
        if not one.kind.secret or secret is None:
            continue
        found = True
        if secret.path is None:
            yield _as_text(loaded, one.name)
        else:
            in_files[one.in_file.name] = secret.path
    for name, path in in_files.items():
        if _open_to_all(path):
            remedy = f"take the rights of others away: chmod o-rwx {path}"
            yield yellow(
                f"{name}: all users of this machine may read or change {path}", remedy, name
            )
        else:
            yield green(f"{name}: {path}", name)
    if not found and not in_files:
        yield gray("the settings name none")


def _as_text(loaded: LoadedSettings, name: str) -> ProbeResult:
    origin = loaded.origins[name]
    message = f"{name} is given as text, by {origin}"
    if loaded.file is not None and origin.startswith(str(loaded.file)):
        message = f"{name} is given as text, in {loaded.file}"
        if _open_to_all(loaded.file):
            message += ", which all users of this machine may read"
    remedy = f"write it to a file that only the bridge may read, and set {name}_file: it is then read again when it changes"
    return yellow(message, remedy, name)


def _key_files(settings: Settings) -> dict[str, Path]:
    """Return the files that hold the private keys of client certificates, by the setting that names them."""
    kafka, keycloak = settings.kafka, settings.keycloak
    pairs = (
        ("kafka.ssl_keyfile", kafka.ssl_keyfile, "kafka.ssl_certfile", kafka.ssl_certfile),
        (
            "keycloak.tls_key_file",
            keycloak.tls_key_file,
            "keycloak.tls_cert_file",
            keycloak.tls_cert_file,
        ),
    )
    found = {}
    for key_name, key, certificate_name, certificate in pairs:
        name, path = (key_name, key) if key is not None else (certificate_name, certificate)
        if path is not None:
            found[name] = path
    return found


def _open_to_all(path: Path) -> bool:
    """Say whether every user of this machine may read or change the file.

    A file of a read-only mount, as containers get their secrets, is for the container alone.
    """
    try:
        place = path.resolve()
        if os.statvfs(place).f_flag & os.ST_RDONLY or not place.stat().st_mode & (
            stat.S_IROTH | stat.S_IWOTH
        ):
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in place.parents)
    except OSError:
        return False  # whoever needs the file says that it cannot be read


def _encryption(settings: Settings) -> Iterable[ProbeResult]:
    yield from _of_kafka(settings.kafka)
    secrets = "the client's credentials, its tokens and all users"
    yield _of_url("keycloak", settings.keycloak.url, secrets, "keycloak.url and keycloak.ca_file")
    if settings.registry.url is not None:
        what = "its credentials and all schemas"
        yield _of_url("registry", settings.registry.url, what, "registry.url and registry.ca_file")


def _of_kafka(kafka: KafkaSettings) -> Iterator[ProbeResult]:
    away = ", ".join(beyond_this_machine(kafka.bootstrap_servers))
    protocol = kafka.security_protocol
    if not away:
        yield green("Kafka is on this machine", "kafka")
    elif not protocol.endswith("SSL"):
        what = "events with all users"
        if kafka.sasl_mechanism == "PLAIN":
            what += ", and the password"
        yield yellow(
            f"{away}: {what} cross the network in clear text ({protocol})",
            f'set kafka.security_protocol = "SASL_SSL" or "SSL", and kafka.ssl_cafile{_MESH}',
            "kafka",
        )
    else:
        yield green(f"{away}: {protocol}", "kafka")
    if away and not protocol.startswith("SASL") and kafka.ssl_certfile is None:
        yield yellow(
            f"{away}: the bridge does not log in, so it has the rights of everybody who reaches Kafka",
            'set kafka.security_protocol = "SASL_SSL" and kafka.sasl_mechanism, or kafka.ssl_certfile',
            "kafka.login",
        )


def _of_url(subject: str, url: str, what: str, settings: str) -> ProbeResult:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return green(f"{url}: TLS", subject)
    if not beyond_this_machine([parts.netloc]):
        return green(f"{url} is on this machine", subject)
    return yellow(
        f"{url}: {what} cross the network in clear text",
        f"set an https address ({settings}){_MESH}",
        subject,
    )


def _guards(settings: Settings) -> Iterable[ProbeResult]:
    off = {
        f"limits.{name}": "one wrong job can do this to every user"
        for name in _LIMITED
        if getattr(settings.limits, name) is None
    }
    if settings.brake.in_a_row == 0 and settings.brake.share == 0:
        off["brake"] = "a wrong mapping makes a dead letter of every event"
    if settings.verify.mode == "off":
        off["verify.mode"] = "what Keycloak drops is not noticed"
    for name, risk in off.items():
        yield yellow(f"{name} is off: {risk}", f"set {name}, or remove it for the default", name)
    if not off:
        yield green("limits, brake and verification are on")


def beyond_this_machine(addresses: Sequence[str]) -> Sequence[str]:
    """Return those of the addresses (`host:port`, `[::1]:9092`, `host`) that are not this machine's own."""
    return [one for one in addresses if not is_loopback(urlsplit(f"//{one}").hostname or "")]
