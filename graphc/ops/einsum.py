"""What does a sum over named axes mean, and in which order is it best computed?  einsum.

A call is read as a label for each axis of every operand and of the result. What concerns one
operand alone, diagonals and sums, is done first. Then two operands at a time are multiplied: a
contraction if something is summed, so that the matrix products serve it, else an element-wise
product. Which two is decided by the number of multiplications.
"""

from __future__ import annotations

import string
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.ops.contract import Labels, as_truth, contraction, product_dtype
from graphc.ops.diagonal import diagonal
from graphc.ops.movement import squeeze, transpose
from graphc.ops.operands import as_node, broadcast, cast, describe, restate_op
from graphc.ops.reduce import refuse_out, sum_op
from graphc.tensor import surface

# Of more operands than this the order is chosen greedily: all orders are 3**n steps of work.
MOST_BY_SEARCH = 8
# What an extent that is not known counts as, when orders are compared.
UNKNOWN_EXTENT = 64

Path = list[tuple[int, ...]]
LETTERS = string.ascii_uppercase + string.ascii_lowercase
_DOTS = "..."


@dataclass(frozen=True)
class _Dots:
    """The label of an axis that an ellipsis stands for, counted from the right."""

    place: int


@surface
def einsum(
    *operands: Any,
    out: Any = None,
    dtype: Any = None,
    order: str = "K",
    casting: str = "safe",
    optimize: Any = True,
) -> Node:
    """Sums of products over named axes, as NumPy's: `einsum("ij,jk->ik", x, y)`, or
    `einsum(x, [0, 1], y, [1, 2], [0, 2])`.

    A label that stands twice in one operand takes its diagonal; "..." stands for the axes that are
    left, which broadcast. Without "->" the result has the labels that stand once, sorted, after
    those of "...". `optimize` is the order of the products: True, "optimal" or "greedy" for the
    least number of multiplications (over all orders for up to 8 operands, extents that are not
    known counting as 64; one step after the other beyond that, and for "greedy"), False for left to
    right, or a path as `einsum_path` gives. Terms are computed and summed in `dtype`, by default
    what the operands promote to; `order` and `casting` are NumPy's, and change nothing here.

    >>> import graphc as gx
    >>> x, y = gx.symbol("x", ("n", 3)), gx.symbol("y", (3, 4))
    >>> gx.einsum("ij,jk->ki", x, y).type
    float64[4, n]
    """
    refuse_out("einsum", out)
    del order, casting  # neither memory order nor a cast that is asked for by dtype= can fail
    values, given, wished = _read(operands)
    wanted, truth = product_dtype("einsum", values, dtype)
    nodes = [as_node(value) for value in values]
    if truth:
        nodes = [cast(node, dtypes.BOOL) for node in nodes]
    nodes = [cast(node, wanted) for node in nodes]
    labels, result = _spelled(nodes, given, wished)
    nodes, labels = _agreed(nodes, labels)
    path = _path(nodes, labels, result, optimize)
    return as_truth(_multiplied(nodes, labels, result, path), truth)


@surface
def einsum_path(*operands: Any, optimize: Any = True, einsum_call: bool = False) -> tuple[Any, str]:
    """The order in which `einsum` multiplies, as NumPy writes it, and a text about its costs.

    The path is ["einsum_path", pair, ...]: positions in the list of what is left, to which each
    product is appended.
    """
    del einsum_call
    values, given, wished = _read(operands)
    nodes = [as_node(value) for value in values]
    labels, result = _spelled(nodes, given, wished)
    nodes, labels = _agreed(nodes, labels)
    path = _path(nodes, labels, result, optimize)
    sizes = _sizes(nodes, labels)
    best = _cost_of(path, labels, result, sizes)
    plain = _cost_of(_in_order(len(nodes)), labels, result, sizes)
    text = f"{best} multiplications in this order, {plain} from left to right"
    return ["einsum_path", *path], text


# -- reading a call --------------------------------------------------------------------------------


def _read(operands: Sequence[Any]) -> tuple[list[Any], list[list[Any]], list[Any] | None]:
    """The operands, the labels of each with `_DOTS` for an ellipsis, and those of the result, None
    if they are implied.
    """
    if not operands or len(operands) == 1 and not isinstance(operands[0], str):
        raise GraphError('einsum needs subscripts and operands: einsum("ij,jk->ik", x, y)')
    if not isinstance(operands[0], str):
        return _read_lists(operands)
    text, values = operands[0].replace(" ", ""), list(operands[1:])
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(values):
        raise GraphError(
            f"einsum: {shortened(repr(operands[0]))} is for {len(terms)} operands, got "
            f"{len(values)}"
        )
    result = _letters(output, text) if arrow else None
    return values, [_letters(term, text) for term in terms], result


