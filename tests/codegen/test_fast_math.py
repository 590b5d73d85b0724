"""What does `math="fast"` give up, and is what it stands for still the function?

Compared with the same functions in float64, which are within 1 ulp there, or with mpmath.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.vecmath.procedures import FAST, PROCEDURES

FRESH = gx.Options(cache=False, threads=1)
FASTER = FRESH.replace(math="fast")
BOUND = 3.0
EXACT = {
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
}


def arguments(dtype: str, count: int) -> Any:
    rng = np.random.default_rng(5)
    small = 10.0 ** rng.uniform(-30, 2, count) * rng.choice([-1, 1], count)
    return np.concatenate([rng.uniform(-12, 12, count), small]).astype(dtype)


def function(name: str, dtype: str, options: gx.Options) -> Any:
    x = gx.symbol("x", ("n",), dtype)
    return gx.compile([x], getattr(gx, name)(x), options=options)


def check(name: str, x: Any, found: Any, exact: Any) -> None:
    """Within the bound, in units of the last place of the result."""
    size = np.abs(exact)
    normal = size > 128 * np.finfo(x.dtype).tiny
    errors = np.abs(found - exact) / np.spacing(size.astype(x.dtype)).astype(exact.dtype)
    assert np.max(errors[normal]) <= BOUND
    assert np.all(np.abs(found[~normal]) <= 256 * np.finfo(x.dtype).tiny)


@pytest.mark.parametrize("name", sorted(FAST))
def test_float32_against_float64(name: str) -> None:
    x = arguments("float32", 200_000)
    exact = function(name, "float64", FRESH)(x.astype("float64"))
    check(name, x, function(name, "float32", FASTER)(x), exact)


@pytest.mark.parametrize("name", sorted(FAST))
def test_float64_against_mpmath(name: str) -> None:
    x = arguments("float64", 400)
    with mpmath.workprec(160):
        exact = [EXACT[name](mpmath.mpf(each)) for each in x.tolist()]
        found = function(name, "float64", FASTER)(x)
        errors = []
        for mine, wanted in zip(found.tolist(), exact, strict=True):
            errors.append(float(abs(mine - wanted) / mpmath.mpf(np.spacing(float(abs(wanted))))))
    assert max(errors) <= BOUND


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(FAST))
def test_special_values_are_the_same(name: str, dtype: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40, -1e-40], dtype)
    found, wanted = (function(name, dtype, options)(x) for options in (FASTER, FRESH))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found[:4]), np.signbit(wanted[:4]))


def test_only_fast_math_takes_them() -> None:
    x = gx.symbol("x", ("n",), "float64")
    texts = [
        gx.compile([x], gx.tanh(x), options=FRESH.replace(math=math)).llvm_ir
        for math in ("ieee", "real", "fast")
    ]
    assert texts[0] == texts[1] != texts[2]
    assert FAST.keys() <= PROCEDURES.keys()


def test_routines_of_both_kinds_are_told_apart() -> None:
    x = gx.symbol("x", ("n",), "float64")
    y = sum((gx.tanh(x * float(k)) for k in range(2, 12)), x)
    exact, fast = (gx.compile([x], y, options=options) for options in (FRESH, FASTER))
    assert "graphc_tanh_float64" in exact.llvm_ir and "graphc_fast_tanh_float64" in fast.llvm_ir
    array = np.linspace(-1, 1, 100)
    np.testing.assert_allclose(fast(array), exact(array), rtol=1e-14, atol=1e-14)
