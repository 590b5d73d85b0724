"""Which functions look at floats as numbers of a format?  Signs, exponents, neighbours, lengths.

Their kernels take the bits apart (`codegen/exact.py`), so they are exact, but for the length of a
vector, which is within 1 ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.node import Node
from graphc.op import elementwise, no_derivative, same_types
from graphc.ops.arithmetic import like, sign_op
from graphc.ops.elementwise import binary, unary
from graphc.ops.operands import as_node, broadcast_together, cast, describe, operands
from graphc.ops.special import project, where_op
from graphc.tensor import surface
from graphc.types import TensorType, TupleType, Type

# -- signs ---------------------------------------------------------------------------------------


def _copysign_partials(x: Node, y: Node, result: Node) -> tuple[Node, None]:
    return sign_op(x) * copysign_op(like(x, 1), y), None


copysign_op = elementwise(
    "copysign",
    numpy=np.copysign,
    kernel=lambda k, x, y: k.copysign(x, y),
    native=True,
    partials=_copysign_partials,
    kinds="f",
    cost=2,
    doc="The derivative by the sign is 0, that by the size is 0 at 0.",
)
signbit_op = elementwise(
    "signbit",
    numpy=np.signbit,
    kernel=lambda k, x: k.lt(k.bitcast(x, f"int{x.bits}"), 0),
    native=True,
    partials=no_derivative("a truth value does not vary smoothly"),
    kinds="f",
    result="bool",
)

# -- neighbours ----------------------------------------------------------------------------------


def _nextafter_numpy(x: Any, y: Any) -> Any:
    """NumPy's, which gives x for equal zeros of float16, where C says y."""
    return np.where(x == y, y, np.nextafter(x, y))


def _spacing_numpy(x: Any) -> Any:
    """NumPy's meaning for float32 and float64; it has another one for float16."""
    away = np.nextafter(x, np.copysign(x.dtype.type(np.inf), x))
    return np.where(x == 0, np.abs(away), away - x)


nextafter_op = elementwise(
    "nextafter",
    numpy=_nextafter_numpy,
    kernel=lambda k, x, y: k.call("nextafter", x, y),
    native=True,
    partials=lambda x, y, result: (like(x, 1), None),
    kinds="f",
    cost=12,
    doc="The derivative is that of x, from which it differs by one unit in the last place.",
)
spacing_op = elementwise(
    "spacing",
    numpy=_spacing_numpy,
    kernel=lambda k, x: k.call("spacing", x),
    native=True,
    partials=lambda x, result: (None,),
    kinds="f",
    cost=6,
    doc="The derivative is 0 everywhere, the jumps included.",
)

# -- exponents -----------------------------------------------------------------------------------


def _ldexp_infer(x: Type, exponent: Type) -> TensorType:
    if not isinstance(x, TensorType) or not dtypes.is_float(x.dtype):
        raise GraphError(f"ldexp needs a float tensor, got {x}")
    if exponent is not TensorType("int64", x.shape):
        raise GraphError(f"ldexp needs exponents of type int64{list(x.shape)}, got {exponent}")
    return x


def _ldexp_numpy(x: Any, exponent: Any) -> Any:
    """Exponents beyond those of the format do what large ones do: C's are of 32 bits."""
    return np.ldexp(x, np.clip(exponent, -100_000, 100_000).astype("int32"))


def _ldexp_partials(x: Node, exponent: Node, result: Node) -> tuple[Node, None]:
    return ldexp_op(like(x, 1), exponent), None


ldexp_op = elementwise(
    "ldexp",
    numpy=_ldexp_numpy,
    kernel=lambda k, x, exponent: k.call("ldexp", x, exponent),
    partials=_ldexp_partials,
    singular=(0,),
    infer=_ldexp_infer,
    cost=24,
    latex=r"\left({}\right) \cdot 2^{{{}}}",
    doc="Rounded once. The derivative overflows where 2**n does.",
)


def _frexp_infer(x: Type) -> TupleType:
    common = same_types("frexp", (x,), "f")
    return TupleType((common, TensorType("int32", common.shape)))


def _frexp_partials(x: Node, results: list[Node]) -> tuple[tuple[Any, ...], ...]:
    exponent = cast(results[1], "int64")
    return (ldexp_op(like(x, 1), -exponent),), (None,)


frexp_op = elementwise(
    "frexp",
    numpy=np.frexp,
    kernel=lambda k, x: k.call("frexp", x),
    native=True,
    partials=_frexp_partials,
    singular=(0,),
    infer=_frexp_infer,
    cost=12,
    doc="Two results: a number of size 1/2 up to 1, and the power of two that it is to be "
    "multiplied with.",
)

# -- lengths -------------------------------------------------------------------------------------

def _share(x: Node, length: Node) -> Node:
    """x / length, and 0 where both are 0."""
    return where_op(length == like(length, 0), like(x, 0), x / length)


hypot_op = elementwise(
    "hypot",
    numpy=np.hypot,
    kernel=lambda k, x, y: k.call("hypot", x, y),
    partials=lambda x, y, result: (_share(x, result), _share(y, result)),
    singular=(0, 1),
    kinds="f",
    cost=50,
    laws=frozenset(("commutative",)),
    facts=lambda node, known: frozenset(("nonnegative",)),
    latex=r"\left\lVert {}, {} \right\rVert",
    doc="sqrt(x**2 + y**2) without overflow on the way; infinity wins over NaN. The derivative at "
    "the origin is taken as 0, as that of a norm.",
)

# -- the surface ---------------------------------------------------------------------------------

copysign = binary(
    copysign_op,
    "The size of x with the sign of y, that of a zero or NaN included; in a float dtype.",
    real=True,
)
signbit = unary(signbit_op, "Whether the sign bit is set: x < 0, -0.0, or such a NaN.", real=True)
nextafter = binary(
    nextafter_op,
    "The float next to x in the direction of y; y where they are equal. In a float dtype.",
    real=True,
)
spacing = unary(
    spacing_op,
    "The distance from x to the next float away from zero, with the sign of x; NaN for infinity. "
    "In a float dtype.",
    real=True,
)
hypot = binary(
    hypot_op,
    "sqrt(x**2 + y**2) within 1 ulp, without overflow on the way; infinite if x or y is. "
    "In a float dtype.",
    real=True,
)


@surface
def ldexp(x: Any, i: Any) -> Node:
    """x * 2**i, rounded once; `i` is an integer or bool, x becomes a float."""
    exponent = as_node(i)
    if dtypes.is_float(exponent.dtype):
        raise GraphError(
            f"ldexp: the exponents are integers, got {exponent.dtype.name}\n" + describe([exponent])
        )
    (number,) = operands("ldexp", x, real=True)
    return ldexp_op(*broadcast_together("ldexp", [number, cast(exponent, "int64")]))


@surface
def frexp(x: Any) -> tuple[Node, Node]:
    """(mantissa, exponent) with x = mantissa * 2**exponent and 1/2 <= |mantissa| < 1; int32
    exponents. Zero, infinity and NaN are their own mantissas, with the exponent 0.
    """
    both = frexp_op(*operands("frexp", x, real=True))
    return project(both, 0), project(both, 1)
