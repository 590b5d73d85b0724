"""What do reductions take in?  Transposes, other reductions, repeated elements, factors.

A reduction over a transposed array is one over other axes, a sum of sums one sum, and a sum over
axes along which the argument only repeats is a product. Integer sums are exact modulo 2**64; for
floats the factor is taken out under `real` only.
"""

from __future__ import annotations

from graphc import dtypes
from graphc.dims import Extent
from graphc.node import Node
from graphc.op import Op
from graphc.ops.movement import reshape, transpose, transpose_op
from graphc.ops.operands import broadcast, cast, extent
from graphc.ops.reduce import all_op, any_op, max_op, min_op, prod_op, remaining, sum_op
from graphc.rewrite.movement import narrowed
from graphc.rewrite.pattern import Family, at_type, functions, named, numbers, variables
from graphc.rewrite.rule import Known, rule

x, y = variables("x y")
(c,) = numbers("c")
sum_, broadcasted = functions("sum broadcast")

REDUCTIONS: dict[Op, bool] = {
    sum_op: True,
    prod_op: True,
    max_op: False,
    min_op: False,
    all_op: False,
    any_op: False,
}
"""Which ops reduce over `axes`, and whether the order of combining shows in the result."""


def _reduces(op: Op) -> bool:
    return op in REDUCTIONS


def _after_reduction(node: Node) -> Node:
    """The reduction before the transpose; what is left may need a smaller transpose."""
    moved = node.args[0]
    permutation, axes = moved.attrs["axes"], node.attrs["axes"]
    gone = tuple(sorted(permutation[a] for a in axes))
    left = remaining(moved.ndim, gone)
    order = [left.index(permutation[a]) for a in remaining(moved.ndim, axes)]
    return transpose(node.op(moved.args[0], axes=gone), order)


def _merge_reductions(node: Node) -> Node | None:
    inner = node.args[0]
    if inner.op is not node.op:
        return None
    left = remaining(inner.args[0].ndim, inner.attrs["axes"])
    axes = (*inner.attrs["axes"], *[left[a] for a in node.attrs["axes"]])
    return node.op(inner.args[0], axes=tuple(sorted(axes)))


def _reduce_fewer(node: Node) -> Node | None:
    """Axes of extent 1 leave the reduction."""
    x, axes = node.args[0], node.attrs["axes"]
    units = tuple(a for a in axes if x.shape[a] == 1)
    if not units:
        return None
    shape = tuple(size for a, size in enumerate(x.shape) if a not in units)
    kept = remaining(x.ndim, units)
    axes = tuple(kept.index(a) for a in axes if a not in units)
    return node.op(reshape(x, shape), axes=axes) if axes else reshape(x, shape)


def _repeated(node: Node, known: Known) -> Node | None:
    """A sum over axes along which the argument only repeats: as many times what is left."""
    repeated = node.args[0]
    source, axes = repeated.args[0], node.attrs["axes"]
    own = zip(repeated.attrs["axes"], source.shape, strict=True)
    used = [a for a, size in own if size == repeated.shape[a]]
    repeats = tuple(a for a in axes if a not in used)
    if not repeats:
        return None
    count: Extent = 1
    for axis in repeats:
        count = count * repeated.shape[axis]
    if not (isinstance(count, int) and count > 0) and not {"finite", "unsigned"} <= known(source):
        return None  # 0 times infinity would be NaN, and 0 times -1 a negative zero
    left = remaining(repeated.ndim, repeats)
    shape = tuple(repeated.shape[a] for a in left)
    narrow = narrowed(source, repeated, shape, left)
    wide = dtypes.accumulator(node.dtype)
    total = cast(narrow, wide)
    total = total * (at_type(count, total.type) if isinstance(count, int) else extent(count, wide))
    axes = tuple(left.index(a) for a in axes if a not in repeats)
    return cast(sum_op(total, axes=axes) if axes else total, node.dtype)


def _factor_out(x: Node, y: Node, wide: Node, node: Node) -> Node | None:
    """A factor that does not vary along the summed axes is multiplied after the sum."""
    axes = node.attrs["axes"]
    source_axes = zip(wide.attrs["axes"], y.shape, strict=True)
    if any(axis in axes and size != 1 for axis, size in source_axes):
        return None
    factor = narrowed(y, wide, node.shape, remaining(x.ndim, axes))
    return sum_op(x, axes=axes) * factor


_REDUCED_TRANSPOSE = Family("reduction", _reduces, frozenset((transpose_op,)))
rule(
    "reduce_transpose",
    _REDUCED_TRANSPOSE,
    _after_reduction,
    law="ieee",
    reorders=True,
    doc="reduction over the axes before the transpose",
    example=lambda f: sum_(f.transpose(2, 0, 1), axis=0),
)
rule(
    "reduce_reduce",
    Family("reduction", _reduces, frozenset(REDUCTIONS)),
    _merge_reductions,
    law="ieee",
    reorders=True,
    doc="one reduction over the axes of both",
    example=lambda f: sum_(sum_(f, axis=1), axis=0),
)
rule(
    "reduce_extent_one",
    Family("reduction", _reduces),
    _reduce_fewer,
    law="ieee",
    reorders=True,
    doc="reshape(x), or a reduction over fewer axes",
    example=lambda x: sum_(x[:1], axis=0),
)
rule(
    "sum_broadcast",
    sum_(broadcasted(x)),
    _repeated,
    law="stable",
    doc="count * x",
    example=lambda u: sum_(broadcast(u, (3, 4), (1,)), axis=0),
)
rule(
    "sum_negative_integer",
    sum_(-x),
    -sum_(x),
    law="ieee",
    kinds="iu",
    example=lambda i: sum_(-i),
)
rule("sum_negative", sum_(-x), -sum_(x), law="stable", example=lambda x: sum_(-x))
rule(
    "sum_scaled_integer",
    sum_(x * c),
    sum_(x) * c,
    law="ieee",
    kinds="iu",
    example=lambda i: sum_(3 * i),
)
rule("sum_scaled", sum_(x * c), sum_(x) * c, law="real", example=lambda x: sum_(3.0 * x, axis=1))
rule(
    "sum_factor",
    sum_(x * named("wide", broadcasted(y))),
    _factor_out,
    law="real",
    doc="sum(x) * y",
    example=lambda x, u: sum_(x * broadcast(u[:3], (3, 4), (0,)), axis=1),
)
