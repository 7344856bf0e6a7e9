"""Every code that a dead letter can carry has a recommended action."""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import keycloak_bridge
from keycloak_bridge.messages.recommended_actions import RECOMMENDED_ACTIONS, recommended_action

NEVER_IN_A_DEAD_LETTER = frozenset(
    {
        "administrator-credentials",
        "administrator-forbidden",
        "brake",
        "brake-engaged",
        "busy",
        "configuration",
        "dead-letter-not-written",
        "duplicate-user",
        "error",
        "event",
        "foreign-realm",
        "held",
        "journal",
        "unsafe-file",
        "kafka",
        "kafka-access",
        "kafka-ca-file",
        "kafka-refused",
        "kafka-tls-cert",
        "kafka-unavailable",
        "keycloak",
        "keycloak-access",
        "keycloak-answer-too-large",
        "keycloak-busy",
        "keycloak-ca-file",
        "keycloak-credentials",
        "keycloak-forbidden",
        "keycloak-no-answer",
        "keycloak-tls",
        "keycloak-token-refused",
        "keycloak-unavailable",
        "keycloak-unreachable",
        "keycloak-url",
        "mail-in-doubt",
        "mail-not-sent",
        "mails-undecided",
        "mapping",
        "not-a-registry",
        "not-keycloak",
        "organizations-disabled",
        "pace",
        "partition-revoked",
        "published",
        "realm-in-motion",
        "realm-not-found",
        "realm-refused",
        "record-unreadable",
        "registry-access",
        "registry-unavailable",
        "registry-url",
        "rejects",
        "schema",
        "catching-up",
        "second-look",
        "secret-unreadable",
        "settings",
        "topic-missing",
        "under-way",
        "user-not-found",
        "workers-stuck",
        "client-key-unusable",
        "jwt-not-installed",
        "keycloak-tls-cert",
        "tracing-environment",
        "tracing-not-installed",
    }
)
"""Codes of errors that stop the bridge, make it wait, leave the record to another member, or mean a skipped mail."""

BUILT_FROM_PARTS = frozenset(
    {
        "body-omitted",
        "group-not-allowed",
        "organization-not-allowed",
        "role-not-allowed",
        "unknown-schema",
        "unknown-type",
    }
)


def sources() -> Iterator[ast.Module]:
    """Yield every module of the flow that knows errors; other things have codes too."""
    root = Path(keycloak_bridge.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if not {"sandbox", "cli", "testing"} & set(path.relative_to(root).parts):
            module = ast.parse(path.read_text(encoding="utf-8"))
            if path.name == "errors.py" or "errors" in imported(module):
                yield module


def imported(module: ast.Module) -> set[str]:
    froms = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    return {(node.module or "").rpartition(".")[2].rpartition("_")[2] for node in froms}


def text(node: ast.expr | None) -> Iterator[str]:
    """Yield what a literal, or either branch of a conditional, holds."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from chain(text(node.body), text(node.orelse))


def code_parameters(module: ast.Module) -> dict[str, int]:
    """Return the functions and classes of `module` that take a `code`, and at which position."""
    found: dict[str, int] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            if "code" in names:
                found[node.name] = names.index("code")
        elif isinstance(node, ast.ClassDef):
            for name, position in code_parameters(ast.Module(node.body, [])).items():
                if name == "__init__":
                    found[node.name] = position - 1
    return found


def is_row(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "_Row"
    )


def codes(module: ast.Module) -> Iterator[str]:
    takers = code_parameters(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from text(keyword.value)
            if isinstance(node.func, ast.Name) and node.func.id in takers:
                yield from chain.from_iterable(map(text, node.args[takers[node.func.id] :][:1]))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id.endswith("_code") for one in targets):
                yield from text(node.value)
        elif isinstance(node, ast.Dict) and all(is_row(one) for one in node.values):
            yield from chain.from_iterable(map(text, node.keys))


CODES = frozenset(chain.from_iterable(map(codes, sources()))) | BUILT_FROM_PARTS


@pytest.mark.parametrize("code", sorted(CODES - NEVER_IN_A_DEAD_LETTER))
def test_code_has_an_advice(code: str) -> None:
    """The reader of the dead letter learns what to do."""
    assert recommended_action(code) == RECOMMENDED_ACTIONS[code]


def test_advice_and_documentation_have_the_same_codes() -> None:
    """An advice for a code that nothing raises would mislead."""
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")
    section = page.partition("### Codes")[2].partition("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]

    assert set(RECOMMENDED_ACTIONS) <= CODES
    assert set(RECOMMENDED_ACTIONS) == set(re.findall(r"`([a-z-]+)`", " ".join(rows)))


def test_code_of_a_later_version_is_advised_too() -> None:
    """An unknown code gets a general advice, no error."""
    assert "replay" in recommended_action("code-of-the-future")
