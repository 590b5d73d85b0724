"""What stands behind the object that a user calls, and what happens when a call is unusual?

The usual call is native (`graphc.runtime.entry`). The unusual is Python: `Implementation.slow`
repeats every check with full messages, converts what NumPy would convert safely, and runs the same
program. Where there is no native entry `slow` serves every call, so the two cannot differ in
behaviour. Where there is one, arguments that were only named, held in containers or to be converted
go back to it as the arrays that they are now, which takes a tenth of the time.

Nothing here knows graphs. A `CallSpec` says what a program expects and returns; whoever compiled
it subclasses `Implementation` to say what its errors mean and how it is pickled.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import inspect
import keyword
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from typing import Any, NoReturn

import numpy as np

from graphc.codegen.status import STATUS_WORDS, Code, Status
from graphc.dtypes import weak_kind
from graphc.runtime import fastpath
from graphc.runtime.callspec import CallSpec, Extent, Plan
from graphc.runtime.descriptor import (
    ArrayWords,
    Axis,
    Descriptor,
    DescriptorWords,
    Packing,
    Word,
)
from graphc.runtime.entry import prototype
from graphc.runtime.overlap import address_of, first_overlap, overlapping
from graphc.runtime.shared import CallRuntime, call_runtime

MESSAGE_LINES = 8
LINE_LENGTH = 300
# Operations of a call, and for each element with strides, from which on these are copied, at most
# so many bytes: what Python takes for that is little beside them.
LEAST_WORK, WORK_OF_ELEMENT, MOST_COPIED = 1 << 21, 1024, 1 << 18


class Implementation:
    """What stands behind one Function: its descriptor, and all of its Python.

    A subclass also holds whatever keeps the addresses in its spec mapped.
    """

    def __init__(self, spec: CallSpec, runtime: CallRuntime | None = None) -> None:
        self.spec = spec
        self.call_runtime = runtime or call_runtime()
        self._pool = self.call_runtime.routines.pool
        self._plan = Plan.of(spec)
        self._donors = {made: giver for giver, made in spec.donated.items()}
        self._strided_lock = threading.RLock()
        self._strided_address: int | None = None  # None: not asked for yet
        words = self._descriptor_words()
        self.descriptor = Descriptor(words, self._pool)
        self._own_entry: Mapping[str, int] | None = None
        self._install_entry: Callable[[int], None] | None = None
        self._function: Callable[[], Any] | None = None
        self._may_have_own_entry = self.call_runtime.layout is not None and fastpath.suits(words)
        if self._may_have_own_entry:
            self.descriptor.count_down(fastpath.CALLS_BEFORE)

    def attach(self, install_entry: Callable[[int], None], function: Callable[[], Any]) -> None:
        """Note how the Function's entry is replaced, and what gives the Function itself (or None),
        which is not kept alive.
        """
        self._install_entry, self._function = install_entry, function

    def hasten(self) -> None:
        """Give the Function an entry of its own, if it may have one; later if LLVM is busy."""
        if self._install_entry is None or not self._may_have_own_entry:
            self.descriptor.count_down(fastpath.NEVER)
            return
        self._own_entry = self.call_runtime.own_entry(self._descriptor_words())
        if self._own_entry is None:
            self.descriptor.count_down(fastpath.CALLS_BEFORE)
        else:
            self.descriptor.count_down(fastpath.NEVER)
            self._install_entry(self._own_entry["entry"])

    def _descriptor_words(self) -> DescriptorWords:
        spec, plan = self.spec, self._plan
        inputs = zip(spec.inputs, plan.inputs, strict=True)
        outputs = zip(spec.outputs, plan.outputs, strict=True)
        return DescriptorWords(
            implementation=self,
            inputs=[
                ArrayWords(entry.dtype, axes, spec.donated.get(position, -1))
                for position, (entry, axes) in enumerate(inputs)
            ],
            outputs=[
                ArrayWords(entry.dtype, axes, self._donors.get(position, -1))
                for position, (entry, axes) in enumerate(outputs)
            ],
            slots=plan.slots,
            constant_slots=plan.constant,
            derived_slots=len(spec.slots) - spec.constants if spec.extents else 0,
            equalities=plan.equalities,
            contiguous=spec.contiguous,
            strided=spec.strided,
            extents=spec.extents,
            workspace_slot=plan.workspace_slot,
            work_slot=plan.work_slot,
            threshold=spec.release_threshold,
            packing=Packing.CALLABLE if callable(spec.packing) else Packing[spec.packing.upper()],
            unflatten=spec.packing if callable(spec.packing) else None,
            names=self.keywords(),
        )

    def keywords(self) -> list[str]:
        """The name by which each input may be given; "" where only its position tells it."""
        names = [entry.name for entry in self.spec.inputs]
        return [name if name != "out" and names.count(name) == 1 else "" for name in names]

    # -- what a subclass says about its program ------------------------------------------------

    def strided_program(self) -> int:
        """Compile the program for inputs of any strides and return its address; 0 to have such
        inputs copied.

        Called once, when such an input first comes, and only if `CallSpec.strided` is 0.
        """
        return 0

    def run_in_order(self, arrays: list[np.ndarray], targets: Sequence[np.ndarray]) -> bool:
        """Run a program for arrays that lie in memory in the order of other axes, if there is one.
        """
        return False

    def raise_status(self, words: tuple[int, ...]) -> NoReturn:
        """Raise what a nonzero status record means. `words` are those of
        `graphc.codegen.status.Status`.
        """
        kind, text = _STATUS_ERRORS.get(words[Status.CODE], _UNKNOWN_STATUS)
        facts = {word.name.lower(): words[word] for word in Status}
        raise kind(f"{self.spec.name}(): {text.format(**facts)} (node {words[Status.NODE]})")

    def reduce(self) -> tuple | str:
        """What `__reduce__` of the Function returns."""
        raise TypeError(f"{self.spec.name}() cannot be pickled: nothing says how to rebuild it")

    def arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """The flat arguments, one for each input, from those of a call.

        Raises `TypeError` for a wrong count, for unknown names and for inputs given twice.
        """
        inputs = self.spec.inputs
        if len(args) == len(inputs) and not named:
            return list(args)
        names = [entry.name for entry in inputs]
        if len(args) > len(names):
            headline = f"takes {len(names)} arguments ({_listed(names)}), {len(args)} were given"
            self._refuse(TypeError, headline)
        values = dict(zip(names, args, strict=False))
        for name, value in named.items():
            if name not in names:
                headline = f"got an unexpected keyword {name!r}"
                self._refuse(TypeError, headline, f"its inputs are {_listed(names)}, and out")
            if name in values:
                self._refuse(TypeError, f"got input {name} twice, by position and by name")
            values[name] = value
        missing = [name for name in names if name not in values]
        if missing:
            self._refuse(
                TypeError,
                f"takes {len(names)} arguments ({_listed(names)}), {len(values)} were given",
                f"missing: {_listed(missing)}",
            )
        return [values[name] for name in names]

    # -- the call in Python --------------------------------------------------------------------

    def slow(self, /, *args: Any, out: Any = None, **named: Any) -> Any:
        """The whole call: checks with full messages, conversions, the program, the results.

        Raises `TypeError` for arguments of a wrong kind, number or dtype, `ValueError` for wrong
        shapes, for `out` that cannot be written, and for donations that cannot be made,
        `OverflowError` for Python integers out of range, `MemoryError`, and whatever
        `raise_status` raises.
        """
        if self.descriptor[Word.COUNTDOWN] == 0:
            self.hasten()
        handed_over = _handed_over.get()
        again = handed_over is not None and _same(handed_over, (self, *args))
        values = list(args) if again else self.arguments(args, named)
        arrays = [self._convert(position, value) for position, value in enumerate(values)]
        if not again and not _same(arrays, args) and self._has_entry():
            return self._handed_over(arrays, out)
        slots = self._bind(arrays)
        self._check_donations(values, arrays)
        results, targets, temporary = self._outputs(values, arrays, slots, out)
        self._run(arrays, targets, slots)
        for position in temporary:
            np.copyto(results[position], targets[position], casting="same_kind")
        return self._pack(results)

    def _has_entry(self) -> bool:
        """Whether the native entry may take arrays of the right dtypes, now that they are."""
        return self._function is not None and bool(self.spec.contiguous) and not self._donors

    def _handed_over(self, arrays: list[np.ndarray], out: Any) -> Any:
        """The results of the native entry for these arrays. If they are unusual still they come
        back to `slow`, which knows them by identity.
        """
        function = self._function() if self._function is not None else None
        token = _handed_over.set((self, *arrays))
        try:
            if function is None:  # it is being freed, and called by itself
                return self.slow(*arrays, out=out)
            return function(*arrays) if out is None else function(*arrays, out=out)
        finally:
            _handed_over.reset(token)

    def _pack(self, results: list[Any]) -> Any:
        packing = self.spec.packing
        if callable(packing):
            return packing(tuple(results))
        return {"single": results[:1], "tuple": [tuple(results)], "list": [results]}[packing][0]

    # -- arguments -----------------------------------------------------------------------------

    def _convert(self, position: int, value: Any) -> np.ndarray:
        """The argument as an aligned array of its input's dtype, copied only if it must be."""
        wanted = self.spec.inputs[position].dtype
        if position in self.spec.donated:
            return self._donated(position, value)
        if type(value) is np.ndarray and value.dtype is wanted and value.flags.aligned:
            return value
        if not isinstance(value, (np.ndarray, np.generic)):
            kind = weak_kind(value)
            if kind is not None:
                return self._convert_weak(position, value, kind)
        array = self._as_array(position, value)
        if array.dtype == wanted:
            return array if array.flags.aligned else array.copy(order="C")
        if not np.can_cast(array.dtype, wanted, "safe"):
            self._refuse_dtype(position, _kind_of(value), array.dtype.kind not in _NO_NUMBERS)
        return array.astype(wanted, order="C")

    def _as_array(self, position: int, value: Any) -> np.ndarray:
        try:
            return np.asarray(value)
        except Exception as error:
            self._refuse_argument(
                TypeError,
                position,
                f"expected {self._expected(position)}, got {_kind_of(value)}",
                f"NumPy cannot make an array of it: {_first_line(error)}",
            )

    def _convert_weak(self, position: int, value: Any, kind: int) -> np.ndarray:
        """Python numbers take the dtype of the input, unless that is of a lesser kind."""
        wanted = self.spec.inputs[position].dtype
        if kind > _KINDS.get(wanted.kind, _FLOATING):
            among = f"{_kind_of(value)} with " if isinstance(value, list | tuple) else ""
            self._refuse_dtype(position, among + _WEAK_NAMES[kind], numeric=True)
        try:
            return np.asarray(value, wanted)
        except OverflowError as error:
            self._refuse_argument(
                OverflowError, position, f"{_first_line(error)}, for {wanted} values"
            )
        except (TypeError, ValueError) as error:
            self._refuse_argument(
                ValueError,
                position,
                f"expected {self._expected(position)}, got {_kind_of(value)}",
                f"NumPy cannot make an array of it: {_first_line(error)}",
            )

    def _donated(self, position: int, value: Any) -> np.ndarray:
        expected = self._expected(position)
        if not isinstance(value, np.ndarray):
            self._refuse_argument(
                TypeError, position, f"is donated: expected {expected}, got {_kind_of(value)}"
            )
        if value.dtype != self.spec.inputs[position].dtype:
            self._refuse_argument(
                TypeError, position, f"is donated: expected {expected}, got dtype {value.dtype}"
            )
        if not value.flags.writeable:
            self._refuse_argument(
                ValueError, position, "is donated, but read-only", "pass a copy of it"
            )
        if not (value.flags.c_contiguous and value.flags.aligned):
            self._refuse_argument(
                ValueError,
                position,
                "is donated, but not C-contiguous and aligned",
                f"its strides are {value.strides} for shape {value.shape}",
                "pass a copy of it",
            )
        return np.asarray(value)

    def _check_donations(self, values: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
        clash = first_overlap(arrays, set(self.spec.donated))
        if clash is None:
            return
        giver, other = sorted(clash, key=lambda position: position not in self.spec.donated)
        same = values[giver] is values[other]
        self._refuse_argument(
            ValueError,
            giver,
            f"is donated, but {'is the same array as' if same else 'overlaps'} "
            f"argument {self.spec.inputs[other].name}",
            "pass a copy of one of them",
        )

    # -- extents -------------------------------------------------------------------------------

    def _bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """Check shapes and fill the slots, as the entry does."""
        plan = self._plan
        slots = (ctypes.c_int64 * len(plan.slots))(*plan.slots)
        for position, (array, axes) in enumerate(zip(arrays, plan.inputs, strict=True)):
            if array.ndim != len(axes):
                self._refuse_argument(
                    ValueError,
                    position,
                    f"expected {self._expected(position)}, got rank {array.ndim}",
                    f"its shape is {array.shape}",
                )
            for axis, (extent, (kind, operand)) in enumerate(zip(array.shape, axes, strict=True)):
                if kind is _BIND:
                    slots[operand] = extent
                elif extent != (operand if kind is _CONSTANT else slots[operand]):
                    self._refuse_extent(position, axis, arrays, slots)
        self._derive(slots)
        for waiting, slot in plan.equalities:
            if slots[waiting] != slots[slot]:
                self._refuse_extent(*plan.binders[waiting], arrays, slots)
        return slots

    def _derive(self, slots: Any) -> None:
        if not self.spec.extents:
            return
        status = (ctypes.c_int64 * STATUS_WORDS)()
        function = prototype()(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(self.spec.extents)
        code = function(ctypes.addressof(slots), ctypes.addressof(status))
        if code:
            status[Status.CODE] = status[Status.CODE] or code
            self._failed(bytes(status))

    def _refuse_extent(
        self, position: int, axis: int, arrays: Sequence[np.ndarray], slots: Any
    ) -> NoReturn:
        """Axis `axis` of an argument has another extent than it must have."""
        wanted = self.spec.inputs[position].shape[axis]
        shape = arrays[position].shape
        if isinstance(wanted, int):
            self._refuse_argument(
                ValueError,
                position,
                f"expected {self._expected(position)}, got shape {shape}",
                f"axis {axis} is {shape[axis]}, not {wanted}",
            )
        slot = wanted[1]
        name = self._slot_name(slot)
        lines = [f"axis {axis} is {shape[axis]}, but {name} is {slots[slot]}"]
        binder = self._plan.binders.get(slot)
        if binder is not None:
            other, other_axis = binder
            first = self.spec.inputs[other]
            lines[0] += f", axis {other_axis} of {first.name} of shape {arrays[other].shape}"
            if first.origin and first.origin != self.spec.inputs[position].origin:
                lines.append(f"{first.name} built at {first.origin}")
        lines.append("pass arrays whose extents agree")
        headline = f"expected {self._expected(position)}, got shape {shape}"
        self._refuse_argument(ValueError, position, headline, *lines)

    # -- results -------------------------------------------------------------------------------

    def _outputs(
        self, values: Sequence[Any], arrays: Sequence[np.ndarray], slots: Any, out: Any
    ) -> tuple[list[Any], list[np.ndarray], list[int]]:
        """The objects to return, the arrays that the program writes, and which of those are
        temporary.
        """
        given = self._given(out)
        results: list[Any] = []
        targets: list[np.ndarray] = []
        for position, (entry, axes) in enumerate(
            zip(self.spec.outputs, self._plan.outputs, strict=True)
        ):
            shape = tuple(
                operand if kind is _CONSTANT else slots[operand] for kind, operand in axes
            )
            donor = self._donors.get(position)
            if donor is not None:
                self._check_donated_out(position, given[position], values[donor])
                results.append(values[donor])
                targets.append(arrays[donor])
            elif given[position] is None:
                targets.append(self._pool.empty(shape, entry.dtype))
                results.append(targets[-1])
            else:
                self._check_out(position, given[position], shape)
                results.append(given[position])
                targets.append(np.asarray(given[position]))
        if out is None:
            return results, targets, []
        allocated = {j for j, array in enumerate(given) if array is None}
        written = [j for j in range(len(given)) if j not in allocated and j not in self._donors]
        temporary = self._not_direct(arrays, targets, written)
        for j in temporary:
            targets[j] = self._pool.empty(targets[j].shape, self.spec.outputs[j].dtype)
        return results, targets, temporary

    def _given(self, out: Any) -> list[Any]:
        """`out` as one entry for each output, None where it is to be allocated."""
        count = len(self.spec.outputs)
        if out is None:
            return [None] * count
        if isinstance(out, np.ndarray) and count == 1:
            return [out]
        if not isinstance(out, tuple | list):
            expected = "an ndarray" if count == 1 else f"a tuple of {count} ndarrays"
            self._refuse(TypeError, f"out: expected {expected}, got {_kind_of(out)}")
        if len(out) != count:
            self._refuse(ValueError, f"out: expected {count} arrays, got {len(out)}")
        return list(out)

    def _check_donated_out(self, position: int, given: Any, donor: Any) -> None:
        if given is not None and given is not donor:
            name = self.spec.inputs[self._donors[position]].name
            self._refuse(
                ValueError,
                f"out: output {position} is the donated argument {name}",
                "leave it out, or pass None in its place",
            )

    def _check_out(self, position: int, given: Any, shape: tuple[int, ...]) -> None:
        entry = self.spec.outputs[position]
        which = "out" if len(self.spec.outputs) == 1 else f"out[{position}]"
        expected = f"expected {_with_article(entry.dtype)} array of shape {shape}"
        if not isinstance(given, np.ndarray):
            self._refuse(TypeError, f"{which}: {expected}, got {_kind_of(given)}")
        if given.shape != shape:
            self._refuse(ValueError, f"{which}: {expected}, got shape {given.shape}")
        if not np.can_cast(entry.dtype, given.dtype, "same_kind"):
            self._refuse(
                TypeError,
                f"{which}: {expected}, got dtype {given.dtype}",
                f"{entry.dtype} results cannot be stored as {given.dtype}",
            )
        if not given.flags.writeable:
            self._refuse(ValueError, f"{which}: the array is read-only", "pass a copy of it")

    def _not_direct(
        self, arrays: Sequence[np.ndarray], targets: Sequence[np.ndarray], written: list[int]
    ) -> list[int]:
        """Which of the `out` arrays the program must not write itself: other layouts, dtypes,
        overlap with inputs.
        """
        views = [targets[j] for j in written]
        clash = first_overlap(views, set(range(len(views))))
        if clash is not None:
            first, second = sorted(written[member] for member in clash)
            self._refuse(
                ValueError, f"out: arrays {first} and {second} overlap", "pass arrays of their own"
            )
        touched = {written[member] for member in overlapping(arrays, views)} if views else set()
        dtypes = [entry.dtype for entry in self.spec.outputs]
        return [
            j
            for j in written
            if j in touched or targets[j].dtype != dtypes[j] or not targets[j].flags.carray
        ]

    # -- running -------------------------------------------------------------------------------

    def _run(self, arrays: list[np.ndarray], targets: Sequence[np.ndarray], slots: Any) -> None:
        program = self.spec.contiguous
        work = slots[self._plan.work_slot]
        if not program or not all(array.flags.c_contiguous for array in arrays):
            copied = bool(program) and _copies_pay(arrays, work)
            if not copied and self.run_in_order(arrays, targets):
                return
            program = 0 if copied else self._strided()
        if not program:
            program = self.spec.contiguous
            arrays = [a if a.flags.c_contiguous else a.copy(order="C") for a in arrays]
        everything = [*arrays, *targets]
        addresses = [address_of(array) for array in everything]
        strides = [stride for array in everything for stride in array.strides]
        buffers = (ctypes.c_void_p * len(everything))(*addresses)
        steps = (ctypes.c_int64 * len(strides))(*strides)
        status = (ctypes.c_int64 * STATUS_WORDS)()
        size = slots[self._plan.workspace_slot]
        workspace = self._pool.take(size) if size > 0 else None
        try:
            code = self.call_runtime.run(
                program,
                ctypes.addressof(buffers),
                ctypes.addressof(slots),
                ctypes.addressof(steps),
                workspace,
                ctypes.addressof(status),
                work > self.spec.release_threshold,
            )
        finally:
            if workspace is not None:
                self._pool.give(workspace)
        if code or status[Status.CANCEL]:
            status[Status.CODE] = status[Status.CODE] or code
            self._failed(bytes(status))

    def _strided(self) -> int:
        """The program for any strides, compiled at its first use; 0 for none."""
        with self._strided_lock:
            if self._strided_address is None:
                self._strided_address = self.descriptor[Word.STRIDED] or self.strided_program()
                if self._strided_address:
                    self.descriptor.install_strided(self._strided_address)
            return self._strided_address

    def _failed(self, status: bytes) -> NoReturn:
        """Raise what a status record means; the entry calls this with the record's bytes."""
        self.raise_status(struct.unpack(f"={STATUS_WORDS}q", status))
        raise RuntimeError(f"{self.spec.name}() failed, and its status was not explained")

    # -- messages ------------------------------------------------------------------------------

    def _refuse(self, kind: type[Exception], headline: str, *lines: str) -> NoReturn:
        texts = [f"{self.spec.name}() {headline}", *lines][:MESSAGE_LINES]
        raise kind("\n  ".join(_one_line(text) for text in texts))

    def _refuse_argument(
        self, kind: type[Exception], position: int, headline: str, *lines: str
    ) -> NoReturn:
        entry = self.spec.inputs[position]
        origin = [f"{entry.name} built at {entry.origin}"] if entry.origin else []
        where = f"argument {position + 1}, {entry.name}: {headline}"
        self._refuse(kind, where, *lines[:1], *origin, *lines[1:])

    def _refuse_dtype(self, position: int, got: str, numeric: bool) -> NoReturn:
        entry = self.spec.inputs[position]
        advice = f"if it is meant, convert it to {entry.dtype} before the call"
        self._refuse_argument(
            TypeError,
            position,
            f"expected {self._expected(position)}, got {got}",
            f"that does not become {entry.dtype} without loss" if numeric else "that is no number",
            advice if numeric else "pass an array or a number",
        )

    def _expected(self, position: int) -> str:
        entry = self.spec.inputs[position]
        if not entry.shape:
            return f"{_with_article(entry.dtype)} scalar"
        return f"{_with_article(entry.dtype)} array of shape {self._shape_text(entry.shape)}"

    def _shape_text(self, shape: Iterable[Extent]) -> str:
        names = [str(e) if isinstance(e, int) else self._slot_name(e[1]) for e in shape]
        return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"

    def _slot_name(self, slot: int) -> str:
        return self.spec.slot_names.get(slot, f"extent {slot}")

    # -- what the Function shows ---------------------------------------------------------------

    @functools.cached_property
    def call_signature(self) -> inspect.Signature:
        """One parameter for each input, positional only where a name is no identifier, and
        `out`.
        """
        kind = inspect.Parameter
        names = [entry.name for entry in self.spec.inputs]
        usable = [
            n.isidentifier() and not keyword.iskeyword(n) and n != "out" and names.count(n) == 1
            for n in names
        ]
        if all(usable):
            parameters = [kind(name, kind.POSITIONAL_OR_KEYWORD) for name in names]
        else:
            parameters = [
                kind(name if good else f"argument_{position}", kind.POSITIONAL_ONLY)
                for position, (name, good) in enumerate(zip(names, usable, strict=True))
            ]
        parameters.append(kind("out", kind.KEYWORD_ONLY, default=None))
        return inspect.Signature(parameters)

    def describe(self) -> str:
        """One line: name, inputs and outputs."""
        takes = ", ".join(
            f"{e.name}: {e.dtype}{self._shape_text(e.shape) if e.shape else ''}"
            for e in self.spec.inputs
        )
        gives = ", ".join(
            f"{e.dtype}{self._shape_text(e.shape) if e.shape else ''}" for e in self.spec.outputs
        )
        return f"{self.spec.name}({takes}) -> {gives}"


# -- values --------------------------------------------------------------------------------------

_STATUS_ERRORS: dict[int, tuple[type[BaseException], str]] = {
    Code.INDEX_OUT_OF_RANGE: (IndexError, "index {index} is out of range for extent {extent}"),
    Code.CONSTRAINT_VIOLATED: (ValueError, "extents disagree: {index} where {extent} is needed"),
    Code.CHECK_FAILED: (ValueError, "a check failed at index {index}"),
    Code.DIVISION_BY_ZERO: (ZeroDivisionError, "integer division by zero at index {index}"),
    Code.CANCELLED: (KeyboardInterrupt, "the call was cancelled"),
    Code.OUT_OF_MEMORY: (MemoryError, "out of memory"),
    Code.UNFIT_MATRIX: (np.linalg.LinAlgError, "a matrix is singular or not positive definite"),
}
_UNKNOWN_STATUS = (RuntimeError, "the program failed with code {code}")

_BIND, _CONSTANT = Axis.BIND, Axis.CONSTANT  # looking an enumeration's member up takes 0.1 us

# The implementation, and the arrays, whose call in Python has been handed to the native entry.
_handed_over: contextvars.ContextVar[tuple[Any, ...] | None] = contextvars.ContextVar(
    "graphc_handed_over", default=None
)


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether both hold the same objects."""
    return len(first) == len(second) and all(map(is_, first, second))


_FLOATING = 2
_KINDS = {"b": 0, "i": 1, "u": 1, "f": _FLOATING, "c": 3}
_NO_NUMBERS = "OSUMm"  # kinds of dtypes: objects, text, dates
_WEAK_NAMES = ("a Python bool", "a Python int", "a Python float", "a Python complex")


def _copies_pay(arrays: Sequence[np.ndarray], work: int) -> bool:
    """Whether arrays with strides are better copied: they are small, and so much is done that the
    copies are nothing. For one of them all inputs would be taken to have strides, while kernels
    that know how rows lie read them in whole vectors.
    """
    copied = [array for array in arrays if not array.flags.c_contiguous]
    few = sum(array.nbytes for array in copied) <= MOST_COPIED
    return few and work >= max(LEAST_WORK, WORK_OF_ELEMENT * sum(array.size for array in copied))


def _kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"dtype {value.dtype} and shape {value.shape}"
    name = type(value).__name__
    if isinstance(value, np.generic):
        return f"a numpy.{name}"
    return _with_article(name)


def _with_article(name: object) -> str:
    return f"{'an' if str(name)[0] in 'aeioAEIO' else 'a'} {name}"


def _one_line(text: str) -> str:
    """A line of a message: names that users chose may hold anything, and be of any length."""
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return escaped if len(escaped) <= LINE_LENGTH else escaped[: LINE_LENGTH - 3] + "..."


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"
