"""The codes with which a running bridge waits and tries again, as the source raises them; `/ready` names each of them."""

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache

from source_calls import source_calls

from keycloak_bridge.domain import errors
from keycloak_bridge.domain.errors import BridgeError, Disposition
from keycloak_bridge.kafka.client import _LOGIN
from keycloak_bridge.keycloak.errors import _ROWS
from keycloak_bridge.registry.client import _UNAVAILABLE

_COMMANDS_ONLY = "backfill/"
"""What only commands do is in no `/ready`."""

_RETRIED = {
    name
    for name, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, BridgeError) and one.disposition is Disposition.RETRY
}
_FILES = {"secret-unreadable"}
_ELSEWHERE: Mapping[tuple[str, str], set[str]] = {
    ("app.realm_check", "missing.code"): {"realm-not-found"},
    ("kafka.client", "_LOGIN[type(error)]"): set(_LOGIN.values()),
    ("kafka.security", "error.code"): _FILES,
    ("kafka.security", "code"): {"kafka-ca-file", "kafka-tls-cert"},
    ("keycloak.access", "error.code"): _FILES,
    ("keycloak.errors", "code"): {
        code for code, row in _ROWS.items() if row.kind.disposition is Disposition.RETRY
    },
    ("keycloak.http", "wrong.code"): {"keycloak-ca-file", "keycloak-tls-cert"},
    ("registry.client", "error.code"): _FILES,
    ("registry.client", "wrong.code"): {"registry-ca-file"},
    ("registry.client", "f'registry-{failure}'"): {f"registry-{one}" for one in _UNAVAILABLE},
}
"""What an expression stands for that is no text, by its module."""


@cache
def retried_codes() -> frozenset[str]:
    """Return them all; fails for a code that is written in a way that nobody has looked at."""
    found = {getattr(errors, name).default_code for name in _RETRIED}
    for module, expression in _named():
        found |= _codes(module, expression)
    return frozenset(found)


def _named() -> Iterator[tuple[str, ast.expr]]:
    """Yield each `code=` of an error that is retried, with its module; `kind` stands for one of several classes."""
    for place, call in source_calls(_COMMANDS_ONLY, "testing/", "sandbox/"):
        if getattr(call.func, "id", "") in {*_RETRIED, "kind"}:
            module = place.removesuffix(".py").replace("/", ".")
            yield from ((module, one.value) for one in call.keywords if one.arg == "code")


def _codes(module: str, expression: ast.expr) -> set[str]:
    match expression:
        case ast.Constant(value=str(code)):
            return {code}
        case ast.Constant(value=None):
            return set()
        case ast.IfExp(body=one, orelse=other):
            return _codes(module, one) | _codes(module, other)
    source = ast.unparse(expression)
    if (module, source) in _ELSEWHERE:
        return _ELSEWHERE[module, source]
    value = getattr(importlib.import_module(f"keycloak_bridge.{module}"), source, None)
    assert isinstance(value, str), f"{module}: which code is {source}?"
    return {value}
