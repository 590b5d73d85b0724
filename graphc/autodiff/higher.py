"""Jacobians, Hessians and Hessian-vector products, made of the two modes.

A dense Jacobian is the derivative in all directions of one side, whichever has fewer: tangents of
the input or cotangents of the output. Where sizes are known and arrays of all directions are not
too large they are computed at once (`columns`), in fewer directions as far as these meet nowhere;
else in a scan over the unit vectors: one derivative body, compiled once, whatever the sizes.
"""

from __future__ import annotations

from typing import Any

from graphc.autodiff.chain import is_real
from graphc.autodiff.columns import all_columns, fits
from graphc.autodiff.forward import jvp
from graphc.autodiff.membership import remembered, require_members
from graphc.autodiff.reverse import grad, real_inputs, vjp
from graphc.errors import GraphError
from graphc.node import Node
from graphc.ops.control import scan
from graphc.ops.creation import iota
from graphc.ops.movement import moveaxis_last, reshape
from graphc.ops.operands import as_node, constant, describe
from graphc.ops.special import where
from graphc.tree import flatten
from graphc.types import TensorType

# A dense Jacobian takes no more memory than this.
_MOST_BYTES = 2**34


def _basis(k: Node, like: Node) -> Node:
    """The k-th unit vector, in the shape and dtype of `like`."""
    size = like.size
    hit = iota((size,)) == k
    one, none = constant(1, like.dtype), constant(0, like.dtype)
    return reshape(where(hit, one, none), like.shape)


def jacobian(
    outputs: Node,
    inputs: Any,
    mode: str = "auto",
    sparse: bool = False,
    *,
    unused: str = "error",
) -> Any:
    """The Jacobian of one real output with respect to a node or a container of nodes.

    The result has the structure of `inputs`; each leaf has shape `outputs.shape + input.shape`.
    `mode` is "reverse", "forward" or "auto": by the smaller side where sizes are known, else
    reverse. Directions that meet nowhere in a part of the graph are one there: an intermediate
    value of which each element depends on few inputs is differentiated as a sparse one.

    With `sparse` each leaf is a `SparseMatrix` of shape (outputs.size, input.size), which a call of
    a Function gives as a `scipy.sparse.csr_array`. Its pattern is read off the graph, and columns,
    or rows, that do not meet are computed together; "auto" is what needs the fewest directions, of
    both kinds if that is it. All extents must be numbers.

    `GraphError` if a dense Jacobian would take more than 16 GiB, and for an input that is not in
    the graph of the output, unless `unused` is "zero".
    """
    if mode not in ("auto", "forward", "reverse"):
        raise GraphError(f'jacobian: mode is "auto", "forward" or "reverse", got {mode!r}')
    output = as_node(outputs)
    if not isinstance(output.type, TensorType) or not is_real(output.type):
        raise GraphError(
            f"jacobian: {output.type} does not vary smoothly; differentiate floats\n"
            + describe([output])
        )
    leaves, structure = flatten(inputs)
    nodes = real_inputs(leaves, "jacobian")
    require_members("jacobian", [output], nodes, range(len(nodes)), structure, unused)
    if sparse:
        from graphc.autodiff.compressed import sparse_jacobian

        found = [sparse_jacobian(output, node, mode) for node in nodes]
        remembered([matrix.values for matrix in found], [output, *nodes])
        return structure.unflatten(found)
    dense = [_jacobian(output, node, mode) for node in nodes]
    return structure.unflatten(remembered(dense, [output, *nodes]))


def _refuse_large(output: Node, wrt: Node) -> None:
    rows, columns = output.size, wrt.size
    if not isinstance(rows, int) or not isinstance(columns, int):
        return
    size = rows * columns * output.dtype.itemsize
    if size > _MOST_BYTES:
        raise GraphError(
            f"a dense Jacobian of {rows} x {columns} elements takes {size / 1e9:.4g} GB\n"
            + describe([output, wrt])
            + "\n"
            "Pass sparse=True if most of them are zero, or use gx.jvp, gx.vjp or gx.hvp, which "
            "need no matrix."
        )


def _jacobian(output: Node, wrt: Node, mode: str) -> Node:
    from graphc.autodiff.compressed import cotangent_of, tangent_of

    rows, columns = output.size, wrt.size
    _refuse_large(output, wrt)
    fewer_columns = isinstance(rows, int) and isinstance(columns, int) and columns < rows
    forward = mode == "forward" or (mode == "auto" and fewer_columns)
    if isinstance(rows, int) and isinstance(columns, int) and rows and columns:
        found = (tangent_of if forward else cotangent_of)(output, wrt)
        if fits(*found):
            every = all_columns(*found)
            stacked = moveaxis_last(every) if forward else every
            return reshape(stacked, (*output.shape, *wrt.shape))
    along, count, derivative = (wrt, columns, jvp) if forward else (output, rows, vjp)

    def one(state: Any, k: Node) -> tuple[Any, Node]:
        return state, derivative(output, wrt, _basis(k, along), unused="zero")

    _, stacked = scan(one, (), iota((count,)))
    stacked = moveaxis_last(stacked) if forward else stacked
    return reshape(stacked, (*output.shape, *wrt.shape))


def hvp(cost: Node, wrt: Any, vector: Any, *, unused: str = "error") -> Any:
    """The Hessian of a rank-0 `cost` times `vector`, which has the structure of `wrt`: forward over
    reverse. `unused` is that of `grad`.
    """
    return jvp(grad(cost, wrt, unused=unused), wrt, vector, unused="zero")


def hessian(cost: Node, wrt: Any, sparse: bool = False, *, unused: str = "error") -> Any:
    """The Hessian of a rank-0 `cost` by a node or a container of nodes.

    For one node it has the shape `wrt.shape + wrt.shape`. For a container each leaf of its
    structure is a container like it again: the derivatives of that part of the gradient by all
    leaves.

    With `sparse` blocks are `SparseMatrix`es, see `jacobian`; those on the diagonal, of shape
    (leaf.size, leaf.size), are computed by a star colouring, which uses the symmetry. `unused` is
    that of `grad`.
    """
    leaves, structure = flatten(wrt)
    slopes, _ = flatten(grad(cost, wrt, unused=unused))
    rows = []
    for i, slope in enumerate(slopes):
        row = [_second(slope, leaf, i == j, sparse) for j, leaf in enumerate(leaves)]
        rows.append(structure.unflatten(row))
    return structure.unflatten(rows)


def _second(slope: Node, leaf: Any, same: bool, sparse: bool) -> Any:
    """A block of a Hessian: the derivative of a part of the gradient, by the `same` leaf or not."""
    from graphc.autodiff.compressed import sparse_hessian

    (node,) = real_inputs([leaf], "hessian")
    if same and sparse:
        return sparse_hessian(slope, node)
    mode = "forward" if same else "auto"
    return jacobian(slope, node, mode, sparse, unused="zero")
