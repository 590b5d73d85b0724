"""How is a convolution computed, and its gradients?  One op, whose transposes are that op again.

`convolve` slides the kernel w over x along *spatial* labels, in the notation of einsum: a spatial
label counts elements in x, in the kernel in w, and positions in the result; of the other labels
those of x and w alone are summed over. The gradient by x is the convolution of the cotangent with
the flipped kernel, dilated as far as the positions were apart; that by w is the convolution of x
with the cotangent, the two kinds of steps exchanged. So derivatives of any order are convolutions.

It is made of windows, which are a view, and a contraction, which reads them where they lie: no
array of windows is ever stored. Where the elements of x come apart, as in the gradient of a
convolution with a stride, the positions that meet the same elements of the kernel are computed
together, each phase by itself, so that no product with what lies between is formed. Where there are
too many phases, or extents without a number, zeros lie between, and are multiplied: what an
infinity or NaN in the kernel does there is not specified.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as tuples
from math import gcd, prod
from string import ascii_lowercase
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, ceildiv, dim_max
from graphc.errors import GraphError
from graphc.lowering import Compose
from graphc.node import Node
from graphc.op import Linear, Op, register
from graphc.ops.contract import contraction, natural_labels
from graphc.ops.movement import (
    flip_op,
    pad_op,
    reshape,
    slice_op,
    squeeze,
    transpose,
)
from graphc.ops.operands import broadcast, cast, constant
from graphc.ops.reduce import sum_op
from graphc.ops.windows import MOST_PHASES, Ints, cut, interleaved, reach, slide_op
from graphc.types import Shape, TensorType, Type

# More terms than this are summed in two steps.
MANY_TERMS = 1024
# For whole phases at most so many times as many positions are computed as are wanted.
MOST_ADDED = 1.125


def _subscripts(labels: str) -> tuple[str, str, str]:
    arguments, _, result = labels.partition("->")
    x, _, w = arguments.partition(",")
    return x, w, result


def _infer(
    x: Type,
    w: Type,
    labels: str,
    spatial: str,
    strides: Ints,
    dilations: Ints,
    steps: Ints,
    before: Shape,
    extents: Shape,
) -> Type:
    assert isinstance(x, TensorType) and isinstance(w, TensorType)
    of_x, of_w, result = _subscripts(labels)
    if x.dtype is not w.dtype or dtypes.kind(x.dtype) == "b":
        raise GraphError(f"convolve needs numbers of equal dtypes, got {x} and {w}")
    if len(of_x) != x.ndim or len(of_w) != w.ndim:
        raise GraphError(f"convolve {labels!r} does not fit {x} and {w}")
    sizes = dict(zip(of_w, w.shape, strict=True))
    for label, extent in zip(of_x, x.shape, strict=True):
        if label not in spatial and sizes.setdefault(label, extent) != extent:
            raise GraphError(f"convolve {labels!r} of {x} and {w}: extents of {label!r} differ")
    sizes |= zip(spatial, extents, strict=True)
    return TensorType(x.dtype, tuple(sizes[label] for label in result))


def _numpy(
    x: Any,
    w: Any,
    labels: str,
    spatial: str,
    strides: Ints,
    dilations: Ints,
    steps: Ints,
    before: Shape,
    extents: Any,
) -> Any:
    of_x, of_w, result = _subscripts(labels)
    axes = tuple(of_x.index(label) for label in spatial)
    kernel = [w.shape[of_w.index(label)] for label in spatial]
    moves = list(zip(extents, strides, kernel, dilations, strict=True))
    seen = dtypes.widened(_windows(_padded(x, axes, steps, before, moves), axes, moves))
    w = dtypes.widened(w)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(of_x + of_w + result))}
    if all(step == 1 for step in steps):
        offsets = {label: len(numbers) + number for number, label in enumerate(spatial)}
        in_x = [*(numbers[label] for label in of_x), *offsets.values()]
        in_w = [offsets.get(label, numbers[label]) for label in of_w]
        shown = [numbers[label] for label in result]
        product = np.einsum(seen, in_x, w, in_w, shown, optimize=True)
        return product.astype(x.dtype, copy=False)
    # Position by offset, so that what lies between the elements of x takes no part.
    lengths = dict(zip(of_x, seen.shape, strict=False)) | dict(zip(of_w, w.shape, strict=True))
    lengths |= zip(spatial, extents, strict=True)
    product = np.zeros([lengths[label] for label in result], np.result_type(seen, w))
    for offset in np.ndindex(*kernel):
        places: dict[str, Any] = {}
        for label, k, (count, stride, _, dilation), step, lo in zip(
            spatial, offset, moves, steps, before, strict=True
        ):
            at = np.arange(count)
            places[label] = at[(at * stride + k * dilation - lo) % step == 0]
        read = np.ix_(*(places.get(n, np.arange(lengths[n])) for n in of_x))
        one = w[tuple(offset[spatial.index(n)] if n in spatial else slice(None) for n in of_w)]
        term = np.einsum(
            seen[(*read, *offset)],
            [numbers[label] for label in of_x],
            one,
            [numbers[label] for label in of_w if label not in spatial],
            [numbers[label] for label in result],
            optimize=True,
        )
        product[np.ix_(*(places.get(n, np.arange(lengths[n])) for n in result))] += term
    return product.astype(x.dtype, copy=False)


def _padded(x: Any, axes: Ints, steps: Ints, before: Shape, moves: Sequence[Ints]) -> Any:
    """`x` as far as windows reach along `axes`, its elements `steps` apart and zeros elsewhere."""
    sizes = list(x.shape)
    put: list[Any] = [slice(None)] * x.ndim
    taken = list(put)
    for axis, step, lo, move in zip(axes, steps, before, moves, strict=True):
        sizes[axis] = max(reach(*move), 0)
        first = max(-(lo // step), 0)  # the first element that is not before the windows
        last = min(x.shape[axis], (sizes[axis] - lo - 1) // step + 1)
        taken[axis] = slice(first, max(last, first))
        start = lo + first * step
        put[axis] = slice(start, start + max(last - first, 0) * step, step)
    padded = np.zeros(sizes, x.dtype)
    if all(part.start < part.stop for part in (put[axis] for axis in axes)):
        padded[tuple(put)] = x[tuple(taken)]
    return padded


def _windows(padded: Any, axes: Ints, moves: Sequence[Ints]) -> Any:
    """Windows along `axes`: their positions there, the elements of each along new last axes."""
    shape, apart = list(padded.shape), list(padded.strides)
    windows: list[int] = []
    between: list[int] = []
    for axis, (count, stride, window, dilation) in zip(axes, moves, strict=True):
        windows.append(window)
        between.append(apart[axis] * dilation)
        shape[axis], apart[axis] = count, apart[axis] * stride
    return np.lib.stride_tricks.as_strided(
        padded, (*shape, *windows), (*apart, *between), writeable=False
    )


def _transpose(cotangent: Node, node: Node, i: int) -> Node:
    x, w = node.args
    attrs = node.attrs
    of_x, of_w, result = _subscripts(attrs["labels"])
    spatial, before = attrs["spatial"], attrs["before"]
    if i == 1 and any(step != 1 for step in attrs["steps"]):
        return _by_sliding_cotangent(cotangent, node)
    if i == 1:
        return convolve_op(
            x,
            cotangent,
            labels=f"{of_x},{result}->{of_w}",
            spatial=spatial,
            strides=attrs["dilations"],
            dilations=attrs["strides"],
            steps=attrs["steps"],
            before=before,
            extents=tuple(w.shape[of_w.index(label)] for label in spatial),
        )
    axes = tuple(of_w.index(label) for label in spatial)
    shown = zip(axes, attrs["dilations"], before, strict=True)
    return convolve_op(
        cotangent,
        flip_op(w, axes=axes),
        labels=f"{result},{of_w}->{of_x}",
        spatial=spatial,
        strides=attrs["steps"],
        dilations=attrs["dilations"],
        steps=attrs["strides"],
        before=tuple((w.shape[axis] - 1) * dilation - lo for axis, dilation, lo in shown),
        extents=tuple(x.shape[of_x.index(label)] for label in spatial),
    )


def _by_sliding_cotangent(cotangent: Node, node: Node) -> Node:
    """The cotangent of w where the elements of x lie apart: x slides over the cotangent then, by
    as much, so that no zeros between its elements are met. This finds the elements of w from the
    last to the first.
    """
    x, w = node.args
    attrs = node.attrs
    of_x, of_w, result = _subscripts(attrs["labels"])
    axes = tuple(of_w.index(label) for label in attrs["spatial"])
    shown = zip(axes, attrs["dilations"], attrs["before"], strict=True)
    turned = convolve_op(
        cotangent,
        x,
        labels=f"{result},{of_x}->{of_w}",
        spatial=attrs["spatial"],
        strides=attrs["dilations"],
        dilations=attrs["steps"],
        steps=attrs["strides"],
        before=tuple((w.shape[axis] - 1) * dilation - lo for axis, dilation, lo in shown),
        extents=tuple(w.shape[axis] for axis in axes),
    )
    return flip_op(turned, axes=axes)


# -- what it is made of ----------------------------------------------------------------------------


def _build(
    x: Node,
    w: Node,
    labels: str,
    spatial: str,
    strides: Ints,
    dilations: Ints,
    steps: Ints,
    before: Shape,
    extents: Shape,
) -> Node:
    wide = dtypes.accumulator(x.dtype) if dtypes.is_half(x.dtype) else x.dtype
    of_x, of_w, result = _subscripts(labels)
    sizes = dict(zip(of_x + of_w, (*x.shape, *w.shape), strict=True))
    sizes |= zip(spatial, extents, strict=True)
    # Axes of one element go first: what is padded has its lanes along the last of the others.
    slim_x, of_x = _without_ones(cast(x, wide), of_x, spatial)
    slim_w, of_w = _without_ones(cast(w, wide), of_w, spatial)
    slim = "".join(label for label in result if label in of_x + of_w or label in spatial)
    moves = _Moves(
        f"{of_x},{of_w}->{slim}", spatial, strides, dilations, steps, before, extents
    )
    made = moves.product(slim_x, slim_w)
    return cast(reshape(made, tuple(sizes[label] for label in result)), x.dtype)


class _Moves:
    """One convolution: what `convolve` has as attributes."""

    def __init__(
        self,
        labels: str,
        spatial: str,
        strides: Ints,
        dilations: Ints,
        steps: Ints,
        before: Shape,
        extents: Shape,
    ) -> None:
        self.of_x, self.of_w, self.result = _subscripts(labels)
        self.labels, self.spatial = labels, spatial
        self.strides, self.dilations, self.steps = strides, dilations, steps
        self.before, self.extents = before, extents
        self.axes = tuple(self.of_x.index(label) for label in spatial)
        self.places = tuple(self.of_w.index(label) for label in spatial)
        self.shown = tuple(self.result.index(label) for label in spatial)

    def product(self, x: Node, w: Node) -> Node:
        """The result, from x and w."""
        made = _infer(x.type, w.type, self.labels, self.spatial, *self._numbers())
        assert isinstance(made, TensorType)
        shape = made.shape
        if any(extent == 0 for extent in (*shape, *x.shape, *w.shape)):
            return broadcast(constant(0, x.dtype), shape, ())
        if all(step == 1 for step in self.steps):
            return self._multiplied(x, w)
        window = self._window(w)
        whole = [j for j in range(len(self.axes)) if self._is_whole(j, window[j])]
        if whole:
            return self._by_residues(x, w, whole)
        pairs = zip(self.steps, self.strides, strict=True)
        apart = [step // gcd(step, stride) for step, stride in pairs]
        known = all(isinstance(n, int) for n in (*self.before, *self._window(w)))
        if known and prod(apart) <= MOST_PHASES:
            return self._by_phases(x, w, apart)
        return self._multiplied(x, w)

    def _numbers(self) -> tuple[Any, ...]:
        return self.strides, self.dilations, self.steps, self.before, self.extents

    def _window(self, w: Node) -> Shape:
        return tuple(w.shape[place] for place in self.places)

    def _is_whole(self, j: int, window: Extent) -> bool:
        """Whether along a spatial axis, whose positions are neighbours, every phase meets as many
        elements of the kernel as the others, or at most one, and few positions are added for the
        sake of whole phases.
        """
        step, before, wanted = self.steps[j], self.before[j], self.extents[j]
        if not (isinstance(window, int) and isinstance(before, int) and isinstance(wanted, int)):
            return False
        if step == 1 or not self.strides[j] == self.dilations[j] == 1:
            return False
        made = self._turns(j, min(step, window))[1] * step
        return (window <= step or window % step == 0) and made <= MOST_ADDED * wanted

    def _turns(self, j: int, count: int) -> tuple[int, int]:
        """Where position 0 lies beyond a multiple of the step, and how many turns of all phases
        have the positions that are wanted.
        """
        before, wanted, step = self.before[j], self.extents[j], self.steps[j]
        assert isinstance(before, int) and isinstance(wanted, int)
        first = count - 1 - before
        return first, (wanted - 1 + first) // step - first // step + 1

    def _by_residues(self, x: Node, w: Node, whole: Sequence[int]) -> Node:
        """The results at all phases along the axes that are `whole` as one convolution: elements of
        the kernel that are as far from a multiple of the step make results of one phase, so that
        the distance becomes an axis of the kernel and of the result, and no longer is spatial.

        With `count` distances, position q * step + phase + before - count + 1 meets elements q + t
        of x, at those t * step + (count - 1 - phase) of the kernel.
        """
        names = (name for name in ascii_lowercase if name not in self.labels)
        of_w, of_result = self.of_w, self.result
        before, extents, steps = list(self.before), list(self.extents), list(self.steps)
        counts: dict[int, int] = {}
        starts: dict[int, int] = {}
        turns: dict[int, int] = {}
        own = {j: next(names) for j in whole}
        for j in whole:
            label, step, place = self.spatial[j], self.steps[j], of_w.index(self.spatial[j])
            window = w.shape[place]
            assert isinstance(window, int)
            count = counts[j] = min(step, window)
            shape = (*w.shape[:place], w.shape[place] // count, count, *w.shape[place + 1 :])
            w = flip_op(reshape(w, shape), axes=(place + 1,))
            of_w = of_w.replace(label, label + own[j])
            offset, turns[j] = self._turns(j, count)
            before[j], extents[j], steps[j] = -(offset // step), turns[j], 1
            starts[j] = offset % step
        at = self._beside_channels()
        of_result = of_result[:at] + "".join(own.values()) + of_result[at:]
        labels = f"{self.of_x},{of_w}->{of_result}"
        moves = _Moves(
            labels, self.spatial, self.strides, self.dilations,
            tuple(steps), tuple(before), tuple(extents),
        )  # fmt: skip
        made = moves.product(x, w)
        pairs = ((label, own[j]) for j, label in enumerate(self.spatial) if j in own)
        behind = dict(pairs)
        order = "".join(n + behind.get(n, "") for n in of_result if n not in own.values())
        made = transpose(made, tuple(map(of_result.index, order)))
        for j in whole:
            axis, step, ones = order.index(self.spatial[j]), self.steps[j], (1,) * made.ndim
            if counts[j] < step:
                shape = (*made.shape[: axis + 1], step, *made.shape[axis + 2 :])
                made = pad_op(made, starts=(0,) * made.ndim, shape=shape, steps=ones)
            made = reshape(made, (*made.shape[:axis], turns[j] * step, *made.shape[axis + 2 :]))
            order = order.replace(own[j], "")
            first = tuple(starts[j] if a == axis else 0 for a in range(made.ndim))
            shape = (*made.shape[:axis], self.extents[j], *made.shape[axis + 1 :])
            made = cut(made, first, shape)
        return made

    def _beside_channels(self) -> int:
        """Where in the result axes that w alone has go, for the product to come in that order: with
        others of that kind, else beside the spatial ones.
        """
        last = max(self.shown) + 1
        alone = [a for a, n in enumerate(self.result) if n in self.of_w and n not in self.of_x]
        alone = [a for a in alone if a not in self.shown]
        if not alone:
            return last if last < len(self.result) else min(self.shown)
        return alone[0] if alone[0] >= last else alone[-1] + 1

    def _by_phases(self, x: Node, w: Node, apart: Sequence[int]) -> Node:
        """The results at each phase of `apart` positions, each by itself, then put in turns.

        Position q * apart + phase meets the elements of x that lie at offsets which the step of x
        divides: those of every so many-th element of the kernel.
        """
        counts = tuple(ceildiv(n, m) for n, m in zip(self.extents, apart, strict=True))
        made = {
            phases: self._phase(x, w, phases, apart, counts)
            for phases in tuples(*(range(m) for m in apart))
        }
        return interleaved(made, self.shown, apart, self.extents)

    def _phase(
        self, x: Node, w: Node, phases: Ints, apart: Sequence[int], counts: Shape
    ) -> Node:
        """The results at positions q * apart + phase, for q below `counts`."""
        strides, dilations, before = [], [], []
        starts, extents, taken = [0] * w.ndim, list(w.shape), [1] * w.ndim
        parts = zip(
            phases, apart, self.places, self.strides, self.dilations, self.steps, self.before,
            strict=True,
        )  # fmt: skip
        for phase, m, place, stride, dilation, step, lo in parts:
            every = step // gcd(step, dilation)
            fits = (k for k in range(every) if (phase * stride + k * dilation - lo) % step == 0)
            first = next(fits, None)
            window = w.shape[place]
            if first is None or first >= window:
                sizes = dict(zip(self.of_w, w.shape, strict=True))
                sizes |= zip(self.of_x, x.shape, strict=True)
                sizes |= zip(self.spatial, counts, strict=True)
                shape = tuple(sizes[label] for label in self.result)
                return broadcast(constant(0, x.dtype), shape, ())
            starts[place], taken[place] = first, every
            extents[place] = (window - 1 - first) // every + 1
            strides.append(m * stride // step)
            dilations.append(every * dilation // step)
            before.append(-((phase * stride + first * dilation - lo) // step))
        kernel = slice_op(w, starts=tuple(starts), extents=tuple(extents), steps=tuple(taken))
        ones = (1,) * len(phases)
        moves = _Moves(
            self.labels, self.spatial, tuple(strides), tuple(dilations), ones, tuple(before), counts
        )
        return moves.product(x, kernel)

    def _multiplied(self, x: Node, w: Node) -> Node:
        """The contraction of the windows of x with w."""
        window = self._window(w)
        x = self._fitted(x, window)
        of_x, of_w = self.of_x, self.of_w
        offsets = {label: label.upper() for label in self.spatial}
        if all(size == 1 for size in window):
            w = squeeze(w, self.places)
            of_w = "".join(label for label in of_w if label not in offsets)
            steps = [1] * x.ndim
            extents = list(x.shape)
            for axis, stride, count in zip(self.axes, self.strides, self.extents, strict=True):
                steps[axis], extents[axis] = stride, count
            seen = x
            if tuple(extents) != x.shape or any(step != 1 for step in steps):
                starts = (0,) * x.ndim
                seen = slice_op(x, starts=starts, extents=tuple(extents), steps=tuple(steps))
            return _summed(seen, of_x, w, of_w, self.result, self.spatial)
        last = self.axes[-1] == x.ndim - 1
        at = self.axes[0] if last else self.axes[-1] + 1
        count = len(window)
        kept = tuple(axis + count if axis >= at else axis for axis in range(x.ndim))
        repeated = broadcast(x, (*x.shape[:at], *window, *x.shape[at:]), kept)
        seen = slide_op(
            repeated,
            axes=tuple(kept[axis] for axis in self.axes),
            windows=tuple(range(at, at + count)),
            strides=self.strides,
            dilations=self.dilations,
            extents=self.extents,
        )
        of_seen = of_x[:at] + "".join(offsets.values()) + of_x[at:]
        of_w = "".join(offsets.get(label, label) for label in of_w)
        return _summed(seen, of_seen, w, of_w, self.result, self.spatial)

    def _fitted(self, x: Node, window: Shape) -> Node:
        """x as the windows see it: with zeros around it, and between its elements, and without what
        they do not reach.
        """
        starts: list[Extent] = [0] * x.ndim
        gone_before, shape, extents = list(starts), list(x.shape), list(x.shape)
        steps = [1] * x.ndim
        parts = zip(
            self.axes, self.before, self.extents, self.strides, window, self.dilations, self.steps,
            strict=True,
        )  # fmt: skip
        for axis, lo, count, stride, size, dilation, step in parts:
            whole = reach(count, stride, size, dilation)
            gone = ceildiv(-lo, step) if isinstance(lo, int) and lo < 0 else 0
            starts[axis], steps[axis] = lo + gone * step, step
            kept = x.shape[axis] - gone
            covered = (kept - 1) * step + 1 + starts[axis]
            beyond = whole - covered
            if isinstance(beyond, int) and beyond < 0:
                kept = (whole - 1 - starts[axis]) // step + 1
            gone_before[axis], extents[axis] = gone, kept
            shape[axis] = whole if isinstance(beyond, int) else starts[axis] + dim_max(
                whole - starts[axis], (kept - 1) * step + 1
            )
        if any(isinstance(extent, int) and extent <= 0 for extent in extents):
            return broadcast(constant(0, x.dtype), tuple(shape), ())
        x = cut(x, tuple(gone_before), tuple(extents))
        if tuple(shape) == x.shape:
            return x
        return pad_op(x, starts=tuple(starts), shape=tuple(shape), steps=tuple(steps))


def _summed(x: Node, of_x: str, w: Node, of_w: str, result: str, spatial: str) -> Node:
    """The product, summed over what x and w share and the result has not.

    Where the product is one of many small matrices with vectors, because nothing is used twice, its
    terms are summed one by one along the last axis of the result; else it is a contraction.
    """
    sizes = dict(zip(of_x + of_w, (*x.shape, *w.shape), strict=True))
    (x, of_x), (w, of_w) = _without_ones(x, of_x), _without_ones(w, of_w)
    slim = "".join(label for label in result if label in of_x or label in of_w)
    shared = [label for label in slim if label in of_x and label in of_w]
    free = [label for label in of_w if label not in of_x]
    summed = [label for label in of_x if label in of_w and label not in slim]
    alone = not free or not any(label.islower() for label in summed)
    if not summed or (shared and alone):
        made = _one_by_one(x, of_x, w, of_w, slim, summed)
    else:
        made = _contracted(x, of_x, w, of_w, slim, spatial)
    return reshape(made, tuple(sizes[label] for label in result))


def _without_ones(x: Node, labels: str, but: str = "") -> tuple[Node, str]:
    """x without its axes of one element, but for those of some labels."""
    pairs = list(zip(labels, x.shape, strict=True))
    gone = tuple(a for a, (label, size) in enumerate(pairs) if size == 1 and label not in but)
    kept = "".join(label for axis, label in enumerate(labels) if axis not in gone)
    return (squeeze(x, gone), kept) if gone else (x, labels)


def _contracted(
    x: Node, of_x: str, w: Node, of_w: str, result: str, spatial: str
) -> Node:
    """A contraction; the first axes of the result, but for spatial ones, become those of a batch of
    products, if the result is then in order, also where only one argument has them.
    """

    def in_order(first: str, second: str) -> bool:
        wanted, a, b = (tuple(labels) for labels in (result, first, second))
        return wanted in (natural_labels(a, b, wanted), natural_labels(b, a, wanted))

    for count in range(len(result)):
        lead = result[:count]
        if any(label in spatial for label in lead):
            break
        for_x = "".join(label for label in lead if label not in of_x)
        for_w = "".join(label for label in lead if label not in of_w)
        if in_order(for_x + of_x, for_w + of_w):
            sizes = dict(zip(of_x + of_w, (*x.shape, *w.shape), strict=True))
            x, w = (
                _repeated(node, tuple(sizes[label] for label in more))
                for node, more in ((x, for_x), (w, for_w))
            )
            of_x, of_w = for_x + of_x, for_w + of_w
            break
    return contraction((x, w), (tuple(of_x), tuple(of_w)), tuple(result))


def _repeated(x: Node, extents: Shape) -> Node:
    """x along new first axes."""
    axes = tuple(range(len(extents), len(extents) + x.ndim))
    return broadcast(x, (*extents, *x.shape), axes) if extents else x


def _one_by_one(
    x: Node, of_x: str, w: Node, of_w: str, result: str, summed: Sequence[str]
) -> Node:
    """Products of elements, summed; of many terms first those that lie near each other, so that
    they are at hand for all elements of the result that they are in.
    """
    sizes = dict(zip(of_x + of_w, (*x.shape, *w.shape), strict=True))
    offsets = [label for label in summed if label.isupper()]
    along = of_w[-1:] in summed  # neighbours in memory are summed: they are the lanes
    many = prod(size for size in map(sizes.get, summed) if isinstance(size, int)) > MANY_TERMS
    near = list(summed)
    if many and offsets:
        near = offsets if along else offsets[-1:]
    far = [label for label in summed if label not in near]
    kept = (*far, *result)
    every = (*kept, *near) if many and along else (*near, *kept)
    shape = tuple(sizes[label] for label in every)
    factors = []
    for node, labels in ((x, of_x), (w, of_w)):
        order = tuple(label for label in every if label in labels)
        turned = transpose(node, tuple(map(labels.index, order)))
        factors.append(broadcast(turned, shape, tuple(map(every.index, order))))
    total = factors[0] * factors[1]
    if near:
        total = sum_op(total, axes=tuple(sorted(map(every.index, near))))
    return sum_op(total, axes=tuple(range(len(far)))) if far else total


def _batch(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """A further label: in both it is a batch, in one a free axis of it."""
    of_x, of_w, result = _subscripts(node.attrs["labels"])
    new = next(label for label in ascii_lowercase if label not in of_x + of_w + result)
    x, w = (new * own + labels for own, labels in zip(mapped, (of_x, of_w), strict=True))
    return [convolve_op(*args, **{**node.attrs, "labels": f"{x},{w}->{new}{result}"})]


convolve_op: Op = register(
    Op(
        "convolve",
        _infer,
        _numpy,
        Compose(_build),
        Linear(_transpose, arguments=(0, 1), multi=True),
        attributes=("labels", "spatial", "strides", "dilations", "steps", "before", "extents"),
        batch=_batch,
        doc="At each position the sum of products of the second argument with a window into the "
        "first: element `position * stride + offset * dilation - before` of the first with its "
        "elements `steps` apart, and zeros elsewhere. `labels` are those of einsum, `spatial` what "
        "windows move along; `extents` are the numbers of positions.",
    )
)
