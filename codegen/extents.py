"""Which extents does a call have, and what must be true of them?

The extents of a Function come from the shapes of its arguments. A named dimension that is an axis
by itself is bound by that axis; one that occurs only inside an expression (`2*n`) is solved for.
Everything else that the program needs (extents of outputs, sizes of scratch) is derived. Extents
that were unified while the graph was built, and positions that must exist, become constraints that
are checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.llvm_program import Slots
from graphc.dims import Bounds, Dim, Extent, affine, substitute, symbols_of
from graphc.errors import CompileError
from graphc.graph import Graph, substitute_dims, substitute_in
from graphc.node import Node, topological
from graphc.ops.movement import slice_op
from graphc.ops.operands import restate_op
from graphc.types import TensorType

Axis = int | tuple[str, int]


@dataclass(frozen=True)
class Constraint:
    """What must hold of the extents of a call, and the node that demands it (None: an argument)."""

    what: str
    node: Node | None


@dataclass(frozen=True)
class Layout:
    """The slots of a call and how axes refer to them: an int, ("free", slot) or ("slot", slot)."""

    slots: Slots
    inputs: tuple[tuple[Axis, ...], ...]
    outputs: tuple[tuple[Axis, ...], ...]
    workspace: Axis
    work: Axis
    constraints: tuple[Constraint, ...]


def canonical(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with dimensions named `d0`, `d1`, ... in order of appearance, and the user's names
    for them.

    Raises `CompileError` for a dimension that no argument's shape determines.
    """
    names: dict[str, None] = {}
    for type_ in graph.parameters:
        assert isinstance(type_, TensorType)
        for extent in type_.shape:
            names.update(dict.fromkeys(sorted(symbols_of(extent))))
    used = set().union(*(_names_in(node) for node in topological(graph.outputs)))
    unknown = sorted(used - names.keys())
    if unknown:
        raise CompileError(
            f"no argument's shape determines the extent {unknown[0]!r}\n"
            "Pass a symbol that has it as an axis."
        )
    renamed = {name: Dim.symbol(f"d{i}") for i, name in enumerate(names)}
    back = {f"d{i}": name for i, name in enumerate(names)}
    if not renamed:
        return graph, back
    parameters = [substitute_in(type_, renamed) for type_ in graph.parameters]
    return Graph(parameters, substitute_dims(graph.outputs, renamed)), back


def _names_in(node: Node) -> set[str]:
    names: set[str] = set()
    if isinstance(node.type, TensorType):
        for extent in node.type.shape:
            names |= symbols_of(extent)
    for value in node.attrs.values():
        if isinstance(value, Dim):
            names |= value.symbols
    return names


