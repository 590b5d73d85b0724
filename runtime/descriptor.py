"""What does the native entry know of one Function?  Its descriptor, a table of words.

A header of `Word`s comes first, then a record for each input and output: what dtype and rank it
must have, where its extents go, and which input an output is made of. `graphc.runtime.entry`
interprets the table at each call; `Descriptor` makes it and owns it, and the workspace with it.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from graphc.runtime import memory

# NumPy's array flags.
C_CONTIGUOUS, ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
OWNABLE = C_CONTIGUOUS | ALIGNED | _WRITEABLE


class Word(IntEnum):
    """Words of a descriptor's header."""

    IMPLEMENTATION = 0
    """The implementation object, a borrowed reference."""
    INPUTS = 1
    OUTPUTS = 2
    CONTIGUOUS = 3
    """The program for C-contiguous inputs; 0 while there is none."""
    STRIDED = 4
    """The program for inputs of any strides; 0 until an input asks for it."""
    EXTENTS = 5
    """The function that derives slots and checks constraints, or 0."""
    SLOTS = 6
    """How many slots each call copies; 0 if they are constants, read where they lie."""
    INITIAL = 7
    """Where the initial slots lie."""
    WORKSPACE_SLOT = 8
    WORK_SLOT = 9
    WORKSPACE = 10
    """The workspace kept between calls; exchanged atomically."""
    THRESHOLD = 11
    """The GIL is released when the slot WORK_SLOT holds more than this."""
    PACKING = 12
    UNFLATTEN = 13
    """The callable for results in other containers, a borrowed reference."""
    EQUALITIES = 14
    """How many pairs of slots must agree once the derived ones are known."""
    PAIRS = 15
    DONATIONS = 16
    INPUT_RECORDS = 17
    OUTPUT_RECORDS = 18
    FRAME = 19
    """Words of scratch for one call: slots, buffers, results, boxes, strides, then intervals."""
    BUFFERS = 20
    RESULTS = 21
    BOXES = 22
    STRIDES = 23
    INTERVALS = 24
    COUNTDOWN = 25
    """Calls left until one takes the slow path, to have the Function given an entry of its own."""
    NAMES = 26
    """The interned name of each input, borrowed references; 0 for one that is given by position."""
    ARGUMENTS = 27
    """Where in the scratch the arguments of a call with names are put in order, then `out`."""


class Record(IntEnum):
    """Words of the record of one input or output; two words for each axis follow: an `Axis` and
    its operand.
    """

    DESCR = 0
    """NumPy's dtype object, a borrowed reference."""
    RANK = 1
    ITEMSIZE = 2
    PARTNER = 3
    """Of an input, the output it is donated to; of an output, the input it is made of; else -1."""
    STORE = 4
    """How a Python or NumPy scalar is stored, a `Store`."""
    ACCEPT = 5
    """Which scalars are taken: a union of `Scalar`."""
    AXES = 6


class Axis(IntEnum):
    """What the extent of an axis is checked against, or bound to."""

    CONSTANT = 0
    SAME = 1
    BIND = 2


class Packing(IntEnum):
    """The container of the results."""

    SINGLE = 0
    TUPLE = 1
    LIST = 2
    CALLABLE = 3


class Store(IntEnum):
    """The representation a scalar is converted to; NONE leaves it to the slow path."""

    NONE = 0
    FLOAT64 = 1
    FLOAT32 = 2
    INT64 = 3
    INT32 = 4
    BOOL = 5


class Scalar(IntEnum):
    """Kinds of scalars. Python's are weak: they take the dtype of the input, as in NumPy."""

    FLOAT = 1
    INT = 2
    BOOL = 4
    FLOAT64 = 8
    FLOAT32 = 16
    INT64 = 32


_STORES: Mapping[np.dtype, tuple[Store, int]] = {
    np.dtype(np.float64): (Store.FLOAT64, sum(Scalar)),
    np.dtype(np.float32): (
        Store.FLOAT32,
        Scalar.FLOAT | Scalar.INT | Scalar.BOOL | Scalar.FLOAT32,
    ),
    np.dtype(np.int64): (Store.INT64, Scalar.INT | Scalar.BOOL | Scalar.INT64),
    np.dtype(np.int32): (Store.INT32, Scalar.INT | Scalar.BOOL),
    np.dtype(np.bool_): (Store.BOOL, Scalar.BOOL),
}
_NO_SCALARS = Store.NONE, 0


@dataclass(frozen=True)
class ArrayWords:
    """What a record says about one input or output."""

    dtype: np.dtype
    axes: Sequence[tuple[Axis, int]]
    partner: int = -1

    def words(self) -> list[int]:
        """The record. A donated input takes no scalars: its array object becomes the output."""
        dtype, axes, partner = self.dtype, self.axes, self.partner
        store, accept = _NO_SCALARS if partner >= 0 or axes else _STORES.get(dtype, _NO_SCALARS)
        head = id(dtype), len(axes), dtype.itemsize, partner, store, accept
        return [*head, *itertools.chain.from_iterable(axes)]


