"""Are derivatives of whole expressions right, whichever way they are taken?

Values come from closed forms, from unrolled or inlined twins, and from differences; single ops are
held to their derivatives by `tests/ops/test_contract.py`, random programs by
`tests/test_random_programs.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import Case, Judge, run

import graphc as gx
from graphc.autodiff import columns
from graphc.autodiff.compressed import tangent_of
from graphc.node import Node, topological

RANDOM = np.random.default_rng(8)


def value(expression: Any, **arrays: Any) -> Any:
    """Evaluate with arrays for symbols by name."""
    leaves = expression if isinstance(expression, (list, tuple)) else [expression]
    symbols = {n.attrs["name"]: n for n in topological(leaves) if n.op.name == "symbol"}
    return gx.evaluate(expression, {symbols[k]: v for k, v in arrays.items() if k in symbols})


def numeric(function: Callable[[Any], Any], point: Any) -> Any:
    """The gradient of a scalar NumPy function by central differences, extrapolated once."""
    point = np.asarray(point, float)
    found = np.zeros(point.shape)
    for index in np.ndindex(point.shape):
        slopes = []
        for h in (1e-3, 5e-4):
            step = np.zeros(point.shape)
            step[index] = h
            slopes.append((function(point + step) - function(point - step)) / (2 * h))
        found[index] = (4 * slopes[1] - slopes[0]) / 3
    return found


# -- whole models ----------------------------------------------------------------------------------


def test_a_network_against_its_closed_form() -> None:
    """Two layers, softmax cross-entropy: the gradients of the textbook."""
    x, t = gx.symbol("x", ("batch", 5)), gx.symbol("t", ("batch", 3))
    w, u = gx.symbol("w", (5, 4)), gx.symbol("u", (4, 3))
    hidden = gx.tanh(x @ w)
    cost = -gx.sum(t * gx.log_softmax(hidden @ u)) / x.shape[0]
    to_w, to_u = gx.grad(cost, [w, u])
    X, W, U = RANDOM.normal(size=(6, 5)), RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(4, 3))
    T = np.eye(3)[RANDOM.integers(0, 3, 6)]
    H = np.tanh(X @ W)
    E = np.exp(H @ U)
    delta = (E / E.sum(1, keepdims=True) - T) / 6
    got_w, got_u = value([to_w, to_u], x=X, t=T, w=W, u=U)
    np.testing.assert_allclose(got_u, H.T @ delta, rtol=1e-12)
    np.testing.assert_allclose(got_w, X.T @ (delta @ U.T * (1 - H * H)), rtol=1e-11)


def test_logsumexp_is_softmax() -> None:
    x = gx.vector("x", 6)
    X = RANDOM.normal(size=6) * 5
    got = value(gx.grad(gx.logsumexp(x), x), x=X)
    np.testing.assert_allclose(got, np.exp(X) / np.exp(X).sum(), rtol=1e-12)


def test_quadratic_form() -> None:
    x, a = gx.vector("x", 4), gx.symbol("a", (4, 4))
    X, A = RANDOM.normal(size=4), RANDOM.normal(size=(4, 4))
    cost = x @ a @ x
    np.testing.assert_allclose(value(gx.grad(cost, x), x=X, a=A), (A + A.T) @ X)
    np.testing.assert_allclose(value(gx.hessian(cost, x), x=X, a=A), A + A.T)
    np.testing.assert_allclose(value(gx.grad(cost, a), x=X, a=A), np.outer(X, X))


@pytest.mark.parametrize("backend", ["interpreter", "llvm-1"])
def test_compiled_gradients_at_several_sizes(backend: str) -> None:
    x, w = gx.symbol("x", ("n", 3)), gx.vector("w", 3)
    cost = gx.mean(gx.softplus(x @ w) ** 2)
    outputs = list(gx.grad(cost, (x, w)))
    for rows in (1, 2, 7):
        arrays = [RANDOM.normal(size=(rows, 3)), RANDOM.normal(size=3)]
        judge = Judge([x, w], outputs, arrays, rewritten=True)
        judge.check(run(backend, Case([x, w], outputs, math="ieee"), arrays), backend)


# -- masks and singular points ---------------------------------------------------------------------

MASKED: dict[str, tuple[Callable[[Node], Node], float]] = {
    "log": (gx.log, 0.0),
    "sqrt": (gx.sqrt, 0.0),
    "reciprocal": (lambda x: 1.0 / x, 0.0),
    "power": (lambda x: x**0.5, 0.0),
    "power of it": (lambda x: 0.5 * x**-1.5, 0.0),
    "log1p": (gx.log1p, -1.0),
    "log of log": (lambda x: gx.log(gx.log(x)), 1.0),
    "norm": (lambda x: gx.sqrt(x * x), 0.0),
    "quotient": (lambda x: gx.sin(x) / x, 0.0),
    "entropy": (lambda x: x * gx.log(x), 0.0),
    "product of singular ones": (lambda x: gx.log(x) * gx.sqrt(x) / x, 0.0),
    "overflow": (gx.exp, 1000.0),
    "hidden in a call": (lambda x: gx.call(lambda a: a * gx.log(a), x), 0.0),
    "hidden in a scan": (lambda x: gx.scan(lambda s, _: (s * gx.log(x), s), x, length=2)[0], 0.0),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_branch_not_taken_contributes_zero(name: str, order: int) -> None:
    """where(x == bad, x * x, f(x)): at the bad point every derivative is that of x * x, however
    singular f is.
    """
    function, bad = MASKED[name]
    x = gx.scalar("x")
    taken = [(x * x), 2 * x, gx.constant(2.0), gx.constant(0.0)]
    y = gx.where(gx.equal(x, bad), x * x, function(x))
    for _ in range(order):
        y = gx.grad(y, x)
    got = value(y, x=bad)
    want = value(taken[order], x=bad)
    assert got == want, f"derivative {order} of the masked {name} at {bad} is {got}"


def test_forward_mode_masks_as_well() -> None:
    x = gx.scalar("x")
    y = gx.where(x > 0, gx.sqrt(x), 0.0)
    assert value(gx.jvp(y, x, gx.constant(1.0)), x=0.0) == 0
    assert value(gx.hvp(y, x, gx.constant(1.0)), x=0.0) == 0


def test_strong_zero_survives_compilation() -> None:
    x = gx.vector("x", 4)
    y = gx.sum(gx.where(x > 0, gx.log(x) + gx.sqrt(x), x))
    outputs = [gx.grad(y, x), gx.grad(gx.sum(gx.grad(y, x)), x)]
    arrays = [np.array([0.0, -0.0, -1.0, 2.0])]
    judge = Judge([x], outputs, arrays, rewritten=True)
    for math in (None, "ieee", "real"):
        got = run("llvm-1", Case([x], outputs, math=math), arrays)
        assert all(np.all(np.isfinite(g)) for g in got)
        judge.check(got, f"math={math}")


# -- kinks -----------------------------------------------------------------------------------------


def test_ties_share() -> None:
    x, y = gx.vector("x", 4), gx.vector("y", 4)
    X, Y = np.array([1.0, 2.0, 3.0, -1.0]), np.array([1.0, 1.0, 4.0, -1.0])
    to_x, to_y = value(list(gx.grad(gx.sum(gx.maximum(x, y)), (x, y))), x=X, y=Y)
    np.testing.assert_array_equal(to_x, [0.5, 1, 0, 0.5])
    np.testing.assert_array_equal(to_y, [0.5, 0, 1, 0.5])
    got = value(gx.grad(gx.max(x), x), x=np.array([3.0, 1.0, 3.0, 3.0]))
    np.testing.assert_allclose(got, [1 / 3, 0, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("function", "at", "want"), [(gx.absolute, 0.0, 0.0), (gx.relu, 0.0, 0.0), (gx.sign, 0.0, 0.0)]
)
def test_stated_values_at_kinks(function: Any, at: float, want: float) -> None:
    x = gx.scalar("x")
    assert value(gx.grad(function(x), x), x=at) == want


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_products_with_zeros(zeros: int) -> None:
    x = gx.vector("x", 4)
    X = np.array([2.0, -3.0, 0.5, 4.0])
    X[:zeros] = 0
    want = [np.prod(np.delete(X, i)) for i in range(4)]
    np.testing.assert_allclose(value(gx.grad(gx.prod(x), x), x=X), want)


# -- structure -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


def test_gradients_have_the_structure_of_their_inputs() -> None:
    a, b, c, d = (gx.scalar(name) for name in "abcd")
    tree = {"p": [a, (b, None)], "q": Pair(c, {"r": d})}
    found = gx.grad(a * b + c * c, tree, unused="zero")
    assert isinstance(found["q"], Pair) and found["p"][1][1] is None
    got = value(
        [found["p"][0], found["p"][1][0], found["q"].first, found["q"].second["r"]],
        a=2.0,
        b=3.0,
        c=5.0,
    )
    assert [float(g) for g in got] == [3, 2, 10, 0]


def test_gradient_by_an_inner_node() -> None:
    """The chain is cut at the node: what lies beneath it counts as independent."""
    x = gx.scalar("x")
    y = gx.exp(x)
    assert value(gx.grad(y * y + x, y), x=1.0) == pytest.approx(2 * np.e)
    assert value(gx.grad(y * y + x, [x, y])[0], x=1.0) == 1.0


def test_no_influence_is_zero_of_the_right_type() -> None:
    x, z = gx.scalar("x"), gx.symbol("z", ("n", 2), "float32")
    zero = gx.grad(x * x, z, unused="zero")
    assert zero.type is z.type
    unseen = gx.grad(gx.sum(gx.cast(gx.argmax(z, axis=1), "float64")), z)
    np.testing.assert_array_equal(
        gx.evaluate(unseen, {z: np.ones((3, 2), "float32")}), np.zeros((3, 2))
    )


def test_value_and_grad_and_stop_gradient() -> None:
    x = gx.scalar("x")
    cost, slope = gx.value_and_grad(x * gx.stop_gradient(x) * x, x)
    assert [float(v) for v in value([cost, slope], x=3.0)] == [27.0, 18.0]


def test_gradients_through_casts_keep_the_dtype_of_the_input() -> None:
    x = gx.vector("x", 3, "float32")
    slope = gx.grad(gx.sum(gx.cast(x, "float64") ** 3), x)
    assert slope.dtype == np.float32
    X = np.array([1.0, 2.0, 3.0], "float32")
    np.testing.assert_allclose(value(slope, x=X), 3 * X**2)


def test_an_op_without_derivative_says_why_and_where() -> None:
    from graphc.op import Op, no_derivative
    from graphc.ops.arithmetic import negative_op

    rounded = Op(
        "rounded", negative_op.infer, np.round, negative_op.lowering, no_derivative("it jumps")
    )
    x = gx.scalar("x")
    with pytest.raises(gx.GraphError, match=r"it jumps[\s\S]*test_gradients.py"):
        gx.grad(rounded(x) * x, x)
    assert value(gx.grad(gx.stop_gradient(rounded(x)) * x, x), x=2.6) == 3.0


@pytest.mark.parametrize(
    "call",
    [
        lambda x, k: gx.grad(x, x),
        lambda x, k: gx.grad(gx.sum(x), k),
        lambda x, k: gx.grad(gx.sum(k), x),
        lambda x, k: gx.grad(gx.sum(x), 2.0),
        lambda x, k: gx.vjp([x], [x], [x, x]),
        lambda x, k: gx.vjp(x, x, gx.zeros((5,))),
        lambda x, k: gx.jvp(x, [x], x),
        lambda x, k: gx.jacobian(x, x, mode="sideways"),
    ],
)
def test_errors(call: Callable[[Node, Node], Any]) -> None:
    with pytest.raises(gx.GraphError):
        call(gx.vector("x", 3), gx.symbol("k", (3,), "int64"))


# -- Jacobians and Hessians ------------------------------------------------------------------------


def test_jacobian_modes_agree() -> None:
    x, m = gx.vector("x", 4), gx.symbol("m", (3, 4))
    y = gx.tanh(m @ x) * gx.sum(x)
    X, M = RANDOM.normal(size=4), RANDOM.normal(size=(3, 4))
    for wrt, shape in ((x, (3, 4)), (m, (3, 3, 4))):
        reverse, forward, either = (
            gx.jacobian(y, wrt, mode=mode) for mode in ("reverse", "forward", "auto")
        )
        assert reverse.shape == forward.shape == shape
        first, second, third = value([reverse, forward, either], x=X, m=M)
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(first, third, rtol=1e-12, atol=1e-14)
    T = np.tanh(M @ X)
    want = (1 - T * T)[:, None] * M * X.sum() + T[:, None]
    np.testing.assert_allclose(value(gx.jacobian(y, x), x=X, m=M), want)


def test_hessian() -> None:
    """Symmetric, the Jacobian of the gradient by differences, and what hvp multiplies by."""
    x = gx.symbol("x", (2, 2))
    cost = gx.sum(gx.sin(x) * gx.exp(gx.sum(x, axis=0)) / (1.5 + gx.cos(x)))
    hessian = gx.hessian(cost, x)
    assert hessian.shape == (2, 2, 2, 2)
    X, V = RANDOM.normal(size=(2, 2)) * 0.5, RANDOM.normal(size=(2, 2))
    H = value(hessian, x=X)
    np.testing.assert_allclose(H, H.transpose(2, 3, 0, 1), rtol=1e-11, atol=1e-12)
    product = value(gx.hvp(cost, x, gx.constant(V)), x=X)
    np.testing.assert_allclose(product, np.tensordot(H, V, 2), rtol=1e-11)
    slope = gx.grad(cost, x)
    for i, j in np.ndindex(2, 2):
        column = numeric(lambda p, i=i, j=j: value(slope, x=p)[i, j], X)
        np.testing.assert_allclose(H[i, j], column, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "function", [gx.tanh, gx.exp, gx.sigmoid, gx.log, gx.sin, lambda x: x**3.5, gx.erf]
)
def test_fourth_derivative(function: Any) -> None:
    """Reverse mode of itself, four times, against differences of the third."""
    x = gx.scalar("x")
    orders = [function(x)]
    for _ in range(4):
        orders.append(gx.grad(orders[-1], x))
    want = numeric(lambda p: float(value(orders[3], x=p)), 0.7)
    assert value(orders[4], x=0.7) == pytest.approx(float(want), rel=1e-6)


def test_modes_of_modes_agree() -> None:
    x = gx.vector("x", 3)
    cost = gx.sum(gx.exp(x) * gx.sin(gx.sum(x)))
    V = gx.constant(RANDOM.normal(size=3))
    forward_over_reverse = gx.jvp(gx.grad(cost, x), x, V)
    reverse_over_forward = gx.grad(gx.jvp(cost, x, V), x)
    reverse_over_reverse = gx.grad(gx.sum(gx.grad(cost, x) * V), x)
    X = RANDOM.normal(size=3)
    first, second, third = value(
        [forward_over_reverse, reverse_over_forward, reverse_over_reverse], x=X
    )
    np.testing.assert_allclose(first, second, rtol=1e-12)
    np.testing.assert_allclose(first, third, rtol=1e-12)


# -- regions ---------------------------------------------------------------------------------------


def unrolled(step: Any, init: Any, xs: Node, reverse: bool) -> Any:
    """What scan means, as a flat graph."""
    rows: list[Any] = [None] * len(xs)
    state = init
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        state, rows[t] = step(state, xs[t])
    return state, gx.stack(rows)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_scan_is_its_unrolled_twin(reverse: bool, order: int) -> None:
    init, xs, w = gx.vector("init", 3), gx.symbol("xs", (4, 3)), gx.vector("w", 3)

    def step(state: Any, x: Any) -> Any:
        new = gx.tanh(state * w + x)
        return new, new * x

    found = []
    for final, rows in (
        gx.scan(step, init, xs, reverse=reverse),
        unrolled(step, init, xs, reverse),
    ):
        cost = gx.sum(final**2) + gx.sum(gx.sin(rows))
        slopes = gx.grad(cost, [init, xs, w])
        if order == 2:
            slopes = gx.grad(sum(gx.sum(s * s) for s in slopes), [init, xs, w])
        found.append(slopes)
    arrays = {
        "init": RANDOM.normal(size=3),
        "xs": RANDOM.normal(size=(4, 3)),
        "w": RANDOM.normal(size=3),
    }
    for first, second in zip(*(value(slopes, **arrays) for slopes in found), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-10, atol=1e-12)
    symbols = [init, xs, w]
    judge = Judge(symbols, found[0], list(arrays.values()), rewritten=True)
    judge.check(
        run("llvm-1", Case(symbols, found[0], math="ieee"), list(arrays.values())), "compiled"
    )


def test_scan_with_integer_state_and_unused_parts() -> None:
    """A counter in the state has no derivative; slices that nothing depends on get zeros."""
    xs, unused = gx.vector("xs", 4), gx.vector("unused", 4)

    def step(state: Any, slices: Any) -> Any:
        count, total = state
        x, _ = slices
        return (count + 1, total + x * gx.cast(count, "float64")), total

    (_, total), totals = gx.scan(step, (gx.constant(0), gx.constant(0.0)), (xs, unused))
    to_xs, to_unused = value(
        list(gx.grad(total + 0.0 * gx.sum(totals), [xs, unused])), xs=np.ones(4), unused=np.ones(4)
    )
    np.testing.assert_array_equal(to_xs, [0, 1, 2, 3])
    np.testing.assert_array_equal(to_unused, np.zeros(4))


def test_call_is_its_inlined_twin() -> None:
    x, y = gx.vector("x", 3), gx.vector("y", 3)

    def body(a: Any, b: Any) -> Any:
        return gx.exp(a * b), a / (1 + b * b)

    slopes = []
    for first, second in (gx.call(body, x, y), body(x, y)):
        once = gx.grad(gx.sum(first * second), [x, y])
        slopes.append([*once, *gx.grad(gx.sum(once[0] * once[1]), [x, y])])
    arrays = {"x": RANDOM.normal(size=3), "y": RANDOM.normal(size=3)}
    for one, other in zip(*(value(s, **arrays) for s in slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_calls_of_one_body_share_one_derivative() -> None:
    x = gx.vector("x", 3)
    y = x
    for _ in range(5):
        y = gx.call(lambda a: gx.tanh(a) * 1.5, y, name="layer")
    calls = [n for n in topological([gx.grad(gx.sum(y), x)]) if n.op.name == "call"]
    assert len({n.attrs["graph"] for n in calls}) == 2, "the body and its derivative"


# -- indexing --------------------------------------------------------------------------------------


def test_positions_that_repeat_add_up() -> None:
    x = gx.symbol("x", (4, 2))
    picked = gx.take(x, np.array([1, 1, -1, 0]), axis=0)
    weights = RANDOM.normal(size=(4, 2))
    got = value(gx.grad(gx.sum(picked * weights), x), x=np.zeros((4, 2)))
    want = np.zeros((4, 2))
    np.add.at(want, [1, 1, -1, 0], weights)
    np.testing.assert_allclose(got, want)


def test_overlapping_slices_add_up() -> None:
    x = gx.vector("x", 6)
    cost = gx.sum(x[:-1] * x[1:]) + gx.sum(x[::2] ** 2) + x[-1]
    X = RANDOM.normal(size=6)
    reference = lambda p: np.sum(p[:-1] * p[1:]) + np.sum(p[::2] ** 2) + p[-1]  # noqa: E731
    np.testing.assert_allclose(
        value(gx.grad(cost, x), x=X), numeric(reference, X), rtol=1e-8, atol=1e-9
    )


# -- depth -----------------------------------------------------------------------------------------


def test_a_deep_chain() -> None:
    """Neither building, differentiating nor evaluating recurses."""
    x = gx.scalar("x")
    y = x
    for _ in range(20_000):
        y = gx.sin(y) + x
    assert np.isfinite(value(gx.grad(y, x), x=0.3))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_hessian_by_a_container_has_its_structure_twice(sparse: bool) -> None:
    x, s, m = gx.vector("x", 3), gx.scalar("s"), gx.symbol("m", (2, 3))
    cost = (gx.sin(x) * s**2).sum() + (m @ x).sum() * s + (m * m).sum()
    wrt = {"x": x, "rest": (s, m)}
    given = {x: np.array([0.3, -0.2, 1.1]), s: np.float64(1.5), m: RANDOM.normal(size=(2, 3))}
    found = gx.hessian(cost, wrt, sparse=sparse)
    leaves = {"x": x, "s": s, "m": m}

    def block(first: str, second: str) -> Any:
        row = found["x"] if first == "x" else found["rest"]["sm".index(first)]
        return row["x"] if second == "x" else row["rest"]["sm".index(second)]

    for first, one in leaves.items():
        for second, other in leaves.items():
            got = gx.evaluate(block(first, second), given)
            wanted = gx.evaluate(gx.jacobian(gx.grad(cost, one), other), given)
            shape = (int(one.size), int(other.size))
            got = got.toarray() if sparse else np.reshape(got, shape)
            np.testing.assert_allclose(got, np.reshape(wanted, shape), rtol=1e-13, atol=1e-13)


def test_check_grad() -> None:
    x = gx.vector("x", 3)
    point = {x: np.array([0.3, -0.2, 1.1])}
    assert gx.check_grad(gx.sum(gx.tanh(x) ** 2), x, point)
    wrong = gx.sum(gx.stop_gradient(x) * x)
    found = gx.check_grad(wrong, x, point)
    assert not found and found.worst > 0.1


def chained(angles: Node, base: Node) -> tuple[Node, Node]:
    """Three arms of four joints each: where the joints are, and what all results are made of."""
    turns = gx.reshape(angles, (3, 4))
    reach = gx.cumsum(gx.sin(turns) * gx.exp(0.1 * turns), axis=1)
    return reach, base @ gx.reshape(reach, 12)


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_columns_that_meet_nowhere_share_a_direction(target: str) -> None:
    """Every result depends on every angle, but no joint on those of another arm."""
    angles, base = gx.vector("angles", 12), gx.symbol("base", (20, 12))
    _, y = chained(angles, base)
    tangent, direction = tangent_of(y, angles)
    cut = columns.cheapest_cut(tangent, direction)
    assert cut is not None and cut.coloring.count == 4
    found = gx.jacobian(y, angles)
    A, B = RANDOM.normal(size=12), RANDOM.normal(size=(20, 12))
    slopes = [value(gx.jvp(y, angles, gx.constant(e)), angles=A, base=B) for e in np.eye(12)]
    f = gx.compile([angles, base], found, target=target)
    np.testing.assert_allclose(f(A, B), np.stack(slopes, 1), rtol=1e-13, atol=1e-15)
    backwards = gx.jacobian(y, angles, mode="reverse")
    np.testing.assert_allclose(
        value(backwards, angles=A, base=B), np.stack(slopes, 1), rtol=1e-12, atol=1e-14
    )


def test_a_cut_is_made_only_where_it_pays() -> None:
    x, m = gx.vector("x", 6), gx.symbol("m", (9, 6))
    for y in (gx.tanh(m @ x), gx.sin(x) * gx.sum(x), gx.softmax(x)):
        assert columns.cheapest_cut(*tangent_of(y, x)) is None
    banded = gx.sin(x[1:] * x[:-1])  # the whole Jacobian is sparse: the cut is behind everything
    cut = columns.cheapest_cut(*tangent_of(banded, x))
    assert cut is None or cut.coloring.count == 2


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_large_jacobian_is_made_one_direction_after_the_other(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = gx.vector("x", 5)
    y = gx.sin(x) * gx.sum(x)
    at_once = gx.jacobian(y, x, mode=mode)
    monkeypatch.setattr(columns, "MOST_ELEMENTS", 0)
    in_turn = gx.jacobian(y, x, mode=mode)
    assert at_once is not in_turn
    X = RANDOM.normal(size=5)
    np.testing.assert_allclose(value(at_once, x=X), value(in_turn, x=X), rtol=1e-14)


def test_jacobians_by_names_and_of_what_does_not_vary() -> None:
    n = gx.vector("n", "size")
    X = RANDOM.normal(size=4)
    np.testing.assert_allclose(value(gx.jacobian(n * n, n), n=X), np.diag(2 * X))
    x, z = gx.vector("x", 3), gx.vector("z", 2)
    assert not value(gx.jacobian(z, x, unused="zero"), x=X[:3], z=X[:2]).any()
    empty = gx.jacobian(gx.vector("none", 0) * 1.0, x, unused="zero")
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_subtracted_before_a_product_needs_no_product_of_all_rows(dtype: str) -> None:
    shapes = {"x": ("n", 3), "means": (4, 3), "factors": (4, 3, 2)}
    x, means, factors = (gx.symbol(name, shape, dtype) for name, shape in shapes.items())
    rows = (gx.expand_dims(x, 0) - gx.expand_dims(means, 1)) @ factors
    gradient = gx.grad((rows * gx.sin(rows)).sum(), means)
    products = [n for n in topological([gradient]) if n.op is rows.op and n is not rows]
    assert [node.shape for node in products] == [(4, 3)]
    values = [RANDOM.normal(size=s).astype(dtype) for s in ((7, 3), (4, 3), (4, 3, 2))]
    made = gx.compile([x, means, factors], gradient)(*values)
    points, centres, matrices = map(np.float64, values)
    r = (points[None] - centres[:, None]) @ matrices
    full = -(np.sin(r) + r * np.cos(r)) @ matrices.swapaxes(1, 2)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(made, full.sum(1), rtol=tolerance, atol=tolerance)
