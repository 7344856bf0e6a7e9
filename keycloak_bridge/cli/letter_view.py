"""One dead letter on an operator's terminal: reasons, headers, key and body."""

import json

from keycloak_bridge.cli.console import Console
from keycloak_bridge.cli.letter_options import counted
from keycloak_bridge.core.contracts import DEAD_LETTER_PREFIX, dead_letter_headers
from keycloak_bridge.core.errors import Violation
from keycloak_bridge.core.letters import DeadLetter
from keycloak_bridge.core.marked_json import ARROW, escaped_excerpt, marked_json, printable
from keycloak_bridge.core.model import Record
from keycloak_bridge.core.replays import REPLAY_PREFIX, Place

_LONGEST_EXCERPT = 2048
_FRAME_BYTES = 5
"""Confluent's serializers put a zero byte and a schema id before the JSON."""


def print_letter(console: Console, record: Record, letter: DeadLetter | None) -> None:
    """Print everything that stands in `record`, personal data included; `letter` is what was read of it."""
    reasons = dict(dead_letter_headers(record))
    errors = reasons.pop(f"{DEAD_LETTER_PREFIX}errors", "")
    violations = _violations(errors)
    facts = [("letter", str(Place(record.partition, record.offset)))]
    if letter is not None:
        facts += [("event type", letter.event_type or "-"), ("user", letter.user_id or "-")]
    facts += [(name.removeprefix(DEAD_LETTER_PREFIX), text) for name, text in reasons.items()]
    if errors and not violations:
        facts.append(("errors", errors))
    _facts(console, "Dead letter", facts)
    others = [one for one in record.headers if not one[0].startswith(DEAD_LETTER_PREFIX)]
    added = [one for one in others if one[0].startswith(REPLAY_PREFIX)]
    _facts(console, "Replay that failed again", [(n, _bytes_text(v)) for n, v in added])
    _facts(console, "Headers", [(n, _bytes_text(v)) for n, v in others if (n, v) not in added])
    console.line(f"Key: {_bytes_text(record.key)}", "bold")
    console.line()
    _body(console, record.value, violations)


def _facts(console: Console, title: str, facts: list[tuple[str, str]]) -> None:
    if not facts:
        return
    console.line(title, "bold")
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        console.line(f"  {printable(name):<{width}}  {printable(text)}")
    console.line()


def _body(console: Console, value: bytes | None, violations: list[Violation]) -> None:
    if not value:
        console.line("Body: none", "bold")
        marked = None
    else:
        framed = value[:1] == b"\x00" and len(value) > _FRAME_BYTES
        bare = value[_FRAME_BYTES:] if framed else value
        frame = f", {_FRAME_BYTES} of them a serializer's frame" if framed else ""
        console.line(f"Body ({counted(len(value), 'byte')}{frame})", "bold")
        marked = marked_json(bare, violations)
        if marked is None:
            console.line(escaped_excerpt(value, _LONGEST_EXCERPT))
            rest = len(value) - _LONGEST_EXCERPT
            if rest > 0:
                console.line(f"… and {counted(rest, 'byte')} more")
    for line in marked.lines if marked else ():
        console.line(line, "red" if f"   {ARROW} " in line else None)
    elsewhere = violations if marked is None else marked.elsewhere
    if elsewhere:
        console.line()
        console.line("Broken rules" if marked is None else "Broken rules elsewhere", "bold")
        for one in elsewhere:
            console.line(printable(f"  {one.pointer or '/'}: {one.message} ({one.keyword})"), "red")


def _violations(errors: str) -> list[Violation]:
    """Return what the header holds; anybody can write one."""
    try:
        found = json.loads(errors)
        return [Violation(str(one["pointer"]), str(one["keyword"]), str(one["message"])) for one in found]  # fmt: skip
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _bytes_text(value: bytes | None) -> str:
    return "null" if value is None else escaped_excerpt(value, _LONGEST_EXCERPT)
