"""How do contractions take in what they multiply?  Transposes, repeated elements, constants.

A contraction is worked on in the notation of einsum: a label for each axis of the arguments, and
the labels of the result. Labels of both arguments are batch axes if the result has them, else
contracted. So a transpose beneath or above is a matter of renaming, and `x.T @ y` costs nothing
more than `x @ y`.
"""

from __future__ import annotations

from graphc.dims import product
from graphc.dtypes import is_float
from graphc.node import Node
from graphc.ops.contract import contract_op, contraction, labels_of
from graphc.ops.movement import inverse, reshape, transpose, transpose_op
from graphc.ops.operands import broadcast, broadcast_op
from graphc.ops.reduce import sum_op
from graphc.rewrite.movement import narrowed
from graphc.rewrite.pattern import Family, at_type, functions, named, numbers, variables
from graphc.rewrite.rule import rule

x, y = variables("x y")
(c,) = numbers("c")
transposed, contract, summed = functions("transpose contract sum")

# Elements of a factor of an outer product from which on adding up such is a matter for tiles.
LEAST_OUTER = 8

def _contract_sources(node: Node) -> Node | None:
    """The contraction over what its arguments transpose, unless its result had to be transposed
    then: an argument is put into order while it is packed, at no cost.
    """
    for sides in ((0, 1), (0,), (1,)):
        args, (labels, result) = list(node.args), labels_of(node)
        turned = [side for side in sides if args[side].op is transpose_op]
        for side in turned:
            labels[side] = tuple(labels[side][a] for a in inverse(args[side].attrs["axes"]))
            args[side] = args[side].args[0]
        made = contraction(args, labels, result) if turned else node
        if turned and made.op is contract_op:
            return made
    return None


def _contract_exchanged(inner: Node, node: Node) -> Node | None:
    """The transpose of a product is the product the other way round, of arguments with their free
    axes in another order.
    """
    labels, result = labels_of(inner)
    wanted = tuple(result[a] for a in node.attrs["axes"])
    made = contraction(inner.args, labels, wanted)
    if made.op is contract_op:
        return made
    args = list(inner.args)
    for side, mine in enumerate(labels):
        other = labels[1 - side]
        free = iter([label for label in wanted if label in mine and label not in other])
        order = tuple(label if label in other else next(free) for label in mine)
        args[side] = transpose(args[side], [mine.index(label) for label in order])
        labels[side] = order
    made = contraction(args, labels, wanted)
    return made if made.op is contract_op else None


def _contract_once(node: Node) -> Node | None:
    """An argument that repeats along free or batch axes is taken once along those.

    Without a free axis there is less to compute. Without a batch axis there is one product instead
    of many, which is worth having if the axes then come out in order.
    """
    (labels, result), args = labels_of(node), list(node.args)
    summed = {label for label in labels[0] if label in labels[1] and label not in result}
    for side, arg in enumerate(node.args):
        if arg.op is broadcast_op:
            source = arg.args[0]
            sizes = dict(zip(arg.attrs["axes"], source.shape, strict=True))
            kept = tuple(
                a for a, label in enumerate(labels[side]) if label in summed or sizes.get(a, 1) != 1
            )
            args[side] = narrowed(source, arg, tuple(arg.shape[a] for a in kept), kept)
            labels[side] = tuple(labels[side][a] for a in kept)
    if not all(labels) or all(
        new.type is old.type for new, old in zip(args, node.args, strict=True)
    ):
        return None
    left = tuple(label for label in result if label in labels[0] or label in labels[1])
    made = contraction(args, labels, left)
    if left == result and made.op is transpose_op:
        return None
    return broadcast(made, node.shape, tuple(map(result.index, left)))


def _outer(node: Node) -> Node | None:
    """An element-wise product, where every contracted axis, if there is one, has extent 1."""
    labels, result = labels_of(node)
    gone = [label for label in labels[0] if label in labels[1] and label not in result]
    if any(node.args[0].shape[labels[0].index(label)] != 1 for label in gone):
        return None
    factors = []
    for arg, mine in zip(node.args, labels, strict=True):
        kept = [label for label in mine if label in result]
        slim = reshape(arg, tuple(arg.shape[mine.index(label)] for label in kept))
        order = [label for label in result if label in kept]
        turned = transpose(slim, [kept.index(label) for label in order])
        factors.append(broadcast(turned, node.shape, tuple(map(result.index, order))))
    return factors[0] * factors[1]


def _contract_number(node: Node, side: int, c: float) -> Node:
    """A product with a constant c everywhere is c times a sum."""
    labels, result = labels_of(node)
    other, mine = node.args[1 - side], labels[1 - side]
    axes = tuple(a for a, label in enumerate(mine) if label not in result)
    total = sum_op(other, axes=axes) if axes else other
    left = tuple(label for label in mine if label in result)
    order = tuple(label for label in result if label in mine)
    total = transpose(total, [left.index(label) for label in order]) * c
    return broadcast(total, node.shape, tuple(map(result.index, order)))


def _sum_of_products(node: Node) -> Node | None:
    """A sum over batch axes of a contraction has more terms of the same kind."""
    inner, axes = node.args[0], node.attrs["axes"]
    labels, result = labels_of(inner)
    batch = len(inner.attrs["batch"][0])
    if not all(axis < batch for axis in axes):
        return None
    left = tuple(label for axis, label in enumerate(result) if axis not in axes)
    return contraction(inner.args, labels, left)


