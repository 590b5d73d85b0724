"""Does a listing say what was built, once, in order, and in the same words in every process?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.display import show
from graphc.display.latex import to_latex
from graphc.display.listing import outline, shown_arguments
from graphc.display.text import summary, to_expression, to_text
from graphc.graph import Graph, close, parameter, placeholder
from graphc.lowering import Leaf
from graphc.node import Node, topological
from graphc.op import REGISTRY, Op, no_derivative, register
from graphc.ops.control import call_op
from graphc.ops.operands import broadcast_op, cast, constant, symbol
from graphc.ops.special import project
from graphc.origin import origins
from graphc.types import TensorType

FORMATS = ("txt", "origins.txt", "all.txt", "dot", "tex")


def test_golden(
    show_examples: Callable[[], dict[str, str]],
    check_golden: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every format, for two hash seeds. SVG depends on the layout library: only equality."""
    shown = []
    for seed in "12":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        shown.append(show_examples())
    assert shown[0] == shown[1]
    for name, text in shown[0].items():
        if not name.endswith(".svg"):
            check_golden(name, text)
    assert {f"{x}.{end}" for x in ("gradient", "regions") for end in FORMATS} <= set(shown[0])


def lines(x: Any, **options: Any) -> list[str]:
    return to_text(x, **options).splitlines()


# -- what is hidden --------------------------------------------------------------------------------


def test_shared_nodes_stand_once() -> None:
    x = symbol("x", (3,))
    for _ in range(60):
        x = x + x
    assert len(lines(x)) == 61


def test_what_numpy_would_insert_is_hidden() -> None:
    x, row = symbol("x", ("n", 3)), symbol("row", (3,), "float32")
    assert lines(x * 2.0 + row) == [
        "n0 = x: float64[n, 3]",
        "n1 = n0 * 2.0: float64[n, 3]",
        "n2 = row: float32[3]",
        "n3 = n1 + n2: float64[n, 3]",
    ]


def test_what_numpy_would_not_insert_is_shown() -> None:
    column = symbol("column", (3,))
    stretched = broadcast_op(column, shape=(3, 4), axes=(0,))
    narrow = cast(symbol("x", (3, 4)), "float32")
    alone = gx.broadcast_to(constant(2.0), (3,)) * gx.broadcast_to(constant(3.0), (3,))
    assert lines(stretched * 2.0)[1] == "n1 = broadcast(n0, axes=(0,)): float64[3, 4]"
    assert lines(narrow * 2.0)[1] == "n1 = float32(n0): float32[3, 4]"
    assert lines(alone) == [
        "n0 = broadcast(2.0): float64[3]",
        "n1 = n0 * 3.0: float64[3]",
    ]


def test_a_wide_cast_is_shown_where_it_decides_the_dtype() -> None:
    x = symbol("x", (3,), "float32")
    wide = cast(x, "float64")
    assert "n1 = float64(n0): float64[3]" in lines(wide * wide)
    assert lines(wide * symbol("y", (3,)))[-1] == "n2 = n0 * n1: float64[3]"
    assert "n1 = float64(n0): float64[3]" in lines(wide * 2.0)


def test_without_hiding_every_node_stands() -> None:
    x = symbol("x", ("n", 3))
    fraction, whole = gx.modf(x * 2.0 + symbol("y", (3,), "int64"))
    graph = [fraction, whole]
    assert len(lines(graph, hide=False)) == len(topological(graph)) + 1


def _rebuilt(text: str, symbols: dict[str, Node]) -> Node:
    """The last node of a listing, read back through the public functions."""
    named: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" = ")
        expression = rest.rpartition(": ")[0]
        named[name] = symbols.get(expression)
        if named[name] is None:
            functions = {"where": gx.where, "exp": gx.exp, "maximum": gx.maximum}
            named[name] = eval(expression, named | functions)
    return named[name]


STEPS = [
    lambda a, b: a + b,
    lambda a, b: a - 2.5 * b,
    lambda a, b: a / (b * b + 1),
    lambda a, b: gx.where(a > b, a, 1.0),
    lambda a, b: gx.maximum(-a, b),
    lambda a, b: gx.exp(a) * 3,
]


