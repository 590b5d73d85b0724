"""Is what others need of a kernel stored in as few bytes as it can be, and made right from that?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import cuda_host
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda.program import CudaProgram
from graphc.codegen.fuse.cut import minimum_cut
from tests.cuda_emulator import emulator

Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]


# -- the cut ---------------------------------------------------------------------------------------


def network(seed: int) -> tuple[dict[int, list[int]], dict[int, int | None], set[int]]:
    """Up to nine places in a row, each after some of those before it."""
    draw = random.Random(seed)
    count = draw.randint(2, 9)
    before = {
        place: [other for other in range(place) if draw.random() < 0.45] for place in range(count)
    }
    price: dict[int, int | None] = {place: draw.randint(0, 6) for place in before}
    price |= {p: None for p, earlier in before.items() if earlier and draw.random() < 0.3}
    return before, price, set(draw.sample(range(count), draw.randint(1, 2)))


def separates(cut: set[int], before: dict[int, list[int]], goals: set[int]) -> bool:
    """Whether no way leads from a source to a goal around the places of a cut."""
    waiting, seen = list(goals - cut), set(goals)
    while waiting:
        place = waiting.pop()
        if not before[place]:
            return False
        waiting += [other for other in before[place] if other not in seen | cut]
        seen.update(before[place])
    return True


def test_no_cut_is_cheaper() -> None:
    found = 0
    for seed in range(400):
        before, price, goals = network(seed)
        free = [place for place, own in price.items() if own is not None]
        prices = [
            sum(price[place] or 0 for place in chosen)
            for size in range(len(free) + 1)
            for chosen in itertools.combinations(free, size)
            if separates(set(chosen), before, goals)
        ]
        result = minimum_cut(before, price, goals)
        assert result is not None
        cut, behind = result
        assert sum(price[place] or 0 for place in cut) == min(prices)
        assert separates(cut, before, goals)
        assert not cut & behind
        found += bool(behind)
    assert found > 100


def test_of_equal_cuts_it_is_the_one_next_to_the_goals() -> None:
    before: dict[str, list[str]] = {"given": [], "made": ["given"], "wanted": ["made"]}
    assert minimum_cut(before, dict.fromkeys(before, 3), {"wanted"}) == ({"wanted"}, set())


# -- kernels ---------------------------------------------------------------------------------------


def symbol(name: str, *shape: int) -> gx.Node:
    return gx.symbol(name, shape, "float32")


def gelu_layers(rows: int, inner: int, outer: int) -> Graphs:
    """Two layers with what is dear between them, and their gradients."""
    x, w, b = symbol("x", rows, inner), symbol("w", inner, outer), symbol("b", outer)
    v, seed = symbol("v", outer, inner), symbol("seed", rows, inner)
    u = x @ w + b
    y = x + 0.5 * u * (1 + gx.tanh(0.8 * (u + 0.04 * u * u * u))) @ v
    return [x, w, b, v, seed], [y, *gx.vjp(y, [x, w, b, v], seed)]


def group_norm(batch: int, channels: int, side: int) -> Graphs:
    x, gain = symbol("x", batch, channels, side, side), symbol("gain", channels)
    seed = symbol("seed", batch, channels, side, side)
    rows = x.reshape(batch, 4, -1)
    centred = rows - gx.mean(rows, axis=2, keepdims=True)
    variance = gx.mean(centred * centred, axis=2, keepdims=True)
    scaled = (centred / gx.sqrt(variance + 1e-5)).reshape(*x.shape) * gain.reshape(1, -1, 1, 1)
    y = scaled * gx.sigmoid(scaled)
    return [x, gain, seed], [y, *gx.vjp(y, [x, gain], seed)]


def similarity(rows: int, width: int) -> Graphs:
    """Rows of length 1, which a product reads."""
    a, b = symbol("a", rows, width), symbol("b", rows, width)
    one, other = (x / gx.sqrt(gx.sum(x * x, axis=1, keepdims=True)) for x in (a, b))
    return [a, b], [one @ gx.transpose(other)]


def few_classes(rows: int, width: int, classes: int) -> Graphs:
    """A gradient of depth `classes`, which two products read."""
    x, w, v = symbol("x", rows, width), symbol("w", width, width), symbol("v", width, classes)
    cost = gx.mean(gx.logsumexp(gx.relu(x @ w) @ v, axis=1))
    return [x, w, v], [cost, *gx.grad(cost, [x, w, v])]


def norms_of_several(sizes: Sequence[int]) -> Graphs:
    """Sums that need not wait for each other, though what is made of them does."""
    given = [symbol(f"g{i}", size) for i, size in enumerate(sizes)]
    total = sum((gx.sum(g * g) for g in given[1:]), gx.sum(given[0] * given[0]))
    scale = gx.minimum(1.0 / (gx.sqrt(total) + 1e-6), 1.0)
    return given, [g * scale for g in given]


def turned_halves(rows: int, width: int) -> Graphs:
    """Parts of a result, made of a product where they belong."""
    x, w, c = symbol("x", rows, width), symbol("w", width, width), symbol("c", rows, width // 2)
    q = x @ w
    a, b = q[:, : width // 2], q[:, width // 2 :]
    return [x, w, c], [gx.concatenate([a * c - b, a + b * c], axis=1)]


# Of each graph the launches, the MB that are reached, and those of a size that can be emulated.
LARGE: dict[str, tuple[Callable[[], Graphs], int, float]] = {
    "layers with gelu": (lambda: gelu_layers(2048, 256, 1024), 4, 79.2),
    "group norm": (lambda: group_norm(32, 64, 32), 3, 67.2),
    "rows of length 1": (lambda: similarity(1024, 256), 2, 8.5),
    "few classes": (lambda: few_classes(128, 512, 10), 4, 4.81),
    "norms": (lambda: norms_of_several([401408, 512, 262144, 10]), 4, 7.97),
    "turned halves": (lambda: turned_halves(1024, 512), 2, 10.5),
}
SMALL: dict[str, Callable[[], Graphs]] = {
    "layers with gelu": lambda: gelu_layers(70, 12, 72),
    "group norm": lambda: group_norm(5, 8, 11),
    "rows of length 1": lambda: similarity(66, 65),
    "few classes": lambda: few_classes(65, 68, 5),
    "norms": lambda: norms_of_several([70000, 512, 33]),
    "turned halves": lambda: turned_halves(70, 64),
}


def printed(graph: Graphs) -> CudaProgram:
    inputs, outputs = graph
    return gx.emit(list(inputs), list(outputs), target="cuda")


@pytest.mark.parametrize("name", LARGE)
def test_no_more_is_moved_than_has_to_be(name: str) -> None:
    build, launches, megabytes = LARGE[name]
    totals = printed(build()).totals()
    assert totals.launches <= launches
    assert totals.bytes / 1e6 <= megabytes


@emulator.required
@pytest.mark.parametrize("name", SMALL)
def test_what_is_made_anew_is_the_same(name: str) -> None:
    graph = SMALL[name]()
    generator = np.random.default_rng(11)
    arrays: list[Any] = [generator.standard_normal(x.shape).astype("f4") for x in graph[0]]
    wanted = gx.evaluate(list(graph[1]), dict(zip(graph[0], arrays, strict=True)))
    outcome = cuda_host.run_in_every_order(printed(graph), arrays)
    for got, want in zip(outcome.outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-5, atol=5e-5 * np.abs(want).max())
