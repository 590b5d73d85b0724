"""Where do large outputs and workspaces live?

Mapping fresh pages costs more than most element-wise kernels: a page fault moves 4 KiB at a
fraction of the memory bandwidth. So blocks that are given back are kept, warm, in a small bounded
pool that all Functions share. An output array over such a block has an owner as its base object,
which gives the block back when the last view is gone.

The pool is native (ir/blocks.ll), because the entry takes blocks without running Python, and
lock-free, because a free-threaded interpreter and a process that forks in mid-call must be able to
use it too. `BlockPool` is the same pool seen from Python.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LARGE_BYTES = 1 << 20
"""Outputs of at least this many bytes come from the pool; smaller ones are allocated by NumPy."""

ALIGNMENT_BYTES = 64
DEFAULT_LIMIT_BYTES = 256 << 20
HUGE_BYTES = 4 << 20
"""Blocks of at least this size start on a huge page, and the system is asked to use such pages
(Linux).
"""

POOL_SLOTS = 64

BLOCKS_CONSTANTS = {
    "POOL_SLOTS": POOL_SLOTS,
    "DEFAULT_LIMIT_BYTES": DEFAULT_LIMIT_BYTES,
    "HUGE_BYTES": HUGE_BYTES,
    "HUGE_PAGE_BYTES": 2 << 20,
    "ALIGNMENT_BYTES": ALIGNMENT_BYTES,
    "SMALLEST_POOLED_BYTES": 64 << 10,
    "MADV_HUGEPAGE": 14,
}

BLOCKS_EXPORTS = ("block_take", "block_give", "pool_limit_set", "pool_bytes_held")


class BlockPool:
    """The process-wide pool of idle blocks. Thread-safe."""

    def __init__(self, addresses: Mapping[str, int], prototype: Any) -> None:
        """`addresses` are those of `BLOCKS_EXPORTS`; `prototype` is the ctypes function factory to
        call them with.
        """
        word, pointer = ctypes.c_int64, ctypes.c_void_p
        self._take = prototype(pointer, word)(addresses["block_take"])
        self._give = prototype(None, pointer)(addresses["block_give"])
        self._limit = prototype(word, word)(addresses["pool_limit_set"])
        self._held = prototype(word)(addresses["pool_bytes_held"])

    def take(self, size: int) -> int:
        """The address of a block of at least `size` bytes, 64-byte aligned. Raises
        `MemoryError`.
        """
        address = self._take(size) if 0 <= size < sys.maxsize else None
        if not address:
            raise MemoryError(f"cannot allocate a block of {size} bytes")
        return int(address)

    def give(self, address: int) -> None:
        """Return a block that `take` or the entry handed out."""
        self._give(address)

    @property
    def limit_bytes(self) -> int:
        """How many bytes idle blocks may hold together. Assigning a smaller number frees what
        exceeds it.
        """
        return int(self._limit(-1))

    @limit_bytes.setter
    def limit_bytes(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"the limit must be at least 0 bytes, got {limit}")
        self._limit(limit)

    @property
    def held_bytes(self) -> int:
        """How many bytes idle blocks hold now."""
        return int(self._held())

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """An uninitialised C-contiguous array; a recycled block if it is large."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE_BYTES or dtype.hasobject:
            return np.empty(shape, dtype)
        lease = _Lease(self, size)
        return np.asarray(lease).view(dtype).reshape(shape)


class _Lease:
    """Owner of a block, held as the base object of the arrays over it."""

    __slots__ = ("_pool", "_address", "__array_interface__")

    def __init__(self, pool: BlockPool, size: int) -> None:
        self._pool = pool
        self._address = pool.take(size)
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (self._address, False),
        }

    def __del__(self) -> None:
        address = getattr(self, "_address", 0)
        if address:
            self._pool.give(address)
