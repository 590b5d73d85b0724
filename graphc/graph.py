"""What is a Graph?  A closed value: positional parameters and outputs, with nothing captured.

A Graph can be an attribute of a node: `call` and `scan` carry one. Its parameters are known by
position only, so its digest does not depend on anybody's names, and two functions that compute the
same are the same Graph. Building one from a Python function goes through fresh placeholders, which
are then replaced by positional parameters; what the body uses from outside is *lifted*: it becomes
a further parameter, and its node an argument of the op that carries the Graph.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import is_
from typing import Any

from graphc import origin
from graphc.dims import Extent, substitute
from graphc.errors import GraphError
from graphc.lowering import Leaf, Region
from graphc.node import (
    Attributes,
    Node,
    digest,
    digest_in_order,
    digest_of,
    digests_over,
    intern,
    table_digest,
    topological,
)
from graphc.op import Op, no_derivative, register
from graphc.types import TensorType, Type

_serial = itertools.count()


def _leaf(name: str, attributes: tuple[str, ...], why: str = "it is an input") -> Op:
    def infer(**attrs: Any) -> Type:
        return attrs["type"]

    def no_value(**attrs: Any) -> Any:
        raise GraphError(f"{name} {attrs} has no value of its own")

    return register(
        Op(name, infer, no_value, Leaf(), no_derivative(why), attributes=attributes)
    )


symbol_op = _leaf("symbol", ("name", "type", "facts"))
parameter_op = _leaf("parameter", ("index", "type"))
placeholder_op = _leaf("placeholder", ("serial", "type"))


def parameter(index: int, type_: Type) -> Node:
    """The positional parameter of a Graph."""
    return parameter_op(index=index, type=type_)


def placeholder(type_: Type) -> Node:
    """A fresh leaf, equal to no other: stands for a bound variable while a body is traced."""
    return placeholder_op(serial=next(_serial), type=type_)


class Graph:
    """`parameters` (their types) and `outputs` (nodes over `parameter` leaves). Equal by digest."""

    __slots__ = ("__dict__", "__weakref__", "_closed", "parameters")

    def __init__(self, parameters: Sequence[Type], outputs: Sequence[Node]) -> None:
        self.parameters = tuple(parameters)
        self._closed: Closed | None = None
        self.__dict__["outputs"] = tuple(outputs)

    @staticmethod
    def of(closed: Closed) -> Graph:
        """The Graph of what was closed, whose nodes are made when somebody looks at them."""
        graph = Graph([leaf.type for leaf in closed.leaves], ())
        del graph.__dict__["outputs"]
        graph._closed = closed
        return graph

    @cached_property
    def outputs(self) -> tuple[Node, ...]:
        """The results, nodes over the parameters."""
        return self._made()[0]

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """Every node, arguments before users: found once, for every phase of compiling asks."""
        return tuple(topological(self.outputs)) if self._closed is None else self._made()[1]

    def _made(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The outputs and the order of what was closed: both are kept, and what they are made of
        is let go.
        """
        closed, held = self._closed, self.__dict__
        if closed is not None:  # else another thread was here
            made = closed.over_parameters()
            held["outputs"], held["order"] = made
            self._closed = None
        return held["outputs"], held["order"]

    @property
    def alike(self) -> tuple[Node, ...]:
        """Nodes of the types, ops, attributes and origins that those in `order` have, but for the
        leaves: none is made for it.
        """
        closed = self._closed
        return self.order if closed is None else closed.order

    @property
    def unreplaced(self) -> tuple[Sequence[Node], Sequence[Node], Mapping[Node, Node]]:
        """Outputs, their order, and by leaf the parameter that stands for it in `outputs`: none is
        made over these that was not before.
        """
        closed = self._closed
        if closed is None:
            return self.outputs, self.order, {}
        return closed.outputs, closed.order, closed.parameters()

    @property
    def types(self) -> tuple[Type, ...]:
        """The types of the outputs."""
        closed = self._closed
        return tuple([node.type for node in (self if closed is None else closed).outputs])

    def nodes(self) -> list[Node]:
        """Every node, arguments before users."""
        return list(self.order)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that identify what the graph computes."""
        closed = self._closed
        if closed is None:
            digest_in_order(self.order)
            found = [digest(node) for node in self.outputs]
        else:
            found = closed.digests()
        parts = [b"graph", *(repr(type_).encode() for type_ in self.parameters), *found]
        return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()

    @cached_property
    def key(self) -> bytes:
        """16 bytes that identify what the graph computes to caches of this version; found in half
        the time of the digest, which files are compared by.
        """
        outputs, order, leaves = self.unreplaced
        parts = [repr(type_).encode() for type_ in self.parameters]
        parts.append(table_digest(order, outputs, leaves))
        return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.digest == other.digest

    def __repr__(self) -> str:
        head = ", ".join(map(repr, self.parameters))
        return f"<graph ({head}) -> ({', '.join(map(repr, self.types))}) {self.digest.hex()[:8]}>"

    def __call__(self, *args: Node) -> tuple[Node, ...]:
        """The outputs with `args` in place of the parameters: the graph inlined."""
        if len(args) != len(self.parameters):
            raise GraphError(f"the graph takes {len(self.parameters)} arguments, got {len(args)}")
        return self._inline(args)

    def _inline(self, args: Sequence[Node]) -> tuple[Node, ...]:
        mapping = {
            parameter(i, t): a for i, (t, a) in enumerate(zip(self.parameters, args, strict=True))
        }
        return tuple(replace(self.outputs, mapping))

    def __reduce__(self) -> Any:
        from graphc.graphfile import pack, unpack_graph

        return (unpack_graph, (self.parameters, pack(self.outputs)))


@dataclass(frozen=True)
class Closed:
    """What a Graph was closed over: `leaves` that become its parameters, the `outputs` as they were
    written, and what these need in `order`.

    Where a program comes out of the cache its digest is all that is asked for, and that can be
    found without making every node anew.
    """

    leaves: tuple[Node, ...]
    outputs: tuple[Node, ...]
    order: tuple[Node, ...]

    def parameters(self) -> dict[Node, Node]:
        """The parameter that stands for each leaf."""
        return {leaf: parameter(i, leaf.type) for i, leaf in enumerate(self.leaves)}

    def over_parameters(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The outputs and the order with parameters in place of the leaves."""
        made = _replaced(self.order, self.parameters())
        outputs = tuple([made[node] for node in self.outputs])
        return outputs, tuple([made[node] for node in self.order])

    def digests(self) -> list[bytes]:
        """The digests of the outputs with parameters in place of the leaves."""
        known = {leaf: _parameter_digest(i, leaf.type) for i, leaf in enumerate(self.leaves)}
        found = digests_over(self.order, known)
        return [found[node] for node in self.outputs]


