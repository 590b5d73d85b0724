"""Do convolutions and pooling mean what loops over windows say, and are their derivatives exact?

Values against loops in NumPy, over strides, padding, dilation, groups and layouts that hypothesis
draws; derivatives against the transposed map and against differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.codegen.loops import Contract
from tests.product_rows import reference_conv, reference_conv_transpose, reference_pool

QUICK = gx.Options(cache=False, threads=1)
RANDOM = np.random.default_rng(5)
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def array(*shape: int) -> np.ndarray:
    return RANDOM.uniform(-2, 2, shape)


def both(inputs: list[Any], outputs: list[Any], arrays: list[Any]) -> list[list[Any]]:
    """The values of the evaluator and of the compiled function."""
    values = dict(zip(inputs, arrays, strict=True))
    compiled = gx.compile(inputs, outputs, options=QUICK)
    return [gx.evaluate(outputs, values), compiled(*arrays)]


@st.composite
def convolutions(draw: Any) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """The options of a call, and the shapes of x and w in its layout."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    inputs, outputs = draw(st.integers(1, 3)), groups * draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, sizes = each(1, 3), each(5, 9 if rank < 3 else 6)
    pairs = tuple(zip(each(0, 2), each(0, 2), strict=True))
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    options = {
        "stride": each(1, 3),
        "dilation": each(1, 2),
        "padding": draw(st.sampled_from(("same", "valid", 1, pairs))),
        "groups": groups,
        "layout": layout,
    }
    batch, channels = draw(st.integers(1, 2)), groups * inputs
    if layout == "NCHW":
        return options, (batch, channels, *sizes), (outputs, inputs, *kernel)
    return options, (batch, *sizes, channels), (*kernel, inputs, outputs)


@FEW
@given(convolutions())
def test_convolution(case: Any) -> None:
    options, x_shape, w_shape = case
    x, w = gx.symbol("x", x_shape), gx.symbol("w", w_shape)
    y = gx.conv(x, w, **options)
    cotangent = gx.symbol("c", y.shape)
    gradients = gx.vjp([y], [x, w], [cotangent])
    arrays = [array(*x_shape), array(*w_shape), array(*y.shape)]
    want = reference_conv(*arrays[:2], **options)
    inner = (want * arrays[2]).sum()
    for got, by_x, by_w in both([x, w, cotangent], [y, *gradients], arrays):
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)
        # y is linear in x and in w, so the pairing with the cotangent is that with the gradient
        assert (by_x * arrays[0]).sum() == pytest.approx(inner, 1e-10, 1e-10)
        assert (by_w * arrays[1]).sum() == pytest.approx(inner, 1e-10, 1e-10)


@FEW
@given(convolutions())
def test_transposed_convolution_is_the_gradient(case: Any) -> None:
    options, x_shape, w_shape = case
    if options["padding"] == "same":
        options["padding"] = "valid"
    x, w = gx.symbol("x", x_shape), gx.symbol("w", w_shape)
    cotangent = gx.symbol("c", gx.conv(x, w, **options).shape)
    (by_x,) = gx.vjp([gx.conv(x, w, **options)], [x], [cotangent])
    first = options["layout"] == "NCHW"
    rank = len(x_shape) - 2
    short = gx.conv_transpose(cotangent, w, **options).shape
    spatial = slice(2, None) if first else slice(1, 1 + rank)
    more = tuple(n - m for n, m in zip(x_shape[spatial], short[spatial], strict=True))
    y = gx.conv_transpose(cotangent, w, **options, output_padding=more)
    arrays = [array(*x_shape), array(*w_shape), array(*cotangent.shape)]
    want = reference_conv_transpose(*arrays[:0:-1], **options, output_padding=more)
    for got, gradient in both([x, w, cotangent], [y, by_x], arrays):
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)
        np.testing.assert_allclose(gradient, want, 1e-12, 1e-12)


