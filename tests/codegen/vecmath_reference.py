"""What is the exact value of every mathematical procedure, where is it tried, how near must it be?

One table for the tests and for `docs/ulp.md`, which `tests/codegen/every_pattern.py` writes. Exact
results are mpmath's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

DTYPES = ("float64", "float32")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Reference:
    """A procedure of one argument: its exact value, the intervals in which something changes, the
    domain, and the most units in the last place that it may be off, in float32 `narrow` if stated.

    `floor` is the least result whose last place counts for arguments under `floor_below`: near
    zeros of the function the error there is absolute. `poles`: there is no value at negative
    integers.
    `settings` follow the argument of `procedure`. `slow`: mpmath takes long.
    """

    exact: Callable[[Any], Any]
    intervals: tuple[Interval, ...]
    bound: float = 1.0
    domain: Interval = (-math.inf, math.inf)
    floor: float = 0.0
    floor_below: float = -math.inf
    settings: tuple[int, ...] = ()
    procedure: str = ""
    poles: bool = False
    slow: bool = False
    narrow: float | None = None

    def bound_in(self, dtype: str) -> float:
        """The most units in the last place that it may be off in a dtype."""
        return self.bound if dtype == "float64" or self.narrow is None else self.narrow


def _sinc(x: Any) -> Any:
    return mpmath.sinpi(x) / (mpmath.pi * x) if x else mpmath.mpf(1)


def _erfc(x: Any) -> Any:
    return mpmath.erfc(max(min(x, mpmath.mpf(1000)), mpmath.mpf(-1000)))


def _ndtr(x: Any) -> Any:
    return _erfc(-x / mpmath.sqrt(2)) / 2


def _gelu(x: Any) -> Any:
    return x * _ndtr(x)


def _erfcinv(y: Any) -> Any:
    if y > 0.01:
        return mpmath.erfinv(1 - y) if y <= 1.99 else -_erfcinv(2 - y)
    x = mpmath.sqrt(-mpmath.log(y))
    for _ in range(60):
        tail = mpmath.erfc(x)
        step = mpmath.log(tail / y) * tail * mpmath.sqrt(mpmath.pi) / -2 * mpmath.exp(x * x)
        x -= step
        if abs(step) < 1e-40:
            return x
    return x


def _erfinv(x: Any) -> Any:
    return mpmath.sign(x) * _erfcinv(1 - abs(x)) if abs(x) > 0.9 else mpmath.erfinv(x)


def _lgamma(x: Any) -> Any:
    """mpmath's own is slow for negative arguments of many bits."""
    if x > 0:
        return mpmath.loggamma(x)
    reflected = mpmath.log(abs(mpmath.pi / mpmath.sinpi(x)))
    return mpmath.re(reflected - mpmath.loggamma(1 - x))


def _gamma(x: Any) -> Any:
    if abs(x) < 1000:
        return mpmath.gamma(x)
    return mpmath.inf if x > 0 else mpmath.mpf(0)


def _digamma(x: Any) -> Any:
    if x > 0:
        return mpmath.digamma(x)
    return mpmath.digamma(1 - x) - mpmath.pi * mpmath.cospi(x) / mpmath.sinpi(x)


def _polygamma(n: int) -> Callable[[Any], Any]:
    def exact(x: Any) -> Any:
        if x > 1e5:  # Euler and Maclaurin's first terms
            return (
                (-1) ** (n + 1)
                * mpmath.factorial(n)
                * (
                    x**-n / n
                    + x ** (-n - 1) / 2
                    + mpmath.mpf(n + 1) / 12 * x ** (-n - 2)
                    - mpmath.mpf((n + 1) * (n + 2) * (n + 3)) / 720 * x ** (-n - 4)
                )
            )
        return mpmath.re(mpmath.psi(n, x))

    return exact


def _scaled(order: int) -> Callable[[Any], Any]:
    return lambda x: (
        mpmath.exp(-abs(x)) * mpmath.besseli(order, x) if abs(x) < 1e5 else _far(order, x)
    )


