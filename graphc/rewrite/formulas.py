"""Which formulas are a function of their own?  erfc, arctanh, logit, log2, gammaln, their kin.

The function is at least as accurate as the formula on every input, and mostly cheaper, so these
rules are `stable`; inverses that restrict the domain are true over the reals only.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.rewrite.pattern import functions, numbers, variables
from graphc.rewrite.rule import rule

(x,) = variables("x")
(c,) = numbers("c")
exp, exp2, log, log1p, log2, log10, sqrt, square, power = functions(
    "exp exp2 log log1p log2 log10 sqrt square power"
)
sin, cos, tan, arcsin, arccos, arctan = functions("sin cos tan arcsin arccos arctan")
sinh, cosh, tanh, arcsinh, arctanh = functions("sinh cosh tanh arcsinh arctanh")
erf, erfc, erfinv, erfcinv, gamma, gammaln = functions("erf erfc erfinv erfcinv gamma gammaln")
sigmoid, logit = functions("sigmoid logit")


def _fraction(x: Any) -> Any:
    """|x|/(1 + |x|): from 0 to 1."""
    return abs(x) / (1 + abs(x))


# -- the error function ----------------------------------------------------------------------------

rule("erfc", 1 - erf(x), erfc(x), law="stable", example=lambda x: 1 - erf(x))
rule("erfc_negative", 1 + erf(x), erfc(-x), law="stable", example=lambda x: 1 + erf(x))
rule("erf", 1 - erfc(x), erf(x), law="stable", example=lambda x: 1 - erfc(x))
rule(
    "erfinv_erf",
    erfinv(erf(x)),
    x,
    law="stable",
    example=lambda x: erfinv(erf(tanh(x))),
)
rule(
    "erfcinv_erfc",
    erfcinv(erfc(x)),
    x,
    law="stable",
    example=lambda x: erfcinv(erfc(tanh(x))),
)
rule("erf_erfinv", erf(erfinv(x)), x, law="real", example=lambda x: erf(erfinv(x)))
rule("erfc_erfcinv", erfc(erfcinv(x)), x, law="real", example=lambda x: erfc(erfcinv(x)))

# -- other bases -----------------------------------------------------------------------------------


def _is_log_of(base: float, c: float) -> bool:
    """Whether c is log(base), in float64 or rounded to float32."""
    return abs(c - math.log(base)) <= 2.0**-24


rule("log2_exp2", log2(exp2(x)), x, law="stable", example=lambda x: log2(exp2(x)))
rule("exp2_log2", exp2(log2(x)), x, law="real", example=lambda x: exp2(log2(x)))
rule("exp2_power", power(2.0, x), exp2(x), law="stable", example=lambda x: power(2.0, x))
rule(
    "log2_quotient",
    log(x) / c,
    log2(x),
    law="stable",
    guard=lambda c: _is_log_of(2, c),
    example=lambda x: log(abs(x)) / math.log(2),
)
rule(
    "log10_quotient",
    log(x) / c,
    log10(x),
    law="stable",
    guard=lambda c: _is_log_of(10, c),
    example=lambda x: log(abs(x)) / math.log(10),
)

# -- gamma, logit ----------------------------------------------------------------------------------

rule(
    "log_gamma",
    log(gamma(x)),
    gammaln(x),
    law="stable",
    guard=lambda x, known: "unsigned" in known(x),
    example=lambda x: log(gamma(abs(x))),
)
rule(
    "logit_quotient",
    log(x / (1 - x)),
    logit(x),
    law="stable",
    example=lambda x: log(_fraction(x) / (1 - _fraction(x))),
)
rule(
    "logit_difference",
    log(x) - log1p(-x),
    logit(x),
    law="stable",
    example=lambda x: log(_fraction(x)) - log1p(-_fraction(x)),
)
rule("logit_sigmoid", logit(sigmoid(x)), x, law="stable", example=lambda x: logit(sigmoid(x)))
rule("sigmoid_logit", sigmoid(logit(x)), x, law="real", example=lambda x: sigmoid(logit(x)))

# -- trigonometric and hyperbolic ------------------------------------------------------------------

rule("tan", sin(x) / cos(x), tan(x), law="stable", example=lambda x: sin(x) / cos(x))
rule("tan_arctan", tan(arctan(x)), x, law="real", example=lambda x: tan(arctan(x)))
rule("sin_arcsin", sin(arcsin(x)), x, law="real", example=lambda x: sin(arcsin(x)))
rule("cos_arccos", cos(arccos(x)), x, law="real", example=lambda x: cos(arccos(x)))
rule("arctanh_tanh", arctanh(tanh(x)), x, law="stable", example=lambda x: arctanh(tanh(x)))
rule("tanh_arctanh", tanh(arctanh(x)), x, law="real", example=lambda x: tanh(arctanh(x)))
rule("arcsinh_sinh", arcsinh(sinh(x)), x, law="stable", example=lambda x: arcsinh(sinh(x)))
rule("sinh_arcsinh", sinh(arcsinh(x)), x, law="stable", example=lambda x: sinh(arcsinh(x)))
rule(
    "sinh",
    0.5 * (exp(x) - exp(-x)),
    sinh(x),
    law="stable",
    example=lambda x: 0.5 * (exp(x) - exp(-x)),
)
rule(
    "sinh_halved",
    (exp(x) - exp(-x)) / 2,
    sinh(x),
    law="stable",
    example=lambda x: (exp(x) - exp(-x)) / 2,
)
rule(
    "cosh",
    0.5 * (exp(x) + exp(-x)),
    cosh(x),
    law="stable",
    example=lambda x: 0.5 * (exp(x) + exp(-x)),
)
rule(
    "cosh_halved",
    (exp(x) + exp(-x)) / 2,
    cosh(x),
    law="stable",
    example=lambda x: (exp(x) + exp(-x)) / 2,
)
rule("tanh_quotient", sinh(x) / cosh(x), tanh(x), law="stable", example=lambda x: sinh(x) / cosh(x))
rule(
    "arcsinh",
    log(x + sqrt(square(x) + 1)),
    arcsinh(x),
    law="stable",
    example=lambda x: log(x + sqrt(x**2 + 1)),
)
rule(
    "arctanh",
    0.5 * log((1 + x) / (1 - x)),
    arctanh(x),
    law="stable",
    example=lambda x: 0.5 * log((1 + x / (1 + abs(x))) / (1 - x / (1 + abs(x)))),
)
