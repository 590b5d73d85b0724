"""Does networkx get every node and every edge?"""

from __future__ import annotations

import sys
from pathlib import Path

import networkx
import pytest
from places import run_python

import graphc as gx
from graphc.graph import close
from graphc.interop import to_networkx
from graphc.node import topological
from graphc.ops.operands import symbol


def test_nodes_and_edges_are_those_of_the_graph() -> None:
    x, y = symbol("x", ("n", 3)), symbol("y", (3,))
    cost = gx.sum(gx.tanh(x * y) - y)
    graph = to_networkx([cost, gx.grad(cost, x)])
    order = topological([cost, gx.grad(cost, x)])
    assert list(graph.nodes) == [f"n{i}" for i in range(len(order))]
    assert [op for _, op in graph.nodes(data="op")] == [node.op.name for node in order]
    assert graph.number_of_edges() == sum(len(node.args) for node in order)
    assert networkx.is_directed_acyclic_graph(graph)
    number = {node: f"n{i}" for i, node in enumerate(order)}
    edges = set(graph.edges(data="argument"))
    for node in order:
        for position, argument in enumerate(node.args):
            assert (number[argument], number[node], position) in edges


def test_attributes_are_text() -> None:
    x = symbol("an unusual name", ("n", 3))
    graph = to_networkx(x * 2.0)
    node = graph.nodes["n0"]
    assert node["op"] == "symbol" and node["type"] == "float64[n, 3]"
    assert node["label"] == "an unusual name" and "test_interop_networkx.py:" in node["origin"]
    assert "\n".join(networkx.generate_graphml(graph)).count("<node") == 4


def test_repeated_arguments_need_a_multigraph() -> None:
    x, y = symbol("x"), symbol("y")
    assert type(to_networkx(x * y)) is networkx.DiGraph
    square = to_networkx(x * x)
    assert type(square) is networkx.MultiDiGraph
    assert sorted(data for *_, data in square.edges(data="argument")) == [0, 1]


def test_parameters_of_graphs() -> None:
    x, y = symbol("x"), symbol("y")
    graph, _ = close([x, y], [x * 2.0])
    assert list(to_networkx(graph).nodes) == ["p0", "p1", "n0", "n1"]


def test_the_library_is_loaded_when_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, graphc as gx, graphc.interop\n"
        "repr(gx.vector('x', 3) + 1)\n"
        "assert 'networkx' not in sys.modules and 'fast_sugiyama' not in sys.modules"
    )
    run_python("-c", code, folder=tmp_path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="networkx"):
        to_networkx(symbol("x"))
