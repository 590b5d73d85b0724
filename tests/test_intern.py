"""Is an expression written twice one node, in every thread, and gone when nobody refers to it?

What is held here is what everything else relies on: `is` compares expressions, `id` may key a
dictionary, and a digest names a structure in every process.
"""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from places import run_python

import graphc as gx
from graphc import graph as graphs
from graphc import node as nodes
from graphc.graph import Graph, close
from graphc.node import Attributes, intern, interned_count, topological, users_of
from graphc.op import NoDerivative, Op
from graphc.ops.operands import broadcast_op, constant, constant_op
from graphc.types import TensorType, TupleType

# -- one structure, one node -----------------------------------------------------------------------


def network(x: Any) -> Any:
    """Something of every kind: constants, views, contractions, reductions, regions."""
    w = gx.constant(np.arange(12.0).reshape(4, 3))
    y = gx.softmax(gx.tanh(x @ w)[:, ::-1])
    z, ys = gx.scan(lambda s, a: (s * 0.5 + a, s), gx.zeros(3), y)
    return gx.call(lambda a, b: gx.sum(a * b), z, gx.take(ys, [0, 1, 0], axis=0))


def test_the_same_expression_is_the_same_node() -> None:
    x = gx.matrix("x", ("n", 4))
    assert network(x) is network(gx.matrix("x", ("n", 4)))
    assert gx.grad(network(x), x) is gx.grad(network(x), x)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: gx.vector("x", 3), lambda: gx.vector("y", 3)),
        (lambda: gx.vector("x", 3), lambda: gx.vector("x", 4)),
        (lambda: gx.vector("x", 3), lambda: gx.vector("x", 3, "float32")),
        (lambda: gx.scalar("x"), lambda: gx.symbol("x", (), facts=["positive"])),
        (lambda: gx.constant(0.0), lambda: gx.constant(-0.0)),
        (lambda: gx.constant(1), lambda: gx.constant(1.0)),
        (lambda: gx.constant(1), lambda: gx.constant(True)),
        (lambda: gx.constant(1.0), lambda: gx.constant(1.0, "float32")),
        (lambda: gx.constant([1.0]), lambda: gx.constant([[1.0]])),
        (lambda: gx.zeros((2, 3)), lambda: gx.zeros((3, 2))),
        (lambda: gx.iota((3, 3), 0), lambda: gx.iota((3, 3), 1)),
        (
            lambda: gx.constant(np.array([np.nan])),
            lambda: gx.constant(np.array([0xFFF8000000000000], np.uint64).view(float)),
        ),
    ],
)
def test_what_differs_in_anything_is_another_node(
    first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    assert first() is first() and second() is second()
    assert first() is not second()
    assert first().digest != second().digest


def test_commuted_arguments_are_another_node() -> None:
    x, y = gx.scalar("x"), gx.scalar("y")
    assert (x + y) is not (y + x)


def test_a_constant_does_not_follow_its_array() -> None:
    array = np.zeros(3)
    node = gx.constant(array)
    array[0] = 1.0
    np.testing.assert_array_equal(gx.evaluate(node), np.zeros(3))
    assert node is gx.constant(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        node.attrs["value"].array[0] = 1.0


@pytest.mark.parametrize("spelling", ["<f8", ">f8", "float64"])
def test_byte_order_and_layout_of_an_array_do_not_matter(spelling: str) -> None:
    array = np.arange(6.0).reshape(2, 3)
    other = np.asfortranarray(array.astype(spelling))
    assert gx.constant(other) is gx.constant(array)
    assert gx.constant(array[:, ::-1][:, ::-1]) is gx.constant(array)


def test_copies_are_the_node_itself() -> None:
    x = network(gx.matrix("x", ("n", 4)))
    assert copy.copy(x) is x and copy.deepcopy(x) is x
    assert copy.deepcopy({"a": [x]})["a"][0] is x
    assert pickle.loads(pickle.dumps(x)) is x


# -- weak ------------------------------------------------------------------------------------------


@pytest.fixture
def balance() -> Iterator[None]:
    """Whether as many nodes are alive after a test as before."""
    gc.collect()
    before = interned_count()
    yield
    gc.collect()
    assert interned_count() <= before


@pytest.mark.usefixtures("balance")
def test_what_nobody_refers_to_is_freed() -> None:
    x = gx.matrix("only here", ("n", 4))
    y = gx.grad(network(x), x)
    gone = weakref.ref(y)
    del x, y
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("balance")
def test_a_compiled_function_keeps_no_more_than_itself() -> None:
    x = gx.vector("only here as well", 3)
    f = gx.compile([x], [gx.tanh(x) * 12.75])
    f(np.ones(3))
    del f, x


@pytest.mark.usefixtures("balance")
def test_a_deep_chain_is_freed_without_recursion() -> None:
    depth = 20 * sys.getrecursionlimit()
    node = gx.scalar("the end of a chain")
    for _ in range(depth):
        node = node * 1.25
    assert interned_count() > depth
    del node


@pytest.mark.usefixtures("balance")
def test_many_references_to_one_node() -> None:
    x = gx.vector("x", 3)
    assert len({gx.tanh(x) for _ in range(1_000)}) == 1


@pytest.mark.usefixtures("balance")
def test_a_type_rule_that_refuses_leaves_nothing_behind() -> None:
    x, y = gx.vector("refused", 3), gx.vector("refused too", 4)
    for _ in range(100):
        with pytest.raises(gx.GraphError):
            x + y


# -- hash collisions -------------------------------------------------------------------------------


class Colliding:
    """An attribute whose hash is always the same."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Colliding) and self.value == other.value

    def __repr__(self) -> str:
        return f"Colliding({self.value})"


@pytest.fixture
def tagged() -> Op:
    """An op that is in no registry, with an attribute of any kind."""
    return Op(
        "tagged",
        lambda tag: TensorType("float64", ()),
        lambda tag: np.zeros(()),
        constant_op.lowering,
        NoDerivative("it is for a test"),
        attributes=("tag",),
    )


def test_nodes_of_one_hash_are_told_apart(tagged: Op) -> None:
    made = [tagged(tag=Colliding(i)) for i in range(50)]
    assert len({id(node) for node in made}) == 50
    for i in range(50):
        assert tagged(tag=Colliding(i)) is made[i]
    assert len({node.digest for node in made}) == 50


def test_the_others_stay_when_one_of_a_hash_goes(tagged: Op) -> None:
    made = {i: tagged(tag=Colliding(i)) for i in range(20)}
    for i in (0, 19, 7, 8, 1):
        del made[i]
        gc.collect()
        for j, node in made.items():
            assert tagged(tag=Colliding(j)) is node
    before = interned_count()
    made.clear()
    del node
    gc.collect()
    assert interned_count() == before - 1  # they were one entry


def test_every_hash_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is slow then, but right."""
    with mock.patch.object(Attributes, "__hash__", lambda self: 0):
        x = gx.vector("x of one hash", 3)
        y = [gx.sum(gx.reshape(x, (3, 1)), axis=axis) for axis in (0, 1)]
        assert y[0] is not y[1]
        assert y[0] is gx.sum(gx.reshape(x, (3, 1)), axis=0)


# -- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(threads: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(round)` gives in every thread, all starting at once."""
    barrier = threading.Barrier(threads)

    def start(position: int) -> Any:
        barrier.wait()
        return work(position)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


@pytest.mark.usefixtures("hurried")
def test_threads_that_write_the_same_get_the_same_nodes() -> None:
    for trial in range(10):

        def write(_: int, trial: int = trial) -> list[Any]:
            x = gx.matrix(f"x of {trial}", ("n", 4))
            return [x, network(x), gx.grad(network(x), x)]

        first, *others = together(6, write)
        for other in others:
            assert all(a is b for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures("hurried")
def test_threads_get_the_same_types() -> None:
    def make(_: int) -> list[Any]:
        tensors = [TensorType("float64", (k + 1, k + 2, 7)) for k in range(500)]
        return [*tensors, *[TupleType((t, t)) for t in tensors]]

    first, *others = together(6, make)
    for other in others:
        assert all(a is b for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures("hurried", "balance")
def test_nodes_that_die_while_others_are_born() -> None:
    def churn(position: int) -> int:
        alive = 0
        for i in range(100):
            x = gx.scalar(f"churned {i % 7}")
            y = gx.tanh(x * float(i % 5)) + float(i % 3)
            assert y is gx.tanh(x * float(i % 5)) + float(i % 3)
            alive += y.ndim == 0
            del x, y
            if i % 20 == position:
                gc.collect()
        return alive

    assert together(6, churn) == [100] * 6


def test_garbage_collection_inside_the_table() -> None:
    """The callback of a dying node runs at any moment, also while its own thread is in the table.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for i in range(200):
            x = gx.scalar(f"collected {i % 3}")
            loop: list[Any] = [x * float(i)]
            loop.append(loop)  # freed by the collector only
            del loop
    finally:
        gc.set_threshold(*thresholds)


# -- digests ---------------------------------------------------------------------------------------

_DIGESTS = """
import sys
sys.path.insert(0, sys.argv[1])
import graphc as gx
from test_intern import network
x = gx.matrix("x", ("n", 4))
y = network(x)
f = gx.compile([x], [y, gx.grad(y, x)], target="interpret")
print(y.digest, gx.grad(y, x).digest, f.graph.digest.hex(), f.rewritten.digest.hex())
"""


def test_digests_are_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for seed in ("0", "1", "4294967295"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        here = str(Path(__file__).parent)
        found.add(run_python("-c", _DIGESTS, here, folder=tmp_path))
    assert len(found) == 1
    x = gx.matrix("x", ("n", 4))
    assert found.pop().split()[:2] == [network(x).digest, gx.grad(network(x), x).digest]


def test_a_digest_does_not_depend_on_what_was_built_before() -> None:
    x = gx.vector("x", 3)
    before = (gx.exp(x) * 2).digest
    _ = [gx.exp(x * float(i)) for i in range(100)]
    assert (gx.exp(x) * 2).digest == before


def test_a_graph_digest_does_not_depend_on_names() -> None:
    def closed(name: str, extent: str) -> str:
        x = gx.vector(name, extent)
        f = gx.compile([x], [gx.tanh(x) * gx.sum(x)], target="interpret")
        return f.graph.digest.hex()

    assert closed("x", "n") == closed("some other name", "batch")


def test_intern_refuses_to_be_fooled_by_equal_numbers(tagged: Op) -> None:
    """1, 1.0 and True are equal and hash alike; a digest would tell them apart."""
    made = {value: intern(tagged, (), Attributes({"tag": value})) for value in ("1", 1)}
    assert made["1"] is not made[1]
    assert nodes.digest(made["1"]) != nodes.digest(made[1])


def test_users_are_listed_once_for_each_argument() -> None:
    x, y = gx.symbol("x", 3), gx.symbol("y", 3)
    square, total = x * x, x + y
    users = users_of(topological([square, total]))
    assert [user is square for user in users[x]] == [True, True, False]
    assert users[x][2] is total and users[y] == [total] and total not in users


def test_a_closed_graph_knows_the_order_of_its_nodes() -> None:
    x, y, z = (gx.symbol(name, 3) for name in "xyz")
    rows = gx.symbol("rows", (4, 3))
    last, _ = gx.scan(lambda state, row: (gx.sin(state) * y + row, None), x, rows)
    outputs = [(x - y) * gx.sin(x), last + 2.0, y, gx.exp(z) * x]
    for inputs in ([x, y, z, rows], [rows, z, y, x], [x, rows], [x]):
        graph, captured = close(inputs, outputs)
        assert bool(captured) == (len(inputs) < 4)
        assert list(map(id, graph.order)) == list(map(id, topological(graph.outputs)))


def test_a_graph_closed_over_what_is_no_leaf() -> None:
    inner = gx.sin(constant(np.arange(3.0)))
    graph, captured = close([inner], [inner * 2.0])
    assert not captured and all(node.op.name != "sin" for node in graph.order)
    assert list(map(id, graph.order)) == list(map(id, topological(graph.outputs)))


def test_a_closed_graph_is_told_from_others_before_its_nodes_are_made() -> None:
    x, y, rows = gx.symbol("x", 3), gx.symbol("y", 3), gx.symbol("rows", (4, 3))
    last, _ = gx.scan(lambda state, row: (gx.sin(state) * y + row, None), x, rows)
    outputs = [(x - y) * gx.sin(x), gx.sum(last + 2.0, axis=0, keepdims=True), y, rows.T]
    before = interned_count()
    graph, _ = close([x, y, rows], outputs)
    digest, types, ops = graph.digest, graph.types, {node.op for node in graph.alike}
    assert interned_count() == before
    again = Graph(graph.parameters, graph.outputs)
    assert interned_count() > before
    assert again.digest == digest and again.types == types == graph.types
    assert {node.op for node in again.order} - ops == {graphs.parameter_op}
    assert graph.alike is graph.order and list(map(id, graph.order)) == list(map(id, again.order))
    assert close([y, x, rows], outputs)[0].digest != digest
    assert pickle.loads(pickle.dumps(close([x, y, rows], outputs)[0])).digest == digest


def test_a_graph_closed_before_is_opened_by_many_threads_at_once() -> None:
    x = gx.symbol("x", 3)
    y = x
    for i in range(300):
        y = gx.sin(y) + float(i)
    graph, _ = close([x], [y])
    start = threading.Barrier(8)

    def look(number: int) -> tuple[int, int]:
        start.wait()
        if number % 2:
            return id(graph.outputs[0]), len(graph.order)
        order = graph.order
        return id(graph.outputs[0]), len(order)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(look, range(8)))) == 1


def test_the_order_in_which_attributes_are_given_is_no_difference() -> None:
    x, stretch = gx.matrix("x", (2, 3)), broadcast_op
    first = stretch(x, axes=(1, 2), shape=(4, 2, 3))
    assert first is stretch(x, shape=(4, 2, 3), axes=(1, 2))
    assert tuple(first.attrs) == stretch.attributes != ("axes", "shape")
    with pytest.raises(KeyError, match="axes"):
        stretch(x, shape=(4, 2, 3))


def test_what_a_type_rule_refuses_it_refuses_again() -> None:
    x = gx.matrix("x", (2, 3))
    for _ in range(2):
        with pytest.raises(gx.GraphError, match="do not fit"):
            broadcast_op(x, shape=(4, 2, 3), axes=(2, 1))


def test_the_key_of_a_graph_is_that_of_what_it_computes() -> None:
    """By position, not by names; the same before and after its nodes are made."""

    def key(first: str, second: str, *, turned: bool = False, power: float = 2.0) -> bytes:
        x, y = gx.symbol(first, 3), gx.symbol(second, 3)
        made = gx.sin(x) * y - x**power
        graph, _ = close([y, x] if turned else [x, y], [made.sum(), made])
        before = graph.key
        copy = Graph(graph.parameters, graph.outputs)
        assert before == copy.key == pickle.loads(pickle.dumps(graph)).key
        return before

    assert key("x", "y") == key("a", "b")
    assert len({key("x", "y"), key("x", "y", turned=True), key("x", "y", power=3.0)}) == 3
    x = gx.symbol("x", 3)
    assert close([x], [x, x + 1.0])[0].key != close([x], [x + 1.0, x])[0].key
    assert close([x], [x])[0].key != close([gx.symbol("x", 4)], [x[:0]])[0].key
