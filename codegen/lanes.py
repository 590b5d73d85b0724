"""How many lanes does a vector loop take at once?

The order in which sums are added up depends on it, so every printer that keeps that order asks
here.
"""

from __future__ import annotations

from typing import Any

from graphc.codegen.loops import most_steps
from graphc.codegen.scalar import BITS, FLOATS, Accumulate, For, Store, Value, walk

# A vector loop whose body has at most this many instructions is run several vectors at a time:
# mathematical procedures are long chains of instructions, and other vectors fill the gaps.
UNROLL_BELOW = 160
UNROLL = 4
# One that calls routines may be longer: what its own instructions need is put aside by each call.
CALLING_BELOW = 256
# Routines of more instructions need every register for one vector.
LONG_ROUTINE = 250
MAX_LANES = 64
# Vectors that may be under way where each adds to sums of its own in a loop inside: long runs of
# memory are read at once, and the sums fit into half of the registers.
SUMS_UNDER_WAY = 16
# Of more sums than fit with that many vectors so many are under way, where there are 32 registers:
# what all of them take as a factor is loaded ahead, too. Elsewhere half as many, but two vectors of
# products, which printers may add up in parts: what is loaded for all lanes serves both.
MOST_SUMS = 12
# Vectors of sums that a loop carries itself, where there are 16 registers: half of these.
MOST_CARRIED = 8
# A loop of products has so many instructions for each sum: two loads, and a little for all of them.
PRODUCT_WORK = 3
# What computes more than that in each lane waits for its own results, and needs the registers.
SUMMING_BELOW = 40


def choose_lanes(loop: For, vector_bytes: int) -> int:
    """The lanes of a loop, a power of two: from the widest dtype in it, its length, its weight."""
    statements, dtypes = _computed(loop)
    width = _width(dtypes, vector_bytes)
    most = MAX_LANES
    vectors = _vectors(statements, len(dtypes))
    sums = _sums_inside(loop)
    if sums > SUMS_UNDER_WAY // UNROLL and not loop.accumulators:
        registers = MOST_SUMS if vector_bytes >= 64 else MOST_SUMS // 2
        fewest = 2 if vector_bytes < 64 and _adds_products(loop) else 1
        while vectors > fewest and vectors * sums > registers:
            vectors //= 2
    if vector_bytes < 64 and len(loop.accumulators) > MOST_CARRIED // UNROLL:
        while vectors > 1 and vectors * len(loop.accumulators) > MOST_CARRIED:
            vectors //= 2
    lanes = min(width * vectors, most)
    # What is left of a row of a triangle is soon short: more vectors would be mask for the most.
    shrinks = isinstance(loop.stop, int) and not isinstance(loop.start, int)
    if vectors == UNROLL and sums and not shrinks and len(dtypes) <= SUMMING_BELOW:
        under_way = 1 << (max(UNROLL, SUMS_UNDER_WAY // sums).bit_length() - 1)
        lanes = most = max(lanes, width * under_way)
    static = isinstance(loop.start, int) and isinstance(loop.stop, int)
    # Sums keep their lanes, on which their order depends, wherever their terms lie.
    steps = most_steps(loop.start, loop.stop) if static or not loop.accumulators else None
    if steps is not None:
        length = max(1, steps)
        while lanes // 2 >= length and lanes > 2:
            lanes //= 2
        if lanes < length <= 2 * lanes and lanes < width * UNROLL and lanes * 2 <= most:
            lanes *= 2  # one masked pass instead of a pass and a remainder
    return lanes


def lanes_of_one_vector(loop: For, vector_bytes: int) -> int:
    """The lanes of the widest values of a loop in one vector of the machine."""
    return _width(_computed(loop)[1], vector_bytes)


def _computed(loop: For) -> tuple[list[Any], list[str]]:
    """The statements of a loop, and the dtypes in which it computes and stores."""
    statements = list(walk(loop.body))
    dtypes = [v.dtype for v in statements if isinstance(v, Value)]
    dtypes += [s.value.dtype for s in statements if isinstance(s, (Store, Accumulate))]
    return statements, dtypes


def _width(dtypes: list[str], vector_bytes: int) -> int:
    floats = [max(32, BITS[d]) for d in dtypes if d in FLOATS]  # they compute in float32
    others = [BITS[d] for d in dtypes if d not in FLOATS and d != "bool"]
    bits = max(floats) if floats else max(others, default=8)
    return max(2, vector_bytes * 8 // bits)


def _vectors(statements: list[Any], weight: int) -> int:
    """How many vectors of the machine a loop takes at once."""
    called = [s.immediate for s in statements if isinstance(s, Value) and s.opcode == "call"]
    if any(len(routine.body.statements) > LONG_ROUTINE for routine in called):
        return 1
    return UNROLL if weight <= (CALLING_BELOW if called else UNROLL_BELOW) else 1


def _sums_inside(loop: For) -> int:
    """How many accumulators the innermost loops in a loop carry."""
    return max((len(i.accumulators) for i in _innermost(loop)), default=0)


def _adds_products(loop: For) -> bool:
    """Whether the innermost loops do little but to add products up."""
    return all(
        len(each.body.statements) <= PRODUCT_WORK * len(each.accumulators)
        for each in _innermost(loop)
        if each.accumulators
    )


def _innermost(loop: For) -> list[For]:
    inner = [s for s in walk(loop.body) if isinstance(s, For)]
    return [i for i in inner if not any(isinstance(s, For) for s in i.body.statements)]