INDEX = st.integers(0, 99)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(STEPS), INDEX, INDEX), min_size=1, max_size=8))
def test_listings_of_elementwise_graphs_mean_what_was_built(steps: list[Any]) -> None:
    """Read as Python, with NumPy's broadcasting and promotion, a listing builds the same node."""
    leaves = [
        symbol("a", ("n", 3)),
        symbol("b", (3,), "float32"),
        symbol("c", (), "int64"),
        symbol("d", ("n", 1), "float32"),
    ]
    nodes = list(leaves)
    for step, i, j in steps:
        nodes.append(step(nodes[i % len(nodes)], nodes[j % len(nodes)]))
    text = to_text(nodes[-1])
    if "broadcast(" in text or "64(" in text or "32(" in text:
        return  # the op is said, which is no public function
    assert _rebuilt(text, {leaf.attrs["name"]: leaf for leaf in leaves}) is nodes[-1]


# -- notation --------------------------------------------------------------------------------------


X, Y, M = symbol("x"), symbol("y"), symbol("M", (3, 3))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ((X + Y) * X, "(x + y) * x"),
        (X + Y * X, "x + y * x"),
        (X - (Y - X), "x - (y - x)"),
        ((X - Y) - X, "x - y - x"),
        (X / (Y / X), "x / (y / x)"),
        ((-X) ** Y, "(-x) ** y"),
        (-(X**Y), "-x ** y"),
        (X ** (-Y), "x ** -y"),
        ((X**Y) ** X, "(x ** y) ** x"),
        (X ** (Y**X), "x ** y ** x"),
        ((-X) ** 2, "(-x)**2"),
        (X * -2.0, "x * -2.0"),
        (constant(-2.0) ** X, "(-2.0) ** x"),
        ((X < Y) == (Y < X), "(x < y) == (y < x)"),
        (~((X < Y) & (Y < X)), "~((x < y) & (y < x))"),
        (gx.tanh(X + Y), "tanh(x + y)"),
        (M @ M.T + M, "M @ M.T + M"),
        ((M + M).T, "(M + M).T"),
        (M.sum(axis=0), "sum(M, axes=(0,))"),
        (gx.concatenate([M, M]), "concatenate(M, M, axis=0)"),
        (gx.modf(X + Y)[1], "modf(x + y).1"),
        (-constant(1.0), "-(1.0)"),
        (M.reshape((9,)) * 2.0, "reshape(M, shape=(9,)) * 2.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_notation(node: Node, text: str) -> None:
    assert to_expression(node) == text


@pytest.mark.parametrize(
    ("batch", "contracted", "text"),
    [
        (((), ()), ((1,), (0,)), "n0 @ n1"),
        (((), ()), ((0,), (0,)), "n0.T @ n1"),
        (((), ()), ((1,), (1,)), "n0 @ n1.T"),
        (((), ()), ((0,), (1,)), "n0.T @ n1.T"),
        (
            ((0,), (0,)),
            ((1,), (1,)),
            "contract(n0, n1, batch=((0,), (0,)), contracted=((1,), (1,)))",
        ),
        (((), ()), ((0, 1), (0, 1)), "contract(n0, n1, contracted=((0, 1), (0, 1)))"),
    ],
)
def test_products_are_said_as_numpy_would(batch: Any, contracted: Any, text: str) -> None:
    from graphc.ops.contract import contract_op

    x, y = symbol("x", (3, 3)), symbol("y", (3, 3))
    node = contract_op(x, y, batch=batch, contracted=contracted)
    assert lines(node)[-1].startswith(f"n2 = {text}: ")
    if "@" in text:
        given = {x: np.arange(9.0).reshape(3, 3), y: np.arange(9.0).reshape(3, 3) ** 2}
        scope = {"n0": given[x], "n1": given[y]}
        np.testing.assert_array_equal(gx.evaluate(node, given), eval(text, scope))


def test_leaves() -> None:
    listing = lines(
        [
            symbol("x", (3,), facts=("positive", "finite")),
            symbol("n1"),
            symbol("two words"),
            constant(np.array([1, 2, 3])),
            gx.iota((3, 4), axis=1),
            constant(np.zeros((3, 3))),
            placeholder(TensorType("bool", ())),
            constant(np.float32(0.1)),
        ]
    )
    assert listing[:5] == [
        "n0 = x: float64[3], finite, positive",
        "n1 = 'n1': float64",
        "n2 = two words: float64",
        "n3 = [1, 2, 3]: int64[3]",
        "n4 = iota(axis=1): int64[3, 4]",
    ]
    assert listing[5].startswith("n5 = constant ") and listing[5].endswith(": float64[3, 3]")
    assert listing[6] == "n6 = _: bool"
    assert listing[7] == "return n0, n1, n2, n3, n4, n5, n6, 0.1"


def test_containers_say_what_is_where() -> None:
    x = symbol("x", (3,))
    assert lines({"b": x, "a": [x * 2.0, None]})[-3:] == ["return", "  ['a'][0]: n1", "  ['b']: n0"]
    assert lines([x, x])[-1] == "return n0, n0"
    assert lines([]) == lines(None) == ["return ()"]


def test_graphs_are_listed_by_position() -> None:
    x, y = symbol("x", (3,)), symbol("y", (3,))
    graph, _ = close([x, y], [x * 2.0, x, constant(1.0)])
    assert lines(graph) == [
        "graph(p0: float64[3], p1: float64[3]):",
        "  n0 = p0 * 2.0: float64[3]",
        "  return n0, p0, 1.0",
    ]
    assert lines(parameter(0, TensorType("float64", ()))) == ["n0 = p0: float64"]


def test_equal_bodies_are_listed_once() -> None:
    x = symbol("x", (3,))
    for _ in range(5):
        x = gx.call(lambda a: gx.tanh(a * 2.0), x, name="layer")
    text = to_text(x)
    assert text.count("call layer(") == 5
    assert text.count("tanh") == 1 and text.count("g0(p0: float64[3]):") == 1


def test_origins_stand_in_a_column() -> None:
    x = symbol("a fresh name", (3,))
    first, second, *_ = lines(gx.grad(gx.sum(gx.tanh(x)), x), origins=True)
    assert first.index("test_display_text.py") == second.index("test_display_text.py")
    assert "vjp of tanh, test_display_text.py:" in to_text(
        gx.grad(gx.sum(gx.tanh(x)), x), origins=True
    )
    with origins(False):
        bare = symbol("another fresh name")
    assert lines(bare, origins=True) == ["n0 = another fresh name: float64"]


@pytest.mark.parametrize("bad", [3, "x", [symbol("x"), 2.0], {"a": np.zeros(2)}])
def test_other_objects_are_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="expected a node, a Graph, or a container"):
        to_text(bad)


