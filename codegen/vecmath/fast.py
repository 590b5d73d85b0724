"""Which functions are cheaper where accuracy may be lost, and by how much?

`Options(math="fast")` takes these in place of the ones within 1 ulp. Each leaves out the rounding
errors that the exact ones carry along: within 3 ulp; results less than 128 times the least normal
number may be 0. Special values are those of the exact ones. A function stands here only if it takes
at most three quarters of the time.
"""

from __future__ import annotations

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath.exp import exp_tail
from graphc.codegen.vecmath.exp import tanh as exact_tanh
from graphc.codegen.vecmath.parts import FORMATS, at_least, at_most, power_of_two

# From here on x sigmoid(x) is 0.
_LEAST = -1000.0


def tanh(k: Scope, x: Value) -> Value:
    """-e/(2 + e) with e = expm1(-2|x|), each rounded; in float32 the exact one is as fast."""
    if x.dtype == "float32":
        return exact_tanh(k, x)
    format_ = FORMATS[x.dtype]
    argument = at_least(k, k.mul(k.abs(x), -2.0), format_.saturated)
    shifted, tail = exp_tail(k, argument)
    scale = power_of_two(k, shifted, format_.bits_of_one)
    change = k.fma(scale, tail, k.sub(scale, 1.0))
    return k.copysign(k.div(change, k.add(change, 2.0)), x)


def sigmoid(k: Scope, x: Value) -> Value:
    """1/(1 + exp(-x)), each rounded."""
    return k.div(1.0, k.add(_decay(k, x), 1.0))


def silu(k: Scope, x: Value) -> Value:
    """x/(1 + exp(-x)), each rounded; -0.0 at -inf."""
    return k.div(at_least(k, x, _LEAST), k.add(_decay(k, x), 1.0))


# Up to here exp is a normal number or infinite, and from its negative on nothing beside 1.
_NORMAL = {"float64": 708.0, "float32": 87.0}


def _decay(k: Scope, x: Value) -> Value:
    """exp(-x), which is added to 1: no less than the least normal number."""
    format_ = FORMATS[x.dtype]
    argument = at_most(k, k.neg(x), format_.largest)
    shifted, tail = exp_tail(k, at_least(k, argument, -_NORMAL[x.dtype]))
    scale = power_of_two(k, shifted, format_.bits_of_one)
    return k.mul(scale, k.add(tail, 1.0))  # the power may be infinite