@st.composite
def pools(draw: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
    rank = draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    window = each(2, 3)
    options = {
        "window": window,
        "stride": draw(st.sampled_from((None, each(1, 3)))),
        "padding": draw(st.sampled_from(("same", "valid", 1))),
        "dilation": each(1, 2),
        "ceil_mode": draw(st.booleans()),
        "layout": layout,
    }
    sizes = each(5, 8)
    return options, (2, 3, *sizes) if layout == "NCHW" else (2, *sizes, 3)


@FEW
@given(pools())
def test_pooling(case: Any) -> None:
    options, shape = case
    x = gx.symbol("x", shape)
    averages = [gx.avg_pool(x, **options, count_include_pad=c) for c in (True, False)]
    outputs = [gx.max_pool(x, **options), gx.sum_pool(x, **options), *averages]
    value = array(*shape)
    wanted = [
        reference_pool(value, **options, kind="max"),
        reference_pool(value, **options, kind="sum"),
        reference_pool(value, **options, kind="avg"),
        reference_pool(value, **options, kind="avg", count_include_pad=False),
    ]
    for results in both([x], outputs, [value]):
        for got, want in zip(results, wanted, strict=True):
            np.testing.assert_allclose(got, want, 1e-12, 1e-12)


def test_derivatives_of_pooling() -> None:
    x = gx.symbol("x", (2, 2, 6, 5))
    value = array(2, 2, 6, 5)
    for y in (
        gx.max_pool(x, 3, 2, 1),
        gx.avg_pool(x, 2, 1, "same", count_include_pad=False),
        gx.sum_pool(x, (2, 3), 1, layout="NHWC"),
        gx.upsample(x, 2),
        gx.adaptive_avg_pool(x, (4, 2)),
    ):
        assert gx.check_grad(gx.sum(gx.sin(y)), [x], {x: value})


def test_a_maximum_that_ties_shares_its_derivative() -> None:
    x = gx.symbol("x", (1, 1, 4))
    y = gx.max_pool(x, 2, 1, layout="NCW")
    gradient = gx.grad(gx.sum(y), x)
    for (got,) in both([x], [gradient], [np.array([[[1.0, 1.0, 0.0, 2.0]]])]):
        assert got.tolist() == [[[0.5, 1.5, 0.0, 1.0]]]


def test_special_values() -> None:
    x = gx.symbol("x", (1, 1, 5))
    value = np.array([[[np.nan, 1.0, -np.inf, -np.inf, -3.0]]])
    for (got,) in both([x], [gx.max_pool(x, 2, 1, 1, layout="NCW")], [value]):
        np.testing.assert_array_equal(got, [[[np.nan, np.nan, 1, -np.inf, -3, -3]]])
    k = gx.symbol("k", (1, 1, 5), "int8")
    least = gx.max_pool(k, 3, padding="same", layout="NCW")
    for (got,) in both([k], [least], [-np.ones((1, 1, 5), "int8")]):
        assert got.dtype == np.int8 and (got == -1).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
def test_dtypes(dtype: str) -> None:
    x, w = gx.symbol("x", (2, 3, 6, 6), dtype), gx.symbol("w", (4, 3, 3, 3), dtype)
    arrays = [RANDOM.integers(-3, 4, s.shape).astype(dtype) for s in (x, w)]
    want = reference_conv(*arrays, padding=1, dtype="float64")
    deep = reference_conv(arrays[0], arrays[1][:3, :1], groups=3, dtype="float64")
    outputs = [gx.conv(x, w, padding=1), gx.conv(x, w[:3, :1], groups=3)]
    for got, depthwise in both([x, w], outputs, arrays):
        assert got.dtype == depthwise.dtype == dtype
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(depthwise, deep)


def test_named_extents() -> None:
    x, w = gx.symbol("x", ("n", 3, "h", "w")), gx.symbol("w", (4, 3, 3, 3))
    y = gx.conv(x, w, 2, "same")
    outputs = [y, gx.max_pool(x, 2, padding=1), gx.avg_pool(x, 3, 2, 1, count_include_pad=False)]
    compiled = gx.compile([x, w], [*outputs, *gx.grad(gx.sum(y), [x, w])], options=QUICK)
    for shape in ((2, 3, 8, 7), (1, 3, 5, 12), (0, 3, 5, 4)):
        arrays = [array(*shape), array(4, 3, 3, 3)]
        got, most, mean, by_x, by_w = compiled(*arrays)
        want = reference_conv(*arrays, stride=2, padding="same")
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)
        np.testing.assert_array_equal(most, reference_pool(arrays[0], 2, padding=1))
        want_mean = reference_pool(arrays[0], 3, 2, 1, kind="avg", count_include_pad=False)
        np.testing.assert_allclose(mean, want_mean, 1e-12, 1e-12)
        for gradient, value in ((by_x, arrays[0]), (by_w, arrays[1])):
            assert (gradient * value).sum() == pytest.approx(want.sum(), 1e-9, 1e-9)


