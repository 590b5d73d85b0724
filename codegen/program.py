"""What runs when a Function is called? A program: launches of kernels over storages, loops,
choices, and calls of procedures.

This is the outermost of the three kernel languages. A `Storage` is an array with a place: an input,
an output, a constant, or a temporary to which the memory plan gives an offset in the arena of the
call. A `Procedure` is a list of statements with formal parameters; a `Program` is a main procedure
and those that `gx.call` made, each lowered once however often it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.codegen.loops import Kernel
from graphc.dims import Extent, product
from graphc.types import Shape


@dataclass(eq=False)
class Storage:
    """An array in memory, C-contiguous unless it is an input of a strided variant.

    `kind`: "input" and "output" (formal parameters of the procedure, numbered by `position`),
    "constant" (with its `array`), "temporary" (planned), "worker" (scratch: one copy of `shape`
    for each worker, or one if it is `alone`, of launches of one task), or "held" (what launches of
    a `Chain` hand on, of which blocks hold tiles, and those of `Blocks`, of which a worker has a
    block: one of `parts`).
    """

    kind: str
    dtype: np.dtype[Any]
    shape: Shape
    position: int = -1
    array: Any = None
    strided: bool = False
    offset: Extent = 0
    alone: bool = False
    parts: int = 1

    @property
    def bytes(self) -> Extent:
        return product(self.shape) * self.dtype.itemsize


@dataclass(eq=False)
class Operand:
    """A storage as a kernel or a callee sees it: `offset` elements from its start (a loop variable
    may occur in it).
    """

    storage: Storage
    offset: Extent = 0


@dataclass(eq=False)
class Launch:
    """Run a kernel. `operands` go with `kernel.buffers`; `tasks` is the count of its parallel loop.

    Ranges of `grain` tasks are handed out to workers; `work` estimates its element operations.
    `nodes` are the graph nodes that it computes. `copies`: it does nothing but copy its first
    operand to its second.
    """

    kernel: Kernel
    operands: list[Operand]
    tasks: Extent
    grain: Extent
    work: Extent = 0
    nodes: list[Any] = field(default_factory=list)
    reason: str = ""
    scratch: Storage | None = None
    copies: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it copies something to where it is."""
        if not self.copies:
            return False
        source, target = self.operands
        return source.storage is target.storage and source.offset == target.offset


@dataclass(eq=False)
class Chain:
    """Launches that run one after the other: all but the last are contractions. An element of a
    "held" storage is written by one of them, and read by a later one where it makes the element at
    the same index, or the row that it belongs to: nothing else touches it.
    """

    launches: list[Launch]

    @property
    def operands(self) -> list[Operand]:
        return [operand for launch in self.launches for operand in launch.operands]

    @property
    def scratch(self) -> None:
        """None: what is needed between the launches is held in registers."""


@dataclass(frozen=True)
class Steps:
    """The steps of a loop: `variable` in range(length), from the last if `reverse`."""

    variable: str
    length: Extent
    reverse: bool


@dataclass(eq=False)
class Blocks:
    """Launches that run one after the other for each of `count` blocks of what all of them go
    along: blocks run in any order, and several at once. With `steps` each block runs them in every
    step of a loop, by itself.

    Kernels call the number of the block `BLOCK`. A launch of a loop nest runs `tasks` of its tasks,
    those from `tasks` times that number on; one of a contraction is of the products of the block.
    Blocks share no element of memory that one of them writes. Of a "held" storage each worker has
    one block, in its `scratch`, where launches of one block find what those before them have made.
    """

    count: int
    launches: list[Launch]
    scratch: Storage | None = None
    steps: Steps | None = None

    @property
    def times(self) -> Extent:
        """How often each launch runs."""
        return self.count if self.steps is None else self.count * self.steps.length

    @property
    def operands(self) -> list[Operand]:
        return [operand for launch in self.launches for operand in launch.operands]


# What kernels of `Blocks` call the number of the block.
BLOCK = "_block"


@dataclass(eq=False)
class Together:
    """Launches that run in any order or at once: none touches what another of them writes."""

    launches: list[Launch | Chain]

    @property
    def operands(self) -> list[Operand]:
        return [operand for launch in self.launches for operand in launch.operands]

    @property
    def scratch(self) -> None:
        """None: a launch that needs scratch runs by itself."""