def _far(order: int, x: Any) -> Any:
    size, m = abs(x), 4 * order**2
    total, term = mpmath.mpf(1), mpmath.mpf(1)
    for i in range(1, 12):
        term *= -mpmath.mpf(m - (2 * i - 1) ** 2) / (8 * i * size)
        total += term
    return (-1 if order and x < 0 else 1) * total / mpmath.sqrt(2 * mpmath.pi * size)


def _bessel(order: int) -> Callable[[Any], Any]:
    def exact(x: Any) -> Any:
        sign = -1 if order and x < 0 else 1
        return mpmath.besseli(order, x) if abs(x) < 1000 else sign * mpmath.inf

    return exact


# What computes float32 in float64 is wrong by half a unit and what the narrower polynomials cost.
_WIDE = 0.6
_BESSEL = ((-1, 1), (-9, 9), (15, 17), (15, 700))


def _oscillating(order: int, second: bool = False) -> Callable[[Any], Any]:
    """J or Y; for large arguments by DLMF 10.17.3, from the sine and the cosine of x itself."""

    def exact(x: Any) -> Any:
        size = abs(x)
        if size < 100:
            return (mpmath.bessely if second else mpmath.besselj)(order, x)
        by_cosine, by_sine, term = mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(1)
        for k in range(60):
            turned = (1, 1, -1, -1)[k % 4] * term
            by_cosine, by_sine = (
                (by_cosine, by_sine + turned) if k % 2 else (by_cosine + turned, by_sine)
            )
            term *= (4 * order**2 - (2 * k + 1) ** 2) / (8 * (k + 1) * size)
        added, taken = mpmath.cos(size) + mpmath.sin(size), mpmath.sin(size) - mpmath.cos(size)
        cosine, sine = (taken, -added) if order else (added, taken)
        if second:
            cosine, sine = sine, -cosine
        value = (by_cosine * cosine - by_sine * sine) / mpmath.sqrt(mpmath.pi * size)
        return -value if order and x < 0 else value

    return exact


