"""How are derivatives taken forwards? Forward mode: tangents pushed along the graph in its own
order.
"""

from __future__ import annotations

from typing import Any

from graphc.autodiff.beneath import beneath
from graphc.autodiff.membership import remembered, require_members
from graphc.autodiff.regions import TRANSFORM
from graphc.autodiff.reverse import filled, real_inputs, seed_like
from graphc.autodiff.sweep import push_forward
from graphc.errors import GraphError
from graphc.ops.operands import as_node
from graphc.tree import flatten


def jvp(outputs: Any, inputs: Any, tangents: Any, *, unused: str = "error") -> Any:
    """Tangents of `outputs`, given those of `inputs`: Jacobian-vector products as graphs.

    All three are nodes or nested containers; tangents have the structure, shapes and dtypes of the
    inputs; the result has the structure of `outputs`. Raises `GraphError` for an op without a
    derivative on the way, and for an input that is in the graph of no output, unless `unused` is
    "zero".
    """
    out_leaves, out_structure = flatten(outputs)
    in_leaves, in_structure = flatten(inputs)
    given, given_structure = flatten(tangents)
    if given_structure != in_structure:
        raise GraphError(f"jvp: tangents have structure {given_structure}, inputs {in_structure}")
    in_nodes = real_inputs(in_leaves, "jvp")
    out_nodes = [as_node(leaf) for leaf in out_leaves]
    seeds = [seed_like(node, value, "tangent") for node, value in zip(in_nodes, given, strict=True)]
    below = beneath(out_nodes)
    suspects = [i for i, node in enumerate(in_nodes) if id(node) not in below.members]
    require_members("jvp", out_nodes, in_nodes, suspects, in_structure, unused)
    answer = push_forward(out_nodes, in_nodes, seeds, TRANSFORM, below)
    of = [*out_nodes, *in_nodes, *seeds]
    return out_structure.unflatten(remembered(filled(out_nodes, answer), of, below))
