"""What stands in a commit beside the offset, so that the next owner of the partition need not find it out again.

The note is `kb1:` and base64url of: a CRC-32; how many lost users, 8 bytes for each; then, per finished range, how far
it begins behind the one before (the first: behind the committed offset) and how long it is. Numbers are varints. The
checksum covers the committed offset, so that a note that was left beside another offset is nobody's.
"""

import zlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keycloak_bridge.core.offset_ranges import tidy

_PREFIX = "kb1:"
_CHECKSUM_BYTES = 4
_FINGERPRINT_BYTES = 8
_OFFSET_LIMIT = 2**63
_RANGE_BYTES = 2  # at least
_VARINT_BYTES = 9  # of 7 bits each


@dataclass(frozen=True, slots=True)
class CommitNotes:
    """What is known of a partition beside its committed offset.

    `finished` are ranges of offsets that need not be done again; `lost` are the 64-bit fingerprints of users one of
    whose events became a dead letter, the newest last.
    """

    finished: tuple[range, ...] = ()
    lost: tuple[int, ...] = ()


def write_notes(offset: int, notes: CommitNotes, limit: int = 3000) -> str:
    """Return `notes` as at most `limit` ASCII characters to commit with `offset`; empty when there is nothing to say.

    Where not all fits, the lost users get half of the room at most and the oldest are left out; then the highest
    finished ranges are. Leaving out is safe: it costs work that is done twice.
    """
    room = (limit - len(_PREFIX)) * 3 // 4 - _CHECKSUM_BYTES
    ranges = tidy(notes.finished, offset)[: max(0, room) // _RANGE_BYTES + 1]  # one more never fits
    finished = list(_encoded_ranges(ranges, offset))
    body = _encoded_lost(notes.lost) + b"".join(finished)
    if len(body) > room:
        lost = _encoded_lost(_newest(notes.lost, room // 2))
        body = lost + b"".join(_fitting(finished, room - len(lost)))
    if not any(body) or len(body) > room:
        return ""
    encoded = urlsafe_b64encode(_checksum(offset, body) + body)
    return _PREFIX + encoded.decode("ascii").rstrip("=")


def read_notes(offset: int, metadata: str | None) -> CommitNotes:
    """Return what `write_notes` wrote for `offset`; nothing when `metadata` is not that, to the last bit."""
    if metadata is None or not metadata.startswith(_PREFIX):
        return CommitNotes()
    try:
        body = _checked_body(offset, metadata[len(_PREFIX) :])
        count, at = _varint(body, 0)
        end = at + count * _FINGERPRINT_BYTES
        return CommitNotes(_decoded_ranges(body, end, offset), _decoded_lost(body, at, end))
    except ValueError:
        return CommitNotes()


def _checked_body(offset: int, encoded: str) -> bytes:
    padding = "=" * (-len(encoded) % 4)
    content = b64decode(encoded + padding, altchars=b"-_", validate=True)
    checksum, body = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if checksum != _checksum(offset, body):
        raise ValueError("damaged")
    return body


def _checksum(offset: int, body: bytes) -> bytes:
    content = str(offset).encode("ascii") + b":" + body
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def _newest(lost: Sequence[int], room: int) -> Sequence[int]:
    kept = len(lost)
    while kept and len(_encoded_number(kept)) + kept * _FINGERPRINT_BYTES > room:
        kept -= 1
    return lost[len(lost) - kept :]


def _fitting(encoded: Sequence[bytes], room: int) -> Iterator[bytes]:
    for one in encoded:
        room -= len(one)
        if room < 0:
            return
        yield one


def _encoded_lost(lost: Sequence[int]) -> bytes:
    fingerprints = (one.to_bytes(_FINGERPRINT_BYTES, "big") for one in lost)
    return _encoded_number(len(lost)) + b"".join(fingerprints)


def _decoded_lost(body: bytes, at: int, end: int) -> tuple[int, ...]:
    if end > len(body):
        raise ValueError("lost users are missing")
    starts = range(at, end, _FINGERPRINT_BYTES)
    return tuple(
        int.from_bytes(body[start : start + _FINGERPRINT_BYTES], "big") for start in starts
    )


def _encoded_ranges(ranges: Sequence[range], offset: int) -> Iterator[bytes]:
    behind = offset
    for one in ranges:
        yield _encoded_number(one.start - behind) + _encoded_number(len(one))
        behind = one.stop


def _decoded_ranges(body: bytes, at: int, offset: int) -> tuple[range, ...]:
    ranges: list[range] = []
    behind = offset
    while at < len(body):
        gap, at = _varint(body, at)
        length, at = _varint(body, at)
        ranges.append(range(behind + gap, behind + gap + length))
        behind = ranges[-1].stop
    if behind >= _OFFSET_LIMIT:
        raise ValueError("no partition is that long")
    return tidy(ranges)


def _encoded_number(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where the next one does."""
    number = 0
    for shift, byte in enumerate(body[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte <= 0x7F:
            return number, at + shift + 1
    raise ValueError("a number has no end")
