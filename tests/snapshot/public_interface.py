"""Collect what users see of the bridge: names and shapes apart from English texts.

`python -m tests.snapshot.public_interface` writes both snapshots. Names and shapes change only with an entry in the
CHANGELOG; texts change with the documentation.
"""

import ast
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import click

from keycloak_bridge.cli.common import exit_code_of
from keycloak_bridge.cli.main import COMMANDS, app
from keycloak_bridge.domain import errors as error_tree
from keycloak_bridge.domain.errors import BridgeError, EventValidationError, HoldError, Violation
from keycloak_bridge.domain.events import Invitation, Message, Outcome, Purpose, Record, Result
from keycloak_bridge.domain.users import InvitationTerms
from keycloak_bridge.expressions.functions import function_docs
from keycloak_bridge.messages.dead_letters import dead_letter_message
from keycloak_bridge.messages.invitations import invitation_message
from keycloak_bridge.messages.recommended_actions import RECOMMENDED_ACTIONS
from keycloak_bridge.messages.results import result_message
from keycloak_bridge.ops.metrics import Metrics
from keycloak_bridge.settings.model import Settings
from keycloak_bridge.settings.schema import settings_by_name, settings_schema

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))  # as pytest finds it

from source_calls import source_calls  # noqa: E402

NAMES = Path(__file__).with_name("names.json")
TEXTS = Path(__file__).with_name("texts.json")

_NOT_OF_USERS = ("testing/", "sandbox/")
_TIME = datetime(2026, 11, 2, 1, 1, 7, tzinfo=UTC)
_RECORD = Record("user-events", 3, 42, 1_793_581_267_000, b"u-1", b"{}", (("ce_id", b"e-1"),))


@cache
def public_names() -> dict[str, Any]:
    """Return names and shapes: commands, settings, topics, messages, errors, metrics, log actions."""
    return {
        "commands": {name: _command(one) for name, one in _commands()},
        "settings": _without(settings_schema(), "description", "title"),
        "defaults": {name: repr(one.default) for name, one in settings_by_name().items()},
        "topics": {name: getattr(Settings().topics, name) for name in _topic_names()},
        "messages": {name: _message(one) for name, one in _messages().items()},
        "errors": {one.__name__: _error(one) for one in _error_classes()},
        "codes": sorted(set(RECOMMENDED_ACTIONS) | _codes()),
        "metrics": {one.name: [one.kind, *one.labels] for one in Metrics().declared},
        "log actions": sorted(_log_actions()),
        "mapping functions": sorted(function_docs()),
    }


@cache
def public_texts() -> dict[str, Any]:
    """Return the English of the same."""
    return {
        "overview": {name: one.summary for name, one in COMMANDS.items()},
        "commands": {name: _command_texts(one) for name, one in _commands()},
        "settings": {name: one.doc for name, one in settings_by_name().items()},
        "metrics": {one.name: one.meaning for one in Metrics().declared},
        "actions": dict(RECOMMENDED_ACTIONS),
        "mapping functions": dict(function_docs()),
    }


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(app)
    yield "", app
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", one) for part, one in command.commands.items())


def _command(command: click.Command) -> dict[str, Any]:
    return {
        " ".join([*one.opts, *one.secondary_opts]): {
            "kind": one.param_type_name,
            "type": repr(one.type.to_info_dict().get("choices", one.type.name)),
            "required": one.required,
            "nargs": one.nargs,
            "multiple": one.multiple,
            "flag": getattr(one, "is_flag", False),
            "default": repr(one.default) if isinstance(one.default, str | int | bool) else None,
            "envvar": one.envvar,
        }
        for one in command.params
    }


def _command_texts(command: click.Command) -> dict[str, Any]:
    return {
        "help": command.help,
        "epilog": command.epilog,
        "options": {
            one.opts[-1]: one.help for one in command.params if isinstance(one, click.Option)
        },
    }


def _topic_names() -> Iterator[str]:
    return (name.partition(".")[2] for name in settings_by_name() if name.startswith("topics."))


def _messages() -> dict[str, Message]:
    terms = InvitationTerms(("UPDATE_PASSWORD",), 259_200, "app", "https://app.example/")
    invitation = Invitation("e-1/invitation", "e-1", "u-1", "kc-1", terms, _TIME)
    violation = Violation("/data/email", "format", "is no e-mail address")
    result = Result(
        Outcome.REJECTED,
        reason="schema-violation",
        message="the data breaks its schema",
        event_id="e-1",
        event_type="user.created",
        user_id="u-1",
        keycloak_id="kc-1",
        schema_id="urn:keycloak-bridge:schema:user.created:1.0",
        violations=(violation,),
        changed=("email",),
        mapping="0123456789ab",
    )
    return {
        "result": result_message(result, topic="user-results", time=_TIME, origin=_RECORD),
        "invitation": invitation_message(invitation, topic="user-invitations"),
        "confirmation": invitation_message(
            Invitation(
                "e-2",
                "e-1",
                "u-1",
                "kc-1",
                terms,
                _TIME,
                confirm_only=True,
                purpose=Purpose.VERIFY_EMAIL,
            ),
            topic="user-invitations",
        ),
        "dead letter": dead_letter_message(
            _RECORD,
            EventValidationError("the data breaks its schema", violations=(violation,)),
            topic="user-events-dead-letters",
            step="schema",
            group="keycloak-bridge",
            schema_id=result.schema_id,
            event_id="e-1",
            time=_TIME,
            bridge_version="0",
        ),
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "key": _text(message.key),
        "value": _text(message.value),
        "headers": {
            name: _text(value) for name, value in message.headers if name != "kb-dlq-action"
        },
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _error_classes() -> list[type[BridgeError]]:
    found = [one for one in vars(error_tree).values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, BridgeError)]


def _error(kind: type[BridgeError]) -> dict[str, Any]:
    error = kind("", wait_s=1.0) if issubclass(kind, HoldError) else kind("")
    return {
        "code": error.code,
        "disposition": error.disposition.value,
        "exit code": exit_code_of(error),
    }


def _codes() -> set[str]:
    """Return each code that the source names when it raises an error."""
    found = set()
    for _, call in source_calls(*_NOT_OF_USERS):
        for keyword in call.keywords:
            if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                found.add(str(keyword.value.value))
    return found


def _log_actions() -> set[str]:
    """Return each action that the source logs by its name; the outcomes are logged besides."""
    found = {one.value for one in Outcome}
    for _, call in source_calls(*_NOT_OF_USERS):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name == "log_event" and isinstance(call.args[1], ast.Constant):
            found.add(str(call.args[1].value))
    return found


def _without(value: Any, *names: str) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, *names) for k, v in value.items() if k not in names}
    if isinstance(value, list):
        return [_without(one, *names) for one in value]
    return value


def as_json(value: Any) -> str:
    """Return the snapshot's text."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str) + "\n"


if __name__ == "__main__":
    NAMES.write_text(as_json(public_names()), encoding="utf-8")
    TEXTS.write_text(as_json(public_texts()), encoding="utf-8")
