"""What is being written?  A level of code: its lines, and what is known in it by name.

The text is made in one pass. A loop's body is written first, into a buffer of its own, so that
addresses and splats that do not vary in it can still be put in front of it: at the outermost level
where all that they are made of is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.loops import Buffer
from graphc.codegen.scalar import Scope
from graphc.dims import Dim


@dataclass
class Lanes:
    """The vector loop that is being written: its variable, its first position, and which lanes are
    live.
    """

    variable: str
    count: int
    position: str  # i64, the loop variable of lane 0
    mask: str | None  # <count x i1>, or None when all lanes are live
    single: str = ""  # i1, whether only the first lane is live, if that may be known to LLVM
    rest: str = ""  # i64, how many lanes are live, if masks only say that, where stores count them
    end: str = ""  # i64, where whole vectors end, in a loop over those
    own: frozenset[Buffer] = frozenset()  # scratch with room for lanes that are not live, too

    def mask_of(self, buffer: Buffer) -> str | None:
        """The lanes that may load from a buffer and store to it; None: all of them."""
        return None if buffer in self.own else self.mask

    def counts(self, mask: str | None, item_bytes: int) -> bool:
        """Whether a store under a mask is that of the first `rest` lanes, in parts. LLVM writes a
        known number of small elements well by itself: it knows no masks for those.
        """
        return bool(self.rest) and mask == self.mask and (item_bytes >= 4 or self.rest[0] == "%")


@dataclass(eq=False)
class Level:
    """Code being written for one scope: its lines, and the names of what it has computed."""

    scope: Scope | None
    parent: Level | None
    lines: list[str] = field(default_factory=list)
    block: str = "entry"
    dims: dict[Any, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    splats: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    ready: dict[int, str] = field(default_factory=dict)  # what was read for loads that follow
    latest: tuple[Dim, str] | None = None  # the last long sum, from which the next may follow
    lanes: Lanes | None = None  # of the enclosing vector loop, if there is one
    introduces_lanes: bool = False
    lane_count: int = 1  # of every value here, 1 outside of vector loops
    finished: str | None = None  # whether the loop whose body this is needs no further iteration

    def __post_init__(self) -> None:
        self.introduces_lanes = self.lanes is not None
        if self.lanes is None and self.parent is not None:
            self.lanes = self.parent.lanes
        if self.lanes is not None:
            self.lane_count = self.lanes.count

    def put(self, line: str) -> None:
        self.lines.append("  " + line)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def chain(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent
