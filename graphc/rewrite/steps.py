"""What of a loop's work is better done for all of its steps at once, or was done by another loop?

After these transformations a scan does in each step what its states need, and little besides:

- what its arguments repeat it repeats itself, where that costs nothing (`repeated_in_scan`);
- what an earlier loop over the same steps computes is kept by it (`kept_by_scan`): reverse mode
  starts from the state before every step, and would do the rest of the step anew;
- a product that needs no state is one product in front of the loop (`product_before_scan`), and so
  are functions of few elements, with which a step alone would leave most lanes empty;
- a product or such a function that no state needs is one behind it, over what the steps give out,
  and a sum of products over the steps is one contraction (`product_behind_scan`): gradients of
  weights;
- another sum over what the steps give out is carried along (`sum_in_scan`).

Products are made for all steps by the rules of `vmap`. Arrays with a row for each step take memory,
so each transformation has a bound on what it may add.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from graphc.batching import push_rows
from graphc.dims import Extent
from graphc.dtypes import accumulator
from graphc.graph import Graph, parameter, parameter_op, placeholder, rebuild, replace
from graphc.lowering import Contract, Elementwise, Generate, Leaf, Reduce, View
from graphc.node import Node, intern, topological, users_of
from graphc.ops.arithmetic import add_op, multiply_op
from graphc.ops.contract import contract_op, free_axes
from graphc.ops.control import scan, scan_op
from graphc.ops.movement import transpose_op
from graphc.ops.operands import broadcast, broadcast_op, cast, constant
from graphc.ops.reduce import sum_op
from graphc.ops.special import project, project_op
from graphc.ops.transcend import tanh
from graphc.rewrite.pattern import Family
from graphc.rewrite.rule import Rule, rule
from graphc.types import TensorType, TupleType

# Rows of a product beyond which a step alone keeps the processor busy.
MANY_ROWS = 512
# Functions of at least this cost, in additions, of at most so many elements.
DEAR_COST, FEW_ELEMENTS = 16, 256
# Bytes of the lanes that a processor fills at once.
VECTOR_BYTES = 64
# Arrays with a row for each step may grow by so many bytes, or to so many times what the loop has.
MOST_STACKED_BYTES = 1 << 28
MOST_GROWTH = 8
# A sum of smaller rows is taken behind the loop: carried along, it would round at every step. But
# not if all these rows come to so much that they would have left the cache by then.
LEAST_CARRIED_BYTES = 1024
MOST_SUMMED_BEHIND_BYTES = 1 << 20
# What an extent that is not known counts as.
SOME_EXTENT = 64

Results = list[Node | None]
Made = Callable[[Rule, Node, Sequence[Node], Mapping[str, Any]], Node]


def _computed_again(f: Node, x: Node, z: Node) -> list[Node]:
    """A loop over the states of another, whose steps begin with the same product."""
    weights = x @ z.T

    def again(total: Node, rows: tuple[Node, Node]) -> tuple[Node, None]:
        return total * 0.5 + tanh(rows[0][:, :3] + rows[1] @ weights) * 2.0, None

    def step(state: Node, row: Node) -> tuple[Node, Node]:
        return tanh(row[:, :3] + state @ weights), state

    zeros = constant(0.0, "float64") * f[0, :, :3]
    last, states = scan(step, zeros, f)
    total, _ = scan(again, zeros, (f, states))
    return [last, total]


_SCAN = Family("scan", lambda op: op is scan_op)
REPEATED = rule(
    "repeated_in_scan",
    _SCAN,
    None,
    law="ieee",
    doc="a scan over what its arguments repeat",
    example=lambda f, u: scan(
        lambda s, row: (s * row + broadcast(u, (3, 4), (1,)), None), f[0], f
    )[0],
)
KEPT = rule(
    "kept_by_scan",
    _SCAN,
    None,
    law="ieee",
    reorders=True,
    doc="a scan that reads what an earlier one over the same steps computes",
    example=_computed_again,
)
BEFORE = rule(
    "product_before_scan",
    _SCAN,
    None,
    law="ieee",
    reorders=True,
    doc="a scan that reads rows of products, or of dear functions, made in front of it",
    example=lambda f, x: scan(lambda s, row: (tanh(s + row @ x.T), None), x @ x.T, f)[0],
)
BEHIND = rule(
    "product_behind_scan",
    _SCAN,
    None,
    law="ieee",
    reorders=True,
    doc="a scan, and a product over what its steps give out",
    example=lambda f, x, z: scan(lambda s, row: (tanh(s + row), s @ z.T), x, f)[1],
)
SUM = rule(
    "sum_in_scan",
    _SCAN,
    None,
    law="ieee",
    reorders=True,
    doc="a scan with a further state, to which each step adds its row",
    example=lambda f, x, u: scan(
        lambda s, row: (s * row, broadcast(s, (16, 3, 4), (1, 2)) * 0.5), x, f
    )[1].sum(axis=0),
)


# -- what is known of a loop -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Loop:
    """A scan, and what the nodes of its body depend on."""

    node: Node

    @property
    def graph(self) -> Graph:
        return self.node.attrs["graph"]

    @property
    def carry(self) -> int:
        return self.node.attrs["carry"]

    @property
    def steps(self) -> int:
        return self.node.attrs["steps"]

    @property
    def length(self) -> Extent:
        return self.node.attrs["length"]

    @cached_property
    def order(self) -> list[Node]:
        return self.graph.nodes()

    @cached_property
    def on_state(self) -> set[Node]:
        return self._above(0, self.carry)

    @cached_property
    def varying(self) -> set[Node]:
        """What is not the same in every step."""
        return self._above(0, self.carry + self.steps)

    @cached_property
    def vectorised(self) -> set[Node]:
        """The nodes that `vmap` makes of ordinary ops over all steps, given those that vary."""
        found: set[Node] = set()
        for node in self.order:
            form = node.op.lowering
            if isinstance(form, Leaf):
                inside = node.op is not project_op
            elif isinstance(form, Elementwise):
                inside = form.demand is None and isinstance(node.type, TensorType)
            else:
                inside = isinstance(form, Reduce) or (
                    isinstance(form, (View, Contract, Generate)) and node.op.batch is not None
                )
            if inside:
                found.add(node)
        return found

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        return users_of(self.order)

    @cached_property
    def needed(self) -> set[Node]:
        """What the states need."""
        return set(topological(self.graph.outputs[: self.carry]))

    def parameter(self, i: int) -> Node:
        return parameter(i, self.graph.parameters[i])

    def _above(self, start: int, end: int) -> set[Node]:
        found: set[Node] = set()
        for node in self.order:
            if node.op is parameter_op:
                if start <= node.attrs["index"] < end:
                    found.add(node)
            elif any(argument in found for argument in node.args):
                found.add(node)
        return found

    def affords(self, nodes: Iterable[Node]) -> bool:
        """Whether an array with a row for each step may be made for each of these nodes."""
        added = sum(map(size_bytes, nodes))
        steps = self.length if isinstance(self.length, int) else SOME_EXTENT
        slices = self.graph.parameters[self.carry : self.carry + self.steps]
        has = sum(map(type_bytes, (*slices, *self.graph.types[self.carry :])))
        return steps > 1 and (added * steps <= MOST_STACKED_BYTES or added <= MOST_GROWTH * has)

    def is_better_together(self, node: Node) -> bool:
        """Whether a node is quicker made for all steps at once than in each of them."""
        if node in self.varying and is_dear_and_small(node) and leaves_lanes_empty(node):
            return True
        return self.multiplies_rows(node)

    def multiplies_rows(self, node: Node) -> bool:
        """Whether a node is a product of few rows with what is the same in every step."""
        if node.op is not contract_op:
            return False
        vary = [argument in self.varying for argument in node.args]
        if vary[0] == vary[1]:
            return False
        side = vary.index(True)
        batch, contracted = node.attrs["batch"][side], node.attrs["contracted"][side]
        x = node.args[side]
        rows = _product(x.shape[axis] for axis in free_axes(x.ndim, batch, contracted))
        return rows < MANY_ROWS

    def over_all_steps(
        self, nodes: Sequence[Node], args: Sequence[Node], rows: Mapping[Node, Node]
    ) -> list[Node]:
        """The nodes of the body for every step; `rows` has arrays for some that vary, and slices
        and invariants are those in `args`.
        """
        first, last = self.carry, self.carry + self.steps
        outside: dict[Node, Node] = {}  # stand-ins, and what they stand for
        inside: dict[Node, Node] = {}
        known: dict[Node, Node] = {}
        given = {self.parameter(i): args[i] for i in range(first, last)} | dict(rows)
        for node, array in given.items():
            inside[node] = placeholder(node.type)
            known[inside[node]] = placeholder(array.type)
            outside[known[inside[node]]] = array
        for i in range(last, len(args)):
            inside[self.parameter(i)] = placeholder(args[i].type)
            outside[inside[self.parameter(i)]] = args[i]
        found = push_rows(replace(nodes, inside), known, self.length)
        assert all(row is not None for row in found), "what is the same in every step has no rows"
        return replace(found, outside)  # type: ignore[arg-type]


def is_dear_and_small(node: Node) -> bool:
    """Whether a node is a function of so few elements that a step of a loop cannot keep the
    processor's lanes full with them.
    """
    form = node.op.lowering
    if not isinstance(form, Elementwise) or form.cost < DEAR_COST:
        return False
    return isinstance(node.type, TensorType) and _product(node.shape) <= FEW_ELEMENTS


def leaves_lanes_empty(node: Node) -> bool:
    """Whether a step uses at most half of the lanes that it takes. Where it fills most of them,
    what needs no state is done while states are waited for, and takes no memory.
    """
    used = _product(node.shape) * node.dtype.itemsize
    return 2 * used <= -(-used // VECTOR_BYTES) * VECTOR_BYTES


def type_bytes(type_: Any) -> int:
    """The bytes of a tensor, with some extent in place of those that are not known."""
    return _product(type_.shape) * type_.dtype.itemsize


def size_bytes(node: Node) -> int:
    """The bytes of a value; none for what is computed from its index."""
    return type_bytes(node.type)


def _product(extents: Iterable[Extent]) -> int:
    total = 1
    for extent in extents:
        total *= extent if isinstance(extent, int) else SOME_EXTENT
    return total


def _topmost(nodes: Collection[Node], loop: _Loop) -> list[Node]:
    """Those of the nodes that others, or the outputs, use."""
    outputs = set(loop.graph.outputs)
    return [
        node
        for node in loop.order
        if node in nodes
        and (node in outputs or any(user not in nodes for user in loop.users.get(node, ())))
    ]


def _with_rows(
    loop: _Loop, made: Made, rule_: Rule, args: Sequence[Node], rows: Mapping[Node, Node]
) -> Node:
    """The scan that reads arrays, row by row, in place of nodes of its body."""
    last, count = loop.carry + loop.steps, len(rows)
    mapping = {node: parameter(last + i, node.type) for i, node in enumerate(rows)}
    types = loop.graph.parameters
    for i in range(last, len(types)):
        mapping[parameter(i, types[i])] = parameter(i + count, types[i])
    parameters = (*types[:last], *(node.type for node in rows), *types[last:])
    body = Graph(parameters, replace(loop.graph.outputs, mapping))
    every = (*args[:last], *rows.values(), *args[last:])
    return made(rule_, loop.node, every, {"graph": body, "steps": loop.steps + count})


def _results(node: Node) -> list[Node]:
    return [project(node, i) for i in range(len(node.type.items))]  # type: ignore[union-attr]


# -- repeated inside -------------------------------------------------------------------------------


def repeat_inside(node: Node, args: Sequence[Node], made: Made) -> Results | None:
    """The results of a scan, some of whose arguments are the same in every step, or repeat along
    some axis.
    """
    loop = _Loop(node)
    first, last = loop.carry, loop.carry + loop.steps
    slices: list[tuple[int, Node]] = []
    fixed: list[tuple[int, Node]] = []
    inside: dict[int, Callable[[Node], Node]] = {}
    for i in range(first, len(args)):
        arg = args[i]
        repeats = arg.op is broadcast_op and type_bytes(arg.args[0].type) < type_bytes(arg.type)
        if i >= last and repeats:
            axes = arg.attrs["axes"]
        elif i < last and repeats and 0 not in arg.attrs["axes"]:
            axes = tuple(axis - 1 for axis in arg.attrs["axes"])
        else:
            (slices if i < last else fixed).append((i, arg))
            continue
        fixed.append((i, arg.args[0]))
        shape = loop.graph.parameters[i].shape  # type: ignore[union-attr]
        inside[i] = partial(broadcast, shape=shape, axes=axes)
    if not inside:
        return None
    every = [*enumerate(args[:first]), *slices, *fixed]
    mapping: dict[Node, Node] = {}
    types = []
    for place, (i, arg) in enumerate(every):
        own = loop.graph.parameters[i] if i not in inside else arg.type
        types.append(own)
        leaf = parameter(place, own)
        mapping[loop.parameter(i)] = inside[i](leaf) if i in inside else leaf
    body = Graph(types, replace(loop.graph.outputs, mapping))
    changed = {"graph": body, "steps": len(slices)}
    return list(_results(made(REPEATED, node, [arg for _, arg in every], changed)))


# -- in front of the loop --------------------------------------------------------------------------


def before(node: Node, args: Sequence[Node], made: Made) -> Results | None:
    """The results of a scan whose state-free products are made in front of it."""
    loop = _Loop(node)
    free: set[Node] = set()  # what can be made before, of slices and invariants
    above: set[Node] = set()  # and holds a product
    products: set[Node] = set()
    for each in loop.order:
        if each in loop.on_state or each not in loop.vectorised:
            continue
        if not all(argument in free for argument in each.args):
            continue
        free.add(each)
        if loop.is_better_together(each):
            products.add(each)
        if each in products or any(argument in above for argument in each.args):
            above.add(each)
    if not above:
        return None
    tops = _topmost(above, loop)
    if sum(map(size_bytes, tops)) > sum(map(size_bytes, products)):
        tops = _topmost(above & set(topological(list(products))), loop)
    if not loop.affords(tops):
        return None
    rows = dict(zip(tops, loop.over_all_steps(tops, args, {}), strict=True))
    return list(_results(_with_rows(loop, made, BEFORE, args, rows)))


# -- behind the loop -------------------------------------------------------------------------------


def behind(node: Node, args: Sequence[Node], summed: Collection[int], made: Made) -> Results | None:
    """The results of a scan, some of them made of what its steps give out.

    `summed` are the results of which nothing but sums over the steps is wanted.
    """
    loop = _Loop(node)
    chosen = set(range(loop.carry, len(loop.graph.outputs)))
    while True:
        sunk = _sunk(loop, chosen, summed)
        refused = {i for i in chosen if not _pays(loop, i, sunk, summed)}
        if not refused:
            break
        chosen -= refused
    if not sunk:
        return None
    leaves = _leaves(loop, loop.graph.outputs, sunk)
    outputs = loop.graph.outputs
    first, last = loop.carry, loop.carry + loop.steps
    slices = {loop.parameter(i) for i in range(first, last)}
    stacked = [output for output in outputs[first:] if output not in sunk]
    stacked += [leaf for leaf in leaves if leaf not in slices]
    stacked = list(dict.fromkeys(stacked))
    body = Graph(loop.graph.parameters, [*outputs[:first], *stacked])
    scan_node = made(BEHIND, node, args, {"graph": body})
    place = {output: project(scan_node, first + i) for i, output in enumerate(stacked)}
    rows = {leaf: place[leaf] for leaf in leaves if leaf not in slices}
    wanted = [output for output in outputs[first:] if output in sunk]
    place |= zip(wanted, loop.over_all_steps(wanted, args, rows), strict=True)
    states = [project(scan_node, i) for i in range(first)]
    return [*states, *(place[output] for output in outputs[first:])]


def _sunk(loop: _Loop, chosen: Collection[int], summed: Collection[int]) -> set[Node]:
    """The nodes beneath the chosen results that are made behind the loop: products, and what is
    made of them.
    """
    outputs = loop.graph.outputs
    roots = {outputs[i] for i in chosen}
    inside: set[Node] = set()  # all that uses them is behind the loop as well
    for each in reversed(loop.order):
        users = loop.users.get(each, ())
        if each in loop.needed or each not in loop.vectorised or each not in loop.varying:
            continue
        if each.op is parameter_op or not (each in roots or users):
            continue
        others = any(outputs[i] is each for i in range(len(outputs)) if i not in chosen)
        if not others and all(user in inside for user in users):
            inside.add(each)
    added = _added(loop, {outputs[i] for i in chosen if i in summed}, inside)
    found: set[Node] = set()
    for each in loop.order:
        if each not in inside or not _is_made_of(each, loop):
            continue
        product = each in added or loop.is_better_together(each)
        if product or any(argument in found for argument in each.args):
            found.add(each)
    return found


def _is_made_of(node: Node, loop: _Loop) -> bool:
    """Whether what a node reads that is the same in every step is at hand outside."""
    return all(
        argument in loop.varying or argument in loop.vectorised and _is_leaf_or_view(argument, loop)
        for argument in node.args
    )


def _is_leaf_or_view(node: Node, loop: _Loop) -> bool:
    return all(each in loop.vectorised for each in topological([node]))


def _added(loop: _Loop, results: Collection[Node], inside: Collection[Node]) -> set[Node]:
    """The contractions that such results, of which the sum is wanted, are sums of, and the outer
    products with what repeats their factors, as a step with a batch of one has them.
    """
    found: set[Node] = set()
    stack, seen = list(results), set(results)
    while stack:
        node = stack.pop()
        if node.op is contract_op and any(argument in loop.varying for argument in node.args):
            found.add(node)
        elif node.op is multiply_op and all(map(inside.__contains__, node.args)):
            if all(size_bytes(x) < size_bytes(node) for x in map(_repeated, node.args)):
                found |= {node, *node.args}
        elif node.op is transpose_op or node.op is add_op:
            stack += [argument for argument in node.args if argument not in seen]
            seen.update(node.args)
    return found


def _repeated(node: Node) -> Node:
    """What a node repeats, or the node."""
    return node.args[0] if node.op is broadcast_op else node


def _leaves(loop: _Loop, outputs: Sequence[Node], sunk: Collection[Node]) -> list[Node]:
    """What varies from step to step and is read behind the loop, by what these outputs need."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = [output for output in outputs if output in sunk]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in sunk:
            stack += [argument for argument in node.args if argument in loop.varying]
        else:
            found[node] = None
    return list(found)


