"""Which nodes of a graph are shown, under which names, and how does one read?

Text, DOT, SVG and LaTeX all show the same listing, so what is called n3 in one is n3 in the others.
The nodes that the surface inserted to make shapes and dtypes equal are passed through, but only
where NumPy's rules of broadcasting and promotion would insert them again: what is printed means
what was built. Numbers are written in place, results of a node with several are written `n3.0`,
and the notation of an op comes from its own record.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphc import dtypes, origin
from graphc.graph import Graph, parameter, parameter_op, placeholder_op, symbol_op
from graphc.graphfile import graphs_in
from graphc.lowering import (
    Compose,
    Contract,
    Elementwise,
    Form,
    Gather,
    Generate,
    Leaf,
    Nest,
    Reduce,
    Region,
    Scatter,
    Verify,
    View,
)
from graphc.node import Constant, Node
from graphc.tree import flatten
from graphc.types import TensorType, Type

# -- what there is to show -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """Outputs, with the parameters of a Graph or the paths in a container; a node has neither."""

    outputs: tuple[Node, ...]
    parameters: tuple[Type, ...] | None = None
    paths: tuple[str, ...] | None = None

    @property
    def is_bare(self) -> bool:
        return self.parameters is None and self.paths is None


def subject_of(x: Any) -> Subject:
    """The outputs of a node, a Graph, a compiled Function, or a nested container of nodes.

    Raises `TypeError` for anything else.
    """
    if isinstance(x, Subject):
        return x
    if isinstance(x, Node):
        return Subject((x,))
    graph = x if isinstance(x, Graph) else getattr(x, "graph", None)
    if isinstance(graph, Graph):
        return Subject(graph.outputs, graph.parameters)
    leaves, structure = flatten(x)
    paths = structure.paths()
    for leaf, path in zip(leaves, paths, strict=True):
        if not isinstance(leaf, Node):
            raise TypeError(
                f"expected a node, a Graph, or a container of nodes; got {type(leaf).__name__}"
                + (f" at {path}" if path else "")
            )
    return Subject(tuple(leaves), None, tuple(paths))


def graphs_of(node: Node) -> list[Graph]:
    """The Graphs among the attributes of a node, each once."""
    if not node.attrs:
        return []
    return list(dict.fromkeys(graphs_in(tuple(node.attrs.values()))))


# -- what is passed through ------------------------------------------------------------------------


def is_number(node: Node) -> bool:
    """Whether a node is a constant of rank 0, which is written in place."""
    return node.op.name == "constant" and node.type.ndim == 0  # type: ignore[union-attr]


def is_trailing(node: Node) -> bool:
    """Whether a broadcast is NumPy's: the argument's axes are the last ones of the result."""
    axes = node.attrs["axes"]
    return axes == tuple(range(node.ndim - len(axes), node.ndim))


def shown_arguments(node: Node) -> tuple[Node, ...]:
    """The arguments of `node` without what NumPy's rules would insert again.

    >>> from graphc.ops.operands import symbol
    >>> total = symbol("x", (3,)) + 1.0
    >>> [str(argument.type) for argument in total.args]
    ['float64[3]', 'float64[3]']
    >>> [str(argument.type) for argument in shown_arguments(total)]
    ['float64[3]', 'float64']
    """
    args = node.args
    if not isinstance(node.op.lowering, Elementwise):
        return args
    if not any(argument.op.name in _INSERTED for argument in args):
        return args
    sources = [_source(argument) for argument in args]
    for i, argument in enumerate(args):
        if sources[i] is not argument and not _inserted_again(args, sources):
            sources[i] = argument
    return tuple(sources)


_INSERTED = frozenset(("broadcast", "cast", "restate"))


def _source(node: Node) -> Node:
    """What lies behind stretching to trailing axes, restated extents, and casts that widen."""
    while True:
        name = node.op.name
        if name == "broadcast":
            if not is_trailing(node):
                return node
        elif name == "cast":
            if dtypes.promote(node.args[0].dtype, node.dtype) != node.dtype:
                return node
        elif name != "restate":
            return node
        node = node.args[0]


def _inserted_again(args: Sequence[Node], sources: Sequence[Node]) -> bool:
    """Whether broadcasting and promoting `sources` gives the types of `args` back."""
    shape = args[0].shape
    for axis in range(-len(shape), 0):
        given = [source.shape[axis] for source in sources if -axis <= source.ndim]
        if shape[axis] != 1 and shape[axis] not in given:
            return False
    groups: dict[np.dtype[Any], list[Node]] = {}
    for argument, source in zip(args, sources, strict=True):
        groups.setdefault(argument.dtype, []).append(source)
    return all(_promoted(group) == dtype for dtype, group in groups.items())


def _promoted(sources: Sequence[Node]) -> np.dtype[Any]:
    """The dtype that an operator would compute in; numbers are weak, as when they were written."""
    strong = [source.dtype for source in sources if not is_number(source)]
    weak = [source.dtype.type(0).item() for source in sources if is_number(source)]
    if not strong:
        return functools.reduce(dtypes.promote, map(dtypes.weak_dtype, weak))
    return functools.reduce(
        dtypes.promote_weak, weak, functools.reduce(dtypes.promote, strong)
    )


# -- names -----------------------------------------------------------------------------------------


class Operand(NamedTuple):
    """A piece of text and how tightly it binds."""

    text: str
    binding: int


GraphNames = Mapping[Graph, str]


class Listing:
    """The shown nodes of a subject in order, arguments first, named n0, n1, ...

    With `hide=False` every node is shown, under a name of its own. `names` maps the shown nodes to
    their names, in order.
    """

    def __init__(self, subject: Subject, hide: bool = True) -> None:
        self.subject = subject
        self.hide = hide
        self.names: dict[Node, str] = {}
        self._arguments: dict[Node, tuple[Node, ...]] = {}  # where they are not node.args
        for output in subject.outputs:
            shown = output if subject.is_bare else self._behind(output)
            if subject.is_bare or not self._is_inline(shown):
                self._add(shown)

    def arguments(self, node: Node) -> tuple[Node, ...]:
        """The arguments as they are shown; numbers and projections stand for themselves."""
        return self._arguments.get(node, node.args)

    def sources(self, node: Node) -> Iterator[tuple[int, Node]]:
        """The shown nodes and the parameters that `node` reads, each with its position."""
        for position, argument in enumerate(self.arguments(node)):
            source = self.source(argument)
            if source is not None:
                yield position, source

    def source(self, node: Node) -> Node | None:
        """The shown node or the parameter that a reference leads to; None for a number."""
        behind = self._behind(node)
        return behind if behind in self.names or behind.op is parameter_op else None

    def boxes(self) -> dict[Node, str]:
        """What a drawing shows: the parameters, used or not, then the shown nodes; with names."""
        types = self.subject.parameters or ()
        parameters = [parameter(i, type_) for i, type_ in enumerate(types)]
        for node in self.names:
            parameters += [n for _, n in self.sources(node) if n.op is parameter_op]
        return {node: f"p{node.attrs['index']}" for node in parameters} | self.names

    def reference(self, node: Node) -> Operand:
        """How another node's text refers to this one."""
        name = self.names.get(node)
        if name is not None:
            return Operand(name, ATOM)
        if not node.args:
            return leaf(node)
        # What is neither listed nor a leaf is one result of a node that is listed.
        return Operand(f"{self.reference(node.args[0]).text}.{node.attrs['index']}", POSTFIX)

    def text(self, node: Node, graph_names: GraphNames | None = None) -> str:
        """What stands right of the equals sign: `n1 * 2.0`."""
        operands = [self.reference(argument) for argument in self.arguments(node)]
        return notation(node, operands, graph_names).text

    def _behind(self, node: Node) -> Node:
        while self.hide and node not in self.names and node.op.name == "project":
            node = node.args[0]
        return node

    def _is_inline(self, node: Node) -> bool:
        return node.op is parameter_op or (self.hide and is_number(node))

    def _needs(self, node: Node) -> list[Node]:
        """The nodes that must be named before one, of those that have no name yet."""
        shown = shown_arguments(node) if self.hide else node.args
        if shown is not node.args:
            self._arguments[node] = shown
        behind = map(self._behind, shown)
        return [n for n in behind if n not in self.names and not self._is_inline(n)]

    def _add(self, root: Node) -> None:
        if root in self.names:
            return
        stack = [root]  # nothing but a reference a node, however deep
        while stack:
            node = stack[-1]
            waiting = [] if node in self.names else self._needs(node)
            if waiting:
                stack += reversed(waiting)
                continue
            stack.pop()
            self.names.setdefault(node, f"n{len(self.names)}")


