"""Which native routines are written in LLVM IR by hand, and where is their text?

Each file of this folder answers one question, named in its first line. `${NAME}` stands for a
constant that the Python module beside this folder fills in, which also compiles the text: `entry`
(support.ll, entry.ll), `memory` (blocks.ll) and `threads` (the others).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from string import Template

__all__ = ["text"]


def text(names: tuple[str, ...], constants: Mapping[str, object]) -> str:
    """The files of these names, one after the other, with constants in place of their names."""
    folder = importlib.resources.files(__name__)
    parts = [folder.joinpath(f"{name}.ll").read_text(encoding="utf-8") for name in names]
    return Template("\n".join(parts)).substitute(constants)
