"""What would become of a dead letter if it were replayed now."""

from dataclasses import dataclass
from functools import cached_property

from keycloak_bridge.bridge import direct_provisioner
from keycloak_bridge.cli.plan_view import outcome_of
from keycloak_bridge.core.contracts import read_invitation
from keycloak_bridge.core.desired import OutOfScope
from keycloak_bridge.core.errors import BridgeError, TombstoneError
from keycloak_bridge.core.letters import INVITE_STAGE, DeadLetter, original_record
from keycloak_bridge.core.model import Record
from keycloak_bridge.interpretation import Ignored, Interpretation
from keycloak_bridge.provisioner import Provisioner, is_final
from keycloak_bridge.settings import Settings

_WORDS = {
    "create": "created",
    "update": "updated",
    "unchanged": "left as it is",
    "skip": "skipped",
}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would happen, in the words of `would be …`, and why; not every letter `passes`."""

    outcome: str
    detail: str = ""
    passes: bool = True

    @property
    def sentence(self) -> str:
        """The outcome with its reason."""
        return f"would be {self.outcome}" + (f": {self.detail}" if self.detail else "")


class Forecast:
    """Takes letters through the present schemas and mapping, and plans against the realm where its settings are there.

    Each letter is compared with the realm as it is now, not with what the letters before it would make of it.
    """

    def __init__(self, settings: Settings) -> None:
        """Read schemas and mapping; raises ConfigError."""
        self._settings = settings
        self._interpretation = Interpretation(settings)
        self._interpretation.check()

    @property
    def asks_keycloak(self) -> bool:
        """Whether the settings say how to ask the realm."""
        keycloak = self._settings.keycloak
        return bool(keycloak.realm) and keycloak.client_secret is not None

    def of(self, letter: DeadLetter, record: Record) -> Outlook:
        """Return the outlook of `letter`, which is `record`; raises only what would keep every letter from it."""
        original = original_record(letter, record)
        try:
            if letter.stage == INVITE_STAGE:
                read_invitation(original, self._interpretation.catalog)
                return Outlook("mailed", "the mail would be asked for again")
            return self._event(original)
        except TombstoneError as error:
            if self._settings.events.tombstones == "ignore":
                return Outlook("skipped", "tombstone")
            return _refused(error)
        except BridgeError as error:
            if not is_final(error):
                raise
            return _refused(error)

    def _event(self, record: Record) -> Outlook:
        reading = self._interpretation.read(record)
        if isinstance(reading, Ignored):
            return Outlook("skipped", reading.reason)
        event, desired = reading.event, reading.desired
        if isinstance(desired, OutOfScope):
            return Outlook("skipped", "out-of-scope")
        if not self.asks_keycloak:
            return Outlook("accepted", "schema and mapping hold; the realm was not asked")
        _, planned = self._provisioner.plan(event, desired)
        told = outcome_of(planned)
        return Outlook(_WORDS[told["outcome"]], told.get("reason", ""))

    @cached_property
    def _provisioner(self) -> Provisioner:
        return direct_provisioner(self._interpretation)


def _refused(error: BridgeError) -> Outlook:
    where = ", ".join(f"{one.pointer or '/'} {one.message}" for one in error.violations[:3])
    more = ", …" if len(error.violations) > 3 else ""
    return Outlook(
        "refused", f"{error.code}" + (f" ({where}{more})" if where else ""), passes=False
    )