@dataclass(eq=False)
class Outline:
    """The listing of what is shown, and of the Graphs that it carries, however deep.

    Equal Graphs are listed once; they are named g0, g1, ... in the order in which text shows them.
    """

    main: Listing
    names: dict[Graph, str]
    bodies: dict[Graph, Listing]

    def listings(self) -> Iterator[tuple[str, Listing]]:
        """The main listing, under the name "", and those of the bodies."""
        yield "", self.main
        for graph, listing in self.bodies.items():
            yield self.names[graph], listing

    def carriers(self) -> Iterator[tuple[str, str, str]]:
        """A node that carries a Graph: the listing it stands in, its name there, the Graph's."""
        for inside, listing in self.listings():
            for node, name in listing.names.items():
                for graph in graphs_of(node):
                    yield inside, name, self.names[graph]


def outline(x: Any, hide: bool = True) -> Outline:
    """The outline of a node, a Graph, or a container of nodes."""
    main = Listing(subject_of(x), hide)
    found = Outline(main, {}, {})
    open_listings = [iter(main.names)]
    while open_listings:
        node = next(open_listings[-1], None)
        if node is None:
            open_listings.pop()
            continue
        new = [graph for graph in graphs_of(node) if graph not in found.names]
        for graph in new:
            found.names[graph] = f"g{len(found.names)}"
            found.bodies[graph] = Listing(subject_of(graph), hide)
        open_listings += [iter(found.bodies[graph].names) for graph in reversed(new)]
    return found


