"""How is an array read once to add up how far its elements are from their mean?  In blocks.

A variance needs the mean before the first deviation can be squared, so where a column does not fit
in a cache it is read from memory twice. But squared deviations from any centre c can be had by
blocks of n elements, each with a pivot p of its own:

    sum (x - c)^2 = sum over blocks [ sum (x - p)^2 + 2 (p - c) sum (x - p) + n (p - c)^2 ],

whatever p is, rounded or not. It is exact where p is near what is in the block, for then nothing
cancels; here it is the mean of some of the elements, k of n. These contribute k (p - m)^2 at least
to what the block deviates from its mean m, so that no term is more than a few times n / k of the
result. (With the mean itself for p it is the formula of Chan, Golub and LeVeque, Am. Statistician
37, 1983.) The sum of x, from which the centre follows, is that of n p + sum (x - p): where pivots
are far from most of their blocks it has the rounding of sums n / k times as large.

A pivot is finite n times over, so that an infinity among the elements is one in their sum, and a
sum is finite where the elements' is. The graph is rewritten in its own ops, so nothing below knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphc import dtypes
from graphc.codegen.tactics import Tactics, runs_of_axes
from graphc.dims import product
from graphc.graph import Graph, rebuild
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.ops.arithmetic import add_op, like, multiply_op, square_op, subtract_op
from graphc.ops.composed import isfinite
from graphc.ops.movement import reshape_op
from graphc.ops.operands import broadcast, broadcast_op
from graphc.ops.reduce import sum_op
from graphc.ops.special import where
from graphc.types import Shape

# Rows of a block, and its columns at least; elements of a block of one row. The pivot is the mean
# of the first of so many shares of a block.
ROWS, LEAST_COLUMNS = 256, 512
ELEMENTS = 1 << 14
SHARE = 16
# Elements of a result that no cache holds, and those of a run that is a block as it is.
LONG, WHOLE = 1 << 17, 1 << 16
# Nodes looked at to tell that a centre follows from a sum.
SEARCH = 32


@dataclass(frozen=True)
class _Cut:
    """How a run of axes is cut: `parts` of the elements there are for each index of the axes before
    it, of which the one at `block` is reduced in blocks; so many elements are left over.
    """

    run: tuple[int, ...]
    parts: tuple[int, ...]
    block: int
    rest: int


def read_once(graph: Graph, tactics: Tactics) -> Graph:
    """The graph with sums of squared deviations, of arrays that no cache holds, by blocks."""
    if not tactics.strips:
        return graph
    order = graph.order
    pairs = [(node, *found) for node in order if (found := _deviations(node)) is not None]
    cuts = {
        (x, node.attrs["axes"]): cut
        for node, x, _ in pairs
        if (cut := _cut(x.shape, node.attrs["axes"], tactics)) is not None
    }
    if not cuts:
        return graph
    centres = {node: centre for node, x, centre in pairs if (x, node.attrs["axes"]) in cuts}
    blocks: dict[tuple[Node, tuple[int, ...]], _Blocks] = {}
    done: dict[Node, Node] = {}

    def blocks_of(x: Node, axes: tuple[int, ...]) -> _Blocks:
        if (x, axes) not in blocks:
            blocks[x, axes] = _Blocks(done[x], axes, cuts[x, axes])
        return blocks[x, axes]

    for node in order:
        if node in centres:
            x = node.args[0].args[0].args[0]
            done[node] = blocks_of(x, node.attrs["axes"]).deviations(done[centres[node]])
        elif node.op is sum_op and (node.args[0], node.attrs["axes"]) in cuts:
            done[node] = blocks_of(node.args[0], node.attrs["axes"]).total()
        else:
            done[node] = rebuild(node, [done[argument] for argument in node.args])
    return Graph(graph.parameters, [done[output] for output in graph.outputs])


def _deviations(node: Node) -> tuple[Node, Node] | None:
    """What a node adds up the squared deviations of, and from which centre, if that follows from a
    sum of the same elements.
    """
    if node.op is not sum_op or not dtypes.is_float(node.dtype) or dtypes.is_half(node.dtype):
        return None
    (squared,) = node.args
    twice = squared.op is multiply_op and squared.args[0] is squared.args[1]
    if squared.op is not square_op and not twice:
        return None
    apart = squared.args[0]
    if apart.op is not subtract_op or apart.args[1].op is not broadcast_op:
        return None
    x, centre = apart.args[0], apart.args[1].args[0]
    axes = node.attrs["axes"]
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    if apart.args[1].attrs["axes"] != kept or not _follows(centre, x, axes):
        return None
    return x, centre


def _follows(centre: Node, x: Node, axes: tuple[int, ...]) -> bool:
    """Whether a centre is made of the sum of x over these axes, element by element."""
    stack, seen = [centre], {centre}
    while stack and len(seen) <= SEARCH:
        node = stack.pop()
        if node.op is sum_op and node.args[0] is x and node.attrs["axes"] == axes:
            return True
        if isinstance(node.op.lowering, Elementwise) or node.op in (broadcast_op, reshape_op):
            fresh = [argument for argument in node.args if argument not in seen]
            seen.update(fresh)
            stack += fresh
    return False


def _cut(shape: Shape, axes: tuple[int, ...], tactics: Tactics) -> _Cut | None:
    """How to cut what is reduced; None if passes over it find it in a cache, or that is not known.
    """
    if not all(isinstance(extent, int) for extent in shape) or product(shape) == 0:
        return None
    if product(shape) <= tactics.strip_elements:
        return None
    runs = runs_of_axes(axes)
    if tactics.streams(shape, axes):
        return _cut_of_columns(shape, runs[0])
    last, each = runs[-1], _count(shape, axes)
    if last[-1] != len(shape) - 1 or not (tactics.has_parts(shape, axes) or each > LONG):
        return None
    length = _count(shape, last)
    if len(runs) > 1 and length <= WHOLE:
        return _Cut(last, (length,), 0, 0)
    if length < 2 * ELEMENTS:
        return None
    return _Cut(last, (length // ELEMENTS, ELEMENTS), 1, length % ELEMENTS)


def _cut_of_columns(shape: Shape, run: tuple[int, ...]) -> _Cut:
    height, width = _count(shape, run), _count(shape, range(run[-1] + 1, len(shape)))
    beside = 1
    while beside * width < LEAST_COLUMNS and height >= 2 * beside * ROWS:
        beside *= 2
    depth = min(height // beside, ROWS)
    rest = height % (depth * beside)
    return _Cut(run, (height // (depth * beside), depth, beside), 1, rest)


class _Blocks:
    """The elements of x in blocks: their pivots, and sums over them."""

    def __init__(self, x: Node, axes: tuple[int, ...], cut: _Cut) -> None:
        first, after = cut.run[0], cut.run[-1] + 1
        run = _count(x.shape, cut.run)
        whole = reshape_op(x, shape=(*x.shape[:first], run, *x.shape[after:]))
        fixed = (slice(None),) * first
        main = whole[(*fixed, slice(0, run - cut.rest))] if cut.rest else whole
        blocks = reshape_op(main, shape=(*x.shape[:first], *cut.parts, *x.shape[after:]))
        at = first + cut.block
        self.size = cut.parts[cut.block]
        some = max(1, self.size // SHARE)
        found = sum_op(blocks[(*(slice(None),) * at, slice(0, some))], axes=(at,))
        found = multiply_op(found, like(found, 1 / some))
        fits = isfinite(multiply_op(found, like(found, self.size)))
        self.pivots = where(fits, found, like(found, 0))
        others = tuple(axis for axis in range(blocks.ndim) if axis != at)
        apart = subtract_op(blocks, broadcast(self.pivots, blocks.shape, others))
        self.apart = sum_op(apart, axes=(at,))
        self.squared = sum_op(square_op(apart), axes=(at,))
        # Which axes go: those of x before the run, of the run's parts, and after it.
        gone = [axis in axes for axis in range(x.ndim)]
        self._gone = [*gone[:first], *[True] * (len(cut.parts) - 1), *gone[after:]]
        self._left = whole[(*fixed, slice(run - cut.rest, None))] if cut.rest else None
        self._left_gone = [*gone[:first], True, *gone[after:]]

    def total(self) -> Node:
        """The sum of x."""
        inside = add_op(multiply_op(self.pivots, like(self.pivots, self.size)), self.apart)
        return self._with_rest(inside, self._left)

    def deviations(self, centre: Node) -> Node:
        """The sum of the squared deviations of x from a centre."""
        shift = subtract_op(self.pivots, _spread(centre, self.pivots, self._gone))
        twice = multiply_op(add_op(shift, shift), self.apart)
        far = multiply_op(square_op(shift), like(shift, self.size))
        inside, left = add_op(add_op(self.squared, twice), far), self._left
        if left is not None:
            left = square_op(subtract_op(left, _spread(centre, left, self._left_gone)))
        return self._with_rest(inside, left)

    def _with_rest(self, blocks: Node, left: Node | None) -> Node:
        total = _total(blocks, self._gone)
        return total if left is None else add_op(total, _total(left, self._left_gone))


def _total(x: Node, gone: Sequence[bool]) -> Node:
    axes = tuple(axis for axis, is_gone in enumerate(gone) if is_gone)
    return sum_op(x, axes=axes) if axes else x


def _spread(x: Node, over: Node, gone: Sequence[bool]) -> Node:
    return broadcast(x, over.shape, tuple(a for a, is_gone in enumerate(gone) if not is_gone))


def _count(shape: Shape, axes: Iterable[int]) -> int:
    found = product(shape[axis] for axis in axes)
    assert isinstance(found, int)
    return found


__all__ = ["read_once"]
