"""How do numbers of few bits accumulate in lanes?  Several lanes of them onto one that is wide.

The sum of bytes is an int64, and a loop that widened each of its terms to one would do little else.
Terms of eight lanes are added up first, in a type that has room for that, and only their sum is
widened. Integers wrap, so the order of a sum does not matter. Few machines load single bytes of a
vector: of what is left of whole ones, if that is not known to LLVM, each is added up by itself.

Whether all or any of some conditions hold is kept as a byte for each lane, all of whose bits tell:
a bit for each lane would have to be packed and unpacked in every iteration where conditions are not
bits (see `Machine.has_masks`).

How often conditions hold is counted in as many bits as what is compared has: a count of wide terms
would be most of the loop. Sums of whole numbers that float64 has room for are the same as integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from graphc.codegen.lanes import MAX_LANES, UNROLL
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import llvm_type
from graphc.codegen.llvm.shuffles import Shuffles
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import most_steps
from graphc.codegen.machine import Machine
from graphc.codegen.rare import used_values
from graphc.codegen.scalar import BITS, SIGNED, Accumulate, Accumulator, For, Value

# In which type eight terms are added up, by their dtype. (Of two bytes, four in four: that took as
# long as to widen each of them.)
_ADDED_AS = {"bool": "int8", "int8": "int16", "uint8": "uint16"}
_TOGETHER = 8
_WIDE = ("int64", "uint64", "float64")
# What counts as many terms as an int32 without rounding: float32 does not.
_COUNTS = ("int64", "uint64", "float64")
_MOST_COUNTED = (1 << 31) - 1
# A loop of more statements computes more than it adds up, and needs the registers for that.
_MOST_STATEMENTS = 16


def narrow_terms(loop: For, machine: Machine) -> dict[Accumulator, str]:
    """The dtypes of the terms of each accumulator, if a loop does little but accumulate narrow ones
    over its lanes; nothing otherwise.
    """
    statements = loop.body.statements
    if loop.role != "vector" or not loop.accumulators or len(statements) > _MOST_STATEMENTS:
        return {}
    found: dict[Accumulator, str] = {}
    widened: set[Value] = set()
    for s in statements:
        if isinstance(s, Accumulate) and s.mask is None and s.factor is None:
            a, term = s.accumulator, s.value
            if a.dtype == "bool" and a.combiner in ("and", "or") and not machine.has_masks:
                found[a] = "bool"
            elif a.dtype in _WIDE and a.combiner == "add" and _is_widened(term):
                widened.add(term)
                found[a] = term.args[0].dtype
        elif not isinstance(s, Value):
            return {}
    taken = {arg for s in statements if isinstance(s, Value) for arg in s.args}
    narrow = all(
        s in widened or s.dtype in _ADDED_AS for s in statements if isinstance(s, Value)
    )
    once = sum(isinstance(s, Accumulate) for s in statements) == len(loop.accumulators)
    every = len(found) == len(loop.accumulators)
    return found if narrow and once and every and not taken & widened else {}


def counted_terms(loop: For) -> dict[Accumulator, str]:
    """The accumulators of a loop over lanes that count conditions, each with the dtype in which it
    may: they come to less than that has room for, and nothing else reads their terms.
    """
    if not loop.accumulators or loop.role != "vector":
        return {}
    steps = most_steps(loop.start, loop.stop)
    if steps is None or steps > _MOST_COUNTED:
        return {}
    statements = loop.body.statements
    added = [s for s in statements if isinstance(s, Accumulate)]
    read = Counter(v for s in statements for v in used_values(s))
    found = {}
    for s in added:
        a, term = s.accumulator, s.value
        of_condition = term.opcode == "convert" and term.args[0].dtype == "bool"
        counts = a.combiner == "add" and a.dtype in _COUNTS and s.factor is None
        once = read[term] == 1 and sum(other.accumulator is a for other in added) == 1
        if of_condition and counts and once:
            found[a] = term
    others = {v for v in statements if isinstance(v, Value)} - set(found.values())
    wide = any(BITS[v.dtype] == 64 for v in others)
    return dict.fromkeys(found, "int64" if wide else "int32")


def _is_widened(term: Value) -> bool:
    return term.opcode == "convert" and term.args[0].dtype in _ADDED_AS


def narrow_lanes(machine: Machine) -> int:
    """The lanes of such a loop: some vectors of bytes."""
    return min(MAX_LANES, UNROLL * machine.vector_bytes)


class Narrow:
    """The accumulators of one function whose terms are narrow, by the dtypes of these."""

    def __init__(self, values: Values) -> None:
        self.values, self.shuffles = values, Shuffles(values)
        self.terms: dict[Accumulator, str] = {}
        self.counts: dict[Accumulator, str] = {}  # of conditions, with what they are counted in

    def form(self, a: Accumulator, lanes: int) -> tuple[str, int]:
        """What an accumulator is held as in a loop of so many lanes: a dtype, and lanes of it."""
        if lanes > 1 and a in self.counts:
            return self.counts[a], lanes
        if lanes == 1 or a not in self.terms:
            return a.dtype, lanes
        if a.dtype == "bool":
            return "int8", lanes
        return "int64" if a.dtype == "float64" else a.dtype, lanes // _TOGETHER

    def count(self, level: Level, s: Accumulate, state: str, masks: Sequence[str]) -> str:
        """The state with one more in the lanes where a condition and the masks hold."""
        dtype, lanes = self.form(s.accumulator, level.lane_count)
        flags, typed = self.values.operand(level, s.value.args[0]), llvm_type(dtype, lanes)
        for mask in masks:
            flags = self.values.both(level, flags, mask)
        ones, result = self.values.fresh(), self.values.fresh()  # all bits: -1
        level.put(f"{ones} = sext <{lanes} x i1> {flags} to {typed}")
        level.put(f"{result} = sub {typed} {state}, {ones}")
        return result

    def accumulate(self, level: Level, s: Accumulate, state: str) -> str:
        """The state with the terms of all lanes, all of which are live."""
        a, lanes = s.accumulator, level.lane_count
        assert level.lanes is not None and level.lanes.mask is None
        dtype, held = self.form(a, lanes)
        if a.dtype == "bool":
            value = self.values.fresh()
            flags = self.values.operand(level, s.value)
            level.put(f"{value} = sext <{lanes} x i1> {flags} to <{lanes} x i8>")
        else:
            value = self._added(level, s.value.args[0], held)
        return self.values.compute(level, a.combiner, (state, value), (dtype,) * 2, dtype, held)

    def all_lanes(self, level: Level, a: Accumulator, name: str, lanes: int) -> tuple[str, int]:
        """What lanes of conditions came to as one; of sums as many as they are held in, in the
        accumulator's dtype.
        """
        dtype, held = self.form(a, lanes)
        if dtype != a.dtype and a.dtype != "bool":
            return self._converted(level, name, dtype, a.dtype, held), held
        if a.dtype != "bool" or a not in self.terms or lanes == 1:
            return name, held
        flags, result = self.values.fresh(), self.values.fresh()
        level.put(f"{flags} = icmp ne {llvm_type(dtype, held)} {name}, zeroinitializer")
        function = f"llvm.vector.reduce.{a.combiner}.v{held}i1"
        self.values.declarations.add(f"declare i1 @{function}(<{held} x i1>)")
        level.put(f"{result} = call i1 @{function}(<{held} x i1> {flags})")
        return result, 1

    def _added(self, level: Level, term: Value, held: int) -> str:
        """Halves of the lanes onto each other until so many are left, as int64."""
        lanes, dtype = level.lane_count, _ADDED_AS[term.dtype]
        value = self._extended(level, self.values.operand(level, term), term.dtype, dtype, lanes)
        element = llvm_type(dtype)
        while lanes > held:
            half = lanes // 2
            low, high = (
                self.shuffles.part(level, value, element, lanes, part)
                for part in (range(half), range(half, lanes))
            )
            value = self.values.fresh()
            level.put(f"{value} = add <{half} x {element}> {low}, {high}")
            lanes = half
        # As a byte a bool is 0 or 1, and eight of them are positive in int8, too.
        return self._extended(level, value, dtype, "int64", lanes)

    def _converted(self, level: Level, name: str, source: str, target: str, lanes: int) -> str:
        """Whole numbers, none of which is negative unless its type was as wide, in another dtype.
        """
        if target != "float64":
            return self._extended(level, name, source, target, lanes)
        result = self.values.fresh()
        types = llvm_type(source, lanes), llvm_type(target, lanes)
        level.put(f"{result} = sitofp {types[0]} {name} to {types[1]}")
        return result

    def _extended(self, level: Level, value: str, source: str, target: str, lanes: int) -> str:
        """Numbers in more bits, or as many."""
        if BITS[source] == BITS[target]:
            return value
        name, how = self.values.fresh(), "sext" if source in SIGNED else "zext"
        types = llvm_type(source, lanes), llvm_type(target, lanes)
        level.put(f"{name} = {how} {types[0]} {value} to {types[1]}")
        return name