# -- size ------------------------------------------------------------------------------------------


def test_deep_chains() -> None:
    x = node = symbol("x", (3,))
    for _ in range(100_000):
        node = node + x
    assert len(lines(node)) == 100_001
    assert repr(node) == "<... + x + x + x + x + x + x + x + x: float64[3]>"
    assert str(x) == "n0 = x: float64[3]"


def test_deep_nesting() -> None:
    type_ = TensorType("float64", ())
    graph = Graph([type_], [parameter(0, type_) + 1.0])
    for _ in range(1100):
        node = call_op(parameter(0, type_), graph=graph, name="deeper")
        graph = Graph([type_], [project(node, 0)])
    assert len(lines(graph)) == 3 * 1101
    assert len(outline(graph).names) == 1100


def test_expressions_are_cut_off() -> None:
    node = X
    for _ in range(200):
        node = node * node  # 2**200 occurrences
    assert to_expression(node, limit=3) == "... * ... * (... * ...)"
    assert len(summary(node)) < 200


def test_arguments_are_those_of_the_node_where_nothing_is_hidden() -> None:
    node = X + Y
    assert shown_arguments(node) is node.args


def test_ops_without_notation_are_called_by_name() -> None:
    op = register(
        Op("acme.{odd}", lambda x, k: x, lambda x, k: x, Leaf(), no_derivative("-"), ("k",))
    )
    try:
        assert to_expression(op(X, k=(1,)) * 2.0) == "acme.{odd}(x, k=(1,)) * 2.0"
        assert "acme" in to_latex(op(X, k=()))
    finally:
        del REGISTRY["acme.{odd}"]


def test_compiled_functions_show_their_graph() -> None:
    function = gx.compile([X, Y], X * Y + 1.0)
    assert show(function).startswith("graph(p0: float64, p1: float64):")


# -- show ------------------------------------------------------------------------------------------


def test_show_writes_files(tmp_path: Any) -> None:
    text = show(X + Y, path=tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text() == text + "\n"
    assert text == to_text(X + Y)


def test_show_knows_its_formats() -> None:
    with pytest.raises(ValueError, match="'text', 'dot', 'svg', 'latex', 'html'"):
        show(X, "png")
