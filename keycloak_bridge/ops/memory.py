"""Memory that is freed goes back to the operating system."""

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


def give_back_large_blocks() -> None:
    """Have every block of a megabyte or more returned as soon as it is freed, where the C library is glibc.

    By itself, glibc takes blocks as large as any that was freed before from the heap of the thread, which cannot shrink
    while anything behind them is in use: some threads with a few large records between them keep many times their size.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or none
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
