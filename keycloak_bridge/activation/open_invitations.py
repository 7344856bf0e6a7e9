"""The open invitations of one partition, in a table that holds a million of them, and what a commit says of them.

An invitation is open from its record until it is known what became of it. The group's committed offset is that of the first
open one, so that whoever has the partition next reads all of them again, and the lag of the group is how many may be open.
The note of the commit says which of the offsets behind it are open; the others need not be looked at again. It is `kba1:`
and base64url of: a CRC-32 over the committed offset and the rest; 8 bytes for the second until which Keycloak's events are
dealt with, 0 for none; then, compressed, how many offsets the note is about (8 bytes) and a bit for each, set where it is
open. What does not fit counts as open, which costs a look and perhaps a result that was published before, with the same id.
"""

import hashlib
import zlib
from array import array
from base64 import b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from keycloak_bridge.domain.events import Commit

_PREFIX = "kba1:"
_HALF = 64
_MASK = 2**_HALF - 1
_NOTE_BYTES = 2100
"""A commit's metadata holds 4,096 characters, of which a stamp takes a few hundred."""

_MOST_OFFSETS = 2**22
_LATEST_S = 2**40
_COMPACT_ABOVE = 1024
"""So many closed rows are taken out together."""


Origin = tuple[str | None, str | None]
"""Type and schema of an event."""

_UNKNOWN: Origin = (None, None)
_MOST_ORIGINS = 255


@dataclass(slots=True)
class Person:
    """A person with open invitations: since when, in seconds since 1970, and in which record the last one is.

    `origin` is type and schema of the event of the last one, as far as that is known, and `events` has fingerprints of all.
    """

    since_s: int
    last_offset: int
    origin: Origin
    events: set[int] = field(default_factory=set)


class OpenInvitations:
    """The open invitations of one partition, read from `commit` on. A row takes 50 bytes. Used by one thread."""

    def __init__(self, commit: Commit, notes: str = "") -> None:
        """`notes` are those of the commit, without its stamp."""
        found = _read_notes(commit.offset, notes)
        self.next_offset = commit.offset
        """The offset that is read next."""
        self.seen_s = found.seen_s
        """Until when Keycloak's events are dealt with, None where they never were."""
        self._earlier = found
        self._offset = array("q")
        self._high = array("Q")
        self._low = array("Q")
        self._event = array("Q")
        self._since_s = array("q")
        self._look_s = array("q")
        self._origin = bytearray()
        self._origins: list[Origin] = [_UNKNOWN]
        self._is_open = bytearray()
        self._closed = 0
        self._other_ids: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return len(self._offset) - self._closed

    def accept(self, offset: int) -> bool:
        """Note that the record at `offset` was read; say whether it may be open."""
        self.next_offset = offset + 1
        return self._earlier.is_open(offset)

    def add(
        self,
        offset: int,
        keycloak_id: str,
        event: int,
        since_s: int,
        look_s: int,
        origin: Origin = _UNKNOWN,
    ) -> None:
        """Have the person looked at from second `look_s` on, since 1970; `event` is a fingerprint of 64 bits."""
        high, low = key = _key(keycloak_id)
        if _is_hashed(keycloak_id):
            self._other_ids[key] = keycloak_id
        self._offset.append(offset)
        self._high.append(high)
        self._low.append(low)
        self._event.append(event)
        self._since_s.append(min(since_s, _LATEST_S))
        self._look_s.append(min(look_s, _LATEST_S))
        self._origin.append(self._number_of(origin))
        self._is_open.append(1)

    def people(self, keycloak_ids: Collection[str]) -> dict[str, Person]:
        """Return those of `keycloak_ids` that have open invitations."""
        found: dict[str, Person] = {}
        for row, keycloak_id in self._rows(keycloak_ids):
            since_s, offset = self._since_s[row], self._offset[row]
            origin = self._origins[self._origin[row]]
            person = found.setdefault(keycloak_id, Person(since_s, offset, origin))
            person.since_s = min(person.since_s, since_s)
            if offset > person.last_offset:
                person.last_offset, person.origin = offset, origin
            person.events.add(self._event[row])
        return found

    def earliest_s(self) -> int | None:
        """Return since when somebody is watched, as far back as the table goes; None where nobody is."""
        return min(self._since_s) if len(self) else None

    def due(self, now_s: float, most: int) -> list[str]:
        """Return up to `most` people whose time to be looked at has come, each once."""
        if most <= 0:
            return []
        rows = (row for row, look_s in enumerate(self._look_s) if look_s <= now_s)
        return self._names(rows, most)

    def after(self, offset: int, most: int) -> tuple[list[str], int | None]:
        """Return up to `most` people with an invitation behind `offset`, and where to go on; None at the end."""
        first = bisect_right(self._offset, offset)
        rows = range(first, min(first + most, len(self._offset)))
        names = self._names(iter(rows), most)
        return names, self._offset[rows[-1]] if rows and rows.stop < len(self._offset) else None

    def schedule(self, looks: Mapping[str, int]) -> None:
        """Have each of these people looked at again at its second."""
        for row, keycloak_id in self._rows(looks):
            self._look_s[row] = min(looks[keycloak_id], _LATEST_S)

    def close(self, last_offsets: Mapping[str, int]) -> None:
        """Take these people's invitations for done, each up to its offset: a newer one may have come meanwhile."""
        for row, keycloak_id in self._rows(last_offsets):
            if self._offset[row] <= last_offsets[keycloak_id]:
                self._is_open[row] = 0
                self._look_s[row] = _LATEST_S + 1  # is never due
                self._closed += 1
        if self._closed > max(_COMPACT_ABOVE, len(self._offset) // 2):
            self._compact()

    def commit(self) -> Commit:
        """Return the offset of the first open invitation, and the note."""
        if not len(self):
            return Commit(self.next_offset, _write_notes(self.next_offset, self.seen_s, b"", 0))
        begin = self._offset[self._is_open.index(1)]
        span = min(self.next_offset - begin, _MOST_OFFSETS)
        bits = bytearray(span // 8 + 1)
        for row, offset in enumerate(self._offset):
            at = offset - begin
            if self._is_open[row] and 0 <= at < span:
                bits[at >> 3] |= 1 << (at & 7)
        return Commit(begin, _write_notes(begin, self.seen_s, bytes(bits), span))

    def _rows(self, keycloak_ids: Collection[str]) -> Iterator[tuple[int, str]]:
        """Yield each open row of these people, by one pass over the table."""
        wanted = {_key(one): one for one in keycloak_ids}
        lows = {low for _, low in wanted}
        if not lows:
            return
        for row in [at for at, low in enumerate(self._low) if low in lows]:
            keycloak_id = wanted.get((self._high[row], self._low[row]))
            if keycloak_id is not None and self._is_open[row]:
                yield row, keycloak_id

    def _names(self, rows: Iterator[int], most: int) -> list[str]:
        names: dict[str, None] = {}
        for row in rows:
            if self._is_open[row]:
                names[self._name(row)] = None
                if len(names) >= most:
                    break
        return list(names)

    def _name(self, row: int) -> str:
        key = self._high[row], self._low[row]
        return self._other_ids.get(key) or str(UUID(int=key[0] << _HALF | key[1]))

    def _number_of(self, origin: Origin) -> int:
        """Return the place of `origin`, that of the unknown one where there are too many."""
        if origin not in self._origins:
            if len(self._origins) > _MOST_ORIGINS:
                return 0
            self._origins.append(origin)
        return self._origins.index(origin)

    def _compact(self) -> None:
        kept = [row for row, is_open in enumerate(self._is_open) if is_open]
        for name in ("_offset", "_high", "_low", "_event", "_since_s", "_look_s"):
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, (column[row] for row in kept)))
        self._origin = bytearray(self._origin[row] for row in kept)
        self._is_open = bytearray(b"\1" * len(kept))
        self._closed = 0
        keys = set(zip(self._high, self._low, strict=True)) if self._other_ids else set()
        self._other_ids = {key: text for key, text in self._other_ids.items() if key in keys}


