"""How is the element of a node at an index computed? On demand, following views as index
arithmetic.

A `Draft` is a kernel under construction: its buffers, and what is known of its loop variables. A
`Reader` writes the value of any node at any index into one scope and keeps what it has computed
there; readers of inner scopes see what outer ones hold. What is in memory, in a register or in
scratch is for the kernel's author to say: a `Source`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graphc import dtypes
from graphc.codegen.loops import Buffer, Kernel
from graphc.codegen.program import Launch, Operand
from graphc.codegen.scalar import HALVES, Scope, Value
from graphc.dims import Bounds, Dim, Extent, ceildiv, dim_max, product, symbols_of
from graphc.lowering import Demand, Elementwise, Gather, Generate, View
from graphc.node import NO_ATTRIBUTES, Node
from graphc.ops.gather import lookup
from graphc.ops.operands import constant_op
from graphc.ops.special import project_op
from graphc.types import Shape, TupleType

# Elements of work that make a range of tasks worth handing to another worker.
GRAIN = 16384

INDEX_OUT_OF_RANGE = 1
UNFIT_MATRIX = 7
# The status of an unfulfilled demand, by the error that it becomes.
DEMAND_CODES: dict[type[Exception], int] = {ValueError: 3, ZeroDivisionError: 4}

Index = tuple[Extent, ...]
_HALVES = frozenset(HALVES)


def symbol(name: str) -> Dim:
    return Dim.symbol(name)


def unravel(linear: Extent, extents: Shape, bounds: Bounds) -> Index:
    """The index, in C order, of element number `linear` of an array of these extents."""
    # no element: an index that stays in the loop that never runs
    if any(size == 0 for size in extents):
        return (linear,) * len(extents)
    taken: list[Extent] = []
    for size in reversed(extents[1:]):
        taken.append(_simplified(linear % size, bounds))
        linear = linear // size
    if extents:
        taken.append(_simplified(linear, bounds))
    return tuple(reversed(taken))


def _simplified(extent: Extent, bounds: Bounds) -> Extent:
    return extent if isinstance(extent, int) else bounds.simplify(extent)


@dataclass(eq=False)
class Draft:
    """A kernel under construction: its scope, buffers, operands, and what is known of its loop
    variables.
    """

    title: str
    scope: Scope = field(default_factory=Scope)
    buffers: dict[Any, tuple[Buffer, Operand]] = field(default_factory=dict)
    ranges: dict[str, tuple[Extent, Extent]] = field(default_factory=dict)
    atoms: dict[str, Value] = field(default_factory=dict)
    _bounds: Bounds | None = None

    def bind(self, variable: str, start: Extent, stop: Extent) -> Dim:
        """Note the range of a loop variable; returns it as an extent."""
        if start != stop:  # what holds for no iteration would let loads out of the loop
            self.ranges[variable] = (start, stop - 1)
        self._bounds = None
        return symbol(variable)

    @property
    def bounds(self) -> Bounds:
        if self._bounds is None:
            self._bounds = Bounds(self.ranges)
        return self._bounds

    def simplify(self, extent: Extent) -> Extent:
        return extent if isinstance(extent, int) else self.bounds.simplify(extent)

    def buffer(self, operand: Operand, shape: Shape) -> Buffer:
        """The kernel's buffer for an operand seen at `shape`."""
        storage = operand.storage
        key = (id(storage), operand.offset, shape)
        found = self.buffers.get(key)
        if found is None:
            layout = "strided" if storage.strided else "contiguous"
            space = "worker" if storage.kind == "worker" else "global"
            name = f"b{len(self.buffers)}"
            made = Buffer(name, dtypes.name_of(storage.dtype), shape, layout, space)
            found = self.buffers[key] = (made, operand)
        return found[0]

    def located(self, index: Index) -> tuple[Index, tuple[Value, ...]]:
        """An index with its data-dependent positions renamed to `_arg0`, ..., and their values."""
        index = tuple(self.simplify(extent) for extent in index)
        names = sorted({n for extent in index for n in symbols_of(extent) if n in self.atoms})
        if not names:
            return index, ()
        renamed: dict[str, Extent] = {name: symbol(f"_arg{i}") for i, name in enumerate(names)}
        moved = tuple(e if isinstance(e, int) else e.substitute(renamed) for e in index)
        return moved, tuple(self.atoms[name] for name in names)

    def index(self, scope: Scope, extent: Extent) -> Value:
        (moved,), args = self.located((extent,))
        return scope.index(moved, args)

    def launch(self, tasks: Extent, inner: Extent, nodes: list[Node], reason: str) -> Launch:
        """The launch of the finished kernel. `inner` is the number of elements in one task."""
        kernel = Kernel([buffer for buffer, _ in self.buffers.values()], self.scope, self.title)
        operands = [operand for _, operand in self.buffers.values()]
        grain = ceildiv(GRAIN, inner) if isinstance(inner, int) and inner else 1
        if isinstance(inner, Dim):
            grain = ceildiv(GRAIN, dim_max(inner, 1))
        return Launch(kernel, operands, tasks, grain, tasks * inner, nodes, reason)


