"""Which arrays share memory?  Asked before an output is written that might be an input, too."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def address_of(array: np.ndarray, byte: Any = ctypes.c_char) -> int:
    """Where the array's first element lies."""
    try:
        return ctypes.addressof(byte.from_buffer(array))  # a tenth of the time
    except (TypeError, ValueError, BufferError):  # read-only, empty, strided, or an exotic dtype
        return array.ctypes.data


def _byte_ranges(arrays: Sequence[np.ndarray]) -> list[tuple[int, int, int]]:
    """(first byte, end, position) of every array that is not empty, in order of address."""
    ranges = []
    for position, array in enumerate(arrays):
        if array.size:
            first = last = address_of(array)
            for extent, stride in zip(array.shape, array.strides, strict=True):
                reach = (extent - 1) * stride
                first, last = first + min(reach, 0), last + max(reach, 0)
            ranges.append((first, last + array.itemsize, position))
    return sorted(ranges)


def _candidate_pairs(arrays: Sequence[np.ndarray]) -> Iterable[tuple[int, int]]:
    """Pairs of positions whose byte ranges meet: a sweep, since hundreds of arrays are usual."""
    active: list[tuple[int, int]] = []
    for first, end, position in _byte_ranges(arrays):
        active = [(other_end, other) for other_end, other in active if other_end > first]
        yield from ((other, position) for _, other in active)
        active.append((end, position))


def first_overlap(arrays: Sequence[np.ndarray], written: set[int]) -> tuple[int, int] | None:
    """A pair of arrays that share memory, at least one of them among the written."""
    if not written:
        return None
    for pair in _candidate_pairs(arrays):
        if written.intersection(pair) and _share_memory(*(arrays[member] for member in pair)):
            return pair
    return None


_OVERLAP_WORK: Any = 100_000  # candidates tried before two strided arrays are taken to overlap


def _share_memory(first: np.ndarray, second: np.ndarray) -> bool:
    try:
        return bool(np.shares_memory(first, second, max_work=_OVERLAP_WORK))
    except np.exceptions.TooHardError:
        return True


def overlapping(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> set[int]:
    """Which outputs may share memory with an input, judged by byte ranges."""
    count = len(inputs)
    found = set()
    for low, high in _candidate_pairs([*inputs, *outputs]):
        for output, other in ((low, high), (high, low)):
            if output >= count > other:
                found.add(output - count)
    return found
