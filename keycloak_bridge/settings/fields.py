"""Declare a setting once: its default, its kind and its meaning, in the metadata of a dataclass field."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keycloak_bridge.settings.kinds import Kind, secret_file

FILE_SUFFIX = "_file"
ENVIRONMENT_PREFIX = "KEYCLOAK_BRIDGE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is declared; `default` is written as in the file, None where there is none.

    `attribute` is what it fills in Python: the key, except for the `_file` form of a secret.
    """

    section: str
    key: str
    kind: Kind
    default: Any
    doc: str
    attribute: str

    @property
    def name(self) -> str:
        """The full key, `section.key`."""
        return f"{self.section}.{self.key}"

    @property
    def target(self) -> str:
        """What it fills, `section.attribute`."""
        return f"{self.section}.{self.attribute}"

    @property
    def environment_name(self) -> str:
        """The name in the environment."""
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.key}".upper()

    @property
    def in_file(self) -> "Setting":
        """The same secret, given as the name of the file that holds it."""
        return Setting(
            self.section,
            self.key + FILE_SUFFIX,
            secret_file(),
            None,
            f"File that holds `{self.key}`; it is read again whenever the secret is needed.",
            self.attribute,
        )


def setting(kind: Kind, default: Any, doc: str) -> Any:
    """Return a dataclass field whose default is what `default` means in the file."""
    value = None if default is None else kind.convert(default, Path())
    metadata = {"kind": kind, "default": default, "doc": doc}
    if isinstance(value, dict):
        return dataclasses.field(default_factory=lambda: dict(value), metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


def section(of: type[Any]) -> Any:
    """Return a dataclass field that holds the settings of one section."""
    return dataclasses.field(default_factory=of, metadata={"section": of})


def sections(settings_type: type[Any]) -> Mapping[str, type[Any]]:
    """Return the dataclass of each section by its name."""
    return {
        field.name: field.metadata["section"]
        for field in dataclasses.fields(settings_type)
        if "section" in field.metadata
    }


def declared(settings_type: type[Any]) -> Iterator[Setting]:
    """Yield every setting in the order of declaration; a secret is followed by its `_file` form."""
    for name, section_type in sections(settings_type).items():
        for field in dataclasses.fields(section_type):
            meta = field.metadata
            one = Setting(name, field.name, meta["kind"], meta["default"], meta["doc"], field.name)
            yield one
            if one.kind.secret:
                yield one.in_file