# What was asked for: a node, an index (or a word, for what else belongs to the node), a mask.
Key = tuple[Node, tuple[Any, ...], Any]


class Source(Protocol):
    """What a reader asks the author of its kernel."""

    saved: dict[Node, tuple[Operand, Callable[[Index], Index], Shape]]

    def readable(self, node: Node) -> Operand | None:
        """Where to load a node from; None if it must be computed."""

    def row_value(self, node: Node) -> Value | None:
        """The value of a node that has been reduced to one for each row."""

    def flat_index(self, index: Index, shape: Shape, operand: Operand) -> Extent | None:
        """The position in memory of a read at the nest's own index, if the nest is flat."""

    def number(self, node: Node, axis: int = 0, window: Extent = 1) -> int:
        """The number of a checked node, at one of its positions."""


class Reader:
    """Values of nodes at indices, in one scope. A reader of an inner scope sees what outer ones
    computed.
    """

    def __init__(self, source: Source, draft: Draft, scope: Scope, outer: Reader | None = None):
        self.source = source
        self.draft = draft
        self.scope = scope
        self.outer = outer
        # By index and mask: the values of nodes there. Nearly all are at one index.
        self._known: dict[tuple[Any, Any], dict[Node, Any]] = {}

    def note(self, node: Node, index: Index, value: Any) -> None:
        """Let the value of a node at an index be known."""
        self._known.setdefault((index, None), {})[node] = value

    def find(self, key: Key) -> Any:
        node, at = key[0], key[1:]
        reader: Reader | None = self
        while reader is not None:
            here = reader._known.get(at)
            if here is not None and node in here:
                return here[node]
            reader = reader.outer
        return None

    def value(self, node: Node, index: Index, mask: Value | None = None) -> Any:
        """The element of `node` at `index`; memory is touched only where `mask` holds. Iterative.
        """
        root: Key = (node, index, mask)
        inner = self.outer is not None
        here = self._known.setdefault((index, mask), {})
        if not inner and node in here:
            return here[node]
        # What an asked one needs is further up the stack.
        stack: list[tuple[Node, Index, Value | None, bool]] = [(*root, False)]
        while stack:
            node, at, inside, asked = stack[-1]
            if at is not index or inside is not mask:
                index, mask = at, inside
                here = self._known.setdefault((index, mask), {})
            if node in here or inner and self.find((node, index, mask)) is not None:
                stack.pop()
                continue
            if not asked:
                value = self._held(node, index, mask)
                if value is not None:
                    stack.pop()
                    here[node] = value
                    continue
            form = node.op.lowering
            if not inner and isinstance(form, Elementwise):
                values: list[Any] = list(map(here.get, node.args))
                if None not in values:
                    stack.pop()
                    if form.demand is not None:
                        self._demand(node, form.demand, values, mask)
                    here[node] = element(self.scope, node, values)
                    continue
                stack[-1] = (node, index, mask, True)
                stack += [(a, index, mask, False) for a in node.args if a not in here]
                continue
            if not asked:
                needs = self._needs(node, index, mask)
                waiting = [(*key, False) for key in needs if self.find(key) is None]
                if waiting:
                    if not isinstance(form, Gather):  # that may need more then
                        stack[-1] = (node, index, mask, True)
                    stack += waiting
                    continue
            stack.pop()
            here[node] = self._compute(node, index, mask)
        return self.find(root)

    def _held(self, node: Node, index: Index, mask: Value | None) -> Any:
        """The value of a node that was computed before, loaded if it is in memory; None if there is
        none.
        """
        source = self.source
        row = source.row_value(node)
        if row is not None:
            return row
        stored = source.readable(node)
        if stored is not None:
            return self.load(stored, node.shape, index, mask)
        if node in source.saved:
            operand, where, shape = source.saved[node]
            return self.load(operand, shape, where(index), mask)
        return None

    def _needs(self, node: Node, index: Index, mask: Value | None) -> list[Key]:
        form = node.op.lowering
        if isinstance(form, Elementwise):
            return [(argument, index, mask) for argument in node.args]
        if isinstance(form, View):
            return [
                (node.args[piece.argument], piece.index, inner)
                for piece, inner in self._pieces(node, index, mask)
            ]
        if isinstance(form, Gather):
            place = lookup(node).place(index)
            first: list[Key] = [(positions, place, mask) for positions in node.args[1:]]
            if any(self.find(key) is None for key in first):
                return first
            read, inner = self._gathered(node, index, mask)
            return [*first, (node.args[0], read, inner)]
        return [(node.args[0], index, mask)] if node.op is project_op else []

    def _compute(self, node: Node, index: Index, mask: Value | None) -> Any:
        scope, draft = self.scope, self.draft
        form = node.op.lowering
        if isinstance(form, Elementwise):
            values = [self.find((argument, index, mask)) for argument in node.args]
            if form.demand is not None:
                self._demand(node, form.demand, values, mask)
            return element(scope, node, values)
        if node.op is constant_op:
            return scope.const(node.attrs["value"].array.item(), node.dtype.name)
        if isinstance(form, View):
            return self._view(node, index, mask)
        if isinstance(form, Generate):
            return form.value(_Indexed(scope, draft), index, **node.attrs)
        if isinstance(form, Gather):
            source, inner = self._gathered(node, index, mask)
            return self.find((node.args[0], source, inner))
        if node.op is project_op:
            return self.find((node.args[0], index, mask))[node.attrs["index"]]
        raise AssertionError(f"{node.op.name} has no value inside a kernel")

    def _demand(
        self, node: Node, demand: Demand, values: Sequence[Value], mask: Value | None
    ) -> None:
        """Check what the node demands of its arguments, where they are read at all."""
        scope = self.scope
        holds = demand.kernel(scope, *values)
        if holds is None:
            return
        allowed = holds if mask is None else scope.or_(holds, scope.not_(mask))
        code, detail = DEMAND_CODES[demand.error], scope.const(0, "int64")
        scope.check(allowed, code, self.source.number(node), detail)

    def load(self, operand: Operand, shape: Shape, index: Index, mask: Value | None) -> Value:
        """Read memory; where the whole array is read at its own index in a flat nest, read it flat.
        """
        flat = self.source.flat_index(index, shape, operand)
        if flat is not None:
            shape, index = (product(shape),), (flat,)
        buffer = self.draft.buffer(operand, shape)
        located, args = self.draft.located(index)
        return self.scope.load(buffer, located, args, mask)

    # -- views -------------------------------------------------------------------------------------

    def _pieces(
        self, node: Node, index: Index, mask: Value | None
    ) -> list[tuple[Any, Value | None]]:
        """The pieces of a view with the mask under which each is read."""
        form = node.op.lowering
        assert isinstance(form, View)
        types = [argument.type for argument in node.args]
        pieces = form.pieces(index, types, node.type, **node.attrs)
        answer = []
        for piece in pieces:
            if self._is_elsewhere(piece.inside):
                continue
            condition = self._inside(piece.inside)
            answer.append((piece, _both(self.scope, mask, condition)))
            if condition is None:
                break  # whatever follows is behind it
        return answer

    def _is_elsewhere(self, conditions: Sequence[tuple[Extent, Extent, Extent]]) -> bool:
        """Whether it is known that some condition does not hold."""
        draft = self.draft
        return any(
            draft.bounds.proves_nonnegative(draft.simplify(beyond))
            for position, low, high in conditions
            for beyond in (low - 1 - position, position - high)
        )

    def _inside(self, conditions: Sequence[tuple[Extent, Extent, Extent]]) -> Value | None:
        """Whether all of low <= position < high hold; None if that is known."""
        result: Value | None = None
        scope, draft = self.scope, self.draft
        for position, low, high in conditions:
            below = draft.simplify(position - low)
            if not draft.bounds.proves_nonnegative(below):
                value = scope.ge(draft.index(scope, position), draft.index(scope, low))
                result = _both(scope, result, value)
            above = draft.simplify(high - 1 - position)
            if not draft.bounds.proves_nonnegative(above):
                value = scope.lt(draft.index(scope, position), draft.index(scope, high))
                result = _both(scope, result, value)
        return result

    def _view(self, node: Node, index: Index, mask: Value | None) -> Value:
        scope = self.scope
        result: Value | None = None
        for piece, inner in reversed(self._pieces(node, index, mask)):
            value = self.find((node.args[piece.argument], piece.index, inner))
            condition = self._inside(piece.inside)
            if condition is None:
                result = value
                continue
            if result is None:
                result = scope.const(0, node.dtype.name)
            result = scope.select(condition, value, result)
        return scope.const(0, node.dtype.name) if result is None else result

    # -- data-dependent positions ------------------------------------------------------------------

    def _gathered(self, node: Node, index: Index, mask: Value | None) -> tuple[Index, Value | None]:
        """The index in the source of a gather, and the mask under which it may be read."""
        found = lookup(node)
        place = found.place(index)
        values = [self.find((positions, place, mask)) for positions in node.args[1:]]
        located, inside = self.positions(node, values, mask)
        return found.source(found.kept_of(index), located), _both(self.scope, mask, inside)

    def positions(
        self, node: Node, values: Sequence[Value], mask: Value | None
    ) -> tuple[list[Extent], Value | None]:
        """The positions that a gather or scatter is given as `values`, checked, and where all of
        them are in range.
        """
        located: list[Extent] = []
        inside: Value | None = None
        windows = node.attrs["windows"] or (1,) * len(values)
        for value, axis, window in zip(values, node.attrs["axes"], windows, strict=True):
            position, within = self._position(node, value, axis, window, mask)
            located.append(position)
            inside = _both(self.scope, inside, within)
        return located, inside

    def _position(
        self, node: Node, value: Value, axis: int, window: Extent, mask: Value | None
    ) -> tuple[Extent, Value | None]:
        """A checked position from the start or the end, for index expressions, and where it is in
        range; None where that is known, because the position is index arithmetic itself.
        """
        key = (node, ("position", axis), value)
        held = self.find(key)
        if held is not None:
            return held
        scope, draft = self.scope, self.draft
        room = node.args[0].shape[axis] - window  # the last position
        known = _index_arithmetic(value)
        if known is not None and all(
            draft.bounds.proves_nonnegative(draft.simplify(margin))
            for margin in (known, room - known)
        ):
            return self._keep(key, (known, None))
        size = draft.index(scope, node.args[0].shape[axis])
        wrapped = scope.select(scope.lt(value, 0), scope.add(value, size), value)
        inside = scope.and_(scope.ge(wrapped, 0), scope.le(wrapped, draft.index(scope, room)))
        allowed = inside if mask is None else scope.or_(inside, scope.not_(mask))
        scope.check(allowed, INDEX_OUT_OF_RANGE, self.source.number(node, axis, window), value)
        name = f"_at{len(draft.atoms)}"
        draft.atoms[name] = wrapped
        return self._keep(key, (symbol(name), inside))

    def _keep(self, key: Key, value: Any) -> Any:
        self._known.setdefault(key[1:], {})[key[0]] = value
        return value


