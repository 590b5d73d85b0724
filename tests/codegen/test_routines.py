"""Does a procedure give the same bits when it is called as when it is copied into a kernel?"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import graphc as gx
from graphc.codegen import exact
from graphc.codegen.emit import writer
from graphc.codegen.lanes import choose_lanes
from graphc.codegen.loops import KernelError, verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.machine import Machine
from graphc.codegen.routines import joined, routine
from graphc.codegen.scalar import For, Routine, Scope, Value, walk
from graphc.codegen.vecmath import procedures as vecmath
from graphc.graph import close
from graphc.options import Options
from tests.backends import BATCHED, Case, backends, check_exact, run

FRESH = Options(cache=False)


def sums(x: gx.Node, count: int) -> gx.Node:
    """More procedures than a kernel takes copies of, one with a branch that is rarely needed."""
    terms = [gx.sin(x * float(i)) + gx.tanh(x - i) + gx.power(abs(x), x) for i in range(count)]
    return functools.reduce(gx.add, terms)


def calls(x: gx.Node, made: gx.Node) -> list[Value]:
    graph, _ = close([x], [made])
    return [
        s
        for kernel in lower(expand(graph)).kernels()
        for s in walk(kernel.body)
        if isinstance(s, Value) and s.opcode == "call"
    ]


def test_small_kernels_hold_copies_and_large_ones_call() -> None:
    x = gx.vector("x", 100)
    assert not calls(x, gx.sin(x) + gx.exp(x))
    names = {value.immediate.name for value in calls(x, sums(x, 3))}
    assert names == {"sin_float64", "tanh_float64", "pow_float64_float64"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_kernel_holds_once_what_functions_of_one_argument_share(dtype: str) -> None:
    """gelu and its derivative cost little more than gelu alone, and are copied for that."""

    def divisions(made: list[gx.Node]) -> list[Value]:
        graph, _ = close([x], made)
        (kernel,) = lower(expand(graph)).kernels()
        found = [s for s in walk(kernel.body) if isinstance(s, Value)]
        assert not any(s.opcode == "call" for s in found)
        return [s for s in found if s.opcode == "div"]

    x = gx.symbol("x", (100,), dtype)
    y = gx.gelu(x)
    (slope,) = gx.vjp(y, [x], gx.ones(100, dtype))
    assert len(divisions([y])) == len(divisions([y, slope])) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sign", [1, -1])
def test_softplus_and_its_derivative_share_the_exponential(dtype: str, sign: int) -> None:
    """By the exponent fields that they shift into place: one power of two. That log(sigmoid(x)) is
    of -x makes no difference.
    """

    def powers(made: list[gx.Node]) -> int:
        graph, _ = close([x], made)
        (kernel,) = lower(expand(graph)).kernels()
        return sum(isinstance(s, Value) and s.opcode == "shl" for s in walk(kernel.body))

    x = gx.symbol("x", (100,), dtype)
    for y in (gx.softplus(x * sign), gx.log_sigmoid(x * sign)):
        (slope,) = gx.vjp(y, [x], gx.ones(100, dtype))
        assert powers([y]) == powers([slope]) == powers([y, slope]) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_procedures_that_share_much_are_joined(dtype: str) -> None:
    def made(name: str) -> Routine:
        found = routine(name, (dtype,))
        assert found is not None
        return found

    for pair in (("softplus", "sigmoid_tail"), ("sinh", "cosh"), ("gelu", "normal_density")):
        for first, second in (pair, pair[::-1]):
            both = joined(made(first), made(second))
            assert both is not None and both.also is not None
            separate = len(made(first).body.statements) + len(made(second).body.statements)
            assert len(both.body.statements) <= 0.75 * separate
    if dtype == "float64":  # in float32 each by itself is cheaper
        assert joined(made("silu"), made("sigmoid_tail")) is not None
    assert joined(made("sin"), made("cos")) is not None
    assert joined(made("cos"), made("sin")) is None  # they are, in their order
    assert joined(made("tanh"), made("sin")) is None
    other = routine("cosh", ("float32" if dtype == "float64" else "float64",))
    assert other is not None and joined(made("sinh"), other) is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("shape", [(), (3,), (1000,), (7, 33)])
def test_calls_give_the_bits_of_copies(
    monkeypatch: pytest.MonkeyPatch, dtype: str, shape: tuple[int, ...]
) -> None:
    x = gx.symbol("x", shape, dtype)
    y = sums(x, 2)
    rng = np.random.default_rng(0)
    given = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(dtype)
    assert calls(x, y)
    called = [gx.compile([x], y, options=FRESH, target=t)(given) for t in ("cpu", "interpret")]
    monkeypatch.setattr(writer, "MOST_COPIED", 10**6)
    assert not calls(x, y)
    copied = gx.compile([x], y, options=FRESH)(given)
    for made in called:
        np.testing.assert_array_equal(made, copied)


@pytest.mark.parametrize("backend", [name for name in backends() if name in BATCHED])
def test_calls_in_other_languages(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(Machine, "has_tables", False)  # no GPU has them
    x, m = gx.vector("x", 40), gx.matrix("m", (5, 7), "float32")
    rows = sums(m, 2).max(axis=1, keepdims=True)
    case = Case([x, m], [sums(x, 3), rows * gx.sin(m * 1e5)])
    rng = np.random.default_rng(1)
    given = [rng.normal(size=40) * 1e3, rng.normal(size=(5, 7)).astype(np.float32)]
    wanted = run("interpreter", case, given)
    for got, want in zip(run(backend, case, given), wanted, strict=True):
        check_exact(got, want, backend, either_zero=True)


def test_a_kernel_with_calls_is_verified() -> None:
    x = gx.vector("x", 10)
    graph, _ = close([x], [sums(x, 2)])
    (kernel,) = lower(expand(graph)).kernels()
    verify(kernel)
    called = next(s for s in walk(kernel.body) if isinstance(s, Value) and s.opcode == "call")
    assert called.immediate.name in kernel.text()
    called.dtype = "float32"
    with pytest.raises(KernelError, match="gives float64"):
        verify(kernel)


def test_what_is_never_called() -> None:
    assert routine("sin", ("float16",)) is None
    assert routine("frexp", ("float64",)) is None  # two results
    for name in ("sin", "gamma", "erf"):
        assert name in vecmath.PROCEDURES
        assert routine(name, ("float32",)) is routine(name, ("float32",))
    assert "frexp" in exact.PROCEDURES


def test_a_loop_that_calls_takes_vectors_by_the_length_of_its_routines() -> None:
    def lanes(name: str, count: int) -> int:
        top = Scope(calls_routines=True)
        with top.loop("vector", 0, 4096) as loop:
            value = loop.body.convert(loop.body.index(gx.dims.Dim.symbol("i1")), "float64")
            for _ in range(count):
                value = loop.body.call(name, value)
        (nest,) = (s for s in top.statements if isinstance(s, For))
        return choose_lanes(nest, 64)

    assert [lanes("sin", count) for count in (1, 100, 500)] == [32, 32, 8]
    assert lanes("gamma", 1) == 8
