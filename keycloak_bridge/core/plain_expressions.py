"""Expressions of plain shape as functions, which give what JMESPath's interpreter would, without it.

Plain are paths, `||`, constants, and the functions of one text: nearly all that a mapping holds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from keycloak_bridge.core.functions import MappingFunctions

Evaluate = Callable[[Any], Any]
Node = Mapping[str, Any]

_OF_ONE_TEXT = frozenset({"lower", "upper", "trim", "normalize_diacritics"})


class NotPlainError(Exception):
    """Says that only the interpreter knows the answer: a value is of a type that a function does not take."""


def plain(node: Node, functions: MappingFunctions) -> Evaluate | None:
    """Return what evaluates the parsed expression, None for one that is not plain; it may raise NotPlainError."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        return _field(node["value"])
    if kind == "literal":
        return _constant(node["value"])
    make = _MAKERS.get(kind)
    if make is not None:
        parts = [plain(child, functions) for child in children]
        known = [part for part in parts if part is not None]
        return make(known) if len(known) == len(parts) else None
    if kind == "function_expression" and node["value"] in _OF_ONE_TEXT and len(children) == 1:
        argument = plain(children[0], functions)
        call = getattr(functions, f"_func_{node['value']}")
        return None if argument is None else _of_text(call, argument)
    return None


def _field(name: str) -> Evaluate:
    def evaluate(value: Any) -> Any:
        try:
            return value.get(name)
        except AttributeError:  # what is no object has no properties
            return None

    return evaluate


def _constant(constant: Any) -> Evaluate:
    return lambda _: constant


def _path(steps: list[Evaluate]) -> Evaluate:
    if len(steps) == 2:  # data.email
        outer, inner = steps
        return lambda value: inner(outer(value))

    def evaluate(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return evaluate


def _either(choices: list[Evaluate]) -> Evaluate:
    first, second = choices

    def evaluate(value: Any) -> Any:
        found = first(value)
        false = found is None or found is False or found in ("", [], {})
        return second(value) if false else found

    return evaluate


def _of_text(call: Callable[[str], Any], argument: Evaluate) -> Evaluate:
    def evaluate(value: Any) -> Any:
        text = argument(value)
        if text is None:
            return None
        if type(text) is not str:  # the interpreter goes by the exact type as well
            raise NotPlainError
        return call(text)

    return evaluate


_MAKERS: Mapping[str, Callable[[list[Evaluate]], Evaluate]] = {
    "subexpression": _path,
    "or_expression": _either,
}
