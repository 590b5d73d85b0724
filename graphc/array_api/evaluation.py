"""How does a function of the standard get its values? From the graph of one step, built once.

Arguments become placeholders of their types, the function of graphc's surface makes nodes of them,
and each op's NumPy function runs. What was made is kept as a `Plan` under the types of the arrays
and the values of everything else, so that a second call builds nothing: a few microseconds around
NumPy. Code that should be fast is put under `gx.jit`, where the same names build one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import origin
from graphc.array_api.array_object import Array
from graphc.graph import placeholder, substitute_in
from graphc.node import Node, topological
from graphc.protocols import find
from graphc.tree import LEAF, Structure, flatten
from graphc.types import TensorType

_PLANS: dict[Any, Plan] = {}
_MOST_PLANS = 4096
_LARGEST_CONSTANT = 64  # elements
# Equal values of these mean the same to every function.
_PLAIN = frozenset((bool, int, str, type(None), type(Ellipsis)))


@dataclass(frozen=True, slots=True)
class Step:
    """One op: its NumPy function, where its arguments are found, and its attributes."""

    function: Callable[..., Any]
    slots: tuple[int, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The ops of a step in order.

    Slots hold the arrays given, then small values that depend on none of them, then what each op
    has made.
    """

    constants: tuple[np.ndarray, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, np.dtype[Any], tuple[int, ...]], ...]
    structure: Structure

    def run(self, arrays: list[np.ndarray]) -> Any:
        slots: list[Any] = [*arrays, *self.constants]
        with np.errstate(all="ignore"):
            for step in self.steps:
                slots.append(step.function(*[slots[at] for at in step.slots], **step.attrs))
        results: list[Array] = []
        for at, dtype, shape in self.outputs:
            result = np.asarray(slots[at])  # a result of rank 0 may be a scalar of NumPy
            assert result.dtype == dtype and result.shape == shape, (result, dtype, shape)
            results.append(Array._of(result))
        return results[0] if self.structure == LEAF else self.structure.unflatten(results)


def compute(name: str, *args: Any, **named: Any) -> Any:
    """The surface's function `name`, or "linalg.name" that of `graphc.linalg`, on arrays, which may
    lie in lists and tuples.
    """
    arrays: list[np.ndarray] = []
    key = (name, _key(args, arrays), *[(n, _key(value, arrays)) for n, value in named.items()])
    plan = _PLANS.get(key)
    if plan is None:
        plan = _plan(name, args, named)
        if len(_PLANS) >= _MOST_PLANS:
            _PLANS.clear()
        _PLANS[key] = plan
    return plan.run(arrays)


def _key(value: Any, arrays: list[np.ndarray]) -> Any:
    """What of a value decides about the plan; arrays are appended to `arrays`."""
    kind = type(value)
    if kind is Array:
        array = value._value
        arrays.append(array)
        return array.dtype, array.shape
    if kind is tuple or kind is list:
        return kind, *[_key(item, arrays) for item in value]
    if kind in _PLAIN:
        return kind, value
    if kind is float:
        return kind, value.hex()  # 0.0 and -0.0 are equal, but not the same
    if kind is slice:
        return kind, *[_key(part, arrays) for part in (value.start, value.stop, value.step)]
    if isinstance(value, (np.dtype, type)):
        return kind, value
    return object()  # equal to nothing: such a plan is built anew


def _plan(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Plan:
    """The graph that the function makes of arrays of these types, as steps."""
    module, _, own = name.rpartition(".")
    function = find(own, module)
    if function is None:
        raise NotImplementedError(f"graphc has no {name} yet")
    places: dict[Node, int] = {}
    with origin.origins(False):
        nodes = [_node(value, places) for value in args]
        options = {option: _node(value, places) for option, value in named.items()}
        made, structure = flatten(function(*nodes, **options))
    order = topological(made, known=places)
    attrs = {node: _attributes(node) for node in order}
    constants = _constants(order, attrs, made)
    for node in (*constants, *[node for node in order if node not in constants]):
        places[node] = len(places)
    steps = [
        Step(node.op.numpy, tuple([places[argument] for argument in node.args]), attrs[node])
        for node in order
        if node not in constants
    ]
    outputs = tuple([(places[node], node.dtype, node.shape) for node in made])
    return Plan(tuple(constants.values()), tuple(steps), outputs, structure)


def _attributes(node: Node) -> dict[str, Any]:
    return {name: substitute_in(value, {}) for name, value in node.attrs.items()}


def _constants(
    order: Sequence[Node], attrs: Mapping[Node, dict[str, Any]], made: Sequence[Node]
) -> dict[Node, np.ndarray]:
    """The nodes that no array decides about, with their values, which are computed once.

    Results are not among them: every call gives an array of its own. Nor is what is large, since
    plans are kept.
    """
    outputs = set(made)
    found: dict[Node, np.ndarray] = {}
    for node in order:
        small = isinstance(node.type, TensorType) and node.size <= _LARGEST_CONSTANT
        if small and node not in outputs and all(argument in found for argument in node.args):
            with np.errstate(all="ignore"):
                value = node.op.numpy(*[found[argument] for argument in node.args], **attrs[node])
            found[node] = np.asarray(value)
            found[node].flags.writeable = False  # results may be views of it
    return found


def _node(value: Any, places: dict[Node, int]) -> Any:
    """A placeholder for an array, also within a list or tuple; anything else as it is."""
    if isinstance(value, Array):
        node = placeholder(TensorType(value.dtype, value.shape))
        places[node] = len(places)
        return node
    if isinstance(value, (list, tuple)):
        return type(value)([_node(item, places) for item in value])
    return value
