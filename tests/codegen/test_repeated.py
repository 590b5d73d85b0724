"""Is what is dear stored where views read it at several positions, and is what comes out right?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc as gx
from tests.backends import BATCHED, Case, Judge, backends, compiled, compiled_together

Build = Callable[[gx.Node], list[gx.Node]]


def _neighbours(y: gx.Node) -> gx.Node:
    return sum(gx.roll(y, shift, axis) for shift in (1, -1) for axis in (0, 1))


def _two_halves(x: gx.Node) -> list[gx.Node]:
    """Each step of a lattice reads the neighbours of what the one before it has made."""
    even = gx.exp(-gx.abs(_neighbours(x))) * x
    return [gx.exp(-gx.abs(_neighbours(even))) - even]


def _second_difference(x: gx.Node) -> list[gx.Node]:
    y = gx.tanh(x)
    return [y[2:] - 2 * y[1:-1] + y[:-2], gx.sum(y[:, 1:] * y[:, :-1], axis=1)]


def _windows(x: gx.Node) -> list[gx.Node]:
    y = gx.exp(gx.sin(x))
    return [gx.pad(y, 1)[1:-1, 2:] + gx.pad(y, 1)[1:-1, :-2], gx.pad(y, ((0, 1), (1, 0))) * 2]


BUILDS: dict[str, Build] = {
    "lattice": _two_halves,
    "difference": _second_difference,
    "windows": _windows,
    "turned": lambda x: [gx.exp(x @ gx.ones((6, 6)))[:6] + gx.tanh(x)[:6] + gx.tanh(x)[:6].T],
    "output": lambda x: [gx.tanh(x), gx.tanh(x)[::-1] + gx.tanh(x)[:, ::-1]],
    "chain": lambda x: [_neighbours(gx.exp(gx.tanh(x)) + 1), gx.tanh(x)],
    "gradient": lambda x: [gx.grad(gx.sum(_neighbours(gx.sin(x)) ** 2), x)],
}


def _case(name: str, rows: int) -> Case:
    x = gx.symbol("x", (rows, 6))
    return Case([x], BUILDS[name](x))


def _given(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, 6))


@pytest.mark.parametrize("rows", [6, 7, 301])
@pytest.mark.parametrize("name", BUILDS)
def test_values(name: str, rows: int) -> None:
    case, given = _case(name, rows), [_given(rows)]
    judge = Judge(case.inputs, case.outputs, given)
    for backend in ("interpreter", "llvm-1", "llvm-2"):
        judge.check(compiled(backend, case)(*given), backend)


@pytest.mark.parametrize("backend", [name for name in BATCHED if name in backends()])
def test_other_targets(backend: str) -> None:
    cases = [_case(name, 40) for name in BUILDS]
    functions = compiled_together(backend, cases)
    for name, case, function in zip(BUILDS, cases, functions, strict=True):
        judge = Judge(case.inputs, case.outputs, [_given(40)])
        judge.check(function(_given(40)), f"{name} on {backend}")


def test_named_dimensions() -> None:
    x = gx.symbol("x", ("n", "m"))
    case = Case([x], [_neighbours(gx.tanh(x)), gx.tanh(x)[1:] - gx.tanh(x)[:-1]])
    function = compiled("llvm-2", case)
    for shape in ((1, 1), (3, 2), (40, 33)):
        given = [np.random.default_rng(1).normal(size=shape)]
        Judge(case.inputs, case.outputs, given).check(function(*given), str(shape))


def _kernels(build: Callable[[gx.Node], gx.Node]) -> list[str]:
    x = gx.symbol("x", (500, 500))
    made = gx.compile(x, build(x), options=gx.Options(cache=False))
    return [kernel.title for kernel in made.kernels]


@pytest.mark.parametrize(
    ("build", "stores"),
    [
        (lambda x: _second_difference(x)[0], True),
        (lambda x: gx.exp(x) + gx.exp(x).T, True),
        (lambda x: gx.roll(gx.tanh(x), 1, 0) + 1, False),  # each element once
        (lambda x: (x * 2)[1:] - (x * 2)[:-1], False),  # cheaper than memory
        (lambda x: gx.tanh(x)[:250] * gx.tanh(x)[250:], False),
    ],
    ids=["difference", "plus its transpose", "rolled", "cheap", "halves"],
)
def test_what_is_read_repeatedly_is_stored_if_it_is_dear(
    build: Callable[[gx.Node], gx.Node], stores: bool
) -> None:
    names = _kernels(build)
    assert any(name in ("tanh", "exp") for name in names) == stores, names
