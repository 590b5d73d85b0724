"""Does a function under gx.jit do what it does on NumPy arrays, and is it traced as rarely as said?

Every function is called plain as well; results must agree in value, shape and dtype. Traces are
counted, since one too many is a recompilation in a loop and one too few a wrong answer.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import math
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.dims import Dim
from graphc.errors import EndlessTraceError, GraphTypeError

A = np.linspace(-1.0, 2.0, 6)
M = np.linspace(-2.0, 2.0, 12).reshape(3, 4)


def same(function: Any, *args: Any, **named: Any) -> Any:
    """The jitted function's result, compared with the plain one's."""
    result = function(*args, **named)
    expected = function.__wrapped__(*args, **named)
    assert_tree_equal(result, expected)
    return result


def assert_tree_equal(result: Any, expected: Any) -> None:
    from graphc.tree import flatten

    got, structure = flatten(result)
    wanted, wanted_structure = flatten(expected)
    assert structure == wanted_structure
    for one, other in zip(got, wanted, strict=True):
        if isinstance(other, str):
            assert one == other
            continue
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.shape(one) == np.shape(other)


@gx.jit
def affine(x: Any, y: Any) -> Any:
    return np.tanh(x) * y + 2.5


# -- when is a function traced? --------------------------------------------------------------------


def test_one_trace_serves_all_sizes() -> None:
    f = gx.jit(lambda x, y: x * 2 + y)
    for size in (6, 2, 0, 17):
        same(f, np.arange(float(size)), np.ones(size))
    assert len(f.traces) == 1


def test_an_extent_of_one_is_another_signature_because_it_broadcasts() -> None:
    f = gx.jit(lambda x, y: x + y)
    same(f, A, A)
    same(f, A, A[:1])
    same(f, A[:1], A)
    same(f, A[:1], A[:1])
    assert len(f.traces) == 4
    assert "y: axis 0 is 1, was not 1" in f.why()


def test_dtype_and_rank_are_part_of_the_signature() -> None:
    f = gx.jit(lambda x: x * 2)
    for array in (A, A.astype("float32"), M, np.arange(4), A > 0):
        same(f, array)
    assert len(f.traces) == 5
    assert "x: dtype float32, was float64" in f.why()
    assert "x: rank 2, was 1" in f.why()


def test_keywords_and_positions_are_one_signature() -> None:
    f = gx.jit(lambda x, y, z=3.0: x - y * z)
    f(A, A)
    f(A, y=A)
    f(y=A, x=A)
    assert len(f.traces) == 1
    same(f, A, A, z=2.0)
    same(f, A, A, 5.0)
    assert len(f.traces) == 2


def test_layout_is_not_part_of_the_signature() -> None:
    f = gx.jit(lambda x: x + 1)
    for view in (M, M.T.copy().T, M[:, ::-1], M[::2, 1:]):
        same(f, view)
    assert len(f.traces) == 1


def test_python_numbers_are_weak_and_traced() -> None:
    f = gx.jit(lambda x, c: (x * c, c * 2, c + 0.5, 1 - c, abs(-c)))
    single = A.astype("float32")
    assert same(f, single, 2.5)[0].dtype == np.float32
    same(f, single, -7.25)
    assert len(f.traces) == 1
    same(f, single, 3)
    same(f, np.arange(3), 3)
    assert same(f, np.arange(3), 2.5)[0].dtype == np.float64
    assert len(f.traces) == 4


def test_python_integers_out_of_bounds_are_errors_as_in_numpy() -> None:
    f = gx.jit(lambda x, c: x * c)
    for dtype, fits, wrong in (("int8", -128, 128), ("uint8", 255, -1), ("uint64", 2**40, -1)):
        array = np.arange(3).astype(dtype)
        np.testing.assert_array_equal(f(array, fits), array * array.dtype.type(fits))
        with pytest.raises(ValueError, match=f"out of bounds for {dtype}"):
            f(array, wrong)


def test_functions_of_numpy_make_weak_scalars_strong_as_they_do_in_numpy() -> None:
    f = gx.jit(lambda x, c: x * np.sqrt(c))
    assert same(f, A.astype("float32"), 2.0).dtype == np.float64


def test_bools_strings_and_enumerations_are_static() -> None:
    class Mode(enum.Enum):
        UP = 1
        DOWN = 2

    @gx.jit
    def f(x: Any, mode: Any, flag: Any = True) -> Any:
        sign = 1 if mode in ("up", Mode.UP) else -1
        return x * sign if flag else x

    for mode in ("up", "down", Mode.UP, Mode.DOWN):
        same(f, A, mode)
        same(f, A * 2, mode)
    same(f, A, "up", flag=False)
    assert len(f.traces) == 5
    assert "mode: static 'down', was 'up'" in f.why()


def test_static_arguments_by_number_and_by_name() -> None:
    def power(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = x * x
        return x

    for f in (gx.jit(power, static_argnums=1), gx.jit(static_argnames="n")(power)):
        same(f, A, 2)
        same(f, A, n=2)
        same(f, A, 3)
        assert len(f.traces) == 2
    assert len(gx.jit(power, static_argnums=-1)(A, 1)) == 6


def test_static_values_are_told_apart_by_type() -> None:
    f = gx.jit(lambda x, n: x * n, static_argnames="n")
    assert f(np.arange(3), 1).dtype == np.int64
    assert f(np.arange(3), 1.0).dtype == np.float64


def test_a_static_argument_must_be_hashable() -> None:
    f = gx.jit(lambda x, n: x, static_argnames="n")
    with pytest.raises(TypeError, match="argument n is static, so it must be hashable"):
        f(A, [1, 2])


def test_wrong_choices_are_refused_when_decorating() -> None:
    with pytest.raises(ValueError, match="has no argument 'm'; it has x"):
        gx.jit(lambda x: x, static_argnames="m")
    with pytest.raises(ValueError, match="takes 1 arguments, got 3"):
        gx.jit(lambda x: x, static_argnums=3)
    with pytest.raises(ValueError, match="both static and donated"):
        gx.jit(lambda x: x, static_argnums=0, donate_argnums=0)
    with pytest.raises(ValueError, match="target is one of"):
        gx.jit(lambda x: x, target="tpu")
    with pytest.raises(TypeError, match="takes a function"):
        gx.jit(3)  # type: ignore[arg-type]


def test_why_counts_and_explains() -> None:
    f = gx.jit(lambda x: x * 2)
    assert f.why() == "<lambda>: 0 traces"
    f(A)
    f(M)
    lines = f.why().splitlines()
    assert lines[0] == "<lambda>: 2 traces"
    assert "because: the first call" in lines[2]
    assert "because: x: rank 2, was 1 (trace 1)" in lines[4]
    f.cache_clear()
    assert f.traces == ()
    same(f, A)
    assert len(f.traces) == 1


# -- extents ---------------------------------------------------------------------------------------


def test_a_question_about_extents_becomes_a_guard() -> None:
    @gx.jit
    def f(x: Any) -> Any:
        if x.shape[0] > 4:
            return x * 2
        return x if x.shape[0] != 3 else -x

    for size in (5, 9, 4, 3, 2, 6, 3):
        same(f, np.arange(float(size)))
    assert len(f.traces) == 3
    assert "(x_0 > 4) is True, asked at " in f.why()
    assert "relies on" in f.why()


def test_comparisons_of_shapes_are_answered_by_the_sizes_of_the_call() -> None:
    f = gx.jit(lambda x, y: x + y if x.shape == y.shape else x.sum() - y.sum())
    same(f, A, A)
    same(f, A, A[:4])
    same(f, A[:4], A[:4])
    assert len(f.traces) == 2


def test_truth_of_an_extent_is_a_guard() -> None:
    f = gx.jit(lambda x: x.sum() if x.shape[0] else np.float64(-1))
    same(f, A)
    assert f(A[:0]) == -1
    assert len(f.traces) == 2


@pytest.mark.parametrize(
    "loop",
    [
        lambda x: range(len(x)),
        lambda x: range(x.shape[0]),
        lambda x: range(int(x.shape[0])),
    ],
)
def test_an_extent_whose_number_is_needed_is_pinned_and_the_others_stay(loop: Any) -> None:
    @gx.jit
    def f(x: Any, y: Any) -> Any:
        total = y * 0
        for i in loop(x):
            total = total + x[i] * y
        return total

    same(f, A[:3], A)
    same(f, A[:3], A[:2])
    assert len(f.traces) == 1
    same(f, A[:4], A[:2])
    assert len(f.traces) == 2
    assert [trace.types[1].shape[0] for trace in f.traces] == [gx.dim("y_0")] * 2
    assert "x_0 = 3: its number is needed at" in f.why()
    assert "because: x_0 is 4, and trace 1 is for 3" in f.why()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * math.sqrt(x.shape[0]),
        lambda x: x * math.sqrt(x.shape[0] / 2 + 1),
        lambda x: x * np.hamming(x.shape[0]),
        lambda x: x * 2 if x.shape[0] / 2 > 2.5 else x,
        lambda x: x[: int(x.shape[0] * 0.5)],
    ],
)
def test_numbers_that_follow_from_extents(function: Any) -> None:
    f = gx.jit(function)
    same(f, A)
    same(f, A[:4])
    assert len(f.traces) == 2
    assert "its number is needed" in f.why()


def test_iteration_unrolls() -> None:
    f = gx.jit(lambda x: sum(row * row for row in x))
    same(f, M)
    assert f.traces[0].types[0].shape == (3, gx.dim("x_1"))


def test_what_fails_with_symbols_is_traced_with_numbers_and_says_why() -> None:
    sizes = {6: 1.0, 4: 2.0}
    f = gx.jit(lambda x: x * sizes[x.shape[0]])
    same(f, A)
    same(f, A[:4])
    assert len(f.traces) == 2
    assert "x_0 = 6: symbolic extents fail: KeyError" in f.why()


def test_extents_that_must_be_equal_are_tied() -> None:
    f = gx.jit(lambda x, y: np.stack([x, y]))
    same(f, A, A)
    same(f, A[:4], A[:4])
    assert len(f.traces) == 1


def test_extents_are_numbers_of_python_in_expressions() -> None:
    f = gx.jit(lambda x: (x / x.shape[0], x * (1 / x.shape[0]), x * (0.5 * x.shape[0] - 1)))
    single = A.astype("float32")
    assert all(result.dtype == np.float32 for result in same(f, single))
    same(f, single[:3])
    g = gx.jit(lambda x, w: x @ w / np.sqrt(x.shape[-1]))
    same(g, M, M.T)
    same(g, M[:2, :2], M[:2])
    assert len(f.traces) == len(g.traces) == 1


def test_shapes_that_only_numbers_can_serve() -> None:
    f = gx.jit(lambda x, y: x[::2] + y)
    same(f, np.arange(8.0), np.ones(4))
    same(f, np.arange(2.0), np.ones(4))  # a derived extent is 1 here, and broadcasts
    same(f, np.arange(10.0), np.ones(5))
    same(f, np.arange(2.0), np.zeros(4))
    assert len(f.traces) == 2
    assert "could not be called with these sizes" in f.why()


def test_shapes_that_do_not_fit_name_the_line_of_the_function() -> None:
    with pytest.raises(ValueError, match=r"multiply: shapes do not broadcast(.|\n)*test_jit\.py"):
        affine(A, A[:4])
    same(affine, A, A)


# -- containers, results ---------------------------------------------------------------------------


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any
    name: Any = dataclasses.field(default="layer", metadata={"static": True})


def test_containers_in_and_out() -> None:
    @gx.jit
    def f(params: Any, rest: Any = None, **more: Any) -> Any:
        total = params["a"][0] * 2 + params["b"]
        return {"total": total, "rest": (rest, [more["k"] * 2])}

    same(f, {"a": [A, M], "b": 3.0}, k=A)
    same(f, {"a": [A, M], "b": 3.0}, None, k=A)
    same(f, {"a": [A], "b": 3.0}, rest=(A, A), k=A)
    assert "the structure differs" in f.why()


def test_variadic_arguments() -> None:
    f = gx.jit(lambda *xs, **named: (sum(xs), {key: value * 2 for key, value in named.items()}))
    same(f, A, A * 2, A * 3, u=M, v=A)
    same(f, A)


def test_a_dataclass_is_a_container() -> None:
    @gx.jit
    def step(layer: Layer, x: Any) -> Layer:
        return Layer(layer.weight * x, layer.bias - x, layer.name)

    result = step(Layer(A, A * 2, "first"), A)
    np.testing.assert_allclose(result.weight, A * A)
    assert result.name == "first"
    step(Layer(A, A, "second"), A)
    assert len(step.traces) == 2


def test_static_fields_are_told_apart_by_type() -> None:
    f = gx.jit(lambda layer: layer.weight * layer.name)
    weight = np.arange(3)
    assert f(Layer(weight, weight, 2)).dtype == np.int64
    assert f(Layer(weight, weight, 2.0)).dtype == np.float64


def test_results_that_are_not_computed_come_back_as_they_are() -> None:
    table = np.arange(3)

    @gx.jit
    def f(x: Any) -> Any:
        return {"x": x + 1, "n": 3, "s": "text", "t": table, "none": None, "flag": True}

    first, second = same(f, A), same(f, A)
    assert type(first["n"]) is int and first["flag"] is True
    first["t"][0] = 99
    assert second["t"][0] == 0 and f(A)["t"][0] == 0 and table[0] == 0


def test_a_function_that_computes_nothing() -> None:
    f = gx.jit(lambda: (3, np.ones(2)))
    same(f)
    with pytest.raises(gx.GraphError, match="computes nothing"):
        f.compiled()


def test_an_argument_that_is_returned_is_a_copy() -> None:
    f = gx.jit(lambda x: x)
    result = same(f, A)
    assert not np.shares_memory(result, A)


def test_results_of_unknown_types_are_refused() -> None:
    with pytest.raises(GraphTypeError, match="returns a object at \\[1\\]"):
        gx.jit(lambda x: (x, object()))(A)


def test_arguments_of_unknown_types_are_refused() -> None:
    f = gx.jit(lambda x, g: g(x))
    with pytest.raises(TypeError, match="argument g: a function is neither an array nor a number"):
        f(A, lambda x: x)
    with pytest.raises(TypeError, match="argument g is a masked array"):
        f(A, np.ma.masked_array(A))
    with pytest.raises(TypeError, match="argument x: dtype .* is not supported"):
        f(np.array(["a"]), A)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f(A)


def test_numpy_scalars_and_subclasses_are_arrays() -> None:
    f = gx.jit(lambda x, y: x * y)
    assert f(A.astype("float32"), np.float64(2)).dtype == np.float64
    assert f(np.arange(3), np.int64(2)).dtype == np.int64
    assert type(f(A.view(type("Sub", (np.ndarray,), {})), 2.0)) is np.ndarray
    swapped = A.astype(">f8")
    np.testing.assert_array_equal(f(swapped, 2.0), A * 2)


# -- what Python asks for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x if x.sum() > 0 else -x, ("truth value", "gx.where", "test_jit.py")),
        (lambda x: math.sin(x[0]), ("float value", "gx.sin")),
        (lambda x: int(x.sum()), ("int value", "test_jit.py")),
        (lambda x: list(range(x.sum())), ("integer value", "gx.scan")),
        (lambda x: x.__array__(), ("array value", "NumPy on the expression", "gx.stack")),
        (lambda x: np.eye(3)[x.astype(int)], ("array value", "gx.take")),
        (lambda x: [1, 2][x.sum()], ("integer value", "gx.take")),
    ],
)
def test_values_that_a_trace_does_not_have(function: Any, words: Any) -> None:
    calls = []

    def counted(x: Any) -> Any:
        calls.append(0)
        return function(x)

    with pytest.raises(GraphTypeError) as caught:
        gx.jit(counted)(A)
    text = str(caught.value)
    assert all(word in text for word in (*words, "depends on x", "counted"))
    assert len(text.splitlines()) <= 8
    assert len(calls) == 1  # no other extents would help


def test_a_number_that_should_be_static_is_named() -> None:
    with pytest.raises(GraphTypeError, match="static_argnames='n'"):
        gx.jit(lambda x, n: [x for _ in range(n)])(A, 3)


def test_changing_an_argument_in_place_is_refused() -> None:
    def f(x: Any) -> Any:
        x[0] = 1
        return x

    with pytest.raises(TypeError, match="cannot be changed in place"):
        gx.jit(f)(A)


# -- what a function uses from outside -------------------------------------------------------------


def test_arrays_from_outside_are_copied_when_traced() -> None:
    table = A.copy()
    f = gx.jit(lambda x: x + table)
    same(f, A)
    table[:] = 0
    np.testing.assert_array_equal(f(A), A + A)
    f.cache_clear()
    np.testing.assert_array_equal(f(A), A)


def test_symbols_from_outside_are_refused_even_if_they_look_like_the_arguments() -> None:
    for stranger in (gx.symbol("w", ("n",)), gx.symbol("x", ("x_0",))):
        with pytest.raises(GraphTypeError, match="from outside, which has no value in a call"):
            gx.jit(lambda x, s=stranger: x + s)(A)


def test_values_of_an_earlier_trace_are_refused() -> None:
    kept = []

    @gx.jit
    def f(x: Any) -> Any:
        kept.append(x)
        return x

    f(A)
    with pytest.raises(GraphTypeError, match="an earlier trace left behind"):
        gx.jit(lambda x: x + kept[0])(A)


def test_with_nodes_the_function_is_inlined() -> None:
    x = gx.vector("x", 3)
    y = affine(x, x)
    assert y is np.tanh(x) * x + 2.5
    assert gx.grad(affine(x, 1.0).sum(), x).shape == (3,)


def test_jitted_functions_within_each_other() -> None:
    outer = gx.jit(lambda x, y: affine(x, y) * affine(y, x))
    same(outer, A, A[::-1])
    before = len(affine.traces)
    same(outer, A[:3], A[:3])
    assert len(affine.traces) == before


def test_a_call_with_arrays_while_another_function_is_traced() -> None:
    inner = gx.jit(lambda x: x * 2 if x.shape[0] > 4 else x)
    outer = gx.jit(lambda x: x + inner(A).sum() if x.shape[0] > 2 else x)
    same(outer, A[:3])
    same(outer, A[:2])


def test_gradients_with_respect_to_arguments() -> None:
    @gx.jit
    def f(params: Any, x: Any, scale: Any) -> Any:
        cost = ((x @ params["w"] + params["b"]) ** 2).sum() * scale
        return gx.grad(cost, params), gx.grad(cost, scale)

    grads, by_scale = f({"w": M.T, "b": 0.5}, M, 3.0)
    np.testing.assert_allclose(grads["w"], 6 * M.T @ (M @ M.T + 0.5), rtol=1e-12)
    np.testing.assert_allclose(by_scale, ((M @ M.T + 0.5) ** 2).sum(), rtol=1e-12)


# -- recursion -------------------------------------------------------------------------------------


def test_recursion_that_ends_while_tracing() -> None:
    @gx.jit(static_argnames="n")
    def power(x: Any, n: Any) -> Any:
        return x if n == 0 else power(x * 2, n - 1)

    np.testing.assert_array_equal(power(A, 10), A * 1024)
    assert len(power.traces) == 1


def test_recursion_without_end_is_an_error() -> None:
    @gx.jit
    def through_nodes(x: Any) -> Any:
        return through_nodes(x)

    @gx.jit
    def through_arrays(x: Any) -> Any:
        return through_arrays(A)

    for f in (through_nodes, through_arrays):
        with pytest.raises(EndlessTraceError, match=r"calls itself without end(.|\n)*test_jit\.py"):
            f(A)


# -- methods, donation, threads, pickling ----------------------------------------------------------


class Model:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    @gx.jit
    def apply(self, x: Any, n: int = 2) -> Any:
        return x * self.weight * n

    @staticmethod
    @gx.jit
    def plain(x: Any) -> Any:
        return x + 1


def test_methods_are_traced_for_each_instance() -> None:
    one, other = Model(2.0), Model(3.0)
    np.testing.assert_array_equal(one.apply(A), A * 4)
    np.testing.assert_array_equal(other.apply(A), A * 6)
    np.testing.assert_array_equal(Model(5.0).apply(A, n=1), A * 5)
    np.testing.assert_array_equal(one.plain(A), A + 1)
    assert len(one.apply.traces) == 1
    np.testing.assert_array_equal(copy.copy(one).apply(A), A * 4)


def test_methods_do_not_keep_instances_alive() -> None:
    import gc
    import weakref

    model = Model(2.0)
    model.apply(A)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_a_container_with_methods_is_an_argument() -> None:
    @dataclasses.dataclass
    class Scale:
        factor: Any

        @gx.jit
        def apply(self, x: Any) -> Any:
            return x * self.factor

    np.testing.assert_array_equal(Scale(2.0).apply(A), A * 2)
    np.testing.assert_array_equal(Scale(3.0).apply(A), A * 3)
    assert len(Scale.apply.traces) == 1


def test_donated_arguments_are_the_results() -> None:
    f = gx.jit(lambda state, x: {"w": state["w"] + x}, donate_argnums=0)
    given = A.copy()
    result = f({"w": given}, A)
    assert result["w"] is given
    np.testing.assert_array_equal(given, A + A)


def test_a_donation_that_fits_no_result_is_an_error() -> None:
    with pytest.raises(gx.GraphError, match="no output of type"):
        gx.jit(lambda x: x.sum(), donate_argnums=0)(A)


def test_threads_share_one_trace() -> None:
    f = gx.jit(lambda x, y: np.exp(x) * y)
    barrier = threading.Barrier(8)
    results: list[Any] = []

    def work(size: int) -> None:
        barrier.wait()
        results.append((size, f(A[:size], A[:size])))

    threads = [threading.Thread(target=work, args=(2 + i % 4,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(f.traces) == 1
    for size, result in results:
        np.testing.assert_allclose(result, np.exp(A[:size]) * A[:size], rtol=1e-12)


def test_pickle_and_copies() -> None:
    assert pickle.loads(pickle.dumps(affine)) is affine
    assert copy.deepcopy(affine) is affine
    assert affine.__name__ == "affine"


def test_many_shapes_do_not_grow_the_memory_of_calls() -> None:
    from graphc import jitted

    f = gx.jit(lambda x: x + 1)
    for size in range(2, jitted._REMEMBERED + 50):
        f(np.empty(size))
    assert len(f._quick) <= jitted._REMEMBERED
    assert len(f.traces) == 1


def test_options_and_target() -> None:
    f = gx.jit(lambda x: x * 2, target="interpret", options=gx.Options(threads=1))
    same(f, A)
    with pytest.raises(TypeError, match="options is a gx.Options"):
        gx.jit(lambda x: x, options={"threads": 1})


def test_the_graph_and_the_function_behind_a_call() -> None:
    f = gx.jit(lambda x, y: x * y)
    graph = f.graph(A, 2.0)
    assert [len(type_.shape) for type_ in graph.parameters] == [1, 0]
    assert isinstance(graph.parameters[0].shape[0], Dim)
    np.testing.assert_array_equal(f.compiled(A, 2.0)(A, 2.0), A * 2)
    assert len(f.traces) == 1


def test_arguments_that_cannot_be_converted_are_errors_of_the_call() -> None:
    f = gx.jit(lambda x, n: x + n)
    f(np.arange(3), 2)
    with pytest.raises(OverflowError):
        f(np.arange(3), 2**70)
