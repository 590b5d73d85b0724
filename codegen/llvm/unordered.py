"""How do maxima and minima keep NaN?  A loop notes whether any term was one, beside the extreme.

On x86 an instruction chooses the larger of two numbers and forgets a NaN in the first of them: to
keep it takes two more, for every term. What a loop over lanes comes to is NaN if any of its terms
was, wherever: one comparison tells of two terms at once whether either is, and several extremes of
the same terms share what is noted. The extreme itself is of the others, and it is replaced at the
end.

AVX-512 compares to a mask, which takes as many instructions to keep, and other machines have one
instruction that keeps NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import constant, llvm_type
from graphc.codegen.llvm.shuffles import Shuffles
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import identity
from graphc.codegen.machine import Machine
from graphc.codegen.scalar import BITS, Accumulate, Accumulator, For, Value

# What is noted is a word for each lane, as wide as the terms.
_WORDS = {"float32": "int32", "float64": "int64"}
_BEYOND = {"max": "ogt", "min": "olt"}
# In fewer steps the instructions after a loop are more than what is saved in it.
LEAST_STEPS = 8


@dataclass(frozen=True)
class Noted:
    """A loop carries whether any of the terms was NaN; the lanes of two registers share words."""

    term: Value

    @property
    def dtype(self) -> str:
        return _WORDS[self.term.dtype]


def noted_terms(loop: For, lanes: int, machine: Machine) -> dict[Accumulator, Noted]:
    """The accumulators of a loop over so many lanes that hold extremes of terms that are not NaN,
    and where it is noted if one was.
    """
    if not machine.triple.startswith("x86_64") or machine.has_masks or lanes < 2:
        return {}
    start, stop = loop.start, loop.stop
    if isinstance(start, int) and isinstance(stop, int) and stop - start < LEAST_STEPS * lanes:
        return {}
    added = [s for s in loop.body.statements if isinstance(s, Accumulate)]
    times = Counter(s.accumulator for s in added)
    return {
        s.accumulator: Noted(s.value)
        for s in added
        if s.accumulator.combiner in _BEYOND
        and s.accumulator.dtype == s.value.dtype in _WORDS
        and s.mask is None
        and times[s.accumulator] == 1
        and s.accumulator in loop.accumulators
    }


class Unordered:
    """The extremes of one function beside which is noted whether a term was NaN."""

    def __init__(self, values: Values) -> None:
        self.values, self.shuffles = values, Shuffles(values)
        self.noted: dict[Accumulator, Noted] = {}

    def first(self, noted: Mapping[Accumulator, Noted]) -> dict[Noted, str]:
        """What is noted before a loop: nothing."""
        return dict.fromkeys(noted.values(), "zeroinitializer")

    def typed(self, each: Noted, lanes: int) -> str:
        """The type of what is noted in so many lanes."""
        return llvm_type(each.dtype, self._words(each, lanes))

    def _words(self, noted: Noted, lanes: int) -> int:
        """How many words tell of so many lanes: half as many, if these are several registers."""
        size = BITS[noted.dtype] // 8
        return lanes if lanes * size <= self.values.machine.vector_bytes else lanes // 2

    def accumulate(
        self, level: Level, s: Accumulate, states: dict[Any, str], mask: str | None
    ) -> None:
        """One more term, in the lanes that are live."""
        a, lanes = s.accumulator, level.lane_count
        noted, typed = self.noted[a], llvm_type(a.dtype, lanes)
        value = self.values.operand(level, s.value)
        if mask is not None:
            start = constant(identity(a.combiner, a.dtype), a.dtype, lanes)
            chosen = self.values.fresh()
            level.put(f"{chosen} = select <{lanes} x i1> {mask}, {typed} {value}, {typed} {start}")
            value = chosen
        beyond, farther = self.values.fresh("c"), self.values.fresh()
        flags, state = f"<{lanes} x i1>", states[a]
        level.put(f"{beyond} = fcmp {_BEYOND[a.combiner]} {typed} {value}, {state}")
        level.put(f"{farther} = select {flags} {beyond}, {typed} {value}, {typed} {state}")
        states[a] = farther
        if s is self._first_of(level, noted):
            states[noted] = self._with(level, value, a.dtype, states[noted], noted)

    def _first_of(self, level: Level, noted: Noted) -> Accumulate:
        """Of the extremes of the same terms the one that notes."""
        assert level.scope is not None
        return next(
            s
            for s in level.scope.statements
            if isinstance(s, Accumulate) and self.noted.get(s.accumulator) == noted
        )

    def _with(self, level: Level, value: str, dtype: str, state: str, noted: Noted) -> str:
        """What is noted, and whether one of the terms is NaN."""
        lanes = level.lane_count
        words, typed = self._words(noted, lanes), self.typed(noted, lanes)
        element = llvm_type(dtype)
        low, high = (
            self.shuffles.part(level, value, element, lanes, part)
            for part in (range(words), range(lanes - words, lanes))
        )
        either, word, result = (self.values.fresh() for _ in range(3))
        level.put(f"{either} = fcmp uno {llvm_type(dtype, words)} {low}, {high}")
        level.put(f"{word} = sext <{words} x i1> {either} to {typed}")
        level.put(f"{result} = or {typed} {state}, {word}")
        return result

    def extreme(self, level: Level, a: Accumulator, name: str, noted: str, lanes: int) -> str:
        """The extreme of all lanes, or NaN."""
        words, word = self._words(self.noted[a], lanes), llvm_type(self.noted[a].dtype)
        function, total = f"@llvm.vector.reduce.or.v{words}{word}", self.values.fresh()
        some, result = self.values.fresh("c"), self.values.fresh()
        element, nan = llvm_type(a.dtype), constant(float("nan"), a.dtype)
        self.values.declarations.add(f"declare {word} {function}(<{words} x {word}>)")
        level.put(f"{total} = call {word} {function}(<{words} x {word}> {noted})")
        level.put(f"{some} = icmp ne {word} {total}, 0")
        level.put(f"{result} = select i1 {some}, {element} {nan}, {element} {name}")
        return result
