"""How often does each value occur?  Counts, histograms, distinct values.

How many there are to be is said when the graph is built: shapes do not depend on data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.arithmetic import like, minimum
from graphc.ops.compare import isnan, logical_and, logical_not
from graphc.ops.creation import iota
from graphc.ops.cumulative import cumsum
from graphc.ops.differences import diff
from graphc.ops.gather import added_at
from graphc.ops.indexing import take
from graphc.ops.movement import reshape
from graphc.ops.operands import (
    as_node,
    broadcast,
    broadcast_together,
    cast,
    constant,
    constant_op,
    describe,
)
from graphc.ops.reduce import max_, min_, sum_
from graphc.ops.sorting import searchsorted, sort, sort_op
from graphc.ops.special import project, where_op
from graphc.tensor import surface


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _flat(x: Any) -> Node:
    node = as_node(x)
    return node if node.ndim == 1 else reshape(node, (node.size,))


def _one_each(name: str, x: Node, weights: Any) -> tuple[Node, Node]:
    """Elements and their weights at one shape; extents that are symbols are unified."""
    terms = _flat(weights)
    sizes = (x.shape[0], terms.shape[0])
    if sizes[0] != sizes[1] and (1 in sizes or all(isinstance(size, int) for size in sizes)):
        raise GraphError(f"{name}: one weight for each element\n" + describe([x, terms]))
    first, second = broadcast_together(name, [x, terms])
    return first, second


@surface
def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: Any = None) -> Node:
    """How often each of 0, 1, ... occurs in x (rank 1, integers), or the sums of its weights.

    `length` is the extent of the result: one more than the largest value that may occur. NumPy
    finds it in the data; here it is stated (for a constant x it is found), as `minlength` if not as
    `length`. A value outside of it is an IndexError at run time.
    """
    node = as_node(x)
    if node.ndim != 1 or dtypes.kind(node.dtype) not in "biu":
        raise GraphError("bincount takes integers in one axis\n" + describe([node]))
    if not _is_count(minlength) or minlength < 0:
        raise GraphError(f"bincount: minlength is a count, got {minlength!r}")
    size = _bins_of(node, minlength, length)
    node = cast(node, dtypes.INT64)
    if weights is None:
        terms = broadcast(constant(1), node.shape, ())
    else:
        node, terms = _one_each("bincount", node, weights)
        terms = cast(terms, dtypes.FLOAT64)
    # positions from the end mean nothing here: they are sent out of range, and reported
    places = where_op(node < like(node, 0), like(node, 0) + size, node)
    return added_at(places, terms, size)


def _bins_of(node: Node, minlength: int, length: Any) -> Extent:
    if length is not None:
        if _is_count(length) and length < minlength:
            raise GraphError(f"bincount: length {length} is less than minlength {minlength}")
        return int(length) if _is_count(length) else length
    if node.op is constant_op:
        array = node.attrs["value"].array
        return max(int(minlength), int(array.max(initial=-1)) + 1)
    if minlength:
        return int(minlength)
    raise GraphError(
        "bincount: how many bins there are must be known when the graph is built: give minlength=\n"
        + describe([node])
    )


def _edges(x: Node, bins: Any, span: Any) -> Node:
    """The edges of `bins` equal bins over a span, or over what the data spans; or those given."""
    if not _is_count(bins):
        edges = as_node(bins)
        if edges.ndim != 1:
            raise GraphError(
                "histogram: bins are a number, or the edges in one axis\n" + describe([edges])
            )
        if edges.op is constant_op and np.any(np.diff(edges.attrs["value"].array) < 0):
            raise GraphError("histogram: edges must rise\n" + describe([edges]))
        return edges
    if bins < 1:
        raise GraphError(f"histogram: at least one bin, got {bins}")
    real = dtypes.mean_dtype(x.dtype)
    if span is not None:
        return constant(_even_edges(span, int(bins), real))
    low, high = cast(min_(x), real), cast(max_(x), real)
    flat = low == high
    half = like(low, 0.5)
    low, high = where_op(flat, low - half, low), where_op(flat, high + half, high)
    steps = iota((int(bins) + 1,), dtype=real)
    edges = low + steps * ((high - low) / float(bins))
    return where_op(steps == like(steps, bins), broadcast(high, edges.shape, ()), edges)


def _even_edges(span: Any, bins: int, dtype: Any) -> Any:
    """The edges of equal bins over a span that is known."""
    low, high = (float(bound) for bound in span)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise GraphError(f"histogram: range is (low, high), both finite, got {span!r}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1, dtype=dtype)


@surface
def histogram_bin_edges(x: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Node:  # noqa: A002
    """The edges that `histogram` puts elements between."""
    return _edges(_flat(x), bins, range)


def _counts(values: Node, edges: Node) -> Node:
    """How many values lie in each bin: as many as pass its lower edge and not its upper one, and
    those on the last edge.
    """
    bins = edges.shape[0] - 1
    passed = searchsorted(edges, values, "right")
    counts = added_at(passed, like(passed, 1), bins + 2)[1:-1]
    last = broadcast(edges[-1:], values.shape, (0,))
    on_last = cast(sum_(values == last), counts.dtype)
    number = iota(counts.shape)
    return where_op(number == like(number, 0) + (bins - 1), counts + on_last, counts)


def _weights_within(values: Node, edges: Node, weights: Any) -> Node:
    """What the values in each bin weigh."""
    bins = edges.shape[0] - 1
    bin_ = searchsorted(edges, values, "right") - 1
    last = broadcast(edges[-1:], values.shape, (0,))
    bin_ = where_op(values == last, like(bin_, 0) + (bins - 1), bin_)
    outside = like(bin_, 0) + bins  # a bin of its own, left out of the result
    bin_ = where_op(bin_ < like(bin_, 0), outside, bin_)
    bin_, terms = _one_each("histogram", bin_, weights)
    return added_at(bin_, cast(terms, dtypes.sum_dtype(terms.dtype)), bins + 1)[:-1]


@surface
def histogram(
    x: Any,
    bins: Any = 10,
    range: Any = None,  # noqa: A002
    density: bool = False,
    weights: Any = None,
) -> tuple[Node, Node]:
    """How many elements (or what weight) lie in each bin, and the edges of the bins.

    `bins` is a number of equal bins over `range` (low, high; by default what x spans), or edges.
    A bin has its lower edge, the last its upper one, too. What lies outside is not counted.
    """
    node = _flat(x)
    edges = _edges(node, bins, range)
    common = dtypes.promote(node.dtype, edges.dtype)
    values, bounds = cast(node, common), cast(edges, common)
    if weights is None:
        counts = _counts(values, bounds)
    else:
        counts = _weights_within(values, bounds, weights)
    if density:
        counts = cast(counts, dtypes.FLOAT64)
        counts = counts / (diff(cast(edges, dtypes.FLOAT64)) * sum_(counts))
    return counts, edges


def _with_positions(x: Node) -> tuple[Node, Node]:
    both = sort_op(x, descending=False)
    return project(both, 0), project(both, 1)


@surface
def unique(
    x: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: None = None,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct elements of the flattened x in order: the first `size` of them.

    Where there are fewer, the rest is `fill_value` (by default the smallest element). As NumPy on
    demand also: the first position of each (0 for filled ones), for each element of x the number of
    its value (in x's shape), and how often each occurs. All NaN are one value.
    """
    if axis is not None:
        raise GraphError("unique: axis is not supported; the elements of the flattened x are")
    if size is None or not _is_count(size) or size < 0:
        raise GraphError(
            f"unique: how many values there are must be known when the graph is built: give size=, "
            f"got {size!r}\nWhere there are fewer, fill_value= is put in their place."
        )
    node = as_node(x)
    flat = _flat(node)
    count = flat.shape[0]
    if count == 0:
        raise GraphError("unique of no elements\n" + describe([node]))
    values, order = _with_positions(flat)
    changed = cast(is_new(values), dtypes.INT64)
    number = cumsum(changed) - 1  # of each sorted element its distinct value
    wanted = iota((int(size),))
    starts = searchsorted(number, wanted, "left")
    present = starts < broadcast(_length(flat), wanted.shape, ())
    firsts = minimum(starts, _length(flat) - 1)
    fill = values[0] if fill_value is None else cast(as_node(fill_value), flat.dtype)
    found: list[Node] = [where_op(present, take(values, firsts), broadcast(fill, wanted.shape, ()))]
    if return_index:
        found.append(where_op(present, take(order, firsts), like(wanted, 0)))
    if return_inverse:
        inverse = added_at(order, number, count)
        found.append(inverse if node.ndim == 1 else reshape(inverse, node.shape))
    if return_counts:
        found.append(searchsorted(number, wanted, "right") - starts)
    return found[0] if len(found) == 1 else tuple(found)


def _length(x: Node) -> Node:
    from graphc.ops.operands import extent

    return extent(x.shape[0])


def is_new(values: Node) -> Node:
    """Whether an element of a sorted line is the first of its kind; NaN is one kind."""
    from graphc.ops.cumulative import shifted

    before = shifted(values, 0, False)
    new = values != before
    if dtypes.kind(values.dtype) == "f":
        new = new & ~(isnan(values) & isnan(before))
    first = iota(values.shape) == 0
    return new | first


@surface
def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: str | None = None,
) -> Node:
    """Which elements occur among `test_elements`, or which do not with `invert`; NaN never occurs.

    `assume_unique` and `kind` choose how NumPy searches; here both sides of a sorted line are
    compared.
    """
    if kind not in (None, "sort", "table"):
        raise GraphError(f"isin: kind is None, 'sort' or 'table', got {shortened(repr(kind))}")
    node, line = as_node(element), sort(_flat(test_elements))
    found = searchsorted(line, node, side="right") > searchsorted(line, node, side="left")
    if dtypes.is_float(node.dtype):
        found = logical_and(found, logical_not(isnan(node)))
    return logical_not(found) if invert else found
