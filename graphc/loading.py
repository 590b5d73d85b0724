"""When are the modules of the ops loaded?  When somebody asks for what they define.

Ops enter themselves in tables as their modules are imported, and importing all of them takes longer
than NumPy does. So a table loads the module of a name that it lacks: the few that the first
expressions need are known by name, and for any other name, or for the table as a whole, all are
loaded. Whoever reads a table finds it complete.
"""

from __future__ import annotations

import importlib
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, TypeVar

T = TypeVar("T")

# Where the functions behind operators are.
_HOMES = {
    name: f"graphc.ops.{module}"
    for module, names in {
        "arithmetic": "absolute add divide maximum minimum multiply negative subtract",
        "compare": "equal greater greater_equal less less_equal not_equal",
        "contract": "matmul",
        "operands": "cast",
        "reduce": "max mean min sum",
        "transcend": "cos exp log sin sqrt tanh",
    }.items()
    for name in names.split()
}


class Table(dict[str, T]):
    """A dictionary that the modules of the ops fill."""

    def holds(self, name: str) -> bool:
        """Whether a name has been entered already; loads nothing."""
        return dict.__contains__(self, name)

    def __missing__(self, name: str) -> T:
        if not self._load(name):
            raise KeyError(name)
        return dict.__getitem__(self, name)

    def _load(self, name: Any) -> bool:
        """Load what may define a name; whether it is there then."""
        home = _HOMES.get(name)
        if home is not None:
            importlib.import_module(home)
        return self.holds(name) or (load_all() and self.holds(name))

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or self._load(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        load_all()
        return dict.__iter__(self)

    def __len__(self) -> int:
        load_all()
        return dict.__len__(self)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        load_all()
        return super().keys()  # type: ignore[return-value]

    def values(self) -> ValuesView[T]:  # type: ignore[override]
        load_all()
        return super().values()  # type: ignore[return-value]

    def items(self) -> ItemsView[str, T]:  # type: ignore[override]
        load_all()
        return super().items()  # type: ignore[return-value]


_complete = False


def load_all() -> bool:
    """Import every module of the ops; true."""
    global _complete
    if not _complete:
        from graphc import ops

        for name in ops.MODULES:
            importlib.import_module(f"graphc.ops.{name}")
        _complete = True
    return True
