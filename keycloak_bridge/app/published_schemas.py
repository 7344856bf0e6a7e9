"""The record of the schema versions that were published, which never change: a file of their digests."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from keycloak_bridge.domain.errors import ConfigError, EventDecodeError
from keycloak_bridge.domain.json_reader import parse_json
from keycloak_bridge.ops.private_files import PUBLIC, replace_file

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RESTORE = "restore it from version control"


def read_published(file: Path, *, needed: bool = True) -> dict[str, str]:
    """Return what `file` records, nothing where there is none and it is not `needed`; raises ConfigError (code `published`)."""
    try:
        recorded = parse_json(file.read_bytes())
    except FileNotFoundError:
        if not needed:
            return {}
        raise _unusable(file, "does not exist", "`--record` creates it") from None
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}", "let it be read") from error
    except EventDecodeError as error:
        raise _unusable(file, error.message, _RESTORE) from error
    if not isinstance(recorded, dict) or not all(map(_is_digest, recorded.values())):
        raise _unusable(file, "must be an object of SHA-256 sums by name", _RESTORE)
    return recorded


def write_published(file: Path, published: Mapping[str, str]) -> None:
    """Write `published` as a whole or not at all; raises ConfigError (code `published`)."""
    text = json.dumps(dict(sorted(published.items())), indent=2) + "\n"
    try:
        replace_file(file, text.encode(), mode=PUBLIC)
    except OSError as error:
        raise _unusable(
            file, f"cannot be written: {error.strerror}", "let its folder be written to"
        ) from error


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _unusable(file: Path, reason: str, remedy: str) -> ConfigError:
    return ConfigError(f"{file}: {reason}", code="published", remedy=remedy)
