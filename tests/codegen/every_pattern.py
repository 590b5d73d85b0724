"""How far from exact is every function of one argument, over every argument there is?

All 2**16 patterns of float16 and bfloat16 and all 2**32 of float32 go through the function in that
dtype and in float64, in one compiled kernel that also finds the largest error of a block: half a
minute a function. The function in float64 is exact to a few units in its own last place, which are
2**-27 of float32's; that it is, is compared with mpmath at chosen points. So that no mistake can
hide in both, every 997th argument is compared with NumPy or SciPy too.

    python tests/codegen/every_pattern.py measure [name ...]
    python tests/codegen/every_pattern.py write

Where lookups are cheap, some functions of float32 are others (`Machine.has_tables`): these are
measured too, on any processor.

`measure` writes what it finds to `tests/codegen/ulp.json`, skipping what it knows already; `write`
makes `docs/ulp.md` of it. A record holds the digest of the instructions that it is about, so a
record of a function that has changed since is known to be stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]

import mpmath  # noqa: E402
from scalar_harness import build_scope, evaluate  # noqa: E402
from unary_functions import FUNCTIONS, Function  # noqa: E402
from vecmath_reference import (  # noqa: E402
    BINARY,
    REFERENCES,
    arguments,
    errors_in_ulp,
    exact_pairs,
    exact_values,
    pairs,
    procedure_of,
)

import graphc as gx  # noqa: E402
from graphc.codegen.machine import Machine  # noqa: E402
from graphc.codegen.scalar import Value  # noqa: E402
from graphc.codegen.vecmath.procedures import PROCEDURES  # noqa: E402
from graphc.lowering import Elementwise  # noqa: E402
from graphc.node import topological  # noqa: E402
from graphc.op import REGISTRY, elementwise  # noqa: E402

RECORD = HERE / "ulp.json"
ONE_THREAD = gx.Options(threads=1, cache=False)
BLOCK = 1 << 15
EVERY_OTHER = 997  # somebody else's function is asked at every 997th argument


@dataclass(frozen=True)
class Narrow:
    """A dtype with few enough numbers: its bits, digits, and the exponent of its least number."""

    name: str
    bits: int
    digits: int
    least: int
    top: int

    @property
    def overflow(self) -> float:
        """From here on results round to infinity."""
        return math.ldexp(1 - 2.0 ** -(self.digits + 1), self.top)


NARROW = {
    each.name: each
    for each in (
        Narrow("float16", 16, 11, -24, 16),
        Narrow("bfloat16", 16, 8, -133, 128),
        Narrow("float32", 32, 24, -149, 128),
    )
}


def patterns(dtype: str, start: int = 0, stop: int | None = None, step: int = 1) -> Any:
    """The numbers with the bits start, start + step, ..."""
    from graphc.dtypes import as_dtype

    stop = 1 << NARROW[dtype].bits if stop is None else stop
    word = f"uint{NARROW[dtype].bits}"
    return np.arange(start, stop, step, dtype=np.uint64).astype(word).view(as_dtype(dtype))


@contextlib.contextmanager
def with_tables() -> Iterator[None]:
    """Here kernels look numbers up as where that is cheap, whatever this processor is."""
    found = Machine.has_tables
    Machine.has_tables = property(lambda machine: True)  # type: ignore[assignment]
    try:
        yield
    finally:
        Machine.has_tables = found  # type: ignore[assignment]


# -- the error, as a graph -----------------------------------------------------------------------


def _error_kernel(k: Any, actual: Value, exact: Value, size: Value, dtype: str) -> Value:
    """The error in the unit of the last place of `size`, whose exponent is found in its bits.

    What is no matter of places is settled in a branch: infinity is the error of a wrong NaN,
    infinity, or sign of zero, and the infinity that is given for a finite number counts as the
    next one after the largest.
    """
    narrow, mask = NARROW[dtype], 0x7FF << 52
    least = 1023 + narrow.least + narrow.digits - 1 << 52
    exponent = k.min(k.max(k.and_(k.bitcast(size, "uint64"), mask), least), 2045 << 52)
    units = k.mul(k.bitcast(k.sub(2046 << 52, exponent), "float64"), 2.0 ** (narrow.digits - 1))
    error = k.mul(k.abs(k.sub(actual, exact)), units)

    infinity, wrong = float("inf"), k.const(float("inf"), "float64")
    right = k.const(0.0, "float64")
    signs = k.xor(k.bitcast(actual, "uint64"), k.bitcast(exact, "uint64"))
    turned = k.ge(signs, 1 << 63)
    beyond = k.copysign(k.const(2.0**narrow.top, "float64"), actual)
    infinite = k.eq(k.abs(actual), infinity)
    rare = k.select(infinite, k.mul(k.abs(k.sub(beyond, exact)), units), error)
    settled = k.and_(infinite, k.not_(turned))
    overflow = k.ge(k.abs(exact), narrow.overflow)
    rare = k.select(overflow, k.select(settled, right, wrong), rare)
    rare = k.select(k.and_(k.eq(actual, 0.0), turned), wrong, rare)
    absent, expected = k.ne(actual, actual), k.ne(exact, exact)
    both = k.select(k.and_(absent, expected), right, wrong)
    rare = k.select(k.or_(absent, expected), both, rare)
    plain = k.and_(k.lt(error, 2.0**40), k.ne(actual, 0.0))
    return k.emit("select", k.not_(plain), rare, error, immediate="rarely")


def _error_numpy(actual: Any, exact: Any, size: Any, dtype: str) -> Any:
    raise NotImplementedError("it is compiled, never evaluated")


ulp_error = elementwise(
    "ulp_error",
    numpy=_error_numpy,
    kernel=_error_kernel,
    partials=lambda actual, exact, size, result, dtype: (),
    attributes=("dtype",),
    kinds="f",
    cost=30,
)
del REGISTRY["ulp_error"]  # nobody else's: tests go over the registry


def error_graph(function: Function, dtype: str) -> tuple[Any, Any]:
    """A symbol, and the error in ULP at each of its elements."""
    x = gx.symbol("x", ("n",), dtype)
    wide = x.astype("float64")
    actual, exact = function.build(x).astype("float64"), function.build(wide)
    size = exact
    if function.floor:
        raised = gx.maximum(abs(exact), function.floor)
        size = gx.where(wide < function.floor_below, raised, exact)
    return x, ulp_error(actual, exact, size, dtype=dtype)


def largest_error(function: Function, dtype: str, blocks: Iterable[Any]) -> tuple[float, float]:
    """The largest error over some arguments, and where it is."""
    x, error = error_graph(function, dtype)
    of_block = gx.compile([x], error.max(), options=ONE_THREAD)
    of_each = gx.compile([x], error, options=ONE_THREAD)
    worst, where = -1.0, 0.0
    for block in blocks:
        found = float(of_block(block))
        if found > worst:
            worst, where = found, float(block[int(np.argmax(of_each(block)))])
    return worst, where


def blocks_of(dtype: str) -> Iterator[Any]:
    """All patterns, a block at a time: the positive numbers first."""
    if NARROW[dtype].bits == 16:
        yield patterns(dtype)
        return
    bits = np.arange(BLOCK, dtype=np.uint32)
    for _ in range(0, 1 << 32, BLOCK):
        yield bits.view(np.float32)
        bits += np.uint32(BLOCK)


def error_of_all(function: Function, dtype: str) -> tuple[float, float]:
    """The largest error over all arguments, and where it is; infinity where a law is broken.

    Where float64 can say no more than a law does, it is not asked: outside of the domain, and for
    the negative arguments of odd and even functions.
    """
    if NARROW[dtype].bits == 16:
        return largest_error(function, dtype, blocks_of(dtype))
    x = gx.symbol("x", ("n",), dtype)
    y = function.build(x)
    has_number = gx.compile([x], gx.logical_not(gx.isnan(y)).any(), options=ONE_THREAD)
    mirrored = function.build(-x)
    differs = gx.not_equal(mirrored, -y if function.law == "odd" else y)
    differs |= gx.equal(gx.signbit(mirrored), gx.signbit(y)) == (function.law == "odd")
    differs &= ~(gx.isnan(y) & gx.isnan(mirrored))
    broken = gx.compile([x], differs.any(), options=ONE_THREAD)
    low, high = function.domain
    told: list[float] = []

    def asked() -> Iterator[Any]:
        for block in blocks_of(dtype):
            negative = bool(np.signbit(block[0]))
            least, most = sorted((float(block[0]), float(block[-1])))
            if most < low or least > high:  # never where there is NaN
                if bool(has_number(block)):
                    told.append(float(block[0]))
            elif not function.law:
                yield block
            elif not negative:
                if bool(broken(block)):
                    told.append(float(block[0]))
                yield block

    worst, where = largest_error(function, dtype, asked())
    return (math.inf, told[0]) if told else (worst, where)


def distance_to_other(function: Function) -> tuple[float, float] | None:
    """The largest difference between somebody else's function and ours in float64, in ULP of
    float32, over every 997th float32; and where it is.

    Where one of them is no number, or their infinities differ, there is no difference to tell.
    """
    if function.other is None:
        return None
    x = gx.symbol("x", ("n",), "float64")
    ours = gx.compile([x], function.build(x), options=ONE_THREAD)
    worst, where = 0.0, 0.0
    for start in range(0, 1 << 32, BLOCK * EVERY_OTHER):
        stop = min(start + BLOCK * EVERY_OTHER, 1 << 32)
        with np.errstate(all="ignore"):
            block = patterns("float32", start, stop, EVERY_OTHER).astype(np.float64)
            mine, other = ours(block), function.other(block)
            known = np.isfinite(mine) & np.isfinite(other)
            size = np.where(known, np.abs(mine), 1.0)
            size = np.where(
                block < function.floor_below, np.maximum(size, function.floor), size
            )
            place = np.maximum(np.spacing(size) * 2.0**29, 2.0**-149)
            apart = np.where(known & (size < NARROW["float32"].overflow), abs(mine - other), 0)
            apart = apart / place
        at = int(np.argmax(apart))
        if apart[at] > worst:
            worst, where = float(apart[at]), float(block[at])
    return worst, where


# -- which instructions ----------------------------------------------------------------------------


def scalar_text(scope: Any) -> str:
    """The scalar instructions of a scope, one a line."""
    numbers: dict[Value, int] = {}
    lines = []
    for value in scope.statements:
        numbers[value] = len(numbers)
        operands = " ".join(str(numbers.get(each, "x")) for each in value.args)
        immediate = "" if value.immediate is None else repr(value.immediate)
        lines.append(f"{value.opcode} {value.dtype} {operands} {immediate}")
    return "\n".join(lines)


def scope_of(function: Function, dtype: str, tables: bool = False) -> Any:
    """The scope with the kernels of all nodes of a function, by lookups or without."""

    def build(k: Any, x: Value) -> Any:
        k.tables = tables
        symbol = gx.symbol("x", (), dtype)
        root = function.build(symbol)
        values: dict[Any, Any] = {symbol: x}
        for node in topological([root]):
            if node not in values:
                values[node] = _of_node(k, node, [values[each] for each in node.args])
        return values[root]

    return build_scope(build, [dtype])[0]


def _of_node(k: Any, node: Any, operands: list[Any]) -> Any:
    form = node.op.lowering
    if node.op.name == "constant":
        return k.const(node.attrs["value"].array.item(), node.dtype.name)
    if node.op.name == "project":
        return operands[0][node.attrs["index"]]
    if isinstance(form, Elementwise):
        return form.kernel(k, *operands, **node.attrs)
    raise TypeError(f"{node.op.name} is not element-wise")


def _digest(scopes: Iterable[Any]) -> str:
    return hashlib.sha256("\n\n".join(map(scalar_text, scopes)).encode()).hexdigest()[:16]


def digest_of(function: Function) -> str:
    """What tells a function from what it was: its instructions in float32 and in float64."""
    scopes = [scope_of(function, dtype) for dtype in ("float32", "float64")]
    if has_tables(function):
        scopes.append(scope_of(function, "float32", tables=True))
    return _digest(scopes)


def has_tables(function: Function) -> bool:
    """Whether it is another function in float32 where lookups are cheap."""
    texts = [scalar_text(scope_of(function, "float32", tables)) for tables in (False, True)]
    return texts[0] != texts[1]


def digest_of_pair(name: str) -> str:
    """The same of a procedure of two arguments."""
    dtypes = ("float32", "float64")
    return _digest(build_scope(PROCEDURES[name], [dtype] * 2)[0] for dtype in dtypes)


# -- the record ------------------------------------------------------------------------------------


def known() -> dict[str, Any]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def save(records: dict[str, Any]) -> None:
    ordered = {name: records[name] for name in (*FUNCTIONS, *BINARY) if name in records}
    RECORD.write_text(json.dumps(ordered, indent=1) + "\n")


def cost(name: str) -> int:
    """About how long a function takes, by which the run is ordered."""
    return 0 if name in BINARY else len(scope_of(FUNCTIONS[name], "float64").statements)


def is_current(name: str, records: dict[str, Any]) -> bool:
    """Whether there is a record of the function as it is."""
    digest = digest_of_pair(name) if name in BINARY else digest_of(FUNCTIONS[name])
    return bool(records.get(name, {}).get("digest") == digest)


def in_float64(name: str, count: int) -> tuple[float, int]:
    """The largest error of a procedure in float64 against mpmath, and of how many points."""
    with mpmath.workprec(160):
        if name in BINARY:
            inputs = pairs(name, "float64", count, 12)
            errors = errors_in_ulp(evaluate(PROCEDURES[name], *inputs), exact_pairs(name, *inputs))
        else:
            x = arguments(name, "float64", count // 8 if REFERENCES[name].slow else count, 12)
            actual = evaluate(procedure_of(name), x)
            errors = errors_in_ulp(actual, exact_values(name, x), x, name)
    return float(errors.max()), len(errors)


def measured(name: str, points: int) -> dict[str, Any]:
    """The record of a function; one of two arguments is tried at points alone."""
    if name in BINARY:
        worst, count = in_float64(name, points)
        return {
            "digest": digest_of_pair(name),
            "float64": {"ulp": round(worst, 4), "points": count},
        }
    function = FUNCTIONS[name]
    record: dict[str, Any] = {"digest": digest_of(function)}
    for dtype in NARROW:
        worst, where = error_of_all(function, dtype)
        record[dtype] = {"ulp": round(worst, 4), "at": where.hex()}
    if has_tables(function):
        with with_tables():
            worst, where = error_of_all(function, "float32")
        record["tables"] = {"ulp": round(worst, 4), "at": where.hex()}
    other = distance_to_other(function)
    if other is not None:
        record["other"] = {"ulp": float(f"{other[0]:.2e}"), "at": other[1].hex()}
    if name in REFERENCES:
        worst, count = in_float64(name, points)
        record["float64"] = {"ulp": round(worst, 4), "points": count}
    return record


def measure(names: list[str], points: int = 4000) -> None:
    for name in names or sorted((*FUNCTIONS, *BINARY), key=cost):
        if not names and is_current(name, known()):
            continue
        start = time.perf_counter()
        record = measured(name, points)
        save(known() | {name: record})
        found = " ".join(
            f"{each} {record[each]['ulp']} at {record[each].get('at')}"
            for each in (*NARROW, "tables", "other", "float64")
            if each in record
        )
        print(f"{name:<16}{time.perf_counter() - start:6.1f} s  {found}", flush=True)


# -- the page --------------------------------------------------------------------------------------

HEAD = """# How exact are the mathematical functions?

