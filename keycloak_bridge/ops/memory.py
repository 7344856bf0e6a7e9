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


_NEW_OBJECTS = 200_000
_FEW_TIMES = 5


def collect_garbage_rarely() -> None:
    """Leave what exists now to the end of the process, and look for cycles only where many objects more are in memory.

    The records in hand, up to a thousand, come and go by up to a hundred thousand objects without any cycle. By Python's
    own measure, 700 objects, they were looked at over and over, which took a fifth of the CPU of a batch and found next to
    nothing. A failure leaves no cycle (domain/future.py), so that what waits to be found is small.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _FEW_TIMES, _FEW_TIMES)
