"""Does a select keep the sign of a zero, where LLVM could take it for a minimum?"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.node import Node

OPTIONS = gx.Options(cache=False)
ZEROS = [-0.0, 0.0, -1e-7, 1e-7, 1.0, -1.0, np.nan]
CASES = {
    "above": lambda x: gx.where(x > 0, 0, x),
    "below": lambda x: gx.where(x < 0, 0, x),
    "kept below": lambda x: gx.where(x < 0, x, 0),
    "kept above": lambda x: gx.where(x > 0, x, 0),
    "not below": lambda x: gx.where(x >= 0, 0, x),
    "of -0": lambda x: gx.where(x > 0, -0.0, x),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "narrow, wide",
    [("float16", "float32"), ("float16", "float64"), ("bfloat16", "float32")]
    + [("float32", "float64"), ("float64", "float32"), ("float32", "float16")]
    + [("float16", "float16"), ("float64", "float64")],
)
def test_a_select_between_conversions_keeps_the_sign_of_zero(
    case: str, narrow: str, wide: str
) -> None:
    """LLVM 20 turns `x > 0 ? 0 : x` of a converted x that is compared elsewhere, too, into a select
    before the conversion that gives 0 for -0."""
    x = gx.symbol("x", ("n",), narrow)
    converted = x.astype(wide)
    chosen = CASES[case](converted)
    mixed = gx.where(x > 0, gx.constant(np.zeros((), converted.dtype)), converted)
    results: list[Node] = [
        chosen,
        gx.where(converted > 0, converted, gx.expm1(chosen)),
        gx.where(converted > 0, converted, abs(chosen) + chosen),
        mixed,
        gx.where(x > 0, converted, abs(mixed) + mixed),
    ]
    values = np.array(ZEROS * 7, "float64").astype(x.dtype)
    compiled = gx.compile([x], results, options=OPTIONS)(values)
    true = gx.evaluate(results, {x: values})
    for found, expected in zip(compiled, true, strict=True):
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(expected[number]))
        np.testing.assert_array_equal(found.astype("float64"), expected.astype("float64"))
