"""A number in the place of an id, for what is remembered of many users or events."""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence


def fingerprint(key: bytes) -> int:
    """Return 64 bits that stand for `key`, of a record or else, today and in any later process."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


def is_among(numbers: Sequence[int], number: int) -> bool:
    """Say whether `number` is one of the sorted `numbers`."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
