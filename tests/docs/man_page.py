"""The man page of the command line, docs/keycloak-bridge.1, which wheel and sdist install as share/man/man1."""

import inspect
import re
from collections.abc import Iterator

import click

from keycloak_bridge import __version__
from keycloak_bridge.cli.main import COMMANDS, PROGRAM, app

_ENVIRONMENT = {
    "KEYCLOAK_BRIDGE_CONFIG": "The settings file, where --config does not name one.",
    "KEYCLOAK_BRIDGE_SECTION_KEY": "One setting, such as KEYCLOAK_BRIDGE_KAFKA_GROUP_ID; it overrides the file.",
    "KEYCLOAK_BRIDGE_CACHE": "Where demo and sandbox keep what they have downloaded.",
}
_FILES = {
    "bridge.toml": "Settings, read from the working folder where nothing else is named. init writes one with every setting explained."
}
_EXIT_STATUS = {
    "0": "Done.",
    "1": "Something is invalid: an event, a differing case, a conflict, a failed check.",
    "2": "Usage or configuration.",
    "3": "Stopped.",
    "4": "Something would change (only with --exit-code).",
    "5": "Stopped, but not in time (run).",
    "130": "Interrupted.",
}
_SEE_ALSO = "doctor says what is wrong with a set-up and how to fix it; check-config shows the settings in force."


def man_page() -> str:
    """Return the page in the macros of man(7)."""
    lines = [
        f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"',
        *(".SH NAME", rf"{_text(PROGRAM)} \- bring users from Kafka into Keycloak"),
        *(
            ".SH SYNOPSIS",
            rf".B {_text(PROGRAM)}",
            r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]...",
        ),
        *(".SH DESCRIPTION", *_prose(app.help)),
        *(".SH OPTIONS", *_options(app)),
        ".SH COMMANDS",
    ]
    for name in COMMANDS:
        lines += _command(name, _found(name))
    for title, terms in (
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", _FILES),
        ("EXIT STATUS", _EXIT_STATUS),
    ):
        lines += [f".SH {title}"]
        for term, meaning in terms.items():
            lines += [".TP", rf".B {_text(term)}", _text(meaning)]
    return "\n".join([*lines, ".SH SEE ALSO", _text(_SEE_ALSO), ""])


def _found(name: str) -> click.Command:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    return command


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    parts = command.commands if isinstance(command, click.Group) else {}
    usage = " ".join(["[OPTIONS]", *map(_metavar, arguments), *(["COMMAND"] if parts else [])])
    yield f'.SS "{_text(f"{PROGRAM} {name} {usage}")}"'
    yield from _prose(command.help)
    yield from _options(command)
    yield from _prose(command.epilog)
    for part, one in parts.items():
        yield from _command(f"{name} {part}", one)


def _options(command: click.Command) -> Iterator[str]:
    """Yield the options of a command; those for settings, which every command has, stand with the program's own."""
    everywhere = {one.name for one in app.params} if command is not app else set()
    for one in command.params:
        if isinstance(one, click.Option) and one.name not in everywhere and not one.hidden:
            names = ", ".join([*one.opts, *one.secondary_opts])
            takes = "" if one.is_flag or one.count else f" {_metavar(one)}"
            shown = f" [default: {one.default}]" if one.show_default is True else ""
            yield from (".TP", rf".B {_text(names + takes)}", _text(f"{one.help or ''}{shown}"))


def _metavar(one: click.Parameter) -> str:
    choices = one.type.choices if isinstance(one.type, click.Choice) else None
    what = one.metavar or (f"[{'|'.join(map(str, choices))}]" if choices else "")
    what = what or (one.name if isinstance(one, click.Argument) else one.type.name).upper()
    if one.metavar or isinstance(one, click.Option):
        return what
    what = what if one.required else f"[{what}]"
    return f"{what}..." if one.nargs == -1 else what


def _prose(text: str | None) -> Iterator[str]:
    """Yield paragraphs; one that begins with click's backspace keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield from (".PP", ".nf", *map(_text, lines[1:]), ".fi")
        elif lines:
            yield from (".PP", _text(" ".join(line.strip() for line in lines)))


def _text(plain: str) -> str:
    """Return text that roff prints as it is, so that commands can be copied from the page."""
    escaped = plain.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    escaped = escaped.replace("'", r"\(aq").replace("`", r"\(ga")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
