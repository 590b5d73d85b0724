"""How does a graph look as a drawing?  SVG, without Graphviz or any other program.

The layout is Sugiyama's, layer by layer, done by the library fast-sugiyama; what is drawn is the
same listing that text shows. A long arrow is bent where the layout says, around the boxes that it
passes. The bodies of nested Graphs stand below, each in a frame of its own.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphc.display.dot import COLOURS, DERIVATIVE, PLAIN, box_text
from graphc.display.listing import (
    Listing,
    Outline,
    family,
    is_derivative,
    origin_text,
    origins_of,
    outline,
    type_text,
    whole_origins,
)
from graphc.display.text import header, returned
from graphc.errors import GraphError, missing_extra
from graphc.node import Node

MOST_BOXES = 1000  # more are neither legible nor quickly laid out
# Lengths in pixels.
_FONT, _SMALL_FONT, _CHARACTER, _SMALL_CHARACTER = 11, 9, 6.7, 5.5
_LINE = 12
_BOX_HEIGHT, _ROW_HEIGHT = 46, 84
_GAP = 24  # between boxes of a row
_LANE = 12  # the room of an arrow that passes a row
_MARGIN = 16
_LONGEST = 32  # characters of a label; the tooltip has the rest


class Point(NamedTuple):
    x: float
    y: float


Edge = tuple[int, int]


@dataclass
class Layout:
    """Centres of boxes 0, 1, ..., the bends of edges, and the size that they need."""

    centres: list[Point]
    bends: dict[Edge, list[Point]]
    width: float
    height: float


def to_svg(x: Any) -> str:
    """A node, a Graph, or a nested container of nodes as an SVG drawing.

    A box holds the node's text, its type and where it comes from; its tooltip says all origins.
    Colours are those of `to_dot`; nodes built by differentiation are outlined in dashes, outputs in
    a heavy line. Raises `ImportError` if fast-sugiyama is not installed, and `GraphError` if there
    are more than 1000 boxes.
    """
    shown = outline(x)
    count = sum(len(listing.names) for _, listing in shown.listings())
    if count > MOST_BOXES:
        raise GraphError(
            f"a drawing of {count} boxes is not legible; it can have {MOST_BOXES}\n"
            'Show a part of the graph, or use format="text" or "dot".'
        )
    parts: list[str] = []
    width, top = 0.0, 0.0
    carriers: dict[str, list[str]] = {}
    for inside, node, name in shown.carriers():
        carriers.setdefault(name, []).append(f"{inside}.{node}" if inside else node)
    for name, listing in shown.listings():
        title = header(listing, name or "graph")
        title += f" of {', '.join(carriers[name])}" if name else ""
        panel = _panel(listing, title, shown)
        parts.append(f'<g transform="translate(0 {top:g})">\n{panel.text}</g>')
        top += panel.height
        width = max(width, panel.width)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="graphc" width="{width:g}" '
            f'height="{top:g}" viewBox="0 0 {width:g} {top:g}">',
            _style(),
            *parts,
            "</svg>\n",
        ]
    )


# -- layout ----------------------------------------------------------------------------------------


def place(count: int, edges: Sequence[Edge], cell: float) -> Layout:
    """Boxes 0 to `count` - 1, at most `cell` pixels wide, in layers that edges lead down.

    >>> place(3, [(0, 1), (1, 2)], 80.0).centres[2].y
    168.0
    """
    edges = list(dict.fromkeys(edges))
    joined = sorted({box for edge in edges for box in edge})
    alone = sorted(set(range(count)).difference(joined))
    centres: dict[int, Point] = {}
    bends: dict[Edge, list[Point]] = {}
    left = 0.0
    for positions, routes in _components(joined, edges, cell + _GAP):
        every = [*positions.values(), *itertools.chain(*routes.values())]
        shift = left - min(point.x for point in every)
        for box, point in positions.items():
            centres[box] = Point(point.x + shift, point.y)
        for edge, route in routes.items():
            bends[edge] = [Point(point.x + shift, point.y) for point in route]
        left = shift + max(point.x for point in every) + cell + _GAP
    for i, box in enumerate(alone):
        centres[box] = Point(left + i * (cell + _GAP), 0.0)
    width = max((point.x for point in centres.values()), default=0.0)
    width = max([width, *(point.x for route in bends.values() for point in route)])
    height = max((point.y for point in centres.values()), default=0.0)
    return Layout([centres[box] for box in range(count)], bends, width, height)


def _components(
    boxes: Sequence[int], edges: Sequence[Edge], spacing: float
) -> Iterator[tuple[dict[int, Point], dict[Edge, list[Point]]]]:
    """Positions and bends of each connected part, the part with the first box first.

    The library numbers bends after the boxes, so boxes are handed to it as 0, 1, ...
    """
    if not edges:
        return
    try:
        from fast_sugiyama import from_edges
    except ImportError:
        raise missing_extra("fast-sugiyama", "examples", "drawing a graph as SVG") from None
    number = {box: i for i, box in enumerate(boxes)}
    numbered = [(number[start], number[end]) for start, end in edges]
    found: Any = from_edges(
        numbered, vertex_spacing=spacing, dummy_vertices=True, dummy_size=_LANE, check_layout=False
    )
    for positions, _, _, links in sorted(found, key=lambda part: min(i for i, _ in part[0])):
        top = max(y for _, (_, y) in positions)
        points = {i: Point(x, (top - y) / spacing * _ROW_HEIGHT) for i, (x, y) in positions}
        routes = {
            (boxes[start], boxes[route[-1]]): [points[i] for i in route[:-1]]
            for start, route in _routes(links, len(boxes))
        }
        yield {boxes[i]: point for i, point in points.items() if i < len(boxes)}, routes


def _routes(links: Sequence[Edge], boxes: int) -> Iterator[tuple[int, list[int]]]:
    """For each edge its start, and the bends that lead to its end, the end included."""
    following = {start: end for start, end in links if start >= boxes}
    for start, end in links:
        if start >= boxes:
            continue
        route = [end]
        while route[-1] >= boxes:
            route.append(following[route[-1]])
        yield start, route


# -- drawing ---------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """The drawing of one listing."""

    text: str
    width: float
    height: float


@dataclass
class Box:
    """What is written in a box; its width follows from it."""

    lines: list[str]
    tooltip: str
    classes: str

    @property
    def width(self) -> float:
        first, *rest = self.lines
        widths = [_CHARACTER * len(first), *(_SMALL_CHARACTER * len(line) for line in rest)]
        return max(widths) + 16


def _panel(listing: Listing, title: str, shown: Outline) -> Panel:
    """One listing, with its title above and what it returns below."""
    names = listing.boxes()
    outputs = set(map(listing.source, listing.subject.outputs))
    boxes = [_box(listing, node, own, shown, node in outputs) for node, own in names.items()]
    number = {node: i for i, node in enumerate(names)}
    edges = [(number[s], number[node]) for node in listing.names for _, s in listing.sources(node)]
    cell = max((box.width for box in boxes), default=0.0)
    layout = place(len(boxes), edges, cell)
    top = _MARGIN + (2 * _LINE if title else 0) + _BOX_HEIGHT / 2
    left = _MARGIN + cell / 2
    drawn = [f'<g transform="translate({left:g} {top:g})">']
    drawn += _arrows(edges, layout, boxes)
    drawn += [_draw(box, centre) for box, centre in zip(boxes, layout.centres, strict=True)]
    drawn.append("</g>")
    below = top + layout.height + _BOX_HEIGHT / 2 + _LINE
    back = returned(listing)
    for i, line in enumerate(back):
        y = below + _LINE * (i + 1)
        drawn.append(f'<text class="title" x="{_MARGIN}" y="{y:g}">{html.escape(line)}</text>')
    longest = max(map(len, (title, *back)))
    width = max(layout.width + cell, longest * _CHARACTER) + 2 * _MARGIN
    height = below + _LINE * (len(back) + 1)
    if title:
        drawn.insert(
            0,
            f'<rect class="frame" x="4" y="4" width="{width - 8:g}" height="{height - 8:g}"/>'
            f'<text class="title" x="{_MARGIN}" y="{_MARGIN + _LINE}">{html.escape(title)}</text>',
        )
    return Panel("\n".join(drawn) + "\n", width, height)


def _box(listing: Listing, node: Node, name: str, shown: Outline, is_output: bool) -> Box:
    events = origins_of(node)
    text = box_text(listing, node, name, shown)
    lines = [text, type_text(node), origin_text(events[:1])]
    classes = [family(node)]
    if is_derivative(events):
        classes.append("derivative")
    if is_output:
        classes.append("output")
    tooltip = "\n".join(filter(None, (*lines[:2], whole_origins(events))))
    return Box([_cut(line) for line in lines if line], tooltip, " ".join(classes))


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _draw(box: Box, centre: Point) -> str:
    left, top = centre.x - box.width / 2, centre.y - _BOX_HEIGHT / 2
    first = top + (_BOX_HEIGHT - _LINE * len(box.lines)) / 2 + _LINE - 3
    name, *rest = box.lines
    texts = f'<text class="name" x="{centre.x:g}" y="{first:g}">{html.escape(name)}</text>'
    for i, line in enumerate(rest, 1):
        y = first + i * _LINE
        texts += f'<text x="{centre.x:g}" y="{y:g}">{html.escape(line)}</text>'
    return (
        f'<g class="{box.classes}"><title>{html.escape(box.tooltip)}</title>'
        f'<rect x="{left:g}" y="{top:g}" width="{box.width:g}" height="{_BOX_HEIGHT}" rx="6"/>'
        f"{texts}</g>"
    )


def _arrows(edges: Sequence[Edge], layout: Layout, boxes: Sequence[Box]) -> Iterator[str]:
    """The arrows; those into one box end beside each other, in the order in which they arrive."""
    arriving: dict[int, list[Edge]] = {}
    for edge in dict.fromkeys(edges):
        arriving.setdefault(edge[1], []).append(edge)
    for end, into in arriving.items():
        before = {
            edge: [layout.centres[edge[0]], *layout.bends.get(edge, [])][-1].x for edge in into
        }
        into.sort(key=lambda edge: (before[edge], edge))
        step = min(14.0, boxes[end].width / (len(into) + 1))
        for i, edge in enumerate(into):
            start, centre = layout.centres[edge[0]], layout.centres[end]
            offset = (i - (len(into) - 1) / 2) * step
            points = [
                Point(start.x, start.y + _BOX_HEIGHT / 2),
                *_straight(layout.bends.get(edge, [])),
                Point(centre.x + offset, centre.y - _BOX_HEIGHT / 2),
            ]
            yield f'<path class="arrow" d="{_curve(points)}"/>'


def _straight(bends: Sequence[Point]) -> Iterator[Point]:
    """Two points for a bend: past the boxes of its row the line is straight, and turns between."""
    for bend in bends:
        yield Point(bend.x, bend.y - _BOX_HEIGHT / 2)
        yield Point(bend.x, bend.y + _BOX_HEIGHT / 2)


def _curve(points: Sequence[Point]) -> str:
    """A smooth line that leaves and enters every point vertically."""
    drawn = [f"M{points[0].x:g} {points[0].y:g}"]
    for start, end in itertools.pairwise(points):
        if start.x == end.x:
            drawn.append(f"V{end.y:g}")
            continue
        middle = (start.y + end.y) / 2
        drawn.append(f"C{start.x:g} {middle:g} {end.x:g} {middle:g} {end.x:g} {end.y:g}")
    return "".join(drawn)


def _style() -> str:
    """Colours and the arrow's head; every rule is under the class of the drawing."""
    rules = [f".{name} rect{{fill:{colour}}}" for name, colour in COLOURS.items()]
    rules += [
        f"text{{font:{_SMALL_FONT}px monospace;text-anchor:middle;fill:#444}}",
        f"text.name{{font-size:{_FONT}px;fill:#000}}",
        f"text.title{{font-size:{_FONT}px;fill:#000;text-anchor:start;white-space:pre}}",
        f"rect{{stroke:{PLAIN}}}",
        f".derivative rect{{stroke:{DERIVATIVE};stroke-dasharray:5 3}}",
        ".output rect{stroke-width:2.5}",
        ".frame{fill:none;stroke:#aaa}",
        f".arrow{{fill:none;stroke:{PLAIN};marker-end:url(#graphc-arrow)}}",
    ]
    text = "\n".join(f".graphc {rule}" for rule in rules)
    return (
        f"<style>\n{text}\n</style>\n"
        '<defs><marker id="graphc-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{PLAIN}"/></marker></defs>'
    )
