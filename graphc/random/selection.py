"""Which of several?  Categories by logits, permutations, and choices with and without replacement.

Logits are decided by the Gumbel trick: the largest of logits with Gumbel noise, which is one
reduction and never leaves the logarithm. Orders are those of random words of 64 bits, of which two
of n are equal with a probability below n**2 / 2**65.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gx
from graphc import dtypes
from graphc.dims import product
from graphc.random.continuous import standard_gumbel
from graphc.random.discrete import randint
from graphc.random.floats import steps
from graphc.random.keys import as_key, bits
from graphc.random.settings import setting
from graphc.types import as_extent, as_shape


def categorical(key: Any, logits: Any, axis: int = -1, shape: Any = None) -> gx.Node:
    """Positions along `axis` of the logits, with probabilities softmax(logits): int64.

    `shape` is that of the result, to which the logits without `axis` broadcast; by default their
    own. A logit of -inf is never chosen unless all are.
    """
    node = _as_node(logits)
    if node.ndim == 0:
        raise gx.GraphError("random.categorical: logits are at least of rank 1, got one number")
    last = gx.moveaxis(node, axis, -1)
    batch = last.shape[:-1] if shape is None else as_shape(shape)
    s = setting("categorical", key, (*batch, last.shape[-1]), None, [last])
    return gx.argmax(s.parameters[0] + standard_gumbel(s), axis=-1)


def permutation(key: Any, x: Any, axis: int = 0) -> gx.Node:
    """x in random order along `axis`; of an extent n the positions 0 to n - 1."""
    node = as_key(key, "permutation")
    if not isinstance(x, (gx.Node, np.ndarray, list, tuple)):
        return _order(node, as_extent(x))
    values = _as_node(x)
    if values.ndim == 0:
        raise gx.GraphError("random.permutation needs an array or an extent, got a node of rank 0")
    return gx.take(values, _order(node, values.shape[axis]), axis=axis)


def shuffle(key: Any, x: Any, axis: int = 0) -> gx.Node:
    """x in random order along `axis`: a new array, as nothing is changed in place."""
    return permutation(key, _as_node(x), axis)


def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
) -> gx.Node:
    """Entries of `a` along `axis` (of an extent: positions), evenly or with probabilities `p`.

    Without replacement each is taken once at most; with `p` that is drawing one by one from what is
    left (Gumbel top-k; entries of probability 0 come last). `p` need not sum to 1 exactly.
    `GraphError` for more entries than there are.
    """
    node, extents = as_key(key, "choice"), as_shape(shape)
    whole = not isinstance(a, (gx.Node, np.ndarray, list, tuple))
    values = None if whole else _as_node(a)
    if values is not None and values.ndim == 0:
        raise gx.GraphError("random.choice needs an array or an extent, got a node of rank 0")
    length = as_extent(a) if values is None else values.shape[axis]
    if isinstance(length, int) and length == 0 and 0 not in extents:
        raise gx.GraphError("random.choice: there is nothing to choose from")
    weights = None if p is None else _weights(p, length)
    where = (_with if replace else _without)(node, length, extents, weights)
    return where if values is None else gx.take(values, where, axis=axis)


def _with(key: gx.Node, length: Any, shape: Any, weights: Any) -> gx.Node:
    if weights is None:
        most = length if isinstance(length, int) else gx.cast(length, "int64")
        return randint(key, shape, 0, most)
    running = gx.cumsum(weights)
    reached = steps(key, shape, running.dtype) * running[-1]
    return gx.minimum(gx.searchsorted(running, reached, side="right"), length - 1)


def _without(key: gx.Node, length: Any, shape: Any, weights: Any) -> gx.Node:
    count = product(shape)
    if isinstance(length, int) and isinstance(count, int) and count > length:
        raise gx.GraphError(
            f"random.choice: {count} of {length} without replacement; there are too few"
        )
    if weights is None:
        order = _order(key, length)
    else:
        s = setting("choice", key, (length,), None, [weights])
        order = gx.argsort(-(gx.log(s.parameters[0]) + standard_gumbel(s)))
    return gx.reshape(order[:count], shape)


def _order(key: gx.Node, length: Any) -> gx.Node:
    return gx.argsort(bits(key, (length,), "uint64"))


def _weights(p: Any, length: Any) -> gx.Node:
    node = _as_node(p)
    if node.shape != (length,):
        raise gx.GraphError(f"random.choice: p has shape {node.shape}, not ({length},)")
    return node if dtypes.is_float(node.dtype) else gx.cast(node, "float64")


def _as_node(value: Any) -> gx.Node:
    return value if isinstance(value, gx.Node) else gx.constant(value)
