"""How are quotients, remainders and powers of whole numbers taken?  As NumPy and Python take them.

`floor_divide` and `remainder` belong together (x = y (x // y) + x % y, with the sign of y), as do
the truncated quotient and `fmod` (with the sign of x). Floats follow IEEE: a remainder by 0 is NaN.
Integers have no such value: a divisor of 0, and a negative exponent, is an error of the call that
names the user's line. It is raised wherever such an element is computed, also if a `where` drops it
afterwards: write `n // where(d != 0, d, 1)`, not `where(d != 0, n // d, 0)`. The least integer
divided by -1 wraps around to itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.lowering import Demand
from graphc.node import Node
from graphc.op import elementwise, no_derivative
from graphc.ops.arithmetic import absolute, like
from graphc.ops.elementwise import counted
from graphc.ops.iteration import while_loop
from graphc.ops.operands import cast, operands
from graphc.ops.rounding import rint_op
from graphc.ops.special import where_op
from graphc.tensor import alias, surface


def is_float_kind(array: Any) -> bool:
    """Whether an array is of a float dtype."""
    return dtypes.is_float(array.dtype)


_NO_ZERO = Demand(
    kernel=lambda k, x, y: None if y.is_float else k.ne(y, 0),
    numpy=lambda x, y: np.True_ if is_float_kind(y) else y != 0,
    error=ZeroDivisionError,
    message="integer division by zero",
)


def _divided(k: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The truncated quotient of integers and what it leaves, with a single division."""
    quotient = k.quotient(x, y)
    return quotient, k.sub(x, k.mul(quotient, y))


def _moves(k: Any, rest: Any, y: Any) -> Any:
    """Whether the floored quotient is one less than the truncated one."""
    return k.and_(k.ne(rest, 0), k.ne(k.lt(rest, 0), k.lt(y, 0)))


def _floor_divide_kernel(k: Any, x: Any, y: Any) -> Any:
    if x.is_float:
        return k.call("floor_divide", x, y)
    quotient, rest = _divided(k, x, y)
    return k.select(_moves(k, rest, y), k.sub(quotient, 1), quotient) if x.is_signed else quotient


def _remainder_kernel(k: Any, x: Any, y: Any) -> Any:
    if x.is_float:
        return k.call("remainder", x, y)
    _, rest = _divided(k, x, y)
    return k.select(_moves(k, rest, y), k.add(rest, y), rest) if x.is_signed else rest


def _fmod_kernel(k: Any, x: Any, y: Any) -> Any:
    return k.call("fmod", x, y) if x.is_float else _divided(k, x, y)[1]


def _remainder_partials(x: Node, y: Node, result: Node) -> tuple[Node, Node]:
    """x - q y with a whole number q: the derivative by y is -q."""
    return like(x, 1), rint_op((result - x) / y)


floor_divide_op = elementwise(
    "floor_divide",
    numpy=np.floor_divide,
    kernel=_floor_divide_kernel,
    partials=lambda x, y, result: (None, None),
    demand=_NO_ZERO,
    kinds="iuf",
    cost=40,
    text="{} // {}",
    latex=r"\left\lfloor \frac{{{}}}{{{}}} \right\rfloor",
    doc="The derivative is 0 everywhere, the jumps included.",
)
remainder_op = elementwise(
    "remainder",
    numpy=np.remainder,
    kernel=_remainder_kernel,
    partials=_remainder_partials,
    singular=(1,),
    demand=_NO_ZERO,
    kinds="iuf",
    cost=40,
    text="{} % {}",
    doc="With the sign of the divisor. At the jumps the derivative is that of the branch taken.",
)
fmod_op = elementwise(
    "fmod",
    numpy=np.fmod,
    kernel=_fmod_kernel,
    partials=_remainder_partials,
    singular=(1,),
    demand=_NO_ZERO,
    kinds="iuf",
    cost=40,
    doc="With the sign of the dividend. At the jumps the derivative is that of the branch taken.",
)

# -- powers of integers --------------------------------------------------------------------------


def _integer_power_kernel(k: Any, x: Any, y: Any) -> Any:
    """Square and multiply, with one select for each bit that an exponent can have."""
    result, factor = k.const(1, x.dtype), x
    bits = x.bits - x.is_signed
    for bit in range(bits):
        taken = k.ne(k.and_(y, 1 << bit), 0)
        result = k.select(taken, k.mul(result, factor), result)
        if bit + 1 < bits:
            factor = k.mul(factor, factor)
    return result


