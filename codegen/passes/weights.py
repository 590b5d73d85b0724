"""Which matrices does a loop multiply by in every step, and how should they lie?

A product reads its right operand row by row, packs one whose rows lie across, and on machines with
narrow vectors mostly packs it anyway, panel by panel. Of a matrix that is the same in every step
that is done once, in front of the loop: as a transposed copy, or as the very panels that products
read, which they find where they lie (`loops.panelled_operand`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.gemm.microkernel import STREAM_ROWS
from graphc.dims import product
from graphc.graph import Graph, parameter, parameter_op, rebuild
from graphc.lowering import Contract
from graphc.node import Node, topological
from graphc.ops.contract import contract_op, free_axes
from graphc.ops.movement import reshape, transpose
from graphc.types import TensorType

# Of fewer steps the copy costs what it saves, and so small a matrix is packed for nothing.
LEAST_STEPS = 4
LEAST_ELEMENTS = 1024
# Shorter products, or by matrices that are read from near, are quicker written whole, or as calls
# of kernels without a plan, which read matrices as they lie: by 1.4 of 40 us with 32 rows, where
# the matrix has 64 KiB. With 8 rows panels take 0.92 of the time of 256 KiB, 0.80 of 4 MiB (Zen 3).
LEAST_WORK, LEAST_BYTES = 2**18, 2**17


@dataclass(frozen=True)
class Layout:
    """How a matrix is to lie: transposed if it is read across, and in panels of so many columns,
    one after the other, or, with `width` 0, row by row.
    """

    transposed: bool
    width: int

    def of(self, matrix: Node) -> Node:
        """The copy in front of the loop: an array (panels, rows, width), or a matrix."""
        turned = transpose(matrix, (1, 0)) if self.transposed else matrix
        if not self.width:
            return turned
        rows, columns = turned.shape
        parts = reshape(turned, (rows, columns // self.width, self.width))
        return transpose(parts, (1, 0, 2))

    def type(self, given: TensorType) -> TensorType:
        """The type of that copy."""
        rows, columns = given.shape[::-1] if self.transposed else given.shape
        shape = (columns // self.width, rows, self.width) if self.width else (rows, columns)
        return TensorType(given.dtype, shape)

    def matrix(self, copy: Node) -> Node:
        """The right operand of a product, read from the copy."""
        if not self.width:
            return copy
        panels, rows, width = copy.shape
        return reshape(transpose(copy, (1, 0, 2)), (rows, panels * width))


def laid_out(graph: Graph, first: int, panel_bytes: int) -> tuple[Graph, list[tuple[int, Layout]]]:
    """The graph with products by copies of matrices, and the parameters of which those are.

    Matrices are parameters from number `first` on; each copy is a further parameter. A row of a
    panel has `panel_bytes`, 0 where products read no panels.
    """
    places: dict[tuple[int, Layout], Node] = {}
    types = list(graph.parameters)
    done: dict[Node, Node] = {}
    for node in topological(graph.outputs):
        args = [done[argument] for argument in node.args]
        layout = _layout(node, first, panel_bytes)
        if layout is None:
            done[node] = rebuild(node, args)
            continue
        key = (node.args[1].attrs["index"], layout)
        if key not in places:
            type_ = types[key[0]]
            assert isinstance(type_, TensorType)
            types.append(layout.type(type_))
            places[key] = parameter(len(types) - 1, types[-1])
        contracted = (node.attrs["contracted"][0], (0,))
        matrix = layout.matrix(places[key])
        done[node] = contract_op(args[0], matrix, batch=node.attrs["batch"], contracted=contracted)
    if not places:
        return graph, []
    return Graph(types, [done[output] for output in graph.outputs]), list(places)


def _layout(node: Node, first: int, panel_bytes: int) -> Layout | None:
    """How the right operand of a product should lie; None if as it does, or if it is none of the
    matrices.
    """
    if not isinstance(node.op.lowering, Contract):
        return None
    matrix, (batch, _) = node.args[1], node.attrs["batch"]
    if matrix.op is not parameter_op or matrix.attrs["index"] < first or batch:
        return None
    size = product(matrix.shape)
    large = not isinstance(size, int) or size >= LEAST_ELEMENTS
    if matrix.ndim != 2 or len(node.attrs["contracted"][1]) != 1 or not large:
        return None
    across = node.attrs["contracted"][1] == (1,)
    width = _width(node, panel_bytes)
    return Layout(across, width) if across or width else None


def _width(node: Node, panel_bytes: int) -> int:
    """Of the panels that a product reads; 0 if it would not pack its right operand."""
    left, matrix = node.args
    if node.dtype.name not in ("float32", "float64") or not panel_bytes:
        return 0
    (contracted,) = node.attrs["contracted"][1]
    depth, columns = matrix.shape[contracted], matrix.shape[1 - contracted]
    free = free_axes(left.ndim, (), node.attrs["contracted"][0])
    rows = product(left.shape[axis] for axis in free)
    known = isinstance(rows, int) and isinstance(depth, int) and isinstance(columns, int)
    if not known or rows <= STREAM_ROWS[0] or rows * depth * columns < LEAST_WORK:
        return 0
    if depth * columns * node.dtype.itemsize < LEAST_BYTES:
        return 0
    width = panel_bytes // node.dtype.itemsize
    return width if columns % width == 0 and columns > width else 0
