"""What an error of TLS says, in one sentence, and what to do about it in the words of the settings."""

import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class TlsNames:
    """The settings of one connection, as messages name them; `plain` is what to do where the server speaks no TLS."""

    address: str
    ca_file: str
    cert_file: str
    key_file: str
    plain: str

    @classmethod
    def of_section(cls, section: str) -> "TlsNames":
        """Return the names of a section that calls an address of HTTP."""
        return cls(
            address=f"[{section}] url",
            ca_file=f"[{section}] ca_file",
            cert_file=f"[{section}] tls_cert_file",
            key_file=f"[{section}] tls_key_file",
            plain=f"write [{section}] url with http:// or the port of TLS",
        )


class TlsProblem(NamedTuple):
    """Why there is no TLS connection, and what to do about it."""

    text: str
    solution: str


_OF_SERVER: Mapping[int, TlsProblem] = {
    9: TlsProblem("its certificate is not valid yet", "check the clocks of both machines"),
    10: TlsProblem("its certificate has expired", "renew the certificate of {address}"),
    23: TlsProblem("its certificate is revoked", "renew the certificate of {address}"),
    62: TlsProblem(
        "its certificate is for another host name than that of {address}",
        "write the host name in {address} that the certificate has, or issue one for this name",
    ),
}
"""By OpenSSL's codes of verification (X509_V_ERR_…)."""

_UNTRUSTED = TlsProblem(
    "no authority that the bridge trusts has signed its certificate",
    "let {ca_file} be the certificate (PEM) of the authority that signed it",
)
_UNTRUSTED_CODES = (2, 18, 19, 20, 21)
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST, _OTHER_ADDRESS = 62, 64

_BY_REASON: Mapping[str, TlsProblem] = {
    "CERTIFICATE_REQUIRED": TlsProblem(
        "it asks for a client certificate", "set {cert_file} and {key_file}"
    ),
    "CERTIFICATE_EXPIRED": TlsProblem(
        "it says that the bridge's certificate has expired", "renew {cert_file}"
    ),
    "CERTIFICATE_REVOKED": TlsProblem(
        "it says that the bridge's certificate is revoked", "renew {cert_file}"
    ),
    "UNKNOWN_CA": TlsProblem(
        "it does not trust the authority that signed the bridge's certificate",
        "let the server trust the authority of {cert_file}, or have one issued that it trusts",
    ),
    "ALERT_BAD_CERTIFICATE": TlsProblem(
        "it refuses the bridge's certificate, or asks for one",
        "check {cert_file} and {key_file}, and what the server's log says of it",
    ),
    "ALERT_CERTIFICATE_UNKNOWN": TlsProblem(
        "it refuses the bridge's certificate",
        "check {cert_file}, and what the server's log says of it",
    ),
    "KEY_VALUES_MISMATCH": TlsProblem(
        "the bridge's key is not that of its certificate",
        "let {key_file} be the key of {cert_file}",
    ),
    "WRONG_VERSION_NUMBER": TlsProblem("what answers there speaks no TLS", "{plain}"),
}
"""By what OpenSSL calls the reason, or a part of it."""

_UNKNOWN = TlsProblem(
    "the handshake failed",
    "check the certificate of {address}, and set {ca_file} for an authority of your own",
)


def tls_problem(error: BaseException, names: TlsNames) -> TlsProblem:
    """Return what an error of a connection says about TLS, in the words of its settings."""
    found = ssl_error(error)
    problem = _UNKNOWN
    if isinstance(found, ssl.SSLCertVerificationError):
        code = getattr(found, "verify_code", 0)
        code = _OTHER_HOST if code == _OTHER_ADDRESS else code
        problem = _OF_SERVER.get(code, _UNTRUSTED if code in _UNTRUSTED_CODES else _UNKNOWN)
    elif found is not None:
        reason = getattr(found, "reason", None) or ""
        problem = next((p for name, p in _BY_REASON.items() if name in reason), _UNKNOWN)
    return TlsProblem(*(text.format_map(asdict(names)) for text in problem))


def ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of OpenSSL below `error`, which `requests`, urllib3 and kafka-python wrap in theirs."""
    below: BaseException | None = error
    for _ in range(10):  # wrapped no deeper
        if below is None or isinstance(below, ssl.SSLError):
            return below
        first = below.args[0] if below.args else None
        reason = getattr(below, "reason", None)
        inner = next((e for e in (reason, first) if isinstance(e, BaseException)), None)
        below = inner or below.__cause__ or below.__context__
    return None


def is_overdue(error: ssl.SSLError) -> bool:
    """Say whether the server's certificate is only out of its time, so that its owner renews it and nothing here changes."""
    return getattr(error, "verify_code", 0) in (_NOT_YET_VALID, _EXPIRED)
