"""Every error has a stable code, a disposition and a dependency, and keeps what it is given."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from keycloak_bridge.domain import errors
from keycloak_bridge.domain.errors import (
    BridgeError,
    Dependency,
    Disposition,
    KeycloakError,
    Violation,
)

STOP, RETRY, WAIT = Disposition.STOP, Disposition.RETRY, Disposition.WAIT
REPLAN, DEAD_LETTER, ABANDON = Disposition.REPLAN, Disposition.DEAD_LETTER, Disposition.ABANDON
NONE, KAFKA = Dependency.NONE, Dependency.KAFKA
KEYCLOAK, MAIL = Dependency.KEYCLOAK, Dependency.MAIL

DECISIONS: dict[type[BridgeError], tuple[Disposition, Dependency]] = {
    errors.ConfigError: (STOP, NONE),
    errors.EventError: (DEAD_LETTER, NONE),
    errors.EventDecodeError: (DEAD_LETTER, NONE),
    errors.KeyMismatchError: (DEAD_LETTER, NONE),
    errors.TombstoneError: (DEAD_LETTER, NONE),
    errors.UnknownSchemaError: (DEAD_LETTER, NONE),
    errors.EventValidationError: (DEAD_LETTER, NONE),
    errors.MappingError: (DEAD_LETTER, NONE),
    errors.ConflictError: (DEAD_LETTER, NONE),
    errors.UnknownUserError: (DEAD_LETTER, NONE),
    errors.DroppedError: (DEAD_LETTER, NONE),
    errors.ParkedError: (DEAD_LETTER, NONE),
    errors.GivenUpError: (DEAD_LETTER, NONE),
    errors.KeycloakError: (STOP, KEYCLOAK),
    errors.KeycloakUnavailableError: (RETRY, KEYCLOAK),
    errors.MailDeliveryError: (RETRY, MAIL),
    errors.KeycloakConflictError: (REPLAN, KEYCLOAK),
    errors.KeycloakNotFoundError: (REPLAN, KEYCLOAK),
    errors.KeycloakAuthError: (RETRY, KEYCLOAK),
    errors.KeycloakRejectedError: (DEAD_LETTER, KEYCLOAK),
    errors.HoldError: (WAIT, NONE),
    errors.BrakeError: (STOP, NONE),
    errors.InternalError: (RETRY, NONE),
    errors.BrokerError: (STOP, KAFKA),
    errors.BrokerUnavailableError: (RETRY, KAFKA),
    errors.PartitionRevokedError: (ABANDON, KAFKA),
    errors.BrokerAccessError: (STOP, KAFKA),
    errors.DeadLetterError: (STOP, KAFKA),
}


def subclasses(kind: type[BridgeError]) -> Iterator[type[BridgeError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from subclasses(one)


TREE = sorted(set(subclasses(BridgeError)), key=lambda kind: kind.__name__)
VIOLATION = Violation("/data/email", "format", "must be an e-mail address")
TAKES_LESS: dict[type[BridgeError], set[str]] = {
    errors.HoldError: {"remedy", "violations"},
    errors.GivenUpError: {"code", "violations"},
}
"""What has no meaning for an error: a pause needs no remedy, and giving up has one code."""


def make(kind: type[BridgeError], **given: Any) -> BridgeError:
    """Return an error of this kind."""
    if kind is errors.HoldError:
        given["wait_s"] = 1.5
    return kind("sentence", **given)


def test_the_table_knows_the_whole_tree() -> None:
    """A new error needs a decision about what the worker does."""
    assert set(DECISIONS) == set(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_says_what_the_worker_does(kind: type[BridgeError]) -> None:
    """Whether the record is retried or given up, and what must work again before its failure is over."""
    error = make(kind)
    disposition, dependency = DECISIONS[kind]

    assert (disposition, dependency) == (error.disposition, error.dependency)
    assert error.is_final is (disposition in (DEAD_LETTER, REPLAN))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_has_a_code_of_its_own_form(kind: type[BridgeError]) -> None:
    """Codes are words in lower case, safe to alert on; the sentence is the text of the exception."""
    error = make(kind)

    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.default_code)
    assert (kind.default_code, "sentence", "sentence") == (error.code, error.message, str(error))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_keeps_what_it_is_given(kind: type[BridgeError]) -> None:
    """A code overrides the default; remedy and violations are apart from the sentence."""
    everything = {"code": "other", "remedy": "restart it", "violations": (VIOLATION,)}
    given = {name: everything[name] for name in everything.keys() - TAKES_LESS.get(kind, set())}

    error = make(kind, **given)

    assert "sentence" == str(error)
    assert given == {name: getattr(error, name) for name in given}


def test_a_pause_says_how_long_it_is() -> None:
    """The worker handles the record again then; there is nothing to correct."""
    error = errors.HoldError("the pace is kept", wait_s=0.25, code="pace")

    assert (0.25, "pace", None, ()) == (error.wait_s, error.code, error.remedy, error.violations)


def test_giving_up_keeps_the_last_answer_of_keycloak() -> None:
    """It is in the header `kb-dlq-http-status`; there may have been none."""
    error = errors.GivenUpError("it kept failing", remedy="look", status=503)

    assert (503, "given-up", "look") == (error.status, error.code, error.remedy)
    assert errors.GivenUpError("it kept failing").status is None


def test_an_error_of_keycloak_keeps_the_call() -> None:
    """Status, method, path and Retry-After are for logs, headers and the worker."""
    given = {"status": 503, "method": "PUT", "path": "/users/{id}", "retry_after_s": 2.5}
    error = KeycloakError("sentence", **given)  # type: ignore[arg-type]

    assert given == {name: getattr(error, name) for name in given}


def test_the_drawing_names_every_error() -> None:
    """The docstring of the module is the map that people read."""
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+Error\b", errors.__doc__ or ""))

    assert {kind.__name__ for kind in TREE} - {"MailDeliveryError"} <= drawn
