"""What is done where a condition must hold?  The first failure is recorded.

A check branches to a call that is seldom made. Of lanes, the first that fails is reported; lanes
that are off cannot fail.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.scalar import llvm_type
from graphc.codegen.llvm.values import Values
from graphc.codegen.scalar import Check, Value


class Checks:
    """The checks of one function. `words` are those of its frame."""

    def __init__(self, values: Values, words: Mapping[str, str]) -> None:
        self.values = values
        self.words = words
        self.used = False

    def all_lanes(self, level: Level, condition: Value) -> str:
        """Whether a condition holds in every live lane."""
        lanes, holds = level.lanes, self.values.operand(level, condition)
        if lanes is None:
            return holds
        flags = llvm_type("bool", lanes.count)
        if lanes.mask is not None:
            dead, either = self.values.fresh(), self.values.fresh()
            level.put(f"{dead} = xor {flags} {lanes.mask}, splat (i1 true)")
            level.put(f"{either} = or {flags} {dead}, {holds}")
            holds = either
        bits, result = self.values.fresh(), self.values.fresh()
        level.put(f"{bits} = bitcast {flags} {holds} to i{lanes.count}")
        level.put(f"{result} = icmp eq i{lanes.count} {bits}, -1")
        return result

    def check(self, level: Level, s: Check) -> None:
        """Branch to a call that records the first failure, when a live lane fails."""
        self.used = True
        lanes = level.lanes
        count = level.lane_count
        holds, index = self.values.operand(level, s.condition), self.values.operand(level, s.index)
        tag = self.values.tag()
        flags = llvm_type("bool", count)
        fails = self.values.fresh()
        ones = "true" if count == 1 else "splat (i1 true)"
        level.put(f"{fails} = xor {flags} {holds}, {ones}")
        if lanes is not None and lanes.mask is not None:
            live = self.values.fresh()
            level.put(f"{live} = and {flags} {fails}, {lanes.mask}")
            fails = live
        found = fails
        if count > 1:
            bits, found = self.values.fresh(), self.values.fresh()
            level.put(f"{bits} = bitcast {flags} {fails} to i{count}")
            level.put(f"{found} = icmp ne i{count} {bits}, 0")
        level.put(f"br i1 {found}, label %fail{tag}, label %fine{tag}")
        level.label(f"fail{tag}")
        detail = index
        if count > 1:
            self.values.declarations.add(f"declare i{count} @llvm.cttz.i{count}(i{count}, i1)")
            first, wide, detail = (self.values.fresh() for _ in range(3))
            level.put(f"{first} = call i{count} @llvm.cttz.i{count}(i{count} {bits}, i1 false)")
            cast = "zext" if count < 64 else "bitcast" if count == 64 else "trunc"
            level.put(f"{wide} = {cast} i{count} {first} to i64")
            level.put(f"{detail} = extractelement <{count} x i64> {index}, i64 {wide}")
        status = self.words["status"]
        level.put(f"call void @record(ptr {status}, i64 {s.code}, i64 {s.node}, i64 {detail})")
        level.put(f"br label %fine{tag}")
        level.label(f"fine{tag}")


# The first failing thread writes the record; later ones find the code taken.
RECORD = """
define internal void @record(ptr %status, i64 %code, i64 %node, i64 %index) noinline cold nounwind {
entry:
  %won = cmpxchg ptr %status, i64 0, i64 %code seq_cst seq_cst
  %first = extractvalue {i64, i1} %won, 1
  br i1 %first, label %write, label %done
write:
  %p1 = getelementptr i64, ptr %status, i64 1
  store i64 %node, ptr %p1
  %p2 = getelementptr i64, ptr %status, i64 2
  store i64 %index, ptr %p2
  br label %done
done:
  ret void
}
"""
