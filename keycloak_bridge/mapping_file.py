"""Read a mapping file, or the one that ships with the bridge."""

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from keycloak_bridge.core.desired import InvitationTerms
from keycloak_bridge.core.errors import ConfigError
from keycloak_bridge.core.mapping import AttributeMapping, compile_mapping

DEFAULT_ORIGIN = "default_mapping.toml"
_LONGEST_BYTES = 1_000_000


def load_mapping(
    path: Path | None,
    *,
    has_property: Callable[[tuple[str, ...]], bool],
    invitation: InvitationTerms | None = None,
    match_subject: bool = True,
    identifies_only: bool = False,
) -> AttributeMapping:
    """Return the mapping in `path`, compiled and checked; None means the one that ships with the bridge.

    The other arguments are those of `compile_mapping`. Raises ConfigError that names the file, the key and the reason.
    """
    if path is None:
        origin, text = DEFAULT_ORIGIN, default_mapping_text()
    else:
        origin, text = str(path), _read(path)
    return compile_mapping(
        parse_document(text, origin),
        origin=origin,
        has_property=has_property,
        invitation=invitation,
        match_subject=match_subject,
        identifies_only=identifies_only,
    )


def default_mapping_text() -> str:
    """Return the shipped mapping with its comments, as `init` writes it."""
    return (resources.files("keycloak_bridge") / DEFAULT_ORIGIN).read_text("utf-8")


def parse_document(text: str, origin: str) -> Mapping[str, Any]:
    """Return the TOML document in `text`; raises ConfigError that names `origin` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{origin}: not valid TOML: {error}",
            code="mapping",
            remedy="correct the line; expressions stand in double quotes",
        ) from error


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_BYTES:
            raise ConfigError(f"{path}: too large for a mapping file", code="mapping")
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            code="mapping",
            remedy="name an existing, readable file as mapping.file, or leave it out for the default mapping",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8", code="mapping", remedy="save the file as UTF-8"
        ) from error
