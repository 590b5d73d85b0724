"""What is a key, and how does it become bits?  Two words of uint32, and a cipher of positions.

The cipher takes a counter of 64 bits. Its two highest bits say what for: to draw, to split, to fold
in. So the keys that come from a key are independent of the numbers that are drawn with it, and of
each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc.dims import Extent, product
from graphc.errors import shortened
from graphc.ops.random import threefry_op
from graphc.types import Shape, as_shape

# Added to the high word of the counter; positions are below 2**62.
DRAW, SPLIT, FOLD_LOW, FOLD_HIGH = 0, 1 << 30, 2 << 30, 3 << 30
# The high word of the keys that distributions make for themselves: no split has so many.
INNER = (1 << 30) - 1
_WORD = np.dtype("uint32")


def key(seed: Any) -> gx.Node:
    """The key of a seed, an integer of at most 64 bits: uint32[2], its low and its high word.

    Seeds may be near each other (0, 1, 2, ...): their keys give unrelated numbers. A node of rank
    0 is a seed, too. `GraphError` for anything else.
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not -(1 << 63) <= seed < 1 << 64:
            raise gx.GraphError(f"random.key: a seed has 64 bits, got {shortened(str(seed))}")
        whole = int(seed) % (1 << 64)
        return gx.constant(np.array([whole % (1 << 32), whole >> 32], _WORD))
    node = _integer(seed, "random.key: a seed")
    return gx.stack(_words(node))


def split(key: Any, num: Any = 2) -> gx.Node:
    """`num` new keys, uint32[num, 2]: `first, second = gx.random.split(key)`.

    `num` may be a tuple, the shape of an array of keys, and its extents may be named. Key i depends
    on i alone, not on how many there are.
    """
    shape = as_shape(num if isinstance(num, (tuple, list)) else (num,))
    low, high = _cipher(as_key(key, "split"), *_positions(shape), SPLIT)
    return gx.stack([low, high], axis=-1)


def fold_in(key: Any, data: Any) -> gx.Node:
    """A new key from a key and an integer of rank 0: the number of a step, of a layer, of a device.

    Different integers of 64 bits give different streams; the dtype of the integer does not matter.
    """
    node = as_key(key, "fold_in")
    low, high = _words(_integer(data, "random.fold_in: the data"))
    for word, purpose in ((low, FOLD_LOW), (high, FOLD_HIGH)):
        node = gx.stack(_cipher(node, word, gx.zeros((), _WORD), purpose))
    return node


def bits(key: Any, shape: Any = (), dtype: Any = "uint32") -> gx.Node:
    """Uniform random bits, in an unsigned (or signed) integer dtype."""
    node, extents = as_key(key, "bits"), as_shape(shape)
    wanted = np.dtype(dtype)
    if wanted.kind not in "iu":
        raise gx.GraphError(f"random.bits gives integers, got dtype {wanted.name}")
    low, high = words(node, extents)
    if wanted.itemsize <= 4:
        return gx.cast(low, wanted)
    return gx.cast(wide(low, high), wanted)


# -- for the distributions -------------------------------------------------------------------------


def as_key(value: Any, name: str) -> gx.Node:
    """The key as a node; `GraphError` for what is not one, with what to do."""
    fits = isinstance(value, (gx.Node, np.ndarray))
    if fits and value.dtype == _WORD and tuple(value.shape) == (2,):
        return value if isinstance(value, gx.Node) else gx.constant(value)
    lines = [f"random.{name} needs a key, uint32[2]; got {_kind(value)}"]
    if fits and value.dtype == _WORD and len(value.shape) > 1:
        lines.append("These are several keys: take one, keys[i], or gx.vmap over them.")
    else:
        lines.append("Make one: gx.random.key(seed), or one of gx.random.split(key).")
    raise gx.GraphError("\n".join(lines))


def inner(key: gx.Node, number: Any) -> gx.Node:
    """A key for a part of one draw, its rounds or ingredients: no `split` or `fold_in` gives it."""
    low = gx.cast(number, _WORD)
    return gx.stack(_cipher(key, low, gx.constant(INNER, _WORD), SPLIT))


def words(key: gx.Node, shape: Shape) -> tuple[gx.Node, gx.Node]:
    """Two words of random bits for each element of an array."""
    return _cipher(key, *_positions(shape), DRAW)


def wide(low: gx.Node, high: gx.Node) -> gx.Node:
    """Two words as one of 64 bits."""
    return gx.cast(low, "uint64") | gx.left_shift(gx.cast(high, "uint64"), 32)


def _cipher(key: gx.Node, low: gx.Node, high: gx.Node, purpose: int) -> tuple[gx.Node, gx.Node]:
    shape = low.shape
    tagged = high if purpose == DRAW else high + gx.constant(purpose, _WORD)
    both = threefry_op(gx.broadcast_to(key[0], shape), gx.broadcast_to(key[1], shape), low, tagged)
    return gx.project(both, 0), gx.project(both, 1)


def _positions(shape: Shape) -> tuple[gx.Node, gx.Node]:
    """The words of each element's position in C order."""
    size: Extent = product(shape)
    low = gx.reshape(gx.iota((size,), 0, _WORD), shape)
    if isinstance(size, int) and size <= 1 << 32:
        return low, gx.zeros(shape, _WORD)
    high = gx.cast(gx.right_shift(gx.iota((size,), 0, "int64"), 32), _WORD)
    return low, gx.reshape(high, shape)


def _words(number: gx.Node) -> tuple[gx.Node, gx.Node]:
    whole = gx.cast(number, "uint64")
    return gx.cast(whole, _WORD), gx.cast(gx.right_shift(whole, 32), _WORD)


def _integer(value: Any, what: str) -> gx.Node:
    """An integer of rank 0 as a node."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 63:
        return gx.constant(value, "uint64")
    if isinstance(value, (gx.Node, np.ndarray, np.integer, int)):
        node = value if isinstance(value, gx.Node) else gx.constant(value)
        if node.dtype.kind in "iu" and node.shape == ():
            return node
    raise gx.GraphError(f"{what} is one integer, got {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, gx.Node):
        return repr(value.type)
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name}{list(value.shape)}"
    return shortened(repr(value))
