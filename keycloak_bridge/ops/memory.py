"""Memory that is freed goes back to the operating system, and the search for cycles costs little."""

import contextlib
import ctypes
import gc

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


def give_back_large_blocks() -> None:
    """Have every block of a megabyte or more returned as soon as it is freed, where the C library is glibc.

    By itself, glibc takes blocks as large as any that was freed before from the heap of the thread, which cannot shrink
    while anything behind them is in use: some threads with a few large records between them keep many times their size.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or none
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


_NEW_OBJECTS = 10_000


def collect_garbage_rarely() -> None:
    """Leave what exists now to the end of the process, and look for cycles among newer objects only now and then.

    Python's own measure, 700 objects, is that of two events: it looked at all records in hand and at every module over and
    over, for a fifth of the CPU of a batch, and found next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
