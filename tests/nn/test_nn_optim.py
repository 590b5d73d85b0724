"""Do layers, losses, metrics, initialisers and update rules mean what their docstrings say?

Each is compared with a few lines of NumPy, and each gradient with differences.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

GENERATOR = np.random.default_rng(0)
BATCH, CLASSES = 5, 4
LOGITS = GENERATOR.normal(size=(BATCH, CLASSES))
LABELS = np.array([0, 3, 1, 1, 2])


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen))


def symbols(dtype: str = "float64") -> tuple[gx.Node, gx.Node]:
    return gx.symbol("logits", ("n", CLASSES), dtype), gx.symbol("labels", ("n",), "int64")


# -- layers ----------------------------------------------------------------------------------------


def test_dense_is_an_affine_map_of_the_last_axis() -> None:
    layer = nn.Dense.symbols("layer", 3, 2, "float64")
    assert (layer.weight.shape, layer.bias.shape) == ((3, 2), (2,))
    x = gx.symbol("x", (5, 4, 3))
    w, b, a = (GENERATOR.normal(size=s) for s in ((3, 2), (2,), (5, 4, 3)))
    result = nn.dense(layer, x)
    assert result.shape == (5, 4, 2)
    f = gx.compile([x, layer], result)
    np.testing.assert_allclose(f(a, nn.Dense(w, b)), a @ w + b, rtol=1e-13)


def test_a_layer_is_a_container() -> None:
    layer = nn.Dense.symbols("layer", 3, 2, "float64")
    cost = gx.sum(nn.dense(layer, gx.constant(np.ones((4, 3)))) ** 2)
    gradient = gx.grad(cost, layer)
    assert isinstance(gradient, nn.Dense)
    assert gradient.weight.type is layer.weight.type
    assert gradient.bias.type is layer.bias.type


def test_dropout_keeps_the_mean_and_its_mask_is_that_of_the_key() -> None:
    key, x = gx.symbol("key", (2,), "uint32"), gx.symbol("x", ("n", 4), "float32")
    dropped = nn.dropout(key, x, 0.25)
    slope = gx.grad(gx.sum(dropped), x)
    function = gx.compile([key, x], [dropped, slope])
    assert len(function.kernels) == 1, "the mask is drawn where it is used"
    words, ones = np.array([1, 2], "uint32"), np.ones((5000, 4), "float32")
    out, by_x = function(words, ones)
    assert set(np.unique(out).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(out.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / out.size)
    assert (out == by_x).all() and (out == function(words, ones)[0]).all()
    assert (out != function(words + np.uint32(1), ones)[0]).any()
    with pytest.raises(gx.GraphError, match="the rate is at least 0 and below 1, got 1"):
        nn.dropout(key, x, 1)


def test_initialisers_take_keys() -> None:
    key = gx.random.key(3)
    normal, even = nn.he_normal(key, 200, 300), nn.glorot_uniform(key, 200, 300)
    drawn, spread = gx.evaluate(normal, {}), gx.evaluate(even, {})
    assert normal.type == even.type == gx.Type("float32", (200, 300))
    assert abs(drawn.std() / np.sqrt(2 / 200) - 1) < 0.02
    limit = np.sqrt(6 / 500)
    assert 0.99 * limit < np.abs(spread).max() <= limit and abs(spread.mean()) < 0.02 * limit


# -- losses and metrics ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_cross_entropy(dtype: str) -> None:
    logits, labels = symbols(dtype)
    loss = nn.softmax_cross_entropy(logits, labels)
    assert loss.shape == ()
    assert loss.dtype == dtype
    f = gx.compile([logits, labels], loss)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(
        f(LOGITS.astype(dtype), LABELS), cross_entropy(LOGITS, LABELS), rtol=tolerance
    )


def test_softmax_cross_entropy_of_huge_logits_is_finite() -> None:
    logits, labels = symbols()
    loss = nn.softmax_cross_entropy(logits, labels)
    f = gx.compile([logits, labels], [loss, gx.grad(loss, logits)])
    huge = np.array([[1e4, -1e4, 0.0, 0.0], [1e300, 0.0, 0.0, 0.0]])
    value, slope = f(huge, np.array([1, 0]))
    assert value == 1e4  # (2e4 + 0) / 2
    np.testing.assert_array_equal(slope, [[0.5, -0.5, 0, 0], [0, 0, 0, 0]])


def test_softmax_cross_entropy_ignores_labels_that_are_no_class() -> None:
    logits, labels = symbols()
    loss = nn.softmax_cross_entropy(logits, labels)
    f = gx.compile([logits, labels], [loss, gx.grad(loss, logits)])
    value, slope = f(LOGITS, np.array([0, -1, CLASSES, 1, 2]))
    kept = [0, 3, 4]
    want = cross_entropy(LOGITS[kept], np.array([0, 1, 2])) * len(kept) / BATCH
    np.testing.assert_allclose(value, want, rtol=1e-13)
    assert not slope[[1, 2]].any()


def test_gradient_of_softmax_cross_entropy() -> None:
    logits, labels = symbols()
    loss = nn.softmax_cross_entropy(logits, labels)
    assert gx.check_grad(loss, logits, {logits: LOGITS, labels: LABELS})
    got = gx.compile([logits, labels], gx.grad(loss, logits))(LOGITS, LABELS)
    soft = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        got, (soft - np.eye(CLASSES)[LABELS]) / BATCH, rtol=1e-12, atol=1e-15
    )


def test_accuracy_is_the_share_of_rows_that_are_right() -> None:
    logits, labels = symbols()
    f = gx.compile([logits, labels], nn.accuracy(logits, labels))
    assert f(LOGITS, LOGITS.argmax(axis=1)) == 1.0
    assert f(LOGITS, np.where(np.arange(BATCH) < 2, LOGITS.argmax(axis=1), -1)) == 0.4


# -- initialisers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initialisers_have_the_stated_spread(dtype: str) -> None:
    normal = nn.he_normal(np.random.default_rng(1), 400, 300, dtype)
    uniform = nn.glorot_uniform(np.random.default_rng(1), 400, 300, dtype)
    assert normal.shape == uniform.shape == (400, 300)
    assert normal.dtype == uniform.dtype == dtype
    assert abs(normal.var() * 400 / 2 - 1) < 0.02
    limit = np.sqrt(6 / 700)
    assert np.abs(uniform).max() <= limit
    assert abs(uniform.var() * 3 / limit**2 - 1) < 0.02
    assert np.array_equal(normal, nn.he_normal(np.random.default_rng(1), 400, 300, dtype))


# -- update rules ----------------------------------------------------------------------------------


def test_sgd_and_momentum_on_a_container() -> None:
    p = {"a": gx.vector("a", 2), "b": [gx.scalar("b")]}
    g = {"a": gx.vector("ga", 2), "b": [gx.scalar("gb")]}
    v = {"a": gx.vector("va", 2), "b": [gx.scalar("vb")]}
    rate = gx.scalar("rate")
    plain = optim.sgd(p, g, rate)
    moved, speeds = optim.momentum(p, g, v, rate, 0.5)
    f = gx.compile([p, g, v, rate], [plain, moved, speeds])
    arrays = [{"a": GENERATOR.normal(size=2), "b": [GENERATOR.normal()]} for _ in range(3)]
    got_plain, got_moved, got_speeds = f(*arrays, 0.1)
    for at in (lambda tree: tree["a"], lambda tree: tree["b"][0]):
        pa, ga, va = map(at, arrays)
        np.testing.assert_allclose(at(got_plain), pa - 0.1 * ga, rtol=1e-15)
        np.testing.assert_allclose(at(got_speeds), 0.5 * va + ga, rtol=1e-15)
        np.testing.assert_allclose(at(got_moved), pa - 0.1 * (0.5 * va + ga), rtol=1e-15)


def test_updates_keep_the_dtype_of_parameters() -> None:
    p, g, v = (gx.vector(name, 3, dtype="float32") for name in "pgv")
    moved, speed = optim.momentum(p, g, v, 0.1)
    assert moved.dtype == speed.dtype == optim.sgd(p, g, 0.1).dtype == np.float32


def test_momentum_finds_the_minimum_of_a_quadratic() -> None:
    x, v = gx.vector("x", 2), gx.vector("v", 2)
    cost = gx.sum(gx.constant(np.array([1.0, 10.0])) * (x - 3) ** 2)
    f = gx.compile([x, v], list(optim.momentum(x, gx.grad(cost, x), v, 0.02)), donate=[x, v])
    state = [np.zeros(2), np.zeros(2)]
    for _ in range(400):
        f(*state)
    np.testing.assert_allclose(state[0], 3, atol=1e-6)


# -- what they are allowed to know -----------------------------------------------------------------


@pytest.mark.parametrize("package", [nn, optim])
def test_they_use_public_names_only(package: object) -> None:
    """As a third party would: `graphc`, `graphc.tree`, and their own siblings."""
    for path in Path(package.__file__).parent.glob("*.py"):  # type: ignore[attr-defined]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphc"):
                allowed = ("graphc", "graphc.tree", package.__name__)  # type: ignore[attr-defined]
                assert node.module in allowed or node.module.startswith(f"{allowed[2]}.")
