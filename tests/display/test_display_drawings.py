"""Are DOT, SVG and LaTeX well formed, whatever names and graphs they are given?"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as xml
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.display import show
from graphc.display.dot import COLOURS, to_dot
from graphc.display.latex import to_latex
from graphc.errors import GraphError
from graphc.graph import Graph
from graphc.node import Node
from graphc.ops.operands import constant, symbol

X, Y = symbol("x", (3,)), symbol("y", (3,))


def network(layers: int = 3) -> dict[str, Any]:
    """The gradient of a small network, with a body that several nodes carry."""
    x = hidden = symbol("x", ("batch", 4))
    weights = [symbol(f"w{i}", (4, 4)) for i in range(layers)]
    for w in weights:
        hidden = gx.call(lambda h, v: gx.tanh(h @ v), hidden, w, name="layer")
    cost = gx.sum(gx.softmax(hidden) * x)
    return {"cost": cost, "gradient": gx.grad(cost, weights)}


HOSTILE = [
    '"', "\\", "<b>&amp;", "]]>", "{}", "\\end{aligned}", "$%#_^~",
]  # fmt: skip


# -- DOT -------------------------------------------------------------------------------------------

QUOTED = r'"(?:[^"\\\n]|\\.)*"'
ATTRIBUTE = rf"[a-z]+=(?:{QUOTED}|<.*?>(?=[,\]])|[\w.]+)"
LIST = rf"\[{ATTRIBUTE}(?:, {ATTRIBUTE})*\]"
STATEMENTS = [
    r"digraph \{",
    rf"(?:graph|node|edge) {LIST};",
    rf"{QUOTED} {LIST};",
    rf"{QUOTED} -> {QUOTED}(?: {LIST})?;",
    rf"subgraph {QUOTED} \{{",
    rf"{ATTRIBUTE}(?:; {ATTRIBUTE})*;",
    r"\}",
]


def statements(text: str) -> list[str]:
    """The lines of DOT, each checked to be one statement of the grammar that is used."""
    found = [line.strip() for line in text.splitlines()]
    for line in found:
        assert any(re.fullmatch(pattern, line) for pattern in STATEMENTS), line
    assert sum(line.endswith("{") for line in found) == found.count("}")
    for line in found:
        for label in re.findall(r"label=<(.*?)>(?=[,\]])", line):
            xml.fromstring(f"<label>{label}</label>")
    return found


def test_dot_draws_each_node_and_body_once() -> None:
    found = statements(to_dot(network()))
    boxes = [line.split()[0] for line in found if re.match(r'"[^"]*" \[label', line)]
    assert len(set(boxes)) == len(boxes)
    clusters = [line for line in found if line.startswith("subgraph")]
    assert len(clusters) == len(set(clusters)) >= 2
    arrows = [line for line in found if "->" in line]
    assert {end for line in arrows for end in re.findall(QUOTED, line)[:2]} <= set(boxes)


def test_dot_says_what_text_says() -> None:
    found = to_dot((X * 2.0 + Y) * X, origins=False)
    assert "n1 = n0 * 2.0" in found
    assert '"n0" -> "n1";' in found and '"n0" -> "n4";' in found
    assert "tooltip" not in found


def test_dot_marks_derivatives_and_families() -> None:
    x = symbol("marked", (3,))
    found = statements(to_dot(gx.grad(gx.sum(gx.tanh(x)), x)))
    boxes = [line for line in found if re.match(r'"n\d+" \[label', line)]
    derived = {line for line in boxes if "vjp of" in line}
    assert derived and derived < set(boxes)
    assert derived == {line for line in boxes if "dashed" in line}
    colours = [COLOURS["leaf"], COLOURS["elementwise"], COLOURS["reduce"]]
    found = statements(to_dot(gx.sum(gx.tanh(x))))
    assert [re.search(r'fillcolor="(.*?)"', line)[1] for line in found[4:7]] == colours  # type: ignore[index]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_dot_escapes_names(name: str) -> None:
    statements(to_dot({name: gx.check(symbol(name) * 2.0, True, name)}))


# -- SVG -------------------------------------------------------------------------------------------


def to_svg(x: Any) -> str:
    pytest.importorskip("fast_sugiyama")
    from graphc.display.svg import to_svg as draw

    return draw(x)


SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> list[dict[str, Any]]:
    """The boxes of an SVG: panel, place and texts."""
    boxes = []
    for panel, content in enumerate(xml.fromstring(text).findall(f"{SVG}g")):
        for box in content.iter(f"{SVG}g"):
            rectangle = box.find(f"{SVG}rect")
            if rectangle is None or box.find(f"{SVG}title") is None:
                continue
            place = {key: float(rectangle.get(key, "nan")) for key in ("x", "y", "width", "height")}
            texts = [element.text or "" for element in box.findall(f"{SVG}text")]
            boxes.append({"panel": panel, "texts": texts, **place})
    return boxes


def overlapping(boxes: list[dict[str, Any]]) -> list[Any]:
    return [
        (a["texts"], b["texts"])
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a["panel"] == b["panel"]
        and a["x"] < b["x"] + b["width"]
        and b["x"] < a["x"] + a["width"]
        and abs(a["y"] - b["y"]) < a["height"]
    ]


def test_svg_shows_every_node_without_overlap() -> None:
    from graphc.display.listing import outline

    graph = network(5)
    shown = outline(graph)
    boxes = drawn(to_svg(graph))
    listings = [shown.main, *shown.bodies.values()]
    assert len(boxes) == sum(len(listing.boxes()) for listing in listings)
    assert overlapping(boxes) == []


def test_svg_arrows_lead_down_between_boxes() -> None:
    text = to_svg(network(3))
    boxes = drawn(text)
    paths = re.findall(r'class="arrow" d="M([-\d.]+) ([-\d.]+).*?([-\d.]+)"/>', text)
    assert paths and all(float(start) < float(end) for _, start, end in paths)
    bottoms = {(round(b["x"] + b["width"] / 2), round(b["y"] + b["height"])) for b in boxes}
    assert {(round(float(x)), round(float(y))) for x, y, _ in paths} <= bottoms


def test_svg_of_one_node_and_of_separate_parts() -> None:
    assert [box["texts"][0] for box in drawn(to_svg(X))] == ["n0 = x"]
    boxes = drawn(to_svg([X, Y * 2.0, gx.tanh(symbol("z"))]))
    assert len(boxes) == 5 and overlapping(boxes) == []
    assert drawn(to_svg([])) == []


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_svg_escapes_names(name: str) -> None:
    graph = gx.call(lambda a: gx.check(a * 2.0, True, name), symbol(name), name=name)
    text = to_svg({name: graph})
    text.encode("utf-8")
    assert len(drawn(text)) >= 2


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=40))
def test_svg_of_any_graph(pairs: list[tuple[int, int]]) -> None:
    nodes: list[Node] = [X, Y, symbol("z", (3,))]
    for i, j in pairs:
        nodes.append(nodes[i % len(nodes)] * nodes[j % len(nodes)])
    assert overlapping(drawn(to_svg(nodes))) == []


def test_svg_refuses_what_nobody_can_read() -> None:
    node = X
    for _ in range(1100):
        node = node + Y
    with pytest.raises(GraphError, match="1102 boxes"):
        to_svg(node)


def test_svg_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.display.svg import to_svg as draw

    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    with pytest.raises(ImportError, match="fast-sugiyama"):
        draw(X + Y)


# -- HTML ------------------------------------------------------------------------------------------


def rows_of(page: str) -> list[str]:
    data = r'data-panel="\d+" data-name="\w+" data-reads="[^"]*"'
    return re.findall(rf'<tr class="[^"]*" {data}>', page)


def test_a_page_has_the_drawing_and_a_row_for_every_box() -> None:
    page = show(network(), "html")
    boxes = re.findall(r'<g class="[^"]*"><title>(\w+)', show(network(), "svg"))
    rows = rows_of(page)
    assert re.findall(r'data-name="(\w+)"', "".join(rows)) == boxes and len(rows) > 10
    assert any("derivative" in row for row in rows) and any("output" in row for row in rows)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # nothing is loaded
    for row in rows:
        reads = re.search(r'data-reads="([^"]*)"', row)
        assert reads is not None and set(reads[1].split()) <= set(boxes)
    unclosed = r"<(script|style)>.*?</\1>|<!DOCTYPE html>|<(meta|input|br)[^>]*>"
    body = re.sub(unclosed, "", page, flags=re.DOTALL)
    xml.fromstring(body)  # what is left is closed and nested


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_do_not_break_a_page(hostile: str) -> None:
    page = show(symbol(f"x{hostile}", (2,)) * 2.0, "html")
    assert len(rows_of(page)) == 2 and page.count("<table>") == 1


def test_a_page_without_a_drawing_has_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    page = show(X * Y, "html")
    assert "<svg" not in page and "fast-sugiyama" in page and len(rows_of(page)) == 3


# -- LaTeX -----------------------------------------------------------------------------------------


def balanced(text: str) -> str:
    """The text, after checking that braces, \\left and environments match."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        assert depth >= 0, text
    assert depth == 0, text
    assert len(re.findall(r"\\left[(|]", text)) == len(re.findall(r"\\right[)|]", text))
    assert not re.search(r"([_^])\{[^{}]*\}\1", text), "a double subscript or superscript"
    assert text.count(r"\begin{") == text.count(r"\end{")
    return text


