"""Which calls need no interpretation?  The usual ones: their checks are straight-line code.

The generic entry (`graphc.runtime.entry`) reads a descriptor and handles every call. A Function of
few arrays has an entry of its own in front of it, printed with ranks, extents and slots as
constants: C-contiguous ndarrays of the right dtypes go from there to the program, in half the
instructions. Whatever it does not recognise goes to the generic entry before anything has been
written, so no behaviour is decided and no error is worded here. The text holds no address:
Functions of equal signatures share the code, in the process and in the cache. Compiling it takes
some ten milliseconds, so a Function gets its own entry only when it has been called often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.codegen.irtext import Function, Module, Operand, TypedOperand
from graphc.codegen.status import STATUS_WORDS, Status
from graphc.runtime import memory
from graphc.runtime.descriptor import (
    ALIGNED,
    C_CONTIGUOUS,
    OWNABLE,
    ArrayWords,
    Axis,
    DescriptorWords,
    Packing,
    Word,
)
from graphc.runtime.layout import Layout

CALLS_BEFORE = 128
"""The call at which a Function gets an entry of its own."""

NEVER = -1
"""A countdown that does not reach 0."""

MOST_ARRAYS = 10
"""Beyond it the time of compiling the text is no longer repaid: a call of so many arrays is long.
"""
MOST_AXES = 24
MOST_SLOTS = 48


def suits(content: DescriptorWords) -> bool:
    """May a Function of this descriptor have an entry of its own?"""
    arrays = (*content.inputs, *content.outputs)
    return (
        len(arrays) <= MOST_ARRAYS
        and sum(len(array.axes) for array in arrays) <= MOST_AXES
        and len(content.slots) <= MOST_SLOTS
        and not content.equalities
        and all(array.partner < 0 for array in content.inputs)
        and any(array.axes for array in content.inputs)
        and bool(content.contiguous)
    )


def symbols(content: DescriptorWords, routines: Mapping[str, int]) -> dict[str, int]:
    """The addresses that the text of this descriptor names; `routines` are those of the entry."""
    objects = {_dtype_symbol(a.dtype): id(a.dtype) for a in (*content.inputs, *content.outputs)}
    return {**routines, **objects}


def module_text(content: DescriptorWords, layout: Layout, self_offset: int) -> str:
    """The LLVM IR of the entry, a vectorcall function named `entry`.

    `self_offset` is the offset in bytes of a Function's native words, as for the generic entry.
    """
    printer = _Printer(content, layout, self_offset)
    printer.print()
    dtypes = sorted({_dtype_symbol(a.dtype) for a in (*content.inputs, *content.outputs)})
    names = ["object_ndarray", "object_none", "object_out", *dtypes]
    return Module([printer.f], [f"@{name} = external global i8" for name in names]).text


def _dtype_symbol(dtype: np.dtype[Any]) -> str:
    return f"dtype_{dtype.name}"


class _Printer:
    """Prints the entry of one descriptor from top to bottom."""

    def __init__(self, content: DescriptorWords, layout: Layout, self_offset: int) -> None:
        self.content = content
        self.layout = layout
        self.self_offset = self_offset
        self.f = Function(
            "entry", "ptr self, ptr args, i64 nargsf, ptr names", result="ptr", attributes="uwtable"
        )
        # The value of each slot as far as it is known: a number, or what an argument bound.
        self.slots: dict[int, Operand] = dict(enumerate(content.slots))
        self._bytes: dict[tuple[Operand, ...], Operand] = {}

    def print(self) -> None:
        f, content = self.f, self.content
        arrays, outputs = len(content.inputs) + len(content.outputs), len(content.outputs)
        buffers = f.let(f"alloca [{arrays} x i64], align 16")
        results = f.let(f"alloca [{outputs} x i64], align 16")
        status = f.let(f"alloca [{STATUS_WORDS} x i64], align 64")
        self.table = f.let(f"alloca [{max(1, len(content.slots))} x i64], align 16")
        longest = max(len(array.axes) for array in content.outputs)
        self.dims = f.let(f"alloca [{max(1, longest)} x i64], align 16")
        at = f.let(f"getelementptr i8, ptr %self, i64 {self.self_offset + 16}")
        self.descriptor = f.load("ptr", at, 8)
        count = f.let("and i64 %nargsf, 9223372036854775807")
        self._require(f.compare("eq", count, len(content.inputs)))
        out = self._keyword_out()
        data = [self._input(i, array) for i, array in enumerate(content.inputs)]
        for position, pointer in enumerate(data):
            f.set_word(buffers, position, pointer, "ptr")
        slots = self._all_slots(status)
        bytes_ = self._size(content.workspace_slot)
        if isinstance(bytes_, str):  # an arena of no bytes is no usual size
            self._require(f.compare("sgt", bytes_, 0))
        work = self._size(content.work_slot)
        self._require(f.compare("sle", work, f.word(self.descriptor, Word.THRESHOLD)))
        self._outputs(out, data, buffers, results)
        workspace = self._workspace(bytes_, results)
        f.do(f"store [{STATUS_WORDS} x i64] zeroinitializer, ptr {status}, align 64")
        f.set_word(status, Status.STATE, 1)
        program = f.word(self.descriptor, Word.CONTIGUOUS, "ptr")
        arguments = [buffers, slots, "null", workspace, status]
        code = f.call_pointer("i64", program, *(("ptr", a) for a in arguments))
        if bytes_ != 0:
            f.call("void", "keep_workspace", ("ptr", self.descriptor), ("ptr", workspace))
        trouble = f.let(f"or i64 {code}, {f.word(status, Status.CANCEL)}")
        f.require(f.compare("eq", trouble, 0), "failed")
        self._return(results)
        self._failed(status, code, results)
        self._slow()

    # -- checks ------------------------------------------------------------------------------------

    def _require(self, condition: str) -> None:
        """Whatever does not hold is for the generic entry."""
        self.f.require(condition, "slow")

    def _field(self, base: Operand, offset: int, type_: str = "ptr") -> str:
        at = self.f.let(f"getelementptr i8, ptr {base}, i64 {offset}")
        return self.f.load(type_, at, {"ptr": 8, "i64": 8, "i32": 4}[type_])

    def _keyword_out(self) -> str:
        """The value of `out`, null if absent or None; other keywords are unusual."""
        f = self.f
        test, named, absent = (f.label() for _ in range(3))
        f.block(test)
        f.branch(f.compare("eq", "%names", "null", "ptr"), absent, named)
        f.block(named)
        self._require(f.compare("eq", self._field("%names", self.layout.tuple_size, "i64"), 1))
        name = self._field("%names", self.layout.tuple_items)
        self._require(f.compare("eq", name, "@object_out", "ptr"))
        value = f.word("%args", len(self.content.inputs), "ptr")
        is_none = f.compare("eq", value, "@object_none", "ptr")
        chosen = f.select(is_none, "null", value, "ptr")
        last = f.label()
        f.block(last)
        f.block(absent)
        return f.let(f"phi ptr [ null, %{test} ], [ {chosen}, %{last} ]")

    def _input(self, position: int, array: ArrayWords) -> str:
        """Check one argument, bind the slots of its extents; its data pointer."""
        given = self.f.word("%args", position, "ptr")
        extents = self._array(given, array, C_CONTIGUOUS | ALIGNED)
        for (kind, operand), extent in zip(array.axes, extents, strict=True):
            if kind == Axis.BIND:
                self.slots[operand] = extent
        for (kind, operand), extent in zip(array.axes, extents, strict=True):
            if kind != Axis.BIND:
                wanted = operand if kind == Axis.CONSTANT else self.slots[operand]
                self._require(self.f.compare("eq", extent, wanted))
        return self._field(given, self.layout.array_data)

    def _array(self, given: str, array: ArrayWords, flags: int) -> list[str]:
        """Check type, rank, dtype and flags; the extents."""
        f, layout = self.f, self.layout
        type_ = self._field(given, layout.object_type)
        self._require(f.compare("eq", type_, "@object_ndarray", "ptr"))
        rank = self._field(given, layout.array_rank, "i32")
        found = f.let(f"and i32 {self._field(given, layout.array_flags, 'i32')}, {flags}")
        descr = self._field(given, layout.array_descr)
        right = f.both(
            f.compare("eq", rank, len(array.axes), "i32"), f.compare("eq", found, flags, "i32")
        )
        same = f.compare("eq", descr, f"@{_dtype_symbol(array.dtype)}", "ptr")
        self._require(f.both(right, same))
        if not array.axes:
            return []
        dims = self._field(given, layout.array_dims)
        return [f.word(dims, axis) for axis in range(len(array.axes))]

    # -- sizes -------------------------------------------------------------------------------------

    def _all_slots(self, status: str) -> Operand:
        """The table of slots, with those that are derived; a constraint that fails is worded
        elsewhere.
        """
        f, content = self.f, self.content
        if content.constant_slots:
            return f.word(self.descriptor, Word.INITIAL, "ptr")
        for slot, value in self.slots.items():
            f.set_word(self.table, slot, value)
        if not content.extents:
            return self.table
        derive = f.word(self.descriptor, Word.EXTENTS, "ptr")
        code = f.call_pointer("i64", derive, ("ptr", self.table), ("ptr", status))
        self._require(f.compare("eq", code, 0))
        axes = [axis for array in content.inputs for axis in array.axes]
        bound = {slot for kind, slot in axes if kind == Axis.BIND}
        for slot in range(content.derived_slots):
            if slot not in bound:
                del self.slots[slot]
        return self.table

    def _size(self, slot: int) -> Operand:
        """The value of a slot, read from the table where it was derived."""
        if slot not in self.slots:
            self.slots[slot] = self.f.word(self.table, slot)
        return self.slots[slot]

    def _extents(self, array: ArrayWords) -> list[Operand]:
        return [
            operand if kind == Axis.CONSTANT else self._size(operand)
            for kind, operand in array.axes
        ]

    def _array_bytes(self, array: ArrayWords) -> Operand:
        """The bytes of a contiguous array; a product that overflows is unusual. Worked out once
        for arrays of equal extents.
        """
        factors = (array.dtype.itemsize, *self._extents(array))
        if factors not in self._bytes:
            self._bytes[factors] = self._product(factors)
        return self._bytes[factors]

    def _product(self, factors: Sequence[Operand]) -> Operand:
        known = math.prod(factor for factor in factors if isinstance(factor, int))
        total: Operand = known
        for factor in factors:
            if isinstance(factor, str):
                pair = self.f.call(
                    "{i64, i1}", "llvm.umul.with.overflow.i64", ("i64", factor), ("i64", total)
                )
                over = self.f.let(f"extractvalue {{i64, i1}} {pair}, 1")
                self._require(self.f.compare("eq", over, "false", "i1"))
                total = self.f.let(f"extractvalue {{i64, i1}} {pair}, 0")
        return total

    # -- memory ------------------------------------------------------------------------------------

    def _outputs(self, out: str, data: list[str], buffers: str, results: str) -> None:
        """A new reference to each result, and its data pointer: `out`, or new arrays."""
        f, outputs = self.f, self.content.outputs
        sizes = [self._array_bytes(array) for array in outputs]
        make, take, ready = (f.label() for _ in range(3))
        f.branch(f.compare("eq", out, "null", "ptr"), make, take)
        f.block(take)
        if len(outputs) == 1:
            self._take(out, data, sizes[0])
            f.set_word(results, 0, out, "ptr")
            pointer = self._field(out, self.layout.array_data)
            f.set_word(buffers, len(data), pointer, "ptr")
            f.jump(ready)
        else:  # a tuple of them
            f.jump("slow")
        f.block(make)
        for size in sizes:
            self._require(f.compare("ult", size, memory.LARGE_BYTES))
        for position, array in enumerate(outputs):
            made = self._new(array)
            f.set_word(results, position, made, "ptr")
            lost, on = f.label(), f.label()
            f.branch(f.compare("eq", made, "null", "ptr"), lost, on)
            f.block(lost)
            self._release(results, position)
            f.leave("ptr", "null")
            f.block(on)
            pointer = self._field(made, self.layout.array_data)
            f.set_word(buffers, len(data) + position, pointer, "ptr")
        f.block(ready)

    def _take(self, out: str, data: list[str], size: Operand) -> None:
        """Check that `out` may be written, and shares no byte with an argument."""
        f = self.f
        (array,) = self.content.outputs
        found = self._array(out, array, OWNABLE)
        for extent, wanted in zip(found, self._extents(array), strict=True):
            self._require(f.compare("eq", extent, wanted))
        low = self._address(self._field(out, self.layout.array_data))
        high = f.add(low, size)
        for pointer, given in zip(data, self.content.inputs, strict=True):
            start = self._address(pointer)
            end = f.add(start, self._array_bytes(given))
            before, behind = f.compare("ule", end, low), f.compare("ule", high, start)
            self._require(f.either(before, behind))
        f.call("void", "Py_IncRef", ("ptr", out))

    def _address(self, pointer: str) -> str:
        return self.f.let(f"ptrtoint ptr {pointer} to i64")

    def _new(self, array: ArrayWords) -> str:
        f = self.f
        extents = self._extents(array)
        for axis, extent in enumerate(extents):
            f.set_word(self.dims, axis, extent)
        dtype = f"@{_dtype_symbol(array.dtype)}"
        f.call("void", "Py_IncRef", ("ptr", dtype))  # the array's own reference
        arguments: list[TypedOperand] = [
            *(("ptr", "@object_ndarray"), ("ptr", dtype), ("i32", len(extents))),
            *(("ptr", self.dims), ("ptr", "null"), ("ptr", "null"), ("i32", 0), ("ptr", "null")),
        ]
        return f.call("ptr", "PyArray_NewFromDescr", *arguments)

    def _workspace(self, bytes_: Operand, results: str) -> Operand:
        """The arena of the call, null if it needs none."""
        if bytes_ == 0:
            return "null"
        f = self.f
        block = f.call("ptr", "take_workspace", ("ptr", self.descriptor), ("i64", bytes_))
        lost, on = f.label(), f.label()
        f.branch(f.compare("eq", block, "null", "ptr"), lost, on)
        f.block(lost)
        self._release(results, len(self.content.outputs))
        f.jump("slow")
        f.block(on)
        return block

    def _release(self, results: str, count: int) -> None:
        self.f.call("void", "release", ("ptr", results), ("i64", count))

    # -- the end -----------------------------------------------------------------------------------

    def _return(self, results: str) -> None:
        f, content = self.f, self.content
        if content.packing == Packing.SINGLE:
            f.leave("ptr", f.word(results, 0, "ptr"))
            return
        arguments = (("ptr", self.descriptor), ("ptr", results), ("i64", len(content.outputs)))
        f.leave("ptr", f.call("ptr", "pack", *arguments))

    def _failed(self, status: str, code: str, results: str) -> None:
        f = self.f
        f.block("failed")
        arguments = (("ptr", self.descriptor), ("ptr", status), ("i64", code))
        f.call("void", "report", *arguments)
        self._release(results, len(self.content.outputs))
        f.leave("ptr", "null")

    def _slow(self) -> None:
        f = self.f
        f.block("slow")
        kinds = ("ptr", "ptr", "i64", "ptr")
        values = ("%self", "%args", "%nargsf", "%names")
        f.leave("ptr", f.call("ptr", "generic_entry", *zip(kinds, values, strict=True)))
