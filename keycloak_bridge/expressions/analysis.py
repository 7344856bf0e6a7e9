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

_NOWHERE: frozenset[Path] = frozenset()
_TOP: frozenset[Path] = frozenset({()})
_CHAINS = ("subexpression", "index_expression", "pipe", "projection")
_STEPS_INTO_LIST = ("index", "slice", "current", "identity")


@dataclass(slots=True)
class Findings:
    """Paths that an expression reads from the scope, and what is wrong with its function calls."""

    paths: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def analyse(node: Node, tables: Iterable[str]) -> Findings:
    """Return which paths the expression reads and which of its calls cannot work."""
    findings = Findings()
    _Walk(findings, frozenset(tables), function_arities()).visit(node, _TOP)
    return findings


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
class _Walk:
    """Visits nodes; a value is the set of paths that it may be, empty when it is computed."""

    findings: Findings
    tables: frozenset[str]
    arities: Mapping[str, tuple[int, bool]]

    def visit(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        kind, children = node["type"], node["children"]
        if kind == "field":
            return self._field(node["value"], context)
        if kind in _STEPS_INTO_LIST:
            return context
        if kind == "subexpression":
            self._check_negation(children)
        if kind in _CHAINS:
            return self._chain(children, context)
        if kind == "filter_projection":
            return self._filter(node, context)
        if kind == "or_expression":
            return self.visit(children[0], context) | self.visit(children[1], context)
        if kind == "flatten":
            return self.visit(children[0], context)
        if kind == "value_projection":
            self.visit(children[0], context)
            return self.visit(children[1], _NOWHERE)
        if kind == "function_expression":
            return self._call(node, context)
        for child in children:
            self.visit(child, context)
        return _NOWHERE

    def _field(self, name: str, context: frozenset[Path]) -> frozenset[Path]:
        paths = frozenset((*path, name) for path in context)
        self.findings.paths.update(paths)
        return paths

    def _check_negation(self, chain: list[Node]) -> None:
        """Refuse `!data.active`: the library negates `data` and then looks for `active` in the answer."""
        if chain[0]["type"] == "not_expression":
            self.findings.problems.append("'!' needs brackets before a path, as in !(data.active)")

    def _chain(self, nodes: Iterable[Node], context: frozenset[Path]) -> frozenset[Path]:
        for node in nodes:
            context = self.visit(node, context)
        return context

    def _filter(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        base, right, condition = node["children"]
        element = self.visit(base, context)
        self.visit(condition, element)
        return self.visit(right, element)

    def _call(self, node: Node, context: frozenset[Path]) -> frozenset[Path]:
        name, arguments = node["value"], node["children"]
        self._check_call(name, arguments)
        for argument in arguments:
            # A reference (&x) is evaluated against elements that only the function knows.
            self.visit(argument, _NOWHERE if argument["type"] == "expref" else context)
        return _NOWHERE

    def _check_call(self, name: str, arguments: list[Node]) -> None:
        if name not in self.arities:
            hint = suggestion(name, self.arities)
            self.findings.problems.append(f"there is no function {name}(){hint}")
            return
        expected, variadic = self.arities[name]
        given = len(arguments)
        if given < expected if variadic else given != expected:
            least = "at least " if variadic else ""
            self.findings.problems.append(
                f"{name}() takes {least}{expected} argument(s), not {given}"
            )
        elif name == "lookup":
            self._check_table(arguments[0])

    def _check_table(self, argument: Node) -> None:
        table = argument.get("value") if argument["type"] == "literal" else None
        if not isinstance(table, str):
            self.findings.problems.append(
                "lookup() takes the name of its table as plain text, as in lookup('name', …)"
            )
        elif table not in self.tables:
            hint = suggestion(table, self.tables) or f"; add [tables.{table}]"
            self.findings.problems.append(f"lookup() names an unknown table '{table}'{hint}")