The largest error found, in units in the last place (ULP) of the exact result; 0.5 is correct
rounding. float16, bfloat16 and float32: over **every** argument that the dtype has, against the
same function in float64 (`tests/codegen/every_pattern.py` says why that is exact enough, and
compares it with NumPy's and SciPy's). float64: against mpmath, to 160 bits, at so many points:
intervals in which something changes, all exponents, subnormal numbers and random bits. NaN,
infinities and the signs of zeros are as they must be at all of these.

Results are the same bits on every backend: these are errors of one text of instructions. Only where
a register holds sixteen float32 (AVX-512) a few functions of float32 are others on the CPU, which
look numbers up: their column is "tables". The bounds are what the tests hold every function to:
that of float32, and that of float64 where it is another.
`python tests/codegen/every_pattern.py write` makes this page from what `measure` has found.

| function | bound | float16 | bfloat16 | float32 | tables | float64 | points |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
TAIL = """
- lgamma below -1/2 and digamma below 0 have zeros between the poles, which are no floating-point
  numbers: there the unit is that of the larger of the result and 1. Near the zeros of lgamma at 1
  and 2, and that of digamma at 1.4616..., the error is relative as everywhere else.
- j0, j1, y0 and y1 have zeros everywhere: the unit is that of the larger of the result and 1/2. At
  every argument the error of j0 and j1 is within 3 units of the amplitude, sqrt(2/(pi x)).
- polygamma of order n is within 4 + n ULP for positive arguments; trigamma is order 1.
- The gamma and Bessel families and the inverse error functions compute float32 in float64.
- `Options(math="fast")`: tanh, sigmoid and silu are within 3 ULP, and results below 128 times the
  least normal number may be 0. They take 0.6 to 0.75 of the time; the others are the same.
- float16 and bfloat16 compute in float32, each operation rounded: what is one operation has an
  error of 0.5 there, a composition that of several.
- Exact in every dtype: EXACT.
"""


