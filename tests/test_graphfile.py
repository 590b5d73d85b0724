"""Does a graph come back from a pickle or a file as it was, and is a bad file explained?"""

from __future__ import annotations

import copy
import enum
import gc
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import run_python

import graphc as gx
from graphc import op as op_module
from graphc.dims import dim
from graphc.errors import GraphError
from graphc.graph import Graph, close, parameter, placeholder
from graphc.graphfile import load, pack, save, unpack, unpack_graph, unpack_one
from graphc.lowering import Leaf
from graphc.node import Node, digest, interned_count
from graphc.op import Op, no_derivative, register
from graphc.ops.control import call_op
from graphc.ops.operands import constant, symbol
from graphc.ops.special import project
from graphc.origin import Event, because, location
from graphc.types import TensorType

N = dim("n")


def layered() -> dict[str, Any]:
    """Dims, facts, all dtypes, every kind of attribute, nested Graphs, derivatives."""
    x = symbol("x", (N, 3))
    k = symbol("k", (3,), "int64")
    positive = symbol("positive", ((N + 1) // 2,), "float32", facts=("nonnegative", "finite"))

    def layer(a: Node) -> Node:
        product = a @ np.arange(9.0).reshape(3, 3)
        return gx.tanh(product) * gx.call(lambda b: b + 1.0, a, name="inner")

    y = gx.call(layer, x, name="layer")
    total, steps = gx.scan(lambda s, row: (s + row.sum(), s * 2.0), 0.0, x)
    flags = gx.where(k > 1, k, -k)
    grads = gx.grad(y.sum() + total, {"x": x})
    return {
        "grads": grads,
        "steps": (steps, None),
        "flags": [flags, gx.isnan(positive)],
        "window": x[1:, ::2],
        "size": x / x.shape[0],
        "graph": close([x], [y, total])[0],
    }


def leaves(value: Any) -> list[Node]:
    """The nodes of a nested container, those of Graphs included."""
    if isinstance(value, Node):
        return [value]
    if isinstance(value, Graph):
        return list(value.outputs)
    items = value.values() if isinstance(value, dict) else value or ()
    return [leaf for item in items for leaf in leaves(item)]


# -- pickles ---------------------------------------------------------------------------------------


def test_pickle_finds_the_same_node_again() -> None:
    for node in leaves(layered()):
        assert pickle.loads(pickle.dumps(node)) is node
        assert copy.copy(node) is node and copy.deepcopy(node) is node


def test_pickle_rebuilds_what_is_gone() -> None:
    nodes = leaves(layered())
    digests = [digest(node) for node in nodes]
    table = pack(nodes)
    before = interned_count()
    del nodes
    gc.collect()
    assert interned_count() < before
    assert [digest(node) for node in unpack(pickle.loads(pickle.dumps(table)))] == digests


def test_shared_nodes_and_heads_are_stored_once() -> None:
    x = symbol("x", (1000,))
    node = x
    for _ in range(60):  # 2**60 occurrences of x
        node = node + node
    data = pickle.dumps([node])
    assert len(data) < 4000
    assert pickle.loads(data)[0] is node


def test_constants_of_a_pickle_are_stored_once() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64))
    x = symbol("x", (64, 64))
    graph = (x @ weights) @ weights + (x * weights)
    assert len(pickle.dumps(graph)) < 1.2 * weights.nbytes


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_graph_pickles(protocol: int) -> None:
    graph = layered()["graph"]
    again = pickle.loads(pickle.dumps(graph, protocol))
    assert again == graph and again.parameters == graph.parameters
    assert all(a is b for a, b in zip(again.outputs, graph.outputs, strict=True))
    assert unpack_graph(graph.parameters, pack(graph.outputs)) == graph


def test_pickle_crosses_processes(tmp_path: Path) -> None:
    code = (
        "import sys, pickle, graphc as gx\n"
        "x = gx.symbol('x', ('n', 3), facts=('finite',))\n"
        "y = gx.call(lambda a: gx.tanh(a) * a, x, name='layer')\n"
        "g = gx.grad((y * 2.0).sum(), x)\n"
        "sys.stdout.write(g.digest + ' ' + pickle.dumps(g).hex())"
    )
    expected, data = run_python("-c", code, folder=tmp_path).split()
    node = pickle.loads(bytes.fromhex(data))
    assert node.digest == expected
    assert location(node.origin) == "<string>:3"
    assert node.origin[0].kind == "vjp"


