"""How much of a topic is fetched before what is in hand is done."""

PARTITION_SHARE = 4
"""One partition may take this part of the limit, so that one busy user cannot keep the others out."""

_RESUME_BELOW = 0.5
"""Fetching goes on when no more than this part of the limit is taken, not with each record that ends."""


class Backpressure:
    """Bounds the records in hand and their bytes; what one fetch brings may exceed the limits."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self.full = False
        """Whether a limit was reached when `admits` was asked last."""

    def admits(self, records: int, size_bytes: int, of_partition: int) -> bool:
        """Say whether more may be fetched of a partition that has `of_partition` of the `records` in hand."""
        part = max(records / self._max_records, size_bytes / self._max_bytes)
        self.full = part >= 1 or (self.full and part > _RESUME_BELOW)
        return not self.full and of_partition < max(self._max_records // PARTITION_SHARE, 1)