# -- notation --------------------------------------------------------------------------------------

ATOM, POSTFIX, POWER, UNARY, COMPARISON, LOOSE = 16, 15, 14, 13, 6, 0
_INFIX = {
    "**": POWER, "@": 12, "*": 12, "/": 12, "//": 12, "%": 12, "+": 11, "-": 11, "<<": 10, ">>": 10,
    "&": 9, "^": 8, "|": 7, "==": 6, "!=": 6, "<": 6, "<=": 6, ">": 6, ">=": 6,
}  # fmt: skip


@functools.lru_cache(maxsize=1024)
def binding_of(template: str) -> tuple[int, tuple[int, ...]]:
    """How tightly a template binds, and how tightly its operands must, as in Python.

    >>> binding_of("{} + {}"), binding_of("{} ** {}"), binding_of("tanh({})")
    ((11, (11, 12)), (14, (15, 13)), (16, ()))
    """
    infix = re.fullmatch(r"\{\}(\.T)? (\S+) \{\}(\.T)?", template)
    if infix:
        own = _INFIX.get(infix[2], LOOSE)
        left, right = own + (own == COMPARISON), own + 1
        if own == LOOSE:
            left = right = ATOM
        elif own == POWER:
            left, right = POSTFIX, UNARY
        return own, (POSTFIX if infix[1] else left, POSTFIX if infix[3] else right)
    if re.fullmatch(r"[-+~]\{\}", template):
        return UNARY, (UNARY,)
    if re.fullmatch(r"\{\}\*\*\w+", template):
        return POWER, (POSTFIX,)
    if re.fullmatch(r"\{\}[.\[].*", template):
        return POSTFIX, (POSTFIX,)
    return (ATOM if template.endswith(")") else LOOSE), ()


@functools.lru_cache(maxsize=1024)
def fields_of(template: str) -> tuple[str, ...]:
    """The names of the fields of a format string; "" for an operand."""
    parts = string.Formatter().parse(template)
    return tuple(name for _, name, _, _ in parts if name is not None)


