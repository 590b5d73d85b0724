"""Does the work of compiling grow with the size of a graph, and no faster? Counted, not timed."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.fuse import partitioned
from graphc.codegen.lower import expand, lower
from graphc.codegen.memory import MOST_OF_A_SIZE
from graphc.codegen.program import Program
from graphc.codegen.scalar import walk
from graphc.codegen.tactics import CPU
from graphc.dims import Bounds, Dim
from graphc.graph import Graph, close, parameter_op
from graphc.node import topological
from graphc.options import Options

FRESH = Options(cache=False)


def chain(x: gx.Node, length: int) -> gx.Node:
    for _ in range(length):
        x = gx.tanh(x)
    return x


def recurrence(x: gx.Node, length: int) -> gx.Node:
    y = x
    for _ in range(length // 2):
        y = y * 0.999 + x
    return y


def web(x: gx.Node, length: int) -> gx.Node:
    """A graph without any regularity: each node of two among the last few."""
    chance = random.Random(length)
    pool = [x, x * 0.5, x + 1.0]
    for _ in range(length // 2):
        first, second = (pool[-chance.randint(1, min(40, len(pool)))] for _ in range(2))
        operation = chance.choice((gx.add, gx.subtract, gx.maximum))
        pool.append(operation(first, second) * 0.7)
    return sum(pool[-5:], x)


def outputs(x: gx.Node, length: int) -> list[gx.Node]:
    """Thousands of results of cheap code, as the equations of a model have."""
    found = [x]
    for i in range(length // 3):
        found.append(found[i // 2] * 0.9 + x * float(i))
    return found[-length // 6 :]


def after_a_sum(x: gx.Node, length: int) -> gx.Node:
    """Work that depends on a reduction, so that it joins kernels instead of floating."""
    return recurrence(x.sum() if x.shape else x + 1.0, length)


def mixed(x: gx.Node, length: int) -> gx.Node:
    """Floating scalars and vectors that need each other."""
    y, s = x, gx.scalar("s") if not x.shape else x[0]
    for _ in range(length // 6):
        s = gx.sin(s) + y[1] if y.shape else gx.sin(s) + y
        y = y * 0.9 + s
    return y


def closed(x: gx.Node, made: Any) -> Graph:
    graph, captured = close([x], made if isinstance(made, list) else [made])
    assert not captured
    return graph


def leaf(rank: int) -> gx.Node:
    return gx.vector("x", 4) if rank else gx.scalar("x")


def lowered(x: gx.Node, made: Any) -> Program:
    return lower(expand(closed(x, made)))


def statements(program: Program) -> list[int]:
    return [sum(1 for _ in walk(kernel.body)) for kernel in program.kernels()]


def check_values(x: gx.Node, made: Any) -> None:
    compiled = gx.compile([x], made, options=FRESH)
    given = np.linspace(-0.7, 0.8, 4) if x.shape else np.float64(0.3)
    wanted = gx.evaluate(made, {x: given})
    np.testing.assert_allclose(np.array(compiled(given)), np.array(wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("build", [chain, recurrence])
def test_a_regular_chain_is_written_once(build: Callable[..., Any], rank: int) -> None:
    x = leaf(rank)
    long, longer = (lowered(x, build(x, length)) for length in (3_000, 8_000))
    assert len(long.kernels()) == len(longer.kernels()) <= 3
    assert sum(statements(long)) == pytest.approx(sum(statements(longer)), rel=0.5)
    assert len(list(longer.launches())) > len(list(long.launches()))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("build", [chain, recurrence, web, outputs, after_a_sum])
def test_no_kernel_grows_with_the_graph(build: Callable[..., Any], rank: int) -> None:
    x = leaf(rank)
    short, long = (lowered(x, build(x, length)) for length in (3_000, 7_500))
    assert max(statements(long)) <= 1.3 * max(statements(short))
    assert max(statements(long)) < 6 * CPU.most_work
    launches = [len(list(program.launches())) for program in (short, long)]
    assert launches[1] <= 4 * launches[0] + 4
    assert sum(statements(long)) <= 4 * sum(statements(short))


@pytest.mark.parametrize("build", [recurrence, web, outputs, after_a_sum, mixed])
def test_the_steps_of_partitioning_grow_with_the_graph(build: Callable[..., Any]) -> None:
    x = leaf(1)

    def steps(length: int) -> float:
        graph = closed(x, build(x, length))
        order = topological(graph.outputs)
        external = {node for node in order if node.op is parameter_op}
        return partitioned(order, graph.outputs, external).steps / len(order)

    assert steps(12_000) <= 1.5 * steps(3_000) + 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("build", [chain, recurrence, web, outputs, after_a_sum, mixed])
def test_values_of_a_program_in_segments(build: Callable[..., Any], rank: int) -> None:
    x = leaf(rank)
    if build is mixed and not rank:
        pytest.skip("needs a vector")
    check_values(x, build(x, 2_500))


def test_ten_thousand_nodes_run() -> None:
    x = leaf(0)
    check_values(x, recurrence(x, 10_000))


def test_repeated_shifts_are_cut_where_work_would_repeat() -> None:
    x = gx.vector("x", 40)
    y = x
    for _ in range(30):
        y = y * 0.5 + gx.pad(y[1:], ((0, 1),)) * 0.25
    program = lowered(x, y)
    assert max(statements(program)) < 6 * CPU.most_work
    given = np.linspace(-1, 1, 40)
    found = gx.compile([x], y, options=FRESH)(given)
    np.testing.assert_allclose(found, gx.evaluate(y, {x: given}), rtol=1e-12)


@pytest.mark.parametrize("count", [10, 40, 260])
def test_what_is_stored_for_a_gather_is_not_computed_again_by_it(count: int) -> None:
    x, at = gx.vector("x", 5), gx.vector("at", 5, dtype="int64")
    y = x
    for _ in range(count):
        y = gx.take(y, at) * 0.5 + x
    graph, _ = close([x, at], [y])
    program = lower(expand(graph), 1, tactics=CPU)
    assert max(statements(program)) < 200  # a dozen for each gather, 8 gathers in most kernels
    assert sum(statements(program)) < 60 * count
    if count < 100:
        given = np.arange(5.0), np.array([4, 0, 2, 2, -1])
        wanted = given[0]
        for _ in range(count):
            wanted = wanted[given[1]] * 0.5 + given[0]
        f = gx.compile([x, at], y, options=FRESH)
        np.testing.assert_array_equal(f(*given), wanted)


def test_temporaries_of_one_size_take_turns() -> None:
    x = leaf(1)
    short, long = (lowered(x, web(x, length)).main.arena for length in (6_000, 18_000))
    assert isinstance(short, int)
    assert isinstance(long, int)
    assert long <= 1.5 * short


def test_temporaries_alive_together_lie_apart() -> None:
    """More of one size than are placed one by one: they lie in a slab, and none over another."""
    x = gx.vector("x", 8)
    sums = [(x * float(i)).sum() for i in range(MOST_OF_A_SIZE + 20)]
    total: Any = 0.0
    for value in reversed(sums):  # all are made before the first is needed
        total = total * 0.5 + value
    given = np.arange(8.0)
    found = gx.compile([x], total, options=FRESH)(given)
    np.testing.assert_allclose(found, gx.evaluate(total, {x: given}), rtol=1e-12)


def layers(count: int) -> tuple[list[gx.Node], gx.Node]:
    x = gx.matrix("x", (4, 8))
    weights = [gx.matrix(f"w{i}", (8, 8)) for i in range(count)]

    def layer(h: gx.Node, w: gx.Node) -> gx.Node:
        return gx.tanh(h @ w)

    h = x
    for w in weights:
        h = gx.call(layer, h, w)
    return [x, *weights], h


@pytest.mark.parametrize("gradient", [False, True])
def test_fifty_called_layers_are_lowered_as_two(gradient: bool) -> None:
    counts = []
    for count in (2, 50):
        inputs, h = layers(count)
        made = gx.grad((h * h).sum(), inputs[1:]) if gradient else [h]
        compiled = gx.compile(inputs, made, options=FRESH)
        program = compiled.program
        counts.append((len(program.procedures), len(program.kernels()), sum(statements(program))))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_many_parts_are_stored_one_by_one(axis: int, symbolic: bool) -> None:
    chance = np.random.default_rng(0)
    inputs, arrays = [], []
    for i in range(12):
        shape: list[Any] = [3, 3]
        shape[axis] = i % 4
        arrays.append(chance.standard_normal(shape))
        if symbolic:
            shape[axis] = f"n{i}"
        inputs.append(gx.symbol(f"x{i}", tuple(shape)))
    whole = gx.concatenate([gx.sin(a) if i % 2 else a for i, a in enumerate(inputs)], axis)
    made = [whole, whole * 2.0, *gx.grad((whole * whole).sum(), inputs)]
    wanted = gx.evaluate(made, dict(zip(inputs, arrays, strict=True)))
    for target in ("cpu", "interpret"):
        found = gx.compile(inputs, made, target=target, options=FRESH)(*arrays)
        for mine, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-14)


def test_code_for_many_parts_grows_with_their_number() -> None:
    def size(count: int) -> tuple[int, int]:
        inputs = [gx.vector(f"x{i}", f"n{i}") for i in range(count)]
        compiled = gx.compile(inputs, gx.concatenate(inputs), options=FRESH)
        return len(compiled.kernels), sum(map(len, compiled.texts.values()))

    (_, small), (_, large) = size(20), size(60)
    assert large <= 5 * small


def test_proofs_about_sums_take_steps_in_proportion() -> None:
    def steps(count: int) -> int:
        extents: Sequence[Any] = [Dim.symbol(f"n{i}") for i in range(count)]
        total = sum(extents[1:], extents[0])
        position = Dim.symbol("i")
        bounds = Bounds({"i": (0, total - 1)})
        start: Any = 0
        for extent in extents:
            assert bounds.proves_nonnegative(position - start) is (start == 0)
            start = start + extent
            assert bounds.proves_nonnegative(start - 1 - position) is (start == total)
        return bounds.total_steps

    assert steps(100) <= 2.2 * steps(50)


def test_a_sum_is_proved_through_limits_of_limits() -> None:
    n, i, j = map(Dim.symbol, "nij")
    bounds = Bounds({"i": (0, n - 1), "j": (0, i)})
    assert bounds.proves_nonnegative(n - 1 - j)
    assert bounds.proves_nonnegative(2 * n - 2 - i - j)
    assert not bounds.proves_nonnegative(2 * n - 3 - i - j)
    assert not bounds.proves_nonnegative(j - i)


PRINTED = """
import graphc as gx
from graphc.options import Options
from tests.codegen.test_scale import leaf, outputs, web, mixed
import hashlib
for build, rank in ((web, 0), (mixed, 1)):
    x = leaf(rank)
    f = gx.compile([x], build(x, 2400), options=Options(cache=False))
    print(hashlib.sha256(f.llvm_ir.encode()).hexdigest())
