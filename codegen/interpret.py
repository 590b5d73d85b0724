"""What does a kernel, or a whole program, mean?  The three kernel languages, run in NumPy.

This is the reference for every printer: it separates faults of lowering from faults of printing.
Iterations that may run in any order run in lockstep, one NumPy call an instruction; a `_Context` is
a set of such iterations, and a value in it is one number for all of them or an array with one for
each. Lockstep is only one of the orders that the language allows, so a `_Ledger` notes who touched
each element of the memory that a kernel writes: an access whose result depends on the order is an
error, and so is one out of bounds or of scratch that nobody wrote. What runs here without an error
means the same in any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.codegen.loops import Buffer, Contract, Kernel, Region, identity
from graphc.codegen.memory import ALIGNMENT, aligned, storage_bytes
from graphc.codegen.program import (
    Call,
    Chain,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    Together,
    While,
)
from graphc.codegen.scalar import (
    OPCODES,
    Accumulate,
    Accumulator,
    Address,
    Barrier,
    Check,
    For,
    Routine,
    Scope,
    Store,
    Until,
    Value,
)
from graphc.codegen.softfloat import numpy_dtype
from graphc.dims import Compound, Extent, evaluate

# Iterations that one batch of tasks, or one strip of a long vector loop, holds at most, about.
LOCKSTEP = 1 << 15
# Bytes that fill memory before anything is written to it: NaN as a float, -1 as an integer.
POISON = 0xFF

NOBODY, EVERYBODY = 0, -1
_LANE_BITS = 32
_LANE = (1 << _LANE_BITS) - 1
# What stands for a lane of a task: several of them, or all that did something before a barrier.
_SEVERAL, _JOINED = _LANE, _LANE - 1


class InterpreterError(Exception):
    """A kernel or a program did what its language forbids: a fault of graphc, never of its user."""


@dataclass(frozen=True)
class Failure:
    """A check that failed at run time, in the words of a status record."""

    code: int
    node: int
    index: int


# -- one kernel -----------------------------------------------------------------------------------


def run_kernel(
    kernel: Kernel,
    buffers: Sequence[Any],
    extents: Mapping[str, int],
    workers: int = 1,
    tasks: range | None = None,
) -> list[Failure]:
    """Run a kernel on arrays, in place; returns the first failure of every check that failed.

    `buffers` are arrays of the shapes and dtypes of `kernel.buffers`, in that order; one in
    "worker" space is any contiguous memory for `workers` copies: it is poisoned, and every task has
    scratch of its own. `extents` gives the value of each of `kernel.extents`. `tasks` is the range
    of the parallel loop to run, or of the elements of a contraction in C order; all by default.
    Failures are in the order of tasks.

    Raises `InterpreterError`, with the kernel's text, where it breaks a rule of the language.
    """
    try:
        with np.errstate(all="ignore"):
            return _KernelRun(kernel, buffers, extents, workers, tasks).run()
    except (InterpreterError, LookupError, ZeroDivisionError) as error:
        raise InterpreterError(f"{error}\n{kernel.text()}") from error


class _Context:
    """Iterations that run in lockstep: `size` of them, and what is known in each.

    `index` tells of which iteration of the `outer` context each is a part; None: they are the same
    ones. `task` and `lane` identify each to a ledger: they are equal outside of vector loops.
    """

    __slots__ = (
        "extents",
        "index",
        "lane",
        "outer",
        "size",
        "states",
        "task",
        "values",
        "variables",
    )

    def __init__(
        self,
        outer: _Context | None,
        variables: Mapping[str, Any],
        size: int,
        index: Any = None,
        task: Any = None,
        lane: Any = None,
    ) -> None:
        self.outer = outer
        self.variables = variables
        self.size = size
        self.index = index
        self.task: Any = self.spread(outer.task) if task is None and outer is not None else task
        self.lane: Any = self.spread(outer.lane) if lane is None and outer is not None else lane
        self.values: dict[Value, Any] = {}
        self.extents: dict[Extent, Any] = {}
        self.states: dict[Accumulator, Any] = {}

    def spread(self, known: Any) -> Any:
        """What the outer context knows, for each iteration of this one."""
        return known if self.index is None or np.ndim(known) == 0 else known[self.index]

    def get(self, value: Value) -> Any:
        """The value of an instruction that was executed here or further out."""
        found = self.values.get(value)
        if found is None:
            if self.outer is None:
                raise InterpreterError(f"{value!r} is used where it has no value")
            found = self.values[value] = self.spread(self.outer.get(value))
        return found

    def variable(self, name: str) -> Any:
        """The value of a loop variable or an extent."""
        if name in self.variables:
            return self.variables[name]
        if self.outer is None:
            raise InterpreterError(f"{name} is used where it has no value")
        return self.spread(self.outer.variable(name))

    def extent(self, extent: Extent) -> Any:
        """The value of an index expression that no data decides."""
        if isinstance(extent, int):
            return extent
        found = self.extents.get(extent)
        if found is None:
            if self.outer is not None and extent.symbols.isdisjoint(self.variables):
                found = self.spread(self.outer.extent(extent))
            else:
                found = polynomial(extent, self.variable)
            self.extents[extent] = found
        return found


def polynomial(extent: Extent, lookup: Callable[[str], Any]) -> Any:
    """The value of an extent whose symbols have the ints or int64 arrays that `lookup` gives.

    A divisor of 0, which only an empty array has, counts as 1, as in every printed language.
    """
    if isinstance(extent, int):
        return extent
    total: Any = 0
    for monomial, coefficient in extent.terms:
        term: Any = coefficient
        for atom, power in monomial:
            factor = lookup(atom) if isinstance(atom, str) else _compound(atom, lookup)
            term = term * (factor if power == 1 else factor**power)
        total = total + term
    return total


_COMPOUNDS = {
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
}


def _compound(atom: Compound, lookup: Callable[[str], Any]) -> Any:
    first, *others = (polynomial(argument, lookup) for argument in atom.arguments)
    for other in others:
        if atom.operator in ("floordiv", "mod"):
            other = np.where(np.equal(other, 0), 1, other)[()]
        first = _COMPOUNDS[atom.operator](first, other)
    return first


# -- memory ---------------------------------------------------------------------------------------


class _Ledger:
    """Who wrote and who read each unit of a stretch of memory, as one number for each iteration.

    Behind a barrier the number of the task stands for all its lanes, with a mark of its own.
    """

    def __init__(self, units: int) -> None:
        self.writer = np.zeros(units, np.int64)
        self.reader = np.zeros(units, np.int64)

    def read(self, at: Any, lane: Any, task: Any) -> None:
        """Note reads; an error if another iteration wrote there.

        What a task wrote outside of vector loops its lanes may read: each could have done it. What
        its lanes wrote the task may read outside of vector loops: they have ended.
        """
        writer, joined = self.writer[at], _marked(lane, _JOINED)
        foreign = (writer != NOBODY) & (writer != lane) & (writer != task) & (writer != joined)
        if np.any(foreign & ((lane != task) | (writer >> _LANE_BITS != task >> _LANE_BITS))):
            raise InterpreterError("an iteration reads what another one wrote")
        reader, several = self.reader[at], _marked(lane, _SEVERAL)
        alone = (reader == NOBODY) | (reader == lane) | (reader == joined)
        near = _marked(reader, _SEVERAL) == several
        self.reader[at] = noted = np.where(alone, lane, np.where(near, several, EVERYBODY))
        held = self.reader[at]
        clash = held != noted  # several iterations read it now
        near = _marked(held, _SEVERAL) == several
        self.reader[at[clash & near]] = several[clash & near]
        self.reader[at[clash & ~near]] = EVERYBODY

    def write(self, at: Any, lane: Any) -> None:
        """Note writes; an error if another iteration wrote or read there."""
        joined = _marked(lane, _JOINED)
        for past, did in ((self.writer[at], "writes"), (self.reader[at], "reads")):
            if np.any((past != NOBODY) & (past != lane) & (past != joined)):
                raise InterpreterError(f"an iteration writes what another one {did}")
        self.writer[at] = lane
        if np.any(self.writer[at] != lane):
            raise InterpreterError("two iterations write the same element")

    def join(self, tasks: Any) -> None:
        """From now on all lanes of each of these tasks may touch what any of them has touched."""
        for numbers in (self.writer, self.reader):
            mine = np.isin(numbers >> _LANE_BITS, tasks)
            numbers[mine] = _marked(numbers[mine], _JOINED)


def _marked(numbers: Any, mark: int) -> Any:
    """The number of the task of an iteration, with a mark where that of the lane was."""
    return numbers & ~_LANE | mark


class _Memory:
    """The array of a buffer, of rank 1 at least; with a ledger if the kernel writes to this memory.

    A unit of the ledger is as many bytes as divide every address in it.
    """

    def __init__(self, buffer: Buffer, array: Any) -> None:
        self.buffer = buffer
        self.array = array.reshape(1) if array.ndim == 0 else array
        self.ledger: _Ledger | None = None
        self.start = 0
        self.steps: tuple[int, ...] = ()
        self.width = 1

    @property
    def address(self) -> int:
        return self.array.__array_interface__["data"][0]

    def share(self, ledger: _Ledger, low: int, unit: int) -> None:
        """Use a ledger whose first unit is the byte at the address `low`."""
        self.ledger = ledger
        self.start = (self.address - low) // unit
        self.steps = tuple(stride // unit for stride in self.array.strides)
        self.width = self.array.itemsize // unit

    def read(self, index: list[Any], context: _Context, active: Any) -> Any:
        index = self._checked(index, active)
        for at, lane, task in self._touched(index, context, active):
            assert self.ledger is not None
            if self.buffer.space == "worker" and np.any(self.ledger.writer[at] == NOBODY):
                raise InterpreterError(f"{self.buffer.name} is scratch, read before it is written")
            self.ledger.read(at, lane, task)
        return self.array[tuple(index)]

    def write(self, index: list[Any], value: Any, context: _Context, active: Any) -> None:
        if not self.array.flags.writeable:
            raise InterpreterError(f"{self.buffer.name} is read-only, and stored to")
        index = self._checked(index, active)
        for at, lane, _ in self._touched(index, context, active):
            assert self.ledger is not None
            self.ledger.write(at, lane)
        value = value if active is None or np.ndim(value) == 0 else value[active]
        if np.ndim(value) and not any(np.ndim(position) for position in index):
            value = value[0]  # one iteration, or the ledger would have refused
        self.array[tuple(index)] = value

    def _checked(self, index: list[Any], active: Any) -> list[Any]:
        """The index of the active iterations, all of it inside the array."""
        if self.buffer.shape == () and self.buffer.space != "worker":
            return [0]
        index = [p if active is None or np.ndim(p) == 0 else p[active] for p in index]
        for axis, (position, size) in enumerate(zip(index, self.array.shape, strict=True)):
            low, high = np.min(position), np.max(position)
            if low < 0 or high >= size:
                worst = low if low < 0 else high
                raise InterpreterError(
                    f"{self.buffer.name} is accessed at {worst} of axis {axis}, of extent {size}"
                )
        return index

    def _touched(
        self, index: list[Any], context: _Context, active: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        """The units of the ledger that each iteration touches, with its lane and task."""
        if self.ledger is None:
            return
        first: Any = self.start
        for position, step in zip(index, self.steps, strict=True):
            first = first + position * step
        owners = (context.lane, context.task)
        owners = tuple(o if active is None or np.ndim(o) == 0 else o[active] for o in owners)
        at, lane, task = np.broadcast_arrays(np.atleast_1d(first), *owners)
        for unit in range(self.width):
            yield at + unit, lane, task


def _keep_ledgers(memories: Sequence[_Memory], written: Sequence[Buffer]) -> None:
    """Give a common ledger to those that overlap each other, where one of them is written."""
    spans = [(*np.lib.array_utils.byte_bounds(m.array), m) for m in memories if m.array.size]
    cluster: list[_Memory] = []
    start = end = 0
    for low, high, memory in sorted(spans, key=lambda span: span[:2]):
        if cluster and low >= end:
            _keep_ledger(cluster, written, start, end)
            cluster = []
        if not cluster:
            start = low
        cluster.append(memory)
        end = max(end, high)
    if cluster:
        _keep_ledger(cluster, written, start, end)


def _keep_ledger(
    cluster: Sequence[_Memory], written: Sequence[Buffer], low: int, high: int
) -> None:
    if not any(memory.buffer in written for memory in cluster):
        return
    numbers = [(m.array.itemsize, m.address - low, *m.array.strides) for m in cluster]
    unit = math.gcd(*itertools.chain(*numbers))
    ledger = _Ledger((high - low) // unit)
    for memory in cluster:
        memory.share(ledger, low, unit)


# -- accumulators ---------------------------------------------------------------------------------

_COMBINERS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def _identity(combiner: str, dtype: str) -> Any:
    """What combining no values gives, as a NumPy scalar of `dtype`."""
    return numpy_dtype(dtype).type(identity(combiner, dtype))


def _combine(combiner: str, state: Any, value: Any, index: Any, size: int) -> Any:
    """`state` with values combined into it: each into the one of `size` states that `index` gives.

    `index` is sorted; None means that state and value go together one by one.
    """
    function = _COMBINERS[combiner]
    if index is None:
        return function(state, value)
    counts = np.bincount(index, minlength=size)
    if np.all(counts == counts[0]):
        return function(state, function.reduce(value.reshape(size, -1), axis=1, dtype=value.dtype))
    some = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[some]
    result = np.array(np.broadcast_to(state, size))
    result[some] = function(result[some], function.reduceat(value, starts, dtype=value.dtype))
    return result


# -- statements -----------------------------------------------------------------------------------


class _KernelRun:
    """One execution of one kernel."""

    def __init__(
        self,
        kernel: Kernel,
        buffers: Sequence[Any],
        extents: Mapping[str, int],
        workers: int,
        tasks: range | None,
    ) -> None:
        missing = [name for name in kernel.extents if name not in extents]
        if missing or len(buffers) != len(kernel.buffers):
            raise InterpreterError(
                f"{len(buffers)} arrays for {len(kernel.buffers)} buffers, "
                f"and extents without a value: {missing}"
            )
        self.kernel = kernel
        self.tasks = tasks
        self.top = _Context(None, dict(extents), 1, task=EVERYBODY, lane=EVERYBODY)
        only = self._only_task()
        if only is not None:  # what stands before its loop is a part of it
            self.top.task = self.top.lane = (only + 1) << _LANE_BITS
        self.failures: dict[Check, tuple[int, int, Failure]] = {}
        self.clock = 0
        self.widest = 1
        self.first_task = 0
        self.memories: dict[Buffer, _Memory] = {}
        self.scratch: list[Buffer] = []
        for buffer, array in zip(kernel.buffers, buffers, strict=True):
            if buffer.space == "worker":
                self.scratch.append(buffer)
                self._poison(buffer, array, workers)
            else:
                self.memories[buffer] = _Memory(buffer, self._fitting(buffer, array))
        _keep_ledgers(list(self.memories.values()), kernel.written())

    def _only_task(self) -> int | None:
        """The number of the task, if there is just one."""
        nest = self.kernel.nest
        if not isinstance(nest, For) or nest.role != "parallel":
            return None
        start, stop = self.top.extent(nest.start), self.top.extent(nest.stop)
        return int(start) if stop - start == 1 else None

    def _shape(self, buffer: Buffer) -> tuple[int, ...]:
        return tuple(int(self.top.extent(extent)) for extent in buffer.shape)

    def _fitting(self, buffer: Buffer, array: Any) -> Any:
        shape = self._shape(buffer) if buffer.layout == "contiguous" else array.shape
        if (
            array.shape != shape
            or array.ndim != len(buffer.shape)
            or array.dtype.name != buffer.dtype
        ):
            raise InterpreterError(
                f"{buffer.name} is {buffer.dtype}{list(shape)}, the array is {_described(array)}"
            )
        if buffer.layout == "contiguous" and not array.flags.c_contiguous:
            raise InterpreterError(f"{buffer.name} is contiguous, the array is not")
        return array

    def _poison(self, buffer: Buffer, array: Any, workers: int) -> None:
        """Destroy what is in the memory of scratch: a worker may have used it."""
        shape = self._shape(buffer)
        if array.nbytes < workers * math.prod(shape) * numpy_dtype(buffer.dtype).itemsize:
            raise InterpreterError(f"{buffer.name} is too small for {workers} workers")
        array.reshape(-1).view(np.uint8)[:] = POISON

    def _renew_scratch(self, tasks: int) -> None:
        """Scratch for each of some tasks."""
        for buffer in self.scratch:
            array = np.empty((tasks, *self._shape(buffer)), numpy_dtype(buffer.dtype))
            array.reshape(-1).view(np.uint8)[:] = POISON
            memory = self.memories[buffer] = _Memory(buffer, array)
            _keep_ledgers([memory], [buffer])

    def run(self) -> list[Failure]:
        self._renew_scratch(1)
        self.scope(self.kernel.body, self.top)
        return [failure for _, _, failure in sorted(self.failures.values(), key=lambda f: f[:2])]

    def scope(self, scope: Scope, context: _Context) -> None:
        self.widest = max(self.widest, context.size)
        for statement in scope.statements:
            _STATEMENTS[type(statement)](self, statement, context)

    # -- values -----------------------------------------------------------------------------------

    def value(self, value: Value, context: _Context) -> None:
        source = _SOURCES.get(value.opcode)
        if source is not None:
            context.values[value] = source(self, value, context)
            return
        record = OPCODES[value.opcode]
        assert record.numpy is not None
        operands = [context.get(argument) for argument in value.args]
        result = record.numpy(*operands, *((value.dtype,) if record.result == "stated" else ()))
        if result.dtype != numpy_dtype(value.dtype):
            raise InterpreterError(f"{value!r} has made a {result.dtype.name}")
        context.values[value] = result

    def constant(self, value: Value, context: _Context) -> Any:
        return np.array(value.immediate, numpy_dtype(value.dtype))[()]

    def index(self, value: Value, context: _Context) -> Any:
        args = [context.get(argument) for argument in value.args]
        return np.asarray(self._position(value.immediate, args, context), np.int64)[()]

    def load(self, value: Value, context: _Context) -> Any:
        address: Address = value.immediate
        args = [context.get(argument) for argument in value.args]
        memory, index = self._located(address.buffer, address.index, args[: address.count], context)
        if len(args) == address.count:
            return memory.read(index, context, None)
        mask, fill = args[address.count :]
        active = _active(mask)
        if active is None:
            return memory.read(index, context, None)
        result = np.array(np.broadcast_to(fill, context.size))
        if active.size:
            result[active] = memory.read(index, context, active)
        return result

    def call(self, value: Value, context: _Context) -> Any:
        """What a routine makes of the arguments: its values in a context of their own."""
        routine: Routine = value.immediate
        inside = _Context(None, {}, context.size, task=0, lane=0)
        for parameter, argument in zip(routine.parameters, value.args, strict=True):
            inside.values[parameter] = context.get(argument)
        self.scope(routine.body, inside)
        return inside.get(routine.result)

    def result(self, value: Value, context: _Context) -> Any:
        if isinstance(value.immediate, Accumulator):
            return context.states[value.immediate]
        return context.get(value)

    def _position(self, extent: Extent, args: Sequence[Any], context: _Context) -> Any:
        """The value of an index expression, in which `_arg0`, ... are the values of `args`."""
        if isinstance(extent, int) or not args:
            return context.extent(extent)
        named = {f"_arg{i}": argument for i, argument in enumerate(args)}
        return polynomial(
            extent, lambda name: named[name] if name in named else context.variable(name)
        )

    def _located(
        self, buffer: Buffer, extents: Sequence[Extent], args: Sequence[Any], context: _Context
    ) -> tuple[_Memory, list[Any]]:
        index = [self._position(extent, args, context) for extent in extents]
        if buffer.space == "worker":
            index.insert(0, (context.task >> _LANE_BITS) - 1 - self.first_task)
        return self.memories[buffer], index

    # -- effects ----------------------------------------------------------------------------------

    def store(self, s: Store, context: _Context) -> None:
        args = [context.get(argument) for argument in s.args]
        memory, index = self._located(s.buffer, s.index, args, context)
        active = None if s.mask is None else _active(context.get(s.mask))
        if active is None or active.size:
            memory.write(index, context.get(s.value), context, active)

    def accumulate(self, s: Accumulate, context: _Context) -> None:
        combiner, dtype = s.accumulator.combiner, s.accumulator.dtype
        value = context.get(s.value)
        if s.mask is not None:
            value = np.where(context.get(s.mask), value, _identity(combiner, dtype))
        index: Any = None
        owner = context
        while s.accumulator not in owner.states:
            if owner.outer is None:
                raise InterpreterError("accumulation outside of its loop")
            if owner.index is not None:
                index = owner.index if index is None else owner.index[index]
            owner = owner.outer
        value = np.broadcast_to(value, context.size) if index is not None else value
        state = owner.states[s.accumulator]
        owner.states[s.accumulator] = _combine(combiner, state, value, index, owner.size)

    def check(self, s: Check, context: _Context) -> None:
        failed = np.flatnonzero(~np.broadcast_to(context.get(s.condition), context.size))
        if not failed.size:
            return
        self.clock += 1
        first = failed[0]
        task = np.broadcast_to(context.task, context.size)[first]
        index = np.broadcast_to(context.get(s.index), context.size)[first]
        entry = (int(task), self.clock, Failure(s.code, s.node, int(index)))
        self.failures[s] = min(self.failures.get(s, entry), entry, key=lambda e: e[:2])

    # -- loops ------------------------------------------------------------------------------------

    def loop(self, s: For, context: _Context) -> None:
        for accumulator in s.accumulators:
            context.states[accumulator] = _identity(accumulator.combiner, accumulator.dtype)
        start, stop = context.extent(s.start), context.extent(s.stop)
        _ROLES[s.role](self, s, context, start, stop)

    def parallel(self, s: For, context: _Context, start: Any, stop: Any) -> None:
        """Batches of tasks in lockstep: the first alone, to see how many iterations a task has."""
        if context is not self.top or s.accumulators:
            raise InterpreterError("a parallel loop is outermost and accumulates nothing")
        every = range(int(start), int(stop))
        tasks = every if self.tasks is None else self.tasks
        if len(tasks) and (tasks.step != 1 or tasks[0] not in every or tasks[-1] not in every):
            raise InterpreterError(f"tasks {tasks} of a parallel loop over {every}")
        low, batch = tasks.start, 1
        while low < tasks.stop:
            numbers = np.arange(low, min(low + batch, tasks.stop))
            self.first_task = low
            self._renew_scratch(numbers.size)
            owner = (numbers + 1) << _LANE_BITS
            index = np.zeros(numbers.size, np.int64)
            inner = _Context(context, {s.variable: numbers}, numbers.size, index, owner, owner)
            self.scope(s.body, inner)
            low += numbers.size
            batch = max(1, LOCKSTEP * numbers.size // self.widest)
            self.widest = 1

    def vector(self, s: For, context: _Context, start: Any, stop: Any) -> None:
        """All lanes of all iterations at once, in strips."""
        counts = np.maximum(np.broadcast_to(stop - start, context.size), 0)
        part = np.repeat(np.arange(context.size), counts)
        ordinal = np.arange(part.size) - np.repeat(np.cumsum(counts) - counts, counts)
        variable = np.broadcast_to(start, context.size)[part] + ordinal
        for low in range(0, part.size, 2 * LOCKSTEP):
            strip = slice(low, low + 2 * LOCKSTEP)
            index = part[strip]
            lane = np.broadcast_to(context.task, context.size)[index] + 1 + ordinal[strip]
            self.scope(
                s.body,
                _Context(context, {s.variable: variable[strip]}, index.size, index, lane=lane),
            )

    def serial(self, s: For, context: _Context, start: Any, stop: Any) -> None:
        """One iteration after the other; where ranges differ, for those that have the iteration."""
        uniform = np.ndim(start) == 0 and np.ndim(stop) == 0
        for number in range(int(np.min(start)), int(np.max(stop))):
            if uniform:
                inner = _Context(context, {s.variable: number}, context.size)
            else:
                active = np.broadcast_to((start <= number) & (number < stop), context.size)
                index = np.flatnonzero(active)
                inner = _Context(context, {s.variable: number}, index.size, index)
            if inner.size:
                self.scope(s.body, inner)
                if inner.size == context.size and _finished(s.body, inner):
                    return

    def barrier(self, s: Barrier, context: _Context) -> None:
        """The tasks of the context have done together what their lanes have done."""
        tasks = np.unique(np.asarray(context.task) >> _LANE_BITS)
        for ledger in {id(m.ledger): m.ledger for m in self.memories.values()}.values():
            if ledger is not None:
                ledger.join(tasks)

    def until(self, s: Until, context: _Context) -> None:
        """Looked at by the loop, when its body has run."""

    # -- contraction ------------------------------------------------------------------------------

    def contract(self, s: Contract, context: _Context) -> None:
        if context is not self.top:
            raise InterpreterError("a contraction is outermost")
        b, m, n, k = (int(context.extent(e)) for e in (s.batch, s.rows, s.columns, s.depth))
        left = self._operand(s.left, (b, m, k), s.dtype)
        right = self._operand(s.right, (b, k, n), s.dtype)
        product = np.matmul(left, right).reshape(-1)
        tasks = range(b * m * n) if self.tasks is None else self.tasks
        for numbers, inner in self._grid(s.epilogue, (b, m, n), tasks, owned=True):
            if s.product is not None:
                inner.values[s.product] = product[numbers]
            self.scope(s.epilogue.body, inner)

    def _operand(self, region: Region, shape: tuple[int, int, int], dtype: str) -> Any:
        """The elements of one side of a contraction."""
        assert region.value is not None
        whole = np.empty(math.prod(shape), numpy_dtype(dtype))
        for numbers, inner in self._grid(region, shape, range(whole.size), owned=False):
            self.scope(region.body, inner)
            whole[numbers] = inner.get(region.value)
        return whole.reshape(shape)

    def _grid(
        self, region: Region, shape: tuple[int, int, int], numbers: range, owned: bool
    ) -> Iterator[tuple[Any, _Context]]:
        """The index space of a region in strips: element numbers, and their context.

        Elements of an epilogue are tasks; those of a prologue are read by whoever needs them.
        """
        for low in range(numbers.start, numbers.stop, 2 * LOCKSTEP):
            strip = np.arange(low, min(low + 2 * LOCKSTEP, numbers.stop))
            axes = dict(zip(region.variables, np.unravel_index(strip, shape), strict=True))
            index = np.zeros(strip.size, np.int64)
            owner = (strip + 1) << _LANE_BITS if owned else EVERYBODY
            yield strip, _Context(self.top, axes, strip.size, index, owner, owner)


def _finished(body: Scope, context: _Context) -> bool:
    """Whether no further iteration of a loop is needed."""
    last = body.statements[-1] if body.statements else None
    return isinstance(last, Until) and bool(np.all(context.get(last.condition)))


def _described(array: Any) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _active(mask: Any) -> Any:
    """The iterations in which a mask holds; None for all of them."""
    if np.ndim(mask) == 0:
        return None if mask else np.empty(0, np.int64)
    return None if mask.all() else np.flatnonzero(mask)


_STATEMENTS: dict[type, Callable[[_KernelRun, Any, _Context], None]] = {
    Value: _KernelRun.value,
    Store: _KernelRun.store,
    Accumulate: _KernelRun.accumulate,
    Check: _KernelRun.check,
    Barrier: _KernelRun.barrier,
    Until: _KernelRun.until,
    For: _KernelRun.loop,
    Contract: _KernelRun.contract,
}
_SOURCES: dict[str, Callable[[_KernelRun, Value, _Context], Any]] = {
    "const": _KernelRun.constant,
    "index": _KernelRun.index,
    "load": _KernelRun.load,
    "result": _KernelRun.result,
    "call": _KernelRun.call,
}
_ROLES: dict[str, Callable[[_KernelRun, For, _Context, Any, Any], None]] = {
    "parallel": _KernelRun.parallel,
    "vector": _KernelRun.vector,
    "serial": _KernelRun.serial,
}


# -- programs -------------------------------------------------------------------------------------

Trace = Callable[[Launch, list[Any]], None]


def run_program(
    program: Program,
    inputs: Sequence[Any],
    sizes: Mapping[str, int],
    workers: int = 1,
    trace: Trace | None = None,
) -> tuple[list[Any], list[Failure]]:
    """The outputs of a program on arrays, and the failures of its checks, in order.

    `inputs` are arrays of the types of the main procedure's inputs, which are never written; those
    that the program takes as strided may have any strides. `sizes` gives every named dimension.
    `workers` is the number for which memory was planned. Temporaries live at their planned offsets
    in one arena of poisoned bytes, so that a wrong plan shows. `trace(launch, arrays)` is called
    after each launch with the arrays of its operands.

    Raises `InterpreterError` where a program or one of its kernels breaks a rule of its language.
    """
    run = _ProgramRun(workers, trace)
    main = program.main
    given = [_read_only(np.asarray(array)) for array in inputs]
    outputs = []
    for storage in main.outputs:
        shape = tuple(evaluate(extent, sizes) for extent in storage.shape)
        outputs.append(
            _poisoned(math.prod(shape) * storage.dtype.itemsize).view(storage.dtype).reshape(shape)
        )
    arena = _poisoned(evaluate(main.arena, sizes))
    run.procedure(main, [*given, *outputs], sizes, arena)
    return outputs, run.failures


def _poisoned(size: int) -> Any:
    return np.full(size, POISON, np.uint8)


def _read_only(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass
class _Activation:
    """One call of a procedure: its arena, the values of names, the arrays of storages."""

    arena: Any
    sizes: dict[str, int]
    arrays: dict[Storage, Any] = field(default_factory=dict)

    def shape(self, storage: Storage) -> tuple[int, ...]:
        return tuple(evaluate(extent, self.sizes) for extent in storage.shape)


class _ProgramRun:
    """One execution of one program."""

    def __init__(self, workers: int, trace: Trace | None) -> None:
        self.workers = workers
        self.trace = trace
        self.failures: list[Failure] = []

    def procedure(
        self, procedure: Procedure, arrays: Sequence[Any], sizes: Mapping[str, int], arena: Any
    ) -> None:
        activation = _Activation(arena, dict(sizes))
        formals = [*procedure.inputs, *procedure.outputs]
        if len(arrays) != len(formals):
            raise InterpreterError(
                f"{procedure.name} takes {len(formals)} arrays, got {len(arrays)}"
            )
        for storage, array in zip(formals, arrays, strict=True):
            shape = activation.shape(storage)
            if array.dtype != storage.dtype or array.shape != shape:
                raise InterpreterError(
                    f"{storage.kind} {storage.position} of {procedure.name} is "
                    f"{storage.dtype.name}{list(shape)}, the array is {_described(array)}"
                )
            if not storage.strided and not array.flags.c_contiguous:
                raise InterpreterError(
                    f"{storage.kind} {storage.position} of {procedure.name} is not contiguous"
                )
            activation.arrays[storage] = array
        self.statements(procedure.body, activation)

    def statements(self, body: Sequence[Statement], activation: _Activation) -> None:
        for statement in body:
            if isinstance(statement, Launch):
                self.launch(statement, activation)
            elif isinstance(statement, Loop):
                self.loop(statement, activation)
            elif isinstance(statement, While):
                self.repeat(statement, activation)
            elif isinstance(statement, Switch):
                index = int(self._view(statement.index, (), activation)[()])
                chosen = min(max(index, 0), len(statement.branches) - 1)
                self.statements(statement.branches[chosen], activation)
            elif isinstance(statement, (Chain, Together)):
                self.statements(statement.launches, activation)
            else:
                self.call(statement, activation)

    def launch(self, launch: Launch, activation: _Activation) -> None:
        kernel, nest = launch.kernel, launch.kernel.nest
        sizes = activation.sizes
        arrays = []
        for buffer, operand in zip(kernel.buffers, launch.operands, strict=True):
            if buffer.space == "worker":
                arrays.append(self._scratch(operand.storage, activation))
            else:
                shape = tuple(evaluate(extent, sizes) for extent in buffer.shape)
                arrays.append(self._view(operand, shape, activation))
        tasks, grain = evaluate(launch.tasks, sizes), evaluate(launch.grain, sizes)
        if isinstance(nest, For) and tasks != evaluate(nest.stop - nest.start, sizes) or grain < 1:
            raise InterpreterError(f"{tasks} tasks in grains of {grain} for\n{kernel.text()}")
        if launch.scratch is not None:
            self._scratch(launch.scratch, activation)[:] = POISON
        self.failures += run_kernel(kernel, arrays, sizes, self.workers)
        if self.trace is not None:
            self.trace(launch, arrays)

    def loop(self, loop: Loop, activation: _Activation) -> None:
        steps = range(evaluate(loop.length, activation.sizes))
        for step in reversed(steps) if loop.reverse else steps:
            activation.sizes[loop.variable] = step
            self.statements(loop.body, activation)
        activation.sizes.pop(loop.variable, None)

    def repeat(self, loop: While, activation: _Activation) -> None:
        while True:
            self.statements(loop.test, activation)
            if self.failures or not self._view(loop.condition, (), activation)[()]:
                return
            self.statements(loop.body, activation)

    def call(self, call: Call, activation: _Activation) -> None:
        callee = call.procedure
        sizes = {name: evaluate(extent, activation.sizes) for name, extent in call.sizes.items()}
        formals = [*callee.inputs, *callee.outputs]
        arrays = []
        for storage, operand in zip(formals, call.operands, strict=True):
            shape = tuple(evaluate(extent, sizes) for extent in storage.shape)
            view = self._view(operand, shape, activation)
            arrays.append(_read_only(view) if storage.kind == "input" else view)
        arena = _poisoned(0) if call.scratch is None else self._scratch(call.scratch, activation)
        arena[:] = POISON
        self.procedure(callee, arrays, sizes, arena)

    def _view(self, operand: Operand, shape: tuple[int, ...], activation: _Activation) -> Any:
        """The array of `shape` that starts `offset` elements into a storage."""
        storage = operand.storage
        array = self._array(storage, activation)
        offset = evaluate(operand.offset, activation.sizes)
        if array.shape == shape and offset == 0:
            return array
        size = math.prod(shape)
        if not array.flags.c_contiguous or offset < 0 or offset + size > array.size:
            raise InterpreterError(
                f"{list(shape)} at element {offset} of a {storage.kind}: {_described(array)}"
            )
        return array.reshape(-1)[offset : offset + size].reshape(shape)

    def _array(self, storage: Storage, activation: _Activation) -> Any:
        found = activation.arrays.get(storage)
        if found is not None:
            return found
        if storage.kind == "constant":
            made = _read_only(
                np.ascontiguousarray(storage.array, storage.dtype).reshape(storage.array.shape)
            )
        elif storage.kind == "temporary":
            shape = activation.shape(storage)
            size = math.prod(shape) * storage.dtype.itemsize
            made = self._planned(storage, size, activation).view(storage.dtype).reshape(shape)
        elif storage.kind == "held":
            shape = activation.shape(storage)
            size = math.prod(shape) * storage.dtype.itemsize
            made = _poisoned(size).view(storage.dtype).reshape(shape)
        else:
            raise InterpreterError(f"a {storage.kind} that is no parameter of the procedure")
        activation.arrays[storage] = made
        return made

    def _scratch(self, storage: Storage, activation: _Activation) -> Any:
        """The bytes of a storage in the arena, copies for all workers included."""
        size = evaluate(storage_bytes(storage, self.workers), activation.sizes)
        return self._planned(storage, size, activation)

    def _planned(self, storage: Storage, size: int, activation: _Activation) -> Any:
        offset = evaluate(storage.offset, activation.sizes)
        end = offset + evaluate(aligned(size), activation.sizes)
        if offset % ALIGNMENT or end > activation.arena.size:
            raise InterpreterError(
                f"a {storage.kind} of {size} bytes is planned at {offset} "
                f"of an arena of {activation.arena.size}"
            )
        return activation.arena[offset : offset + size]


__all__ = ["Failure", "InterpreterError", "polynomial", "run_kernel", "run_program"]
