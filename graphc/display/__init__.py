"""How is a graph looked at?  `show` in any of the formats; each format is one file.

Everything reads the same listing (`listing.py`), needs nodes only, and comes out the same in every
process.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

__all__ = ["show"]

# Modules are loaded when their format is asked for.
_FORMATS = {
    "text": ("graphc.display.text", "to_text"),
    "dot": ("graphc.display.dot", "to_dot"),
    "svg": ("graphc.display.svg", "to_svg"),
    "latex": ("graphc.display.latex", "to_latex"),
    "html": ("graphc.display.page", "to_html"),
}


def show(x: Any, format: str = "text", path: str | os.PathLike[str] | None = None) -> str:
    """A node, a Graph, a compiled Function, or a nested container of nodes, as text in a format.

    `format` is "text" (a numbered listing), "dot" (for Graphviz), "svg" (a drawing), "latex" (a
    formula) or "html" (a page with the drawing and a table to search). With `path` the text is also
    written to that file. Raises `ValueError` for another format, `TypeError` for another object,
    `ImportError` if a format needs a package that is not installed.

    >>> from graphc.ops.operands import symbol
    >>> print(show(symbol("x") + 1.0))
    n0 = x: float64
    n1 = n0 + 1.0: float64
    """
    if format not in _FORMATS:
        known = ", ".join(map(repr, _FORMATS))
        raise ValueError(f"unknown format {format!r}; formats are {known}")
    module, name = _FORMATS[format]
    text: str = getattr(importlib.import_module(module), name)(x)
    if path is not None:
        Path(path).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    return text
