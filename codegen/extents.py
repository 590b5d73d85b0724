"""Which extents does a call have, and what must be true of them?

The extents of a Function come from the shapes of its arguments. A named dimension that is an axis
by itself is bound by that axis; one that occurs only inside an expression (`2*n`) is solved for.
Everything else that the program needs (extents of outputs, sizes of scratch) is derived. Extents
that were unified while the graph was built, and positions that must exist, become constraints that
are checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.dims import Bounds, Dim, Extent, affine, evaluate, substitute, symbols_of
from graphc.errors import CompileError
from graphc.graph import Graph, graphs_of, parameter_op, substitute_dims, substitute_in
from graphc.node import NO_ATTRIBUTES, Attributes, Node
from graphc.ops.control import scan_op
from graphc.ops.movement import slice_op
from graphc.ops.operands import restate_op
from graphc.origin import location
from graphc.types import TensorType

Axis = int | tuple[str, int]
Text = Callable[[int, int], str]

# Extents, sizes in bytes and counts of operations are int64 in a compiled program.
LIMIT = 2**63


@dataclass(frozen=True)
class Slots:
    """The extents of a call, each with its slot.

    `free` are the names that axes of the arguments bind; `derived` are named values that follow
    from them, in later slots: dimensions that are no axis by themselves, output extents, sizes.
    What must hold of the free names: `divisible` (value, divisor, constraint number), `equal`
    (both, number), `nonnegative` (value, number). `limits` gives for each derived value the number
    of the constraint that it has a value and fits 64 bits.
    """

    free: tuple[str, ...] = ()
    derived: tuple[tuple[str, Extent], ...] = ()
    divisible: tuple[tuple[Extent, int, int], ...] = ()
    equal: tuple[tuple[Extent, Extent, int], ...] = ()
    nonnegative: tuple[tuple[Extent, int], ...] = ()
    limits: tuple[int, ...] = ()

    @property
    def program_names(self) -> tuple[str, ...]:
        """The name of every slot, in order."""
        return (*self.free, *(name for name, _ in self.derived))


@dataclass(frozen=True)
class Constraint:
    """What must hold of the extents of a call. `text` says what does not, of the two numbers that
    the status record holds; `node` demands it, or the argument at `position`; `error` is raised.
    """

    text: Text
    node: Node | None = None
    position: int | None = None
    error: type[Exception] = ValueError


@dataclass(frozen=True)
class Wording:
    """The user's words for a canonical graph: its arguments, and the names of its dimensions."""

    arguments: Sequence[str] = ()
    dims: Mapping[str, str] | None = None

    def extent(self, extent: Extent) -> str:
        """An extent in the user's names."""
        return str(substitute(extent, {a: Dim.symbol(b) for a, b in (self.dims or {}).items()}))

    def equation(self, extent: Extent, value: int) -> str:
        """ "n = 3", or just the number for a number."""
        return str(value) if isinstance(extent, int) else f"{self.extent(extent)} = {value}"

    def argument(self, position: int) -> str:
        """An argument as messages name it."""
        return ", ".join([f"argument {position + 1}", *self.arguments[position : position + 1]])


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

    Raises `CompileError` for a dimension that no argument's shape determines, and for an extent
    that no array can have.
    """
    names: dict[str, None] = {}
    for type_ in graph.parameters:
        assert isinstance(type_, TensorType)
        for extent in type_.shape:
            names.update(dict.fromkeys(sorted(symbols_of(extent))))
    first: dict[Any, Node] = {}  # of each type, and of all attributes that are equal
    for node in everywhere(graph):
        if node.type not in first:
            first[node.type] = node
        if node.attrs is not NO_ATTRIBUTES:
            first.setdefault(node.attrs, node)
    used: set[str] = set()
    for thing, node in first.items():
        for value in thing.values() if isinstance(thing, Attributes) else (thing,):
            _refuse_huge(value, node)
            used |= _names_in(value)
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


def everywhere(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph, or others that differ from them in their leaves only, and those of the
    Graphs that they carry: dimensions have the same names there.
    """
    waiting: list[Graph] = [graph]
    seen: set[Graph] = set()
    looked_at: set[Attributes] = set()
    while waiting:
        for node in waiting.pop().alike:
            yield node
            if node.attrs is NO_ATTRIBUTES or node.attrs in looked_at:
                continue
            looked_at.add(node.attrs)
            inner = set(graphs_of(node.attrs)) - seen
            seen |= inner
            waiting += sorted(inner, key=lambda graph: graph.digest)


def _refuse_huge(type_: Any, node: Node) -> None:
    if not isinstance(type_, TensorType):
        return
    for extent in type_.shape:
        numbers = [extent] if isinstance(extent, int) else [c for _, c in extent.terms]
        if any(abs(number) >= LIMIT for number in numbers):
            where = location(node.origin)
            raise CompileError(
                f"an extent of {type_} does not fit 64 bits\n"
                f"node: {node.op.name}" + (f", built at {where}" if where else "")
            )


