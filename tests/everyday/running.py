"""How are everyday functions compared with NumPy, and how is a gradient of one checked?"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc.tree import flatten
from tests.everyday.case import SMALL, Case

# In units in the last place of the largest number of a result: sums of some hundred terms, in an
# order of their own, and quotients of their differences.
_ULPS = {"float64": 2000, "float32": 1000}


def plain(case: Case, arguments: list[Any]) -> Any:
    """What NumPy gives; the function gets copies, since it may write to its arguments."""
    with np.errstate(all="ignore"):
        return case.function(*[np.array(a) if isinstance(a, np.ndarray) else a for a in arguments])


def assert_same(case: Case, result: Any, expected: Any, dtype: str = "float64") -> None:
    """Structure, shapes and dtypes are equal, and values but for rounding.

    `dtype` is that of the arguments: steps on the way have it where the result is wider.
    """
    got, structure = flatten(result)
    wanted, wanted_structure = flatten(expected)
    assert structure == wanted_structure, f"{case.name}: {structure} instead of {wanted_structure}"
    for one, other in zip(got, wanted, strict=True):
        assert np.shape(one) == np.shape(other), case.name
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype, f"{case.name}: {one.dtype} instead of {other.dtype}"
        if other.dtype.kind != "f":
            np.testing.assert_array_equal(one, other, err_msg=case.name)
            continue
        finite = np.abs(other[np.isfinite(other)])
        coarse = max((other.dtype.name, dtype), key=lambda name: np.finfo(name).eps)
        unit = np.finfo(coarse).eps * _ULPS[coarse]
        np.testing.assert_allclose(
            one, other, rtol=unit, atol=unit * max(1e-3, finite.max(initial=0.0)), err_msg=case.name
        )


def gradient(case: Case) -> Any:
    """`gx.check_grad` of one number made of the whole result, in the smooth arguments."""
    arguments = case.arguments(SMALL)
    point = {gx.symbol(f"x{i}", np.shape(arguments[i])): arguments[i] for i in case.smooth}
    symbols = dict(zip(case.smooth, point, strict=True))
    leaves, _ = flatten(
        gx.jit(case.function)(*[symbols.get(i, value) for i, value in enumerate(arguments)])
    )
    terms = [
        gx.sum(leaf * np.cos(1.0 + np.arange(leaf.size)).reshape(leaf.shape))
        for leaf in leaves
        if isinstance(leaf, gx.Node) and leaf.dtype.kind == "f"
    ]
    # Small steps: a sort or a maximum has another derivative where two numbers meet.
    return gx.check_grad(sum(terms[1:], terms[0]), list(symbols.values()), point, step=1e-5)