def enclose(operand: Operand, least: int) -> str:
    """The text of an operand, in parentheses if it binds too loosely."""
    return operand.text if operand.binding >= least else f"({operand.text})"


def notation(
    node: Node,
    operands: Sequence[Operand],
    graph_names: GraphNames | None = None,
    typed: bool = True,
) -> Operand:
    """A node over the given operands, in the notation of its op.

    `typed` says that the type of the node will stand beside, so that attributes need not repeat it.
    """
    if not node.args:
        return leaf(node)
    template, said = template_of(node)
    fields = fields_of(template)
    rest = attribute_texts(node, {*fields, *said}, graph_names, typed)
    in_template = {name: value_text(node.attrs[name], graph_names) for name in fields if name}
    if fields.count("") != len(operands):  # a plain name: `call layer`, or an op without notation
        inside = ", ".join([*(operand.text for operand in operands), *rest])
        text = f"{template.format(**in_template)}({inside})"
        return Operand(text, LOOSE if " " in template else ATOM)
    binding, least = binding_of(template)
    least += (LOOSE,) * (len(operands) - len(least))
    if template == "-{}" and operands[0].text[0].isdigit():
        least = (ATOM + 1,)  # -(1.0) is a node over a number, -1.0 a number
    text = template.format(*map(enclose, operands, least), **in_template)
    if not rest:
        return Operand(text, binding)
    if text.endswith(")"):
        return Operand(f"{text[:-1]}, {', '.join(rest)})", binding)
    return Operand(f"{text} [{', '.join(rest)}]", LOOSE)


Template = tuple[str, tuple[str, ...]]


def template_of(node: Node) -> Template:
    """The format string of a node's notation, and the attributes that it says in its own way."""
    return _SPECIAL.get(node.op.name, _own_notation)(node)


def _own_notation(node: Node) -> Template:
    return node.op.text or node.op.name.replace("{", "{{").replace("}", "}}"), ()


def _contract_notation(node: Node) -> Template:
    """`@` where NumPy's matmul is the same product, of transposed matrices too."""
    x, y = node.args
    batch, contracted = node.attrs["batch"], node.attrs["contracted"]
    lead = tuple(range(len(batch[0])))
    if batch != (lead, lead) or len(contracted[0]) != 1:
        return _own_notation(node)[0], () if lead else ("batch",)
    said = ("batch", "contracted")
    (column,), (row,) = contracted
    rows = y.ndim - 1 if y.ndim == 1 else y.ndim - 2
    matrices = x.ndim == y.ndim == len(lead) + 2 if lead else y.ndim <= 2
    if matrices and column == x.ndim - 1 and row == rows:
        return "{} @ {}", said
    if x.ndim == y.ndim == 2 and not lead:
        return f"{{}}{'' if column else '.T'} @ {{}}{'.T' if row else ''}", said
    return _own_notation(node)[0], () if lead else ("batch",)


def _broadcast_notation(node: Node) -> Template:
    return _own_notation(node)[0], ("axes",) if is_trailing(node) else ()


def _stepped_notation(node: Node) -> Template:
    unit = all(step == 1 for step in node.attrs["steps"])
    return _own_notation(node)[0], ("steps",) if unit else ()


def _transpose_notation(node: Node) -> Template:
    if node.attrs["axes"] == tuple(reversed(range(node.ndim))):
        return "{}.T", ("axes",)
    return _own_notation(node)


# Ops whose shortest notation depends on their attributes: a template, and the attributes it says.
_SPECIAL = {
    "broadcast": _broadcast_notation,
    "contract": _contract_notation,
    "pad": _stepped_notation,
    "slice": _stepped_notation,
    "transpose": _transpose_notation,
}


def attribute_texts(
    node: Node, said: set[str], graph_names: GraphNames | None = None, typed: bool = True
) -> list[str]:
    """ "name=value" for the attributes that neither the notation nor the type of the node says."""
    told: dict[str, Any] = {}
    if typed and isinstance(node.type, TensorType):
        shape, dtype = node.type.shape, node.type.dtype
        told = {"shape": shape, "extents": shape, "dtype": dtype, "type": node.type}
    return [
        f"{name}={value_text(value, graph_names)}"
        for name, value in node.attrs.items()
        if name not in said and (name not in told or told[name] != value)
    ]


