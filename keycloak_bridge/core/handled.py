"""What a stage gives back for a record, and what the delivery asks of a stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keycloak_bridge.core.errors import BridgeError
from keycloak_bridge.core.model import Record
from keycloak_bridge.core.ports import Acknowledgement
from keycloak_bridge.core.proof import Proof


@dataclass(frozen=True, slots=True)
class Handled:
    """A record that is done once its acknowledgements are in; `proof` is what it showed to work."""

    acknowledgements: Sequence[Acknowledgement] = ()
    proof: Proof = Proof.NONE


class RecordHandler(Protocol):
    """A stage. Called from many threads, but never for two records of one lane at once."""

    def lane(self, record: Record) -> bytes:
        """Return what names the user of `record`: records of one partition and lane keep their order."""
        ...

    def handle(self, record: Record) -> Handled:
        """Do what the record asks for.

        Raises BridgeError only where the record must wait, the flow must stop or another member has it.
        """
        ...

    def give_up(self, record: Record, error: BridgeError) -> Handled:
        """Make a dead letter of a record that keeps failing while others succeed; raises as `handle`."""
        ...
