"""Which further workloads does the table of CUDA launches and bytes hold, that nobody has named?

Layers, losses, optimisers and reductions as models are made of them, float32: inputs and outputs.
`cuda_tinygrad.py` has the same for tinygrad, by the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import graphc as gx
from graphc import nn

Graphs = tuple[Sequence[gx.Node], Sequence[gx.Node]]
OTHERS: dict[str, Callable[[], Graphs]] = {}

PARAMETERS = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]


def other(name: str) -> Callable[[Callable[[], Graphs]], Callable[[], Graphs]]:
    def note(build: Callable[[], Graphs]) -> Callable[[], Graphs]:
        OTHERS[name] = build
        return build

    return note


def symbols(**shapes: Any) -> list[gx.Node]:
    return [gx.symbol(name, shape, "float32") for name, shape in shapes.items()]


def normalised(x: gx.Node, axes: Any) -> gx.Node:
    """Mean 0 and variance 1 along some axes."""
    centred = x - gx.mean(x, axis=axes, keepdims=True)
    return centred / gx.sqrt(gx.mean(centred * centred, axis=axes, keepdims=True) + 1e-5)


def channels(x: gx.Node) -> gx.Node:
    return x.reshape(1, -1, 1, 1)


def gelu(u: gx.Node) -> gx.Node:
    return 0.5 * u * (1 + gx.tanh(0.7978845608 * (u + 0.044715 * u * u * u)))


def with_gradients(inputs: Sequence[gx.Node], y: gx.Node, wanted: Sequence[gx.Node]) -> Graphs:
    (seed,) = symbols(seed=y.shape)
    return [*inputs, seed], [y, *gx.vjp(y, list(wanted), seed)]


@other("LSTM, one step, f+b")
def lstm() -> Graphs:
    x, w, r, b = symbols(x=(1, 32, 64), w=(64, 512), r=(128, 512), b=(512,))

    def step(state: Any, x: gx.Node) -> Any:
        i, f, g, o = gx.split(x @ w + state[0] @ r + b, 4, axis=1)
        cell = gx.sigmoid(f) * state[1] + gx.sigmoid(i) * gx.tanh(g)
        return (gx.sigmoid(o) * gx.tanh(cell), cell), None

    start = gx.zeros((32, 128), "float32")
    (hidden, _), _ = gx.scan(step, (start, start), x)
    loss = gx.mean(hidden * hidden)
    return [x, w, r, b], [loss, *gx.grad(loss, [w, r, b])]


@other("GRU cell f+b")
def gru() -> Graphs:
    x, h, u, w, b = symbols(x=(64, 128), h=(64, 256), u=(128, 768), w=(256, 768), b=(768,))
    ar, az, an = gx.split(x @ u + b, 3, axis=1)
    cr, cz, cn = gx.split(h @ w, 3, axis=1)
    z = gx.sigmoid(az + cz)
    hidden = (1 - z) * gx.tanh(an + gx.sigmoid(ar + cr) * cn) + z * h
    loss = gx.mean(hidden * hidden)
    return [x, h, u, w, b], [loss, *gx.grad(loss, [u, w, b])]


@other("gelu layers f+b")
def gelu_layers() -> Graphs:
    x, w, b, v, c = symbols(x=(2048, 256), w=(256, 1024), b=(1024,), v=(1024, 256), c=(256,))
    return with_gradients([x, w, b, v, c], x + gelu(x @ w + b) @ v + c, [x, w, b, v, c])


def _blocks_of_convolution() -> tuple[list[gx.Node], gx.Node, gx.Node]:
    image = {"x": (32, 16, 32, 32), "first": (32, 16, 3, 3), "second": (32, 32, 3, 3)}
    x, first, second = symbols(**image)
    g, s, h, t = symbols(g=(32,), s=(32,), h=(32,), t=(32,))
    inner = normalised(gx.conv2d(x, first, padding=1), (0, 2, 3))
    inner = gx.relu(inner * channels(g) + channels(s))
    outer = normalised(gx.conv2d(inner, second, padding=1), (0, 2, 3))
    return [first, g, s, second, h, t], x, gx.relu(outer * channels(h) + channels(t))


@other("batch norm CNN")
def network() -> Graphs:
    parameters, x, y = _blocks_of_convolution()
    return [x, *parameters], [y]


@other("batch norm CNN f+b")
def network_gradient() -> Graphs:
    parameters, x, y = _blocks_of_convolution()
    return with_gradients([x, *parameters], y, parameters)


@other("embedding, cross entropy f+b")
def embedding() -> Graphs:
    words, labels = (gx.symbol(name, (512,), "int32") for name in ("words", "labels"))
    table, head = symbols(table=(1000, 128), head=(128, 1000))
    loss = nn.softmax_cross_entropy(gx.take(table, words, axis=0) @ head, labels)
    return [words, labels, table, head], [loss, *gx.grad(loss, [table, head])]


@other("group norm, silu f+b")
def group_norm() -> Graphs:
    x, g, s = symbols(x=(32, 64, 32, 32), g=(64,), s=(64,))
    made = normalised(x.reshape(32, 8, -1), 2).reshape(*x.shape) * channels(g) + channels(s)
    return with_gradients([x, g, s], made * gx.sigmoid(made), [x, g, s])


@other("conv1d, relu f+b")
def convolution_of_series() -> Graphs:
    x, k, b = symbols(x=(32, 64, 1024), k=(64, 64, 5), b=(64,))
    made = gx.conv(x, k, padding="SAME") + b.reshape(1, -1, 1)
    return with_gradients([x, k, b], gx.relu(made), [x, k, b])


@other("Adam, 6 arrays")
def adam() -> Graphs:
    inputs, outputs = [], []
    for i, shape in enumerate(PARAMETERS):
        p, g, m, v = symbols(**{f"{name}{i}": shape for name in "pgmv"})
        m1, v1 = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        inputs += [p, g, m, v]
        outputs += [p - 0.001 * (m1 / 0.1) / (gx.sqrt(v1 / 0.001) + 1e-8), m1, v1]
    return inputs, outputs


@other("clipped by global norm")
def clipping() -> Graphs:
    given = symbols(**{f"g{i}": shape for i, shape in enumerate(PARAMETERS)})
    total = sum((gx.sum(g * g) for g in given[1:]), gx.sum(given[0] * given[0]))
    scale = gx.minimum(1.0 / (gx.sqrt(total) + 1e-6), 1.0)
    return given, [g * scale for g in given]


@other("k-means assignment")
def nearest() -> Graphs:
    x, c = symbols(x=(16384, 64), c=(256, 64))
    squares = gx.sum(x * x, axis=1, keepdims=True) + gx.sum(c * c, axis=1)
    return [x, c], [gx.argmin(squares - 2 * x @ gx.transpose(c), axis=1)]


@other("cosine similarities")
def similarities() -> Graphs:
    a, b = symbols(a=(1024, 256), b=(1024, 256))
    one, two = (x / gx.sqrt(gx.sum(x * x, axis=1, keepdims=True)) for x in (a, b))
    return [a, b], [one @ gx.transpose(two)]


@other("RMS norm, rotary query")
def rotary() -> Graphs:
    x, g, w, c, s = symbols(x=(4, 256, 512), g=(512,), w=(512, 512), c=(256, 32), s=(256, 32))
    q = (x / gx.sqrt(gx.mean(x * x, axis=2, keepdims=True) + 1e-6) * g) @ w
    q = q.reshape(4, 256, 8, 64)
    a, b = q[..., :32], q[..., 32:]
    c4, s4 = (angle.reshape(1, 256, 1, 32) for angle in (c, s))
    return [x, g, w, c, s], [gx.concatenate([a * c4 - b * s4, a * s4 + b * c4], axis=3)]


@other("causal attention")
def causal_attention() -> Graphs:
    q, k, v = (symbols(**{name: (4, 8, 256, 64)})[0] for name in "qkv")
    i = gx.arange(256)
    scores = gx.where(i[:, None] >= i[None, :], q @ gx.swapaxes(k, 2, 3) / 8.0, -1e9)
    return [q, k, v], [gx.softmax(scores, axis=-1) @ v]


@other("transformer block f+b")
def transformer() -> Graphs:
    d, heads = 128, 4
    x, g, s, h, t = symbols(x=(8, 64, d), g=(d,), s=(d,), h=(d,), t=(d,))
    wq, wk, wv, wo = symbols(wq=(d, d), wk=(d, d), wv=(d, d), wo=(d, d))
    w, b, v, c = symbols(w=(d, 4 * d), b=(4 * d,), v=(4 * d, d), c=(d,))

    def split(u: gx.Node) -> gx.Node:
        return gx.swapaxes(u.reshape(8, 64, heads, d // heads), 1, 2)

    inner = normalised(x, -1) * g + s
    query, key, value = split(inner @ wq), split(inner @ wk), split(inner @ wv)
    shares = gx.softmax(query @ gx.swapaxes(key, 2, 3) / (d // heads) ** 0.5, axis=-1)
    mixed = x + gx.swapaxes(shares @ value, 1, 2).reshape(8, 64, d) @ wo
    y = mixed + gelu((normalised(mixed, -1) * h + t) @ w + b) @ v + c
    parameters = [x, g, s, wq, wk, wv, wo, h, t, w, b, v, c]
    return with_gradients(parameters, y, parameters)


@other("running sums of rows")
def running_sums() -> Graphs:
    (x,) = symbols(x=(1024, 4096))
    return [x], [gx.cumsum(x, axis=1)]


@other("logsumexp over both axes")
def both_axes() -> Graphs:
    (x,) = symbols(x=(4096, 1024))
    return [x], [gx.logsumexp(x, axis=0), gx.logsumexp(x, axis=1)]


@other("columns standardised")
def columns() -> Graphs:
    (x,) = symbols(x=(65536, 64))
    return [x], [normalised(x, 0)]


@other("depthwise convolution f+b")
def depthwise() -> Graphs:
    x, k = symbols(x=(16, 64, 56, 56), k=(64, 1, 3, 3))
    return with_gradients([x, k], gx.conv(x, k, padding="SAME", groups=64), [x, k])


@other("max pooling f+b")
def pooling() -> Graphs:
    (x,) = symbols(x=(32, 32, 56, 56))
    return with_gradients([x], gx.max_pool(x, (2, 2)), [x])


@other("vector times matrix")
def vector_times_matrix() -> Graphs:
    a, x = symbols(a=(4096, 4096), x=(4096,))
    return [a, x], [x @ a]


@other("logistic regression f+b")
def logistic_regression() -> Graphs:
    x, y, w = symbols(x=(100000, 64), y=(100000,), w=(64,))
    loss = gx.mean(gx.log(1 + gx.exp(-y * (x @ w))))
    return [x, y, w], [loss, gx.grad(loss, w)]


@other("argmax of rows")
def largest() -> Graphs:
    (x,) = symbols(x=(4096, 1024))
    return [x], [gx.argmax(x, axis=1)]


@other("8 largest of rows")
def eight_largest() -> Graphs:
    (x,) = symbols(x=(64, 1024))
    return [x], list(gx.topk(x, 8, axis=1))