def _is_hashed(keycloak_id: str) -> bool:
    try:
        return str(UUID(keycloak_id)) != keycloak_id
    except ValueError:
        return True


def _key(keycloak_id: str) -> tuple[int, int]:
    """Return the 128 bits by which the table knows the user: of its UUID, or of a hash where the id is none."""
    if _is_hashed(keycloak_id):
        text = keycloak_id.encode("utf-8", "surrogatepass")
        number = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
    else:
        number = UUID(keycloak_id).int
    return number >> _HALF, number & _MASK


@dataclass(frozen=True, slots=True)
class _Notes:
    """Of `covered` offsets from `begin` on, `bits` says which are open."""

    begin: int = 0
    seen_s: int | None = None
    covered: int = 0
    bits: bytes = b""

    def is_open(self, offset: int) -> bool:
        at = offset - self.begin
        return not 0 <= at < self.covered or bool(self.bits[at >> 3] >> (at & 7) & 1)


def _write_notes(begin: int, seen_s: int | None, bits: bytes, covered: int) -> str:
    """Return the note, about as many of the `covered` offsets as fit."""
    body = b""
    while covered:
        body = zlib.compress(covered.to_bytes(8, "big") + bits[: covered // 8 + 1], 6)
        if len(body) <= _NOTE_BYTES:
            break
        covered, body = covered * 3 // 4, b""
    content = (seen_s or 0).to_bytes(8, "big") + body
    return _PREFIX + urlsafe_b64encode(_checksum(begin, content) + content).decode()


def _read_notes(begin: int, notes: str) -> _Notes:
    """Return what the note of a commit says; nothing where it is not that, to the last bit."""
    if not notes.startswith(_PREFIX):
        return _Notes(begin)
    try:
        found = b64decode(notes.removeprefix(_PREFIX), altchars=b"-_", validate=True)
        content = found[4:]
        if found[:4] != _checksum(begin, content) or len(content) < 8:
            return _Notes(begin)
        seen_s = int.from_bytes(content[:8], "big") or None
        if len(content) == 8:
            return _Notes(begin, seen_s)
        opened = zlib.decompressobj().decompress(content[8:], _MOST_OFFSETS // 8 + 16)
        covered, bits = int.from_bytes(opened[:8], "big"), opened[8:]
    except (ValueError, zlib.error):
        return _Notes(begin)
    return _Notes(begin, seen_s, min(covered, len(bits) * 8), bits)


def _checksum(begin: int, content: bytes) -> bytes:
    return zlib.crc32(str(begin).encode() + b":" + content).to_bytes(4, "big")