def _letters(term: str, text: str) -> list[Any]:
    before, dots, after = term.partition(_DOTS)
    unknown = sorted(set(before + after) - set(LETTERS))
    if unknown:
        raise GraphError(
            f"einsum: subscripts are letters and one '...' for each operand, got "
            f"{shortened(repr(unknown[0]))} in {shortened(repr(text))}"
        )
    return [*before, *([_DOTS] if dots else []), *after]


def _read_lists(operands: Sequence[Any]) -> tuple[list[Any], list[list[Any]], list[Any] | None]:
    values, lists = list(operands[0::2]), list(operands[1::2])
    result = _entries(values.pop()) if len(values) > len(lists) else None
    return values, [_entries(given) for given in lists], result


def _entries(given: Any) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        raise GraphError(
            "einsum: each operand is followed by the list of its labels, got "
            f"{shortened(repr(given))}"
        )
    made: list[Any] = []
    for entry in given:
        if entry is Ellipsis:
            made.append(_DOTS)
        elif isinstance(entry, (int, np.integer)) and 0 <= entry < len(LETTERS):
            made.append(LETTERS[int(entry)])
        else:
            raise GraphError(
                f"einsum: labels in a list are integers from 0 to {len(LETTERS) - 1} or Ellipsis, "
                f"got {shortened(repr(entry))}"
            )
    if made.count(_DOTS) > 1:
        raise GraphError("einsum: one Ellipsis for each operand")
    return made


def _spelled(
    nodes: Sequence[Node], given: Sequence[list[Any]], result: list[Any] | None
) -> tuple[list[Labels], Labels]:
    """Labels for every axis, those of ellipses among them, and the labels of the result."""
    labels: list[Labels] = []
    most = 0
    for number, (node, entries) in enumerate(zip(nodes, given, strict=True)):
        dots = node.ndim - len(entries) + 1 if _DOTS in entries else 0
        if dots < 0 or _DOTS not in entries and len(entries) != node.ndim:
            raise GraphError(
                f"einsum: operand {number} of rank {node.ndim} has the subscripts "
                f"{''.join(entries)!r}\n" + describe([node])
            )
        most = max(most, dots)
        labels.append(_filled(entries, dots))
    if result is None:
        all_ = [label for mine in labels for label in mine if isinstance(label, str)]
        result = [_DOTS, *sorted(label for label in set(all_) if all_.count(label) == 1)]
    elif most and _DOTS not in result:
        raise GraphError(
            "einsum: the operands have axes of '...', so the result needs '...', too\n"
            + describe(nodes)
        )
    made = _filled(result, most)
    for label in made:
        known = any(label in mine for mine in labels)
        if not known or made.count(label) > 1:
            what = "several times" if known else "which no operand has"
            raise GraphError(f"einsum: the result has {label!r} {what}\n" + describe(nodes))
    return labels, made


def _filled(entries: list[Any], dots: int) -> Labels:
    """The entries, with a label for each of the axes that an ellipsis stands for."""
    if _DOTS not in entries:
        return tuple(entries)
    at = entries.index(_DOTS)
    return (*entries[:at], *map(_Dots, range(dots - 1, -1, -1)), *entries[at + 1 :])


def _agreed(
    nodes: Sequence[Node], labels: Sequence[Labels]
) -> tuple[list[Node], list[Labels]]:
    """The operands with one extent for each label.

    An axis of extent 1 stretches as in NumPy: an operand whose elements would repeat along a label
    goes without it. Named extents that must agree are checked at entry.
    """
    extents: dict[Hashable, Extent] = {}
    for number, (node, mine) in enumerate(zip(nodes, labels, strict=True)):
        for label, size in zip(mine, node.shape, strict=True):
            found = extents.get(label, 1)
            if found == 1 or isinstance(size, int) and size != 1 and not isinstance(found, int):
                extents[label] = size
            elif isinstance(size, int) and isinstance(found, int) and size not in (1, found):
                raise GraphError(
                    f"einsum: the axis {label!r} has extent {found}, and {size} in operand "
                    f"{number}\n" + describe(nodes)
                )
    made = []
    for node, mine in zip(nodes, labels, strict=True):
        stretched = {a for a, label in enumerate(mine) if node.shape[a] == 1 != extents[label]}
        if any(mine.count(mine[axis]) > 1 for axis in stretched):
            raise GraphError(
                "einsum: a diagonal needs axes of equal extent, 1 does not stretch in it\n"
                + describe([node])
            )
        kept = tuple(label for axis, label in enumerate(mine) if axis not in stretched)
        slim = squeeze(node, tuple(sorted(stretched))) if stretched else node
        shape = tuple(extents[label] for label in kept)
        made.append((slim if slim.shape == shape else restate_op(slim, shape=shape), kept))
    return [node for node, _ in made], [kept for _, kept in made]


