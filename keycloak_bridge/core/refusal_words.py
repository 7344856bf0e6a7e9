"""The words in which Keycloak's user profile refuses a value: its message key and the limits that it tells with it.

As Keycloak 26.7 answers; where the words depend on more than the rule, there are none here.
"""

from keycloak_bridge.core.profile import ProfileAttribute
from keycloak_bridge.core.profile_validators import Config, length_limits

_OWN_WORDS = "error-message"
Words = tuple[str, list[int | float | None]]
"""Keycloak's message key and the limits that it tells with it."""

_LENGTH_KEYS = (
    "error-invalid-length",
    "error-invalid-length-too-short",
    "error-invalid-length-too-long",
)
_RANGE_KEYS = (
    "error-number-out-of-range",
    "error-number-out-of-range-too-small",
    "error-number-out-of-range-too-big",
)
_PLAIN_KEYS = {
    "pattern": "error-pattern-no-match",
    "options": "error-invalid-value",
    "iso-date": "error-invalid-date",
    "person-name-prohibited-characters": "error-person-name-invalid-character",
    "username-prohibited-characters": "error-username-invalid-character",
}


def words_of(attribute: ProfileAttribute | None, validator: str, values: list[str]) -> Words | None:
    """Return how Keycloak says that `validator` refuses `values`; None where that is not certain."""
    if attribute is None:
        return ("error-invalid-length", [0, 2048]) if validator == "length" else None
    config = attribute.validations.get(validator, {})
    if _OWN_WORDS in config:
        return None
    if validator == "required":
        return ("error-user-attribute-required", []) if not values else None
    if validator == "multivalued":
        return _count_words(attribute)
    if validator == "length":
        return _length_words(config)
    if validator == "email":
        # of letters beyond ASCII it may say so in other words
        return ("error-invalid-email", []) if all(map(str.isascii, values)) else None
    if validator in ("integer", "double"):
        return _number_words(validator, config, values)
    key = _PLAIN_KEYS.get(validator)
    return None if key is None else (key, [])


def _length_words(config: Config) -> Words | None:
    least, most = length_limits(config)
    if "min" in config and not least:
        return None
    return _between(_LENGTH_KEYS, least or None, most)


def _count_words(attribute: ProfileAttribute) -> Words | None:
    limits: list[int | float | None] = [0, 1]
    if attribute.multivalued:
        config = attribute.validations.get("multivalued", {})
        if not config.get("max"):
            return None
        limits = [int(config.get("min") or 0), int(config["max"])]
    return "error-invalid-multivalued-size", limits


def _number_words(validator: str, config: Config, values: list[str]) -> Words | None:
    """Return the words for what is no number, or for one out of range; None for both at once."""
    no_number = [not any(map(str.isdigit, value)) for value in values]
    if all(no_number):
        return ("error-invalid-number", []) if validator == "integer" else None
    if any(no_number):
        return None
    to_number = int if validator == "integer" else float
    least, most = (
        None if config.get(name) in (None, "") else to_number(config[name])
        for name in ("min", "max")
    )
    return _between(_RANGE_KEYS, least, most)


def _between(keys: tuple[str, str, str], least: float | None, most: float | None) -> Words | None:
    if least is None and most is None:
        return None
    if most is None:
        return keys[1], [least, None]
    return (keys[2] if least is None else keys[0]), [least, most]
