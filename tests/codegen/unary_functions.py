"""Which functions of one real argument are there, and how far from exact may each be?

One row a function: the mathematical procedures with the bounds of `vecmath_reference`, the ops that
are one instruction or rounded once, and the compositions. `tests/codegen/every_pattern.py` runs
them over all arguments; `test_every_pattern.py` holds that no function is missing here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from vecmath_reference import REFERENCES

import graphc as gx

Real = Callable[[Any], Any]


@dataclass(frozen=True)
class Function:
    """`build` makes the graph from a node; `bound` is in ULP for float32 and float64.

    `other` is somebody else's function of float64 arrays, and `apart` how far it may be from ours
    in ULP of float32: what it is inexact by itself. The unit below `floor_below` is that of a
    result of `floor` at least. `exact` says that the results of float32 are those of float64.
    """

    build: Real
    bound: float
    other: Real | None = None
    apart: float = 2.0**-20
    floor: float = 0.0
    floor_below: float = -np.inf
    narrow: float | None = None
    domain: tuple[float, float] = (-np.inf, np.inf)
    law: str = ""

    def bound_in(self, dtype: str) -> float:
        """The largest error in a dtype."""
        return self.bound if dtype == "float32" or self.narrow is None else self.narrow

    @property
    def is_exact(self) -> bool:
        return self.bound == 0


_SPELLED = {
    "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "lgamma": "gammaln",
}  # fmt: skip
_SCIPY = {
    "sigmoid": "expit", "lgamma": "gammaln", "digamma": "digamma", "gamma": "gamma",
    "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "erfcinv": "erfcinv", "logit": "logit",
    "ndtr": "ndtr",
    "i0": "i0", "i1": "i1", "i0e": "i0e", "i1e": "i1e",
    "j0": "j0", "j1": "j1", "y0": "y0", "y1": "y1",
}  # fmt: skip
# SciPy's own: near zeros, near poles, and where it loses places (its j0 and j1 of 2**53 and more
# have nothing of the phase; its digamma beside the pole at -6 has nine places).
_APART = {
    "lgamma": 1e-4, "digamma": 1e-3, "gamma": 1e-4, "trigamma": 1e-4, "polygamma4": 1e-4,
    "j0": 0.2, "j1": 0.2, "y0": 0.2, "y1": 0.2,
}  # fmt: skip


_NAN_OUTSIDE = frozenset(
    ("log", "log2", "log10", "log1p", "acosh", "atanh", "asin", "acos", "logit", "erfinv")
    + ("erfcinv", "y0", "y1")
)
_ODD = frozenset(
    ("sinh", "tanh", "asinh", "atanh", "cbrt", "sin", "tan", "asin", "atan", "erf", "erfinv")
    + ("i1", "i1e", "j1")
)
_EVEN = frozenset(("cosh", "cos", "sinc", "i0", "i0e", "j0", "normal_density", "sigmoid_tail"))


# Procedures that no function is by itself.
_INSIDE: dict[str, Real] = {"sigmoid_tail": lambda x: gx.sigmoid(-gx.absolute(x))}


def _other(name: str) -> tuple[Real | None, float]:
    """Somebody else's function, and how inexact it is."""
    numpy = getattr(np, _SPELLED.get(name, name), None)
    if isinstance(numpy, np.ufunc):
        return numpy, 2.0**-20
    try:
        import scipy.special as special
    except ImportError:
        return None, 0.0
    if name in ("trigamma", "polygamma4"):
        order = 1 if name == "trigamma" else 4
        # 46 microseconds for one negative number, so it is not asked
        return lambda x: special.polygamma(order, np.where(x > 0, x, np.nan)), _APART[name]
    if name == "softplus":
        return lambda x: np.logaddexp(0.0, x), 2.0**-20
    if name in _SCIPY:
        return getattr(special, _SCIPY[name]), _APART.get(name, 2.0**-20)
    return None, 0.0


def _procedures() -> dict[str, Function]:
    """The functions that are procedures."""
    made = {}
    for name, reference in REFERENCES.items():
        spelled = _SPELLED.get(name, name)
        if reference.procedure == "polygamma":
            build: Real = functools.partial(gx.polygamma, *reference.settings)
        else:
            build = _INSIDE.get(name) or getattr(gx, spelled)
        made[name] = Function(
            build, reference.bound_in("float32"), *_other(name),
            floor=reference.floor, floor_below=reference.floor_below, narrow=0.51,
            domain=reference.domain if name in _NAN_OUTSIDE else (-np.inf, np.inf),
            law="odd" if name in _ODD else "even" if name in _EVEN else "",
        )  # fmt: skip
    return made


# One instruction, or several without an error: the results of float32 are those of float64.
EXACT: dict[str, Real] = {
    "negative": gx.negative,
    "absolute": gx.absolute,
    "sign": gx.sign,
    "relu": gx.relu,
    "relu6": gx.relu6,
    "hard_tanh": gx.hard_tanh,
    "floor": gx.floor,
    "ceil": gx.ceil,
    "trunc": gx.trunc,
    "rint": gx.rint,
    "round": gx.round,
    "modf fraction": lambda x: gx.modf(x)[0],
    "modf whole": lambda x: gx.modf(x)[1],
    "frexp mantissa": lambda x: gx.frexp(x)[0],
    "positive": gx.positive,
    "fix": gx.fix,
    "fabs": gx.fabs,
    "real": gx.real,
    "conjugate": gx.conjugate,
}

# Rounded once.
ROUNDED: dict[str, Real] = {"sqrt": gx.sqrt, "square": gx.square, "reciprocal": gx.reciprocal}

# Compositions: each operation rounds, and the bound is what that adds up to.
COMPOSED: dict[str, Function] = {
    "log_sigmoid": Function(gx.log_sigmoid, 1.0),
    "softsign": Function(gx.softsign, 1.5),
    "elu": Function(gx.elu, 1.0),
    "selu": Function(gx.selu, 3.0),
    "celu": Function(gx.celu, 1.0),
    "leaky_relu": Function(gx.leaky_relu, 1.5),
    "hard_sigmoid": Function(gx.hard_sigmoid, 1.0),
    "hard_swish": Function(gx.hard_swish, 2.5),
    "deg2rad": Function(gx.deg2rad, 1.0),
    "rad2deg": Function(gx.rad2deg, 1.5),
}

FUNCTIONS: dict[str, Function] = {
    **_procedures(),
    **{name: Function(build, 0.5) for name, build in ROUNDED.items()},
    **COMPOSED,
    **{name: Function(build, 0.0) for name, build in EXACT.items()},
}
