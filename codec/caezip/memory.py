"""How a process returns memory to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

GLIBC_TRIM_THRESHOLD, GLIBC_MMAP_THRESHOLD, GLIBC_ARENA_MAX = -1, -3, -8  # mallopt(3)
# A page that comes back from the system has to be cleared: smaller blocks, of which a tile
# takes hundreds, are worth keeping.
MMAP_THRESHOLD_BYTES, TRIM_THRESHOLD_BYTES = 2 << 20, 8 << 20
ARENAS = 2  # which threads share: each of its own keeps some memory


def return_freed_memory() -> None:
    """Keep this process from holding on to what the networks have freed, where it uses glibc.

    The commands do so. It concerns all of a program, so it is the program's to call, once and
    early. glibc's threshold above which blocks go back to the system grows with use, to 32 MiB:
    large pictures then peak at twice the memory. Other allocators lack the setting; there this
    does nothing.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(GLIBC_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(GLIBC_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)  # setting either fixes both
        mallopt(GLIBC_ARENA_MAX, ARENAS)
