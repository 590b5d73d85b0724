"""What is a kernel?  A loop nest over buffers, in a closed language with stated rules.

The statements are those of `scalar` (values, loads, stores, loops with roles, accumulators, checks,
barriers, routines of a library) plus one tile contraction. A `Kernel` binds them to an ordered list
of buffers and to the extents it needs; the order of both is the layout of the frame that a launch
fills in. `verify` is the executable statement of the rules; tests run it after every pass. `text`
prints a kernel with canonical names: equal text means equal kernels.

Meaning: see `docs/decisions/0002-kernel-languages.md` and the interpreter, which is the reference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from graphc.codegen.lapack import ROUTINES
from graphc.codegen.scalar import (
    BITS,
    FLOATS,
    ROLES,
    UNSIGNED,
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
    item_bytes,
    walk,
)
from graphc.dims import (
    Bounds,
    Compound,
    Dim,
    Extent,
    affine,
    ceildiv,
    joined,
    separated,
    substitute,
    symbols_of,
)

COMBINERS = ("add", "mul", "max", "min", "and", "or")
# Of a line of memory, and of a vector of the widest machines.
LINE_BYTES = WIDEST_BYTES = 64
# The least iterations of a vector loop that are worth a task of their own, in elements.
CHUNK = 4096
# Multiplications of a product that are a task, about 20 us of one core; and up to which one worker
# alone does all of it without asking the pool: a millisecond.
TASK_WORK, SERIAL_WORK = 2**20, 2**26
# Lanes of a tile that is read along one axis and written along another, at least and at most: lines
# of memory are used whole along both.
TURNED_SIDE, MOST_TURNED = 64, 256


def identity(combiner: str, dtype: str) -> Any:
    """The value at which an accumulator starts, and which a reduction of nothing has."""
    if combiner in ("and", "or"):
        return combiner == "and"
    if combiner in ("add", "mul"):
        return int(combiner == "mul")
    sign = -1 if combiner == "max" else 1
    if dtype in FLOATS:
        return sign * float("inf")
    bits = BITS[dtype]
    if dtype in UNSIGNED:
        return 0 if combiner == "max" else 2**bits - 1
    return -(2 ** (bits - 1)) if combiner == "max" else 2 ** (bits - 1) - 1


def most_steps(start: Extent, stop: Extent) -> int | None:
    """The most iterations from `start` to `stop`, where that is plain to see: None if not."""
    if not isinstance(stop, Dim):
        return max(0, stop - start) if isinstance(start, int) else None
    ends: Sequence[Extent] = (stop,)
    if len(stop.terms) == 1:
        ((monomial, coefficient),) = stop.terms
        atom, power = monomial[0] if len(monomial) == 1 else ("", 0)
        if isinstance(atom, Compound) and (atom.operator, power, coefficient) == ("min", 1, 1):
            ends = atom.arguments
    found = [steps for end in ends if isinstance(steps := end - start, int)]
    return max(0, min(found)) if found else None


@dataclass(eq=False)
class Buffer:
    """A typed array that a kernel reads or writes.

    `layout` is "contiguous" (C order, strides follow from the shape) or "strided" (strides in bytes
    come with the frame). `space` is "global", or "worker": scratch of which each worker has its own
    copy of this shape. `next_step` is how many bytes on the next step of the loop around the kernel
    finds the same, if it is so far away that it is worth asking for; 0 if not.
    """

    name: str
    dtype: str
    shape: tuple[Extent, ...]
    layout: str = "contiguous"
    space: str = "global"
    next_step: int = 0

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        return item_bytes(self.dtype)


@dataclass(eq=False)
class Region:
    """A scope with bound index variables and, for prologues, the value that it computes.

    `lines` says the same once more for an operand whose rows (left) or columns (right) are several
    axes of an array: the variable for them is taken apart into the number of a line of `length`
    elements and the place in the line. Over the places of one line an index has a constant step.
    """

    variables: tuple[str, ...]
    body: Scope
    value: Value | None = None
    lines: Region | None = None
    length: Extent = 0


@dataclass(eq=False)
class Contract:
    """For every (b, i, j): the sum over k of left(b, i, k) * right(b, k, j), handed to the epilogue
    as `product`.

    `left` binds (b, i, k), `right` binds (b, k, j), `epilogue` binds (b, i, j) and stores what it
    makes of `product`, the finished sum: a value of opcode "result" whose immediate is this
    statement. `overwriting` are buffers that lie over operands of the epilogue: sums must not be
    accumulated there.
    """

    batch: Extent
    rows: Extent
    columns: Extent
    depth: Extent
    dtype: str
    left: Region
    right: Region
    epilogue: Region
    product: Value | None = None
    overwriting: list[Buffer] = field(default_factory=list)


@dataclass(eq=False)
class Kernel:
    """One launchable kernel: `body` holds a single parallel `For`, or a single `Contract`."""

    buffers: list[Buffer]
    body: Scope
    title: str = ""
    notes: list[str] = field(default_factory=list)
    name: str = ""

    @property
    def nest(self) -> For | Contract:
        """The parallel loop or contraction that the kernel is."""
        return next(s for s in self.body.statements if isinstance(s, (For, Contract)))

    @functools.cached_property
    def extents(self) -> tuple[str, ...]:
        """The names of the extents that the kernel reads, in order. Found once: a kernel is whole
        when it is made, and every function of its text and every launch asks.
        """
        return tuple(sorted(free_extents(self)))

    def frame(self) -> list[tuple[str, Any]]:
        """The words of a frame: ("buffer", b), ("stride", (b, axis)), ("extent", name), ("status",
        None).

        A contraction also has ("scratch", None), its workspace, and ("workers", None), how many may
        run it.
        """
        words: list[tuple[str, Any]] = [("buffer", buffer) for buffer in self.buffers]
        words += [
            ("stride", (buffer, axis))
            for buffer in self.buffers
            if buffer.layout == "strided"
            for axis in range(len(buffer.shape))
        ]
        words += [("extent", name) for name in self.extents]
        if isinstance(self.nest, Contract):
            words += [("scratch", None), ("workers", None)]
        return [*words, ("status", None)]

    def written(self) -> list[Buffer]:
        """The buffers that the kernel stores to."""
        stores: set[Buffer] = set()
        for scope in scopes(self):
            for s in walk(scope):
                if isinstance(s, Store):
                    stores.add(s.buffer)
                elif isinstance(s, Library):
                    stores.update(s.buffers)
        return [buffer for buffer in self.buffers if buffer in stores]

    def text(self) -> str:
        """The kernel in canonical names: what it computes, without where it came from."""
        return _Printer(self).text()


@dataclass(frozen=True)
class Plain:
    """An operand of a contraction that lies in memory with constant steps: `buffer[start + sum(step
    * variable)]`.

    `start` and `steps` are in elements, or in bytes if the buffer is strided.
    """

    buffer: Buffer
    start: Extent
    steps: tuple[Extent, Extent, Extent]


def plain_operand(region: Region) -> Plain | None:
    """The operand of a region that is nothing but one load with constant steps; None for any other.
    """
    value = region.value
    if value is None or value.opcode != "load" or value.args:
        return None
    address: Address = value.immediate
    split = constant_steps(linear(address.buffer, address.index), region.variables)
    return None if split is None else Plain(address.buffer, *split)


def known_operands(contract: Contract) -> tuple[Plain, Plain] | None:
    """The operands of a product all of whose sizes are numbers, if they are read in place and their
    steps are numbers, too.
    """
    sizes = (contract.batch, contract.rows, contract.columns, contract.depth)
    if not all(isinstance(size, int) for size in sizes):
        return None
    left, right = plain_operand(contract.left), plain_operand(contract.right)
    if left is None or right is None:
        return None
    known = all(isinstance(step, int) for step in (*left.steps, *right.steps))
    return (left, right) if known else None


def constant_steps(
    position: Extent, variables: Sequence[str]
) -> tuple[Extent, tuple[Extent, Extent, Extent]] | None:
    """Where a position starts, and its constant steps along three variables, if it has such."""
    rest = position
    steps: list[Extent] = []
    for name in variables:
        split = affine(rest, name)
        if split is None or symbols_of(split[0]) & set(variables):
            return None
        steps.append(split[0])
        rest = split[1]
    return rest, (steps[0], steps[1], steps[2])


@dataclass(frozen=True)
class Tabled:
    """An operand that lies in memory, `buffer[start + sum(parts)]`: there is a part for each of its
    variables, which mentions no other, so that it can be tabulated.

    `start` and `parts` are in elements, or in bytes if the buffer is strided.
    """

    buffer: Buffer
    start: Extent
    parts: tuple[Extent, Extent, Extent]


def tabled_operand(region: Region) -> Tabled | None:
    """The operand of a region that is nothing but one load, at a place that is a sum over its
    variables; None for any other. Windows into an array are such operands.
    """
    value = region.value
    if value is None or value.opcode != "load" or value.args:
        return None
    address: Address = value.immediate
    split = separated(linear(address.buffer, address.index), region.variables)
    if split is None:
        return None
    return Tabled(address.buffer, split[0], (split[1], split[2], split[3]))


@dataclass(frozen=True)
class Placed:
    """An operand that lies in memory, with constant steps along its last two variables, and whose
    place is any function of its first, the product of the batch: heads that lie side by side in the
    rows of several sequences have no one step from each to the next.

    `start`, `place` and `steps` are in elements, or in bytes if the buffer is strided.
    """

    buffer: Buffer
    start: Extent
    place: Extent
    steps: tuple[Extent, Extent]


def placed_operand(region: Region) -> Placed | None:
    """The operand of a region that has no constant step along the batch, but along all else."""
    tabled = None if plain_operand(region) is not None else tabled_operand(region)
    if tabled is None:
        return None
    place, *parts = tabled.parts
    steps = [affine(part, name) for part, name in zip(parts, region.variables[1:], strict=True)]
    known = [step for step in steps if step is not None and step[1] == 0]
    constant = not any(symbols_of(step[0]) & set(region.variables) for step in known)
    if len(known) < 2 or not constant:
        return None
    return Placed(tabled.buffer, tabled.start, place, (known[0][0], known[1][0]))


@dataclass(frozen=True)
class Panelled:
    """A right operand that lies in memory in panels of `width` neighbouring columns: element (b, k,
    j) is `buffer[start + batch * b + row * k + panel * (j // width) + j % width]`, in elements.
    """

    buffer: Buffer
    start: Extent
    width: int
    batch: Extent
    row: Extent
    panel: Extent


def panelled_operand(contract: Contract) -> Panelled | None:
    """The right operand of a product, if it lies in whole panels, of more columns than one."""
    region, columns = contract.right, contract.columns
    tabled = None if plain_operand(region) is not None else tabled_operand(region)
    if tabled is None or tabled.buffer.layout == "strided" or not isinstance(columns, int):
        return None
    across = tabled.parts[2]
    width = _panel_width(across, region.variables[2])
    if width is None or columns % width:
        return None
    number, place = Dim.symbol("_panel"), Dim.symbol("_place")
    bounds = Bounds({"_place": (0, width - 1), "_panel": (0, None)})
    apart = bounds.simplify(substitute(across, {region.variables[2]: number * width + place}))
    panels = affine(apart, "_panel")
    names = zip(tabled.parts[:2], region.variables[:2], strict=True)
    steps = [affine(part, name) for part, name in names]
    if panels is None or panels[1] != place or any(s is None or s[1] != 0 for s in steps):
        return None
    batch, row = (step[0] for step in steps if step is not None)
    if any(symbols_of(step) & {*region.variables, "_place"} for step in (batch, row, panels[0])):
        return None
    return Panelled(tabled.buffer, tabled.start, width, batch, row, panels[0])


def _panel_width(across: Extent, column: str) -> int | None:
    """The number by which a column is divided, if it is by one alone."""
    if isinstance(across, int):
        return None
    whole = Dim.symbol(column)
    divisors = {
        atom.arguments[1]
        for monomial, _ in across.terms
        for atom, _ in monomial
        if isinstance(atom, Compound) and atom.arguments[0] == whole
        and atom.operator in ("floordiv", "mod")
    }
    width = divisors.pop() if len(divisors) == 1 else None
    return width if isinstance(width, int) else None


def tabled_sides(contract: Contract) -> frozenset[str]:
    """The operands, "left" or "right", that are read by tables: without steps, but in memory."""
    return frozenset(
        side
        for side, region in (("left", contract.left), ("right", contract.right))
        if plain_operand(region) is None
        and placed_operand(region) is None
        and tabled_operand(region) is not None
    )


def stride_name(buffer: Buffer, axis: int) -> str:
    """The name of a stride word in index arithmetic."""
    return f"_stride_{buffer.name}_{axis}"


def linear(buffer: Buffer, index: tuple[Extent, ...]) -> Extent:
    """Where an element is: in elements of a contiguous buffer, in bytes of a strided one."""
    position: Extent = 0
    if buffer.layout == "strided":
        for axis, i in enumerate(index):
            position = position + i * Dim.symbol(stride_name(buffer, axis))
        return position
    for extent, i in zip(buffer.shape, index, strict=True):
        position = position * extent + i
    return joined(position)


def accumulator_buffer(contract: Contract) -> Buffer | None:
    """The buffer of `accumulator`."""
    found = accumulator(contract)
    return None if found is None else found.buffer


def accumulator(contract: Contract) -> Plain | None:
    """Where the product may be accumulated: a buffer of the epilogue that is written where the
    product is, with constant steps and neighbouring columns, and never read.
    """
    read = {
        s.immediate.buffer
        for region in (contract.left, contract.right, contract.epilogue)
        for s in walk(region.body)
        if isinstance(s, Value) and s.opcode == "load"
    }
    for s in walk(contract.epilogue.body):
        if not isinstance(s, Store) or s.mask is not None or s.args:
            continue
        if s.buffer in read or s.buffer in contract.overwriting:
            continue
        if s.buffer.dtype != contract.dtype or s.buffer.layout != "contiguous":
            continue
        split = constant_steps(linear(s.buffer, s.index), contract.epilogue.variables)
        if split is not None and (contract.columns == 1 or split[1][2] == 1):
            return Plain(s.buffer, *split)
    return None


def product_bytes(contract: Contract) -> Extent:
    """Bytes of scratch for the product itself, rounded up to 64: 0 when an output serves."""
    if accumulator_buffer(contract) is not None:
        return 0
    size = item_bytes(contract.dtype)
    return ceildiv(contract.batch * contract.rows * contract.columns * size, 64) * 64


def scopes(kernel: Kernel) -> list[Scope]:
    """The kernel's own scope and the regions of its contraction: what `walk` must be started from.
    """
    found = [kernel.body]
    for statement in kernel.body.statements:
        if isinstance(statement, Contract):
            found += [
                region.body for region in (statement.left, statement.right, statement.epilogue)
            ]
    return found


def free_extents(kernel: Kernel) -> set[str]:
    """Names in index expressions, loop bounds and buffer shapes that no loop binds."""
    names: set[str] = set()
    bound: set[str] = set()

    def note(*extents: Extent) -> None:
        for extent in extents:
            if not isinstance(extent, int):
                names.update(symbols_of(extent))

    for buffer in kernel.buffers:
        if buffer.layout == "contiguous":
            note(*buffer.shape)
    for scope in scopes(kernel):
        bound |= scope.variables
        for statement in walk(scope):
            if type(statement) is Value:  # the most by far
                if type(statement.immediate) is Address:
                    note(*statement.immediate.index)
                elif statement.opcode == "index":
                    note(statement.immediate)
            elif isinstance(statement, For):
                bound.add(statement.variable)
                note(statement.start, statement.stop)
            elif isinstance(statement, Contract):
                note(statement.batch, statement.rows, statement.columns, statement.depth)
            elif isinstance(statement, Store):
                note(*statement.index)
            elif isinstance(statement, Library):
                note(*statement.sizes)
    return {name for name in names - bound if not name.startswith("_arg")}


class _Printer:
    """Prints statements with values, loops and accumulators numbered in order of appearance."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: dict[int, str] = {}
        self.lines: list[str] = []

    def text(self) -> str:
        kernel = self.kernel
        head = ", ".join(
            f"{b.name}: {b.dtype}[{', '.join(map(str, b.shape))}] {b.layout} {b.space}"
            for b in kernel.buffers
        )
        self.lines.append(f"kernel ({head}) extents ({', '.join(kernel.extents)})")
        self.scope(kernel.body, 1)
        return "\n".join(self.lines) + "\n"

    def name(self, item: Any, prefix: str) -> str:
        return self.names.setdefault(id(item), f"{prefix}{len(self.names)}")

    def values(self, values: tuple[Value, ...]) -> str:
        return ", ".join(self.name(value, "v") for value in values)

    def scope(self, scope: Scope, indent: int) -> None:
        for statement in scope.statements:
            self.statement(statement, indent)

    def put(self, indent: int, line: str) -> None:
        self.lines.append("  " * indent + line)

    def statement(self, s: Any, indent: int) -> None:
        if isinstance(s, Value):
            what = f"{s.opcode} {self.values(s.args)}".rstrip()
            if isinstance(s.immediate, Accumulator):
                what += f" {self.name(s.immediate, 'a')}"
            elif isinstance(s.immediate, Contract):
                what += " product"
            elif isinstance(s.immediate, Library):
                what += " outcome"
            elif isinstance(s.immediate, Routine):
                what += f" of {s.immediate.name}"
            elif s.immediate is not None:
                what += f" {s.immediate!r}" if s.opcode == "const" else f" {s.immediate}"
            self.put(indent, f"{self.name(s, 'v')}: {s.dtype} = {what}")
        elif isinstance(s, Store):
            index = ", ".join(map(str, s.index))
            mask = "" if s.mask is None else f" if {self.name(s.mask, 'v')}"
            args = f" with {self.values(s.args)}" if s.args else ""
            self.put(indent, f"{s.buffer.name}[{index}] = {self.name(s.value, 'v')}{args}{mask}")
        elif isinstance(s, Accumulate):
            accumulator = s.accumulator
            mask = "" if s.mask is None else f" if {self.name(s.mask, 'v')}"
            value = self.name(s.value, "v")
            if s.factor is not None:
                value += f" * {self.name(s.factor, 'v')}"
            self.put(indent, f"{self.name(accumulator, 'a')} {accumulator.combiner}= {value}{mask}")
        elif isinstance(s, Check):
            condition, index = self.name(s.condition, "v"), self.name(s.index, "v")
            self.put(indent, f"check {condition} code {s.code} node {s.node} index {index}")
        elif isinstance(s, Barrier):
            self.put(indent, "barrier")
        elif isinstance(s, Until):
            self.put(indent, f"until {self.name(s.condition, 'v')}")
        elif isinstance(s, Library):
            buffers = ", ".join(buffer.name for buffer in s.buffers)
            sizes, condition = ", ".join(map(str, s.sizes)), self.name(s.condition, "v")
            self.put(
                indent,
                f"{self.name(s.outcome, 'v')}: int64 = {s.routine} {s.dtype} of {buffers} "
                f"sizes ({sizes}) if {condition}",
            )
        elif isinstance(s, For):
            self.put(indent, f"for {s.variable} in {s.start}..{s.stop} {s.role}:")
            self.scope(s.body, indent + 1)
        elif isinstance(s, Contract):
            sizes = ", ".join(map(str, (s.batch, s.rows, s.columns, s.depth)))
            self.put(indent, f"contract {s.dtype} [{sizes}]:")
            for label, region in (("left", s.left), ("right", s.right), ("epilogue", s.epilogue)):
                self.put(indent + 1, f"{label} ({', '.join(region.variables)}):")
                self.scope(region.body, indent + 2)
                if region.value is not None:
                    self.put(indent + 2, f"yield {self.name(region.value, 'v')}")


