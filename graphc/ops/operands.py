"""How do the arguments of a call become nodes of equal type?  Conversion, promotion, broadcasting.

Element-wise nodes take equal shapes and dtypes, so the surface inserts casts and broadcasts here,
and nowhere else. Python scalars are weak (NEP 50). A literal 1 broadcasts; a symbolic extent never
does: two different ones, or a symbol and a number, are *unified*, which adds a constraint that the
compiled Function checks at entry.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import dtypes, tracing
from graphc.dims import Dim, Extent
from graphc.errors import GraphError, GraphTypeError, shortened
from graphc.graph import symbol_op
from graphc.lowering import Generate, Leaf, Piece, View
from graphc.node import Constant, Node
from graphc.op import SIZE, Leading, Linear, Op, no_derivative, register, remembering
from graphc.origin import location
from graphc.tensor import SURFACE, TensorMethods
from graphc.types import Shape, TensorType, Type, as_shape
from graphc.weak import WeakScalar


def _constant_type(value: Constant) -> Type:
    return TensorType(value.array.dtype, value.array.shape)


constant_op = register(
    Op(
        "constant",
        _constant_type,
        lambda value: value.array,
        Leaf(),
        no_derivative("a constant does not vary"),
        attributes=("value",),
    )
)

extent_op = register(
    Op(
        "extent",
        lambda extent, dtype: TensorType(dtype, ()),
        lambda extent, dtype: dtypes.convert(np.asarray(extent, dtypes.INT64), dtype),
        Generate(lambda k, index, extent, dtype: k.convert(k.index(extent), dtype.name)),
        no_derivative("an extent does not vary"),
        attributes=("extent", "dtype"),
        text="extent({extent})",
    )
)


@remembering
def _infer_broadcast(x: Type, shape: Shape, axes: tuple[int, ...]) -> Type:
    assert isinstance(x, TensorType)
    if len(axes) != x.ndim or list(axes) != sorted(set(axes)) or (axes and axes[-1] >= len(shape)):
        raise GraphError(f"broadcast of {x} to {shape}: axes {axes} do not fit")
    for extent, axis in zip(x.shape, axes, strict=True):
        if extent != shape[axis] and extent != 1:
            raise GraphError(
                f"cannot broadcast {x} to shape {shape}: {extent} against {shape[axis]}"
            )
    return TensorType(x.dtype, shape)


def _numpy_broadcast(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    full = [1] * len(shape)
    for axis, extent in zip(axes, x.shape, strict=True):
        full[axis] = extent
    return np.broadcast_to(x.reshape(full), shape)


def _broadcast_pieces(index: Any, types: Any, result: Any, shape: Shape, axes: Any) -> list[Piece]:
    taken = [
        0 if extent == 1 else index[axis] for extent, axis in zip(types[0].shape, axes, strict=True)
    ]
    return [Piece(0, tuple(taken))]


def _broadcast_transpose(cotangent: Node, node: Node, i: int) -> Node:
    from graphc.ops.contract import sum_factors

    source, axes = node.args[0], node.attrs["axes"]
    added = tuple(axis for axis in range(cotangent.ndim) if axis not in axes)
    stretched = tuple(
        axis
        for axis, extent in zip(axes, source.shape, strict=True)
        if extent == 1 and cotangent.shape[axis] != 1
    )
    gone = tuple(sorted(added + stretched))
    total = sum_factors(cotangent, gone) if gone else cotangent
    kept = tuple(i for i, axis in enumerate(axes) if axis not in stretched)
    return broadcast(total, source.shape, kept)


broadcast_op = register(
    Op(
        "broadcast",
        _infer_broadcast,
        _numpy_broadcast,
        View(_broadcast_pieces),
        Linear(_broadcast_transpose),
        attributes=("shape", "axes"),
        batch=Leading(raised=("axes",), preceded=(("axes", 0), ("shape", SIZE))),
    )
)


def _infer_restate(x: Type, shape: Shape) -> Type:
    assert isinstance(x, TensorType)
    for old, new in zip(x.shape, shape, strict=True):
        if isinstance(old, int) and isinstance(new, int) and old != new:
            raise GraphError(f"{x} cannot have shape {shape}")
    return TensorType(x.dtype, shape)


def _numpy_restate(x: Any, shape: tuple[int, ...]) -> Any:
    if x.shape != shape:
        raise ValueError(f"extents that must agree differ: {x.shape} and {shape}")
    return x


restate_op: Op = register(
    Op(
        "restate",
        _infer_restate,
        _numpy_restate,
        View(lambda index, types, result, shape: [Piece(0, tuple(index))]),
        Linear(lambda cotangent, node, i: restate_op(cotangent, shape=node.args[0].shape)),
        attributes=("shape",),
        batch=Leading(preceded=(("shape", SIZE),)),
        doc="The argument under other names for its extents; that they are equal is checked at "
        "entry.",
    )
)


# -- building nodes --------------------------------------------------------------------------------


# The longest name: names stand in messages.
_LONGEST = 200
MAX_RANK = 64


def symbol(name: str, shape: Any = (), dtype: Any = "float64", facts: Sequence[str] = ()) -> Node:
    """A named input. Symbols of equal name, type and facts are the same node.

    `shape`: extents, each an int, a name, or an expression of names; `dtype`: one of
    `graphc.dtypes.NAMES`; `facts`: what may be assumed of every value: "nonnegative", "positive",
    "finite", "integer".

    >>> symbol("x", ("n", 3)).type
    float64[n, 3]
    """
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > _LONGEST:
        raise GraphError(
            f"a symbol needs a name of 1 to {_LONGEST} printable characters, "
            f"got {shortened(repr(name))}"
        )
    given = {facts} if isinstance(facts, str) else set(facts)
    unknown = given - FACTS
    if unknown:
        known = ", ".join(sorted(FACTS))
        raise GraphError(f"unknown facts {sorted(map(str, unknown))}; known are {known}")
    try:
        extents = as_shape(shape)
    except (TypeError, ValueError) as error:
        raise GraphError(
            f"symbol {name!r}: a shape is a tuple of integers and named extents, got "
            f"{shortened(repr(shape))}\n{shortened(str(error))}"
        ) from None
    if len(extents) > MAX_RANK:
        raise GraphError(
            f"symbol {name!r}: at most {MAX_RANK} axes, as in NumPy, got {len(extents)}"
        )
    return symbol_op(name=name, type=TensorType(dtype, extents), facts=tuple(sorted(given)))


def scalar(name: str, dtype: Any = "float64") -> Node:
    """A symbol of rank 0."""
    return symbol(name, (), dtype)


def vector(name: str, length: Any = None, dtype: Any = "float64") -> Node:
    """A symbol of rank 1; its extent is named after it if `length` is not given."""
    return symbol(name, (f"{name}_n" if length is None else length,), dtype)


def matrix(name: str, shape: Any = None, dtype: Any = "float64") -> Node:
    """A symbol of rank 2; its extents are named after it if `shape` is not given."""
    return symbol(name, (f"{name}_m", f"{name}_n") if shape is None else shape, dtype)


FACTS = frozenset(("nonnegative", "positive", "finite", "integer", "sorted", "unique"))


def constant(value: Any, dtype: Any = None) -> Node:
    """A constant from a number or an array; the array is copied. Raises `GraphError` for other
    objects.
    """
    if isinstance(value, Node):
        return value
    if isinstance(value, WeakScalar):
        return value.node
    if dtype is None:
        if type(value) in (bool, int, float):  # NumPy's float64 is a float, too, but a strong one
            dtype = dtypes.weak_dtype(value)
        else:
            array = _numbers(value)
            dtype = array.dtype
    wanted = dtypes.as_dtype(dtype)
    try:
        if dtypes.is_integer(wanted) and type(value) is not int:
            _require_in_range(np.asarray(value), wanted)
        if type(value) in (bool, int, float):
            return _literal(value, wanted)
        held = Constant(value, wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise GraphError(
            f"cannot make a {wanted.name} constant of {str(value)[:60]!r}: {error}"
        ) from None
    return constant_op(value=held)


def _numbers(value: Any) -> np.ndarray:
    """The value as an array of numbers of a supported dtype."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        if isinstance(error, GraphError):
            raise
        raise GraphError(
            f"cannot make a constant of {shortened(repr(value))}\n{shortened(str(error))}"
        ) from None
    kind = type(value).__name__
    if isinstance(value, np.ma.MaskedArray):
        raise GraphError("cannot make a constant of a masked array: fill it first, array.filled(0)")
    if dtypes.kind(array.dtype) not in "biuf":
        what = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else kind
        raise GraphError(
            f"cannot make a constant of {what}: {shortened(repr(value))}\n"
            "Constants are numbers, truth values, or arrays of them."
        )
    if array.dtype.name not in dtypes.NAMES:
        raise GraphError(
            f"constants are of dtype {', '.join(dtypes.NAMES)}; got {array.dtype.name}\n"
            "Convert it: numpy.asarray(value, 'float64')"
        )
    return array