def test_a_convolution_stores_its_padding_alone() -> None:
    """No array of windows is stored: the padding is, unless lanes do not move along with windows;
    windows and bias are part of the product.
    """
    x, w, b = gx.symbol("x", (4, 3, 9, 9)), gx.symbol("w", (8, 3, 3, 3)), gx.symbol("b", (8, 1, 1))
    compiled = gx.compile([x, w, b], [gx.relu(gx.conv(x, w, padding="same") + b)], options=QUICK)
    assert len(compiled.kernels) == 2
    for layout, kernels in (("NCHW", 2), ("NHWC", 1)):
        each = gx.symbol("each", (3, 1, 3, 3) if layout == "NCHW" else (3, 3, 1, 3))
        seen = x if layout == "NCHW" else gx.symbol("seen", (4, 9, 9, 3))
        alone = gx.conv(seen, each, padding=1, groups=3, layout=layout)
        assert len(gx.compile([seen, each], alone, options=QUICK).kernels) == kernels
        pooled = gx.compile([x], [gx.max_pool(x, 3, 2, 1, layout=layout)], options=QUICK)
        assert len(pooled.kernels) == kernels


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding"),
    [(20, 4, 4, 0), (32, 16, 16, 0), (34, 4, 2, 1), (31, 2, 3, 0), (40, 6, 3, 2), (33, 1, 2, 0)],
)
@pytest.mark.parametrize(("layout", "groups"), [("NCHW", 1), ("NHWC", 1), ("NCHW", 2)])
def test_windows_that_phases_share_evenly(
    size: int, window: int, stride: int, padding: int, layout: str, groups: int
) -> None:
    options = {"stride": stride, "padding": padding, "layout": layout, "groups": groups}
    first = layout == "NCHW"
    x_shape = (2, 4, size, size) if first else (2, size, size, 4)
    w_shape = (6, 4 // groups, window, window) if first else (window, window, 4 // groups, 6)
    x, w = gx.symbol("x", x_shape), gx.symbol("w", w_shape)
    y = gx.conv(x, w, **options)
    cotangent = gx.symbol("c", y.shape)
    gradients = gx.vjp([y], [x, w], [cotangent])
    spread = gx.conv_transpose(cotangent, w, **options)
    by_spread = gx.vjp([spread], [cotangent, w], [spread])
    arrays = [array(*x_shape), array(*w_shape), array(*y.shape)]
    symbols = [x, w, cotangent]
    want, got = both(symbols, [y, *gradients, spread, *by_spread], arrays)
    np.testing.assert_allclose(want[3], reference_conv_transpose(*arrays[:0:-1], **options))
    for truth, value in zip(want, got, strict=True):
        np.testing.assert_allclose(value, truth, 1e-11, 1e-11)


def test_what_lies_between_strides_is_not_multiplied() -> None:
    x, w = gx.symbol("x", (1, 3, 64, 64)), gx.symbol("w", (8, 3, 16, 16))
    y = gx.conv(x, w, stride=16)
    once = _multiplications(gx.compile([x, w], y, options=QUICK))
    gradients = gx.compile([x, w], gx.grad(gx.sum(y * y), [x, w]), options=QUICK)
    assert _multiplications(gradients) == 3 * once
    spread = gx.conv_transpose(y, w, stride=16)
    twice = gx.compile([x, w], gx.grad(gx.sum(spread * spread), w), options=QUICK)
    assert _multiplications(twice) <= 6 * once


def _multiplications(function: Any) -> int:
    """How many the products of a compiled function take."""
    bodies = (kernel.body.statements for kernel in function.program.kernels())
    products = [s for statements in bodies for s in statements if isinstance(s, Contract)]
    return sum(p.batch * p.rows * p.columns * p.depth for p in products)


def test_a_small_network_learns() -> None:
    """Every derivative of a network of convolutions and pooling is that of differences."""
    x = gx.symbol("x", (3, 1, 8, 8))
    labels = gx.symbol("labels", (3,), "int64")
    shapes = {"first": (2, 1, 3, 3), "second": (3, 2, 3, 3), "dense": (12, 4)}
    weights = {name: gx.symbol(name, shape) for name, shape in shapes.items()}
    h = gx.max_pool(gx.tanh(gx.conv(x, weights["first"], padding="same")), 2)
    h = gx.avg_pool(gx.tanh(gx.conv(h, weights["second"], padding=1)), 2)
    loss = gx.nn.softmax_cross_entropy(gx.reshape(h, (3, 12)) @ weights["dense"], labels)
    values = {s: array(*s.shape) / 2 for s in weights.values()}
    given = {x: array(3, 1, 8, 8), labels: np.array([0, 3, 1]), **values}
    assert gx.check_grad(loss, list(weights.values()), given)
    parameters = list(weights.values())
    steps = [w - 0.2 * g for w, g in zip(parameters, gx.grad(loss, parameters), strict=True)]
    step = gx.compile([x, labels, *parameters], [loss, *steps], options=QUICK)
    held, losses = [given[p] for p in parameters], []
    for _ in range(40):
        cost, *held = step(given[x], given[labels], *held)
        losses.append(float(cost))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, w: gx.conv(x, w, padding="full"), "'same', 'valid'"),
        (lambda x, w: gx.conv(x, w, groups=2), "groups do not fit"),
        (lambda x, w: gx.conv(x, w, 0), "stride is an integer of at least 1"),
        (lambda x, w: gx.conv(x, w, padding=-1), "slice instead"),
        (lambda x, w: gx.conv(x, w, layout="CHWN"), "layout is one of"),
        (lambda x, w: gx.conv(x, w, dilation=9), "larger than the padded axes"),
        (lambda x, w: gx.conv(x[0], w), "rank of x"),
        (lambda x, w: gx.conv1d(x, w), "rank 3"),
        (lambda x, w: gx.max_pool(x > 0, 2), "not defined for bool"),
        (lambda x, w: gx.max_pool(x, 9), "larger than the padded axes"),
        (lambda x, w: gx.avg_pool(gx.cast(x, "int32"), 2), "needs a float dtype"),
        (lambda x, w: gx.upsample(x, 0), "scale is an integer"),
    ],
)
def test_messages(call: Any, said: str) -> None:
    x, w = gx.symbol("x", (2, 3, 6, 6)), gx.symbol("w", (4, 3, 3, 3))
    with pytest.raises(gx.GraphError, match=said):
        call(x, w)
