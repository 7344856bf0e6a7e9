"""What a parsed JMESPath expression reads and calls, found without evaluating it."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keycloak_bridge.expressions.functions import function_arities

Path = tuple[str, ...]
Node = Mapping[str, Any]

SCOPE_NAMES = ("data", "id", "type", "subject", "source", "time")
"""What an expression sees at its top: the event's data and the attributes of its envelope."""

_ARITIES = function_arities()
_NOWHERE: frozenset[Path] = frozenset()
_TOP: frozenset[Path] = frozenset({()})
_CHAINS = ("subexpression", "index_expression", "pipe", "projection", "flatten")
_STEPS_INTO_LIST = ("index", "slice", "current", "identity")


def analyse(node: Node, tables: Iterable[str]) -> "Analysis":
    """Return which paths the expression reads and which of its calls cannot work."""
    analysis = Analysis(frozenset(tables))
    analysis.visit(node, _TOP)
    return analysis


def path_problems(paths: Iterable[Path], has_property: Callable[[Path], bool]) -> list[str]:
    """Return one sentence for every path that the scope or the schema does not have."""
    problems: list[str] = []
    wrong: set[Path] = set()
    for path in sorted(paths):
        if any(path[:length] in wrong for length in range(1, len(path))):
            continue
        if problem := _path_problem(path, has_property):
            wrong.add(path)
            problems.append(problem)
    return problems


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean '…'?" with the nearest known name, or nothing."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def _path_problem(path: Path, has_property: Callable[[Path], bool]) -> str | None:
    name, *rest = path
    if name not in SCOPE_NAMES:
        hint = suggestion(name, SCOPE_NAMES) or f"; an expression sees {', '.join(SCOPE_NAMES)}"
        return f"'{name}' is a name that expressions do not know{hint}"
    if name != "data":
        return f"'{'.'.join(path)}': '{name}' is text and has no properties" if rest else None
    if not rest or has_property(tuple(rest)):
        return None
    return f"'{'.'.join(path)}' is not a property of the event's schema"


@dataclass(frozen=True, slots=True)
class Analysis:
    """Visits the nodes of an expression; a value is the set of paths that it may be, empty when it is computed.

    Collects the `paths` that are read from the scope, and the `problems` of function calls.
    """

    tables: frozenset[str]
    paths: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def visit(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        """Return what the node's value may be, where `context` is what it is evaluated on."""
        kind, children = node["type"], node["children"]
        if kind == "field":
            paths = frozenset((*path, node["value"]) for path in context)
            self.paths.update(paths)
            return paths
        if kind in _STEPS_INTO_LIST:
            return context
        if kind in _CHAINS:
            if kind == "subexpression" and children[0]["type"] == "not_expression":
                # the library negates `data` in `!data.active` and looks for `active` in the answer
                self.problems.append("'!' needs brackets before a path, as in !(data.active)")
            for child in children:
                context = self.visit(child, context)
            return context
        if kind == "filter_projection":
            base, right, condition = children
            element = self.visit(base, context)
            self.visit(condition, element)
            return self.visit(right, element)
        if kind == "or_expression":
            return self.visit(children[0], context) | self.visit(children[1], context)
        if kind == "value_projection":
            self.visit(children[0], context)
            return self.visit(children[1], _NOWHERE)
        if kind == "function_expression":
            self._check_call(node["value"], children)
        for child in children:
            # a reference (&x) is evaluated against elements that only the function knows
            self.visit(child, _NOWHERE if child["type"] == "expref" else context)
        return _NOWHERE

    def _check_call(self, name: str, arguments: list[Node]) -> None:
        if name not in _ARITIES:
            hint = suggestion(name, _ARITIES)
            self.problems.append(f"there is no function {name}(){hint}")
            return
        expected, variadic = _ARITIES[name]
        given = len(arguments)
        if given < expected if variadic else given != expected:
            least = "at least " if variadic else ""
            self.problems.append(f"{name}() takes {least}{expected} argument(s), not {given}")
        elif name == "lookup":
            self._check_table(arguments[0])

    def _check_table(self, argument: Node) -> None:
        table = argument.get("value") if argument["type"] == "literal" else None
        if not isinstance(table, str):
            self.problems.append(
                "lookup() takes the name of its table as plain text, as in lookup('name', …)"
            )
        elif table not in self.tables:
            hint = suggestion(table, self.tables) or f"; add [tables.{table}]"
            self.problems.append(f"lookup() names an unknown table '{table}'{hint}")