# -- the products ----------------------------------------------------------------------------------


def _multiplied(
    nodes: Sequence[Node], labels: Sequence[Labels], result: Labels, path: Path
) -> Node:
    terms = [_diagonals(node, mine) for node, mine in zip(nodes, labels, strict=True)]
    for pair in path:
        chosen = [terms[i] for i in pair]
        terms = [term for i, term in enumerate(terms) if i not in pair]
        made = chosen[0]
        for count, other in enumerate(chosen[1:], 2):
            rest = [mine for _, mine in (*terms, *chosen[count:])]
            last = not rest
            made = _product(made, other, result if last else None, set(result).union(*rest))
        terms.append(made)
    node, mine = _summed(terms[0], set(result))
    return transpose(node, [mine.index(label) for label in result])


def _diagonals(node: Node, labels: Labels) -> tuple[Node, Labels]:
    """An operand with each of its labels once."""
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is None:
        return node, labels
    first, second = [axis for axis, label in enumerate(labels) if label == twice][:2]
    rest = tuple(label for axis, label in enumerate(labels) if axis not in (first, second))
    return _diagonals(diagonal(node, 0, first, second), (*rest, twice))


def _summed(term: tuple[Node, Labels], kept: set[Hashable]) -> tuple[Node, Labels]:
    """A term, summed over the labels that nothing else has."""
    node, labels = term
    axes = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    left = tuple(label for label in labels if label in kept)
    return (sum_op(node, axes=axes), left) if axes else term


def _product(
    x: tuple[Node, Labels], y: tuple[Node, Labels], order: Labels | None, wanted: set[Hashable]
) -> tuple[Node, Labels]:
    """The product of two terms, summed over the labels that are not wanted any more."""
    x, y = _summed(x, wanted.union(y[1])), _summed(y, wanted.union(x[1]))
    nodes, labels = (x[0], y[0]), (x[1], y[1])
    every = tuple(dict.fromkeys((*x[1], *y[1])))
    left = tuple(label for label in every if label in wanted)
    shared = tuple(label for label in left if label in x[1] and label in y[1])
    natural = (*shared, *(label for label in left if label not in shared))
    target = order if order is not None and set(order) == set(left) else natural
    if len(left) < len(every):
        return contraction(nodes, labels, target), target
    shape = tuple(_extent(label, nodes, labels) for label in target)
    factors = [
        _spread(node, mine, target, shape) for node, mine in zip(nodes, labels, strict=True)
    ]
    return factors[0] * factors[1], target


def _extent(label: Hashable, nodes: Iterable[Node], labels: Iterable[Labels]) -> Extent:
    return next(
        node.shape[mine.index(label)]
        for node, mine in zip(nodes, labels, strict=True)
        if label in mine
    )


def _spread(node: Node, mine: Labels, target: Labels, shape: tuple[Extent, ...]) -> Node:
    """A factor with its axes in the target's order, broadcast over those that it has not."""
    order = [label for label in target if label in mine]
    turned = transpose(node, [mine.index(label) for label in order])
    return broadcast(turned, shape, tuple(map(target.index, order)))


# -- the order -------------------------------------------------------------------------------------


def _path(nodes: Sequence[Node], labels: Sequence[Labels], result: Labels, optimize: Any) -> Path:
    sizes = _sizes(nodes, labels)
    if isinstance(optimize, (list, tuple)) and optimize and optimize[0] == "einsum_path":
        return _given(optimize[1:], len(nodes))
    if isinstance(optimize, (list, tuple)) and len(optimize) == 2:
        optimize = optimize[0]  # NumPy's pair with a bound on memory
    if optimize not in (True, False, "optimal", "greedy"):
        raise GraphError(
            "einsum: optimize is True, False, 'optimal', 'greedy' or a path, got "
            f"{shortened(repr(optimize))}"
        )
    if optimize is False or len(nodes) < 3:
        return _in_order(len(nodes))
    sets = [frozenset(mine) for mine in labels]
    if optimize == "greedy" or len(nodes) > MOST_BY_SEARCH:
        return _greedy(sets, frozenset(result), sizes)
    return _optimal(sets, frozenset(result), sizes)


