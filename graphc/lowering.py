"""How does an op say what its kernel computes, without knowing any backend?

By one of these forms, plain data on the op's record. Code generation knows the forms and never an
op; an op knows a form and never a backend. A user's op from outside uses the same ones. The builder
`k` that a kernel procedure receives has a method for each scalar instruction (`k.add`, `k.select`,
`k.fma`, ...) and `k.call("exp", x)` for mathematical functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.dims import Extent

Index = tuple[Extent, ...]


@dataclass(frozen=True)
class Demand:
    """What the arguments of an op must fulfil at every element; elsewhere the call raises `error`.

    `kernel(k, *values)` is the truth value of the demand, or None for dtypes of which nothing is
    demanded; `numpy(*arrays)` is the same for the evaluator. The kernel of the op still gives some
    value where the demand fails. `error` is `ZeroDivisionError` or `ValueError`.
    """

    kernel: Callable[..., Any]
    numpy: Callable[..., Any]
    error: type[Exception]
    message: str

    def enforce(self, *arrays: Any) -> None:
        """Raise the error if some element does not fulfil the demand."""
        if not self.numpy(*arrays).all():
            raise self.error(self.message)


@dataclass(frozen=True)
class Elementwise:
    """`kernel(k, *values, **attrs)` gives the value of one element, or a tuple of values for
    several results.

    `cost` is an estimate in additions; it decides whether a value is recomputed or stored. A kernel
    is given 16-bit floats as float32 and its results are rounded, unless it is `native`: then it
    sees each dtype as it is, because it only chooses among values or looks at their bits. `demand`
    is checked wherever the value is computed: both branches of a `where` are.
    """

    kernel: Callable[..., Any]
    cost: int = 1
    native: bool = False
    demand: Demand | None = None


@dataclass(frozen=True)
class Piece:
    """Where an output element may come from: `argument[index]`, if `low <= position < high` for all
    of `inside`.
    """

    argument: int
    index: Index
    inside: tuple[tuple[Extent, Extent, Extent], ...] = ()


@dataclass(frozen=True)
class View:
    """`pieces(index, types, result, **attrs)` says where the element at `index` of the result comes
    from.

    `types` are the arguments' types and `result` the node's. The first piece whose conditions hold
    is taken; where none holds the element is 0.
    """

    pieces: Callable[..., list[Piece]]


@dataclass(frozen=True)
class Generate:
    """`value(k, index, **attrs)`: an element computed from its own index alone."""

    value: Callable[..., Any]


@dataclass(frozen=True)
class Reduce:
    """Combine over the attribute `axes` with `add`, `mul`, `max`, `min`, `and` or `or`, in the
    result's dtype.
    """

    combiner: str


@dataclass(frozen=True)
class Contract:
    """Sum of products over the attributes `batch` and `contract`: pairs of axes of the two
    arguments.
    """


@dataclass(frozen=True)
class Lookup:
    """How the axes of an array, of positions in it, and of what lies at them correspond.

    Positions are given for each of `axes` of an array of rank `rank`, as arrays of one shape: the
    extents of the axes `batch`, which the positions go along with, then `inner` axes of their own.
    What lies there has the axes that are `kept`, in order, with the inner ones before number `at`.
    An indexed axis goes, unless `windowed`: then a stretch of it that starts at the position stays.
    """

    rank: int
    inner: int
    axes: tuple[int, ...]
    batch: tuple[int, ...]
    at: int
    windowed: bool

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes of the array that what lies there has, too."""
        return tuple(a for a in range(self.rank) if self.windowed or a not in self.axes)

    def kept_of(self, index: Index) -> dict[int, Extent]:
        """The part of an index of what lies there that belongs to axes of the array, by axis."""
        own = (*index[: self.at], *index[self.at + self.inner :])
        return dict(zip(self.kept, own, strict=True))

    def place(self, index: Index) -> Index:
        """The index of the positions for an index of what lies there."""
        kept = self.kept_of(index)
        return (*(kept[axis] for axis in self.batch), *index[self.at : self.at + self.inner])

    def source(self, kept: dict[int, Extent], positions: Sequence[Extent]) -> Index:
        """The index in the array, from that along the kept axes and the positions."""
        found = dict(kept)
        for axis, position in zip(self.axes, positions, strict=True):
            found[axis] = position + kept[axis] if self.windowed else position
        return tuple(found[axis] for axis in range(self.rank))

    def joined(self, kept: Sequence[Any], inner: Sequence[Any]) -> tuple[Any, ...]:
        """Something for each axis of what lies there, from that for kept and for inner axes."""
        return (*kept[: self.at], *inner, *kept[self.at :])


@dataclass(frozen=True)
class Gather:
    """The first argument, read at the positions that the others give; the attributes are those of
    `Lookup`.
    """


@dataclass(frozen=True)
class Scatter:
    """The first argument, with the second stored at the positions that the others give, or combined
    with what is there, in order; `combiner` is `set`, `add`, `mul`, `max` or `min`.
    """

    combiner: str


@dataclass(frozen=True)
class ByLibrary:
    """The kernel of a `Nest` that leaves the work to a routine of a library, by `Loop.library`.

    `write` is that of a `Nest`; `share(types, wanted)`, of the arguments' types and which results
    somebody reads, is 1 where this kernel is the faster one, else 0: an extent, for sizes that only
    a call knows.
    """

    write: Callable[..., None]
    share: Callable[[Sequence[Any], Sequence[bool]], Extent]


@dataclass(frozen=True)
class Nest:
    """`write(nest, **attrs)` writes the loops of a kernel of its own: sorts, searches, recurrences.

    A result of 16-bit floats is computed from float32 arguments, and rounded.

    `nest` offers the statements of the loop-nest language: loops with roles, reads of arguments
    at any index, scratch, loads and stores at positions that may be data (`graphc.codegen.nest`
    says what it has). `stored` are the arguments that the loops read more than once an element:
    they are in memory first. The others are computed where they are read. `refusal` is the message
    of the `numpy.linalg.LinAlgError` where a matrix does not fulfil what the loops demand of it.
    `reach(**attrs)` says on which elements of an argument of its shape a result depends: for each
    axis along which it does, on those "before" its own, "after" it, or "all". None: on everything.
    `by_library` is another kernel, for `Options(library="lapack")`. `alone(rank, **attrs)` tells
    whether elements of arguments of this rank are read one by one, so that what is dear should not
    be computed there, but before, in lanes.
    """

    write: Callable[..., None]
    stored: tuple[int, ...] = ()
    refusal: str = ""
    reach: Callable[..., dict[int, str]] | None = None
    by_library: ByLibrary | None = None
    alone: Callable[..., bool] | None = None


@dataclass(frozen=True)
class Compose:
    """`build(*args, **attrs)` is a graph of other ops; it is expanded before lowering."""

    build: Callable[..., Any]


@dataclass(frozen=True)
class Region:
    """Carries Graphs; the program language has a `statement` for it: "call", "scan", "while" or
    "switch".
    """

    statement: str


@dataclass(frozen=True)
class Verify:
    """The first argument, after checking that every element of the second is true; the message is
    an attribute.
    """


@dataclass(frozen=True)
class Leaf:
    """Has no arguments: an input, a constant, or one result of another node."""


Form = (
    Elementwise
    | View
    | Generate
    | Reduce
    | Contract
    | Gather
    | Scatter
    | Nest
    | Compose
    | Region
    | Verify
    | Leaf
)