def test_origins_of_a_pickle_do_not_pile_up() -> None:
    x = symbol("x", (3,))
    with because(Event("rule", "fold", because=x.origin)):
        node = x * 3.0 + 1.0
    before = [str(event) for event in node.origin]
    for _ in range(5):
        assert unpack_one(pack([node])) is node
    assert [str(event) for event in node.origin] == before


def test_chains_longer_than_the_recursion_limit() -> None:
    node = symbol("x", (3,))
    for _ in range(20_000):
        node = node + 1.0
    assert pickle.loads(pickle.dumps(node)) is node


@pytest.mark.slow
def test_chain_of_a_million(tmp_path: Path) -> None:
    x = node = symbol("x", (3,))
    for _ in range(1_000_000):
        node = node + x
    data = pickle.dumps(node)
    assert len(data) < 12_000_000
    expected = node.digest
    del node
    node = pickle.loads(data)
    assert node.digest == expected
    save(tmp_path / "chain.graph", node)
    assert load(tmp_path / "chain.graph") is node


def test_graphs_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    type_ = TensorType("float64", (3,))
    graph = Graph([type_], [parameter(0, type_) + 1.0])
    for _ in range(1200):
        node = call_op(parameter(0, type_), graph=graph, name="deeper")
        graph = Graph([type_], [project(node, 0)])
    table = pickle.loads(pickle.dumps(pack(graph.outputs)))
    assert unpack_graph(graph.parameters, table) == graph
    save(tmp_path / "deep.graph", graph)
    assert load(tmp_path / "deep.graph") == graph


def test_bound_variables_are_refused(tmp_path: Path) -> None:
    bound = placeholder(TensorType("float64", ()))
    with pytest.raises(GraphError, match="bound variable"):
        pickle.dumps(bound * 2.0)
    with pytest.raises(GraphError, match="bound variable"):
        save(tmp_path / "x.graph", [bound])


def test_pickle_of_another_version_says_so() -> None:
    table = pack([symbol("x")])
    with pytest.raises(GraphError, match="version 99"):
        unpack((99, *table[1:]))


# -- ops of one's own ------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


@pytest.fixture
def tagged() -> Iterator[Op]:
    """An op with one attribute of any kind, registered for one test."""
    op = register(
        Op(
            "test.tagged",
            lambda x, tag: x,
            lambda x, tag: x,
            Leaf(),
            no_derivative("for tests"),
            attributes=("tag",),
        )
    )
    yield op
    del op_module.REGISTRY["test.tagged"]


FITTING = [
    None, True, 0, 1, -(2**80), 0.1, -0.0, float("inf"), 5e-324, "", "naïve \n\ud800", b"\0\xff",
    (), (1, (2.5, ("x",))), N, N * 2 + (N // 3) % 4, np.dtype("float32"),
    TensorType("int64", (N, 0)),
]  # fmt: skip


@pytest.mark.parametrize("tag", FITTING, ids=lambda tag: ascii(tag)[:20])
def test_attribute_values_round_trip(tagged: Op, tmp_path: Path, tag: Any) -> None:
    node = tagged(symbol("x"), tag=tag)
    before = node.digest
    path = tmp_path / "x.graph"
    save(path, node)
    table = pickle.dumps(node)
    del node
    for again in (load(path), pickle.loads(table)):
        found = again.attrs["tag"]
        assert (type(found), repr(found), again.digest) == (type(tag), repr(tag), before)


@pytest.mark.parametrize("tag", [Colour.RED, np.float64(1.5), 2j], ids=repr)
def test_other_values_are_for_pickles_only(tagged: Op, tmp_path: Path, tag: Any) -> None:
    node = tagged(symbol("x"), tag=tag)
    assert pickle.loads(pickle.dumps(node)) is node
    with pytest.raises(GraphError, match=f"cannot hold a {type(tag).__name__}"):
        save(tmp_path / "x.graph", node)
    assert list(tmp_path.iterdir()) == []


# -- files -----------------------------------------------------------------------------------------


def test_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    value = layered()
    path = tmp_path / "layers.graph"
    save(path, value)
    again = load(path)
    assert list(again) == list(value)
    assert type(again["steps"]) is tuple and again["steps"][1] is None
    assert again["graph"] == value["graph"]
    assert all(a is b for a, b in zip(leaves(again), leaves(value), strict=True))


def test_file_has_the_same_bytes_for_every_hash_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, graphc as gx\n"
        "x, y = gx.symbol('x', ('n', 3), facts=('finite', 'positive')), gx.vector('y', 3)\n"
        "z = gx.call(lambda a: gx.tanh(a @ [1.0, 2.0, 3.0]), x)\n"
        "gx.save(sys.argv[1], gx.grad(z.sum() * y.sum(), {'x': x, 'y': y}))\n"
    )
    for seed in "12":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        path = tmp_path / seed
        run_python("-c", code, str(path), folder=tmp_path)
    first, second = ((tmp_path / seed).read_bytes() for seed in "12")
    assert first == second
    assert set(load(tmp_path / "1")) == {"x", "y"}


