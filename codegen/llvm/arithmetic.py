"""How is an extent written as LLVM integer arithmetic? A polynomial becomes multiplications and
additions of i64.

The same text serves one value and a vector of lanes. Division rounds down, as Python's does; by a
known power of two it is a shift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.dims import Compound, Dim, Extent

# Extents of at least this many terms are written as the one before and what is different.
LONG_SUM = 4


class Arithmetic:
    """Writes an extent as integer arithmetic of one type, scalar or vector."""

    def __init__(
        self,
        level: Any,
        fresh: Callable[[], str],
        typed: str,
        literal: Callable[[int], str],
        name_of: Callable[[str], str],
    ) -> None:
        self.level = level
        self.fresh = fresh
        self.typed = typed
        self.literal = literal
        self.name_of = name_of

    def op(self, opcode: str, a: str, b: str) -> str:
        result = self.fresh()
        self.level.put(f"{result} = {opcode} {self.typed} {a}, {b}")
        return result

    def extent(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return self.literal(extent)
        total: str | None = None
        for monomial, coefficient in extent.terms:
            factors = [self.atom(atom) for atom, power in monomial for _ in range(power)]
            if not factors:
                term = self.literal(coefficient)
            else:
                term = factors[0]
                for factor in factors[1:]:
                    term = self.op("mul", term, factor)
                if coefficient != 1:
                    term = self.op("mul", term, self.literal(coefficient))
            total = term if total is None else self.op("add", total, term)
        assert total is not None
        return total

    def following(self, extent: Dim, latest: tuple[Dim, str] | None) -> tuple[Dim, str]:
        """A long sum and its value, from the last one and what is different if that is less: the
        offsets of the parts of an array follow one from another.
        """
        if latest is not None:
            change = extent - latest[0]
            if isinstance(change, int) or 2 * len(change.terms) <= len(extent.terms):
                return extent, self.op("add", latest[1], self.extent(change))
        return extent, self.extent(extent)

    def atom(self, atom: str | Compound) -> str:
        if isinstance(atom, str):
            return self.name_of(atom)
        first, *others = atom.arguments
        a = self.extent(first)
        for other in others:
            if isinstance(other, int) and other > 0 and atom.operator in ("floordiv", "mod"):
                a = self.divide_by(atom.operator, a, other)
            else:
                a = self.compound(atom.operator, a, self.extent(other))
        return a

    def divide_by(self, operator: str, a: str, divisor: int) -> str:
        """Division by a known positive number: a shift or a mask for a power of two, which round
        down already.
        """
        if divisor & (divisor - 1) == 0:
            if operator == "mod":
                return self.op("and", a, self.literal(divisor - 1))
            return self.op("ashr", a, self.literal(divisor.bit_length() - 1))
        return self.rounded_down(operator, a, self.literal(divisor))

    def compound(self, operator: str, a: str, b: str) -> str:
        if operator in ("min", "max"):
            condition, result = self.fresh(), self.fresh()
            flags = self.typed.replace("i64", "i1")
            predicate = "slt" if operator == "min" else "sgt"
            self.level.put(f"{condition} = icmp {predicate} {self.typed} {a}, {b}")
            self.level.put(
                f"{result} = select {flags} {condition}, {self.typed} {a}, {self.typed} {b}"
            )
            return result
        return self.floor_division(operator, a, b)

    def floor_division(self, operator: str, a: str, b: str) -> str:
        """Python's // and %; a divisor of 0, which only an empty array has, counts as 1."""
        flags = self.typed.replace("i64", "i1")
        none, divisor = self.fresh(), self.fresh()
        self.level.put(f"{none} = icmp eq {self.typed} {b}, {self.literal(0)}")
        self.level.put(
            f"{divisor} = select {flags} {none}, {self.typed} {self.literal(1)}, {self.typed} {b}"
        )
        return self.rounded_down(operator, a, divisor)

    def rounded_down(self, operator: str, a: str, divisor: str) -> str:
        """// or % by a divisor that is not 0, corrected where LLVM's division truncates upwards."""
        flags, zero = self.typed.replace("i64", "i1"), self.literal(0)
        remainder = self.op("srem", a, divisor)
        nonzero, mixed, both = self.fresh(), self.fresh(), self.fresh()
        self.level.put(f"{nonzero} = icmp ne {self.typed} {remainder}, {zero}")
        signs = self.op("xor", remainder, divisor)
        self.level.put(f"{mixed} = icmp slt {self.typed} {signs}, {zero}")
        self.level.put(f"{both} = and {flags} {nonzero}, {mixed}")
        fix = self.fresh()
        if operator == "mod":
            self.level.put(
                f"{fix} = select {flags} {both}, {self.typed} {divisor}, {self.typed} {zero}"
            )
            return self.op("add", remainder, fix)
        quotient = self.op("sdiv", a, divisor)
        self.level.put(f"{fix} = sext {flags} {both} to {self.typed}")
        return self.op("add", quotient, fix)
