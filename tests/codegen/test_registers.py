"""What lies in registers, and what in memory, where there are few registers?"""

from __future__ import annotations

import re

import numpy as np

import graphc as gx
from graphc.codegen.llvm.kernel import kernel_module
from graphc.codegen.machine import Machine

OPTIONS = gx.Options(threads=1, cache=False)


def texts(given: list[gx.Node], made: gx.Node | list[gx.Node], name: str) -> list[str]:
    """The LLVM text of every kernel, for a named processor."""
    program = gx.compile(given, made, options=OPTIONS)._impl.program  # type: ignore[attr-defined]
    machine = Machine.preset(name)
    return [kernel_module(kernel, machine, "kernel").text for kernel in program.kernels()]


def softmax() -> tuple[list[gx.Node], list[gx.Node]]:
    x, seed = (gx.symbol(name, (4, 100), "float32") for name in ("x", "seed"))
    y = gx.softmax(x, axis=1)
    return [x, seed], [y, *gx.vjp(y, [x], seed)]


def test_conditions_of_a_row_are_compared_in_lanes() -> None:
    """Vectors of bits that cross blocks are bytes, which each use takes apart."""
    given, made = softmax()
    spread = re.compile(r"shufflevector <\d+ x i1>")
    for name, expected in (("avx2", False), ("sse2", False), ("neon", False), ("avx512", True)):
        assert any(spread.search(text) for text in texts(given, made, name)) == expected


def test_a_condition_of_a_row_with_infinities_and_zeros() -> None:
    given, made = softmax()
    compiled = gx.compile(given, made, options=OPTIONS)
    random = np.random.default_rng(4)
    x, seed = (random.normal(size=(4, 100)).astype("f4") for _ in range(2))
    x[1, 3], x[2, :] = np.inf, -np.inf
    seed[0, :], seed[2, :50] = 0.0, 0.0
    values = gx.evaluate(made, dict(zip(given, (x, seed), strict=True)))
    for mine, wanted in zip(compiled(x, seed), values, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