def _names_in(thing: Any) -> set[str]:
    """The names of dimensions in a type or the value of an attribute."""
    names: set[str] = set()
    waiting = [thing]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Dim):
            names |= value.symbols
        elif isinstance(value, TensorType):
            waiting += value.shape
        elif isinstance(value, tuple):
            waiting += value
    return names


class _Builder:
    """Collects slots while a layout is made."""

    def __init__(self, wording: Wording) -> None:
        self.wording = wording
        self.free: list[str] = []
        self.solved: dict[str, Extent] = {}
        self.raw: list[tuple[Extent, str, int, int]] = []
        self.derived: list[tuple[str, Extent]] = []
        self.constraints: list[Constraint] = []
        self.divisible: list[tuple[Extent, int, int]] = []
        self.equal: list[tuple[Extent, Extent, int]] = []
        self.nonnegative: list[tuple[Extent, int]] = []
        self.limits: list[int] = []

    def constrain(self, text: Text, **who: Any) -> int:
        self.constraints.append(Constraint(text, **who))
        return len(self.constraints) - 1

    def derive(self, name: str, value: Extent, what: str, error: type[Exception]) -> None:
        """A slot for a value that follows from the free ones; `error` if it cannot be computed."""
        self.limits.append(
            self.constrain(
                lambda got, wanted: f"{what} does not fit 64 bits, or divides by 0", error=error
            )
        )
        self.derived.append((name, value))

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
                    self.raw.append((extent, name, position, axis))
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
            for extent, name, position, axis in waiting:
                unknown = sorted(symbols_of(extent) - known - self.solved.keys())
                place = self._place(extent, position, axis)
                if len(unknown) == 1 and self._solve_one(extent, name, unknown[0], place):
                    continue
                if unknown:
                    rest.append((extent, name, position, axis))
                    continue
                number = self._axis_must_be(place, lambda got, wanted: f" = {got}, got {wanted}")
                self.equal.append((substitute(extent, self.solved), Dim.symbol(name), number))
            if len(rest) == len(waiting):
                extent, _, position, axis = rest[0]
                raise CompileError(
                    f"the extent {self.wording.extent(extent)}, axis {axis} of "
                    f"{self.wording.argument(position)}, does not determine its dimensions\n"
                    "Pass a symbol that has each of them as an axis."
                )
            waiting = rest

    def _place(self, extent: Extent, position: int, axis: int) -> tuple[str, int]:
        return f"axis {axis} must be {self.wording.extent(extent)}", position

    def _axis_must_be(self, place: tuple[str, int], rest: Text) -> int:
        head, position = place
        return self.constrain(lambda got, wanted: head + rest(got, wanted), position=position)

    def _solve_one(self, extent: Extent, raw: str, unknown: str, place: tuple[str, int]) -> bool:
        split = affine(substitute(extent, self.solved), unknown)
        if split is None or not isinstance(split[0], int) or split[0] <= 0:
            return False
        slope, rest = split[0], split[1]
        difference = Dim.symbol(raw) - rest
        self.solved[unknown] = difference // slope
        name = self.wording.extent(Dim.symbol(unknown))

        def misfit(got: int, wanted: int) -> str:
            if isinstance(rest, int):
                return f", and no {name} >= 0 gives {got + rest}"
            return f", and no {name} >= 0 gives what came"

        number = self._axis_must_be(place, misfit)
        self.nonnegative.append((difference, number))
        if slope != 1:
            self.divisible.append((difference, slope, number))
        return True

    def slot(self, extent: Extent, what: str, error: type[Exception] = ValueError) -> Axis:
        """The slot of a derived extent, which is called `what` if it cannot be computed.

        Raises `CompileError` for a number beyond 64 bits.
        """
        value = substitute(extent, self.solved)
        if isinstance(value, int):
            if value >= LIMIT:
                raise CompileError(f"{what}, {value}, does not fit 64 bits")
            return value
        if is_name(value) and str(value) in self.free:
            return ("slot", self.free.index(str(value)))
        for position, (_, held) in enumerate(self.derived):
            if held == value:
                return ("slot", len(self.free) + position)
        self.derive(f"_derived{len(self.derived)}", value, what, error)
        return ("slot", len(self.free) + len(self.derived) - 1)


def is_name(extent: Extent) -> bool:
    """Whether an extent is a named dimension by itself."""
    return isinstance(extent, Dim) and str(extent) in extent.symbols


def layout(graph: Graph, arena: Extent, work: Extent, wording: Wording | None = None) -> Layout:
    """The slots of a canonical graph whose program needs `arena` bytes and does `work` element
    operations. `wording` is how messages call its arguments and dimensions.
    """
    words = wording or Wording()
    builder = _Builder(words)
    inputs = builder.bind([t for t in graph.parameters if isinstance(t, TensorType)])
    for name, value in builder.solved.items():
        called = words.extent(Dim.symbol(name))
        builder.derive(name, value, f"the extent {called}", ValueError)
    outputs = [
        tuple(builder.slot(e, f"the extent {words.extent(e)} of a result") for e in type_.shape)
        for type_ in graph.types
        if isinstance(type_, TensorType)
    ]
    sizes = (
        builder.slot(arena, "the size of the workspace in bytes", MemoryError),
        builder.slot(work, "the number of operations"),
    )
    if builder.free:  # where all extents are numbers they were looked at when nodes were built
        _demands(builder, graph)
    slots = Slots(
        tuple(builder.free),
        tuple(builder.derived),
        tuple(builder.divisible),
        tuple(builder.equal),
        tuple(builder.nonnegative),
        tuple(builder.limits),
    )
    return Layout(
        slots, tuple(inputs), tuple(outputs), sizes[0], sizes[1], tuple(builder.constraints)
    )