"""


def test_a_program_in_segments_is_the_same_text_in_every_process() -> None:
    seen = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINTED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(["", *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1


def test_layers_share_kernels() -> None:
    """Contractions and reductions of equal shape are written once, scratch and all."""
    x, parameters = gx.matrix("x", (6, 5)), []
    h = x
    for i in range(7):
        parameters.append(gx.matrix(f"w{i}", (5, 5)))
        h = gx.softmax(gx.tanh(h @ parameters[-1]) * 3.0, axis=1) + h
    loss = (h * h).mean()
    made = [loss, *gx.grad(loss, parameters)]
    program = gx.compile([x, *parameters], made, options=FRESH).program
    assert len(list(program.launches())) > 2 * len(program.kernels())
    rng = np.random.default_rng(0)
    given = {node: rng.normal(size=node.shape) for node in (x, *parameters)}
    for target in ("cpu", "interpret"):
        compiled = gx.compile([x, *parameters], made, options=FRESH, target=target)
        for got, want in zip(compiled(*given.values()), gx.evaluate(made, given), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_numbers_are_made_where_they_belong_in_an_array() -> None:
    """Scalar code that ends in an array: no kernel for each number, and no copies of them."""
    x = gx.vector("x", 3)
    numbers = [gx.sin(x[i % 3]) * float(i) + gx.exp(x[(i + 1) % 3]) * x[i % 2] for i in range(30)]
    numbers += [numbers[3], x[0], gx.constant(2.5), x.sum()]
    made = [gx.stack(numbers), gx.stack([*numbers[::-1], numbers[0]]).reshape(5, 7), numbers[3]]
    program = gx.compile([x], made, options=FRESH).program
    assert len(list(program.launches())) <= 9
    given = np.linspace(0.1, 0.7, 3)
    for target in ("cpu", "interpret"):
        got = gx.compile([x], made, options=FRESH, target=target)(given)
        for each, want in zip(got, gx.evaluate(made, {x: given}), strict=True):
            np.testing.assert_allclose(each, want, rtol=1e-14)


def test_parts_made_in_place_stay_where_an_argument_is_donated() -> None:
    x, w = gx.vector("x", 12), gx.matrix("w", (4, 12))
    pieces = [(w @ (x * float(i)))[:2] for i in range(5)] + [x[:2] * 2.0] * 5
    made = gx.concatenate(pieces)[:12] + x[::-1]
    joined = gx.concatenate([(w @ (x + float(i)))[:1] for i in range(12)])
    for outputs in (made, joined):
        f = gx.compile([x, w], outputs, donate={x: 0}, options=FRESH)
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=12), rng.normal(size=(4, 12))
        want = gx.evaluate(outputs, {x: a, w: b})
        np.testing.assert_allclose(f(a.copy(), b), want, rtol=1e-12)
