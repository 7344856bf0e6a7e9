"""A secret that never prints itself, given as text or as the path of a file that is read when needed."""

from pathlib import Path

from keycloak_bridge.domain.errors import ConfigError
from keycloak_bridge.ops import redaction

MASK = "********"


class Secret:
    """A secret from the settings, or the file that holds it; only `reveal` returns it."""

    __slots__ = ("_path", "_value")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        if (value is None) == (path is None):
            raise ValueError("a secret has either a value or a path")
        self._value = value
        self._path = path
        if value is not None:
            redaction.shared.add(value)

    @property
    def path(self) -> Path | None:
        """The file that holds the secret, None for a secret given as text."""
        return self._path

    def reveal(self) -> str:
        """Return the secret; all logs mask it from then on.

        The file is read on each call, so a rotated secret takes effect at once. Raises ConfigError when it cannot be read or
        is empty.
        """
        if self._path is None:
            return self._value or ""
        try:
            secret = self._path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the secret file {self._path} cannot be read",
                code="secret-unreadable",
                remedy="Create the file, or let the bridge's user read it.",
            ) from error
        if not secret:
            raise ConfigError(
                f"the secret file {self._path} is empty",
                code="secret-unreadable",
                remedy="Write the secret into the file.",
            )
        redaction.shared.add(secret)
        return secret

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return self._path is not None or bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._value, self._path) == (other._value, other._path)

    def __hash__(self) -> int:
        return hash((self._value, self._path))