REFERENCES: dict[str, Reference] = {
    "exp": Reference(mpmath.exp, ((-2, 2), (-40, 40), (-746, 710))),
    "exp2": Reference(lambda x: mpmath.mpf(2) ** x, ((-1, 1), (-20, 20), (-1080, 1025))),
    "expm1": Reference(
        mpmath.expm1, ((-0.5, 0.5), (-1.2, -0.3), (0.3, 1.2), (-40, 40), (700, 710))
    ),
    "sinh": Reference(
        mpmath.sinh, ((-0.5, 0.5), (0.3, 1.2), (1, 9), (8, 20), (-40, 40), (700, 711), (88, 90))
    ),
    "cosh": Reference(
        mpmath.cosh, ((-0.5, 0.5), (0.3, 1.2), (1, 9), (8, 20), (-40, 40), (700, 711), (88, 90))
    ),
    "tanh": Reference(mpmath.tanh, ((-0.1, 0.1), (0, 3), (-20, 20), (18, 20))),
    "sigmoid": Reference(
        lambda x: 1 / (1 + mpmath.exp(-x)), ((-1, 1), (-40, 40), (-110, -80), (-746, -700))
    ),
    "sigmoid_tail": Reference(
        lambda x: 1 / (1 + mpmath.exp(abs(x))), ((-1, 1), (-40, 40), (80, 110), (700, 746))
    ),
    "silu": Reference(
        lambda x: x / (1 + mpmath.exp(-x)), ((-1, 1), (-40, 40), (-115, -80), (-760, -700))
    ),
    "mish": Reference(
        lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
        ((-1, 1), (-40, 40), (-115, -80), (-760, -700)),
    ),
    "gelu": Reference(_gelu, ((-1, 1), (-9, 9), (-0.8, -0.6), (-15, -4), (-39, -30)), 1.5),
    "ndtr": Reference(_ndtr, ((-1, 1), (-9, 9), (-0.8, -0.6), (-15, -4), (-39, -30)), 1.5),
    "normal_density": Reference(
        lambda x: mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi),
        ((-1, 1), (-9, 9), (-15, -4), (-39, -30)),
    ),
    "log": Reference(
        mpmath.log, ((0.7, 0.8), (0.9, 1.1), (1.4, 1.6), (0.3, 3)), domain=(0, math.inf)
    ),
    "log2": Reference(
        lambda x: mpmath.log(x, 2),
        ((0.7, 0.8), (0.9, 1.1), (1.4, 1.6), (0.3, 3)),
        domain=(0, math.inf),
    ),
    "log10": Reference(
        mpmath.log10, ((0.7, 0.8), (0.9, 1.1), (1.4, 1.6), (0.3, 3)), domain=(0, math.inf)
    ),
    "log1p": Reference(
        mpmath.log1p, ((-0.7, -0.2), (-0.3, 0.6), (0.4, 2), (1, 100)), domain=(-1, math.inf)
    ),
    "softplus": Reference(
        lambda x: mpmath.log1p(mpmath.exp(x)), ((-1, 1), (-5, 5), (-40, 40), (-746, -700))
    ),
    "logit": Reference(
        lambda x: mpmath.log(x / (1 - x)), ((0, 1), (0.4, 0.6), (0.9, 1), (0, 0.1)), domain=(0, 1)
    ),
    "asinh": Reference(mpmath.asinh, ((-1, 1), (0.1, 0.9), (1, 9), (10, 1e5), (1e8, 1e10))),
    "acosh": Reference(
        mpmath.acosh, ((1, 1.01), (1, 2), (2, 9), (10, 1e5), (1e8, 1e10)), domain=(1, math.inf)
    ),
    "atanh": Reference(
        mpmath.atanh, ((-0.5, 0.5), (0.1, 0.4), (-1, 1), (0.9, 1)), domain=(-1, 1)
    ),
    "cbrt": Reference(
        lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), ((-1, 1), (0.7, 1.6), (-100, 100))
    ),
    "sin": Reference(mpmath.sin, ((-4, 4), (3.1, 3.2), (-100, 100), (1e9, 2e9))),
    "cos": Reference(mpmath.cos, ((-4, 4), (1.5, 1.6), (-100, 100), (30000, 40000))),
    "tan": Reference(
        mpmath.tan, ((-4, 4), (0.7, 0.9), (1.5, 1.6), (3.1, 3.2), (-100, 100), (1e9, 2e9))
    ),
    "sinc": Reference(_sinc, ((-3, 3), (0.9, 1.1), (-100, 100))),
    "asin": Reference(mpmath.asin, ((-1, 1), (0.4, 0.6), (0.9, 1)), domain=(-1, 1)),
    "acos": Reference(mpmath.acos, ((-1, 1), (0.4, 0.6), (-0.6, -0.4), (0.9, 1)), domain=(-1, 1)),
    "atan": Reference(mpmath.atan, ((-1, 1), (0.3, 0.5), (0.9, 1.1), (-9, 9), (2, 3))),
    "erf": Reference(mpmath.erf, ((-1, 1), (0.9, 1.1), (1, 3), (-6, 6))),
    "erfc": Reference(_erfc, ((-1, 1), (0.4, 0.6), (1, 3), (-6, 27), (26, 27.3)), 1.25),
    "erfinv": Reference(
        _erfinv, ((-1, 1), (0.4, 0.6), (0.99, 1)), 3.0, (-1, 1), slow=True, narrow=_WIDE
    ),
    "erfcinv": Reference(
        _erfcinv, ((0, 2), (0.4, 0.6), (0, 0.01), (0.99, 1.01), (1.9, 2)), 3.0, (0, 2), slow=True,
        narrow=_WIDE,
    ),
    "lgamma": Reference(
        _lgamma,
        ((0, 3), (0.9, 1.1), (1.9, 2.1), (2, 9), (7, 100), (-0.6, 0), (-9, 0), (-100, 0)),
        3.0, floor=1.0, floor_below=-0.5, poles=True, slow=True, narrow=_WIDE,
    ),
    "gamma": Reference(
        _gamma, ((0, 3), (0.9, 1.1), (2, 9), (7, 172), (-0.6, 0), (-9, 0), (-184, 0)), 5.0,
        poles=True, slow=True, narrow=_WIDE,
    ),
    "digamma": Reference(
        _digamma, ((0, 3), (1.4, 1.5), (0.9, 1.1), (2, 9), (7, 100), (-9, 0)),
        5.0, floor=1.0, floor_below=0.0, poles=True, slow=True, narrow=_WIDE,
    ),
    "trigamma": Reference(
        _polygamma(1), ((0, 3), (2, 20), (10, 1000)), 5.0, (0, math.inf),
        settings=(1,), procedure="polygamma", slow=True, narrow=_WIDE,
    ),
    "polygamma4": Reference(
        _polygamma(4), ((0, 3), (2, 20), (10, 1000)), 8.0, (1e-30, 1e30),
        settings=(4,), procedure="polygamma", slow=True, narrow=_WIDE,
    ),
    "i0": Reference(_bessel(0), (*_BESSEL, (700, 714)), 4.0, slow=True, narrow=_WIDE),
    "i1": Reference(_bessel(1), (*_BESSEL, (700, 714)), 5.0, slow=True, narrow=_WIDE),
    "i0e": Reference(_scaled(0), _BESSEL, 4.0, slow=True, narrow=_WIDE),
    "i1e": Reference(_scaled(1), _BESSEL, 4.0, slow=True, narrow=_WIDE),
    "j0": Reference(
        _oscillating(0), (*_BESSEL, (2.4, 2.41), (5.5, 5.53), (7, 9)), 3.0, floor=0.5,
        floor_below=math.inf, slow=True, narrow=_WIDE,
    ),
    "j1": Reference(
        _oscillating(1), (*_BESSEL, (3.83, 3.84), (7, 9)), 3.0, floor=0.5, floor_below=math.inf,
        slow=True, narrow=_WIDE,
    ),
    **{
        f"y{order}": Reference(
            _oscillating(order, second=True),
            ((0, 1), (0, 9), (7, 9), (zero - 0.01, zero + 0.01), (15, 700)), 4.0, (0, math.inf),
            floor=0.5, floor_below=math.inf, slow=True, narrow=_WIDE,
        )
        for order, zero in enumerate((0.8936, 2.1971))
    },
}  # fmt: skip


