"""Every error of the bridge has a stable code and a disposition, and none carries what it must not."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from keycloak_bridge.domain import errors
from keycloak_bridge.domain.errors import BridgeError, Disposition, KeycloakError, Violation

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
    errors.UnknownUserError: Disposition.DEAD_LETTER,
    errors.DroppedError: Disposition.DEAD_LETTER,
    errors.ParkedError: Disposition.DEAD_LETTER,
    errors.GivenUpError: Disposition.DEAD_LETTER,
    errors.KeycloakError: Disposition.STOP,
    errors.KeycloakUnavailableError: Disposition.RETRY,
    errors.MailDeliveryError: Disposition.RETRY,
    errors.KeycloakConflictError: Disposition.REPLAN,
    errors.KeycloakNotFoundError: Disposition.REPLAN,
    errors.KeycloakAuthError: Disposition.RETRY,
    errors.KeycloakRejectedError: Disposition.DEAD_LETTER,
    errors.HoldError: Disposition.WAIT,
    errors.BrakeError: Disposition.STOP,
    errors.InternalError: Disposition.RETRY,
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


MUST_BE_TOLD: dict[type[BridgeError], dict[str, Any]] = {errors.HoldError: {"wait_s": 1.5}}
"""What an error cannot do without, besides its sentence."""

TAKES_LESS: dict[type[BridgeError], set[str]] = {
    errors.HoldError: {"remedy", "violations"},
    errors.GivenUpError: {"code", "violations"},
}
"""What would mean nothing for an error: nobody mends a pause, and giving up has one code."""


def making(kind: type[BridgeError]) -> Any:
    """Return what makes an error of this kind from its sentence."""
    return partial(kind, **MUST_BE_TOLD.get(kind, {}))


def taking(part: str) -> list[type[BridgeError]]:
    """Return the errors that can be told `part`."""
    return [kind for kind in TREE if part not in TAKES_LESS.get(kind, set())]


TREE = sorted(set(subclasses(BridgeError)), key=lambda kind: kind.__name__)


def test_the_table_knows_the_whole_tree() -> None:
    """A new error needs a decision about what the worker does."""
    assert set(DISPOSITIONS) == set(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_says_what_the_worker_does(kind: type[BridgeError]) -> None:
    """What can pass is retried, what never can is given up, what nobody can decide stops."""
    assert DISPOSITIONS[kind] is making(kind)("sentence").disposition


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_has_a_code_of_its_own_form(kind: type[BridgeError]) -> None:
    """Codes are words in lower case, safe to alert on; the sentence is the text of the exception."""
    error = making(kind)("sentence")

    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.default_code)
    assert (kind.default_code, "sentence", "sentence") == (error.code, error.message, str(error))


@pytest.mark.parametrize("kind", taking("code"), ids=lambda kind: kind.__name__)
def test_a_code_that_is_given_goes_before_the_default(kind: type[BridgeError]) -> None:
    """One class has as many codes as there are reasons."""
    assert "other" == making(kind)("sentence", code="other").code


@pytest.mark.parametrize("kind", taking("remedy"), ids=lambda kind: kind.__name__)
def test_each_error_keeps_its_remedy(kind: type[BridgeError]) -> None:
    """It stands apart from the sentence."""
    error = making(kind)("sentence", remedy="mend it")

    assert ("sentence", "mend it") == (str(error), error.remedy)


@pytest.mark.parametrize("kind", taking("violations"), ids=lambda kind: kind.__name__)
def test_each_error_keeps_its_violations(kind: type[BridgeError]) -> None:
    """However they are handed over."""
    violation = Violation("/data/email", "format", "must be an e-mail address")

    assert (violation,) == making(kind)("sentence", violations=[violation]).violations


def test_a_pause_says_how_long_it_is() -> None:
    """The worker takes the record up again then; nothing is there to mend."""
    error = errors.HoldError("the pace is kept", wait_s=0.25, code="pace")

    assert (0.25, "pace", None, ()) == (error.wait_s, error.code, error.remedy, error.violations)


def test_giving_up_keeps_the_last_answer_of_keycloak() -> None:
    """The header `kb-dlq-http-status` tells it; there may have been none."""
    error = errors.GivenUpError("it kept failing", remedy="look", status=503)

    assert (503, "given-up", "look") == (error.status, error.code, error.remedy)
    assert errors.GivenUpError("it kept failing").status is None


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
