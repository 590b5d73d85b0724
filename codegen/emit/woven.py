"""Along which axis do elements come in short turns? Where an index is divided by a small number.

Repeated, interleaved and Kronecker products' arrays are read at `i // k` and `i % k`, which each
lane would have to work out, and fetch its element by itself. Of `k` elements that follow one
another all is plain: lanes go from turn to turn instead, and each of the `k` has its own
instructions. What the lanes then write together are whole turns, see `llvm.rows`. Rows of a few
elements are such turns, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from graphc.codegen.fuse.reading import reads_at, variables
from graphc.dims import Compound, Extent, affine, product
from graphc.lowering import Gather
from graphc.node import Node
from graphc.types import Shape

# Elements of a turn that are written out one after the other; longer ones are loops over lanes.
MOST_WOVEN = 8
# Elements of a row that is a turn itself: wider ones fill a vector.
WIDEST_ROW = 4
# Turns, and elements, of which there must be so many.
LEAST_TURNS, LEAST_ELEMENTS = 64, 1 << 10
# Indices looked at.
_SEARCH = 256


def turns_of(
    nodes: Iterable[Node], domain: Shape, kept: list[int], is_stored: Callable[[Node], bool]
) -> int:
    """How many elements a turn of a domain has, along the last of the axes `kept`; 1 if there are
    none, and the extent of that axis if each of its rows is one.
    """
    total, columns = product(domain), domain[kept[-1]]
    if not isinstance(columns, int) or not isinstance(total, int) or total < LEAST_ELEMENTS:
        return 1
    lane = str(variables(len(domain))[kept[-1]])
    found = _divisors(nodes, domain, lane, is_stored)
    if found is None:
        return 1
    if columns <= WIDEST_ROW:
        return columns if len(kept) > 1 and _is_large(domain[kept[-2]]) else 1
    dividing = {k for k in found if k < columns}
    turn = min(dividing, default=1)
    even = columns % turn == 0 and all(k % turn == 0 for k in dividing)
    return turn if even and _is_large(columns // turn) else 1


def _is_large(extent: Extent) -> bool:
    return isinstance(extent, int) and extent >= LEAST_TURNS


def _divisors(
    nodes: Iterable[Node], domain: Shape, lane: str, is_stored: Callable[[Node], bool]
) -> set[int] | None:
    """The numbers by which an index is divided along an axis; None if some element is looked up."""
    index = variables(len(domain))
    stack: list[tuple[Node, tuple[Extent, ...]]] = [(node, index) for node in nodes]
    seen = set(stack)
    found: set[int] = set()
    while stack:
        node, at = stack.pop()
        if len(seen) > _SEARCH:
            return None
        if is_stored(node):
            for position in at:
                found.update(_divided(position, lane))
            continue
        if isinstance(node.op.lowering, Gather):
            return None
        for pair in reads_at(node, at):
            if pair not in seen:
                seen.add(pair)
                stack.append(pair)
    return found


def _divided(extent: Extent, lane: str) -> Iterator[int]:
    """The numbers by which what steps with a variable is divided."""
    if isinstance(extent, int):
        return
    for atom in (atom for monomial, _ in extent.terms for atom, _ in monomial):
        if not isinstance(atom, Compound):
            continue
        first, *others = atom.arguments
        if atom.operator in ("floordiv", "mod") and isinstance(others[0], int):
            split = None if isinstance(first, int) else affine(first, lane)
            if split is not None and split[0] == 1:
                yield others[0]
        for argument in atom.arguments:
            yield from _divided(argument, lane)
