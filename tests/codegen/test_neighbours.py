"""Does a kernel that writes parts of an array write the parts beside them that nobody makes?"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import lower as lowering

FRESH = gx.Options(cache=False, threads=1)


def checked(inputs: list[gx.Node], outputs: Any, **options: Any) -> Any:
    f = gx.compile(inputs, outputs, options=FRESH, **options)
    generator = np.random.default_rng(3)
    arrays = [generator.normal(size=x.shape) for x in inputs]
    wanted = [gx.evaluate(o, dict(zip(inputs, arrays, strict=True))) for o in outputs]
    for got, expected in zip(f(*[a.copy() for a in arrays]), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    return f


def kernels_apart(inputs: list[gx.Node], outputs: Any) -> int:
    """How many kernels there are if none takes along what lies beside its own."""
    with mock.patch.object(lowering, "take_along", lambda *_: None):
        return len(checked(inputs, outputs).kernels)


@pytest.mark.parametrize("shape", [(12,), (3, 4), (70,)])
def test_zeros_ones_and_rows_of_an_input_take_no_kernel(shape: tuple[int, ...]) -> None:
    x = gx.symbol("x", (3, *shape))
    y = gx.exp(x[0]) * x[1]
    outputs = [gx.stack([y, gx.zeros_like(y), x[2], gx.ones_like(y), y * 2.0])]
    assert len(checked([x], outputs).kernels) == 1 < kernels_apart([x], outputs)


def test_rows_of_zeros_go_with_the_rows_beside_them() -> None:
    x = gx.vector("x", 4)
    a, b, c, d = (x[i] for i in range(4))
    made = [a * d]
    for _ in range(23):
        made.append(gx.sin(made[-1] * b) + c)
    zero, one = gx.zeros_like(a), gx.ones_like(a)
    rows = [[*[zero] * i, one, *[zero] * (11 - i)] for i in range(8)] + [made[:12], made[12:]]
    joined = [gx.stack(list(map(gx.stack, rows)))]
    assert len(checked([x], joined).kernels) < kernels_apart([x], joined)


def test_only_parts_of_the_same_size_are_taken_along() -> None:
    x = gx.vector("x", 64)
    y = gx.exp(x)
    for size, kernels in ((64, 1), (40, 2)):
        zeros = gx.zeros(size)
        outputs = [gx.concatenate([y, zeros, y + 1.0, y * 2.0, zeros, y * 3.0])]
        assert len(checked([x], outputs).kernels) == kernels
        assert kernels_apart([x], outputs) == 2


@pytest.mark.parametrize("shape", [(), (16,)])
def test_a_number_that_is_a_result_too_is_not_read_early(shape: tuple[int, ...]) -> None:
    x, unused = gx.symbol("x", (5, *shape)), gx.symbol("w", ())
    y = gx.sum(gx.sin(x[0]) * x[1] + gx.exp(x[3]) * x[4])
    outputs = gx.grad(y, [x, unused], unused="zero")
    f = gx.compile([x, unused], outputs, options=FRESH)
    value, out = np.ones((5, *shape)), [np.full((5, *shape), 7.0), np.full((), 7.0)]
    by_x, by_unused = f(value, 1.0, out=out)
    assert by_unused == 0.0 and np.all(by_x[2] == 0.0)


def test_an_input_that_is_written_over_is_not_read_late() -> None:
    x = gx.symbol("x", (4, 16))
    y = gx.exp(x[0])
    checked([x], [gx.stack([y, x[3], x[0], y * 2.0])], donate={x: 0})


def test_more_parts_than_a_kernel_should_write_are_left_to_others() -> None:
    x = gx.vector("x", 512)
    y = gx.exp(x)
    f = checked([x], [gx.stack([y, *[gx.full((512,), float(k)) for k in range(20)]])])
    assert len(f.kernels) > 1


def numbers(x: gx.Node, count: int) -> list[gx.Node]:
    """So many numbers, each made of two elements of a vector and of the number before."""
    made = [x[0] * x[1]]
    for i in range(1, count):
        made.append(gx.sin(made[-1] + x[i % x.shape[0]]) * x[(i + 1) % x.shape[0]])
    return made


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_numbers_of_one_array_are_stored_in_one_array(target: str) -> None:
    x = gx.vector("x", 5)
    f = checked([x], [gx.stack(numbers(x, 24)), gx.stack(numbers(x * 2.0, 7))], target=target)
    # and not an array for each number
    assert all(len(kernel.buffers) <= 4 for kernel in f.kernels)


@pytest.mark.parametrize("donate", [False, True])
def test_numbers_over_the_array_that_they_are_made_of(donate: bool) -> None:
    """They are stored one by one: none lies over an element that is still to be read."""
    x = gx.vector("x", 6)
    made = numbers(x, 6)
    checked([x], [gx.stack(made[::-1])], donate=[x] if donate else [])


def test_numbers_of_a_state_over_the_state_before() -> None:
    x = gx.vector("x", 4)

    def step(state: gx.Node, _: gx.Node) -> tuple[gx.Node, gx.Node]:
        a, b, c, d = (state[i] for i in range(4))
        return gx.stack([d * 0.5, a + b, gx.sin(c) * a, b - d]), a * d

    last, products = gx.scan(step, x, length=9)
    checked([x], [last, products])
