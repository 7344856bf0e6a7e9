"""How long a member may write after Kafka last confirmed that it belongs to its group."""

from dataclasses import dataclass


@dataclass(slots=True)
class Lease:
    """Holds for `length_s` seconds after each proof of membership.

    Kafka gives the partitions of a member that fell silent to others once its session has ended. A member that was
    frozen, or cut off from Kafka, does not hear of it, so it must stop writing by itself before that moment.
    """

    length_s: float
    proven_at_s: float | None = None

    def renew(self, asked_at_s: float) -> None:
        """Note a proof: an answer from the group's coordinator to a question of second `asked_at_s`."""
        if self.proven_at_s is None or asked_at_s > self.proven_at_s:
            self.proven_at_s = asked_at_s

    def holds(self, now_s: float) -> bool:
        """Say whether a write may begin now."""
        return self.proven_at_s is not None and now_s - self.proven_at_s < self.length_s
