"""How is a kernel of thousands of statements cut, so that compiling it takes time linear in them?

A long straight-line body becomes *segments*: loops over a few vectors of elements each, one after
the other, that pass values on through scratch of the worker. The scratch of a tile stays in the
caches of a core, where arrays between kernels would go through memory; and a printer can make a
function of each segment, for the time of its compiler grows faster than a function.

Statements are put in an order of few values that wait: each store as early as it can be, and in
front of it what it needs and nobody has needed before, depth first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.codegen.loops import Buffer, linear
from graphc.codegen.program import Operand, Storage
from graphc.codegen.reader import Draft
from graphc.codegen.scalar import (
    BITS,
    Address,
    Check,
    For,
    LoopBuilder,
    Scope,
    Statement,
    Store,
    Value,
)
from graphc.dims import Dim, Extent, affine, ceildiv, dim_min

# Statements of a segment. Twice as many take LLVM three times as long, and the code is not faster.
SEGMENT = 512
# The same of arithmetic alone, which printers write in time linear in it; a core keeps so many
# instructions decoded. With few registers a statement is half an instruction more, for what is put
# aside and fetched again, so there may be fewer.
LONG_SEGMENT = 3000
MANY_REGISTERS = 32
# Elements of a vector of any dtype that may be in segments.
MULTIPLE = 16
# A body of so many statements is not cut.
WHOLE = 768
# Bytes of one value in all lanes of a tile: four vectors of the widest machines. Straight code is
# longer than the first-level cache of instructions, so each vector that uses a segment again saves
# what fetching it takes; what crosses the segments of so many lies in the second-level cache.
TILE_BYTES = 256


def of_one(draft: Draft, once: LoopBuilder) -> list[Statement]:
    outside = [s for s in draft.scope.statements if s.opcode != "const"]
    return [*outside, *once.body.statements]


def may_be_cut(statements: Sequence[Statement]) -> bool:
    """Whether a body is long, and nothing but values, stores and checks."""
    if len(statements) <= WHOLE:
        return False
    read = {s.immediate.buffer for s in statements if _is_load(s)}
    return all(isinstance(s, (Value, Store, Check)) for s in statements) and not any(
        isinstance(s, Store) and s.buffer in read for s in statements
    )


_ARITHMETIC = frozenset(("add", "sub", "mul", "div", "neg", "abs", "sqrt", "fma", "call", "const"))


def is_arithmetic(statements: Sequence[Statement], variable: str, slope: int) -> bool:
    """Whether a body is arithmetic on floats of one dtype, without conditions, and calls of
    functions, on elements that lie `slope` apart as the variable of its loop counts.
    """
    inside = set(statements)
    dtype = next((s.dtype for s in statements if isinstance(s, Value)), "")
    if dtype not in ("float32", "float64"):
        return False
    for statement in statements:
        where: Any = None
        if isinstance(statement, Store):
            where = statement
            if statement.mask is not None or statement.args:
                return False
        elif not isinstance(statement, Value) or statement.dtype != dtype:
            return False
        elif statement.opcode == "load":
            where = statement.immediate
            if statement.args:
                return False
        elif statement.opcode not in _ARITHMETIC:
            return False
        if where is not None and not _steps(where.buffer, where.index, variable, slope):
            return False
        for value in used(statement):
            if value not in inside and value.opcode != "const":
                return False
    return True


def _steps(buffer: Buffer, index: tuple[Extent, ...], variable: str, slope: int) -> bool:
    """Whether elements lie so far apart as a variable counts."""
    split = affine(linear(buffer, index), variable) if buffer.layout == "contiguous" else None
    return split is not None and split[0] == slope


def in_tiles(
    draft: Draft, outer: LoopBuilder, lanes: LoopBuilder, registers: int, full: bool
) -> None:
    """Join a long vector loop to its task: tile by tile, as the loops of its segments. With
    `registers` printers write arithmetic without branches for those, in time linear in it; `full`
    says that the loop is whole vectors, see `MULTIPLE`.
    """
    start, stop = lanes.loop.start, lanes.loop.stop
    straight = bool(registers) and is_arithmetic(lanes.body.statements, lanes.variable, 1)
    statements = ordered(lanes.body.statements, straight)
    size = _statements(registers) if straight else SEGMENT
    width = TILE_BYTES * 8 // max(32, *(BITS[v.dtype] for v in statements if isinstance(v, Value)))
    length = stop - start
    with outer.body.loop("serial", 0, ceildiv(length, width)) as tiles:
        first = start + draft.bind(tiles.variable, 0, ceildiv(length, width)) * width
        last = dim_min(stop, first + width)
        lane = Dim.symbol(lanes.variable) - first
        parts = _cut(statements, size)
        for body in _segments(draft, tiles.body, parts, (lanes.variable,), (width,), (lane,)):
            part = For(lanes.variable, first, last, "vector", body, [], True, straight, full)
            tiles.body.statements.append(part)


def in_order(draft: Draft, once: LoopBuilder, registers: int) -> None:
    """Cut the body of a task that computes one element of everything. It may all be outside of the
    loop so far, for it does not vary in it.
    """
    statements = of_one(draft, once)
    straight = bool(registers) and is_arithmetic(statements, once.variable, 0)
    statements = ordered(statements, straight)
    draft.scope.statements = [s for s in draft.scope.statements if s.opcode == "const"]
    once.body.statements.clear()
    name = once.body.fresh_variable()
    parts = _cut(statements, _statements(registers) if straight else SEGMENT)
    for body in _segments(draft, once.body, parts, (name,), (), ()):
        once.body.statements.append(For(name, 0, 1, "serial", body, [], True, straight))


def _statements(registers: int) -> int:
    """Statements of a segment that is written straight."""
    return LONG_SEGMENT if registers >= MANY_REGISTERS else LONG_SEGMENT * 2 // 3


def _is_load(statement: Statement) -> bool:
    return isinstance(statement, Value) and statement.opcode == "load"


# -- order -----------------------------------------------------------------------------------------


def used(statement: Statement) -> tuple[Value, ...]:
    """The values that a value, a store or a check uses."""
    if type(statement) is Value:
        return statement.args
    if type(statement) is Check:
        return statement.condition, statement.index
    mask = () if statement.mask is None else (statement.mask,)
    return (statement.value, *statement.args, *mask)


def ordered(statements: Sequence[Statement], calls_first: bool) -> list[Statement]:
    """What is stored or checked, in order, each after what it needs; what nobody needs is gone.

    No value stays in a register across a call: `calls_first` makes them before the rest.
    """
    waiting = {s for s in statements if isinstance(s, Value)}
    order: list[Statement] = []
    roots = [s for s in statements if not isinstance(s, Value)]
    if calls_first:
        calls = [s for s in statements if isinstance(s, Value) and s.opcode == "call"]
        needed = _beneath(roots) if calls else set()
        roots = [*(s for s in calls if s in needed), *roots]
    for root in roots:
        if root in waiting:
            waiting.discard(root)
        elif isinstance(root, Value):
            continue
        stack: list[tuple[Statement, Iterator[Value]]] = [(root, iter(used(root)))]
        while stack:
            statement, rest = stack[-1]
            for following in rest:
                if following in waiting:
                    waiting.discard(following)
                    stack.append((following, iter(following.args)))
                    break
            else:
                stack.pop()
                order.append(statement)
    return order


def _beneath(roots: Sequence[Statement]) -> set[Statement]:
    """Statements and all that they need."""
    found, stack = set(roots), list(roots)
    while stack:
        for value in used(stack.pop()):
            if value not in found:
                found.add(value)
                stack.append(value)
    return found


# -- cutting ---------------------------------------------------------------------------------------


def _cut(statements: Sequence[Statement], size: int) -> list[Sequence[Statement]]:
    """Parts of about so many statements, equally long."""
    count = max(1, round(len(statements) / size))
    each = -(-len(statements) // count)
    return [statements[i : i + each] for i in range(0, len(statements), each)]


def _segments(
    draft: Draft,
    parent: Scope,
    parts: Sequence[Sequence[Statement]],
    variables: tuple[str, ...],
    shape: tuple[Extent, ...],
    at: tuple[Extent, ...],
) -> Iterator[Scope]:
    """The bodies of the segments. What crosses from one to the next lies in scratch of `shape` for
    each value, at the index `at`.
    """
    if len(parts) == 1:
        yield _whole(parent, parts[0], variables)
        return
    home = {id(s): number for number, part in enumerate(parts) for s in part}
    last: dict[int, int] = {}  # the last segment that uses a value
    for number, part in enumerate(parts):
        for statement in part:
            for value in used(statement):
                last[id(value)] = number
                if is_made_again(value):
                    last.update((id(each), number) for each in _needed(value))
    scratch = _Scratch(draft, parts, home, last, shape)
    for part in parts:
        yield _segment(parent, part, variables, scratch, at)


def _whole(parent: Scope, part: Sequence[Statement], variables: tuple[str, ...]) -> Scope:
    """The body of a segment that is all there is: nothing crosses."""
    body = Scope(parent, variables)
    body.statements += part
    for statement in part:
        if isinstance(statement, Value):
            statement.scope = body
    return body


class _Scratch:
    """Where values that cross segments lie: for each dtype one array of slots, used again once the
    last reader of a value is done.
    """

    def __init__(
        self,
        draft: Draft,
        parts: Sequence[Sequence[Statement]],
        home: dict[int, int],
        last: dict[int, int],
        shape: tuple[Extent, ...],
    ) -> None:
        self.home = home
        self.slots: dict[int, int] = {}
        sizes: dict[str, int] = {}
        free: dict[str, list[int]] = {}
        ending: dict[int, list[Value]] = {}
        for number, part in enumerate(parts):
            for value in part:
                ends = last.get(id(value), number)
                if ends == number or is_made_again(value):
                    continue
                left = free.setdefault(value.dtype, [])
                slot = left.pop() if left else sizes.setdefault(value.dtype, 0)
                sizes[value.dtype] = max(sizes.get(value.dtype, 0), slot + 1)
                self.slots[id(value)] = slot
                ending.setdefault(ends, []).append(value)
            for value in ending.pop(number, ()):
                free[value.dtype].append(self.slots[id(value)])
        self.buffers: dict[str, Buffer] = {}
        for dtype, size in sizes.items():
            whole = (size, *shape)
            storage = Storage("worker", np.dtype(dtype), whole)
            self.buffers[dtype] = draft.buffer(Operand(storage), whole)


_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


def is_made_again(value: Statement) -> bool:
    """Whether every segment that needs a value makes it: by one load or one comparison."""
    if not isinstance(value, Value):
        return False
    return value.opcode in _COMPARISONS or (value.opcode == "load" and not value.args)


def _needed(value: Value) -> Iterator[Value]:
    """What is needed to make a value again."""
    stack = list(value.args)
    while stack:
        value = stack.pop()
        yield value
        if is_made_again(value):
            stack += value.args


def _segment(
    parent: Scope,
    part: Sequence[Statement],
    variables: tuple[str, ...],
    scratch: _Scratch,
    at: tuple[Extent, ...],
) -> Scope:
    body = Scope(parent, variables)
    here: dict[int, Value] = {}

    def made(value: Value, args: tuple[Value, ...]) -> Value:
        same = Value(body, value.opcode, args, value.dtype, value.immediate)
        here[id(value)] = same
        body.statements.append(same)
        return same

    def found(value: Value) -> Value:
        """A value as this segment knows it: fetched when it is first needed."""
        same = here.get(id(value))
        if same is not None or id(value) not in scratch.home:
            return same or value
        if is_made_again(value):
            return made(value, tuple(map(found, value.args)))
        address = Address(scratch.buffers[value.dtype], (scratch.slots[id(value)], *at), 0)
        same = here[id(value)] = Value(body, "load", (), value.dtype, address)
        body.statements.append(same)
        return same

    for statement in part:
        if isinstance(statement, Value):
            if id(statement) in here:
                continue
            args = tuple([here.get(id(a)) or found(a) for a in statement.args])
            if is_made_again(statement):  # of what it is made elsewhere
                same = made(statement, args)
            else:
                same = here[id(statement)] = statement
                statement.args, statement.scope = args, body
                body.statements.append(statement)
            slot = scratch.slots.get(id(statement))
            if slot is not None:
                buffer = scratch.buffers[statement.dtype]
                body.statements.append(Store(buffer, (slot, *at), same))
        elif isinstance(statement, Store):
            mask = None if statement.mask is None else found(statement.mask)
            args = tuple(map(found, statement.args))
            body.statements.append(
                Store(statement.buffer, statement.index, found(statement.value), args, mask)
            )
        else:
            condition, index = found(statement.condition), found(statement.index)
            body.statements.append(Check(condition, statement.code, statement.node, index))
    return body
