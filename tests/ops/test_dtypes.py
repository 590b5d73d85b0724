"""What is the dtype of every result?  One golden table, held against NumPy 2.

`golden_dtypes.txt` has a row for each function and each pair of kinds of operands: arrays of every
dtype, and Python scalars, which are weak (NEP 50). Where graphc differs from NumPy the row says
what NumPy does, so that a reviewer sees every difference; the test says which kinds of difference
there may be.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401, so that NumPy knows bfloat16 by its name
import numpy as np
import pytest

import graphc as gx
import graphc.codegen
import graphc.ops  # noqa: F401
import graphc.runtime
from graphc import dtypes
from graphc.node import Node

GOLDEN = Path(__file__).with_name("golden_dtypes.txt")
STRONG = dtypes.NAMES
WEAK: dict[str, Any] = {"True": True, "2": 2, "2.5": 2.5}
REFUSED = "refused"

BINARY = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("logical_and", "logical_or"),  # of bool only, so in one row and its refusals
)
UNARY = (
    *(
        "negative",
        "absolute",
        "sign",
        "square",
        "sqrt",
        "exp",
        "expm1",
        "log",
        "log1p",
        "tanh",
        "sin",
        "cos",
    ),
    *("isnan", "logical_not"),
)
REDUCTIONS = (
    *("sum", "prod", "mean", "max", "min", "all", "any", "argmax", "argmin", "count_nonzero"),
    *("ptp", "var", "std", "average", "nansum", "nanprod", "nanmean", "nanmax", "nanmin", "nanvar"),
    *("nanstd", "median", "nanmedian", "cumsum", "cumprod", "sort", "argsort", "diff", "trapezoid"),
    *("cov", "corrcoef"),
)
PRODUCTS = ("matmul", "dot", "outer")


def operand(xp: Any, kind: str, name: str) -> Any:
    """An operand of a kind: a matrix with NumPy, a symbol with graphc, or a Python scalar."""
    if kind in WEAK:
        return WEAK[kind]
    return np.ones((2, 2), kind) if xp is np else gx.symbol(name, (2, 2), kind)


def rows() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """The name of each row, and the call, written over `xp`."""
    pairs = [
        p for p in itertools.product((*STRONG, *WEAK), repeat=2) if p[0] in STRONG or p[1] in STRONG
    ]
    for name in BINARY:
        for a, b in pairs[:3] if name.startswith("logical") else pairs:
            yield (
                f"{name}({a}, {b})",
                lambda xp, n=name, a=a, b=b: getattr(xp, n)(
                    operand(xp, a, "x"), operand(xp, b, "y")
                ),
            )
    for name in (*UNARY, *REDUCTIONS):
        for a in STRONG:
            yield f"{name}({a})", lambda xp, n=name, a=a: getattr(xp, n)(operand(xp, a, "x"))
    for a, b in itertools.product(STRONG, repeat=2):
        for name in PRODUCTS:
            yield (
                f"{name}({a}, {b})",
                lambda xp, n=name, a=a, b=b: getattr(xp, n)(
                    operand(xp, a, "x"), operand(xp, b, "y")
                ),
            )
        yield (
            f"concatenate({a}, {b})",
            lambda xp, a=a, b=b: xp.concatenate([operand(xp, a, "x"), operand(xp, b, "y")]),
        )
    for a, b in pairs:
        yield (
            f"where(bool, {a}, {b})",
            lambda xp, a=a, b=b: xp.where(
                operand(xp, "bool", "c"), operand(xp, a, "x"), operand(xp, b, "y")
            ),
        )
    for a, name in itertools.product(STRONG, ("zeros", "ones")):
        yield f"{name}(dtype={a})", lambda xp, n=name, a=a: getattr(xp, n)((2,), dtype=a)
    for value in WEAK:
        yield f"full({value})", lambda xp, v=value: xp.full((2,), WEAK[v])
    yield "arange(3)", lambda xp: xp.arange(3)


def result(xp: Any, call: Callable[[Any], Any]) -> str:
    """The dtype of a call's result, or that it is refused."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            made = call(xp)
        except (TypeError, ValueError, gx.GraphError):
            return REFUSED
    return made.dtype.name


def table() -> list[tuple[str, str, str]]:
    return [(name, result(gx, call), result(np, call)) for name, call in rows()]


def written(rows: list[tuple[str, str, str]]) -> str:
    """The table with a line for each function and first operand: results, and the second operands
    that give them.
    """
    lines: dict[str, dict[str, list[str]]] = {}
    for name, ours, numpys in rows:
        head, _, last = name.removesuffix(")").rpartition(", ")
        result = ours if ours == numpys else f"{ours} (NumPy: {numpys})"
        lines.setdefault(f"{head}, ...)" if head else name, {}).setdefault(result, []).append(last)
    return "".join(
        f"{head}: "
        + "; ".join(
            f"{result} of {', '.join(operands)}" if head.endswith("...)") else result
            for result, operands in results.items()
        )
        + "\n"
        for head, results in lines.items()
    )


