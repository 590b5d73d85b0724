"""What is carried from iteration to iteration?  Accumulators, and loads that registers replace.

An accumulator of a vector loop is a vector, whose lanes are combined at the end by a fixed tree of
shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.narrow import Narrow
from graphc.codegen.llvm.scalar import constant, llvm_type
from graphc.codegen.llvm.unordered import Noted, Unordered
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import identity
from graphc.codegen.scalar import Accumulate, Accumulator, Store, Value

# The name of what an accumulator holds that has no term yet.
NOTHING = ""


class Accumulators:
    """What the loops of one function carry, each thing by its current name."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.narrow = Narrow(values)
        self.unordered = Unordered(values)
        self.states: dict[Any, str] = {}  # in the loops that are being written
        self.results: dict[Any, str] = {}  # after their loops
        self.loads: dict[int, Value] = {}  # by stores, the loads that registers replace

    def first(self, accumulators: Sequence[Accumulator], lanes: int) -> dict[Any, str]:
        """What accumulators hold before the loop."""
        return {a: self._start(a, lanes) for a in accumulators}

    def _start(self, a: Accumulator, lanes: int) -> str:
        dtype, held = self.narrow.form(a, lanes)
        start = identity(a.combiner, a.dtype)
        # all bits of a byte tell whether a condition holds
        return constant(start if dtype == a.dtype else -int(start), dtype, held)

    def typed(self, each: Any, lanes: int) -> str:
        """The type of what a loop carries in so many lanes: an accumulator, what is noted beside
        one, or a load.
        """
        if isinstance(each, Noted):
            return self.unordered.typed(each, lanes)
        form = self.narrow.form(each, lanes) if isinstance(each, Accumulator) else None
        return llvm_type(*(form or (each.dtype, lanes)))

    def nothing(self, accumulators: Sequence[Accumulator]) -> dict[Any, str]:
        """What they hold before the loop if nothing is added to the first terms. A sum of zeros may
        be -0.0 then, until `begun` adds to it what sums begin with.
        """
        return dict.fromkeys(accumulators, NOTHING)

    def begun(self, level: Level, a: Accumulator, name: str, lanes: int) -> str:
        """What was accumulated from nothing on, as if it had begun with the identity."""
        if a.combiner != "add":
            return name
        start = constant(identity(a.combiner, a.dtype), a.dtype, lanes)
        return self.combined(level, a, name, start, lanes)

    def close(self, carried: Mapping[Any, str]) -> dict[Any, str]:
        """What an iteration hands on to the next, at its end."""
        return {each: self.states.pop(each) for each in carried}

    def replace(self, level: Level, store: Store) -> None:
        """What was stored is what the next iteration would load: it is carried on."""
        load = self.loads.get(id(store))
        if load in self.states:
            self.states[load] = self.values.operand(level, store.value)

    def accumulate(self, level: Level, s: Accumulate) -> None:
        """One more term, in the lanes that are live."""
        lanes = level.lanes
        count = level.lane_count
        state = self.states[s.accumulator]
        if count > 1 and s.accumulator in self.narrow.terms:
            self.states[s.accumulator] = self.narrow.accumulate(level, s, state)
            return
        masks = [] if lanes is None or lanes.mask is None else [lanes.mask]
        if s.mask is not None:
            masks.append(self.values.operand(level, s.mask))
        if count > 1 and s.accumulator in self.narrow.counts:
            self.states[s.accumulator] = self.narrow.count(level, s, state, masks)
            return
        if count > 1 and s.accumulator in self.unordered.noted:
            self.unordered.accumulate(level, s, self.states, *masks or (None,))
            return
        value = self.values.operand(level, s.value)
        start = constant(identity(s.accumulator.combiner, s.value.dtype), s.value.dtype, count)
        if state == NOTHING:
            state, combined = start, self._first_term(level, s, value, count)
        elif s.factor is None:
            combined = self.combined(level, s.accumulator, state, value, count)
        else:
            factors = value, self.values.operand(level, s.factor)
            combined = self.values.multiply_add(level, factors, state, s.value.dtype, count)
        for mask in masks:
            chosen = self.values.fresh()
            typed, flags = llvm_type(s.accumulator.dtype, count), llvm_type("bool", count)
            level.put(f"{chosen} = select {flags} {mask}, {typed} {combined}, {typed} {state}")
            combined = chosen
        self.states[s.accumulator] = combined

    def _first_term(self, level: Level, s: Accumulate, value: str, lanes: int) -> str:
        if s.factor is None:
            return value
        factors, dtypes = (value, self.values.operand(level, s.factor)), (s.value.dtype,) * 2
        return self.values.compute(level, "mul", factors, dtypes, s.value.dtype, lanes)

    def combined(self, level: Level, a: Accumulator, first: str, second: str, lanes: int) -> str:
        dtypes = (a.dtype, a.dtype)
        return self.values.compute(level, a.combiner, (first, second), dtypes, a.dtype, lanes)

    def combine_lanes(
        self, level: Level, a: Accumulator, name: str, lanes: int, left: int = 1
    ) -> str:
        """Halves onto halves until one lane is `left`, or several: an order that depends on the
        number of lanes only.
        """
        element = llvm_type(a.dtype)
        name, lanes = self.narrow.all_lanes(level, a, name, lanes)
        while lanes > left:
            half = lanes // 2
            low, high = self.values.fresh(), self.values.fresh()
            vector = f"<{lanes} x {element}>"
            for result, base in ((low, 0), (high, half)):
                picks = ", ".join(f"i32 {base + k}" for k in range(half))
                level.put(
                    f"{result} = shufflevector {vector} {name}, {vector} poison, <{half} x i32> "
                    f"<{picks}>"
                )
            if half == 1:
                singles = []
                for half_vector in (low, high):
                    single = self.values.fresh()
                    level.put(f"{single} = extractelement <1 x {element}> {half_vector}, i64 0")
                    singles.append(single)
                low, high = singles
            name = self.combined(level, a, low, high, half)
            lanes = half
        return name
