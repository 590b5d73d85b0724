"""How many kernels, and how many bytes, does tinygrad's CUDA renderer take for the same steps?

Counted by tinygrad itself (`kernel_count` and `global_mem` of the second run) on its null device:
kernels are compiled by NVRTC and not run. The workloads of `cuda_others.py` under their names; what
it prints is recorded in `cuda_traffic.py`.

    NVRTC_PATH=.../libnvrtc.so.13 PYTHON_WITH_TINYGRAD tests/benchmarks/cuda_tinygrad.py [name ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("DEV", "NULL:CUDA:sm_90")
from tinygrad import GlobalCounters, Tensor

STEPS: dict[str, Callable[[], list[Any]]] = {}
PARAMETERS = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]


def step(name: str) -> Callable[[Callable[[], list[Any]]], Callable[[], list[Any]]]:
    def note(build: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        STEPS[name] = build
        return build

    return note


def given(*shapes: Any, dtype: str = "float32") -> list[Any]:
    return [Tensor.empty(*shape, dtype=dtype) for shape in shapes]


def with_gradients(y: Any, wanted: Sequence[Any]) -> list[Any]:
    return [y, *y.gradient(*wanted, gradient=Tensor.empty(*y.shape))]


def loss_and_gradients(loss: Any, wanted: Sequence[Any]) -> list[Any]:
    return [loss, *loss.gradient(*wanted)]


def normalised(x: Any, axes: Any) -> Any:
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + 1e-5).sqrt()


def channels(x: Any) -> Any:
    return x.reshape(1, -1, 1, 1)


def gelu(u: Any) -> Any:
    return 0.5 * u * (1 + (0.7978845608 * (u + 0.044715 * u * u * u)).tanh())


@step("LSTM, one step, f+b")
def lstm() -> list[Any]:
    x, w, r, b = given((1, 32, 64), (64, 512), (128, 512), (512,))
    hidden = cell = Tensor.zeros(32, 128)
    i, f, g, o = (x[0] @ w + hidden @ r + b).chunk(4, dim=1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    return loss_and_gradients((hidden * hidden).mean(), [w, r, b])


@step("GRU cell f+b")
def gru() -> list[Any]:
    x, h, u, w, b = given((64, 128), (64, 256), (128, 768), (256, 768), (768,))
    ar, az, an = (x @ u + b).chunk(3, dim=1)
    cr, cz, cn = (h @ w).chunk(3, dim=1)
    z = (az + cz).sigmoid()
    hidden = (1 - z) * (an + (ar + cr).sigmoid() * cn).tanh() + z * h
    return loss_and_gradients((hidden * hidden).mean(), [u, w, b])


@step("gelu layers f+b")
def gelu_layers() -> list[Any]:
    x, w, b, v, c = given((2048, 256), (256, 1024), (1024,), (1024, 256), (256,))
    return with_gradients(x + gelu(x @ w + b) @ v + c, [x, w, b, v, c])


def _blocks_of_convolution() -> tuple[list[Any], Any]:
    x, first, second = given((32, 16, 32, 32), (32, 16, 3, 3), (32, 32, 3, 3))
    g, s, h, t = given(*[(32,)] * 4)
    inner = normalised(x.conv2d(first, padding=1), (0, 2, 3))
    inner = (inner * channels(g) + channels(s)).relu()
    outer = normalised(inner.conv2d(second, padding=1), (0, 2, 3))
    return [first, g, s, second, h, t], (outer * channels(h) + channels(t)).relu()


@step("batch norm CNN")
def network() -> list[Any]:
    return [_blocks_of_convolution()[1]]


@step("batch norm CNN f+b")
def network_gradient() -> list[Any]:
    parameters, y = _blocks_of_convolution()
    return with_gradients(y, parameters)


@step("embedding, cross entropy f+b")
def embedding() -> list[Any]:
    words, labels = given((512,), (512,), dtype="int32")
    table, head = given((1000, 128), (128, 1000))
    loss = (table[words] @ head).sparse_categorical_crossentropy(labels)
    return loss_and_gradients(loss, [table, head])


@step("group norm, silu f+b")
def group_norm() -> list[Any]:
    x, g, s = given((32, 64, 32, 32), (64,), (64,))
    made = normalised(x.reshape(32, 8, -1), 2).reshape(*x.shape) * channels(g) + channels(s)
    return with_gradients(made * made.sigmoid(), [x, g, s])


@step("conv1d, relu f+b")
def convolution_of_series() -> list[Any]:
    x, k, b = given((32, 64, 1024), (64, 64, 5), (64,))
    return with_gradients(x.conv2d(k, b, padding=2).relu(), [x, k, b])


@step("Adam, 6 arrays")
def adam() -> list[Any]:
    outputs = []
    for shape in PARAMETERS:
        p, g, m, v = given(*[shape] * 4)
        m1, v1 = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        outputs += [p - 0.001 * (m1 / 0.1) / ((v1 / 0.001).sqrt() + 1e-8), m1, v1]
    return outputs


@step("clipped by global norm")
def clipping() -> list[Any]:
    arrays = given(*PARAMETERS)
    norm = sum((g * g).sum() for g in arrays).sqrt()  # type: ignore[attr-defined]
    scale = (1.0 / (norm + 1e-6)).minimum(1.0)
    return [g * scale for g in arrays]


@step("k-means assignment")
def nearest() -> list[Any]:
    x, c = given((16384, 64), (256, 64))
    squares = (x * x).sum(1, keepdim=True) + (c * c).sum(1)
    return [(squares - 2 * x @ c.T).argmin(1)]


@step("cosine similarities")
def similarities() -> list[Any]:
    one, two = (x / (x * x).sum(1, keepdim=True).sqrt() for x in given(*[(1024, 256)] * 2))
    return [one @ two.T]


@step("RMS norm, rotary query")
def rotary() -> list[Any]:
    x, g, w, c, s = given((4, 256, 512), (512,), (512, 512), (256, 32), (256, 32))
    q = (x / ((x * x).mean(2, keepdim=True) + 1e-6).sqrt() * g) @ w
    q = q.reshape(4, 256, 8, 64)
    a, b = q[..., :32], q[..., 32:]
    c4, s4 = (angle.reshape(1, 256, 1, 32) for angle in (c, s))
    return [(a * c4 - b * s4).cat(a * s4 + b * c4, dim=3)]


@step("causal attention")
def causal_attention() -> list[Any]:
    q, k, v = given(*[(4, 8, 256, 64)] * 3)
    i = Tensor.arange(256)
    scores = (i.reshape(256, 1) >= i.reshape(1, 256)).where(q @ k.transpose(2, 3) / 8.0, -1e9)
    return [scores.softmax(-1) @ v]


@step("transformer block f+b")
def transformer() -> list[Any]:
    d, heads = 128, 4
    x, g, s, h, t = given((8, 64, d), (d,), (d,), (d,), (d,))
    wq, wk, wv, wo = given(*[(d, d)] * 4)
    w, b, v, c = given((d, 4 * d), (4 * d,), (4 * d, d), (d,))

    def split(u: Any) -> Any:
        return u.reshape(8, 64, heads, d // heads).transpose(1, 2)

    inner = normalised(x, -1) * g + s
    query, key, value = split(inner @ wq), split(inner @ wk), split(inner @ wv)
    shares = (query @ key.transpose(2, 3) / (d // heads) ** 0.5).softmax(-1)
    mixed = x + (shares @ value).transpose(1, 2).reshape(8, 64, d) @ wo
    y = mixed + gelu((normalised(mixed, -1) * h + t) @ w + b) @ v + c
    return with_gradients(y, [x, g, s, wq, wk, wv, wo, h, t, w, b, v, c])


@step("running sums of rows")
def running_sums() -> list[Any]:
    return [Tensor.empty(1024, 4096).cumsum(1)]


@step("logsumexp over both axes")
def both_axes() -> list[Any]:
    x = Tensor.empty(4096, 1024)
    return [x.logsumexp(0), x.logsumexp(1)]


@step("columns standardised")
def columns() -> list[Any]:
    return [normalised(Tensor.empty(65536, 64), 0)]


@step("depthwise convolution f+b")
def depthwise() -> list[Any]:
    x, k = given((16, 64, 56, 56), (64, 1, 3, 3))
    return with_gradients(x.conv2d(k, groups=64, padding=1), [x, k])


@step("max pooling f+b")
def pooling() -> list[Any]:
    x = Tensor.empty(32, 32, 56, 56)
    return with_gradients(x.max_pool2d((2, 2)), [x])


@step("vector times matrix")
def vector_times_matrix() -> list[Any]:
    a, x = given((4096, 4096), (4096,))
    return [x @ a]


@step("logistic regression f+b")
def logistic_regression() -> list[Any]:
    x, y, w = given((100000, 64), (100000,), (64,))
    return loss_and_gradients((1 + (-y * (x @ w)).exp()).log().mean(), [w])


@step("argmax of rows")
def largest() -> list[Any]:
    return [Tensor.empty(4096, 1024).argmax(1)]


@step("8 largest of rows")
def eight_largest() -> list[Any]:
    return list(Tensor.empty(64, 1024).topk(8, dim=1))


def main(names: Sequence[str]) -> None:
    Tensor.training = True
    for name in names or STEPS:
        for _ in range(2):
            outputs = STEPS[name]()
            GlobalCounters.reset()
            Tensor.realize(*outputs)
        megabytes = GlobalCounters.global_mem / 1e6
        print(f"{name:<30}{GlobalCounters.kernel_count:>4}{megabytes:>9.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