def test_golden_table(pytestconfig: pytest.Config, count: Callable[..., None]) -> None:
    rows = table()
    count("dtypes", "rows", len(rows))
    text = written(rows)
    if pytestconfig.getoption("--regenerate"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, "run pytest --regenerate and read the difference"


def may_differ(name: str, ours: str, numpys: str) -> bool:
    """Differences that are meant.

    Bool arithmetic, which graphc asks to be cast first; logic of numbers, which it asks to be
    compared with 0 first; powers of integers, for which it wants a Python int of at least 0; and a
    bfloat16, which NumPy does not know to be a float: beside a Python float (the spacing of
    `trapezoid` is one), and in functions that are no ufuncs, where it refuses some pairs.
    """
    if "bool" in name and ours == REFUSED:
        return True
    others = ("matmul", "dot", "trapezoid")
    if "bfloat16" in name and (numpys == REFUSED or "2.5" in name or name.startswith(others)):
        return ours in ("bfloat16", "float32", "float64")
    if ours == REFUSED:
        integers = "float" not in name and "2.5" not in name
        return name.startswith("logical_") or (name.startswith("power(") and integers)
    return False


def test_differences_from_numpy_are_meant() -> None:
    differing = [row for row in table() if row[1] != row[2]]
    wrong = [row for row in differing if not may_differ(*row)]
    assert not wrong


@pytest.mark.parametrize(("first", "second"), list(itertools.product(STRONG, repeat=2)))
def test_promotion_is_numpys(first: str, second: str) -> None:
    ours = dtypes.promote(np.dtype(first), np.dtype(second))
    if {"bfloat16"} < {first, second}:  # by the loops of a ufunc: `result_type` refuses some
        assert ours == np.add(np.ones(1, first), np.ones(1, second)).dtype
    else:
        assert ours == np.result_type(first, second)
    assert ours is dtypes.as_dtype(ours), "dtypes are the same objects everywhere"


@pytest.mark.parametrize(("strong", "weak"), list(itertools.product(STRONG, WEAK)))
def test_weak_promotion_is_numpys(strong: str, weak: str) -> None:
    ours = dtypes.promote_weak(np.dtype(strong), WEAK[weak])
    if strong == "bfloat16":
        assert ours == "bfloat16"
        return
    assert ours == np.result_type(np.dtype(strong), WEAK[weak])


@pytest.mark.parametrize("dtype", STRONG)
def test_several_operands(dtype: str) -> None:
    """All arrays promote first, then scalars, however they are ordered."""
    x, y = gx.symbol("x", (2,), dtype), gx.symbol("y", (2,), "float32")
    want = np.result_type(dtypes.promote(np.dtype(dtype), np.dtype("float32")), 2.5)
    assert gx.where(gx.symbol("c", (2,), "bool"), x, y * 2.5).dtype == want
    assert (2.5 * (x + y)).dtype == want and (y + x + 2.5).dtype == want


def test_rank_zero_arrays_and_numpy_scalars_are_strong() -> None:
    x = gx.symbol("x", (2,), "float32")
    assert (x * gx.scalar("s")).dtype == np.float64
    assert (x * np.float64(2)).dtype == (np.ones(2, "float32") * np.float64(2)).dtype == np.float64
    assert (x * np.array(2.0)).dtype == np.float64
    assert (x * 2.0).dtype == np.float32


def test_a_weak_scalar_takes_the_value_that_numpy_gives_it() -> None:
    x = gx.symbol("x", (1,), "float32")
    for scalar in (0.1, 1e300, -1e300, 16777217, float("nan")):
        with np.errstate(all="ignore"):
            want = np.ones(1, "float32") * scalar
            (got,) = gx.evaluate([x * scalar], {x: np.ones(1, "float32")})
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("function", ["sum", "prod", "mean"])
@pytest.mark.parametrize("dtype", STRONG)
def test_accumulators(function: str, dtype: str) -> None:
    """Bool and integers accumulate in int64 and wrap around; means of them are taken in float64."""
    large = 2**62 if dtypes.is_integer(np.dtype(dtype)) else 30000
    values = np.array([large, large, large, 3]).astype(dtype)
    x = gx.symbol("x", (4,), dtype)
    (got,) = gx.evaluate([getattr(gx, function)(x)], {x: values})
    with np.errstate(over="ignore"):
        want = getattr(np, function)(values)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["complex128", "longdouble", "object", "U3", "datetime64[s]"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(gx.GraphError, match="not supported"):
        gx.symbol("x", (2,), dtype)
    with pytest.raises(gx.GraphError):
        gx.constant(np.zeros(2, dtype), dtype)


def test_byte_order_is_not_part_of_a_type() -> None:
    swapped = np.arange(3, dtype=">f8")
    node = gx.constant(swapped)
    assert isinstance(node, Node) and node.dtype == np.float64 and node.dtype.isnative
    assert gx.symbol("x", (3,), ">f8") is gx.symbol("x", (3,), "f8")
    np.testing.assert_array_equal(gx.evaluate(node), swapped)


def test_nobody_asks_numpy_whether_a_dtype_is_a_float() -> None:
    """For bfloat16 `dtype.kind` is "V": `dtypes.kind` knows better."""
    rooms = {Path(room.__file__).parent for room in (gx, graphc.codegen, graphc.runtime)}
    files = [file for room in sorted(rooms) for file in sorted(room.rglob("*.py"))]
    assert len(files) > 50
    askers = [
        f"{file.name}: {line.strip()}"
        for file in files
        if file.name not in ("dtypes.py", "demo.py")  # the demo asks about pictures
        for line in file.read_text().splitlines()
        if re.search(r"dtype\.kind\b[^(].*\"[biu]*f", line)
    ]
    assert not askers


def test_what_is_no_dtype_is_named_in_one_line() -> None:
    with pytest.raises(gx.GraphError, match="is not a dtype") as refused:
        gx.zeros((2,), np.ones((3, 3, 3)))
    assert len(str(refused.value).splitlines()) == 1
