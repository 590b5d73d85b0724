"""What is the extent of an axis, and which equalities between extents hold exactly?

An extent is an `int`, or a `Dim`: a polynomial with integer coefficients over *atoms*, where an
atom is a named symbol or floordiv, mod, min or max of extents. One small sorted normal form serves
array shapes ("batch", "2*n + 1") and the index arithmetic of kernels, where loop variables are
symbols too; so equality of shapes is equality of tuples, and an index that was flattened and split
again comes back as it was. A computer algebra system would be slower by orders of magnitude at the
few identities that matter here.

Two levels keep every step exact:

- The operators apply only identities that hold for all integers, of either sign, wherever the
  expression is defined (no division by zero): `(c*x + r)//c = x + r//c`, `(c*x + r) % c = r % c`,
  `(x//2)//3 = x//6` and the like.
- `simplify(extent, bounds)` may also use ranges of symbols: `j//n = 0` where `0 <= j <= n - 1`.

Where a divisor is zero an expression has no value; a simplified one may have: `(a*n)//n` is `a`.

    >>> batch, n = dim("batch"), dim("n")
    >>> 2*batch + n//3
    2*batch + n//3
    >>> (batch*n + 5)//n
    batch + 5//n
    >>> simplify((batch*n + dim("j")) % n, {"j": (0, n - 1)})
    j
"""

from __future__ import annotations

from graphc.dims.bounds import Bounds, interval, joined, proves_nonnegative, simplify
from graphc.dims.choice import dim_max, dim_min
from graphc.dims.parsing import parse
from graphc.dims.polynomial import (
    Compound,
    Dim,
    Extent,
    affine,
    ceildiv,
    dim,
    evaluate,
    product,
    separated,
    substitute,
    symbols_of,
)

__all__ = [
    "Bounds",
    "Compound",
    "Dim",
    "Extent",
    "affine",
    "ceildiv",
    "dim",
    "dim_max",
    "dim_min",
    "evaluate",
    "interval",
    "joined",
    "parse",
    "product",
    "proves_nonnegative",
    "separated",
    "simplify",
    "substitute",
    "symbols_of",
]