def _require_in_range(array: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Refuse numbers that an integer dtype does not have: NumPy would wrap integers around, and
    makes something of floats.
    """
    if array.dtype is dtype or dtypes.kind(array.dtype) not in "iuf":
        return
    least, most = dtypes.limits(dtype)
    if dtypes.is_float(array.dtype):
        array = array.astype(dtypes.FLOAT64)
        fits = (array >= least) & (array < most + 1.0)
    else:
        fits = (array >= least) & (array <= most)
    if not fits.all():
        raise ValueError("not all of its values fit")


def _literal(value: bool | int | float, dtype: np.dtype[Any]) -> Node:
    """A Python number as a constant. Derivatives are full of them, so those alive are found by
    value.

    The key tells 1 from 1.0 and True, which are equal, and 0.0 from -0.0.
    """
    key = (value, type(value), dtype, math.copysign(1.0, value) if value == 0 else 1.0)
    node = _literals.get(key)
    if node is None:
        node = _literals[key] = constant_op(value=Constant(value, dtype))
    return node


_literals: weakref.WeakValueDictionary[Any, Node] = weakref.WeakValueDictionary()


def extent(value: Extent, dtype: Any = "int64") -> Node:
    """An extent as a rank-0 value."""
    wanted = dtypes.as_dtype(dtype)
    if isinstance(value, int):
        return constant(value, wanted)
    return extent_op(extent=value, dtype=wanted)


def as_node(value: Any) -> Node:
    """A node from a node, number, array or extent, or from a nest of lists of these, stacked;
    Python scalars take their default dtype.
    """
    if isinstance(value, Node):
        if type(value.type) is not TensorType:
            value._tensor("use as one array")  # refuses
        return value
    if isinstance(value, Dim):
        return extent(value)
    if isinstance(value, (list, tuple)) and has_expression(value):
        return SURFACE["stack"]([as_node(item) for item in value])  # type: ignore[no-any-return]
    return constant(value)


def has_expression(value: Any) -> bool:
    """Whether a value, or an item of a nest of lists, has no value until a call."""
    if isinstance(value, (list, tuple)):
        return any(map(has_expression, value))
    return isinstance(value, (TensorMethods, Dim))


def broadcast(x: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """`x` with its axis i as axis `axes[i]` of `shape`; extents of 1 stretch. `x` itself if nothing
    changes.
    """
    if x.shape == shape:
        return x
    return broadcast_op(x, shape=shape, axes=axes)


def cast(x: Any, dtype: Any) -> Node:
    """`x` converted to `dtype`: floats round to nearest; float to integer truncates, saturates, and
    takes NaN to 0.
    """
    from graphc.ops.special import cast_op

    node, wanted = as_node(x), dtypes.as_dtype(dtype)
    return node if node.dtype is wanted else cast_op(node, dtype=wanted)


def operands(
    name: str,
    *values: Any,
    real: bool = False,
    kinds: str = "biuf",
    integers: np.dtype[Any] | None = None,
) -> list[Node]:
    """The arguments of an element-wise call as nodes of equal shape and dtype.

    `kinds` are the dtype kinds that are taken: "b" bool, "i" signed and "u" unsigned integers, "f"
    floats. `real` asks for the float dtype in which NumPy computes functions of real numbers;
    `integers` is the dtype to compute in if the operands promote to bool or an integer dtype.
    Raises `GraphError` naming `name` if they cannot be made equal, `GraphTypeError` if their dtype
    is none of `kinds`.
    """
    alike = _dtype_already(values)
    if alike is not None:
        kind = dtypes.kind(alike)
        if kind in kinds and (kind == "f" or not real and integers is None):
            return broadcast_together(name, values)
    dtype = common_dtype(name, values, real)
    if integers is not None and not dtypes.is_float(dtype):
        dtype = integers
    if dtypes.kind(dtype) not in kinds:
        raise GraphTypeError(
            f"{name} is not defined for dtype {dtype.name}\n"
            + describe([value for value in values if isinstance(value, Node)])
            + "\nCast with x.astype, or compare with 0 for a truth value."
        )
    return broadcast_together(name, [_as_dtype(value, dtype) for value in values])


def _dtype_already(values: Sequence[Any]) -> np.dtype[Any] | None:
    """The dtype of values that are tensors of one and the same; None for any others."""
    dtype: np.dtype[Any] | None = None
    for value in values:
        if type(value) is not Node or type(value.type) is not TensorType:
            return None
        if dtype is None:
            dtype = value.type.dtype
        elif value.type.dtype is not dtype:
            return None
    return dtype


def common_dtype(name: str, values: Sequence[Any], real: bool = False) -> np.dtype[Any]:
    """The dtype that `values` promote to, Python scalars and extents being weak.

    With `real`, the float dtype of a function of real numbers: each array counts as the float that
    its dtype is taken to. A weak float makes integers float64, in every function.
    """
    strong: np.dtype[Any] | None = None
    weak: list[bool | int | float] = []
    exact = True
    for value in values:
        if isinstance(value, Dim):
            weak.append(0)
        elif type(value) in (bool, int, float):
            weak.append(value)
        elif isinstance(value, WeakScalar):
            weak.append(value.sample)
        else:
            value = as_node(value)
            dtype = value._tensor(f"dtype for {name}").dtype
            exact = exact and not dtypes.is_float(dtype)
            dtype = dtypes.float_of(dtype) if real else dtype
            strong = dtype if strong is None else dtypes.promote(strong, dtype)
    if exact and any(type(scalar) is float for scalar in weak):
        return dtypes.FLOAT64
    for scalar in weak:
        strong = (
            dtypes.weak_dtype(scalar) if strong is None else dtypes.promote_weak(strong, scalar)
        )
    assert strong is not None
    return dtypes.float_of(strong) if real else strong


def _as_dtype(value: Any, dtype: np.dtype[Any]) -> Node:
    if isinstance(value, Dim):
        return extent(value, dtype)
    if type(value) in (bool, int, float):
        return constant(value, dtype)
    if isinstance(value, WeakScalar):
        return value.in_dtype(dtype)
    return cast(value, dtype)


def broadcast_together(name: str, nodes: Sequence[Node]) -> list[Node]:
    """The nodes at their common shape."""
    first = nodes[0].type
    for node in nodes:
        if node.type is not first and node.shape != nodes[0].shape:
            break
    else:
        return list(nodes)
    shape = broadcast_shapes(name, nodes)
    return [to_shape(node, shape) for node in nodes]


def to_shape(node: Node, shape: Shape) -> Node:
    """`node` at `shape`: extents restated where a symbol was unified, then broadcast."""
    if node.shape == shape:
        return node
    offset = len(shape) - node.ndim
    restated = tuple(
        old if old == 1 else shape[offset + axis] for axis, old in enumerate(node.shape)
    )
    if restated != node.shape:
        node = restate_op(node, shape=restated)
    return broadcast(node, shape, tuple(range(offset, len(shape))))


def broadcast_shapes(name: str, nodes: Sequence[Node]) -> Shape:
    """NumPy's rule, with symbolic extents unified instead of stretched."""
    rank = max(node.ndim for node in nodes)
    result: list[Extent] = []
    for axis in range(-rank, 0):
        extent_: Extent = 1
        for node in nodes:
            if -axis <= node.ndim:
                extent_ = _unify(name, nodes, extent_, node.shape[axis])
        result.append(extent_)
    return tuple(result)


def _unify(name: str, nodes: Sequence[Node], first: Extent, second: Extent) -> Extent:
    if first == second or second == 1:
        return first
    if first == 1:
        return second
    if isinstance(first, int) and isinstance(second, int):
        raise GraphError(f"{name}: shapes do not broadcast\n" + describe(nodes))
    return first if isinstance(first, int) else second if isinstance(second, int) else first


MOST_PARTS = 1 << 16


def check_parts(count: int, name: str, what: str) -> int:
    """A number of nodes that a function makes one by one; `GraphError` if no graph should hold
    them.
    """
    if not 0 <= count <= MOST_PARTS:
        raise GraphError(f"{name}: {what} is a number from 0 to {MOST_PARTS}, got {count}")
    return count


def describe(nodes: Sequence[Node]) -> str:
    """A line for each node: its type, op, and where it was built. For error messages."""
    lines = []
    for node in nodes[:4]:
        where = location(node.origin)
        name = node.attrs["name"] if node.op is symbol_op else tracing.label(node)
        label = name or node.op.name
        lines.append(f"  {node.type!r}  {label}" + (f", built at {where}" if where else ""))
    return "\n".join(lines)


def normalize_axis(axis: Any, of: Node | int, name: str) -> int:
    """A non-negative axis of a node or of a rank; `GraphError` if it is out of range."""
    rank = of if isinstance(of, int) else of.ndim
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise GraphError(f"{name}: an axis is an integer, got {shortened(repr(axis))}{_whose(of)}")
    if not -rank <= axis < rank:
        raise GraphError(f"{name}: axis {axis} is out of range for rank {rank}{_whose(of)}")
    return int(axis) % rank


def normalize_axes(axis: Any, of: Node | int, name: str) -> tuple[int, ...]:
    """Sorted non-negative axes from None (all), one axis, or a sequence."""
    if axis is None:
        return tuple(range(of if isinstance(of, int) else of.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = sorted(normalize_axis(a, of, name) for a in given)
    if len(set(axes)) != len(axes):
        raise GraphError(f"{name}: an axis is named twice in {axis}{_whose(of)}")
    return tuple(axes)


def _whose(of: Node | int) -> str:
    """The line of a message that tells whose axes are meant."""
    return "" if isinstance(of, int) else "\n" + describe([of])