def _parameter_digest(index: int, type_: Type) -> bytes:
    """The digest of a positional parameter, which need not exist."""
    return digest_of(parameter_op, Attributes({"index": index, "type": type_}), type_)


def close(
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    inside: Collection[Node] = (),
    repeats: bool = False,
) -> tuple[Graph, tuple[Node, ...]]:
    """The Graph of `outputs` as a function of the leaves `inputs`, and the nodes that it captured.

    Parameters are `inputs` in order, then the captured nodes in order. Captured are the largest
    expressions that do not depend on an input and are not `inside`; constants and values made from
    nothing but attributes stay inside, but for loops if the graph is one that `repeats`.
    """
    order = topological(outputs)
    bound = set(inputs)
    for node in order:
        if not bound.isdisjoint(node.args) or node.args and node in inside:
            bound.add(node)
    inner = _stays_inside(order, bound, repeats)
    inner |= bound
    found: dict[Node, None] = {}
    for node in order:
        if node in bound and not inner.issuperset(node.args):
            found.update(dict.fromkeys(a for a in node.args if a not in inner))
    captured = tuple(found | {node: None for node in outputs if node not in inner})
    # Beneath what is captured nothing is replaced; without it the order stays what it is.
    if not captured and not any(leaf.args for leaf in inputs):
        return Graph.of(Closed(tuple(inputs), tuple(outputs), tuple(order))), ()
    leaves = [*inputs, *captured]
    mapping = {leaf: parameter(i, leaf.type) for i, leaf in enumerate(leaves)}
    replaced = _replaced(topological(outputs, known=mapping), mapping)
    graph = Graph([leaf.type for leaf in leaves], [replaced[node] for node in outputs])
    return graph, captured


