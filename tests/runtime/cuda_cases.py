"""What is run on a GPU where there is one?  Each kernel template once, against the CPU.

`python -m tests.runtime.cuda_cases` runs the cases, as a program by itself that compute-sanitizer
can watch; `--seconds` times repeated calls. The tests run the same on the stand-in.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc as gx

Case = tuple[list[Any], Any, list[tuple[int, ...]]]


def _elementwise(n: int) -> Case:
    x, y = gx.symbol("x", (n,), "float32"), gx.symbol("y", (n,), "float32")
    return [x, y], [gx.tanh(x) * y, x > y], [(n,), (n,)]


def _rows(n: int) -> Case:
    x, g = gx.symbol("x", (n, 96), "float32"), gx.symbol("g", (n, 96), "float32")
    y = gx.softmax(x, axis=1)
    return [x, g], [y, gx.grad((y * g).sum(), x)], [(n, 96), (n, 96)]


def _sums(n: int) -> Case:
    x = gx.symbol("x", (n, 64), "float32")
    return [x], [x.sum(axis=0), x.sum(axis=1), x.sum(), x.max(axis=0)], [(n, 64)]


def _product(n: int) -> Case:
    a, b = gx.symbol("a", (n, 50), "float32"), gx.symbol("b", (50, 70), "float32")
    return [a, b], [gx.relu(a @ b), a.T @ a], [(n, 50), (50, 70)]


def _half(n: int) -> Case:
    x = gx.symbol("x", (n, 64), "float32")
    h = x.astype("float16")
    return [x], [(h @ h.T).astype("float32"), x.astype("bfloat16").astype("float32")], [(n, 64)]


def _convolution(n: int) -> Case:
    x, w = gx.symbol("x", (2, 3, n, 12), "float32"), gx.symbol("w", (4, 3, 3, 3), "float32")
    return [x, w], [gx.conv(x, w)], [(2, 3, n, 12), (4, 3, 3, 3)]


def _loops(n: int) -> Case:
    x = gx.symbol("x", (6, n), "float32")
    state, _ = gx.scan(lambda s, row: (gx.tanh(s + row), s), x[0], x)
    grown = gx.while_loop(lambda s: s.sum() < 100.0, lambda s: s * s + 2.0, state)
    return [x], [gx.cond(grown.sum() > 3.0, lambda a: a + 1, lambda a: a - 1, grown)], [(6, n)]


def _order(n: int) -> Case:
    x, i = gx.symbol("x", (n,), "float32"), gx.symbol("i", (5,), "int64")
    return [x, i], [gx.sort(x), gx.cumsum(x), gx.take(x, i)], [(n,), (5,)]


CASES: dict[str, Callable[[int], Case]] = {
    "element-wise": _elementwise,
    "rows": _rows,
    "sums": _sums,
    "product": _product,
    "half": _half,
    "convolution": _convolution,
    "loops": _loops,
    "order": _order,
}


def check(name: str, n: int = 33, calls: int = 3) -> None:
    """Run a case a few times, from host memory and in place, and compare it with the CPU."""
    inputs, outputs, shapes = CASES[name](n)
    random = np.random.default_rng(0)
    arrays = [
        random.integers(0, 5, shape) if node.dtype.kind == "i" else random.normal(size=shape)
        for node, shape in zip(inputs, shapes, strict=True)
    ]
    arrays = [a.astype(node.dtype) for a, node in zip(arrays, inputs, strict=True)]
    wanted = gx.compile(inputs, outputs)(*arrays)
    function = gx.compile(inputs, outputs, target="cuda")
    given = [function.to_device(array) for array in arrays]
    for _ in range(calls):
        for results in (function(*arrays), function(*given)):
            for got, want in zip(results, wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=name)


@dataclass(frozen=True)
class Library:
    """One whose arrays lie on the GPU: how an ndarray becomes one of them and a result an ndarray
    again, and a stream of its own, with what makes its calls go there.
    """

    make: Callable[[np.ndarray], Any]
    back: Callable[[Any], np.ndarray]
    stream: Any
    entered: Callable[[], contextlib.AbstractContextManager[Any]]


def exchange(library: Library) -> None:
    """Arrays of a library in and out of traced functions, on its default stream and on another."""

    @gx.jit(target="cuda")
    def step(x: Any, w: Any) -> tuple[Any, Any]:
        y = gx.softmax(x @ w, axis=1)
        return y, w - 0.5 * gx.grad((y * y).sum(), w)

    random = np.random.default_rng(2)
    x, w = random.normal(size=(33, 20)).astype("f4"), random.normal(size=(20, 9)).astype("f4")
    wanted = gx.jit(step.__wrapped__)(x, w)
    for _ in range(3):
        given = [library.make(x), library.make(w)]
        turned = [library.make(np.ascontiguousarray(x.T)).T, given[1]]
        for arguments in (given, turned):
            for got, want in zip(step(*arguments), wanted, strict=True):
                np.testing.assert_allclose(library.back(got), want, rtol=1e-4, atol=1e-5)
        with library.entered(), gx.cuda_stream(library.stream):
            results = step(library.make(x), library.make(w))
            for got, want in zip(results, wanted, strict=True):
                np.testing.assert_allclose(library.back(got), want, rtol=1e-4, atol=1e-5)


def seconds(name: str, n: int, calls: int = 50) -> float:
    """The least seconds of a call on arrays in place, of a few rounds of repeated calls."""
    inputs, outputs, shapes = CASES[name](n)
    arrays = [np.ones(shape, node.dtype) for node, shape in zip(inputs, shapes, strict=True)]
    function = gx.compile(inputs, outputs, target="cuda")
    arrays = [function.to_device(array) for array in arrays]
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            function(*arrays)
        function.synchronize()
        rounds.append((time.perf_counter() - start) / calls)
    return min(rounds)


def main(arguments: Sequence[str], n: int = 1024, calls: int = 50) -> None:
    for name in CASES:
        check(name)
        text = "right"
        if "--seconds" in arguments:
            text = f"{seconds(name, n, calls) * 1e6:9.1f} microseconds"
        print(f"{name:<14}{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
