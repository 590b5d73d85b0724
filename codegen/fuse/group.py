"""What is a kernel before it is written?  A group of nodes, with the reasons why they are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphc.codegen.fuse.reading import result_shape
from graphc.dims import product
from graphc.lowering import Reduce
from graphc.node import Node
from graphc.types import Shape

if TYPE_CHECKING:
    from graphc.codegen.fuse.parts import Part

# Results of a reduction over all rows that are carried along in memory while rows are reduced.
MOST_CARRIED = 4096
LEAST_CARRIED = 65536  # elements of the rows


@dataclass(eq=False)
class Group:
    """Nodes computed by one kernel (or by one region statement).

    `domain` is the shape that is iterated; `reduced` the axes that its reductions take away, if it
    has some.
    """

    # "nest", "contract", "scatter", "own" (an op's own loops), "check", "parts", "region"
    kind: str
    domain: Shape
    members: list[Node] = field(default_factory=list)
    reduced: tuple[int, ...] | None = None
    needs: set[Group] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    fused: dict[str, list[str]] = field(default_factory=dict)  # names of ops, by why they joined
    refused: dict[str, list[str]] = field(default_factory=dict)  # and by why they did not
    stages: dict[Node, int] = field(default_factory=dict)  # the passes before a member is known
    carried: set[Node] = field(default_factory=set)  # reductions over the rows, which others reduce
    woven: Shape | None = None  # of parts that one kernel computes and writes side by side
    # Values that are no members, but written: each is a part of an array.
    beside: list[tuple[Node, Node, Part]] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)  # parts that others write, by their arguments
    work: int = 0
    number: int = 0  # in the order of opening
    continuation: Group | None = None  # takes what is refused because the kernel is long enough

    @property
    def reason(self) -> str:
        """Why the kernel computes what it does, and what it was asked to take but did not."""
        fused = [f"fused: {_listed(names)}, {why}" for why, names in self.fused.items()]
        refused = [f"not fused: {_listed(names)}, {why}" for why, names in self.refused.items()]
        return "; ".join([*self.reasons, *fused, *refused])

    @property
    def kept(self) -> Shape:
        """The shape that is left after the reductions."""
        gone = self.reduced or ()
        return tuple(e for axis, e in enumerate(self.domain) if axis not in gone)


def carries(node: Node, group: Group) -> bool:
    """Whether a reduction takes away the rows of a group that reduces each of them, so that it can
    be carried along from row to row: of full values, or of one value for each row.
    """
    reduced, rank = group.reduced, len(group.domain)
    if group.kind != "nest" or not reduced or rank - 1 not in reduced or len(reduced) == rank:
        return False
    shape, axes = node.args[0].shape, node.attrs["axes"]
    rows = tuple(axis for axis in range(rank) if axis not in reduced)
    if shape == group.domain and axes == rows:
        size = product(group.domain[axis] for axis in reduced)
    elif shape == group.kept and len(axes) == len(shape) and shape != group.domain:
        size = 1
    else:
        return False
    total = product(group.domain)
    large = not isinstance(total, int) or total > LEAST_CARRIED
    return large and isinstance(size, int) and size <= MOST_CARRIED


def is_row_member(node: Node, group: Group) -> bool:
    """Whether a member of a reducing group has one value for each row: a reduction, or made of
    such.
    """
    if node in group.carried:
        return False
    return isinstance(node.op.lowering, Reduce) or (
        result_shape(node) == group.kept and result_shape(node) != group.domain
    )


def _listed(names: Sequence[str]) -> str:
    """Names in order of appearance, each once, with how often it comes if that is more."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in counts.items())


def shape_text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
