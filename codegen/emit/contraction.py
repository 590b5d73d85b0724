"""How is a contraction written, with what is computed from its elements?

One statement says what the elements of both operands are and what becomes of the result's; `gemm`
makes loops of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen import loops
from graphc.codegen.emit.writer import Writer
from graphc.codegen.loops import Region, placed_operand, plain_operand, tabled_operand
from graphc.codegen.program import Launch
from graphc.codegen.reader import Draft, Index, Reader, unravel
from graphc.codegen.scalar import Scope, Value
from graphc.dims import Extent, product, substitute
from graphc.node import Node
from graphc.ops.contract import free_axes
from graphc.types import Shape

# How long a line of unknown length is taken to be.
_LONG_LINE = 64
# Lines shorter than this are not worth a loop of their own.
_SHORTEST_LINE = 8
# An argument of a contraction, and its batch, free and contracted axes.
_Factor = tuple[Node, tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class ContractionWriter(Writer):
    """Writes a product of two arrays."""

    def launches(self) -> list[Launch]:
        group = self.group
        node = group.members[0]
        draft = self.draft()
        scope = draft.scope
        x, y = node.args
        axes = [
            (x, *_contract_axes(x, node.attrs["batch"][0], node.attrs["contracted"][0])),
            (y, *_contract_axes(y, node.attrs["batch"][1], node.attrs["contracted"][1])),
        ]
        left, right, shapes = self._operands(draft, axes[0], axes[1])
        turned = _reads_along_depth(right, shapes)
        if turned:  # windows whose lines lie along what is summed: those are read from the left
            left, right, shapes = self._operands(draft, axes[1], axes[0])
        sizes = batches, rows, columns, depth = [product(shape) for shape in shapes]
        epilogue_names = tuple(scope.fresh_variable("c") for _ in range(3))
        body = Scope(scope, epilogue_names)
        statement = loops.Contract(
            batches,
            rows,
            columns,
            depth,
            node.dtype.name,
            left,
            right,
            Region(epilogue_names, body),
        )
        value = Value(body, "result", (), node.dtype.name, statement)
        statement.product = value
        found: list[Index] = []
        for name, shape, size in zip(epilogue_names, shapes[:3], sizes[:3], strict=True):
            variable = draft.bind(name, 0, size)
            found.append(unravel(variable, shape, draft.bounds))
        across, down = (found[2], found[1]) if turned else (found[1], found[2])
        index: Index = (*found[0], *across, *down)
        reader = Reader(self, draft, body)
        reader.note(node, index, value)
        for member in group.members[1:]:
            reader.value(member, index)
        for result, operand in self.results():
            self.store(reader, result, operand, index)
        scope.statements.append(statement)
        tasks = sizes[0] * sizes[1] * sizes[2]
        return [draft.launch(tasks, sizes[3], group.members, self.reason())]

    def _operands(
        self, draft: Draft, first: _Factor, second: _Factor
    ) -> tuple[Region, Region, list[Shape]]:
        """The regions of both operands; the extents along the batch, rows, columns and depth."""
        x, x_batch, x_free, x_summed = first
        y, y_batch, y_free, y_summed = second
        shapes = [
            tuple(node.shape[a] for a in axes)
            for node, axes in ((x, x_batch), (x, x_free), (y, y_free), (x, x_summed))
        ]
        names = [draft.scope.fresh_variable("c") for _ in range(5)]
        left = self._operand(
            draft,
            x,
            (x_batch, x_free, x_summed),
            (shapes[0], shapes[1], shapes[3]),
            names[:3],
            across=1,
        )
        right = self._operand(
            draft,
            y,
            (y_batch, y_summed, y_free),
            (shapes[0], shapes[3], shapes[2]),
            (names[0], names[3], names[4]),
            across=2,
        )
        return left, right, shapes

    def _operand(
        self,
        draft: Draft,
        node: Node,
        axes: Sequence[tuple[int, ...]],
        shapes: Sequence[Shape],
        names: Sequence[str],
        across: int,
    ) -> Region:
        """The region that says what the element of an operand at (b, i, k) or (b, k, j) is.

        Where it must be packed, and the axis along a panel, number `across`, is several axes of
        the node, it has lines too.
        """

        def at(body: Scope, given: Sequence[Index]) -> Value:
            index: dict[int, Extent] = {}
            for group_axes, positions in zip(axes, given, strict=True):
                index.update(zip(group_axes, positions, strict=True))
            reader = Reader(self, draft, body)
            return reader.value(node, tuple(index[axis] for axis in range(node.ndim)))

        body = Scope(draft.scope, tuple(names))
        plain: list[Index] = []
        for name, shape in zip(names, shapes, strict=True):
            variable = draft.bind(name, 0, product(shape))
            plain.append(unravel(variable, shape, draft.bounds))
        region = Region(tuple(names), body, at(body, plain))
        last = _line_axis(shapes[across])
        if last is None or plain_operand(region) is not None:
            return region
        outer, length = shapes[across][:last], shapes[across][last]
        line, place = (draft.scope.fresh_variable("c") for _ in range(2))
        number = draft.bind(line, 0, product(outer))
        rest = (0,) * (len(shapes[across]) - last - 1)
        plain[across] = (
            *unravel(number, outer, draft.bounds),
            draft.bind(place, 0, length),
            *rest,
        )
        along = names[3 - across]
        variables = (names[0], line, place, along)
        inside = Scope(draft.scope, variables)
        region.lines = Region(variables, inside, at(inside, plain))
        region.length = length
        return region


def _contract_axes(
    node: Node, batch: tuple[int, ...], contracted: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return batch, free_axes(node.ndim, batch, contracted), contracted


def _reads_along_depth(right: Region, shapes: Sequence[Shape]) -> bool:
    """Whether lines of a right operand that is read by tables lie along the depth of the product,
    or are longer there than along the columns, of which there are more than rows: each operand may
    be on the right, and that is the one that is packed.
    """
    _, rows, columns, depth = shapes
    tabled = tabled_operand(right)
    in_place = plain_operand(right) is not None or placed_operand(right) is not None
    if tabled is None or in_place:
        return False
    many, few = product(columns), product(rows)
    if not isinstance(many, int) or not isinstance(few, int) or many <= few:
        return False
    _, along, across = right.variables
    _, part_along, part_across = tabled.parts
    return _run(part_along, along, depth) > _run(part_across, across, columns)


def _run(part: Extent, name: str, shape: Shape) -> int:
    """How many elements that follow each other in memory a variable for axes of `shape` passes."""
    if isinstance(part, int) or substitute(part, {name: 1}) - substitute(part, {name: 0}) != 1:
        return 1
    last = next((extent for extent in reversed(shape) if extent != 1), 1)
    return last if isinstance(last, int) else _LONG_LINE


def _line_axis(shape: Shape) -> int | None:
    """The last of several axes, if packing along it in lines pays; None if not."""
    real = [axis for axis, extent in enumerate(shape) if extent != 1]
    if len(real) < 2 or any(extent == 0 for extent in shape):
        return None
    length = shape[real[-1]]
    return None if isinstance(length, int) and length < _SHORTEST_LINE else real[-1]