class _Builder:
    """Collects slots while a layout is made."""

    def __init__(self) -> None:
        self.free: list[str] = []
        self.solved: dict[str, Extent] = {}
        self.raw: list[tuple[Extent, str]] = []
        self.derived: list[tuple[str, Extent]] = []
        self.constraints: list[Constraint] = []
        self.divisible: list[tuple[Extent, int, int]] = []
        self.equal: list[tuple[Extent, Extent, int]] = []
        self.nonnegative: list[tuple[Extent, int]] = []

    def constrain(self, what: str, node: Node | None) -> int:
        self.constraints.append(Constraint(what, node))
        return len(self.constraints) - 1

    def bind(self, types: Sequence[TensorType]) -> list[tuple[Axis, ...]]:
        """Free slots for the axes of the arguments."""
        direct = {str(e) for t in types for e in t.shape if isinstance(e, Dim) and is_name(e)}
        axes: list[tuple[Axis, ...]] = []
        for position, type_ in enumerate(types):
            row: list[Axis] = []
            for axis, extent in enumerate(type_.shape):
                if isinstance(extent, int):
                    row.append(extent)
                    continue
                name = str(extent) if is_name(extent) else f"raw{position}_{axis}"
                if name not in self.free:
                    self.free.append(name)
                if not is_name(extent):
                    self.raw.append((extent, name))
                row.append(("free", self.free.index(name)))
            axes.append(tuple(row))
        self._solve(direct)
        return axes

    def _solve(self, known: set[str]) -> None:
        """Find dimensions that occur only inside expressions, and demand that every expression
        holds.
        """
        waiting = list(self.raw)
        while waiting:
            rest = []
            for extent, name in waiting:
                unknown = sorted(symbols_of(extent) - known - self.solved.keys())
                if len(unknown) == 1 and self._solve_one(extent, name, unknown[0]):
                    continue
                if unknown:
                    rest.append((extent, name))
                    continue
                number = self.constrain(f"an axis of extent {extent}", None)
                self.equal.append((substitute(extent, self.solved), Dim.symbol(name), number))
            if len(rest) == len(waiting):
                raise CompileError(f"the extent {rest[0][0]} does not determine its dimensions")
            waiting = rest

    def _solve_one(self, extent: Extent, raw: str, unknown: str) -> bool:
        split = affine(substitute(extent, self.solved), unknown)
        if split is None or not isinstance(split[0], int) or split[0] <= 0:
            return False
        slope, rest = split[0], split[1]
        difference = Dim.symbol(raw) - rest
        self.solved[unknown] = difference // slope
        number = self.constrain(f"an axis of extent {extent}", None)
        self.nonnegative.append((difference, number))
        if slope != 1:
            self.divisible.append((difference, slope, number))
        return True

    def slot(self, extent: Extent) -> Axis:
        """The slot of a derived extent."""
        value = substitute(extent, self.solved)
        if isinstance(value, int):
            return value
        if is_name(value) and str(value) in self.free:
            return ("slot", self.free.index(str(value)))
        for position, (_, held) in enumerate(self.derived):
            if held == value:
                return ("slot", len(self.free) + position)
        self.derived.append((f"_derived{len(self.derived)}", value))
        return ("slot", len(self.free) + len(self.derived) - 1)


def is_name(extent: Extent) -> bool:
    """Whether an extent is a named dimension by itself."""
    return isinstance(extent, Dim) and str(extent) in extent.symbols


def layout(graph: Graph, arena: Extent, work: Extent) -> Layout:
    """The slots of a canonical graph whose program needs `arena` bytes and does `work` element
    operations.
    """
    builder = _Builder()
    inputs = builder.bind([t for t in graph.parameters if isinstance(t, TensorType)])
    for name, value in builder.solved.items():
        builder.derived.append((name, value))
    outputs = [tuple(builder.slot(e) for e in node.shape) for node in graph.outputs]
    sizes = builder.slot(arena), builder.slot(work)
    _demands(builder, graph)
    slots = Slots(
        tuple(builder.free),
        tuple(builder.derived),
        tuple(builder.divisible),
        tuple(builder.equal),
        tuple(builder.nonnegative),
    )
    return Layout(
        slots, tuple(inputs), tuple(outputs), sizes[0], sizes[1], tuple(builder.constraints)
    )


def _demands(builder: _Builder, graph: Graph) -> None:
    """Constraints that nodes state: unified extents are equal, positions exist."""
    bounds = Bounds({})
    seen: set[tuple[str, Extent]] = set()

    def value(extent: Extent) -> Extent:
        return substitute(extent, builder.solved)

    for node in topological(graph.outputs):
        if node.op is restate_op:
            for first, second in zip(node.args[0].shape, node.shape, strict=True):
                difference = value(first) - value(second)
                if difference != 0 and ("equal", difference) not in seen:
                    seen.add(("equal", difference))
                    number = builder.constrain(f"{first} and {second} must be equal", node)
                    builder.equal.append((value(first), value(second), number))
        elif node.op is slice_op:
            attrs = node.attrs
            parts = zip(
                node.args[0].shape, attrs["starts"], attrs["extents"], attrs["steps"], strict=True
            )
            for size, start, length, step in parts:
                room = value(size - 1 - start - (length - 1) * step)
                low = value(start)
                for margin in (room, low):
                    if (
                        length == 1
                        and not bounds.proves_nonnegative(margin)
                        and ("room", margin) not in seen
                    ):
                        seen.add(("room", margin))
                        number = builder.constrain(
                            f"index {start} of an axis of extent {size}", node
                        )
                        builder.nonnegative.append((margin, number))