class KernelError(Exception):
    """A kernel breaks a rule of the language: a fault of graphc, never of its user."""


def verify(kernel: Kernel) -> None:
    """Raise `KernelError` unless the kernel keeps the rules of the language.

    Structure: one parallel loop, outermost, or one contraction, in no loop; roles are known; no
    vector loop inside a vector loop; a parallel loop has no accumulators, for its iterations are
    tasks; prologues of a contraction do not store; a barrier stands in a task and in no vector
    loop; `until` ends the body of a loop in order that has no accumulators; a routine of a library
    stands where a barrier may, and works on scratch.
    Scopes: every value is defined before its uses, in a scope that encloses them; buffers are
    declared; indices have the buffer's rank and name only variables in scope; accumulators belong
    to an enclosing loop.
    Dtypes: what is stored or accumulated has the dtype of its place, and so has the fill of a
    masked load; masks and the condition of a check are bool; index arguments and the index that a
    check reports are int64.
    """
    _Verifier(kernel).run()


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.defined: set[int] = set()
        self.finished: set[int] = set()
        self.extents = set(kernel.extents)
        self.loops: list[For] = []
        self.variables: set[str] = set()
        self.in_prologue = False

    def fail(self, why: str) -> NoReturn:
        raise KernelError(f"{why}\n{self.kernel.text()}")

    def run(self) -> None:
        nests = [s for s in self.kernel.body.statements if isinstance(s, (For, Contract))]
        if len(nests) != 1:
            self.fail(f"a kernel holds one loop nest or contraction, this has {len(nests)}")
        if isinstance(nests[0], For) and nests[0].role != "parallel":
            self.fail("the outermost loop must be parallel")
        self.scope(self.kernel.body, ())

    def scope(self, scope: Scope, variables: tuple[str, ...]) -> None:
        """The statements of a scope that binds `variables`; its values end with it."""
        outside, visible = self.variables, set(self.defined)
        self.variables = outside | set(variables)
        for s in scope.statements:
            rule = _RULES.get(type(s))
            if rule is None:
                self.fail(f"not a statement: {s!r}")
            rule(self, s)
        self.variables, self.defined = outside, visible

    # -- one method for each kind of statement -----------------------------------------------------

    def value(self, s: Value) -> None:
        self.uses(*s.args)
        if isinstance(s.immediate, Address):
            self.load(s, s.immediate)
        elif s.opcode == "index":
            self.index_arguments(s.args)
            self.names((s.immediate,), len(s.args))
        elif isinstance(s.immediate, Routine):
            self.call(s, s.immediate)
        elif isinstance(s.immediate, Accumulator) and id(s.immediate) not in self.finished:
            self.fail("the result of an accumulator is read before its loop has ended")
        self.defined.add(id(s))

    def call(self, s: Value, routine: Routine) -> None:
        wanted = [parameter.dtype for parameter in routine.parameters]
        if [argument.dtype for argument in s.args] != wanted or s.dtype != routine.result.dtype:
            self.fail(f"{routine.name} takes {', '.join(wanted)} and gives {routine.result.dtype}")

    def load(self, s: Value, address: Address) -> None:
        rest = s.args[address.count :]
        if len(s.args) < address.count or len(rest) not in (0, 2):
            self.fail("a load has index arguments, and a mask with its fill or neither")
        self.address(address.buffer, address.index, s.args[: address.count])
        if rest:
            mask, fill = rest
            self.mask(mask, "a load")
            self.dtype(fill, address.buffer.dtype, f"the fill of a load from {address.buffer.name}")

    def store(self, s: Store) -> None:
        if self.in_prologue:
            self.fail(f"a store to {s.buffer.name} in a prologue")
        self.uses(s.value, *s.args)
        self.address(s.buffer, s.index, s.args)
        self.mask(s.mask, "a store")
        if s.value.dtype != s.buffer.dtype:
            self.fail(f"store of {s.value.dtype} to {s.buffer.name}: {s.buffer.dtype}")

    def accumulate(self, s: Accumulate) -> None:
        self.uses(s.value)
        self.mask(s.mask, "an accumulation")
        owners = [loop for loop in self.loops if s.accumulator in loop.accumulators]
        if not owners or s.value.dtype != s.accumulator.dtype:
            self.fail("accumulation outside its loop, or of another dtype")
        if s.factor is not None:
            self.uses(s.factor)
            self.dtype(s.factor, s.value.dtype, "the factor of what is accumulated")
            if s.accumulator.combiner != "add" or s.value.dtype not in ("float32", "float64"):
                self.fail("only sums of floats take the product with a factor")
        if s.accumulator.combiner not in COMBINERS:
            self.fail(f"unknown combiner {s.accumulator.combiner}")

    def check(self, s: Check) -> None:
        self.uses(s.condition, s.index)
        self.dtype(s.condition, "bool", "the condition of a check")
        self.dtype(s.index, "int64", "the index that a check reports")

    def barrier(self, s: Barrier) -> None:
        if not self.loops or any(loop.role == "vector" for loop in self.loops):
            self.fail("a barrier stands inside of a task, and outside of its vector loops")

    def until(self, s: Until) -> None:
        self.uses(s.condition)
        self.dtype(s.condition, "bool", "the condition of until")
        loop = self.loops[-1] if self.loops else None
        if loop is None or loop.role != "serial" or loop.accumulators:
            self.fail("until is for a loop in order that has no accumulators")
        elif loop.body.statements[-1] is not s:
            self.fail("until is the last statement of its loop")

    def library(self, s: Library) -> None:
        if not self.loops or any(loop.role == "vector" for loop in self.loops):
            self.fail("a routine is called inside of a task, and outside of its vector loops")
        self.uses(s.condition)
        self.dtype(s.condition, "bool", "the condition of a routine")
        routine = ROUTINES.get(s.routine)
        if routine is None:
            self.fail(f"no routine {s.routine}")
        wanted = [routine.dtype_of(name, s.dtype) for name in routine.arrays]
        if [buffer.dtype for buffer in s.buffers] != wanted:
            self.fail(f"{s.routine} works on {', '.join(routine.arrays)}: {', '.join(wanted)}")
        for buffer in s.buffers:
            if buffer not in self.kernel.buffers or buffer.space != "worker":
                self.fail(f"{s.routine} works on scratch, which {buffer.name} is not")
        if len(s.sizes) != len(routine.sizes):
            self.fail(f"{s.routine} takes the sizes {', '.join(routine.sizes)}")
        self.names(s.sizes, 0)
        self.defined.add(id(s.outcome))

    def loop(self, s: For) -> None:
        if s.role not in ROLES:
            self.fail(f"unknown role {s.role} of a loop")
        if s.role == "parallel" and self.loops:
            self.fail("a parallel loop inside a loop")
        if s.role == "parallel" and s.accumulators:
            self.fail("an accumulator on a parallel loop: its iterations are independent tasks")
        if s.role == "vector" and any(loop.role == "vector" for loop in self.loops):
            self.fail("a vector loop inside a vector loop")
        self.names((s.start, s.stop), 0)
        self.loops.append(s)
        self.scope(s.body, (s.variable,))
        self.loops.pop()
        self.finished.update(map(id, s.accumulators))

    def contract(self, s: Contract) -> None:
        if self.loops:
            self.fail("a contraction inside a loop")
        self.names((s.batch, s.rows, s.columns, s.depth), 0)
        for region in (s.left, s.right):
            self.in_prologue = True
            self.scope(region.body, self.unshadowed(region))
            self.in_prologue = False
            if region.value is None or region.value.dtype != s.dtype:
                self.fail("an operand of a contraction has another dtype")
        if s.product is not None:
            self.defined.add(id(s.product))
        self.scope(s.epilogue.body, self.unshadowed(s.epilogue))

    # -- what several statements share -------------------------------------------------------------

    def unshadowed(self, region: Region) -> tuple[str, ...]:
        for name in region.variables:
            if name in self.variables:
                self.fail(f"region variable {name} shadows another")
        return region.variables

    def uses(self, *values: Value) -> None:
        for value in values:
            if id(value) not in self.defined:
                self.fail(f"{value!r} is used where it is not defined")

    def dtype(self, value: Value, wanted: str, what: str) -> None:
        if value.dtype != wanted:
            self.fail(f"{what} is {value.dtype}, not {wanted}")

    def mask(self, mask: Value | None, what: str) -> None:
        if mask is not None:
            self.uses(mask)
            self.dtype(mask, "bool", f"the mask of {what}")

    def index_arguments(self, args: tuple[Value, ...]) -> None:
        for value in args:
            self.dtype(value, "int64", "an index argument")

    def address(self, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]) -> None:
        if buffer not in self.kernel.buffers:
            self.fail(f"buffer {buffer.name} is not a parameter of the kernel")
        if len(index) != len(buffer.shape):
            self.fail(f"{buffer.name} has rank {len(buffer.shape)}, index {index}")
        self.index_arguments(args)
        self.names(index, len(args))

    def names(self, extents: tuple[Extent, ...], count: int) -> None:
        known = self.variables | self.extents | {f"_arg{i}" for i in range(count)}
        for extent in extents:
            for name in symbols_of(extent):
                if name not in known:
                    self.fail(f"{name} is not in scope in index {extent}")


_RULES: dict[type, Callable[[_Verifier, Any], None]] = {
    Value: _Verifier.value,
    Store: _Verifier.store,
    Accumulate: _Verifier.accumulate,
    Check: _Verifier.check,
    Barrier: _Verifier.barrier,
    Until: _Verifier.until,
    Library: _Verifier.library,
    For: _Verifier.loop,
    Contract: _Verifier.contract,
}