def page() -> str:
    """The text of `docs/ulp.md`."""
    records = known()
    lines = [_row(name, records[name]) for name in (*FUNCTIONS, *BINARY) if _has_row(name, records)]
    exact = ", ".join(name for name, each in FUNCTIONS.items() if each.is_exact)
    without = [name for name in FUNCTIONS if name not in records]
    if without:
        told = "Not measured since they changed: " + ", ".join(without)
        lines.append("\n" + textwrap.fill(told, 100))
    return HEAD + "\n".join(lines) + "\n" + textwrap.fill(
        TAIL.splitlines()[-1].replace("EXACT", exact), 100, subsequent_indent="  "
    ).join(TAIL.rsplit(TAIL.splitlines()[-1], 1))


def _has_row(name: str, records: dict[str, Any]) -> bool:
    return name in records and not (name in FUNCTIONS and FUNCTIONS[name].is_exact)


def _row(name: str, record: dict[str, Any]) -> str:
    if name in BINARY:
        bound = "1"
    else:
        bound = f"{FUNCTIONS[name].bound:g}"
        wide = REFERENCES[name].bound if name in REFERENCES else FUNCTIONS[name].bound
        bound += f", {wide:g}" if wide != FUNCTIONS[name].bound else ""
    columns = (*NARROW, "tables")
    cells = [f"{record[each]['ulp']:.2f}" if each in record else "" for each in columns]
    in_64 = record.get("float64")
    cells += [f"{in_64['ulp']:.2f}", f"{in_64['points']:,}"] if in_64 else ["", ""]
    return f"| {name} | {bound} | {' | '.join(cells)} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
    elif sys.argv[1:] == ["write"]:
        (ROOT / "docs" / "ulp.md").write_text(page())
    else:
        raise SystemExit(__doc__)