def random_bits(dtype: str, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.frombuffer(rng.bytes(count * np.dtype(dtype).itemsize), dtype)


def arguments(name: str, dtype: str, count: int, seed: int) -> np.ndarray:
    """Arguments in the function's domain: its intervals, all exponents, random bits."""
    rng = np.random.default_rng(seed)
    reference = REFERENCES[name]
    parts = [rng.uniform(low, high, count) for low, high in reference.intervals]
    info = np.finfo(dtype)
    powers = np.ldexp(1 + rng.random(count), rng.integers(info.minexp, info.maxexp, count))
    parts += [powers, -powers, random_bits(dtype, count, rng)]
    with np.errstate(over="ignore"):
        x = np.concatenate([part.astype(dtype) for part in parts])
    low, high = reference.domain
    x = x[np.isfinite(x) & (x > low) & (x < high)]
    return x[(x > 0) | (x != np.floor(x))] if reference.poles else x


def exact_values(name: str, x: np.ndarray) -> list[Any]:
    exact = REFERENCES[name].exact
    return [exact(mpmath.mpf(each)) for each in x.tolist()]


def errors_in_ulp(
    actual: np.ndarray, exact: list[Any], x: np.ndarray | None = None, name: str = ""
) -> np.ndarray:
    """|actual - exact| in last places of the exact result; infinity where only one overflows."""
    info = np.finfo(actual.dtype)
    digits, least = info.nmant + 1, info.minexp - info.nmant
    overflow = mpmath.ldexp(1 - mpmath.ldexp(1, -digits - 1), info.maxexp)
    reference = REFERENCES.get(name)
    errors = []
    for i, (number, value) in enumerate(zip(actual.tolist(), exact, strict=True)):
        if abs(value) >= overflow:
            errors.append(0.0 if number == math.copysign(math.inf, value) else math.inf)
        elif not math.isfinite(number):
            errors.append(math.inf)
        else:
            size = abs(value)
            if reference is not None and x is not None and x[i] < reference.floor_below:
                size = max(size, reference.floor)
            last = max(mpmath.frexp(size)[1] - digits, least) if size else least
            errors.append(float(abs(mpmath.ldexp(number - value, -last))))
    return np.array(errors)


def procedure_of(name: str) -> Callable[..., Any]:
    """The procedure, of one value."""
    from graphc.codegen.vecmath.procedures import PROCEDURES

    reference = REFERENCES[name]
    procedure = PROCEDURES[reference.procedure or name]
    settings = reference.settings
    return functools.wraps(procedure)(lambda k, x: procedure(k, x, *settings))


# -- two arguments ---------------------------------------------------------------------------------


def _powers_of(dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bases and exponents whose powers fill the range, and integer powers of negative bases."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    logarithm = rng.uniform(info.minexp - info.nmant - 2, info.maxexp + 1, count)
    spread = 2.0 ** -rng.integers(1, 40 if dtype == "float64" else 18, count)
    near_one = 1 + rng.uniform(-1, 1, count) * spread
    wide = 10.0 ** rng.uniform(-30, 30, count)
    base = np.concatenate([near_one, wide, rng.uniform(0, 9, count), -rng.uniform(0, 9, count)])
    base = base.astype(dtype)
    base[base == 0] = 0.5
    with np.errstate(divide="ignore"):
        exact = np.log2(np.abs(base[: 2 * count]).astype(np.float64))
        exponent = np.tile(logarithm, 2) / np.where(exact == 0, 1e-3, exact)
    exponent = np.concatenate([exponent, rng.uniform(-9, 9, count), rng.integers(-30, 31, count)])
    return base, exponent.astype(dtype)


def _exact_power(x: float, y: float) -> mpmath.mpf:
    exponent = y * mpmath.log(abs(mpmath.mpf(x)))
    size = mpmath.exp(max(min(exponent, mpmath.mpf(2000)), mpmath.mpf(-2000)))
    return -size if x < 0 and y % 2 == 1 else size


def _points_of(dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in all directions: near the origin, near the axes and diagonals, of any size."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    y, x = rng.uniform(-1, 1, (2, 4 * count))
    x[:count] = y[:count] * rng.choice([-1, 1], count) * (1 + rng.uniform(-1e-3, 1e-3, count))
    x[count : 2 * count] = y[count : 2 * count] * np.tan(rng.uniform(-9, 9, count))
    scale = rng.integers(info.minexp // 2, info.maxexp // 2, 4 * count)
    turn = rng.integers(-60, 60, 4 * count) * (np.arange(4 * count) >= 3 * count)
    with np.errstate(over="ignore", under="ignore"):
        y, x = np.ldexp(y, scale + turn).astype(dtype), np.ldexp(x, scale - turn).astype(dtype)
    kept = (x != 0) & (y != 0)
    return y[kept], x[kept]


def _factors_of(dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of logarithms: the second near 1, near 0, of any size, or near -1."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    y = [rng.uniform(0.5, 2, count), np.ldexp(1 + rng.random(count), rng.integers(-60, 60, count))]
    y += [1 + rng.uniform(-1, 1, count) * 2.0 ** -rng.integers(1, 20, count)]
    y += [np.ldexp(1 + rng.random(count), rng.integers(info.minexp, info.maxexp, count))]
    second = np.concatenate(y).astype(dtype)
    first = rng.uniform(-9, 9, len(second)).astype(dtype)
    first[first == 0] = 1
    return first, second


def _shifted_factors(dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, a fourth of them moved to where log(1 + y) is negative."""
    first, second = _factors_of(dtype, count, seed)
    second[: len(second) // 4] -= 1.25
    second[second <= -1] = 0.5
    return first, second


_PAIRS = {
    "pow": _powers_of,
    "atan2": _points_of,
    "xlogy": _factors_of,
    "xlog1py": _shifted_factors,
}
_EXACT_PAIR = {
    "xlogy": lambda x, y: mpmath.mpf(x) * mpmath.log(mpmath.mpf(y)),
    "xlog1py": lambda x, y: mpmath.mpf(x) * mpmath.log1p(mpmath.mpf(y)),
    "pow": _exact_power,
    "atan2": lambda y, x: mpmath.atan2(mpmath.mpf(y), mpmath.mpf(x)),
}
BINARY = tuple(_PAIRS)


def pairs(name: str, dtype: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of a procedure of two."""
    return _PAIRS[name](dtype, count, seed)


def exact_pairs(name: str, *inputs: np.ndarray) -> list[Any]:
    exact = _EXACT_PAIR[name]
    return [exact(*each) for each in zip(*(i.tolist() for i in inputs), strict=True)]
