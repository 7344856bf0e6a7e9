"""The JSON Schema of the settings file, made from the declarations, and the check against it."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from keycloak_bridge.core.expression_analysis import suggestion
from keycloak_bridge.settings.fields import Setting, declared, sections
from keycloak_bridge.settings.model import Settings

Problem = tuple[str, str]
"""A key (`section` or `section.key`) and what is wrong with it, as a sentence without subject."""


@cache
def settings_by_name() -> Mapping[str, Setting]:
    """Return every setting by its full key, `_file` forms included."""
    return {one.name: one for one in declared(Settings)}


@cache
def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (Draft 2020-12) of the settings file."""
    properties = {
        name: _object(_first_line(section_type.__doc__), {})
        for name, section_type in sections(Settings).items()
    }
    for one in settings_by_name().values():
        described = {"description": one.doc, **one.kind.schema}
        if one.default is not None:
            described["default"] = one.default
        properties[one.section]["properties"][one.key] = described
        if one.kind.secret:
            clash = {"required": [one.key, one.in_file.key]}
            properties[one.section].setdefault("allOf", []).append({"not": clash})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:keycloak-bridge:settings",
        "title": "Settings of keycloak-bridge",
        **_object(_first_line(Settings.__doc__), properties),
    }


def unknown_key(name: str) -> str:
    """Return the sentence for a key that does not exist, with the nearest one that does."""
    known = settings_by_name()
    section, _, key = name.partition(".")
    if section in sections(Settings):
        siblings = [one.key for one in known.values() if one.section == section]
        return f"unknown key{suggestion(key, siblings) or suggestion(name, known)}"
    if not key:
        return f"unknown section{suggestion(section, sections(Settings))}"
    return f"unknown key{suggestion(name, known)}"


def check(document: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with `document`, each key once, in the order of the document."""
    problems: dict[str, str] = {}
    for error in Draft202012Validator(settings_schema()).iter_errors(document):
        for name, reason in _problems(error, document):
            problems.setdefault(name, reason)
    return list(problems.items())


def _problems(error: ValidationError, document: Mapping[str, Any]) -> Iterator[Problem]:
    """Say one error of the schema in terms of keys; never with the value in it."""
    path = [str(part) for part in error.absolute_path]
    if not path:
        for section in document.keys() - sections(Settings).keys():
            yield section, unknown_key(section)
    elif error.validator == "additionalProperties" and len(path) == 1:
        for key in document[path[0]]:
            if (name := f"{path[0]}.{key}") not in settings_by_name():
                yield name, unknown_key(name)
    elif error.validator == "not":
        for one in settings_by_name().values():
            if one.section == path[0] and one.kind.secret and _both(one, document[path[0]]):
                yield one.name, f"stands beside `{one.in_file.key}`; keep one of them"
    elif len(path) == 1:
        yield path[0], f"must be a table: [{path[0]}]"
    else:
        name = ".".join(path[:2])
        yield name, f"must be {settings_by_name()[name].kind.expected}"


def _both(secret: Setting, section: Any) -> bool:
    # a section that is no table satisfies "required" of the schema vacuously
    return isinstance(section, Mapping) and {secret.key, secret.in_file.key} <= section.keys()


def _object(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().splitlines()[0]