integer_power_op = elementwise(
    "integer_power",
    numpy=lambda x, y: np.power(x, y),
    kernel=_integer_power_kernel,
    partials=no_derivative("integers do not vary smoothly"),
    demand=Demand(
        kernel=lambda k, x, y: k.ge(y, 0) if y.is_signed else None,
        numpy=lambda x, y: y >= 0,
        error=ValueError,
        message="integers to negative integer powers are not allowed: cast to a float dtype first",
    ),
    kinds="iu",
    cost=250,
    text="{} ** {}",
    latex="{}^{{{}}}",
    doc="Wraps around on overflow.",
)

# -- the surface ---------------------------------------------------------------------------------


@surface
def floor_divide(x: Any, y: Any) -> Node:
    """x // y: the largest whole number that is at most x/y. `ZeroDivisionError` at run time for
    integers divided by 0; the derivative is 0.
    """
    return floor_divide_op(*counted("floor_divide", x, y))


@surface
def remainder(x: Any, y: Any) -> Node:
    """x % y = x - y (x // y), with the sign of y; exact for floats, NaN by 0.
    `ZeroDivisionError` at run time for integers divided by 0.
    """
    return remainder_op(*counted("remainder", x, y))


@surface
def fmod(x: Any, y: Any) -> Node:
    """x - y trunc(x/y), with the sign of x, as in C; exact for floats, NaN by 0.
    `ZeroDivisionError` at run time for integers divided by 0.
    """
    return fmod_op(*counted("fmod", x, y))


@surface
def divmod_(x: Any, y: Any) -> tuple[Node, Node]:
    """(x // y, x % y)."""
    nodes = counted("divmod", x, y)
    return floor_divide_op(*nodes), remainder_op(*nodes)


@surface
def reciprocal(x: Any) -> Node:
    """1/x; of integers the whole part. `ZeroDivisionError` at run time for the integer 0."""
    (node,) = counted("reciprocal", x)
    if dtypes.is_float(node.dtype):
        return like(node, 1) / node
    floored = floor_divide_op(like(node, 1), node)
    if dtypes.kind(node.dtype) == "u":
        return floored
    return where_op(node < like(node, -1), like(node, 0), floored)


# -- common divisors -----------------------------------------------------------------------------


def _sizes(name: str, x1: Any, x2: Any) -> tuple[Node, Node, np.dtype[Any]]:
    """|x1| and |x2| as unsigned integers, in which every size can be written; and their dtype."""
    nodes = operands(name, x1, x2, kinds="iu")
    dtype = nodes[0].dtype
    unsigned = f"uint{8 * dtype.itemsize}"
    first, second = (cast(absolute(node), unsigned) for node in nodes)
    return first, second, dtype


def _common_divisor(first: Node, second: Node) -> Node:
    """Euclid's algorithm, until no element has a rest; of the worst pair, consecutive Fibonacci
    numbers, as many steps as their width needs.
    """
    steps = math.ceil(8 * first.dtype.itemsize / math.log2((1 + math.sqrt(5)) / 2)) + 1

    def step(state: Any) -> Any:
        a, b = state
        done = b == like(b, 0)
        rest = fmod_op(a, where_op(done, like(b, 1), b))
        return where_op(done, a, b), where_op(done, b, rest)

    def goes_on(state: Any) -> Any:
        return state[1].any()

    divisor, _ = while_loop(goes_on, step, (first, second), bound=steps)
    return divisor


@surface
def gcd(x1: Any, x2: Any) -> Node:
    """The greatest common divisor of |x1| and |x2|, for integers; that of 0 and n is |n|.

    A loop over whole arrays, of as many steps as the worst of their pairs needs.
    """
    first, second, dtype = _sizes("gcd", x1, x2)
    return cast(_common_divisor(first, second), dtype)


@surface
def lcm(x1: Any, x2: Any) -> Node:
    """The least common multiple of |x1| and |x2|, for integers; 0 if one of them is 0."""
    first, second, dtype = _sizes("lcm", x1, x2)
    divisor = _common_divisor(first, second)
    safe = where_op(divisor == like(divisor, 0), like(divisor, 1), divisor)
    return cast(floor_divide_op(first, safe) * second, dtype)


alias("mod", remainder)
