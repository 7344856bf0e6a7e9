"""How much may be in hand before fetching pauses, and when it goes on."""

_PARTITION_SHARE = 4
"""One partition may take this part of all room, so that one busy user cannot keep the others out."""

_ON_BELOW = 0.5
"""Fetching goes on when no more than this part of the room is taken, not with each record that ends."""


class Room:
    """Bounds the records in hand and their bytes; what one fetch brings may lie beyond."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._full = False

    @property
    def full(self) -> bool:
        """Whether there was no room at the last look."""
        return self._full

    def has(self, records: int, size_bytes: int, of_partition: int) -> bool:
        """Say whether more may be fetched of a partition that has `of_partition` of the `records` in hand."""
        part = max(records / self._max_records, size_bytes / self._max_bytes)
        self._full = part >= 1 or (self._full and part > _ON_BELOW)
        return not self._full and of_partition < max(self._max_records // _PARTITION_SHARE, 1)
