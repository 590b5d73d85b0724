"""How do `graphc.codegen` and `graphc.runtime` work from a bare checkout?

Installed, setup.cfg maps the sibling folders `codegen/` and `runtime/` into the package. In a
checkout that was not installed nothing does, so a finder appended to `sys.meta_path` (last: an
installed package wins) answers exactly those two names.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from types import ModuleType

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDERS = {"graphc.codegen": _ROOT / "codegen", "graphc.runtime": _ROOT / "runtime"}


class _SiblingFinder:
    """Finds the two packages whose folders lie beside `graphc/`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = _FOLDERS.get(name)
        if folder is None or not (folder / "__init__.py").is_file():
            return None
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def install() -> None:
    """Append the finder once."""
    if _SiblingFinder not in sys.meta_path:
        sys.meta_path.append(_SiblingFinder)  # type: ignore[arg-type]