def _pays(loop: _Loop, i: int, sunk: Collection[Node], summed: Collection[int]) -> bool:
    """Whether making a result behind the loop stores little more than the result itself."""
    output = loop.graph.outputs[i]
    if output not in sunk:
        return False
    last = loop.carry + loop.steps
    slices = {loop.parameter(j) for j in range(loop.carry, last)}
    given = slices | {each for each in loop.graph.outputs[loop.carry :] if each not in sunk}
    new = [leaf for leaf in _leaves(loop, [output], sunk) if leaf not in given]
    bound = (2 if i in summed else 4) * size_bytes(output)
    return sum(map(size_bytes, new)) <= bound and loop.affords(new)


# -- kept by an earlier loop -----------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """What one scan is to read that another one computes: nodes of its body, and what they are in
    the body of the other.
    """

    source: Node
    nodes: dict[Node, Node]


def find_kept(node: Node) -> Kept | None:
    """What a scan could read of one whose results it reads already, step by step."""
    first = node.attrs["carry"]
    read = node.args[first : first + node.attrs["steps"]]
    sources = dict.fromkeys(arg.args[0] for arg in read if arg.op is project_op)
    for source in sources:
        if source.op is not scan_op or source.attrs["length"] != node.attrs["length"]:
            continue
        kept = _kept(_Loop(node), _Loop(source))
        if kept:
            return Kept(source, kept)
    return None


def _kept(loop: _Loop, source: _Loop) -> dict[Node, Node]:
    images = _images(loop, source)
    heavy: set[Node] = set()
    for node in loop.order:
        form = node.op.lowering
        cheap = isinstance(form, (Elementwise, View, Generate, Leaf))
        cheap = cheap and not is_dear_and_small(node)
        if node in images and (not cheap or any(argument in heavy for argument in node.args)):
            heavy.add(node)
    outputs = set(loop.graph.outputs)
    used = [
        node
        for node in loop.order
        if node in heavy
        and (node in outputs or any(user not in heavy for user in loop.users.get(node, ())))
    ]
    parts: dict[Node, int] = {}  # what views of an array come to: enough, and it is kept whole
    for node in _cheapest(used, heavy, (), more=1):
        whole = _viewed(node)
        if whole is not node:
            parts[whole] = parts.get(whole, 0) + size_bytes(node)
    wholes = {whole: None for whole, size in parts.items() if size >= size_bytes(whole)}
    kept = {node: images[node] for node in wholes}
    kept |= {node: images[node] for node in _cheapest(used, heavy, wholes)}
    stacked = set(source.graph.outputs[source.carry :])
    new = [node for node, image in kept.items() if image not in stacked]
    return kept if kept and source.affords(new) else {}


def _images(loop: _Loop, source: _Loop) -> dict[Node, Node]:
    """The nodes of a body that another body computes from the same, and what they are there."""
    first, last = source.carry, source.carry + source.steps
    arguments = source.node.args
    sliced = {arguments[i]: source.parameter(i) for i in range(first, last)}
    fixed = {arguments[i]: source.parameter(i) for i in range(last, len(arguments))}
    images: dict[Node, Node] = {}
    for i, argument in enumerate(loop.node.args):
        if i < loop.carry:
            continue
        if i >= loop.carry + loop.steps:
            image = fixed.get(argument)
        elif argument.op is project_op and argument.args[0] is source.node:
            place = argument.attrs["index"]
            image = source.graph.outputs[place] if place >= first else None
        else:
            image = sliced.get(argument)
        if image is not None:
            images[loop.parameter(i)] = image
    there = set(source.order)
    for node in loop.order:
        if node.op is parameter_op or node in images:
            continue
        if all(argument in images for argument in node.args):
            args = tuple(images[argument] for argument in node.args)
            image = intern(node.op, args, node.attrs) if args else node
            # One of several results may be had wherever they are computed, asked for there or not.
            if image in there or not args or node.op is project_op:
                images[node] = image
    return images


def _viewed(node: Node) -> Node:
    """What a view of one argument is a view of, as long as those are."""
    while isinstance(node.op.lowering, View) and len(node.args) == 1:
        node = node.args[0]
    return node


def _cheapest(
    nodes: Iterable[Node], heavy: Collection[Node], given: Collection[Node], more: int = 0
) -> list[Node]:
    """What to keep, besides what is given, so that the nodes can be had without their products:
    each of them, or what it is made of by little work, if that takes fewer bytes, or less than
    `more` further ones.
    """
    found: dict[Node, None] = {}
    chosen: dict[Node, list[Node]] = {}
    for node in topological(list(nodes)):
        if node not in heavy or node in given:
            chosen[node] = []
            continue
        chosen[node] = [node]
        if isinstance(node.type, TupleType):
            continue  # each of its results is chosen by itself
        if isinstance(node.op.lowering, (Elementwise, View)) and not is_dear_and_small(node):
            beneath = list(dict.fromkeys(k for argument in node.args for k in chosen[argument]))
            if sum(map(size_bytes, beneath)) < size_bytes(node) + more:
                chosen[node] = beneath
    for node in nodes:
        found.update(dict.fromkeys(chosen[node]))
    return list(found)


def keep(
    loop: Node, args: Sequence[Node], kept: Kept, wide: Node, places: Mapping[Node, int], made: Made
) -> Results:
    """The results of a scan that reads what `wide` now gives out as well."""
    rows = {node: project(wide, places[image]) for node, image in kept.nodes.items()}
    return list(_results(_with_rows(_Loop(loop), made, KEPT, args, rows)))


# -- carried along ---------------------------------------------------------------------------------


def sums_of_steps(outputs: Sequence[Node]) -> dict[Node, dict[int, list[Node]]]:
    """For each scan the stacked results of which nothing but sums over the steps is wanted, and
    those sums.
    """
    found: dict[Node, dict[int, list[Node]]] = {}
    other: set[Node] = {node for node in outputs if node.op is project_op}
    users: dict[Node, list[Node]] = {}
    for node in topological(outputs):
        for argument in node.args:
            if argument.op is not project_op or argument.args[0].op is not scan_op:
                continue
            if node.op is sum_op and 0 in node.attrs["axes"]:
                users.setdefault(argument, []).append(node)
            else:
                other.add(argument)
    for argument, sums in users.items():
        loop, i = argument.args[0], argument.attrs["index"]
        if argument not in other and i >= loop.attrs["carry"]:
            found.setdefault(loop, {})[i] = sums
    for node in outputs:
        found.pop(node, None)
    return found


def carry_sums(outputs: Sequence[Node], made: Made) -> list[Node]:
    """The outputs with sums over the rows that the steps of a scan give out carried along."""
    wanted = {loop: _worth_carrying(loop, sums) for loop, sums in sums_of_steps(outputs).items()}
    if not any(wanted.values()):
        return list(outputs)
    done: dict[Node, Node] = {}
    places: dict[Node, dict[int, Node]] = {}
    totals: dict[Node, Node] = {}
    for node in topological(outputs):
        if node in totals:
            done[node] = totals[node]
        elif node.op is project_op and node.args[0] in places:
            done[node] = places[node.args[0]].get(node.attrs["index"], node)
        elif wanted.get(node):
            sums = wanted[node]
            args = [done[argument] for argument in node.args]
            places[node], results = _with_sums(node, args, sums, made)
            totals |= zip(sums.values(), results, strict=True)
            done[node] = node
        else:
            done[node] = rebuild(node, [done[argument] for argument in node.args])
    return [done[node] for node in outputs]


def _worth_carrying(loop: Node, sums: Mapping[int, list[Node]]) -> dict[int, Node]:
    """The results that are summed once, if their rows are large or all of them are."""
    types, length = loop.attrs["graph"].types, loop.attrs["length"]
    once = {i: uses[0] for i, uses in sums.items() if len(uses) == 1}
    steps = length if isinstance(length, int) else SOME_EXTENT
    every = steps * sum(type_bytes(types[i]) for i in once) >= MOST_SUMMED_BEHIND_BYTES
    return {
        i: total
        for i, total in once.items()
        if every or type_bytes(types[i]) >= LEAST_CARRIED_BYTES
    }


def _with_sums(
    node: Node, args: Sequence[Node], sums: Mapping[int, Node], made: Made
) -> tuple[dict[int, Node], list[Node]]:
    """A scan that carries sums of some results along: its other results by number, and the sums."""
    graph, carry = node.attrs["graph"], node.attrs["carry"]
    count = len(sums)
    types = [_carried_type(total) for total in sums.values()]
    parameters = (*graph.parameters[:carry], *types, *graph.parameters[carry:])
    mapping = {
        parameter(i, graph.parameters[i]): parameter(i + count, graph.parameters[i])
        for i in range(carry, len(graph.parameters))
    }
    outputs = replace(graph.outputs, mapping)
    further = []
    for place, (i, total) in enumerate(sums.items()):
        axes = tuple(axis - 1 for axis in total.attrs["axes"] if axis)
        row = cast(outputs[i], types[place].dtype)
        term = sum_op(row, axes=axes) if axes else row
        further.append(add_op(parameter(carry + place, types[place]), term))
    kept = [i for i in range(carry, len(outputs)) if i not in sums]
    body = Graph(parameters, [*outputs[:carry], *further, *[outputs[i] for i in kept]])
    zeros = [broadcast(constant(0, t.dtype), t.shape, ()) for t in types]
    every = (*args[:carry], *zeros, *args[carry:])
    scan_node = made(SUM, node, every, {"graph": body, "carry": carry + count})
    places = {i: project(scan_node, i) for i in range(carry)}
    places |= {i: project(scan_node, carry + count + k) for k, i in enumerate(kept)}
    carried = enumerate(sums.values(), carry)
    return places, [cast(project(scan_node, k), total.dtype) for k, total in carried]


def _carried_type(total: Node) -> TensorType:
    """As what a sum is carried from step to step: it is rounded to 16 bits once, at the end."""
    return TensorType(accumulator(total.dtype), total.shape)