A, B = symbol("a"), symbol("b")


@pytest.mark.parametrize(
    ("node", "latex"),
    [
        (A + B, "a + b"),
        ((A + B) / A, r"\frac{a + b}{a}"),
        ((A / B) ** 2, r"\left(\frac{a}{b}\right)^2"),
        ((A**B) ** 2.5, r"\left(a^{b}\right)^{2.5}"),
        (gx.exp(A + B) ** 2, r"\left(e^{a + b}\right)^2"),
        (A * (-B), r"a \cdot \left(-b\right)"),
        (-(A + B), r"-\left(a + b\right)"),
        (A - (B - A), r"a - \left(b - a\right)"),
        (gx.tanh(A) * B, r"\tanh \left(a\right) \cdot b"),
        ((A < B) & True, r"a < b \wedge \mathrm{True}"),
        (gx.sqrt(A), r"\sqrt{a}"),
        ((A < B) & (B <= A), r"a < b \wedge b \leq a"),
        (A * 1e-20, r"a \cdot \left(1 \cdot 10^{-20}\right)"),
        (A * -np.inf, r"a \cdot \left(-\infty\right)"),
        (symbol("alpha") + symbol("w_1") + symbol("loss"), r"\alpha + w_{1} + \mathrm{loss}"),
        (symbol("u", (3, 3)) @ symbol("v", (3, 3)).T, r"u \, v^{\top}"),
        (X.reshape((3, 1)), r"\operatorname{reshape}_{\text{shape=(3, 1)}}\left(x\right)"),
        (gx.sum(X, axis=0), r"\operatorname{sum}_{\text{axes=(0,)}}\left(x\right)"),
        (abs(A), r"\lvert a \rvert"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_latex(node: Node, latex: str) -> None:
    assert balanced(to_latex(node)) == latex


def test_latex_names_what_is_shared() -> None:
    shared = gx.tanh(A + B)
    text = balanced(to_latex(shared * shared + shared))
    assert text.count("tanh") == 1 and r"t_{1} &= \tanh \left(a + b\right)" in text
    node = A
    for _ in range(60):
        node = node * node
    assert len(to_latex(node)) < 4000


def test_latex_cuts_long_lines_and_is_linear() -> None:
    node = A
    for i in range(3000):
        node = gx.tanh(node + float(i))
    text = balanced(to_latex(node))
    assert max(map(len, text.splitlines())) < 1000
    assert len(text) < 3000 * 60


def test_latex_names_do_not_collide() -> None:
    x1, x_1, t = symbol("x1"), symbol("x_1"), symbol("t_1")
    shared = gx.tanh(x1 + x_1)
    text = balanced(to_latex(shared * shared * t))
    assert r"t_{2} &= \tanh \left(x_{1} + \mathrm{x\_1}\right)" in text
    assert r"t_{2} \cdot t_{2} \cdot t_{1}" in text


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_latex_escapes_names(name: str) -> None:
    graph = gx.call(lambda a: gx.check(a, True, name), symbol(name), name=name)
    body = re.sub(r"\\(begin|end)\{aligned\}", "", balanced(to_latex({name: graph})))
    assert not re.search(r"(?<!\\)[$%#~]|(?<!&)(?<!\\)&(?!=)", body)


def test_latex_of_graphs_and_several_results() -> None:
    text = balanced(to_latex(network(2)))
    assert r"\operatorname{layer}_{g_{0}}" in text and "g_{0}(p_{0}, p_{1}) &= " in text
    graph = Graph([X.type], [constant(1.0)])
    assert "g(p_{0}) &= 1.0" in to_latex(graph)