def _sum_of_outer(x: Node, y: Node, node: Node) -> Node | None:
    """A sum of outer products is a contraction: of two matrices, or of more axes."""
    axes = node.attrs["axes"]
    if not is_float(node.dtype) or node.dtype.itemsize < 4:  # 16 bits: products are rounded
        return None
    labels = [_varying(factor) for factor in (x, y)]
    kept = [[axis for axis in mine if axis not in axes] for mine in labels]
    every = sorted(kept[0] + kept[1]) == [a for a in range(x.ndim) if a not in axes]
    if not every or not all(set(axes) <= set(mine) for mine in labels):
        return None
    for left in kept:
        size = product(x.shape[axis] for axis in left)
        if isinstance(size, int) and size < LEAST_OUTER:
            return None
    sources = []
    for factor, mine in zip((x, y), labels, strict=True):
        source = factor.args[0]
        sources.append(reshape(source, tuple(factor.shape[axis] for axis in mine)))
    return contraction(sources, labels, tuple(a for a in range(x.ndim) if a not in axes))


def _varying(factor: Node) -> tuple[int, ...]:
    """The axes along which a factor does not repeat, none if it does along none."""
    if factor.op is not broadcast_op:
        return ()
    sizes = zip(factor.attrs["axes"], factor.args[0].shape, strict=True)
    return tuple(axis for axis, extent in sizes if extent != 1 or factor.shape[axis] == 1)


def _sum_of_both(x: Node, y: Node, node: Node) -> Node | None:
    """A sum of two contractions is one of each, if both have more terms then."""
    for part in (x, y):
        beneath = part.args[0] if part.op is transpose_op else part
        if beneath.op is not contract_op:
            return None
        turned = part.attrs["axes"] if part.op is transpose_op else tuple(range(part.ndim))
        batch = len(beneath.attrs["batch"][0])
        if not all(turned[axis] < batch for axis in node.attrs["axes"]):
            return None
    return sum_op(x, axes=node.attrs["axes"]) + sum_op(y, axes=node.attrs["axes"])


rule(
    "sum_contract",
    summed(contract(x, y)),
    _sum_of_products,
    law="ieee",
    reorders=True,
    doc="contract over more axes",
    example=lambda f, g: summed(f @ g.transpose(0, 2, 1), axis=0),
)
rule(
    "sum_outer",
    summed(x * y),
    _sum_of_outer,
    law="ieee",
    reorders=True,
    doc="a contraction, where nothing but what is summed varies in both factors",
    example=lambda f, g: summed(
        broadcast(f, (2, 3, 4, 3, 4), (0, 1, 2)) * broadcast(g, (2, 3, 4, 3, 4), (0, 3, 4)), axis=0
    ),
)
rule(
    "sum_contracts",
    summed(x + y),
    _sum_of_both,
    law="ieee",
    reorders=True,
    doc="sum(x) + sum(y), where both are contractions over more axes then",
    example=lambda f, g: summed(f @ g.transpose(0, 2, 1) + g @ f.transpose(0, 2, 1), axis=0),
)
rule(
    "contract_transpose",
    Family("contract", lambda op: op is contract_op),
    _contract_sources,
    law="ieee",
    reorders=True,
    doc="contract over other axes",
    guard=lambda node: any(arg.op is transpose_op for arg in node.args),
    example=lambda x, y: x.T @ y,
)
rule(
    "transpose_contract",
    transposed(named("inner", contract(x, y))),
    _contract_exchanged,
    law="ieee",
    reorders=True,
    doc="contract with the arguments exchanged",
    example=lambda x, y: (x @ y.T).T,
)
rule(
    "contract_outer",
    Family("contract", lambda op: op is contract_op),
    _outer,
    law="ieee",
    reorders=True,
    doc="broadcast(x) * broadcast(y), where nothing is summed",
    example=lambda u, v: reshape(u, (4, 1)) @ reshape(v, (1, 4)),
)
rule(
    "contract_ones_right",
    contract(x, 1),
    lambda node: _contract_number(node, 1, 1),
    law="ieee",
    reorders=True,
    doc="sum(x)",
    example=lambda x: x @ at_type(1, x.T.type),
)
rule(
    "contract_ones_left",
    contract(1, x),
    lambda node: _contract_number(node, 0, 1),
    law="ieee",
    reorders=True,
    doc="sum(x)",
    example=lambda x: at_type(1, x.T.type) @ x,
)
rule(
    "contract_number_right",
    contract(x, c),
    lambda node, c: _contract_number(node, 1, c),
    law="real",
    doc="sum(x) * c",
    example=lambda x: x @ at_type(3, x.T.type),
)
rule(
    "contract_number_left",
    contract(c, x),
    lambda node, c: _contract_number(node, 0, c),
    law="real",
    doc="sum(x) * c",
    example=lambda x: at_type(3, x.T.type) @ x,
)
rule(
    "contract_broadcast",
    Family("contract", lambda op: op is contract_op),
    _contract_once,
    law="ieee",
    reorders=True,
    doc="broadcast(contract(...)), over what an argument repeats",
    guard=lambda node: any(arg.op is broadcast_op for arg in node.args),
    example=lambda f, x: f @ broadcast(x.T, (2, 4, 3), (1, 2)),
)
