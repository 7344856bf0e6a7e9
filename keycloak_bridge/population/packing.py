"""Keep a hundred thousand like objects in the memory of a few: each is compressed with the first one as the dictionary."""

import pickle
import zlib
from typing import Generic, TypeVar, cast

_LEVEL = 1
"""Of zlib: with one entry as the dictionary of all others, a higher level gains little."""

_WINDOW = 32_768
_Item = TypeVar("_Item")


class Packer(Generic[_Item]):
    """Packs objects of one type into some hundred bytes each. Only `unpack` is safe to share between threads."""

    def __init__(self) -> None:
        self._dictionary = b""

    def pack(self, item: _Item) -> bytes:
        """Return the object as bytes that this packer alone can read."""
        raw = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        if not self._dictionary:
            self._dictionary = raw[-_WINDOW:]
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=self._dictionary)
        return packer.compress(raw) + packer.flush()

    def unpack(self, packed: bytes) -> _Item:
        """Return the object again."""
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._dictionary)
        # our own bytes, which never leave this process
        return cast("_Item", pickle.loads(unpacker.decompress(packed)))  # noqa: S301