def element(scope: Scope, node: Node, values: Sequence[Value]) -> Any:
    """What the kernel of an element-wise node gives: a value, or a tuple for several results.

    A node of 16-bit floats computes in float32 and rounds to its dtype, fused or not.
    """
    form = node.op.lowering
    assert isinstance(form, Elementwise)
    if form.native or _HALVES.isdisjoint([value.dtype for value in values]):
        if node.attrs is NO_ATTRIBUTES:
            return form.kernel(scope, *values)
        return form.kernel(scope, *values, **node.attrs)
    wide = [scope.convert(v, "float32") if v.dtype in HALVES else v for v in values]
    result = form.kernel(scope, *wide, **node.attrs)
    if not isinstance(node.type, TupleType):
        return scope.convert(result, node.dtype.name)
    types = node.type.items
    return tuple(scope.convert(v, t.dtype.name) for v, t in zip(result, types, strict=True))


# How deep an expression of positions is followed.
_MOST_ARITHMETIC = 8


def _index_arithmetic(value: Value, depth: int = 0) -> Extent | None:
    """A value as a polynomial of loop variables and extents, if it is made of nothing else."""
    if value.opcode == "index":
        return None if value.args else value.immediate
    if value.opcode == "const":
        return value.immediate
    combine = _ARITHMETIC.get(value.opcode)
    if combine is None or depth == _MOST_ARITHMETIC:
        return None
    parts = [_index_arithmetic(argument, depth + 1) for argument in value.args]
    return None if any(part is None for part in parts) else combine(*parts)


_ARITHMETIC: dict[str, Callable[..., Extent]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
}


class _Indexed:
    """A scope whose `index` knows the draft's data-dependent names: what `Generate` forms receive
    as builder.
    """

    def __init__(self, scope: Scope, draft: Draft) -> None:
        self._scope = scope
        self._draft = draft

    def index(self, extent: Extent) -> Value:
        return self._draft.index(self._scope, extent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scope, name)


def _both(scope: Scope, first: Value | None, second: Value | None) -> Value | None:
    if first is None or second is None:
        return second if first is None else first
    return scope.and_(first, second)