@dataclass(eq=False)
class Loop:
    """Run `body` for `variable` in range(length), from the last if `reverse`."""

    variable: str
    length: Extent
    reverse: bool
    body: list[Statement]


@dataclass(eq=False)
class While:
    """Run `test`, which writes `condition` (one bool); while it is true run `body`, and so on."""

    test: list[Statement]
    condition: Operand
    body: list[Statement]

    @property
    def operands(self) -> list[Operand]:
        return [self.condition]


@dataclass(eq=False)
class Switch:
    """Run one of the branches: the one that `index` (one int64) numbers, the first or the last if
    it lies outside.
    """

    index: Operand
    branches: list[list[Statement]]

    @property
    def operands(self) -> list[Operand]:
        return [self.index]


@dataclass(eq=False)
class Call:
    """Run a procedure on operands: its inputs, then its outputs. `sizes` gives the values of its
    named extents.
    """

    procedure: Procedure
    operands: list[Operand]
    sizes: dict[str, Extent]
    scratch: Storage | None = None


Statement = Launch | Chain | Blocks | Together | Loop | While | Switch | Call


@dataclass(eq=False)
class Procedure:
    """Statements over formal parameters (`inputs`, `outputs`) and the extents named in `sizes`."""

    name: str
    inputs: list[Storage]
    outputs: list[Storage]
    sizes: tuple[str, ...]
    body: list[Statement] = field(default_factory=list)
    arena: Extent = 0


@dataclass(frozen=True)
class Checked:
    """A node that is checked at run time; `axis` is the one of its first argument that is indexed,
    and `window` how much of it is read from there.
    """

    node: Any
    axis: int = 0
    window: Extent = 1


@dataclass(eq=False)
class Program:
    """`main` and the procedures it calls, callees first. `checks` are what status records
    number.
    """

    main: Procedure
    procedures: list[Procedure]
    checks: list[Checked]

    def launches(self) -> Iterator[Launch]:
        """Every launch in the program's text, callees first."""
        for procedure in (*self.procedures, self.main):
            yield from _launches(procedure.body)

    def blocks(self) -> Iterator[Blocks]:
        """Every chain of launches that runs block by block."""
        waiting = [procedure.body for procedure in (*self.procedures, self.main)]
        while waiting:
            for statement in waiting.pop():
                waiting += bodies(statement)
                if isinstance(statement, Blocks):
                    yield statement

    def kernels(self) -> list[Kernel]:
        """Every kernel once, in order."""
        return list({id(launch.kernel): launch.kernel for launch in self.launches()}.values())


def _launches(body: list[Statement]) -> Iterator[Launch]:
    for statement in body:
        if isinstance(statement, Launch):
            yield statement
        elif isinstance(statement, (Blocks, Chain, Together)):
            yield from _launches(statement.launches)  # type: ignore[arg-type]
        for inner in bodies(statement):
            yield from _launches(inner)


def bodies(statement: Statement) -> list[list[Statement]]:
    """The statements inside a loop or a choice, as lists that run one by one."""
    if isinstance(statement, Loop):
        return [statement.body]
    if isinstance(statement, While):
        return [statement.test, statement.body]
    return statement.branches if isinstance(statement, Switch) else []


# What the rounds of a loop whose number is not known are taken to be: enough to release the GIL,
# for the loop may never end.
UNKNOWN_ROUNDS = 1 << 16


def total_work(body: Sequence[Statement]) -> Extent:
    """The element operations of statements, loops included, all branches of a choice too."""
    total: Extent = 0
    for statement in body:
        if isinstance(statement, Launch):
            total = total + statement.work
        elif isinstance(statement, Call):
            total = total + total_work(statement.procedure.body)
        elif isinstance(statement, Blocks):
            total = total + statement.times * total_work(statement.launches)
        else:
            rounds: Extent = 1
            if isinstance(statement, Loop):
                rounds = statement.length
            elif isinstance(statement, While):
                rounds = UNKNOWN_ROUNDS
            total = total + rounds * sum((total_work(b) for b in bodies(statement)), 0)
    return total


def operands_of(statement: Statement) -> list[Operand]:
    """What a statement reads or writes by itself, its inner statements aside."""
    return [] if isinstance(statement, Loop) else statement.operands
