"""The C library's heap, kept in a few arenas however many threads have lived."""

from __future__ import annotations

import ctypes

# M_ARENA_MAX of <malloc.h>.
_ARENA_MAX = -8
_ARENAS = 2


def keep_heap_small() -> bool:
    """Let all threads of this process share two arenas of malloc, and tell whether that is set.

    The listener gives each connection a thread. glibc gives a new thread an arena of its own, up to
    eight for each processor, and an arena hardly ever gives memory back: over thousands of
    associations the process would grow by steps that nothing lives in. Threads that share an arena
    wait for each other no longer than the interpreter's own lock makes them. Another C library has
    no such setting, nor such arenas.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_ARENA_MAX, _ARENAS))
