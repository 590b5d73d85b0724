"""What does overlap-add take in?  What was computed for each element of each window.

The derivative of a reduction over windows is computed for each element of each window, put back
where that was read (`unslide`), and summed. The elements of an array that lie as far apart as the
windows do are in windows at the same offsets: for each such *phase* the sum is over those offsets,
and what belongs to a window is itself read by windows. So nothing of the size of all windows is
stored, and no element asks for windows that it is not in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as tuples
from math import gcd, prod

from graphc.dims import ceildiv, dim_max
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.ops.arithmetic import strong_multiply_op
from graphc.ops.movement import pad_op, reshape, slice_op, transpose
from graphc.ops.operands import broadcast, broadcast_op, constant
from graphc.ops.reduce import max_op, sum_op
from graphc.ops.special import where_op
from graphc.ops.windows import (
    MOST_PHASES,
    Ints,
    cut,
    interleaved,
    reach,
    slide_op,
    unslide_op,
    windows_of,
)
from graphc.rewrite.pattern import functions, named, number_of, variables
from graphc.rewrite.rule import rule
from graphc.types import TensorType

(x,) = variables("x")
sum_, unslid = functions("sum unslide")

# Element-wise work per element of a window that is computed anew for each phase.
MOST_OPS = 16
_MOVES = ("axes", "windows", "strides", "dilations")


def _overlap_add(inner: Node, node: Node) -> Node | None:
    """The sum at each phase, put between the others."""
    attrs = inner.attrs
    known = all(isinstance(extent, int) and extent > 0 for extent in inner.shape)
    whole, strides = attrs["extents"], attrs["strides"]
    if set(node.attrs["axes"]) != set(attrs["windows"]) or not known:
        return None
    if prod(strides) > MOST_PHASES or not all(isinstance(n, int) for n in inner.args[0].shape):
        return None
    counts = tuple(ceildiv(n, s) for n, s in zip(whole, strides, strict=True))
    parts: dict[Ints, Node] = {}
    for phases in tuples(*(range(stride) for stride in strides)):
        part = _Phase.of(inner, phases, counts).summed(inner.args[0])  # type: ignore[arg-type]
        if part is None:
            return None
        parts[phases] = part
    left = [axis for axis in range(inner.ndim) if axis not in attrs["windows"]]
    return interleaved(parts, [left.index(axis) for axis in attrs["axes"]], strides, whole)


@dataclass(frozen=True)
class _Phase:
    """The elements `stride * q + phase` along each of the axes that windows move along.

    They are in windows at the offsets `first + t * every`, t below `count`, of which the last is
    that of position `q + start`, and the others those of the positions after it, `apart` from each
    other.
    """

    inner: Node  # the unslide
    phases: Ints
    counts: Ints
    first: tuple[int | None, ...]
    every: Ints
    offsets: Ints
    starts: Ints
    apart: Ints

    @staticmethod
    def of(inner: Node, phases: Ints, counts: Ints) -> _Phase:
        attrs, source = inner.attrs, inner.args[0]
        found = []
        for phase, place, stride, dilation in zip(
            phases, attrs["windows"], attrs["strides"], attrs["dilations"], strict=True
        ):
            window: int = source.shape[place]  # type: ignore[assignment]
            every = stride // gcd(stride, dilation)
            fits = (k for k in range(min(every, window)) if (phase - k * dilation) % stride == 0)
            first = next(fits, None)
            count = 0 if first is None else (window - 1 - first) // every + 1
            apart = every * dilation // stride
            last = (first or 0) + (count - 1) * every
            found.append((first, every, count, (phase - last * dilation) // stride, apart))
        first_, every_, offsets, starts, apart_ = zip(*found, strict=True)
        return _Phase(inner, phases, counts, first_, every_, offsets, starts, apart_)

    def summed(self, node: Node) -> Node | None:
        """The sum over the offsets of what `node` is for each element of each window."""
        places = self.inner.attrs["windows"]
        left = [axis for axis in range(node.ndim) if axis not in places]
        if any(first is None for first in self.first):
            shape = self._shape(node)
            return broadcast(constant(0, node.dtype), tuple(shape[a] for a in left), ())
        made = _Translation(self).of(node, True)
        if made is None:
            return None
        # An axis of one offset goes by a reshape after the sum, so that the sum reads what it adds.
        several = tuple(sorted(a for a in places if made.shape[a] != 1))
        total = sum_op(made, axes=several) if several else made
        return reshape(total, tuple(made.shape[axis] for axis in left))

    def _shape(self, node: Node) -> tuple[int, ...]:
        """That of an array over windows, at this phase."""
        shape = list(node.shape)
        attrs = self.inner.attrs
        for axis, place, count, offsets in zip(
            attrs["axes"], attrs["windows"], self.counts, self.offsets, strict=True
        ):
            shape[axis], shape[place] = count, offsets
        return tuple(shape)  # type: ignore[arg-type]

    def of_array(self, seen: Node) -> Node | None:
        """What windows read, where this phase's elements are, whichever offset they are at."""
        source, attrs = seen.args[0], self.inner.attrs
        places = attrs["windows"]
        if source.op is not broadcast_op or set(places) & set(source.attrs["axes"]):
            return None
        array, kept = source.args[0], source.attrs["axes"]
        starts, extents, steps = [0] * array.ndim, list(array.shape), [1] * array.ndim
        shape = list(array.shape)
        for axis, phase, stride, count in zip(
            attrs["axes"], self.phases, attrs["strides"], self.counts, strict=True
        ):
            at = kept.index(axis) if axis in kept else None
            if at is None or array.shape[at] != source.shape[axis]:
                return None
            starts[at], steps[at] = phase, stride
            extents[at] = dim_max((array.shape[at] - phase - 1) // stride + 1, 0)
            shape[at] = count
        taken = slice_op(array, starts=tuple(starts), extents=tuple(extents), steps=tuple(steps))
        whole = _fitted(taken, (0,) * array.ndim, tuple(shape))  # type: ignore[arg-type]
        return broadcast(whole, self._shape(seen), kept)

    def of_windows(self, repeated: Node, zero: bool) -> Node | None:
        """What belongs to each window, for those that this phase's elements are in; zeros for none.
        """
        attrs = self.inner.attrs
        places, array, kept = attrs["windows"], repeated.args[0], repeated.attrs["axes"]
        if any(a in places and n != 1 for a, n in zip(kept, array.shape, strict=True)):
            return None
        full = all(
            axis in kept and array.shape[kept.index(axis)] == repeated.shape[axis]
            for axis in attrs["axes"]
        )
        if not full and not zero:
            return broadcast(array, self._shape(repeated), kept) if 1 not in array.shape else None
        rest = tuple(axis for axis in range(repeated.ndim) if axis not in places)
        slim_shape = tuple(repeated.shape[axis] for axis in rest)
        if any(axis in places for axis in kept):
            return None
        slim = broadcast(array, slim_shape, tuple(rest.index(axis) for axis in kept))
        starts, shape = [0] * slim.ndim, list(slim.shape)
        axes = tuple(rest.index(axis) for axis in attrs["axes"])
        for axis, start, count, offsets, apart in zip(
            axes, self.starts, self.counts, self.offsets, self.apart, strict=True
        ):
            starts[axis], shape[axis] = -start, reach(count, 1, offsets, apart)
        padded = _fitted(slim, tuple(starts), tuple(shape))  # type: ignore[arg-type]
        ones = (1,) * len(axes)
        seen = windows_of(padded, axes, self.offsets, ones, self.apart, 0)
        order: list[int] = [0] * repeated.ndim
        for number, place in enumerate(places):
            order[place] = number
        for number, axis in enumerate(rest):
            order[axis] = len(places) + number
        return transpose(seen, tuple(order))


def _fitted(array: Node, starts: Ints, shape: Ints) -> Node:
    """The array from `starts` on in zeros of a shape; what does not fit is left out."""
    first = tuple(max(-start, 0) for start in starts)
    kept = tuple(
        max(min(n - f, wanted - max(start, 0)), 0)
        for n, f, wanted, start in zip(array.shape, first, shape, starts, strict=True)  # type: ignore[operator]
    )
    array = cut(array, first, kept)
    if array.shape == shape:
        return array
    at = tuple(max(start, 0) for start in starts)
    return pad_op(array, starts=at, shape=shape, steps=(1,) * array.ndim)


class _Translation:
    """Brings element-wise work over windows to one phase; what is `zero` must be 0 where an element
    is in no window.
    """

    def __init__(self, phase: _Phase) -> None:
        self._phase = phase
        self._moves = [phase.inner.attrs[name] for name in _MOVES]
        self._left = MOST_OPS

    def of(self, node: Node, zero: bool) -> Node | None:
        """The node at this phase; None if there is no telling."""
        if node.op is slide_op and not zero:
            same = [node.attrs[name] for name in _MOVES] == self._moves
            return self._phase.of_array(node) if same else None
        if node.op is broadcast_op:
            return self._phase.of_windows(node, zero)
        self._left -= 1
        single = isinstance(node.type, TensorType)
        if not isinstance(node.op.lowering, Elementwise) or not single or self._left < 0:
            return None
        wanted = self._zeros(node) if zero else [False] * len(node.args)
        if wanted is None:
            return None
        made = [self.of(arg, flag) for arg, flag in zip(node.args, wanted, strict=True)]
        if any(arg is None for arg in made):
            return None
        return node.op(*made, **node.attrs)  # type: ignore[arg-type]

    def _zeros(self, node: Node) -> list[bool] | None:
        """Which arguments must be 0 for the node to be 0, if that is enough."""
        if node.op is where_op and number_of(node.args[2]) == 0:
            return [False, True, False]
        if node.op is strong_multiply_op:
            first = node.args[0].op is broadcast_op or node.args[1].op is not broadcast_op
            return [first, not first]
        return None


def _example(x: Node) -> Node:
    """The derivative of maxima of three neighbours, two apart."""
    moves = {"axes": (2,), "windows": (0,), "strides": (2,), "dilations": (1,)}
    seen = slide_op(broadcast(x, (3, 3, 4), (1, 2)), **moves, extents=(1,))
    top = broadcast(max_op(seen, axes=(0,)), seen.shape, (1, 2))
    nothing = broadcast(constant(0.0), seen.shape, ())
    hit = where_op(seen == top, top, nothing)
    return sum_(unslide_op(hit, **moves, extents=(4,)), axis=0)


rule(
    "sum_unslide",
    sum_(named("inner", unslid(x))),
    _overlap_add,
    law="ieee",
    reorders=True,
    doc="the sum over the windows that an element is in",
    example=_example,
)
