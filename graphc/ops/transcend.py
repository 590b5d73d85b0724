"""Exponentials, logarithms, powers and hyperbolic functions, and how a function with a kernel of
its own is declared.

The kernels are procedures of graphc's own, called by name: no libm.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.node import Node
from graphc.op import Interval, Op, elementwise
from graphc.ops.arithmetic import (
    difference_op,
    like,
    sqrt_op,
    strong_divide_op,
    strong_multiply,
)
from graphc.ops.operands import operands
from graphc.tensor import alias, surface

LOG_2, LOG_10 = math.log(2), math.log(10)


def quiet(function: Any) -> Any:
    """NumPy's function without its floating-point warnings: infinities and NaN are results here."""

    def call(*arrays: Any, **settings: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arrays, **settings)

    return call


def real_op(
    name: str, function: Any, partial: Any, cost: int, procedure: str = "", **record: Any
) -> Op:
    """Register a real function of one argument whose kernel is the procedure of that name.

    `partial(x, result)` is its derivative as a graph.
    """
    called = procedure or name
    return elementwise(
        name,
        numpy=quiet(function),
        kernel=lambda k, x: k.call(called, x),
        partials=lambda x, result: (partial(x, result),),
        kinds="f",
        cost=cost,
        **record,
    )


def real_surface(op: Op, text: str, *aliases: str, always_float64: bool = False) -> Any:
    """The public function of an op whose arguments are of one float dtype, under its names.

    Integers and bool become the float dtype of NumPy's ufuncs, float16 for those of 8 bits; with
    `always_float64` that of NumPy's other functions.
    """
    wide = {"integers": dtypes.FLOAT64} if always_float64 else {"real": True}
    arity = len(inspect.signature(op.lowering.kernel).parameters) - 1  # type: ignore[union-attr]

    def one(x: Any) -> Node:
        return op(*operands(op.name, x, **wide))

    def two(x1: Any, x2: Any) -> Node:
        return op(*operands(op.name, x1, x2, **wide))

    function = one if arity == 1 else two
    function.__name__ = function.__qualname__ = op.name
    which = "float64" if always_float64 else "the float dtype that NumPy's ufuncs choose"
    function.__doc__ = f"{text} In a float dtype: integers and bool become {which}."
    for each in aliases:
        alias(each, function)
    return surface(function)


def as_float64(function: Any) -> Any:
    """`function` of float64 arrays, for arrays of any float dtype."""

    def call(*arrays: Any, **settings: Any) -> Any:
        dtype = arrays[0].dtype
        made = function(*(np.asarray(each, np.float64) for each in arrays), **settings)
        return np.asarray(made, np.float64).astype(dtype)

    return call


