"""Do the layers of networks mean what their formulas say, and can they be differentiated?

Each is compiled and compared with a few lines of NumPy, its gradients with differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from tests.product_rows import reference_conv, reference_conv_transpose

RANDOM = np.random.default_rng(8)
QUICK = gx.Options(cache=False, threads=1)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def array(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape)


def compiled(inputs: list[Any], output: Any, arrays: list[Any]) -> Any:
    return gx.compile(inputs, output, options=QUICK)(*arrays)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_convolution_and_its_transpose(layout: str) -> None:
    first = layout == "NCHW"
    x = gx.symbol("x", (2, 4, 6, 5) if first else (2, 6, 5, 4))
    kinds: dict[str, Any] = {"layout": layout, "groups": 2, "dtype": "float64"}
    layer = nn.Conv.symbols("conv", 4, 6, (3, 2), **kinds)
    back = nn.Conv.transposed_symbols("back", 4, 6, (3, 2), bias=False, **kinds)
    y = nn.conv(layer, x, layout, groups=2, stride=2, padding=1)
    z = nn.conv_transpose(back, x, layout, groups=2, stride=2)
    xa, wa, ba, va = (array(*n.shape) for n in (x, layer.weight, layer.bias, back.weight))
    got, spread = compiled([x, layer, back], [y, z], [xa, nn.Conv(wa, ba), nn.Conv(va, None)])
    want = reference_conv(xa, wa, stride=2, padding=1, groups=2, layout=layout)
    shape = (6, 1, 1) if first else (6,)
    np.testing.assert_allclose(got, want + ba.reshape(shape), **EXACT)
    np.testing.assert_allclose(
        spread, reference_conv_transpose(xa, va, stride=2, groups=2, layout=layout), **EXACT
    )


def test_resizing() -> None:
    x = gx.symbol("x", (2, 3, 4, 5))
    a = array(2, 3, 4, 5)
    near, linear = nn.resize(x, (7, 3)), nn.resize(x, (8, 5), "linear")
    got, smooth = compiled([x], [near, linear], [a])
    rows, columns = np.arange(7) * 4 // 7, np.arange(3) * 5 // 3
    np.testing.assert_array_equal(got, a[:, :, rows][:, :, :, columns])
    at = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    want = np.apply_along_axis(lambda line: np.interp(at, np.arange(4), line), 2, a)
    np.testing.assert_allclose(smooth, want, **EXACT)
    assert gx.check_grad(gx.sum(linear * linear), [x], {x: a})
    with pytest.raises(gx.GraphError, match="2 positive extents"):
        nn.resize(x, (7,))
    with pytest.raises(gx.GraphError, match="'nearest' or 'linear'"):
        nn.resize(x, (7, 7), "cubic")


@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm(axis: int) -> None:
    shape = (4, 3, 5) if axis == 1 else (4, 5, 3)
    x = gx.symbol("x", shape)
    layer = nn.Norm.symbols("norm", 3, "float64")
    running = nn.Statistics.symbols("running", 3, "float64")
    y, new = nn.batch_norm(layer, running, x, axis=axis)
    still, same = nn.batch_norm(layer, running, x, training=False, axis=axis)
    assert same is running
    xa, norm = array(*shape), nn.Norm(array(3), array(3))
    before = nn.Statistics(array(3), np.abs(array(3)))
    got, moved, fixed = compiled([x, layer, running], [y, new, still], [xa, norm, before])
    others = tuple(a for a in range(3) if a != axis % 3)
    mean, variance = xa.mean(others), xa.var(others)

    def along(parameter: np.ndarray) -> np.ndarray:
        return parameter[:, None] if axis == 1 else parameter

    even = (xa - along(mean)) / np.sqrt(along(variance) + 1e-5)
    np.testing.assert_allclose(got, even * along(norm.scale) + along(norm.offset), **EXACT)
    np.testing.assert_allclose(moved.mean, 0.9 * before.mean + 0.1 * mean, **EXACT)
    unbiased = xa.var(others, ddof=1)
    np.testing.assert_allclose(moved.variance, 0.9 * before.variance + 0.1 * unbiased, **EXACT)
    even = (xa - along(before.mean)) / np.sqrt(along(before.variance) + 1e-5)
    np.testing.assert_allclose(fixed, even * along(norm.scale) + along(norm.offset), **EXACT)
    values = {x: xa, layer.scale: norm.scale, layer.offset: norm.offset}
    assert gx.check_grad(gx.sum(y * y * y), [x, layer.scale, layer.offset], values)


def test_other_norms() -> None:
    x = gx.symbol("x", (2, 6, 3, 4))
    channels, last = nn.Norm.symbols("g", 6, "float64"), nn.Norm.symbols("l", (3, 4), "float64")
    scale = gx.symbol("s", (4,))
    outputs = [nn.group_norm(channels, x, 2), nn.layer_norm(last, x), nn.rms_norm(scale, x)]
    xa, g, b = array(2, 6, 3, 4), nn.Norm(array(6), array(6)), nn.Norm(array(3, 4), array(3, 4))
    sa = array(4)
    group, layer, rms = compiled([x, channels, last, scale], outputs, [xa, g, b, sa])

    def even(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return (a - a.mean(axes, keepdims=True)) / np.sqrt(a.var(axes, keepdims=True) + 1e-5)

    apart = even(xa.reshape(2, 2, 3, 3, 4), (2, 3, 4)).reshape(xa.shape)
    want = apart * g.scale[:, None, None] + g.offset[:, None, None]
    np.testing.assert_allclose(group, want, **EXACT)
    np.testing.assert_allclose(layer, even(xa, (2, 3)) * b.scale + b.offset, **EXACT)
    root = np.sqrt((xa * xa).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(rms, xa / root * sa, **EXACT)
    with pytest.raises(gx.GraphError, match="no 4 equal groups"):
        nn.group_norm(channels, x, 4)


def cells(kind: str, seen: np.ndarray, state: Any, layer: nn.Recurrent) -> Any:
    """One step of a cell in NumPy."""
    h = state[0] if kind == "lstm" else state
    held = h @ layer.recurrent + layer.recurrent_bias
    if kind == "rnn":
        return np.tanh(seen + held)
    if kind == "gru":
        (xr, xu, xn), (hr, hu, hn) = np.split(seen, 3, -1), np.split(held, 3, -1)
        update = sigmoid(xu + hu)
        return (1 - update) * np.tanh(xn + sigmoid(xr + hr) * hn) + update * h
    i, f, g, o = np.split(seen + held, 4, -1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_recurrent_layers(kind: str, reverse: bool) -> None:
    steps, batch, inputs, hidden = 4, 2, 3, 5
    xs = gx.symbol("xs", (steps, batch, inputs))
    layer = nn.Recurrent.symbols("cell", kind, inputs, hidden, "float64")
    h, c = gx.symbol("h", (batch, hidden)), gx.symbol("c", (batch, hidden))
    state: Any = (h, c) if kind == "lstm" else h
    final, seen = getattr(nn, kind)(layer, xs, state, reverse=reverse)
    parts = [layer.weight, layer.recurrent, layer.bias, layer.recurrent_bias]
    values = {n: array(*n.shape) / 2 for n in (xs, h, c, *parts)}
    given = nn.Recurrent(*(values[p] for p in parts))
    arrays = [values[xs], values[h], values[c], given]
    last, outputs = compiled([xs, h, c, layer], [final, seen], arrays)
    want: Any = (values[h], values[c]) if kind == "lstm" else values[h]
    for step in range(steps - 1, -1, -1) if reverse else range(steps):
        want = cells(kind, values[xs][step] @ given.weight + given.bias, want, given)
        shown = want[0] if kind == "lstm" else want
        np.testing.assert_allclose(outputs[step], shown, **EXACT)
    np.testing.assert_allclose(last, want, **EXACT)
    assert gx.check_grad(gx.sum(seen * seen), [layer.recurrent, layer.bias, h], values)
    with pytest.raises(gx.GraphError, match="a cell is one of"):
        nn.Recurrent.symbols("cell", "none", 1, 1)


def test_attention() -> None:
    q, k, v = gx.symbol("q", (2, 3, 4)), gx.symbol("k", (2, 5, 4)), gx.symbol("v", (2, 5, 6))
    mask = gx.symbol("mask", (3, 5), "bool")
    outputs = [nn.attention(q, k, v), nn.attention(q, k, v, mask)]
    outputs.append(nn.attention(q, q, q, causal=True))
    qa, ka, va = array(2, 3, 4), array(2, 5, 4), array(2, 5, 6)
    allowed = np.array([[1, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)
    got = compiled([q, k, v, mask], outputs, [qa, ka, va, allowed])

    def attend(a: np.ndarray, b: np.ndarray, c: np.ndarray, may: Any) -> np.ndarray:
        scores = np.where(may, a @ b.swapaxes(1, 2) / 2, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ c

    early = np.tril(np.ones((3, 3), bool))
    wanted = [attend(qa, ka, va, True), attend(qa, ka, va, allowed), attend(qa, qa, qa, early)]
    for have, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(have, want, **EXACT)
    layer = nn.Attention.symbols("attention", 4, "float64")
    both = nn.multi_head_attention(layer, q, 2, causal=True)
    parts = [p for d in vars(layer).values() for p in (d.weight, d.bias)]
    values = {q: qa, **{p: array(*p.shape) for p in parts}}
    dense = (layer.query, layer.key, layer.value)
    whole = [qa @ values[d.weight] + values[d.bias] for d in dense]
    seen = []
    for columns in (slice(0, 2), slice(2, 4)):
        query, key, value = (part[..., columns] for part in whole)
        weights = np.where(early, np.exp(query @ key.swapaxes(1, 2) / np.sqrt(2)), 0)
        seen.append(weights / weights.sum(-1, keepdims=True) @ value)
    want = np.concatenate(seen, -1) @ values[layer.result.weight] + values[layer.result.bias]
    have = compiled([q, *parts], both, [qa, *(values[p] for p in parts)])
    np.testing.assert_allclose(have, want, **EXACT)
    with pytest.raises(gx.GraphError, match="no 3 equal heads"):
        nn.multi_head_attention(layer, q, 3)


def test_embedding_flatten_and_kernels_to_start_with() -> None:
    layer = nn.Embedding.symbols("words", 7, 3, "float64")
    indices = gx.symbol("indices", (2, 4), "int64")
    rows = nn.embedding(layer, indices)
    assert nn.flatten(rows).shape == (2, 12)
    table, at = array(7, 3), np.array([[0, 6, 2, 2], [1, 1, 5, 0]])
    slope = gx.grad(gx.sum(rows * rows), layer.weight)
    got, by_weight = compiled([layer.weight, indices], [rows, slope], [table, at])
    np.testing.assert_array_equal(got, table[at])
    want = np.zeros_like(table)
    np.add.at(want, at, 2 * table[at])
    np.testing.assert_allclose(by_weight, want, **EXACT)
    kernel = nn.he_normal(np.random.default_rng(0), 64 * 9, 32, "float64", (32, 64, 3, 3))
    assert kernel.shape == (32, 64, 3, 3)
    assert kernel.std() == pytest.approx(np.sqrt(2 / 576), 0.02)
