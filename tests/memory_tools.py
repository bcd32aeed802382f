"""What the programs of memory tests measure with."""

from __future__ import annotations

# The bytes that malloc has handed out; glibc's alone says so.
ALLOCATED = """
import ctypes

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks"
    _fields_ = [(name, ctypes.c_size_t) for name in [*names.split(), "keepcost"]]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info

def allocated():
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd
"""
