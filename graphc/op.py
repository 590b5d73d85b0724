"""What is an op?  One record, in one place, that says everything about it.

Type rule, NumPy evaluator, derivative, lowering form, printing. The set of ops is open: `register`
gives a user's op the same standing as ours, and `tests/ops/test_contract.py` runs over the
registry, so an op cannot be half-declared. Derivatives are data too. Rules of higher-order ops
receive the transformation as an argument, so that ops never import autodiff.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.loading import Table
from graphc.lowering import Demand, Elementwise, Form
from graphc.node import NO_ATTRIBUTES, Attributes, Node, intern
from graphc.types import TensorType, Type

TypeRule = TypeVar("TypeRule", bound=Callable[..., Type])


@dataclass(frozen=True)
class Partials:
    """Element-wise: `partials(*args, result, **attrs)` gives one graph expression (or None for
    zero) an argument.

    `singular` names the arguments whose partial may be infinite or NaN: there the cotangent is
    multiplied by the primitive product in which 0 times anything is 0. For an op with several
    results the function gives one tuple of partials for each result. `at_poles` says that they are
    so only where the result is infinite or NaN, too: a tangent that stands for a change of every
    element is multiplied there as any other.
    """

    partials: Callable[..., tuple[Any, ...]]
    singular: tuple[int, ...] = ()
    at_poles: bool = False


@dataclass(frozen=True)
class Linear:
    """Jointly linear in `arguments` (None: all): the jvp is the op itself applied to tangents.

    `transpose(cotangent, node, i)` is the cotangent of argument i. With `multi` the op is linear in
    each of them separately (a product), and the jvp is a sum.
    """

    transpose: Callable[[Node, Node, int], Node]
    arguments: tuple[int, ...] | None = None
    multi: bool = False


@dataclass(frozen=True)
class Rules:
    """Everything else: `jvp(node, tangents, transform)` and `vjp(node, cotangents, wanted,
    transform)`.

    `tangents` holds a node or None for each argument; `cotangents` one for each result; `wanted`
    tells which arguments need a cotangent. jvp gives a list of tangents, one for each result; vjp a
    list of cotangents, one for each argument, None for zero. `transform` offers `jvp` and `vjp` of
    Graphs to ops that carry some.
    """

    jvp: Callable[..., list[Any]]
    vjp: Callable[..., list[Any]]


@dataclass(frozen=True)
class NoDerivative:
    """There is none, and asking for it is an error that says why."""

    why: str


Derivative = Partials | Linear | Rules | NoDerivative


def no_derivative(why: str) -> NoDerivative:
    return NoDerivative(why)


@dataclass(frozen=True)
class Leading:
    """How attributes change when every argument, and every result, gets a further axis in front.

    In attributes named in `raised` axes are counted one further. Those named in `preceded` are
    tuples with an item for each axis, and get that item in front: 0, 1, or `SIZE`, the extent of
    the new axis. Others stay as they are.
    """

    raised: tuple[str, ...] = ()
    preceded: tuple[tuple[str, Any], ...] = ()

    def attributes(self, attrs: Attributes, size: Any) -> dict[str, Any]:
        """The attributes of the op over one axis more, of extent `size`."""
        changed = dict(attrs)
        for name in self.raised:
            axes = changed[name]
            changed[name] = axes + 1 if isinstance(axes, int) else tuple(a + 1 for a in axes)
        for name, item in self.preceded:
            changed[name] = (size if item is SIZE else item, *changed[name])
        return changed


SIZE = object()
"""Stands for the extent of the new axis in `Leading.preceded`."""


@dataclass(frozen=True)
class Interval:
    """The values of an argument on which a real op is defined, for tests and for messages."""

    low: float
    high: float


REALS = Interval(float("-inf"), float("inf"))


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. `name` and `version` identify it in digests and graph files.

    `infer(*types, **attrs)` gives the result's type or raises `GraphError`. `numpy(*arrays,
    **attrs)` is the truth that every backend is compared with. `laws` are facts that rewriting may
    use: "commutative", "associative", "odd", "even", "increasing", "involution", "idempotent".
    `sample` builds example arguments for the contract test: a list of (args, attrs) makers.

    `batch` says what the op is over a further axis, for `vmap`: how attributes change (element-wise
    ops and reductions need not say), or `batch(node, args, mapped, size, transform)`, which gives a
    list of results. The arguments that are `mapped` have a further axis of extent `size` in front,
    and so have all results. An op that says nothing is looped over.
    """

    name: str
    infer: Callable[..., Type]
    numpy: Callable[..., Any]
    lowering: Form
    derivative: Derivative
    attributes: tuple[str, ...] = ()
    text: str = ""
    latex: str = ""
    laws: frozenset[str] = frozenset()
    domain: tuple[Interval, ...] = ()
    facts: Callable[..., frozenset[str]] | None = None
    batch: Leading | Callable[..., list[Any]] | None = None
    version: int = 1
    result_names: tuple[str, ...] = ()
    doc: str = ""

    def __call__(self, *args: Node, **attrs: Any) -> Node:
        """The node of this op. Arguments are nodes of the types that the op wants: nothing is
        converted here.
        """
        if not attrs:
            return intern(self, args, NO_ATTRIBUTES)
        if tuple(attrs) != self.attributes:
            attrs = {name: attrs[name] for name in self.attributes}
        return intern(self, args, Attributes(attrs))

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> Any:
        return (find, (self.name,))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies the record in caches."""
        return f"{self.name}:{self.version}"


REGISTRY: Table[Op] = Table()


def register(op: Op) -> Op:
    """Enter an op in the registry; a second op of the same name is an error."""
    if REGISTRY.holds(op.name):
        raise GraphError(f"an op named {op.name!r} is registered already")
    REGISTRY[op.name] = op
    return op


def find(name: str) -> Op:
    """The op of that name; `GraphError` if no such op is registered."""
    found = REGISTRY.get(name)
    if found is None:
        raise GraphError(
            f"no op named {name!r} is registered; a graph that uses it needs the module that "
            "defines it"
        )
    return found


def same_types(name: str, types: tuple[Type, ...], kinds: str = "biuf") -> TensorType:
    """The common tensor type of element-wise arguments; `GraphError` naming `name` if they differ.
    """
    first = types[0]
    for other in types:
        if other is not first:
            raise GraphError(
                f"{name} needs arguments of equal type, got {', '.join(map(repr, types))}\n"
                "Operators and functions of graphc broadcast and promote; the op itself does not."
            )
    if not isinstance(first, TensorType):
        raise GraphError(f"{name} needs tensors, got {first}")
    if dtypes.kind(first.dtype) not in kinds:
        raise GraphError(f"{name} is not defined for dtype {first.dtype.name}")
    return first


def _through_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that takes 16-bit floats as float32, and rounds its float32 results to them.
    """

    @functools.wraps(function)
    def call(*arrays: Any, **attrs: Any) -> Any:
        half = next((a.dtype for a in arrays if dtypes.is_half(a.dtype)), None)
        if half is None:
            return function(*arrays, **attrs)
        result = function(*[dtypes.widened(array) for array in arrays], **attrs)
        if isinstance(result, tuple):
            return tuple(_rounded(each, half) for each in result)
        return _rounded(result, half)

    return call


