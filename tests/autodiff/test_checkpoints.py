"""Does a checkpoint keep the values and the derivatives, and spare the memory that it promises?

Memory is the arena of the compiled program: what fusion and the plan leave of the intermediate
values, so a recomputation that something had merged with the first one would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx

OPTIONS = gx.Options(cache=False)
ROWS, WIDTH, LAYERS = 64, 32, 16
ONE = ROWS * WIDTH * 8  # bytes of the values between two layers

X = gx.matrix("x", (ROWS, WIDTH))
WEIGHTS = [gx.matrix(f"w{i}", (WIDTH, WIDTH)) for i in range(LAYERS)]


def layers(h: Any, weights: Sequence[Any]) -> Any:
    for weight in weights:
        h = gx.tanh(h @ weight) + h
    return h


def cost_in_parts(size: int) -> Any:
    part, h = gx.checkpoint(layers), X
    for i in range(0, LAYERS, size):
        h = part(h, WEIGHTS[i : i + size])
    return (h * h).mean()


def arrays_of(nodes: Sequence[Any], seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return [random.uniform(-0.5, 0.5, node.shape).astype(node.dtype) for node in nodes]


def arena(inputs: Any, outputs: Any) -> int:
    return int(gx.compile(inputs, outputs, options=OPTIONS).report().arena_bytes)


# -- calls -----------------------------------------------------------------------------------------


def test_a_chain_of_layers_keeps_its_parts_only() -> None:
    plain = (layers(X, WEIGHTS) ** 2).mean()
    inputs = [X, WEIGHTS]
    whole = arena(inputs, gx.grad(plain, WEIGHTS))
    parts = arena(inputs, gx.grad(cost_in_parts(4), WEIGHTS))
    assert whole >= 2 * LAYERS * ONE
    # the boundaries of four parts, and within one of them what its layers need
    assert parts <= (4 + 3 * 4 + 4) * ONE and parts < 0.7 * whole


def test_values_and_gradients_are_those_of_the_function() -> None:
    arrays = arrays_of([X, *WEIGHTS])
    given = dict(zip([X, *WEIGHTS], arrays, strict=True))
    plain, marked = (layers(X, WEIGHTS) ** 2).mean(), cost_in_parts(4)
    wanted = gx.evaluate([plain, gx.grad(plain, X), gx.grad(plain, WEIGHTS[3])], given)
    outputs = [marked, gx.grad(marked, X), gx.grad(marked, WEIGHTS[3])]
    for got in (
        gx.evaluate(outputs, given),
        gx.compile([X, *WEIGHTS], outputs, options=OPTIONS)(*arrays),
    ):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_checkpoints_within_checkpoints() -> None:
    inner = gx.checkpoint(layers)

    @gx.checkpoint
    def outer(h: Any, weights: Sequence[Any]) -> Any:
        return inner(inner(h, weights[:4]), weights[4:])

    cost = (outer(outer(X, WEIGHTS[:8]), WEIGHTS[8:]) ** 2).mean()
    plain = (layers(X, WEIGHTS) ** 2).mean()
    nested = arena([X, WEIGHTS], gx.grad(cost, WEIGHTS))
    assert nested < 0.6 * arena([X, WEIGHTS], gx.grad(plain, WEIGHTS))
    given = dict(zip([X, *WEIGHTS], arrays_of([X, *WEIGHTS]), strict=True))
    a, b = gx.evaluate([gx.grad(cost, WEIGHTS[0]), gx.grad(plain, WEIGHTS[0])], given)
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_arguments_and_results_are_containers() -> None:
    @gx.checkpoint
    def layer(p: dict[str, Any], *, scale: float, kind: str) -> Any:
        assert kind == "tanh" and isinstance(scale, float)
        return {"h": gx.tanh(p["w"] * p["x"][0]) * scale, "none": None}

    x, w = gx.vector("x", 3, "float32"), gx.vector("w", 3, "float32")
    found = layer({"w": w, "x": [x, None]}, scale=2.0, kind="tanh")
    assert found["none"] is None and found["h"].dtype == np.float32
    assert layer.__name__ == "layer"
    a, b = arrays_of([x, w])
    gradient = gx.evaluate(gx.grad(found["h"].sum(), w), {x: a, w: b})
    np.testing.assert_allclose(gradient, 2 * a / np.cosh(a * b) ** 2, rtol=1e-5)


def test_what_a_function_takes_from_outside_is_computed_again() -> None:
    """Nothing is passed, so everything would be lifted out if only arguments were looked at."""
    s = gx.vector("s", 10)
    outside = s * 2

    def waves() -> Any:
        return gx.cumsum(gx.sin(gx.cumsum(gx.sin(outside))))

    (called,) = gx.checkpoint(waves)().args
    assert called.op.name == "call" and len(called.args) == 1 and called.args[0] is outside
    values = np.linspace(0, 1, 10)
    a, b = gx.evaluate([gx.grad(f().sum(), s) for f in (gx.checkpoint(waves), waves)], {s: values})
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_every_mode_and_order() -> None:
    x = gx.vector("x", 3)

    def f(v: Any) -> Any:
        return (gx.exp(gx.sin(v) * v) * v[::-1]).sum()

    marked = gx.checkpoint(f)(x)
    plain = f(x)
    direction = np.array([1.0, -2.0, 0.5])
    point = {x: np.array([0.3, -0.7, 1.1])}
    for make in (
        lambda y: gx.jvp(y, x, direction),
        lambda y: gx.hvp(y, x, direction),
        lambda y: gx.hessian(y, x),
        lambda y: gx.grad(gx.hvp(y, x, direction).sum(), x),
    ):
        a, b = gx.evaluate([make(marked), make(plain)], point)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    rows = gx.matrix("rows", (4, 3))
    given = {rows: np.linspace(-1, 1, 12).reshape(4, 3)}
    a, b = (
        gx.evaluate(gx.vmap(lambda v, h=h: gx.grad(h(v), v))(rows), given)
        for h in (gx.checkpoint(f), f)
    )
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_what_is_discrete_passes_through() -> None:
    k, x = gx.vector("k", 3, "int64"), gx.vector("x", 3)
    where, y = gx.checkpoint(lambda i, v: (i + 1, v * v * i))(k, x)
    (gradient,) = gx.compile([k, x], [gx.grad((y * where).sum(), x)], options=OPTIONS)(
        np.array([1, 2, 3]), np.ones(3)
    )
    np.testing.assert_array_equal(gradient, [4, 12, 24])


# -- loops -----------------------------------------------------------------------------------------

STEPS = gx.matrix("steps", ("n", 3))
STATE = gx.vector("state", 3)
FACTOR = gx.scalar("factor")


def running(checkpoint: Any, reverse: bool = False, steps: Any = STEPS) -> list[Any]:
    def step(state: Any, row: Any) -> tuple[Any, Any]:
        new = gx.tanh(state * FACTOR + row) + state[::-1]
        return new, new * row

    final, rows = gx.scan(step, STATE, steps, reverse=reverse, checkpoint=checkpoint)
    cost = (rows**2).sum() + final.sum()
    return [final, rows, *gx.grad(cost, [STATE, FACTOR, steps]), gx.hvp(cost, STATE, STATE)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", [1, 3, (6, 2), (5, 3, 1)])
def test_a_loop_in_stretches(checkpoint: Any, reverse: bool) -> None:
    """Lengths that the stretches fill, lengths that they do not, none, and fewer than one."""
    inputs = [STEPS, STATE, FACTOR]
    f = gx.compile(inputs, running(checkpoint, reverse), options=OPTIONS)
    wanted = running(False, reverse)
    for length in (12, 13, 2, 0):
        arrays = [*arrays_of([gx.matrix("a", (length, 3)), STATE]), 0.7]
        expected = gx.evaluate(wanted, dict(zip(inputs, arrays, strict=True)))
        for a, b in zip(f(*arrays), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_loop_keeps_as_many_states_as_promised() -> None:
    length, size = 400, 1000
    state, step = gx.vector("s", size), gx.scalar("c")

    def cost(checkpoint: Any) -> Any:
        def body(s: Any, _: Any) -> tuple[Any, None]:
            return gx.sin(s * step) + s, None

        final, _ = gx.scan(body, state, length=length, checkpoint=checkpoint)
        return gx.grad(final.sum(), state)

    whole, root, twice, threefold = (
        arena([state, step], cost(c)) / (8 * size) for c in (False, True, (49, 7), (80, 16, 4))
    )
    assert length <= whole
    slack = 12  # states and cotangents in work
    assert root <= 20 + 20 + slack  # 400 steps are 20 stretches of 20
    assert twice <= 400 // 49 + 49 // 7 + 7 + 400 % 49 + slack
    assert threefold <= 5 + 5 + 4 + 4 + slack


def test_a_length_without_divisors_is_cut_near_its_root() -> None:
    x = gx.vector("x", 101)
    final, rows = gx.scan(lambda s, v: (s * v, s), gx.constant(1.0), x, checkpoint=True)
    values = np.linspace(0.9, 1.1, 101)
    got = gx.evaluate([final, gx.grad(final, x), rows], {x: values})
    product = np.prod(values)
    np.testing.assert_allclose(got[0], product, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got[1], product / values, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got[2], np.cumprod([1, *values[:-1]]), rtol=1e-10, atol=1e-12)


def test_containers_without_steps_of_their_own() -> None:
    """No rows are read; the state is a dict, a part of it counts."""

    def step(s: dict[str, Any], _: Any) -> tuple[Any, Any]:
        return {"k": s["k"] + 1, "x": s["x"] * 1.5}, {"power": s["x"]}

    final, rows = gx.scan(step, {"k": gx.constant(0), "x": FACTOR}, length=7, checkpoint=3)
    got = gx.evaluate([final["k"], rows["power"], gx.grad(final["x"], FACTOR)], {FACTOR: 2.0})
    assert got[0] == 7 and got[2] == 1.5**7
    np.testing.assert_array_equal(got[1], 2 * 1.5 ** np.arange(7))


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [(True, "known length"), (0, "steps"), ((2, 4), "falling"), (2.5, "2.5")],
)
def test_what_is_refused(checkpoint: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        gx.scan(lambda s, x: (s + x, None), STATE, STEPS, checkpoint=checkpoint)


def test_a_checkpoint_marks_a_function_and_nothing_else() -> None:
    with pytest.raises(gx.GraphError, match="checkpoint marks a function, got 3"):
        gx.checkpoint(3)  # type: ignore[arg-type]
