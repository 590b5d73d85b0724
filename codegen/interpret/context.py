"""What is known in iterations that run in lockstep?  Values, one for all or one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.codegen.interpret.faults import InterpreterError
from graphc.codegen.scalar import (
    Accumulator,
    Value,
)
from graphc.dims import Compound, Extent


class Context:
    """Iterations that run in lockstep: `size` of them, and what is known in each.

    `index` tells of which iteration of the `outer` context each is a part; None: they are the same
    ones. `task` and `lane` identify each to a ledger: they are equal outside of vector loops.
    """

    __slots__ = (
        "extents",
        "index",
        "lane",
        "outer",
        "size",
        "states",
        "task",
        "values",
        "variables",
    )

    def __init__(
        self,
        outer: Context | None,
        variables: Mapping[str, Any],
        size: int,
        index: Any = None,
        task: Any = None,
        lane: Any = None,
    ) -> None:
        self.outer = outer
        self.variables = variables
        self.size = size
        self.index = index
        self.task: Any = self.spread(outer.task) if task is None and outer is not None else task
        self.lane: Any = self.spread(outer.lane) if lane is None and outer is not None else lane
        self.values: dict[Value, Any] = {}
        self.extents: dict[Extent, Any] = {}
        self.states: dict[Accumulator, Any] = {}

    def spread(self, known: Any) -> Any:
        """What the outer context knows, for each iteration of this one."""
        return known if self.index is None or np.ndim(known) == 0 else known[self.index]

    def get(self, value: Value) -> Any:
        """The value of an instruction that was executed here or further out."""
        found = self.values.get(value)
        if found is None:
            if self.outer is None:
                raise InterpreterError(f"{value!r} is used where it has no value")
            found = self.values[value] = self.spread(self.outer.get(value))
        return found

    def variable(self, name: str) -> Any:
        """The value of a loop variable or an extent."""
        if name in self.variables:
            return self.variables[name]
        if self.outer is None:
            raise InterpreterError(f"{name} is used where it has no value")
        return self.spread(self.outer.variable(name))

    def extent(self, extent: Extent) -> Any:
        """The value of an index expression that no data decides."""
        if isinstance(extent, int):
            return extent
        found = self.extents.get(extent)
        if found is None:
            if self.outer is not None and extent.symbols.isdisjoint(self.variables):
                found = self.spread(self.outer.extent(extent))
            else:
                found = polynomial(extent, self.variable)
            self.extents[extent] = found
        return found


def polynomial(extent: Extent, lookup: Callable[[str], Any]) -> Any:
    """The value of an extent whose symbols have the ints or int64 arrays that `lookup` gives.

    A divisor of 0, which only an empty array has, counts as 1, as in every printed language.
    """
    if isinstance(extent, int):
        return extent
    total: Any = 0
    for monomial, coefficient in extent.terms:
        term: Any = coefficient
        for atom, power in monomial:
            factor = lookup(atom) if isinstance(atom, str) else _compound(atom, lookup)
            term = term * (factor if power == 1 else factor**power)
        total = total + term
    return total


_COMPOUNDS = {
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
}


def _compound(atom: Compound, lookup: Callable[[str], Any]) -> Any:
    first, *others = (polynomial(argument, lookup) for argument in atom.arguments)
    for other in others:
        if atom.operator in ("floordiv", "mod"):
            other = np.where(np.equal(other, 0), 1, other)[()]
        first = _COMPOUNDS[atom.operator](first, other)
    return first
