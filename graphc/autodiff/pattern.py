"""Which elements of a sparse matrix may differ from zero?  A pattern: its positions, row by row.

Compressed sparse rows, the columns of a row in increasing order, none twice. A pattern is a value:
its arrays are read-only, it is equal to another with the same positions, and it can be pickled and
be part of a key.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, final

import numpy as np

_NARROW = np.iinfo(np.int32).max


@final
class Pattern:
    """`indices[indptr[i]:indptr[i + 1]]` are the columns of row i that may hold something.

    `shape` is (rows, columns). Positions are int32 if all of them and their number fit, as in
    SciPy, else int64.
    """

    def __init__(self, indptr: Any, indices: Any, shape: tuple[int, int]) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        narrow = max(*self.shape, len(indices)) <= _NARROW
        dtype = np.int32 if narrow else np.int64
        self.indptr = _frozen(indptr, dtype)
        self.indices = _frozen(indices, dtype)

    @classmethod
    def of(cls, rows: Any, columns: Any, shape: tuple[int, int]) -> Pattern:
        """The pattern of positions in any order, where one may stand twice."""
        return cls(*sorted_pairs(rows, columns, *shape), shape)

    @property
    def nnz(self) -> int:
        """The number of positions."""
        return len(self.indices)

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of every position."""
        numbers = np.arange(self.shape[0], dtype=self.indices.dtype)
        return _frozen(np.repeat(numbers, self.row_sizes), numbers.dtype)

    @property
    def row_sizes(self) -> np.ndarray:
        """The number of positions in every row."""
        return np.diff(self.indptr)

    @cached_property
    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""
        return Pattern.of(self.indices, self.rows, self.shape[::-1])

    def toarray(self) -> np.ndarray:
        """The pattern as a matrix of truth values."""
        made = np.zeros(self.shape, bool)
        made[self.rows, self.indices] = True
        return made

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that identify the pattern."""
        state = hashlib.blake2b(repr(self.shape).encode(), digest_size=16)
        state.update(self.indptr.tobytes())
        state.update(self.indices.tobytes())
        return state.digest()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Pattern):
            return NotImplemented
        return self.shape == other.shape and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> Any:
        return (Pattern, (self.indptr, self.indices, self.shape))

    def __repr__(self) -> str:
        return f"<pattern of {self.nnz} positions in {self.shape[0]} x {self.shape[1]}>"


def _frozen(array: Any, dtype: Any) -> np.ndarray:
    made = np.array(array, dtype)
    made.flags.writeable = False
    return made


def starts(counts: Any) -> np.ndarray:
    """Where each of consecutive groups starts, and where the last one ends."""
    made = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=made[1:])
    return made


def sorted_pairs(
    rows: Any, columns: Any, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, indices) of positions in any order, where one may stand twice."""
    bits = max(width - 1, 1).bit_length()
    keys = np.asarray(rows, np.int64) << bits
    keys |= columns
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        keys.sort(kind="stable")  # what is united, and what is transposed, is made of sorted runs
        new = keys[1:] != keys[:-1]
        if not new.all():
            keys = keys[np.concatenate(([True], new))]
    counts = np.bincount(keys >> bits, minlength=height)
    keys &= (1 << bits) - 1
    return starts(counts), keys
