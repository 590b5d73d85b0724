"""What must be equal between two calls for one trace to serve both?

The structure of the arguments; for each array the dtype, the rank and which extents are 1 (those
broadcast, others do not); for each Python number whether it is an int or a float; the values of
static arguments. Sizes are not part of it. A `Signature` is hashable, gives every axis a name, and
can say in words how it differs from another.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import shortened
from graphc.tree import Structure

# Objects that choose a computation instead of taking part in it: static without being declared so.
STATIC_TYPES = (bool, str, bytes, enum.Enum, np.dtype, type, type(Ellipsis))
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Leaf:
    """One traced argument: an array of any size, or (weak) a Python number.

    `ones` tells for each axis whether its extent is 1.
    """

    dtype: np.dtype[Any]
    ones: tuple[bool, ...] = ()
    weak: bool = False

    def __str__(self) -> str:
        if self.weak:
            return f"a Python {'int' if self.dtype.kind == 'i' else 'float'}"
        axes = ", ".join("1" if one else "_" for one in self.ones)
        return f"{self.dtype.name}[{axes}]" if axes else self.dtype.name


class Static:
    """A static value, told apart by its type as well: 1, 1.0 and True are equal in Python.

    No dataclass, because those are containers, and this stands among leaves.
    """

    __slots__ = ("kind", "value")

    def __init__(self, value: Hashable) -> None:
        self.kind = type(value)
        self.value = value

    def __hash__(self) -> int:
        return hash((self.kind, self.value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or self.kind is not other.kind:
            return False
        return self.value is other.value or bool(self.value == other.value)

    def __str__(self) -> str:
        return shortened(repr(self.value))


@dataclass(frozen=True)
class Signature:
    """`entries` are `Leaf` and `Static` in the order of `paths`, the leaves of `structure`."""

    structure: Structure
    entries: tuple[Leaf | Static, ...]

    def difference(self, other: Signature, paths: Sequence[str]) -> list[str]:
        """What is different here, entry by entry, from `other`."""
        if self.structure != other.structure:
            return [f"the structure differs {self.structure.difference(other.structure)}"]
        pairs = zip(paths, self.entries, other.entries, strict=True)
        return [f"{path}: {_change(new, old)}" for path, new, old in pairs if new != old]


def _change(new: Leaf | Static, old: Leaf | Static) -> str:
    if isinstance(new, Static) or isinstance(old, Static):
        return f"static {new}, was {old}" if isinstance(new, Static) else f"{new}, was static {old}"
    if new.weak or old.weak:
        return f"{new}, was {old}"
    if len(new.ones) != len(old.ones):
        return f"rank {len(new.ones)}, was {len(old.ones)}"
    if new.dtype != old.dtype:
        return f"dtype {new.dtype.name}, was {old.dtype.name}"
    axis = next(a for a, one in enumerate(new.ones) if one != old.ones[a])
    return f"axis {axis} is {'1' if new.ones[axis] else 'not 1'}, was {'not ' * new.ones[axis]}1"


def dimension_names(paths: Sequence[str], entries: Sequence[Leaf | Static]) -> list[list[str]]:
    """A name for every axis of every leaf, after the argument: "x_0", "params_w_1"."""
    used: set[str] = set()
    names = []
    for path, entry in zip(paths, entries, strict=True):
        stem = re.sub(r"[^A-Za-z0-9_]+", "_", path).strip("_")[:_LONGEST_NAME] or "argument"
        rank = len(entry.ones) if isinstance(entry, Leaf) else 0
        names.append([_unused(f"{stem}_{axis}", used) for axis in range(rank)])
    return names


def _unused(name: str, used: set[str]) -> str:
    candidate = name if name.isidentifier() else f"d{name}"
    while candidate in used:
        candidate += "_"
    used.add(candidate)
    return candidate
