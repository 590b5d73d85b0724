"""Which mathematical functions are there, and how are they computed from scalar instructions?

A procedure takes the builder `k` and values, and emits instructions; the same text serves SIMD
lanes, CUDA threads and the NumPy interpreter, so their results have the same bits. There are no
branches and no tables but those of sixteen numbers, which a register holds: an argument is reduced
to a small interval, a polynomial is evaluated with fused multiply-adds, and the result is put
together again, carrying the rounding error of the largest term where it matters. Where one
polynomial over the whole range would be long there are sixteen short ones, and a lookup finds the
coefficients (`Pieces`): where that is one instruction (`Scope.tables`), for elsewhere it costs as
much as five multiply-adds. Special values come out of the arithmetic where they can; a `select`
does the rest.

Errors are measured in units in the last place of the exact result, over the full range including
subnormal arguments and results. The bounds in the docstrings hold for float32 and float64, and
tests compare them with mpmath; `docs/ulp.md` lists what was measured. float16 and bfloat16 compute
in float32.

One file a subject: `parts` holds what all are made of, `tables` the coefficients,
which `tests/codegen/vecmath_fits.py` derives.
"""

from __future__ import annotations

import functools

from graphc.codegen.scalar import Scope, Value
from graphc.codegen.vecmath import arc as _arc
from graphc.codegen.vecmath import bessel as _bessel
from graphc.codegen.vecmath import erf as _erf
from graphc.codegen.vecmath import exp as _exp
from graphc.codegen.vecmath import fast as _fast
from graphc.codegen.vecmath import gamma as _gamma
from graphc.codegen.vecmath import log as _log
from graphc.codegen.vecmath import power as _power
from graphc.codegen.vecmath import trig as _trig
from graphc.codegen.vecmath.parts import FORMATS, Procedure


def _through_float32(procedure: Procedure) -> Procedure:
    """`procedure`, which computes in float32 for the 16-bit formats.

    What is no value, such as the order of a polygamma, is passed on.
    """

    @functools.wraps(procedure)
    def widened(k: Scope, *values: Value) -> Value:
        dtype = values[0].dtype
        if dtype in FORMATS:
            return procedure(k, *values)
        wide = [k.convert(v, "float32") if isinstance(v, Value) else v for v in values]
        return k.convert(procedure(k, *wide), dtype)

    return widened


PROCEDURES: dict[str, Procedure] = {
    procedure.__name__: _through_float32(procedure)
    for procedure in (
        *(_exp.exp, _exp.exp2, _exp.expm1, _exp.sinh, _exp.cosh, _exp.tanh, _exp.sigmoid),
        *(_exp.sigmoid_tail, _exp.silu, _exp.mish, _erf.gelu, _erf.ndtr, _erf.normal_density),
        *(_log.log, _log.log2, _log.log10, _log.log1p, _log.softplus, _log.logit),
        *(_log.xlogy, _log.xlog1py),
        *(_log.asinh, _log.acosh, _log.atanh, _power.pow, _power.cbrt),
        *(_trig.sin, _trig.cos, _trig.tan, _trig.sinc),
        *(_arc.asin, _arc.acos, _arc.atan, _arc.atan2),
        *(_erf.erf, _erf.erfc, _erf.erfinv, _erf.erfcinv),
        *(_gamma.lgamma, _gamma.gamma, _gamma.digamma, _gamma.polygamma),
        *(_bessel.i0, _bessel.i1, _bessel.i0e, _bessel.i1e, _bessel.j0, _bessel.j1),
        *(_bessel.y0, _bessel.y1),
    )
}

# What stands for some of them with `Options(math="fast")`.
FAST: dict[str, Procedure] = {
    procedure.__name__: _through_float32(procedure)
    for procedure in (_fast.tanh, _fast.sigmoid, _fast.silu)
}