def _demands(builder: _Builder, graph: Graph) -> None:
    """Constraints that nodes state: unified extents are equal, positions exist, and no extent is
    negative.
    """
    words = builder.wording
    bounds = Bounds({})
    seen: set[tuple[str, Extent]] = set()

    def value(extent: Extent) -> Extent:
        return substitute(extent, builder.solved)

    def is_new(kind: str, extent: Extent) -> bool:
        fresh = (kind, extent) not in seen
        seen.add((kind, extent))
        return fresh

    def demand_nonnegative(extent: Extent, node: Node, text: Text, **who: Any) -> None:
        if not bounds.proves_nonnegative(extent):
            builder.nonnegative.append((extent, builder.constrain(text, node=node, **who)))

    for node in everywhere(graph):
        for extent in _extents_of(node):
            if is_new("extent", value(extent)):
                demand_nonnegative(value(extent), node, _negative(words.extent(extent)))
        if node.op is restate_op:
            for first, second in zip(node.args[0].shape, node.shape, strict=True):
                difference = value(first) - value(second)
                if difference != 0 and is_new("equal", difference):
                    number = builder.constrain(_unequal(words, first, second), node=node)
                    builder.equal.append((value(first), value(second), number))
        elif node.op is slice_op:
            parts = zip(node.args[0].shape, node.attrs["starts"], node.shape, strict=True)
            for axis, (size, start, length) in enumerate(parts):
                if length != 1:  # a longer slice was cut to what is there when it was built
                    continue
                margins = value(size - 1 - start), value(start)
                for margin, high in zip(margins, (True, False), strict=True):
                    if is_new("room", margin):
                        text = _outside(words, axis, size, start, high)
                        demand_nonnegative(margin, node, text, error=IndexError)


def _extents_of(node: Node) -> tuple[Extent, ...]:
    """The extents that a node introduces; those of an argument are what its arrays have."""
    if node.op is parameter_op:
        return ()
    if node.op is scan_op:
        return (node.attrs["length"],)
    return node.type.shape if isinstance(node.type, TensorType) else ()


def _negative(extent: str) -> Text:
    def text(got: int, wanted: int) -> str:
        if got < 0:
            return f"the extent {extent} is {got}; it must not be negative"
        return f"the extent {extent} does not fit 64 bits, or divides by 0"

    return text


def _unequal(words: Wording, first: Extent, second: Extent) -> Text:
    def text(got: int, wanted: int) -> str:
        pair = f"{words.equation(first, got)} and {words.equation(second, wanted)}"
        return f"the extents {pair} must be equal"

    return text


def _outside(words: Wording, axis: int, size: Extent, start: Extent, high: bool) -> Text:
    """What to say of position `start`, which `margin` puts beyond one end of the axis."""
    offset = start - size  # a number for a position counted from the end

    def text(margin: int, _: int) -> str:
        if high and isinstance(start, int):
            index, actual = str(start), str(margin + 1 + start)
        elif not high and isinstance(offset, int):
            index, actual = str(offset), str(margin - offset)
        else:
            index, actual = words.extent(start), ""
        extent = words.equation(size, int(actual)) if actual else words.extent(size)
        return f"index {index} is out of range for axis {axis} of extent {extent}"

    return text


def derive(slots: Slots, free: Sequence[int]) -> tuple[list[int], tuple[int, int, int] | None]:
    """What the compiled `extents` function does, in Python: every slot from the free ones, and the
    first constraint that does not hold with the two numbers of the status record.
    """
    values = dict(zip(slots.free, free, strict=True))

    def value(extent: Extent) -> int | None:
        """None where there is none that fits."""
        try:
            found = evaluate(extent, values)
        except ZeroDivisionError:
            return None
        return found if abs(found) < LIMIT else None

    for extent, divisor, number in slots.divisible:
        got = value(extent)
        if got is None or got % divisor:
            return [], (number, got or 0, divisor)
    for first, second, number in slots.equal:
        a, b = value(first), value(second)
        if a is None or a != b:
            return [], (number, a or 0, b or 0)
    for extent, number in slots.nonnegative:
        got = value(extent)
        if got is None or got < 0:
            return [], (number, got or 0, 0)
    filled = list(free)
    for (_, extent), number in zip(slots.derived, slots.limits, strict=True):
        got = value(extent)
        if got is None:
            return [], (number, 0, 0)
        filled.append(got)
    return filled, None
