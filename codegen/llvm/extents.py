"""How are the extents of a call derived and checked?  One function, called before the program.

The names that axes of the arguments bind may be anything that a caller brings: overflow and
division by zero are told apart from values, and what must hold of them is checked.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.codegen.extents import Slots
from graphc.codegen.llvm.arithmetic import Arithmetic
from graphc.codegen.llvm.level import Level
from graphc.codegen.status import Code, Status
from graphc.dims import Extent


class _CheckedArithmetic(Arithmetic):
    """Arithmetic on the extents of a call, which may be anything: `fine` says of the last value
    whether it was computed without overflow and without division by zero.
    """

    def __init__(self, level: Level, fresh: Callable[[], str]) -> None:
        super().__init__(level, fresh, "i64", self._literal, lambda name: level.symbols[name])
        self._wrong: str | None = None

    def checked(self, extent: Extent) -> tuple[str, str]:
        """The value of an extent, and the flag that it is one."""
        self._wrong = None
        value = self.extent(extent)
        if self._wrong is None:
            return value, "true"
        fine = self.fresh()
        self.level.put(f"{fine} = xor i1 {self._wrong}, true")
        return value, fine

    def op(self, opcode: str, a: str, b: str) -> str:
        if opcode not in ("add", "mul"):
            return super().op(opcode, a, b)
        pair, result, overflow = self.fresh(), self.fresh(), self.fresh()
        self.level.put(
            f"{pair} = call {{i64, i1}} @llvm.s{opcode}.with.overflow.i64(i64 {a}, i64 {b})"
        )
        self.level.put(f"{result} = extractvalue {{i64, i1}} {pair}, 0")
        self.level.put(f"{overflow} = extractvalue {{i64, i1}} {pair}, 1")
        self._note(overflow)
        return result

    def floor_division(self, operator: str, a: str, b: str) -> str:
        none, least, dividend = self.fresh(), self.fresh(), self.fresh()
        self.level.put(f"{none} = icmp eq i64 {b}, 0")
        self._note(none)
        # The processor traps on -2**63 // -1; only an overflow can have given such a dividend.
        self.level.put(f"{least} = icmp eq i64 {a}, {-(2**63)}")
        self._note(least)
        self.level.put(f"{dividend} = select i1 {least}, i64 0, i64 {a}")
        return super().floor_division(operator, dividend, b)

    def _literal(self, number: int) -> str:
        if -(2**63) <= number < 2**63:
            return str(number)
        self._note("true")
        return "0"

    def _note(self, flag: str) -> None:
        if self._wrong is None:
            self._wrong = flag
            return
        both = self.fresh()
        self.level.put(f"{both} = or i1 {self._wrong}, {flag}")
        self._wrong = both


_OVERFLOWING = "".join(
    f"declare {{i64, i1}} @llvm.s{opcode}.with.overflow.i64(i64, i64)\n"
    for opcode in ("add", "mul")
)


class _Entry:
    """Writes a function that leaves with a code where something is not as it must be."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.count = 0

    def fresh(self, prefix: str = "t") -> str:
        self.count += 1
        return f"%{prefix}{self.count}"

    def demand(self, condition: str, node: int, got: str, wanted: str) -> None:
        """Leave unless the condition holds, with what was got and what is wanted."""
        level = self.level
        self.count += 1
        tag = self.count
        level.put(f"br i1 {condition}, label %fine{tag}, label %fail{tag}")
        level.label(f"fail{tag}")
        for word, value in (
            (Status.CODE, str(Code.CONSTRAINT_VIOLATED.value)),
            (Status.NODE, str(node)),
            (Status.INDEX, got),
            (Status.EXTENT, wanted),
        ):
            at = self.fresh()
            level.put(f"{at} = getelementptr i64, ptr %status, i64 {word.value}")
            level.put(f"store i64 {value}, ptr {at}, align 8")
        level.put(f"ret i64 {Code.CONSTRAINT_VIOLATED.value}")
        level.label(f"fine{tag}")

    def compared(self, predicate: str, a: str, b: str, *fine: str) -> str:
        """Whether the comparison holds, between values that are ones."""
        condition = self.fresh()
        self.level.put(f"{condition} = icmp {predicate} i64 {a}, {b}")
        for flag in fine:
            if flag != "true":
                both = self.fresh()
                self.level.put(f"{both} = and i1 {condition}, {flag}")
                condition = both
        return condition


def extents_module(slots: Slots) -> str:
    """The module of `i64 extents(ptr extents, ptr status)`: derives slots, checks constraints."""
    level = Level(None, None)
    level.lines.append("define i64 @extents(ptr %extents, ptr %status) nounwind {")
    level.label("entry")
    entry = _Entry(level)
    fresh, demand, compared = entry.fresh, entry.demand, entry.compared
    for position, name in enumerate(slots.free):
        at, value = fresh(), fresh()
        level.put(f"{at} = getelementptr i64, ptr %extents, i64 {position}")
        level.put(f"{value} = load i64, ptr {at}, align 8")
        level.symbols[name] = value
    arithmetic = _CheckedArithmetic(level, fresh)
    for extent, divisor, node in slots.divisible:
        value, fine = arithmetic.checked(extent)
        rest = fresh()
        level.put(f"{rest} = srem i64 {value}, {divisor}")
        demand(compared("eq", rest, "0", fine), node, value, str(divisor))
    for first, second, node in slots.equal:
        (a, fine), (b, also) = arithmetic.checked(first), arithmetic.checked(second)
        demand(compared("eq", a, b, fine, also), node, a, b)
    for extent, node in slots.nonnegative:
        value, fine = arithmetic.checked(extent)
        demand(compared("sge", value, "0", fine), node, value, "0")
    for offset, ((_, extent), limit) in enumerate(zip(slots.derived, slots.limits, strict=True)):
        value, fine = arithmetic.checked(extent)
        if fine != "true":
            demand(fine, limit, "0", "0")
        at = fresh()
        level.put(f"{at} = getelementptr i64, ptr %extents, i64 {len(slots.free) + offset}")
        level.put(f"store i64 {value}, ptr {at}, align 8")
    level.put("ret i64 0")
    level.lines.append("}")
    return _OVERFLOWING + "\n".join(level.lines) + "\n"
