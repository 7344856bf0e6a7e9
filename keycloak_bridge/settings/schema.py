"""The JSON Schema of the settings file, the check against it, and the sample file: all made from the declarations."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from keycloak_bridge.expressions.expression import suggestion
from keycloak_bridge.settings.fields import Setting, declared, sections
from keycloak_bridge.settings.model import GONE, Settings

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
        name: _object(_summary_of(section_type.__doc__), {})
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
        **_object(_summary_of(Settings.__doc__), properties),
    }


def unknown_key(name: str) -> str:
    """Return the sentence for a key that does not exist: what replaced it, or the nearest one that does exist."""
    if name in GONE:
        return f"is gone: {GONE[name]}"
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
    """Translate one error of the schema to keys; never with the value in it."""
    path = [str(part) for part in error.absolute_path]
    if not path:
        for section in document.keys() - sections(Settings).keys():
            yield section, unknown_key(section)
    elif error.validator == "additionalProperties" and len(path) == 1:
        for key in document[path[0]]:
            if (name := f"{path[0]}.{key}") not in settings_by_name():
                yield name, unknown_key(name)
    elif error.validator == "not":
        given = document[path[0]]
        # a section that is no table satisfies "required" of the schema vacuously
        for one in _of_section(path[0]) if isinstance(given, Mapping) else ():
            if one.kind.secret and {one.key, one.in_file.key} <= given.keys():
                yield one.name, f"is given together with `{one.in_file.key}`; keep one of them"
    elif len(path) == 1:
        yield path[0], f"must be a table: [{path[0]}]"
    else:
        name = ".".join(path[:2])
        yield name, f"must be {settings_by_name()[name].kind.expected}"


def _object(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _summary_of(docstring: str | None) -> str:
    return (docstring or "").splitlines()[0]


_EXAMPLES: Mapping[str, Any] = {
    "kafka.sasl_mechanism": "SCRAM-SHA-512",
    "kafka.sasl_oauth_scope": "kafka",
    "kafka.sasl_username": "keycloak-bridge",
    "kafka.sasl_password_file": "secrets/kafka-password",
    "kafka.ssl_cafile": "secrets/kafka-ca.pem",
    "kafka.ssl_certfile": "secrets/kafka-client.pem",
    "kafka.ssl_keyfile": "secrets/kafka-client.key",
    "kafka.ssl_password_file": "secrets/kafka-key-password",
    "keycloak.realm": "acme",
    "keycloak.client_secret_file": "secrets/keycloak-client-secret",
    "keycloak.client_key_file": "secrets/keycloak-client-key.pem",
    "keycloak.client_key_id": "2026-11",
    "keycloak.client_assertion_file": "/var/run/secrets/tokens/keycloak",
    "keycloak.ca_file": "secrets/keycloak-ca.pem",
    "keycloak.tls_cert_file": "secrets/keycloak-client.pem",
    "keycloak.tls_key_file": "secrets/keycloak-client.key",
    "registry.url": "https://registry.example.com/apis/ccompat/v7",
    "registry.username": "keycloak-bridge",
    "registry.password_file": "secrets/registry-password",
    "registry.token_file": "secrets/registry-token",
    "registry.ca_file": "secrets/registry-ca.pem",
    "ui.token_file": "secrets/ui-token",
    "envelope.id": "body.meta.eventId",
    "envelope.type": "body.meta.eventName",
    "envelope.subject": "body.payload.userId",
    "envelope.time": "body.meta.occurredAt",
    "envelope.dataschema": "body.meta.schema",
    "envelope.source": "body.meta.producer",
    "envelope.data": "body.payload",
    "envelope.types": {"UserCreated": "user.created"},
    "schemas.folders": ["schemas"],
    "mapping.file": "mapping.toml",
    "invite.client_id": "my-app",
    "invite.redirect_uri": "https://app.example.com/",
    "invite.remind_before": "1 day",
    "invite.pace": "14/s",
}
"""Values in the sample file of settings without a telling default."""

_HEADER = """\
# Settings of keycloak-bridge. A line with "#" shows the default or an example; remove the "#" to change it.
# The environment (KEYCLOAK_BRIDGE_SECTION_KEY) overrides this file, and --set overrides the environment.
# Relative paths start at the folder of this file. Check it with: keycloak-bridge check-config
"""


def sample_toml(active: Mapping[str, Any] | None = None) -> str:
    """Return a settings file with every key explained; only those in `active` are set, to the values given."""
    active = active or {}
    unknown = active.keys() - settings_by_name().keys()
    if unknown:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    lines = [_HEADER]
    for name, section_type in sections(Settings).items():
        lines += [f"# {_summary_of(section_type.__doc__)}", f"[{name}]"]
        for one in _of_section(name):
            options = one.kind.schema.get("enum")
            choices = f" One of: {', '.join(options)}." if options else ""
            lines.append(f"# {one.doc}{choices}")
            value = active.get(one.name, _EXAMPLES.get(one.name, one.default))
            assignment = f"{one.key} = {toml_value('...' if value is None else value)}"
            lines.append(assignment if one.name in active else f"# {assignment}")
        lines.append("")
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    """Return `value` as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_value(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value) if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)


def _of_section(section: str) -> Iterator[Setting]:
    return (one for one in settings_by_name().values() if one.section == section)
