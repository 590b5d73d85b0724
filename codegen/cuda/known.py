"""What is known of a CUDA kernel before it is written?  Which reductions are one, who touches which
memory, and whether int is enough for its indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graphc.codegen.loops import Contract, Kernel, linear, scopes
from graphc.codegen.scalar import Accumulate, Accumulator, Check, For, Scope, Store, Value, walk
from graphc.dims import Bounds, Compound, Extent, product

# Indices below this, sums and products on the way included, fit an int with room to spare.
NARROW_INDEX = 1 << 30
# Who touches memory at a point of a task: a loop (its range), every thread, or the first one.
Toucher = tuple[Any, Any] | str
EVERY, FIRST = "every thread", "first thread"


def merged_reductions(
    scope: Scope, live: set[int], shared: Callable[[For], bool]
) -> dict[Accumulator, Accumulator]:
    """Accumulators whose results only go on into one of the enclosing loop, by the same combiner.

    If several threads share the innermost loop, every thread can carry its part through all of
    them, and the block reduces once.
    """
    uses: dict[int, int] = {}
    for s in walk(scope):
        values = s.args if isinstance(s, Value) and id(s) in live else ()
        if isinstance(s, Store):
            values = (s.value, *s.args, *([s.mask] if s.mask is not None else []))
        elif isinstance(s, Check):
            values = (s.condition, s.index)
        elif isinstance(s, Accumulate):
            values = tuple(v for v in (s.value, s.mask, s.factor) if v is not None)
        for value in values:
            uses[id(value)] = uses.get(id(value), 0) + 1
    into: dict[Accumulator, Accumulator] = {}
    loops = [s for s in walk(scope) if isinstance(s, For)]
    for loop in loops:
        if loop.role != "serial":
            continue
        inner = {a for s in loop.body.statements if isinstance(s, For) for a in s.accumulators}
        additions = [s for s in walk(loop.body) if isinstance(s, Accumulate)]
        for outer in loop.accumulators:
            mine = [s for s in additions if s.accumulator is outer]
            if any(s.mask is not None or s.factor is not None for s in mine):
                continue
            if len(mine) != 1 or mine[0].value.opcode != "result":
                continue
            source = mine[0].value.immediate
            if (
                source in inner
                and source.combiner == outer.combiner
                and uses[id(mine[0].value)] == 1
            ):
                into[source] = outer
    merged: dict[Accumulator, Accumulator] = {}
    for loop in loops:
        if shared(loop):
            for accumulator in loop.accumulators:
                while accumulator in into:
                    merged[accumulator] = accumulator = into[accumulator]
    return merged


def conflict(one: tuple[Toucher, bool], others: Iterable[tuple[Toucher, bool]]) -> bool:
    """Whether threads meet in memory: it is touched in two ways, and one of them writes."""
    return any(one[0] != other and (one[1] or wrote) for other, wrote in others)


def touches(loop: For, every: Toucher, first: Toucher) -> Iterator[tuple[Toucher, Any]]:
    """The loads and stores of a loop, with who does them."""
    if loop.role == "vector":
        every = first = (loop.start, loop.stop)
    for s in loop.body.statements:
        if isinstance(s, For):
            yield from touches(s, every, first)
        elif isinstance(s, Store):
            yield first, s
        elif isinstance(s, Value) and s.opcode == "load":
            yield every, s


def is_narrow(kernel: Kernel, live: set[int], bounds: Bounds) -> bool:
    """Whether all index arithmetic stays far within the range of an int."""
    if kernel.extents or any(buffer.layout == "strided" for buffer in kernel.buffers):
        return False
    nest = kernel.nest
    if isinstance(nest, Contract):
        sizes = [nest.batch * nest.rows * nest.columns, nest.depth]
    else:
        sizes = [nest.stop]
    sizes += [product(buffer.shape) for buffer in kernel.buffers]
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, Check) or (isinstance(s, Store) and s.args):
                return False
            if isinstance(s, Store):
                sizes.append(linear(s.buffer, s.index))
            elif isinstance(s, For):
                sizes += [s.start, s.stop]
            elif isinstance(s, Value) and id(s) in live and s.opcode in ("index", "load"):
                if s.args if s.opcode == "index" else s.immediate.count:
                    return False
                index = s.opcode == "index"
                address = s.immediate
                sizes.append(address if index else linear(address.buffer, address.index))
    return all(_is_small(size, bounds) for size in sizes)


def _is_small(extent: Extent, bounds: Bounds) -> bool:
    """Whether an extent, and each that is divided or compared in it, is far from an int's limit."""
    if isinstance(extent, int):
        return abs(extent) <= NARROW_INDEX
    low, high = bounds.interval(extent)
    if low is None or high is None or max(-low, high) > NARROW_INDEX:
        return False
    return all(
        _is_small(argument, bounds)
        for monomial, _ in extent.terms
        for atom, _ in monomial
        if isinstance(atom, Compound)
        for argument in atom.arguments
    )


__all__ = ["EVERY", "FIRST", "Toucher", "conflict", "is_narrow", "merged_reductions", "touches"]
