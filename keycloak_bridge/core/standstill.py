"""How long a partition has not come any further although there is work in hand."""

from collections.abc import Mapping

from keycloak_bridge.core.model import TopicPartition


class Standstill:
    """Watches the first unfinished offset of each partition."""

    def __init__(self) -> None:
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def oldest_s(self, first_unfinished: Mapping[TopicPartition, int], now_s: float) -> float:
        """Return for how many seconds the most patient of these records has been the first unfinished one."""
        self._since = {
            partition: self._seen(partition, offset, now_s)
            for partition, offset in first_unfinished.items()
        }
        return max((now_s - since_s for _, since_s in self._since.values()), default=0.0)

    def _seen(self, partition: TopicPartition, offset: int, now_s: float) -> tuple[int, float]:
        known = self._since.get(partition)
        return known if known is not None and known[0] == offset else (offset, now_s)
