"""Does rewriting keep types and values on graphs that nobody thought of?

Hypothesis draws programs over a pool of nodes. With exact rules alone every bit must stay, on the
values at which identities fail; with all admitted rules, values to within rounding. The facts that
exact rules rely on are checked on every node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewrite_values import fill, same_bits, symbols_of, values_of

import graphc as gx
from graphc import dtypes
from graphc.node import Node, topological
from graphc.rewrite import RULES, rewrite
from graphc.rewrite.facts import FactTable
from graphc.types import TensorType

BEYOND_IEEE = frozenset(rule.name for rule in RULES.values() if rule.law != "ieee")
MATH = ("ieee", "real", "fast")
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning:graphc")


def leaves() -> list[Node]:
    return [
        gx.symbol("x", (3, 4)),
        gx.symbol("y", (3, 4)),
        gx.symbol("u", (4,)),
        gx.symbol("s", ()),
        gx.symbol("a", (3, 4), "float32"),
        gx.symbol("w", (3, 4), facts=("nonnegative",)),
        gx.symbol("z", (3, 4), facts=("positive", "finite")),
        gx.symbol("i", (3, 4), "int64"),
        gx.symbol("j", (3, 4), "uint8"),
        gx.symbol("k", (3, 4), "int16"),
        gx.symbol("l", (4,), "uint64"),
        gx.symbol("p", (3, 4), "bool"),
    ]


def with_halves() -> list[Node]:
    """Also 16-bit floats, for exact rules: others move results by the width of their rounding."""
    return [*leaves(), gx.symbol("h", (3, 4), "float16"), gx.symbol("g", (4,), "bfloat16")]


LITERALS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, float("inf"))
ANY = "biuf"
Step = tuple[int, str, Callable[..., Node]]
# How many arguments, of which dtype kinds, and what to do with them.
STEPS: dict[str, Step] = {
    "neg": (1, "iuf", lambda v: -v),
    "abs": (1, "iuf", lambda v: abs(v)),
    "sign": (1, "iuf", gx.sign),
    "square": (1, "iuf", gx.square),
    "relu": (1, "iuf", gx.relu),
    "sqrt": (1, "f", gx.sqrt),
    "not": (1, "b", lambda v: ~v),
    "where": (2, "f", lambda v, w: gx.where(v < w, v, w)),
    "mask": (1, "f", lambda v: gx.strong_multiply(v, gx.where(v > 0, 1.0, 0.0))),
    "choose": (1, "f", lambda v: gx.where(~(v > 0), v, gx.where(v > 0, -v, 0.0))),
    "plus_two": (1, "iuf", lambda v: v + 1 + 1),
    "cast_twice": (1, "i", lambda v: gx.cast(gx.cast(v > 0, "float32"), "int64")),
    "add": (2, "iuf", lambda v, w: v + w),
    "sub": (2, "iuf", lambda v, w: v - w),
    "mul": (2, "iuf", lambda v, w: v * w),
    "div": (2, "f", lambda v, w: v / w),
    "strong": (2, "f", gx.strong_multiply),
    "max": (2, "iuf", gx.maximum),
    "min": (2, "iuf", gx.minimum),
    "less": (2, "iuf", lambda v, w: v < w),
    "equal": (2, "iuf", lambda v, w: v == w),
    "and": (2, "b", lambda v, w: v & w),
    "or": (2, "b", lambda v, w: v | w),
    "same": (1, "iuf", lambda v: v - v),
    "twice": (1, "iuf", lambda v: v + v),
    "transpose": (1, ANY, lambda v: gx.transpose(v)),
    "flip": (1, ANY, lambda v: gx.flip(v) if v.ndim else v),
    "flat": (1, ANY, lambda v: gx.reshape(v, (v.size,))),
    "expand": (1, ANY, lambda v: v[None]),
    "head": (1, ANY, lambda v: v[:2] if v.ndim else v),
    "tail": (1, ANY, lambda v: v[1:] if v.ndim and v.shape[0] != 1 else v),
    "pad": (1, "iuf", lambda v: gx.pad(v, [(1, 0)] * v.ndim)),
    "join": (1, ANY, lambda v: gx.concatenate([v[:1], v[1:]]) if v.ndim else v),
    "first": (1, ANY, lambda v: v[0] if v.ndim else v),
    "narrow": (1, "iu", lambda v: gx.cast(v, "int8")),
    "unsigned": (1, "iu", lambda v: gx.cast(v, "uint16")),
    "to_float": (1, ANY, lambda v: gx.cast(v, "float64")),
    "largest": (1, "iuf", lambda v: v.max(axis=0, keepdims=True) if v.ndim else v),
}
REORDERED: dict[str, Step] = {
    "sum": (1, "iuf", lambda v: v.sum(axis=0, keepdims=True) if v.ndim else v),
    "total": (1, "iuf", lambda v: v.sum()),
    "matmul": (2, "f", lambda v, w: v @ gx.transpose(w)),
}
SMOOTH: dict[str, Step] = {
    "tanh": (1, "f", gx.tanh),
    "sigmoid": (1, "f", gx.sigmoid),
    "complement": (1, "f", lambda v: 1 - gx.sigmoid(v)),
    "softplus": (1, "f", lambda v: gx.log(1 + gx.exp(gx.tanh(v)))),
    "power": (1, "f", lambda v: gx.tanh(v) ** 2.0),
    "root": (1, "f", lambda v: gx.sqrt(v * v)),
    "spread": (1, "f", lambda v: v * v.sum(axis=0, keepdims=True) if v.ndim else v),
    "half": (1, "f", lambda v: v * 0.5),
    "softmax": (1, "f", lambda v: gx.softmax(v) if v.ndim else v),
}
TAME = {
    name: STEPS[name] for name in ("neg", "abs", "relu", "add", "sub", "transpose", "flip", "flat")
}


@st.composite
def programs(
    draw: Any,
    steps: dict[str, Step],
    length: int = 14,
    pool_of: Callable[[], list[Node]] = with_halves,
) -> list[Node]:
    """Outputs of a random program: each step takes nodes of the pool, or a literal, and adds one.

    Recent nodes are taken more often than others, so that expressions grow deep.
    """
    pool = pool_of()
    names = sorted(steps)

    def pick(kinds: str) -> Node:
        fitting = [node for node in pool if dtypes.kind(node.dtype) in kinds]
        return draw(st.sampled_from(fitting[-3:] if draw(st.integers(0, 3)) else fitting))

    for _ in range(draw(st.integers(length // 2, length))):
        name = draw(st.sampled_from(names))
        arity, kinds, build = steps[name]
        args: list[Any] = [pick(kinds) for _ in range(arity)]
        if arity == 2 and kinds != "b" and name != "matmul" and draw(st.booleans()):
            args[1] = draw(st.sampled_from(LITERALS if kinds == "f" else LITERALS[:-1]))
            if draw(st.booleans()):
                args.reverse()
        try:
            made = build(*args)
        except gx.GraphError:
            continue
        if isinstance(made.size, int) and made.size <= 96:
            pool.append(made)
    return pool[-3:]


@settings(max_examples=60)
@given(programs({**STEPS, **REORDERED, **SMOOTH}))
def test_types_stay_and_the_result_is_a_fixed_point(outputs: list[Node]) -> None:
    for math in MATH:
        result = rewrite(outputs, math)
        assert [node.type for node in result.outputs] == [node.type for node in outputs]
        assert result.complete
        assert result.refused == []
        again = rewrite(result.outputs, math)
        assert all(a is b for a, b in zip(again.outputs, result.outputs, strict=True))


@settings(max_examples=80)
@given(programs(STEPS), st.integers(0, 2**32 - 1))
def test_exact_rules_keep_every_bit(outputs: list[Node], seed: int) -> None:
    after = rewrite(outputs, exclude=BEYOND_IEEE).outputs
    rng = np.random.default_rng(seed)
    for _ in range(4):
        values = {symbol: fill(symbol, rng, special=True) for symbol in symbols_of(outputs)}
        pairs = zip(values_of(outputs, values), values_of(after, values), strict=True)
        for old, new in pairs:
            assert same_bits(old, new), (old, new)


@settings(max_examples=60)
@given(
    programs({**TAME, **REORDERED, **SMOOTH}, 8, leaves),
    st.integers(0, 2**32 - 1),
    st.sampled_from(MATH),
)
def test_admitted_rules_keep_values_to_within_rounding(
    outputs: list[Node], seed: int, math: str
) -> None:
    after = rewrite(outputs, math).outputs
    rng = np.random.default_rng(seed)
    values = {symbol: fill(symbol, rng, special=False) for symbol in symbols_of(outputs)}
    scale = max([1.0, *map(_largest, values_of(topological(outputs), values))])
    for old, new in zip(values_of(outputs, values), values_of(after, values), strict=True):
        tolerance = scale * (1e-4 if old.dtype == np.float32 else 1e-9)
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=tolerance)


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array.astype("float64")), initial=0))


@settings(max_examples=80)
@given(programs({**STEPS, **REORDERED, **SMOOTH}), st.integers(0, 2**32 - 1))
def test_facts_hold_on_every_node(outputs: list[Node], seed: int) -> None:
    nodes = [node for node in topological(outputs) if isinstance(node.type, TensorType)]
    rng = np.random.default_rng(seed)
    values = {symbol: fill(symbol, rng, special=True) for symbol in symbols_of(outputs)}
    known = FactTable()
    for node, array in zip(nodes, values_of(nodes, values), strict=True):
        _check_facts(node, known(node), array)


def _check_facts(node: Node, facts: frozenset[str], array: np.ndarray) -> None:
    if array.dtype.kind == "b":
        return
    real = array[~np.isnan(array)] if dtypes.is_float(array.dtype) else array
    holds = {
        "nonnegative": lambda: np.all(real >= 0),
        "positive": lambda: np.all(real > 0),
        "unsigned": lambda: not np.any(np.signbit(real.astype("float64"))),
        "finite": lambda: np.all(np.isfinite(array)),
        "integer": lambda: np.all(np.isinf(real) | (np.trunc(real) == real)),
    }
    for fact in facts & holds.keys():
        assert holds[fact](), (fact, node.op.name, array)
