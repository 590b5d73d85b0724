"""Does a SymPy expression keep its value and its sharing on the way in, and on the way out?"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from places import run_python

import graphc as gx
from graphc.errors import GraphError

X, Y, Z = sympy.symbols("x y z")
POINT = {X: 0.7, Y: 1.3, Z: 0.4}
VALUES = {gx.scalar(str(symbol)): value for symbol, value in POINT.items()}

EXPRESSIONS = {
    "arithmetic": (X - Y) * Z / 3 - 2 * X**2 / (7 * Y) + 1,
    "powers": X ** sympy.Rational(1, 3) + X**Y - 1 / sympy.sqrt(Y) + X**-3 + 2**Z,
    "numbers": sympy.sqrt(2) * X / sympy.sqrt(sympy.pi) + sympy.GoldenRatio - sympy.E * Y,
    "trigonometry": sympy.sin(X) * sympy.cos(Y) / sympy.tan(Z) + sympy.cot(X) - sympy.sec(Y),
    "arcs": sympy.asin(X) + sympy.acos(Z) * sympy.atan(Y) - sympy.atan2(X, -Y),
    "hyperbolic": sympy.sinh(X) - sympy.cosh(Y) * sympy.tanh(Z) + sympy.asinh(X) + sympy.acosh(Y),
    "choices": sympy.Max(X, Y, 1) - sympy.Min(X, Z) + sympy.Abs(X - Y) * sympy.sign(X - 1),
    "pieces": sympy.Piecewise((X, X > 1), (Y**2, sympy.And(X < 0.8, Y > 1)), (0, True)),
    "steps": sympy.Heaviside(X - Y) + sympy.Heaviside(X, 0) + sympy.floor(5 * X) - sympy.Mod(Y, Z),
    "errors": sympy.erf(X) * sympy.erfc(Y) + sympy.erfinv(Z),
    "gammas": sympy.gamma(X) - sympy.loggamma(Y) + sympy.digamma(Z) * sympy.polygamma(2, X),
    "counts": sympy.factorial(X) + sympy.binomial(Y, Z) + sympy.beta(X, Y) + sympy.sinc(Z),
    "bessel": sympy.besseli(0, X) + sympy.besseli(1, Y),
    "logs": sympy.log(X) / sympy.log(Y) + sympy.exp(-X * Y) - sympy.log(1 + Z),
    "logic": sympy.ITE(sympy.Or(X > Y, sympy.Not(Y < Z)), X > 0, Y > 5),
    "sums": sympy.Sum(X**Z / sympy.factorial(Z), (Z, 0, 10)) + Z,
    "products": sympy.Product(1 + X / Z, (Z, 1, 6)),
    "sums of sums": sympy.Sum(sympy.Sum(sympy.sin(X * Y * Z), (Y, 1, 3)), (Z, 1, 4)),
    "derivatives": sympy.Derivative(sympy.sin(X * Y) * sympy.exp(Y), (X, 2), Y),
}


def exact(expression: Any) -> Any:
    return expression.doit().xreplace({s: sympy.Float(v, 60) for s, v in POINT.items()})


def value_of(node: Any) -> float:
    return float(gx.evaluate(node, VALUES))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_value_is_kept_there_and_back(name: str) -> None:
    expression = EXPRESSIONS[name]
    node = gx.from_sympy(expression)
    if node.dtype == bool:
        assert bool(gx.evaluate(node, VALUES)) == bool(exact(expression))
        assert sympy.Equivalent(gx.to_sympy(node), expression) is not sympy.false
        return
    wanted = float(exact(expression).evalf(40))
    assert value_of(node) == pytest.approx(wanted, rel=1e-14)
    back = gx.to_sympy(node)
    assert float(exact(back).evalf(40)) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize(
    "name", ["arithmetic", "powers", "trigonometry", "hyperbolic", "choices", "errors", "gammas"]
)
def test_what_has_one_form_comes_back_as_it_was(name: str) -> None:
    back = gx.to_sympy(gx.from_sympy(EXPRESSIONS[name]))
    assert sympy.simplify(back - EXPRESSIONS[name]) == 0


def test_gradients_agree_with_those_of_sympy() -> None:
    for name in ("powers", "errors", "gammas", "bessel", "hyperbolic"):
        node = gx.from_sympy(EXPRESSIONS[name])
        for symbol in (X, Y):
            slope = gx.grad(node, gx.scalar(str(symbol)))
            wanted = exact(sympy.diff(EXPRESSIONS[name], symbol)).evalf(40)
            assert value_of(slope) == pytest.approx(float(wanted), rel=1e-13)


def test_numbers_are_rounded_once() -> None:
    expression = sympy.sqrt(2) * sympy.exp(sympy.Rational(1, 3)) / sympy.pi**3 + sympy.sin(2)
    (constant,) = gx.Graph((), [gx.from_sympy(expression)]).nodes()
    assert constant.attrs["value"].array == float(expression.evalf(50))
    thirds = gx.from_sympy(X / 3)  # a quotient is nearer than a product with 0.333
    assert thirds.op.name == "divide" and value_of(thirds) == 0.7 / 3


def test_sharing_is_kept_both_ways() -> None:
    expression, node = X, gx.scalar("x")
    for _ in range(40):
        expression = expression * expression + Y
        node = gx.sin(node) * node
    graph = gx.Graph((), [gx.from_sympy(expression)])
    assert len(graph.nodes()) == 82
    assert gx.to_sympy(graph.outputs[0]) == expression
    back = gx.to_sympy(node)
    seen, stack = set(), [back]
    while stack:
        item = stack.pop()
        if id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.args)
    assert len(seen) < 40 * 6
    assert len(gx.Graph((), [gx.from_sympy(back)]).nodes()) == 81


def test_depth_needs_no_recursion() -> None:
    expression, node = X, gx.scalar("x")
    depth = 3 * sys.getrecursionlimit()
    for _ in range(depth):
        expression = sympy.sin(expression, evaluate=False)
    assert len(gx.Graph((), [gx.from_sympy(expression)]).nodes()) == depth + 1
    for _ in range(1500):
        node = gx.tanh(node) + 1.0
    back = gx.from_sympy(gx.to_sympy(node))
    assert back is node


def test_symbols_get_their_meaning() -> None:
    v = gx.vector("v", 3)
    f = sympy.Function("f")
    node = gx.from_sympy(f(X) * Y, {X: v, "y": 2.0, f: lambda x: gx.exp(x) + 1})
    assert node is gx.multiply(2.0, gx.exp(v) + 1)
    single = gx.from_sympy(X * sympy.Rational(1, 3), {X: gx.scalar("x", "float32")})
    assert single.dtype == "float32"
    assert gx.from_sympy(X / 3 + sympy.pi, dtype="float32").dtype == "float32"
    first, second = sympy.Symbol("x"), sympy.Symbol("x", positive=True)
    assert gx.from_sympy(first) is gx.from_sympy(second) is gx.scalar("x")
    assert gx.from_sympy(second, facts=True).attrs["facts"] == ("finite", "nonnegative", "positive")
    with pytest.raises(GraphError, match="two different symbols are named 'x'"):
        gx.from_sympy(first + second)


def test_argument_lists_go_along() -> None:
    inputs, outputs = gx.from_sympy([[X, Y], {"product": X * Y, "matrix": sympy.Matrix([X, 1])}])
    found = gx.compile(inputs, outputs)(2.0, 3.0)
    assert found["product"] == 6 and found["matrix"].tolist() == [[2], [1]]


def test_symbols_keep_their_assumptions_on_the_way_back() -> None:
    x = gx.symbol("x", facts=("positive",))
    assert gx.to_sympy(gx.sqrt(x**2)) == sympy.Symbol("x", positive=True)
    assumed = sympy.symbols("x y", positive=True)
    x, y = gx.scalar("x"), gx.scalar("y")
    assert gx.to_sympy(x * y, assumed) == assumed[0] * assumed[1]
    assert gx.to_sympy(x * y, {x: Z, "y": Z**2}) == Z**3


def test_matrices_and_arrays() -> None:
    a, b = sympy.MatrixSymbol("A", 2, 3), sympy.MatrixSymbol("B", 3, 2)
    square = sympy.MatrixSymbol("S", 2, 2)
    cases = [a * b + 2 * square.T, square**3 - sympy.Identity(2), sympy.HadamardProduct(a, b.T)]
    cases += [sympy.KroneckerProduct(a, square), sympy.BlockMatrix([[a, square], [a, a * b]])]
    cases += [a[1:2, 1:3], sympy.ZeroMatrix(2, 2) + square]
    for case in cases:
        back = gx.to_sympy(gx.from_sympy(case))
        assert (back - sympy.Matrix(case)).applyfunc(sympy.simplify).is_zero_matrix, case
    trace = gx.to_sympy(gx.from_sympy(sympy.trace(a * b) + a[0, 1]))
    assert sympy.expand(trace - sympy.Matrix(a * b).trace() - a[0, 1]) == 0
    values = np.array([[2.0, 0.5], [1.0, 3.0]])
    given = {gx.matrix("S", (2, 2)): values}
    determinant = gx.from_sympy(sympy.Determinant(square))
    assert gx.evaluate(determinant, given) == pytest.approx(np.linalg.det(values))
    inverse = gx.from_sympy(sympy.Inverse(square))
    assert np.allclose(gx.evaluate(inverse, given), np.linalg.inv(values))
    array = gx.from_sympy(sympy.Array([[[X, 1], [Y, 2]]]))
    assert array.shape == (1, 2, 2) and gx.to_sympy(array) == sympy.Array([[[X, 1], [Y, 2]]])


def test_sums_run_over_elements() -> None:
    base = sympy.IndexedBase("v", shape=(5,))
    i = sympy.Idx("i")
    v = gx.vector("v", 5)
    total = gx.from_sympy(sympy.Sum(i * base[i] ** 2, (i, 1, 4)))
    values = np.arange(5) + 0.5
    assert gx.evaluate(total, {v: values}) == np.sum(np.arange(5) * values**2)
    assert len(gx.Graph((), [total]).nodes()) < 12, "one reduction, not terms"


def test_graphs_of_arrays_are_written_out() -> None:
    v = gx.vector("v", 3)
    e = sympy.IndexedBase("v", shape=(3,))
    gradient = gx.to_sympy(gx.grad(gx.sum(gx.exp(v) * v), v))
    assert list(gradient) == [sympy.exp(e[k]) * (e[k] + 1).expand() for k in range(3)] or all(
        sympy.simplify(gradient[k] - sympy.exp(e[k]) * (e[k] + 1)) == 0 for k in range(3)
    )
    jacobian = gx.to_sympy(gx.jacobian(gx.sin(v) * v[0], v))
    assert jacobian == sympy.Matrix([sympy.sin(e[k]) * e[0] for k in range(3)]).jacobian(
        [e[k] for k in range(3)]
    )
    assert gx.to_sympy(gx.at(v)[1].add(gx.sum(v))) == sympy.Array(
        [e[0], e[0] + 2 * e[1] + e[2], e[2]]
    )
    switched = gx.cond(v[0] > 0, lambda: v[1], lambda: v[2])
    given = {e[0]: 1, e[1]: 5, e[2]: 7}
    assert gx.to_sympy(switched).subs(given) == 5
    assert gx.to_sympy(switched).subs({**given, e[0]: -1}) == 7


def test_what_cannot_be_converted_is_named() -> None:
    refused = {
        sympy.I * X: "ImaginaryUnit.*\n.*real",
        sympy.Integral(sympy.sin(X), X): "Integral.*\n.*doit",
        sympy.Function("f")(X): r"f\(x\).*\n.*symbols=",
        sympy.besselj(0, X) + 1: "besselj.*\n.*rewrite",
        sympy.besseli(3, X): "orders 0 and 1",
        sympy.Sum(X**Z, (Z, 0, Y)): "two numbers",
        sympy.IndexedBase("q")[0]: "no shape",
        sympy.zoo * X: "ComplexInfinity",
        "x + 1": "sympify",
    }
    for expression, message in refused.items():
        with pytest.raises(GraphError, match=message) as found:
            gx.from_sympy(expression)
        assert len(str(found.value).splitlines()) <= 8
    with pytest.raises(GraphError, match="sort has no formula"):
        gx.to_sympy(gx.sort(gx.vector("v", 3)))
    top = gx.sort(gx.vector("v", 3))[2]
    assert gx.to_sympy(2 * top, {top: X}) == 2 * X
    with pytest.raises(GraphError, match="extents that are numbers"):
        gx.to_sympy(gx.vector("v", "n") + 1)


def test_special_values() -> None:
    assert value_of(gx.from_sympy(sympy.oo)) == math.inf
    assert gx.to_sympy(gx.constant(-math.inf)) == -sympy.oo
    assert math.isnan(value_of(gx.from_sympy(sympy.nan)))
    assert gx.to_sympy(gx.constant(0.1)) == sympy.Rational(1, 10)
    assert gx.to_sympy(gx.constant(0.1234567)) == sympy.Float(0.1234567)
    assert gx.to_sympy(gx.constant(-math.pi)) == -sympy.pi


def test_sympy_is_loaded_when_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, graphc as gx, graphc.interop\n"
        "from graphc.interop import sympy_reader, sympy_writer\n"
        "repr(gx.from_sympy), repr(gx.grad(gx.scalar('x') ** 2, gx.scalar('x')))\n"
        "assert 'sympy' not in sys.modules"
    )
    run_python("-c", code, folder=tmp_path)
