"""Every error keeps what it is given; tests/snapshot has the code and the disposition of each."""

import re
from typing import Any

import pytest

from keycloak_bridge.domain import errors
from keycloak_bridge.domain.errors import BridgeError, Dependency, KeycloakError, Violation

TREE = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, BridgeError) and one is not BridgeError
]
TAKES_LESS: dict[type[BridgeError], set[str]] = {
    errors.HoldError: {"remedy", "violations"},
    errors.GivenUpError: {"code", "violations"},
}
"""What has no meaning for an error: a pause needs no remedy, and giving up has one code."""


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_keeps_what_it_is_given(kind: type[BridgeError]) -> None:
    """A code overrides the default; remedy and violations are apart from the sentence."""
    everything: dict[str, Any] = {
        "code": "other",
        "remedy": "restart it",
        "violations": (Violation("/data/email", "format", "must be an e-mail address"),),
    }
    needed: dict[str, Any] = {"wait_s": 1.5} if kind is errors.HoldError else {}
    given = {name: everything[name] for name in everything.keys() - TAKES_LESS.get(kind, set())}
    given |= needed
    error = kind("sentence", **given)
    plain = kind("sentence", **needed)

    assert ("sentence", "sentence") == (error.message, str(error))
    assert given == {name: getattr(error, name) for name in given}
    assert (kind.default_code, None, ()) == (plain.code, plain.remedy, plain.violations)
    assert plain.is_final is (plain.disposition.value in ("dead-letter", "replan"))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_names_the_service_that_failed(kind: type[BridgeError]) -> None:
    """It must work again before the failure is over; most errors need no service."""
    expected = Dependency.NONE
    if issubclass(kind, errors.BrokerError):
        expected = Dependency.KAFKA
    elif issubclass(kind, errors.RegistryUnavailableError):
        expected = Dependency.REGISTRY
    elif issubclass(kind, KeycloakError):
        is_mail = issubclass(kind, errors.MailDeliveryError)
        expected = Dependency.MAIL if is_mail else Dependency.KEYCLOAK

    assert expected == kind("sentence", **{"wait_s": 1} if kind is errors.HoldError else {}).dependency  # type: ignore[arg-type]  # fmt: skip


def test_an_error_keeps_the_call_that_failed() -> None:
    """Status, method, path and Retry-After are for logs, headers and the worker."""
    given = {"status": 503, "method": "PUT", "path": "/users/{id}", "retry_after_s": 2.5}
    error = KeycloakError("sentence", **given)  # type: ignore[arg-type]

    assert given == {name: getattr(error, name) for name in given}
    assert errors.GivenUpError("it kept failing", status=503).status == 503


def test_the_drawing_names_every_error() -> None:
    """The docstring of the module is the map that people read."""
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+Error\b", errors.__doc__ or ""))

    assert {kind.__name__ for kind in TREE} <= drawn
