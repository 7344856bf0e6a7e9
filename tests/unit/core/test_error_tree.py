"""Every error of the bridge has a stable code and a disposition, and none carries what it must not."""

import re
from collections.abc import Iterator

import pytest

from keycloak_bridge.core import errors
from keycloak_bridge.core.errors import BridgeError, Disposition, KeycloakError, Violation

DISPOSITIONS: dict[type[BridgeError], Disposition] = {
    errors.ConfigError: Disposition.STOP,
    errors.EventError: Disposition.DEAD_LETTER,
    errors.EventDecodeError: Disposition.DEAD_LETTER,
    errors.KeyMismatchError: Disposition.DEAD_LETTER,
    errors.TombstoneError: Disposition.DEAD_LETTER,
    errors.UnknownSchemaError: Disposition.DEAD_LETTER,
    errors.EventValidationError: Disposition.DEAD_LETTER,
    errors.MappingError: Disposition.DEAD_LETTER,
    errors.ConflictError: Disposition.DEAD_LETTER,
    errors.KeycloakError: Disposition.STOP,
    errors.KeycloakUnavailableError: Disposition.RETRY,
    errors.MailDeliveryError: Disposition.RETRY,
    errors.KeycloakConflictError: Disposition.REPLAN,
    errors.KeycloakNotFoundError: Disposition.REPLAN,
    errors.KeycloakAuthError: Disposition.RETRY,
    errors.KeycloakRejectedError: Disposition.DEAD_LETTER,
    errors.BrokerError: Disposition.STOP,
    errors.BrokerUnavailableError: Disposition.RETRY,
    errors.PartitionRevokedError: Disposition.ABANDON,
    errors.BrokerAccessError: Disposition.STOP,
    errors.DeadLetterError: Disposition.STOP,
}


def subclasses(kind: type[BridgeError]) -> Iterator[type[BridgeError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from subclasses(one)


TREE = sorted(set(subclasses(BridgeError)), key=lambda kind: kind.__name__)


def test_the_table_knows_the_whole_tree() -> None:
    """A new error needs a decision about what the worker does."""
    assert set(DISPOSITIONS) == set(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_says_what_the_worker_does(kind: type[BridgeError]) -> None:
    """What can pass is retried, what never can is given up, what nobody can decide stops."""
    assert DISPOSITIONS[kind] is kind("sentence").disposition


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_has_a_code_of_its_own_form(kind: type[BridgeError]) -> None:
    """Codes are words in lower case, safe to alert on, and one given goes before the default."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.default_code)
    assert (kind.default_code, "other") == (
        kind("sentence").code,
        kind("sentence", code="other").code,
    )


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_keeps_what_it_is_told(kind: type[BridgeError]) -> None:
    """Sentence, remedy and violations; the text of the exception is the sentence alone."""
    violation = Violation("/data/email", "format", "must be an e-mail address")

    error = kind("sentence", remedy="mend it", violations=[violation])

    assert ("sentence", "sentence", "mend it", (violation,)) == (
        str(error),
        error.message,
        error.remedy,
        error.violations,
    )


def test_an_error_of_keycloak_keeps_the_call() -> None:
    """Status, method, path and Retry-After are for logs, headers and the worker."""
    error = KeycloakError(
        "sentence", status=503, method="PUT", path="/users/{id}", retry_after_s=2.5
    )

    assert (503, "PUT", "/users/{id}", 2.5) == (
        error.status,
        error.method,
        error.path,
        error.retry_after_s,
    )


def test_the_drawing_names_every_error() -> None:
    """The docstring of the module is the map that people read."""
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+Error\b", errors.__doc__ or ""))

    assert {kind.__name__ for kind in TREE} - {"MailDeliveryError"} <= drawn