def _sigmoid_numpy(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


def _softplus_numpy(x: Any) -> Any:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


_POSITIVE = frozenset(("nonnegative",))
exp_op = real_op(
    "exp",
    np.exp,
    lambda x, y: y,
    20,
    laws=frozenset(("increasing",)),
    domain=(Interval(-30, 30),),
    facts=lambda node, known: _POSITIVE,
    latex="e^{{{}}}",
)
expm1_op = real_op(
    "expm1",
    np.expm1,
    lambda x, y: y + like(x, 1),
    24,
    laws=frozenset(("increasing",)),
    domain=(Interval(-30, 30),),
)
log_op = real_op(
    "log",
    np.log,
    lambda x, y: like(x, 1) / x,
    24,
    singular=(0,),
    domain=(Interval(1e-3, 50),),
    laws=frozenset(("increasing",)),
    latex=r"\log {}",
    doc="-inf at 0, NaN below. The derivative at 0 is infinite; times a zero cotangent it is 0.",
)
log1p_op = real_op(
    "log1p",
    np.log1p,
    lambda x, y: like(x, 1) / (x + like(x, 1)),
    26,
    singular=(0,),
    domain=(Interval(-0.9, 50),),
    laws=frozenset(("increasing",)),
)
tanh_op = real_op(
    "tanh",
    np.tanh,
    lambda x, y: like(x, 1) - y * y,
    26,
    domain=(Interval(-4, 4),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\tanh {}",
)
sigmoid_op = real_op(
    "sigmoid",
    _sigmoid_numpy,
    lambda x, y: y * (like(x, 1) - y),
    26,
    domain=(Interval(-8, 8),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: _POSITIVE,
    latex=r"\sigma({})",
)


def _before_underflow(x: Any, factor: Any) -> Any:
    """x times a factor that is exp(x) far below 0: in halves there, since that has lost places of
    its own where the product has not.
    """
    low = np.clip(x, -2000, -700)
    half = np.exp(low / 2)
    return np.where(x > -700, np.where(x > -700, x, 0) * factor, low * half * half)


def _silu_numpy(x: Any) -> Any:
    """x times the sigmoid, and 0 for what underflows."""
    return _before_underflow(x, _sigmoid_numpy(x))


def _silu_slope(x: Node, y: Node) -> Node:
    s = sigmoid_op(x)
    return s + y * (like(x, 1) - s)


silu_op = real_op(
    "silu",
    as_float64(quiet(_silu_numpy)),
    _silu_slope,
    28,
    domain=(Interval(-8, 8),),
    doc="x sigmoid(x), rounded once: 0 at -inf.",
)


def _mish_numpy(x: Any) -> Any:
    """x times the tangent, and 0 for what underflows."""
    return _before_underflow(x, np.tanh(_softplus_numpy(x)))


def _mish_slope(x: Node, y: Node) -> Node:
    t = tanh_op(softplus_op(x))
    return t + x * sigmoid_op(x) * (like(x, 1) - t * t)


mish_op = real_op(
    "mish",
    as_float64(quiet(_mish_numpy)),
    _mish_slope,
    80,
    domain=(Interval(-8, 8),),
    doc="x tanh(softplus(x)), rounded once: 0 at -inf.",
)
softplus_op: Op = real_op(
    "softplus",
    _softplus_numpy,
    lambda x, y: sigmoid_op(x),
    48,
    domain=(Interval(-8, 8),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: _POSITIVE,
    doc="log(1 + exp(x)), without overflow.",
)
exp2_op = real_op(
    "exp2",
    np.exp2,
    lambda x, y: y * like(x, LOG_2),
    20,
    laws=frozenset(("increasing",)),
    domain=(Interval(-30, 30),),
    facts=lambda node, known: _POSITIVE,
    latex="2^{{{}}}",
)
log2_op = real_op(
    "log2",
    np.log2,
    lambda x, y: like(x, 1 / LOG_2) / x,
    30,
    singular=(0,),
    domain=(Interval(0.1, 50),),
    laws=frozenset(("increasing",)),
    latex=r"\log_2 {}",
    doc="-inf at 0, NaN below; exact for powers of two.",
)
log10_op = real_op(
    "log10",
    np.log10,
    lambda x, y: like(x, 1 / LOG_10) / x,
    50,
    singular=(0,),
    domain=(Interval(0.1, 50),),
    laws=frozenset(("increasing",)),
    latex=r"\log_{{10}} {}",
    doc="-inf at 0, NaN below; exact for powers of ten.",
)
sinh_op = real_op(
    "sinh",
    np.sinh,
    lambda x, y: cosh_op(x),
    36,
    domain=(Interval(-6, 6),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\sinh {}",
)
cosh_op: Op = real_op(
    "cosh",
    np.cosh,
    lambda x, y: sinh_op(x),
    36,
    domain=(Interval(-6, 6),),
    laws=frozenset(("even",)),
    facts=lambda node, known: _POSITIVE,
    latex=r"\cosh {}",
)
arcsinh_op = real_op(
    "arcsinh",
    np.arcsinh,
    lambda x, y: like(x, 1) / sqrt_op(x * x + like(x, 1)),
    50,
    "asinh",
    domain=(Interval(-9, 9),),
    laws=frozenset(("odd", "increasing")),
)
arccosh_op = real_op(
    "arccosh",
    np.arccosh,
    lambda x, y: like(x, 1) / sqrt_op((x - like(x, 1)) * (x + like(x, 1))),
    50,
    "acosh",
    singular=(0,),
    domain=(Interval(1.5, 50),),
    laws=frozenset(("increasing",)),
    facts=lambda node, known: _POSITIVE,
    doc="NaN below 1. The derivative at 1 is infinite; times a zero cotangent it is 0.",
)
arctanh_op = real_op(
    "arctanh",
    np.arctanh,
    lambda x, y: like(x, 1) / ((like(x, 1) - x) * (like(x, 1) + x)),
    50,
    "atanh",
    singular=(0,),
    domain=(Interval(-0.8, 0.8),),
    laws=frozenset(("odd", "increasing")),
    doc="Infinite at -1 and 1, NaN beyond, and so is the derivative.",
)


def _logit_numpy(x: Any) -> Any:
    """Exact differences on either side: 2 x - 1 near 1/2, 1 - x above."""
    middle = 2 * np.arctanh(np.clip(2 * x - 1, -0.5, 0.5))
    return np.where((x > 0.25) & (x < 0.75), middle, np.log(x) - np.log1p(-x)).astype(x.dtype)


logit_op = real_op(
    "logit",
    as_float64(_logit_numpy),
    lambda x, y: like(x, 1) / (x * (like(x, 1) - x)),
    50,
    singular=(0,),
    domain=(Interval(0.2, 0.8),),
    laws=frozenset(("increasing",)),
    doc="log(x/(1 - x)), the inverse of sigmoid: -inf at 0, inf at 1, NaN outside.",
)


def _cbrt_slope(y: Node) -> Node:
    """1/(3 y^2) as a product of inverses: those of a square would give NaN at 0 from order 2 on."""
    inverse = like(y, 1) / y
    return strong_multiply(inverse, inverse) * like(y, 1 / 3)


cbrt_op = real_op(
    "cbrt",
    np.cbrt,
    lambda x, y: _cbrt_slope(y),
    40,
    singular=(0,),
    domain=(Interval(0.3, 5),),
    laws=frozenset(("odd", "increasing")),
    latex=r"\sqrt[3]{{{}}}",
    doc="The real cube root. The derivatives at 0 are infinite; times a zero cotangent they are 0.",
)


def _power_partials(x: Node, y: Node, result: Node) -> tuple[Node, Node]:
    by_base = strong_multiply(y, power_op(x, y - like(y, 1)))
    return by_base, strong_multiply(result, log_op(x))


power_op = elementwise(
    "power",
    numpy=quiet(np.power),
    kernel=lambda k, x, y: k.call("pow", x, y),
    partials=_power_partials,
    singular=(0, 1),
    kinds="f",
    cost=80,
    domain=(Interval(0.1, 5), Interval(-3, 3)),
    text="{} ** {}",
    latex="{}^{{{}}}",
    doc="As IEEE pow. The derivative by the exponent at base 0 is 0 where the power is 0; that by "
    "the base is 0 for the exponent 0, and of exponent 1 is 1 and has the derivative 0.",
)


def _shares(x: Node, y: Node, scale: float) -> tuple[Node, Node]:
    """What each of two terms of a sum of exponentials is of the sum: sigmoids of their distance, so
    smooth at ties, and halves between equal infinities.
    """
    apart = difference_op(x, y) * like(x, scale)
    return sigmoid_op(apart), sigmoid_op(-apart)


def _logaddexp2_kernel(k: Any, x: Any, y: Any) -> Any:
    """The larger plus log2(1 + 2**-|x - y|); of equal infinities the difference is NaN."""
    smaller = k.call("exp2", k.neg(k.abs(k.sub(x, y))))
    above = k.mul(k.call("log1p", smaller), 1 / LOG_2)
    return k.select(k.eq(x, y), k.add(x, 1.0), k.add(k.max(x, y), above))


logaddexp2_op = elementwise(
    "logaddexp2",
    numpy=quiet(np.logaddexp2),
    kernel=_logaddexp2_kernel,
    partials=lambda x, y, result: _shares(x, y, LOG_2),
    kinds="f",
    cost=60,
    laws=frozenset(("commutative",)),
    domain=(Interval(-9, 9), Interval(-9, 9)),
    doc="log2(2**x + 2**y), without overflow. Equal infinities have derivatives of 1/2 each.",
)


def _logaddexp_kernel(k: Any, x: Any, y: Any) -> Any:
    """The larger plus log(1 + exp(-|x - y|)); of equal infinities the difference is NaN."""
    above = k.call("softplus", k.neg(k.abs(k.sub(x, y))))
    return k.select(k.eq(x, y), k.add(x, LOG_2), k.add(k.max(x, y), above))


logaddexp_op = elementwise(
    "logaddexp",
    numpy=quiet(np.logaddexp),
    kernel=_logaddexp_kernel,
    partials=lambda x, y, result: _shares(x, y, 1.0),
    kinds="f",
    cost=56,
    laws=frozenset(("commutative",)),
    domain=(Interval(-9, 9), Interval(-9, 9)),
    doc="log(exp(x) + exp(y)), without overflow. Equal infinities have derivatives of 1/2 each.",
)


def _product_with(function: Any) -> Any:
    """x * function(y), but 0 where x is 0 and y is a number."""

    def numpy(x: Any, y: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.where((x == 0) & ~np.isnan(y), np.zeros_like(x), x * function(y))

    return numpy


xlogy_op = elementwise(
    "xlogy",
    numpy=_product_with(np.log),
    kernel=lambda k, x, y: k.call("xlogy", x, y),
    partials=lambda x, y, result: (log_op(y), strong_divide_op(x, y)),
    singular=(0, 1),
    kinds="f",
    cost=26,
    domain=(Interval(-3, 3), Interval(0.1, 5)),
    doc="x log(y), 0 where x is 0. There the derivative by y is 0, that by x is log(y).",
)
xlog1py_op = elementwise(
    "xlog1py",
    numpy=_product_with(np.log1p),
    kernel=lambda k, x, y: k.call("xlog1py", x, y),
    partials=lambda x, y, result: (log1p_op(y), strong_divide_op(x, like(y, 1) + y)),
    singular=(0, 1),
    kinds="f",
    cost=28,
    domain=(Interval(-3, 3), Interval(-0.5, 5)),
    doc="x log(1 + y), 0 where x is 0. There the derivative by y is 0, that by x is log(1 + y).",
)

exp = real_surface(exp_op, "e to the power x.")
exp2 = real_surface(exp2_op, "2 to the power x.")
expm1 = real_surface(expm1_op, "exp(x) - 1, accurate near 0.")
log = real_surface(log_op, "The natural logarithm: -inf at 0, NaN below.")
log2 = real_surface(log2_op, "The logarithm to base 2: -inf at 0, NaN below.")
log10 = real_surface(log10_op, "The logarithm to base 10: -inf at 0, NaN below.")
log1p = real_surface(log1p_op, "log(1 + x), accurate near 0.")
logit = real_surface(logit_op, "log(x/(1 - x)), the inverse of sigmoid: NaN outside of [0, 1].")
sinh = real_surface(sinh_op, "The hyperbolic sine.")
cosh = real_surface(cosh_op, "The hyperbolic cosine.")
tanh = real_surface(tanh_op, "The hyperbolic tangent.")
arcsinh = real_surface(arcsinh_op, "The inverse hyperbolic sine.", "asinh")
arccosh = real_surface(arccosh_op, "The inverse hyperbolic cosine: NaN below 1.", "acosh")
arctanh = real_surface(arctanh_op, "The inverse hyperbolic tangent: NaN beyond 1.", "atanh")
sigmoid = real_surface(sigmoid_op, "1 / (1 + exp(-x)).", "expit")
silu = real_surface(
    silu_op, "x sigmoid(x), also called swish (Elfwing, Uchibe & Doya 2017).", "swish"
)
mish = real_surface(mish_op, "x tanh(softplus(x)) (Misra 2019).")
softplus = real_surface(softplus_op, "log(1 + exp(x)), without overflow.")
cbrt = real_surface(cbrt_op, "The real cube root, of negative numbers too.")
logaddexp2 = real_surface(logaddexp2_op, "log2(2**x + 2**y), without overflow.")
xlogy = real_surface(xlogy_op, "x log(y), and 0 where x is 0.")
xlog1py = real_surface(xlog1py_op, "x log(1 + y), and 0 where x is 0.")