def test_origins_are_optional(tmp_path: Path) -> None:
    here = Path(__file__).name
    node = symbol("only here", (3,)) * 7.25
    assert here in location(node.origin)
    save(tmp_path / "with", node)
    save(tmp_path / "without", node, origins=False)
    assert here in members(tmp_path / "with")["graph.json"].decode()
    assert here not in members(tmp_path / "without")["graph.json"].decode()
    del node
    assert location(load(tmp_path / "without").origin) == ""
    assert here in location(load(tmp_path / "with").origin)


CONSTANTS = [
    np.array([np.nan, -0.0, np.inf, 5e-324]),
    np.array([np.nan], "float32").view("uint32").__or__(7).view("float32"),
    np.zeros((0, 3), "int64"),
    np.array([True, False]),
    np.array(2**63 - 1),
    np.arange(6.0).reshape(2, 3).T,
    np.arange(3.0).astype(">f8"),
]


@pytest.mark.parametrize("array", CONSTANTS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_constants_keep_every_bit(tmp_path: Path, array: np.ndarray) -> None:
    save(tmp_path / "c", constant(array))
    again = load(tmp_path / "c").attrs["value"].array
    native = array.astype(array.dtype.newbyteorder("="))
    assert again.dtype == native.dtype and again.shape == native.shape
    assert again.tobytes() == native.tobytes()


def test_file_reads_as_numpy_archive(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", symbol("x", (3,)) * np.arange(3.0))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive["constant0"].tolist() == [0.0, 1.0, 2.0]
        assert archive["count"].tolist() == [0, 0, 2]


def test_saving_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.graph"
    x = symbol("x")
    save(path, x)
    with pytest.raises(GraphError):
        save(path, [x, object()])
    assert load(path) is x
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.graph"]


@pytest.mark.parametrize("value", [object(), {1: symbol("x")}, np.zeros(3)])
def test_what_cannot_be_saved_is_named(tmp_path: Path, value: Any) -> None:
    with pytest.raises(GraphError, match=r"cannot hold a|string keys"):
        save(tmp_path / "x.graph", value)


OPERATIONS = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: gx.where(a > b, a, 2.0),
    lambda a, b: gx.exp(a) / b.sum(),
    lambda a, b: (a.reshape((1, 4)) @ b.reshape((4, 1))).reshape(()) + a,
    lambda a, b: gx.concatenate([a, b])[1:5],
    lambda a, b: gx.call(lambda c: c - b, a),
]


INDEX = st.integers(0, 1000)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), INDEX, INDEX), max_size=30))
def test_any_graph_round_trips(steps: list[Any]) -> None:
    nodes: list[Node] = [symbol("x", (4,)), symbol("y", (4,))]
    for operation, i, j in steps:
        nodes.append(operation(nodes[i % len(nodes)], nodes[j % len(nodes)]))
    for again, node in zip(unpack(pack(nodes)), nodes, strict=True):
        assert again is node


# -- files that are not as they should be ----------------------------------------------------------


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.graph"
    x = symbol("x", (N, 3))
    y = gx.call(lambda a: gx.tanh(a) * np.arange(3.0), x, name="layer")
    save(path, {"y": y.sum(axis=0)})
    return path


