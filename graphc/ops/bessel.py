"""Bessel functions: of the first and second kind, and modified ones.

The evaluator's functions find their values by other ways than the kernels do: by power series,
recurrences and asymptotic series.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.node import Node
from graphc.op import Interval, Op
from graphc.ops.arithmetic import absolute_op, like, sign_op, square_op
from graphc.ops.special import where_op
from graphc.ops.transcend import as_float64, exp_op, quiet, real_op, real_surface

# -- modified Bessel functions ---------------------------------------------------------------------


def _bessel_numpy(order: int, x: Any, scaled: bool) -> Any:
    """The power series up to 30 (DLMF 10.25.2), the asymptotic one above (DLMF 10.40.1)."""
    size = np.abs(x)
    near = np.minimum(size, 30.0)
    quarter = near * near / 4
    term = total = near / 2 if order else np.ones_like(near)
    for i in range(1, 90):
        term = term * quarter / (i * (i + order))
        total = total + term
    far = np.maximum(size, 30.0)
    term = series = np.ones_like(far)
    for i in range(1, 25):
        term = term * ((2 * i - 1) ** 2 - 4 * order**2) / (8 * i * far)
        series = series + term
    series = series / (np.sqrt(2 * np.pi) * np.sqrt(far))
    if scaled:
        value = np.where(size <= 30, total * np.exp(-near), series)
    else:
        half = np.exp(far / 2)
        value = np.where(size <= 30, total, series * half * half)
        value = np.where(np.isinf(size), np.inf, value)
    value = np.where(np.isnan(x), x, value)
    return np.copysign(value, x) if order else value


def _bessel(order: int, scaled: bool) -> Any:
    return as_float64(lambda x: _bessel_numpy(order, x, scaled))


# The power series of i1(x)/x in (x/4)**2 (DLMF 10.25.2).
_I1_OVER = tuple(4**i / (2 * math.factorial(i) * math.factorial(i + 1)) for i in range(22))


def _over(y: Node, x: Node, scale: Node, sign: float = 1.0) -> Node:
    """y/x for y = scale * i1(x), or with the sign -1 scale * j1(x). Near 0 it is scale times a
    power series, so that it has all its derivatives there; those of a quotient cancel.
    """
    square = square_op(x * like(x, 0.25))
    near = square < like(x, 1)
    inside = where_op(near, square * like(x, sign), like(x, 0))
    series = like(x, _I1_OVER[-1])
    for coefficient in reversed(_I1_OVER[:-1]):
        series = series * inside + like(x, coefficient)
    return where_op(near, series * scale, y / where_op(near, like(x, 1), x))


i0_op = real_op(
    "i0",
    _bessel(0, False),
    lambda x, y: i1_op(x),
    80,
    domain=(Interval(-6, 6),),
    laws=frozenset(("even",)),
    facts=lambda node, known: frozenset(("nonnegative",)),
    latex="I_0({})",
)
i1_op: Op = real_op(
    "i1",
    _bessel(1, False),
    lambda x, y: i0_op(x) - _over(y, x, like(x, 1)),
    80,
    domain=(Interval(-6, 6),),
    laws=frozenset(("odd", "increasing")),
    latex="I_1({})",
)
i0e_op = real_op(
    "i0e",
    _bessel(0, True),
    lambda x, y: i1e_op(x) - sign_op(x) * y,
    80,
    domain=(Interval(0.1, 30),),
    laws=frozenset(("even",)),
    facts=lambda node, known: frozenset(("nonnegative",)),
    doc="exp(-|x|) I0(x). The derivative at 0, where there is a peak, is 0.",
)
i1e_op: Op = real_op(
    "i1e",
    _bessel(1, True),
    lambda x, y: i0e_op(x) - _over(y, x, exp_op(-absolute_op(x))) - sign_op(x) * y,
    80,
    domain=(Interval(0.1, 30),),
    laws=frozenset(("odd",)),
    doc="exp(-|x|) I1(x).",
)

# -- Bessel functions ------------------------------------------------------------------------------


_HIGHEST = 90


def _all_downward(x: Any) -> list[Any]:
    """J of order 0, 1, ... by the recurrence from a high order down, divided by J0 + 2 J2 + 2 J4 +
    ... = 1 (DLMF 10.12.4, 10.74(iv)); x from 1 to 30.
    """
    after, here, total = np.zeros_like(x), np.full_like(x, 1e-280), np.zeros_like(x)
    found = [here] * _HIGHEST
    for n in range(_HIGHEST, 0, -1):
        after, here = here, 2 * n / x * here - after
        found[n - 1] = here
        if n % 2:
            total = total + (1 if n == 1 else 2) * here
    return [each / total for each in found]


def _downward(order: int, x: Any) -> Any:
    return _all_downward(x)[order]


def _waves(order: int, size: Any, second: bool) -> Any:
    """The function of the first or second kind from 30 on (DLMF 10.17.3, 10.17.4)."""
    far = np.where(np.isfinite(size), np.maximum(size, 30.0), 30.0)
    term, by_cosine, by_sine = np.ones_like(far), np.zeros_like(far), np.zeros_like(far)
    for i in range(40):
        turned = (1, 1, -1, -1)[i % 4] * term
        if i % 2:
            by_sine = by_sine + turned
        else:
            by_cosine = by_cosine + turned
        term = term * (4 * order**2 - (2 * i + 1) ** 2) / (8 * (i + 1) * far)
    added, taken = np.cos(far) + np.sin(far), np.sin(far) - np.cos(far)
    cosine, sine = (taken, -added) if order else (added, taken)
    if second:
        cosine, sine = sine, -cosine
    return (by_cosine * cosine - by_sine * sine) / np.sqrt(np.pi) / np.sqrt(far)


def _oscillating_numpy(order: int, x: Any) -> Any:
    """The power series up to 1 (DLMF 10.2.2), the recurrence up to 30, waves above."""
    size = np.abs(x)
    near = np.minimum(size, 1.0)
    quarter = -near * near / 4
    term = total = near / 2 if order else np.ones_like(near)
    for i in range(1, 15):
        term = term * quarter / (i * (i + order))
        total = total + term
    waves = _waves(order, size, False)
    middle = _downward(order, np.clip(np.where(np.isfinite(size), size, 1.0), 1.0, 30.0))
    value = np.where(size < 1, total, np.where(size < 30, middle, waves))
    value = np.where(np.isinf(size), 0.0, value)
    value = np.where(np.isnan(x), x, value)
    return value * np.copysign(1.0, x) if order else value


j0_op: Op = real_op(
    "j0",
    as_float64(quiet(lambda x: _oscillating_numpy(0, x))),
    lambda x, y: -j1_op(x),
    170,
    domain=(Interval(-20, 20),),
    laws=frozenset(("even",)),
    latex="J_0({})",
    doc="J0(x); 0 at infinity.",
)
j1_op: Op = real_op(
    "j1",
    as_float64(quiet(lambda x: _oscillating_numpy(1, x))),
    lambda x, y: j0_op(x) - _over(y, x, like(x, 1), -1.0),
    170,
    domain=(Interval(-20, 20),),
    laws=frozenset(("odd",)),
    latex="J_1({})",
    doc="J1(x); 0 with the sign of x at infinity.",
)

# -- of the second kind ----------------------------------------------------------------------------


def _by_power_series(order: int, x: Any) -> Any:
    """Up to 1 (DLMF 10.8.1), with digamma at whole numbers written as sums."""
    quarter = -x * x / 4
    term = x / 2 if order else np.ones_like(x)
    first = rest = np.zeros_like(x)
    for i in range(16):
        sums = math.fsum(1 / j for j in range(1, i + 1))
        both = 2 * sums + (1 / (i + 1) if order else 0) - 2 * np.euler_gamma
        first, rest = first + term, rest + term * both
        term = term * quarter / ((i + 1) * (i + 1 + order))
    pole = 2 / x if order else 0
    return (2 * np.log(x / 2) * first - rest - pole) / np.pi


def _by_neumann_series(order: int, x: Any) -> Any:
    """From 1 to 30, by functions of the first kind (Abramowitz & Stegun 1964, 9.1.88)."""
    values = _all_downward(x)
    total = np.zeros_like(x)
    for i in range(1, _HIGHEST // 2 - 1):
        sign = -1 if i % 2 else 1
        weight = (2 * i + order) / (i * (i + order))
        total = total + sign * weight * values[2 * i + order]
    scale = np.log(x / 2) + np.euler_gamma - order
    pole = values[0] / x if order else 0
    return 2 / np.pi * (scale * values[order] - total - pole)


def _second_numpy(order: int, x: Any) -> Any:
    near = _by_power_series(order, np.where(x > 0, np.minimum(x, 1.0), 1.0))
    middle = _by_neumann_series(order, np.clip(np.where(x > 0, x, 1.0), 1.0, 30.0))
    value = np.where(x < 1, near, np.where(x < 30, middle, _waves(order, x, True)))
    value = np.where(np.isposinf(x), 0.0, np.where(x == 0, -np.inf, value))
    return np.where((x < 0) | np.isnan(x), np.nan, value)


y0_op: Op = real_op(
    "y0",
    as_float64(quiet(lambda x: _second_numpy(0, x))),
    lambda x, y: -y1_op(x),
    220,
    singular=(0,),
    domain=(Interval(0.2, 20),),
    latex="Y_0({})",
    doc="Y0(x): -inf at 0, where the derivative is inf; NaN below, 0 at infinity.",
)
y1_op: Op = real_op(
    "y1",
    as_float64(quiet(lambda x: _second_numpy(1, x))),
    lambda x, y: y0_op(x) - y / x,
    220,
    singular=(0,),
    domain=(Interval(0.2, 20),),
    latex="Y_1({})",
    doc="Y1(x): -inf at 0, NaN below, 0 at infinity.",
)

i0 = real_surface(
    i0_op, "The modified Bessel function of the first kind of order 0.", always_float64=True
)
i1 = real_surface(i1_op, "The modified Bessel function of the first kind of order 1.")
i0e = real_surface(i0e_op, "exp(-|x|) i0(x), without overflow.")
i1e = real_surface(i1e_op, "exp(-|x|) i1(x), without overflow.")
j0 = real_surface(j0_op, "The Bessel function of the first kind of order 0.")
j1 = real_surface(j1_op, "The Bessel function of the first kind of order 1.")
y0 = real_surface(y0_op, "The Bessel function of the second kind of order 0: NaN below 0.")
y1 = real_surface(y1_op, "The Bessel function of the second kind of order 1: NaN below 0.")