def _rounded(result: Any, half: Any) -> Any:
    if result.dtype != dtypes.FLOAT32:
        return result
    with np.errstate(all="ignore"):
        return result.astype(half)


# Types of arguments for which an op knows the type of its result.
_TYPES_REMEMBERED = 32


def remembering(infer: TypeRule) -> TypeRule:
    """A type rule that is not asked again about the arguments and attributes it was asked about
    last: layers of a network are like one another, and so are their derivatives.
    """
    return functools.lru_cache(_TYPES_REMEMBERED)(infer)  # type: ignore[return-value]


def elementwise(
    name: str,
    *,
    numpy: Callable[..., Any],
    kernel: Callable[..., Any],
    partials: Callable[..., tuple[Any, ...]] | NoDerivative,
    singular: tuple[int, ...] = (),
    at_poles: bool = False,
    kinds: str = "iuf",
    result: Any = None,
    infer: Callable[..., Type] | None = None,
    cost: int = 1,
    native: bool = False,
    demand: Demand | None = None,
    attributes: tuple[str, ...] = (),
    **record: Any,
) -> Op:
    """Register an element-wise op: equal types in, the same type (or dtype `result`) out.

    `kinds` are the dtype kinds it accepts: "b" bool, "i" signed and "u" unsigned integers, "f"
    floats. 16-bit floats are computed in float32, once rounded, by `numpy` and by `kernel`, unless
    they are `native` (see `lowering.Elementwise`). `demand` is what the values must fulfil at run
    time.
    """

    arity = len(inspect.signature(kernel).parameters) - 1 - len(attributes)

    @remembering
    def infer_same(*types: Type) -> Type:
        if len(types) != arity:
            raise GraphError(f"{name} takes {arity} arguments, got {len(types)}")
        common = same_types(name, types, kinds)
        return common if result is None else TensorType(result, common.shape)

    infer_any = (lambda *types, **_: infer_same(*types)) if attributes else infer_same
    derivative: Partials | NoDerivative
    if isinstance(partials, NoDerivative):
        derivative = partials
    else:
        derivative = Partials(partials, singular, at_poles)
    return register(
        Op(
            name,
            infer or infer_any,
            _evaluator(numpy, native, demand),
            Elementwise(kernel, cost, native, demand),
            derivative,
            attributes=attributes,
            **record,
        )
    )


def _evaluator(
    numpy: Callable[..., Any], native: bool, demand: Demand | None
) -> Callable[..., Any]:
    """The NumPy function of an element-wise op, with its rounding and what it demands."""
    plain = numpy if native else _through_float32(numpy)
    if demand is None:
        return plain

    def evaluate(*arrays: Any, **attrs: Any) -> Any:
        demand.enforce(*arrays)
        return plain(*arrays, **attrs)

    return evaluate