def with_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file with its header changed."""
    parts = members(path)
    header = json.loads(parts["graph.json"])
    change(header)
    write_members(path, parts | {"graph.json": json.dumps(header).encode()})
    return path


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for content in (b"", b"notes", b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(GraphError, match="not a graph file"):
            load(path)
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    write_members(tmp_path / "other.zip", {"graph.json": b'{"format": "something else"}'})
    for name in ("arrays.npz", "other.zip"):
        with pytest.raises(GraphError, match="not a graph file"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_newer_file(saved: Path) -> None:
    with_header(saved, lambda header: header.update(version=2, writer="9.9"))
    with pytest.raises(GraphError, match=r"version 2.*9\.9(.|\n)*newer"):
        load(saved)


def test_unknown_op(saved: Path) -> None:
    with_header(saved, lambda header: header["ops"].append(["plasma.curl", 1]))
    with pytest.raises(GraphError, match=r"model\.graph(.|\n)*plasma\.curl(.|\n)*module"):
        load(saved)


@pytest.mark.parametrize(("version", "advice"), [(2, "Update graphc"), (0, "changed its meaning")])
def test_op_of_another_version(saved: Path, version: int, advice: str) -> None:
    def change(header: dict[str, Any]) -> None:
        next(row for row in header["ops"] if row[0] == "tanh")[1] = version

    with pytest.raises(GraphError, match=f"version {version} of the op 'tanh'(.|\n)*{advice}"):
        load(with_header(saved, change))


def test_changed_meaning_is_noticed(saved: Path) -> None:
    """A file that is sound in itself, but is not the graph that was saved."""

    def change(header: dict[str, Any]) -> None:
        next(row for row in header["ops"] if row[0] == "tanh")[0] = "sigmoid"

    with pytest.raises(GraphError, match="digest"):
        load(with_header(saved, change))


BAD_VALUES: list[Any] = [
    {"dim": "__import__('os').system('true')"}, {"dim": "n" * 100 + "+("}, {"node": 10**9},
    {"node": -1}, {"foreign": 0}, {"exec": "1"}, {"graph": 7}, {"tensor": ["complex128", []]},
    {"constant": 99}, {"float": "x"}, {}, [[]], {"list": 3}, {"tuple": {"dim": 3}},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_VALUES, ids=lambda bad: ascii(bad)[:24])
def test_bad_values(saved: Path, bad: Any) -> None:
    with pytest.raises(GraphError, match="damaged"):
        load(with_header(saved, lambda header: header.update(result=bad)))


def test_bad_rows(saved: Path) -> None:
    for row in ([[], [10**9]], [], 7, [[], ["0"]], [[{"dim": "n"}], None]):
        damaged = saved.with_name("damaged")
        damaged.write_bytes(saved.read_bytes())
        with pytest.raises(GraphError, match="damaged"):
            load(with_header(damaged, lambda header, row=row: header["graphs"].append(row)))


def test_references_forward_are_refused(saved: Path) -> None:
    parts = members(saved)
    stream = io.BytesIO()
    arguments = np.load(io.BytesIO(parts["argument.npy"]))
    np.save(stream, arguments[::-1].copy())
    write_members(saved, parts | {"argument.npy": stream.getvalue()})
    with pytest.raises(GraphError, match="damaged"):
        load(saved)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("member", ["constant0.npy", "head.npy"])
def test_reading_never_unpickles(saved: Path, tmp_path: Path, member: str) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], object), allow_pickle=True)
    write_members(saved, members(saved) | {member: stream.getvalue()})
    with pytest.raises(GraphError, match="damaged"):
        load(saved)
    assert not (tmp_path / "sprung").exists()


def test_a_directory_that_no_reader_knows_is_damage(saved: Path) -> None:
    """The central directory asks for version 6.4 of the format, or has a name that is no UTF-8."""
    content = saved.read_bytes()
    entry = content.index(b"PK\x01\x02")
    newer, nameless = bytearray(content), bytearray(content)
    newer[entry + 6] = 64
    nameless[entry + 9] |= 0x08  # the name is UTF-8
    nameless[entry + 46] = 0xFF
    for damaged in (newer, nameless):
        saved.write_bytes(damaged)
        with pytest.raises(GraphError, match="damaged"):
            load(saved)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_an_error_or_harmless(saved: Path, tmp_path: Path, data: Any) -> None:
    """Any bytes changed, or the end cut off: the same graph, or an error that names the file."""
    good = saved.read_bytes()
    expected = load(saved)["y"]
    content = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(good)) | st.integers(0, len(good)))
    path = tmp_path / "copy.graph"
    path.write_bytes(content[:end])
    try:
        again = load(path)
    except GraphError as error:
        assert "copy.graph" in str(error)
        assert len(str(error).splitlines()) <= 8
    else:
        assert again["y"] is expected