def value_text(value: Any, graph_names: GraphNames | None = None) -> str:
    """An attribute's value."""
    if isinstance(value, Graph):
        return (graph_names or {}).get(value) or f"graph {value.digest.hex()[:8]}"
    if isinstance(value, tuple):
        inside = ", ".join(value_text(item, graph_names) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, Constant):
        return array_text(value)
    return plain(value) if isinstance(value, str) else str(value)


def plain(text: str) -> str:
    """A name as it is, or quoted if it would break the line or be taken for one of the listing."""
    fits = text.isprintable() and not re.fullmatch(r"[ngp]\d+", text)
    return text if fits else ascii(text)


_FEW = 6


def array_text(value: Constant) -> str:
    """The number, the elements of a short vector, else the start of the digest."""
    array = value.array
    if array.ndim == 0:
        return str(array[()])
    if array.ndim == 1 and 0 < array.size <= _FEW:
        return f"[{', '.join(map(str, array))}]"
    return f"constant {value.digest.hex()[:8]}"


def leaf(node: Node) -> Operand:
    """A node without arguments, by its name, value or attributes."""
    if node.op is symbol_op:
        return Operand(plain(node.attrs["name"]), ATOM)
    if node.op is parameter_op:
        return Operand(f"p{node.attrs['index']}", ATOM)
    if node.op is placeholder_op:
        return Operand("_", ATOM)
    value = node.attrs.get("value")
    if isinstance(value, Constant):
        text = array_text(value)
        return Operand(text, UNARY if text.startswith("-") else LOOSE if " " in text else ATOM)
    fields = fields_of(node.op.text)
    if fields:
        return Operand(node.op.text.format(**{f: value_text(node.attrs[f]) for f in fields}), ATOM)
    return Operand(f"{node.op.name}({', '.join(attribute_texts(node, set()))})", ATOM)


FAMILIES: dict[type[Form], str] = {
    Leaf: "leaf",
    Generate: "leaf",
    Elementwise: "elementwise",
    Verify: "elementwise",
    View: "movement",
    Gather: "movement",
    Scatter: "movement",
    Nest: "reduce",
    Reduce: "reduce",
    Contract: "contract",
    Region: "region",
    Compose: "composed",
}


def family(node: Node) -> str:
    """What kind of work a node does, from its lowering form; "other" for a form not listed."""
    return FAMILIES.get(type(node.op.lowering), "other")


def type_text(node: Node) -> str:
    """The type of a node, and what is assumed of a symbol: `float64[n], nonnegative`."""
    facts = node.attrs["facts"] if node.op is symbol_op else ()
    return ", ".join([_type_text(node.type), *facts])


_type_text = functools.lru_cache(maxsize=1024)(repr)


# -- origins ---------------------------------------------------------------------------------------


def origins_of(node: Node) -> origin.Events:
    """The events of a node; none for a parameter, which all Graphs of the process share."""
    return () if node.op is parameter_op else node.origin


def origin_text(events: origin.Events) -> str:
    """Where a node comes from: `model.py:14; vjp of tanh, model.py:12`.

    Of a file only the last part of its path is said: whole paths are long, and differ between
    machines.
    """
    return "; ".join(dict.fromkeys(_event_text(event, whole_path=False) for event in events))


def whole_origins(events: origin.Events) -> str:
    """The same with whole paths, an event on each line."""
    return "\n".join(dict.fromkeys(_event_text(event, whole_path=True) for event in events))


def _event_text(event: origin.Event, whole_path: bool) -> str:
    where = plain(origin.location((event,)))
    if not whole_path:
        where = re.split(r"[/\\]", where)[-1]
    if event.kind == "frame":
        return where
    said = f"rule {event.subject}" if event.kind == "rule" else f"{event.kind} of {event.subject}"
    return f"{said}, {where}" if where else said


def is_derivative(events: origin.Events) -> bool:
    """Whether a node with these events was built by differentiation."""
    return bool(events) and events[0].kind in ("vjp", "jvp")
