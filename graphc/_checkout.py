"""How do `graphc.codegen` and `graphc.runtime` work from a bare checkout?

Installed, setup.cfg maps the sibling folders `codegen/` and `runtime/` into the package. In a
checkout that was not installed nothing does, so a finder appended to `sys.meta_path` (last: an
installed package wins) answers exactly those two names. `os.path` serves: `pathlib` alone would be
a tenth of the import of graphc.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_FOLDERS = {f"graphc.{name}": os.path.join(_ROOT, name) for name in ("codegen", "runtime")}


class _SiblingFinder:
    """Finds the two packages whose folders lie beside `graphc/`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = _FOLDERS.get(name)
        file = os.path.join(folder or "", "__init__.py")
        if folder is None or not os.path.isfile(file):
            return None
        return importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=[folder]
        )


def install() -> None:
    """Append the finder once."""
    if _SiblingFinder not in sys.meta_path:
        sys.meta_path.append(_SiblingFinder)  # type: ignore[arg-type]