def _in_order(count: int) -> Path:
    """From left to right: the product stands last in the list of what is left."""
    if count < 2:
        return [(0,)] * count
    return [(0, 1), *((0, rest - 1) for rest in range(count - 1, 1, -1))]


def _given(path: Sequence[Any], count: int) -> Path:
    left = count
    for step in path:
        fits = isinstance(step, (tuple, list)) and len(set(step)) == len(step) > 0
        if not fits or any(type(i) is not int or not 0 <= i < left for i in step):
            raise GraphError(
                f"einsum: {shortened(repr(step))} are no positions in a list of {left} operands"
            )
        left -= len(step) - 1
    if left != 1:
        raise GraphError(f"einsum: the path leaves {left} operands, not 1")
    return [tuple(step) for step in path]


def _sizes(nodes: Sequence[Node], labels: Sequence[Labels]) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    for node, mine in zip(nodes, labels, strict=True):
        for label, size in zip(mine, node.shape, strict=True):
            found[label] = size if isinstance(size, int) else UNKNOWN_EXTENT
    return found


def _count(labels: Iterable[Hashable], sizes: dict[Hashable, int]) -> int:
    total = 1
    for label in labels:
        total *= sizes[label]
    return total


def _cost_of(
    path: Path, labels: Sequence[Labels], result: Labels, sizes: dict[Hashable, int]
) -> int:
    """The multiplications of a path."""
    left, cost = [frozenset(mine) for mine in labels], 0
    for step in path:
        chosen = [left[i] for i in step]
        left = [mine for i, mine in enumerate(left) if i not in step]
        made = chosen[0]
        for count, other in enumerate(chosen[1:], 2):
            cost += _count(made | other, sizes)
            made = (made | other) & frozenset(result).union(*left, *chosen[count:])
        left.append(made)
    return cost


def _optimal(
    sets: list[frozenset[Hashable]], result: frozenset[Hashable], sizes: dict[Hashable, int]
) -> Path:
    """The cheapest order of all, by dynamic programming over the sets of operands.

    Costs are multiplications; of equal ones, the order that makes smaller intermediate results.
    """
    everything = (1 << len(sets)) - 1
    members = [[i for i in range(len(sets)) if mask >> i & 1] for mask in range(everything + 1)]
    unions = [frozenset().union(*(sets[i] for i in inside)) for inside in members]
    kept = [
        unions[mask] & (result | unions[everything ^ mask]) for mask in range(everything + 1)
    ]
    best: dict[int, tuple[int, int, int]] = {1 << i: (0, 0, 0) for i in range(len(sets))}
    for mask in sorted(range(1, everything + 1), key=lambda m: len(members[m])):
        if mask in best:
            continue
        lowest_bit = mask & -mask
        part = (mask - 1) & mask
        choices = []
        while part:
            if part & lowest_bit:  # each split once
                other = mask ^ part
                here = _count(kept[part] | kept[other], sizes)
                cost = best[part][0] + best[other][0] + here
                memory = best[part][1] + best[other][1] + _count(kept[mask], sizes)
                choices.append((cost, memory, part))
            part = (part - 1) & mask
        best[mask] = min(choices)
    path: Path = []
    places = [1 << i for i in range(len(sets))]

    def visit(mask: int) -> None:
        if len(members[mask]) == 1:
            return
        part = best[mask][2]
        visit(part)
        visit(mask ^ part)
        pair = tuple(sorted((places.index(part), places.index(mask ^ part))))
        for place in reversed(pair):
            del places[place]
        places.append(mask)
        path.append(pair)

    visit(everything)
    return path


def _greedy(
    sets: list[frozenset[Hashable]], result: frozenset[Hashable], sizes: dict[Hashable, int]
) -> Path:
    """One product after the other, each time that which leaves the least: in elements, beside those
    of the two that it takes away, then in multiplications.
    """
    left = list(sets)
    path: list[tuple[int, ...]] = []
    while len(left) > 1:
        ranked = []
        for i, j in combinations(range(len(left)), 2):
            others = [mine for k, mine in enumerate(left) if k not in (i, j)]
            made = (left[i] | left[j]) & result.union(*others)
            gained = _count(made, sizes) - _count(left[i], sizes) - _count(left[j], sizes)
            ranked.append((gained, _count(left[i] | left[j], sizes), (i, j), made))
        _, _, pair, made = min(ranked, key=lambda entry: entry[:3])
        left = [mine for k, mine in enumerate(left) if k not in pair] + [made]
        path.append(pair)
    return path
