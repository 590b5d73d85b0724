"""What does a kernel mean?  Its statements, run in NumPy, task by task in lockstep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.codegen.interpret.context import Context, polynomial
from graphc.codegen.interpret.faults import Failure, InterpreterError, described
from graphc.codegen.interpret.memory import (
    EVERYBODY,
    LANE_BITS,
    POISON,
    Memory,
    keep_ledgers,
)
from graphc.codegen.interpret.states import combine, first_state
from graphc.codegen.lapack import NOT_ASKED, ROUTINES
from graphc.codegen.loops import Buffer, Contract, Kernel, Region
from graphc.codegen.scalar import (
    OPCODES,
    Accumulate,
    Accumulator,
    Address,
    Barrier,
    Check,
    For,
    Library,
    Routine,
    Scope,
    Store,
    Until,
    Value,
    entry_of,
)
from graphc.codegen.softfloat import numpy_dtype
from graphc.dims import Extent

# Iterations that one batch of tasks, or one strip of a long vector loop, holds at most, about.
LOCKSTEP = 1 << 15


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
            return KernelRun(kernel, buffers, extents, workers, tasks).run()
    except (InterpreterError, LookupError, ZeroDivisionError) as error:
        raise InterpreterError(f"{error}\n{kernel.text()}") from error


class KernelRun:
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
        self.top = Context(None, dict(extents), 1, task=EVERYBODY, lane=EVERYBODY)
        only = self._only_task()
        if only is not None:  # what stands before its loop is a part of it
            self.top.task = self.top.lane = (only + 1) << LANE_BITS
        self.failures: dict[Check, tuple[int, int, Failure]] = {}
        self.clock = 0
        self.widest = 1
        self.first_task = 0
        self.memories: dict[Buffer, Memory] = {}
        self.scratch: list[Buffer] = []
        for buffer, array in zip(kernel.buffers, buffers, strict=True):
            if buffer.space == "worker":
                self.scratch.append(buffer)
                self._poison(buffer, array, workers)
            else:
                self.memories[buffer] = Memory(buffer, self._fitting(buffer, array))
        keep_ledgers(list(self.memories.values()), kernel.written())

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
                f"{buffer.name} is {buffer.dtype}{list(shape)}, the array is {described(array)}"
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
            memory = self.memories[buffer] = Memory(buffer, array)
            keep_ledgers([memory], [buffer])

    def run(self) -> list[Failure]:
        self._renew_scratch(1)
        self.scope(self.kernel.body, self.top)
        return [failure for _, _, failure in sorted(self.failures.values(), key=lambda f: f[:2])]

    def scope(self, scope: Scope, context: Context) -> None:
        self.widest = max(self.widest, context.size)
        for statement in scope.statements:
            _STATEMENTS[type(statement)](self, statement, context)

    # -- values -----------------------------------------------------------------------------------

    def value(self, value: Value, context: Context) -> None:
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

    def constant(self, value: Value, context: Context) -> Any:
        return np.array(value.immediate, numpy_dtype(value.dtype))[()]

    def index(self, value: Value, context: Context) -> Any:
        args = [context.get(argument) for argument in value.args]
        return np.asarray(self._position(value.immediate, args, context), np.int64)[()]

    def load(self, value: Value, context: Context) -> Any:
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

    def call(self, value: Value, context: Context) -> Any:
        """What a routine makes of the arguments: its values in a context of their own."""
        routine: Routine = value.immediate
        inside = Context(None, {}, context.size, task=0, lane=0)
        for parameter, argument in zip(routine.parameters, value.args, strict=True):
            inside.values[parameter] = context.get(argument)
        self.scope(routine.body, inside)
        return inside.get(routine.result)

    def lookup(self, value: Value, context: Context) -> Any:
        return entry_of(context.get(value.args[0]), value.immediate, value.dtype)

    def result(self, value: Value, context: Context) -> Any:
        if isinstance(value.immediate, Accumulator):
            return context.states[value.immediate]
        return context.get(value)

    def _position(self, extent: Extent, args: Sequence[Any], context: Context) -> Any:
        """The value of an index expression, in which `_arg0`, ... are the values of `args`."""
        if isinstance(extent, int) or not args:
            return context.extent(extent)
        named = {f"_arg{i}": argument for i, argument in enumerate(args)}
        return polynomial(
            extent, lambda name: named[name] if name in named else context.variable(name)
        )

    def _located(
        self, buffer: Buffer, extents: Sequence[Extent], args: Sequence[Any], context: Context
    ) -> tuple[Memory, list[Any]]:
        index = [self._position(extent, args, context) for extent in extents]
        if buffer.space == "worker":
            index.insert(0, (context.task >> LANE_BITS) - 1 - self.first_task)
        return self.memories[buffer], index

    # -- effects ----------------------------------------------------------------------------------

    def store(self, s: Store, context: Context) -> None:
        args = [context.get(argument) for argument in s.args]
        memory, index = self._located(s.buffer, s.index, args, context)
        active = None if s.mask is None else _active(context.get(s.mask))
        if active is None or active.size:
            memory.write(index, context.get(s.value), context, active)

    def accumulate(self, s: Accumulate, context: Context) -> None:
        combiner, dtype = s.accumulator.combiner, s.accumulator.dtype
        value = context.get(s.value)
        if s.factor is not None:
            value = value * context.get(s.factor)
        if s.mask is not None:
            value = np.where(context.get(s.mask), value, first_state(combiner, dtype))
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
        owner.states[s.accumulator] = combine(combiner, state, value, index, owner.size)

    def check(self, s: Check, context: Context) -> None:
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

    def loop(self, s: For, context: Context) -> None:
        for accumulator in s.accumulators:
            context.states[accumulator] = first_state(accumulator.combiner, accumulator.dtype)
        start, stop = context.extent(s.start), context.extent(s.stop)
        _ROLES[s.role](self, s, context, start, stop)

    def parallel(self, s: For, context: Context, start: Any, stop: Any) -> None:
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
            owner = (numbers + 1) << LANE_BITS
            index = np.zeros(numbers.size, np.int64)
            inner = Context(context, {s.variable: numbers}, numbers.size, index, owner, owner)
            self.scope(s.body, inner)
            low += numbers.size
            batch = max(1, LOCKSTEP * numbers.size // self.widest)
            self.widest = 1

    def vector(self, s: For, context: Context, start: Any, stop: Any) -> None:
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
                Context(context, {s.variable: variable[strip]}, index.size, index, lane=lane),
            )

    def serial(self, s: For, context: Context, start: Any, stop: Any) -> None:
        """One iteration after the other; where ranges differ, for those that have the iteration."""
        uniform = np.ndim(start) == 0 and np.ndim(stop) == 0
        for number in range(int(np.min(start)), int(np.max(stop))):
            if uniform:
                inner = Context(context, {s.variable: number}, context.size)
            else:
                active = np.broadcast_to((start <= number) & (number < stop), context.size)
                index = np.flatnonzero(active)
                inner = Context(context, {s.variable: number}, index.size, index)
            if inner.size:
                self.scope(s.body, inner)
                if inner.size == context.size and _finished(s.body, inner):
                    return

    def barrier(self, s: Barrier, context: Context) -> None:
        """The tasks of the context have done together what their lanes have done."""
        tasks = np.unique(np.asarray(context.task) >> LANE_BITS)
        for ledger in {id(m.ledger): m.ledger for m in self.memories.values()}.values():
            if ledger is not None:
                ledger.join(tasks)

    def until(self, s: Until, context: Context) -> None:
        """Looked at by the loop, when its body has run."""

    def library(self, s: Library, context: Context) -> None:
        """The routine's meaning, task by task. To a ledger it is the whole task that has worked,
        also where the routine is not asked: then there is in the scratch what was there.
        """
        routine = ROUTINES[s.routine]
        self.barrier(Barrier(), context)
        memories = dict(zip(routine.arrays, (self.memories[b] for b in s.buffers), strict=True))
        asked = np.broadcast_to(context.get(s.condition), context.size)
        owners = np.broadcast_to(context.task, context.size)
        outcomes = np.full(context.size, NOT_ASKED, np.int64)
        for i in range(context.size):
            slot = (owners[i] >> LANE_BITS) - 1 - self.first_task
            arrays = {name: memory.taken(slot, owners[i]) for name, memory in memories.items()}
            if asked[i]:
                outcomes[i] = routine.meaning(arrays)
        context.values[s.outcome] = outcomes

    # -- contraction ------------------------------------------------------------------------------

    def contract(self, s: Contract, context: Context) -> None:
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
    ) -> Iterator[tuple[Any, Context]]:
        """The index space of a region in strips: element numbers, and their context.

        Elements of an epilogue are tasks; those of a prologue are read by whoever needs them.
        """
        for low in range(numbers.start, numbers.stop, 2 * LOCKSTEP):
            strip = np.arange(low, min(low + 2 * LOCKSTEP, numbers.stop))
            axes = dict(zip(region.variables, np.unravel_index(strip, shape), strict=True))
            index = np.zeros(strip.size, np.int64)
            owner = (strip + 1) << LANE_BITS if owned else EVERYBODY
            yield strip, Context(self.top, axes, strip.size, index, owner, owner)


def _finished(body: Scope, context: Context) -> bool:
    """Whether no further iteration of a loop is needed."""
    last = body.statements[-1] if body.statements else None
    return isinstance(last, Until) and bool(np.all(context.get(last.condition)))


def _active(mask: Any) -> Any:
    """The iterations in which a mask holds; None for all of them."""
    if np.ndim(mask) == 0:
        return None if mask else np.empty(0, np.int64)
    return None if mask.all() else np.flatnonzero(mask)


_STATEMENTS: dict[type, Callable[[KernelRun, Any, Context], None]] = {
    Value: KernelRun.value,
    Store: KernelRun.store,
    Accumulate: KernelRun.accumulate,
    Check: KernelRun.check,
    Barrier: KernelRun.barrier,
    Until: KernelRun.until,
    Library: KernelRun.library,
    For: KernelRun.loop,
    Contract: KernelRun.contract,
}
_SOURCES: dict[str, Callable[[KernelRun, Value, Context], Any]] = {
    "const": KernelRun.constant,
    "index": KernelRun.index,
    "load": KernelRun.load,
    "result": KernelRun.result,
    "call": KernelRun.call,
    "lookup": KernelRun.lookup,
}
_ROLES: dict[str, Callable[[KernelRun, For, Context, Any, Any], None]] = {
    "parallel": KernelRun.parallel,
    "vector": KernelRun.vector,
    "serial": KernelRun.serial,
}
