"""How does a graph look in a browser?  One page by itself: the drawing, and a table to search.

The drawing is that of `svg`, the table has every shown node with its type and all of its origins.
The page loads nothing. With the script off it is still the drawing and the table; with it a row and
its box light up together with what they read, and a word narrows both down.
"""

from __future__ import annotations

import html
from typing import Any

from graphc.display.dot import COLOURS, box_text
from graphc.display.listing import (
    Listing,
    Outline,
    family,
    is_derivative,
    origins_of,
    outline,
    type_text,
    whole_origins,
)
from graphc.display.svg import to_svg
from graphc.display.text import header, returned
from graphc.errors import GraphError

_STYLE = """\
body{margin:0;font:13px/1.4 system-ui,sans-serif;color:#222;background:#fff}
header{position:sticky;top:0;padding:8px 16px;background:#fff;border-bottom:1px solid #ccc}
h1{display:inline;font-size:15px;margin-right:16px}
h2{font:13px monospace;margin:16px}
input{width:20em}
.drawing{overflow:auto;max-height:70vh;border-bottom:1px solid #ccc}
.note{margin:16px}
table{border-collapse:collapse;margin:0 16px 16px}
td{padding:1px 12px 1px 6px;font:12px monospace;vertical-align:top;white-space:pre-wrap}
td.kind{border-left:10px solid}
tr.output td{font-weight:bold}
tr.derivative td.kind{border-left-style:dashed}
.lit,.lit td{background:#fff3a6}
svg .lit rect{stroke:#d08700;stroke-width:3}
.read td{background:#fffbe0}
svg .read rect{stroke:#d08700;stroke-width:2}
svg .faint,.faint{opacity:.2}
tr.gone{display:none}"""

_SCRIPT = """\
const panels = [...document.querySelectorAll('svg.graphc > g')];
const items = new Map();
for (const row of document.querySelectorAll('tr[data-name]')) {
  const panel = panels[row.dataset.panel], start = row.dataset.name;
  const box = panel && [...panel.querySelectorAll('g > title')]
    .find(t => t.textContent.split(/\\s/)[0] === start);
  items.set(row.dataset.panel + ' ' + start, [row, box && box.parentNode].filter(Boolean));
}
const mark = (key, on, name) => (items.get(key) || []).forEach(e => e.classList.toggle(name, on));
for (const [key, both] of items) {
  const [panel] = key.split(' ');
  const light = on => {
    mark(key, on, 'lit');
    both[0].dataset.reads.split(' ').forEach(n => mark(panel + ' ' + n, on, 'read'));
  };
  for (const each of both) {
    each.addEventListener('mouseenter', () => light(true));
    each.addEventListener('mouseleave', () => light(false));
  }
  if (both[1]) both[1].addEventListener('click', () => both[0].scrollIntoView({block: 'center'}));
}
document.querySelector('input').addEventListener('input', event => {
  const word = event.target.value.toLowerCase();
  for (const [row, box] of items.values()) {
    const found = row.textContent.toLowerCase().includes(word);
    row.classList.toggle('gone', !found);
    if (box) box.classList.toggle('faint', !found);
  }
});"""


def to_html(x: Any) -> str:
    """A node, a Graph, or a nested container of nodes as a page of HTML that needs nothing else.

    Where the graph is too large to be drawn, or fast-sugiyama is not installed, the page says so
    and has the table alone.
    """
    shown = outline(x)
    try:
        drawing = f'<div class="drawing">{to_svg(x)}</div>'
    except (GraphError, ImportError) as error:
        drawing = f'<p class="note">{html.escape(str(error))}</p>'
    colours = "\n".join(f".{name} td.kind{{border-color:{c}}}" for name, c in COLOURS.items())
    listings = enumerate(shown.listings())
    tables = [_table(panel, name, listing, shown) for panel, (name, listing) in listings]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f"<title>graphc</title>\n<style>\n{_STYLE}\n{colours}\n</style></head>\n<body>",
            '<header><h1>graphc</h1><input type="search" placeholder="search"></header>',
            drawing,
            *tables,
            f"<script>\n{_SCRIPT}\n</script>\n</body></html>\n",
        ]
    )


def _table(panel: int, name: str, listing: Listing, shown: Outline) -> str:
    """The nodes of one listing, a row each."""
    boxes = listing.boxes()
    outputs = {listing.source(output) for output in listing.subject.outputs}
    rows = []
    for node, called in boxes.items():
        events = origins_of(node)
        classes = [family(node), *(["derivative"] if is_derivative(events) else [])]
        classes += ["output"] if node in outputs else []
        sources = [source for _, source in listing.sources(node)] if node in listing.names else []
        reads = " ".join(boxes[source] for source in sources if source in boxes)
        cells = [box_text(listing, node, called, shown), type_text(node), whole_origins(events)]
        rows.append(
            f'<tr class="{" ".join(classes)}" data-panel="{panel}" data-name="{called}" '
            f'data-reads="{reads}"><td class="kind">'
            + "</td><td>".join(map(html.escape, cells))
            + "</td></tr>"
        )
    title = html.escape(header(listing, name or "graph") or "graph")
    back = "<br>".join(map(html.escape, returned(listing)))
    return "\n".join([f"<h2>{title}</h2>\n<table>", *rows, f"</table>\n<h2>{back}</h2>"])
