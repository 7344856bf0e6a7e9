"""The formats that schemas may name, each asserted strictly."""

import ipaddress
import re
import stringprep
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from encodings.idna import ToASCII
from types import MappingProxyType

import idna
from jsonschema import FormatChecker

from keycloak_bridge.domain.patterns import PatternError, check_syntax

_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))",
    re.IGNORECASE | re.ASCII,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_URI_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_BEYOND_ASCII = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U000efffd"
_IRI_CHARACTERS = re.compile(
    rf"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=\-{_BEYOND_ASCII}]|%[0-9A-Fa-f]{{2}})*"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(
    r"(?:[^@\[\]]*@)?(?:\[(?:(?P<ipv6>[0-9A-Fa-f:.]+)|[Vv][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]"
    r"|[^:@\[\]]*)(?::[0-9]*)?",
)
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ANY_LOCAL_PART = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\ud7ff\ue000-\U0010ffff-]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\ud7ff\ue000-\U0010ffff-]+)*"
)
_DURATION = re.compile(
    r"P(?:[0-9]+W"
    r"|(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)?"
    r"(?:T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?)"
)
_BAD_TILDE = re.compile(r"~(?![01])")
_UPWARDS = re.compile(r"(?:0|[1-9][0-9]*)(#\Z)?")
_TEMPLATE_NAME = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+(?:\.(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+)*"
_TEMPLATE_VARIABLE = rf"{_TEMPLATE_NAME}(?::[1-9][0-9]{{0,3}}|\*)?"
_URI_TEMPLATE = re.compile(
    rf"(?:[!#$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~{_BEYOND_ASCII}\ue000-\uf8ff]|%[0-9A-Fa-f]{{2}}"
    rf"|\{{[+#./;?&=,!@|]?{_TEMPLATE_VARIABLE}(?:,{_TEMPLATE_VARIABLE})*\}})*"
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ASCII_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_LANGUAGE_TAG = re.compile(
    r"(?:(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[0-9a-wyz](?:-[a-z0-9]{2,8})+)*"  # extensions
    r"(?:-x(?:-[a-z0-9]{1,8})+)?"
    r"|x(?:-[a-z0-9]{1,8})+)",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_ADDRESS = 254
_LONGEST_DOMAIN = 253
_LONGEST_LABEL = 63
_LONGEST_LOCAL_PART = 64


def parse_timestamp(text: str) -> datetime | None:
    """Return the point in time of an RFC 3339 `text` in UTC, None where it is none.

    A leap second becomes the second after it; digits beyond microseconds are dropped.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, sign, hours, minutes = match.groups()
    leap = second == "60"
    try:
        local = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}")
        if hours is None:
            time = local
        else:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            time = local + offset if sign == "-" else local - offset
        if leap:
            if (time.hour, time.minute) != (23, 59):
                return None
            return (time + timedelta(seconds=1)).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return time.replace(microsecond=microsecond, tzinfo=UTC)


def is_email(text: str) -> bool:
    """Say whether Keycloak can mail to `text`.

    Narrower than Keycloak's own check: no quoted local part and no address literal. A domain may have letters of any
    script; a local part may not, since a realm with an SMTP server refuses it.
    """
    return _is_address(text, _LOCAL_PART)


def _is_address(text: str, local_part: re.Pattern[str]) -> bool:
    local, at, domain = text.partition("@")
    return (
        bool(at)
        and len(text) <= _LONGEST_ADDRESS
        and len(local) <= _LONGEST_LOCAL_PART
        and local_part.fullmatch(local) is not None
        and _is_domain(domain)
    )


def _is_domain(text: str) -> bool:
    if len(text) > _LONGEST_DOMAIN:
        return False
    if text.isascii():
        return _ASCII_DOMAIN.fullmatch(text) is not None
    labels = [_ascii_label(label) for label in text.split(".")]
    names = [label for label in labels if label is not None]
    return len(names) == len(labels) and len(".".join(names)) <= _LONGEST_DOMAIN


def _is_any_host_name(text: str) -> bool:
    if len(text) > _LONGEST_DOMAIN or text.endswith((".", "\u3002", "\uff0e", "\uff61")):
        return False
    try:
        return bool(idna.encode(text.lower()))
    except UnicodeError:
        return False


def _ascii_label(label: str) -> str | None:
    if len(label) > _LONGEST_LABEL:
        return None  # before IDNA, which takes quadratic time
    if not label.isascii():
        # Java refuses letters that IDNA 2003 does not know and those beyond U+FFFF; Python lets them pass.
        if any(stringprep.in_table_a1(letter) or letter > "\uffff" for letter in label):
            return None
        try:
            label = ToASCII(label).decode("ascii")
        except UnicodeError:
            return None
    return label if _LABEL.fullmatch(label) else None


def is_uri(text: str) -> bool:
    """Say whether `text` is a URI (RFC 3986): a scheme, and nothing that would have to be escaped."""
    return _SCHEME.match(text) is not None and _is_uri_reference(text)


def _is_iri(text: str) -> bool:
    return _SCHEME.match(text) is not None and _is_uri_reference(text, _IRI_CHARACTERS)


def _is_uri_reference(text: str, characters: re.Pattern[str] = _URI_CHARACTERS) -> bool:
    if characters.fullmatch(text) is None or text.count("#") > 1:
        return False
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if rest.startswith("//"):
        authority, _, path = rest[2:].partition("/")
        return _is_authority(authority) and not set(path) & set("[]")
    return not set(rest) & set("[]") and (scheme is not None or ":" not in rest.split("/")[0])


def _is_authority(text: str) -> bool:
    found = _AUTHORITY.fullmatch(text)
    return found is not None and (found["ipv6"] is None or _is_ipv6(found["ipv6"]))


def _is_duration(text: str) -> bool:
    return _DURATION.fullmatch(text) is not None and text != "P"


def _is_json_pointer(text: str) -> bool:
    return text[:1] in ("", "/") and _BAD_TILDE.search(text) is None


def _is_relative_json_pointer(text: str) -> bool:
    upwards = _UPWARDS.match(text)
    return upwards is not None and _is_json_pointer(text[upwards.end() :])


def _is_regex(text: str) -> bool:
    try:
        check_syntax(text)
    except PatternError:
        return False
    return True


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _parsed_by(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return text.isascii() and "%" not in text

    return check


_is_ipv6 = _parsed_by(ipaddress.IPv6Address)
_is_iso_date = _parsed_by(date.fromisoformat)

FORMATS: Mapping[str, tuple[Callable[[str], bool], str]] = MappingProxyType(
    {
        "date": (
            lambda text: _DATE.fullmatch(text) is not None and _is_iso_date(text),
            "a date such as 2026-11-01",
        ),
        "date-time": (
            lambda text: parse_timestamp(text) is not None,
            "a date and time with offset such as 2026-11-01T09:30:00Z",
        ),
        "duration": (_is_duration, "a duration (ISO 8601) such as P1Y or PT30M"),
        "email": (is_email, "an e-mail address"),
        "hostname": (lambda text: text.isascii() and _is_domain(text), "a host name"),
        "idn-email": (
            lambda text: _is_address(text, _ANY_LOCAL_PART),
            "an e-mail address, in any script",
        ),
        "idn-hostname": (_is_any_host_name, "a host name, in any script"),
        "ipv4": (_parsed_by(ipaddress.IPv4Address), "an IPv4 address"),
        "ipv6": (_is_ipv6, "an IPv6 address"),
        "iri": (_is_iri, "an IRI with scheme"),
        "iri-reference": (
            lambda text: _is_uri_reference(text, _IRI_CHARACTERS),
            "an IRI, or one relative to another",
        ),
        "json-pointer": (_is_json_pointer, "a JSON pointer such as /a/0"),
        "language-tag": (_matches(_LANGUAGE_TAG), "a language tag (BCP 47) such as de or pt-BR"),
        "regex": (_is_regex, "a regular expression (ECMA 262)"),
        "relative-json-pointer": (_is_relative_json_pointer, "a relative JSON pointer such as 1/a"),
        "time": (
            lambda text: parse_timestamp(f"2000-01-02T{text}") is not None,
            "a time with offset such as 09:30:00Z",
        ),
        "uri": (is_uri, "a URI with scheme"),
        "uri-reference": (_is_uri_reference, "a URI, or one relative to another"),
        "uri-template": (_matches(_URI_TEMPLATE), "a URI template such as /users/{id}"),
        "uuid": (_matches(_UUID), "a UUID"),
    }
)
"""Every format that is asserted, all of JSON Schema's: its check, and what a text must be to pass it.

`language-tag` is ours; JSON Schema has no name for it.
"""


def format_checker() -> FormatChecker:
    """Return the checker that asserts `FORMATS`; all others are annotations."""
    checker = FormatChecker(formats=())
    # A dict of its own: the class shares one between all checkers.
    checker.checkers = {name: (_text_only(check), ()) for name, (check, _) in FORMATS.items()}
    return checker


def _text_only(check: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or check(value)