def _stays_inside(order: Iterable[Node], bound: set[Node], repeats: bool) -> set[Node]:
    """Unbound nodes that have no leaf but constants beneath them: cheap to repeat, and useful to
    fold. Loops are not cheap in a graph that `repeats`.
    """
    inside: set[Node] = set()
    for node in order:
        if node in bound or not inside.issuperset(node.args):
            continue
        leaf = node.op in (symbol_op, parameter_op, placeholder_op)
        if not leaf and not (repeats and isinstance(node.op.lowering, Region)):
            inside.add(node)
    return inside


def graphs_of(attrs: Mapping[str, Any]) -> list[Graph]:
    """The Graphs that a node carries: attributes, or members of a tuple that is one."""
    values = [v for value in attrs.values() for v in (value if type(value) is tuple else (value,))]
    return [value for value in values if isinstance(value, Graph)]


def trace(function: Callable[..., Any], types: Sequence[Type]) -> tuple[tuple[Node, ...], Any]:
    """Fresh placeholders of `types`, and what `function` makes of them."""
    inputs = tuple(placeholder(type_) for type_ in types)
    return inputs, function(*inputs)


def rebuild(node: Node, args: Sequence[Node]) -> Node:
    """The same op with the same attributes over other arguments, keeping the node's origins."""
    if all(map(is_, node.args, args)):
        return node
    return intern(node.op, tuple(args), node.attrs, like=node)


def replace(outputs: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """`outputs` with every node in `mapping` replaced; what does not depend on one is shared."""
    done = _replaced(topological(outputs, known=mapping), mapping)
    return [done[node] for node in outputs]


def _replaced(order: Iterable[Node], mapping: Mapping[Node, Node]) -> dict[Node, Node]:
    """What becomes of the nodes that are replaced, and of those in an order, arguments first."""
    done: dict[Node, Node] = dict(mapping)
    for node in order:
        if node in done:
            continue
        args = tuple([done[argument] for argument in node.args])
        same = all(map(is_, args, node.args))
        done[node] = node if same else intern(node.op, args, node.attrs, like=node)
    return done


def substitute_dims(outputs: Sequence[Node], sizes: Mapping[str, Extent]) -> list[Node]:
    """`outputs` with named dimensions replaced by extents, in types and attributes alike."""
    done: dict[Node, Node] = {}
    for node in topological(outputs):
        attrs = Attributes(
            {name: substitute_in(value, sizes) for name, value in node.attrs.items()}
        )
        args = tuple(done[argument] for argument in node.args)
        with origin.origins(False):
            made = intern(node.op, args, attrs if attrs else node.attrs)
        made._origins = origin.unite(made._origins, node._origins)
        done[node] = made
    return [done[node] for node in outputs]


def substitute_in(value: Any, sizes: Mapping[str, Extent]) -> Any:
    """An attribute's value with named dimensions replaced."""
    if hasattr(value, "symbols") and hasattr(value, "substitute"):
        return value.substitute(sizes)
    if isinstance(value, tuple):
        return tuple(substitute_in(item, sizes) for item in value)
    if isinstance(value, TensorType):
        return TensorType(value.dtype, tuple(substitute(extent, sizes) for extent in value.shape))
    if isinstance(value, Graph):
        parameters = [substitute_in(type_, sizes) for type_ in value.parameters]
        return Graph(parameters, substitute_dims(value.outputs, sizes))
    return value


__all__ = ["Graph", "close", "graphs_of", "parameter", "placeholder", "rebuild", "replace", "trace"]