@dataclass(frozen=True)
class DescriptorWords:
    """What a descriptor says, before it becomes a table."""

    implementation: object
    inputs: Sequence[ArrayWords]
    outputs: Sequence[ArrayWords]
    slots: Sequence[int]
    constant_slots: bool
    derived_slots: int
    """How many slots, the first, `extents` may write."""
    equalities: Sequence[tuple[int, int]]
    contiguous: int
    strided: int
    extents: int
    workspace_slot: int
    work_slot: int
    threshold: int
    packing: Packing
    unflatten: Callable[[tuple], Any] | None
    names: Sequence[str] = ()
    """Of the inputs that may be given by name, "" for others; none if no input may."""


class Descriptor:
    """The table of words that the entry interprets for one Function, and the owner of its
    workspace.
    """

    def __init__(self, content: DescriptorWords, pool: memory.BlockPool) -> None:
        self._pool = pool
        self._dtypes = [array.dtype for array in (*content.inputs, *content.outputs)]
        self._unflatten = content.unflatten
        self._names = [sys.intern(str(name)) for name in content.names]
        names = self._names or [""] * len(content.inputs)
        sections = self._sections(content)
        sections[Word.NAMES] = [id(name) if name else 0 for name in names]
        offsets, body = {}, [0] * len(Word)
        for name, words in sections.items():
            offsets[name] = len(body)
            body += words
        self._table = (ctypes.c_int64 * len(body))(*body)
        self.address = ctypes.addressof(self._table)
        pointers = {name: self.address + 8 * offset for name, offset in offsets.items()}
        for name, value in {**self._header(content), **pointers}.items():
            self._table[name] = value

    @staticmethod
    def _sections(content: DescriptorWords) -> dict[Word, list[int]]:
        def flat(rows: Sequence[Sequence[int]]) -> list[int]:
            return [word for row in rows for word in row]

        return {
            Word.INITIAL: list(content.slots),
            Word.PAIRS: flat(content.equalities),
            Word.INPUT_RECORDS: flat([array.words() for array in content.inputs]),
            Word.OUTPUT_RECORDS: flat([array.words() for array in content.outputs]),
        }

    @staticmethod
    def _header(content: DescriptorWords) -> dict[Word, int]:
        inputs, outputs = len(content.inputs), len(content.outputs)
        arrays = (*content.inputs, *content.outputs)
        slots = 0 if content.constant_slots else len(content.slots)
        # Each part of a call's scratch starts where the one before ends, slots first.
        frame = _running_sum(
            {
                Word.BUFFERS: slots,
                Word.RESULTS: inputs + outputs,
                Word.BOXES: outputs,
                Word.STRIDES: inputs,
                Word.INTERVALS: sum(len(array.axes) for array in arrays),
                Word.ARGUMENTS: 2 * (inputs + outputs),
                Word.FRAME: inputs + 1,
            }
        )
        return frame | {
            Word.IMPLEMENTATION: id(content.implementation),
            Word.INPUTS: inputs,
            Word.OUTPUTS: outputs,
            Word.CONTIGUOUS: content.contiguous,
            Word.STRIDED: content.strided,
            Word.EXTENTS: content.extents,
            Word.SLOTS: slots,
            Word.WORKSPACE_SLOT: content.workspace_slot,
            Word.WORK_SLOT: content.work_slot,
            Word.THRESHOLD: content.threshold,
            Word.PACKING: content.packing,
            Word.UNFLATTEN: 0 if content.unflatten is None else id(content.unflatten),
            Word.EQUALITIES: len(content.equalities),
            Word.DONATIONS: sum(array.partner >= 0 for array in content.inputs),
        }

    def __getitem__(self, word: Word) -> int:
        return int(self._table[word])

    def count_down(self, calls: int) -> None:
        """Send the call after `calls - 1` others to the slow path, once."""
        self._table[Word.COUNTDOWN] = calls

    def install_strided(self, address: int) -> None:
        """Publish the strided program: one aligned word, so calls at the same time see either."""
        self._table[Word.STRIDED] = address

    def __del__(self) -> None:
        table = getattr(self, "_table", None)
        if Word is None:
            return  # the interpreter goes away, and the process's memory with it
        if table is not None and table[Word.WORKSPACE]:
            self._pool.give(table[Word.WORKSPACE])
            table[Word.WORKSPACE] = 0


def _running_sum(sizes: Mapping[Word, int]) -> dict[Word, int]:
    total, sums = 0, {}
    for word, size in sizes.items():
        total += size
        sums[word] = total
    return sums
