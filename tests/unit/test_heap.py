"""The listener's heap: threads come and go without an arena of malloc for each."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# malloc_info(3) writes one <heap> element for each arena. A thread gets its arena when it first
# takes memory of the C library, which ctypes makes it do.
_PROGRAM = """
import ctypes, sys, threading
from dicom_node.receiving.heap import keep_heap_small

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
if sys.argv[1] == "kept small":
    assert keep_heap_small()
everybody = threading.Barrier(12)

def work():
    assert libc.malloc(100_000)
    everybody.wait()

threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc, no arenas")
def test_threads_share_two_arenas():
    assert arenas("as it is") > 2
    assert arenas("kept small") == 2


def arenas(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr=")
