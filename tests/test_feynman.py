"""Are a hundred formulas of physics and all their first and second derivatives right?

The formulas of the Feynman lectures that Udrescu and Tegmark collected (AI Feynman, Sci. Adv. 6,
2020), parsed by SymPy. Value, gradient and Hessian come out of one compiled function, and are
compared with SymPy's own derivatives evaluated in 50 digits.

Derivatives cancel: (x1 - x2)**2/r**3 - 1/r has few digits left where its terms are nearly equal. So
the unit of an error is what rounding each operation of SymPy's formula once would allow
(`unit_of`: a running error analysis, Higham, Accuracy and Stability, 3.3), which is near an ULP of
the result where nothing cancels.
"""

from __future__ import annotations

import csv
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from places import ROOT

import graphc as gx

DATA = ROOT.parent / "shared" / "data" / "feynman" / "FeynmanEquations.csv"
needs_data = pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is missing")
EPSILON = mpmath.mpf(2) ** -53
POINTS = 4
# In units of `unit_of`; the largest that was found is 1.96, of a hundred formulas at four points.
MOST = 4.0
NAMES = {"arcsin": sympy.asin, "ln": sympy.log}


def formulas() -> list[dict[str, str]]:
    if not DATA.is_file():
        return []
    with open(DATA, newline="") as file:
        return [row for row in csv.DictReader(file) if row["Formula"]]


def parsed(row: dict[str, str]) -> tuple[list[Any], Any, Any, Any]:
    """Symbols, the formula, and the lower and upper ends of where it is to be evaluated."""
    count = int(row["# variables"])
    symbols = [sympy.Symbol(row[f"v{i}_name"]) for i in range(1, count + 1)]
    known = {**NAMES, **{symbol.name: symbol for symbol in symbols}}
    ends = [[float(row[f"v{i}_{end}"]) for i in range(1, count + 1)] for end in ("low", "high")]
    return symbols, sympy.sympify(row["Formula"], locals=known), *ends


def _with(parts: list[Any], number: int, x: Any) -> list[Any]:
    """The values of parts, one of them replaced."""
    return [x if i == number else value for i, (value, _) in enumerate(parts)]


def unit_of(expression: Any, values: dict[Any, Any], known: dict[Any, Any]) -> tuple[Any, Any]:
    """The value of an expression, and the error if every operation is off by one rounding."""
    if expression in known:
        return known[expression]
    if expression.is_Symbol:
        found = values[expression], mpmath.mpf(0)
    elif expression.is_number:
        value = mpmath.mpmathify(expression.evalf(50))
        exact = expression.is_Integer or expression.is_Rational and expression.q in (1, 2, 4, 8)
        found = value, mpmath.mpf(0) if exact else abs(value) * EPSILON
    else:
        parts = [unit_of(each, values, known) for each in expression.args]
        numbers = [sympy.Dummy() for _ in parts]
        function = sympy.lambdify(numbers, expression.func(*numbers), "mpmath")
        value = function(*[part for part, _ in parts])
        unit = abs(value) * EPSILON * max(1, len(parts) - 1)
        for i, (part, error) in enumerate(parts):
            if error:
                slope = mpmath.diff(lambda x, i=i: function(*_with(parts, i, x)), part)
                unit += abs(slope) * error
        found = value, unit
    known[expression] = found
    return found


def worst_of(row: dict[str, str]) -> tuple[float, float]:
    """The largest errors of the value, the gradient and the Hessian of a formula: in units, and of
    the value in ULP.
    """
    symbols, formula, low, high = parsed(row)
    inputs, cost = gx.from_sympy([symbols, formula])
    gradient = gx.grad(cost, inputs)
    second = [gx.grad(slope, inputs[: i + 1]) for i, slope in enumerate(gradient)]
    function = gx.compile(inputs, [cost, gradient, second], options=gx.Options(cache=False))
    slopes = [sympy.diff(formula, symbol) for symbol in symbols]
    curves = [sympy.diff(slope, other) for i, slope in enumerate(slopes)
              for other in symbols[: i + 1]]  # fmt: skip
    pairs = [(i, j) for i in range(len(symbols)) for j in range(i + 1)]

    def lower_ones(number: int) -> list[tuple[Any, Any]]:
        """For a derivative those that lack one of its variables, and that variable."""
        if number <= len(symbols):
            return [(formula, symbols[number - 1])]
        i, j = pairs[number - len(symbols) - 1]
        return [(slopes[i], symbols[j]), (slopes[j], symbols[i])]

    generator = np.random.default_rng(int(row["Number"]))
    units, ulps, compared = 0.0, 0.0, 0
    for _ in range(POINTS):
        point = generator.uniform(low, high)
        found = function(*point)
        got = [found[0], *found[1], *(each for line in found[2] for each in line)]
        known: dict[Any, Any] = {}
        values = {s: mpmath.mpf(float(v)) for s, v in zip(symbols, point, strict=True)}
        for i, (mine, exact) in enumerate(zip(got, [formula, *slopes, *curves], strict=True)):
            wanted, unit = unit_of(sympy.sympify(exact), values, known)
            if mpmath.im(wanted):  # what is complex in SymPy is NaN in graphs of real numbers
                assert np.isnan(mine)
                continue
            error = abs(mpmath.mpf(float(mine)) - wanted)
            if not wanted:  # SymPy knew that terms cancel: as large as lower derivatives say
                unit = EPSILON * max(
                    abs(unit_of(lower, values, known)[0] / values[other])
                    for lower, other in lower_ones(i)
                )
            units = max(units, float(error / unit) if error else 0.0)
            compared += 1
            if i == 0:
                ulps = max(ulps, float(error / np.spacing(abs(float(wanted)))))
    assert compared
    return units, ulps


@needs_data
def test_there_are_a_hundred() -> None:
    assert len(formulas()) == 100


@pytest.fixture(autouse=True)
def fifty_digits() -> Any:
    with mpmath.workdps(50):
        yield


@needs_data
@pytest.mark.parametrize("row", formulas()[::12], ids=lambda row: row["Filename"])
def test_a_formula_and_its_derivatives(row: dict[str, str]) -> None:
    units, _ = worst_of(row)
    assert units <= MOST, row["Formula"]


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("row", formulas(), ids=lambda row: row["Filename"])
def test_every_formula_and_its_derivatives(row: dict[str, str]) -> None:
    units, _ = worst_of(row)
    assert units <= MOST, row["Formula"]


def test_the_unit_of_an_error() -> None:
    x, y = sympy.symbols("x y")
    values = {x: mpmath.mpf(3), y: mpmath.mpf(5)}
    assert unit_of(x * y, values, {}) == (15, 15 * EPSILON)
    value, unit = unit_of(x * y - sympy.sqrt(225 * x / 3), values, {})
    assert value == 0 and unit > 15 * EPSILON
