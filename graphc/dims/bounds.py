"""What follows for an extent from the ranges of its symbols?

`Bounds` knows the ranges and answers three questions: between which constants an extent lies,
whether it is proved to be nonnegative, and what simpler extent has the same value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from graphc.dims.choice import keep_deciding
from graphc.dims.division import divide_terms, is_multiple
from graphc.dims.polynomial import (
    CACHED_RESULTS,
    FUNCTIONS,
    Compound,
    Dim,
    Extent,
    atom_extent,
    from_sums,
    from_terms,
    raised,
    require_extent,
    terms_of,
)
from graphc.dims.terms import (
    CONSTANT,
    INFIX,
    Atom,
    Monomial,
    atom_key,
    common_monomial,
    divide_monomials,
    lone_atom,
    shared_monomial,
    term_key,
)

Limit: TypeAlias = "int | Dim | None"

_PROOF_STEPS = 48
_SIMPLIFY_ROUNDS = 8

# Finite ends are exact integers; infinite ends are floats here and None in public answers.

_INFINITY = math.inf
_Range: TypeAlias = "tuple[int | float, int | float]"
_EVERYTHING: _Range = (-_INFINITY, _INFINITY)


def _is_infinite(end: int | float) -> bool:
    return type(end) is float


def _multiply_ends(left: int | float, right: int | float) -> int | float:
    if left == 0 or right == 0:
        return 0
    if _is_infinite(left) or _is_infinite(right):
        return _INFINITY if (left > 0) == (right > 0) else -_INFINITY
    return left * right


def _add_ends(left: int | float, right: int | float) -> int | float:
    if _is_infinite(left):
        return left
    return right if _is_infinite(right) else left + right


def _multiply_ranges(left: _Range, right: _Range) -> _Range:
    ends = [_multiply_ends(a, b) for a in left for b in right]
    return min(ends), max(ends)


def _raise_range(base: _Range, power: int) -> _Range:
    result = base
    for _ in range(power - 1):
        result = _multiply_ranges(result, base)
    if power % 2 == 0 and base[0] < 0:
        return max(0, result[0]), result[1]
    return result


def _divide_end(end: int | float, divisor: int | float) -> int | float:
    """floor(end / divisor) for a divisor >= 1, possibly infinite."""
    if _is_infinite(end):
        # For inf/inf any sound value will do: the caller tries a finite divisor too.
        return end if not _is_infinite(divisor) else (0 if end > 0 else -1)
    if _is_infinite(divisor):
        return 0 if end >= 0 else -1
    return end // divisor


def _floordiv_range(dividend: _Range, divisor: _Range) -> _Range:
    if divisor[0] < 0:
        return _EVERYTHING
    # A divisor is never 0, and for those >= 1 the quotient is monotone in either argument.
    divisors = (max(1, divisor[0]), max(1, divisor[1]))
    return (
        min(_divide_end(dividend[0], d) for d in divisors),
        max(_divide_end(dividend[1], d) for d in divisors),
    )


def _mod_range(dividend: _Range, divisor: _Range) -> _Range:
    if divisor[0] < 0:
        return _EVERYTHING
    low, high = dividend
    if divisor[0] == divisor[1] and not _is_infinite(low) and not _is_infinite(high):
        modulus = divisor[0]
        if modulus > 0 and low // modulus == high // modulus:
            return low % modulus, high % modulus
    top = divisor[1] if _is_infinite(divisor[1]) else divisor[1] - 1
    return 0, max(0, min(top, high) if low >= 0 else top)


def _min_range(*ranges: _Range) -> _Range:
    return min(low for low, _ in ranges), min(high for _, high in ranges)


def _max_range(*ranges: _Range) -> _Range:
    return max(low for low, _ in ranges), max(high for _, high in ranges)


_RANGES: dict[str, Callable[..., _Range]] = {
    "floordiv": _floordiv_range,
    "mod": _mod_range,
    "min": _min_range,
    "max": _max_range,
}


class Bounds:
    """What is known about symbols, and what follows from it; remembers answers, so keep it.

    `ranges` maps a name to (low, high), both inclusive, each an int, a Dim in other symbols, or
    None for no limit. A symbol that is absent is the extent of an array: at least 0, without upper
    limit. Nothing is claimed about values outside the ranges.

    Raises ValueError if limits refer to each other in a circle, TypeError if one is not an extent.
    Not for use by several threads at once.
    """

    def __init__(self, ranges: Mapping[str, tuple[Limit, Limit]]) -> None:
        self._limits: dict[str, tuple[Limit, Limit]] = {
            name: (_require_limit(low), _require_limit(high))
            for name, (low, high) in ranges.items()
        }
        self._ranks: dict[str, int] = {}
        for name in self._limits:
            self._rank_symbol(name, ())
        self._fixed = {
            name: low
            for name, (low, high) in self._limits.items()
            if low is not None and low == high
        }
        self._range_of_symbol: dict[str, _Range] = {}
        self._proved: set[Extent] = set()
        self._unproved: set[Extent] = set()
        self._tried: set[Extent] = set()
        self._steps = 0
        self.total_steps = 0  # extents that were looked at for all questions so far
        self._simplified: dict[Extent, Extent] = {}

    # Elimination order: a symbol ranks above everything that its limits mention.

    def _rank_symbol(self, name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(
                f"the bounds of {', '.join(map(repr, above))} refer to each other in a circle"
            )
        if name not in self._limits:
            return 0
        rank = self._ranks.get(name)
        if rank is None:
            mentioned = {
                atom
                for limit in self._limits[name]
                if isinstance(limit, Dim)
                for monomial, _ in limit.terms
                for atom, _ in monomial
            }
            rank = 1 + max((self._rank(atom, (*above, name)) for atom in mentioned), default=0)
            self._ranks[name] = rank
        return rank

    def _rank(self, atom: Atom, above: tuple[str, ...] = ()) -> int:
        if isinstance(atom, str):
            return self._rank_symbol(atom, above)
        return 1 + max(
            (self._rank_symbol(name, above) for name in atom.symbols),
            default=0,
        )

    # Ranges

    def interval(self, extent: Extent) -> tuple[int | None, int | None]:
        """Constants low <= extent <= high, None where none is known; not always the narrowest."""
        low, high = self._range(require_extent(extent))
        return (
            None if _is_infinite(low) else int(low),
            None if _is_infinite(high) else int(high),
        )

    def _range(self, extent: Extent) -> _Range:
        if isinstance(extent, int):
            return extent, extent
        low: int | float = 0
        high: int | float = 0
        for monomial, coefficient in extent.terms:
            term: _Range = (coefficient, coefficient)
            for atom, power in monomial:
                term = _multiply_ranges(term, _raise_range(self._atom_range(atom), power))
            low = _add_ends(low, term[0])
            high = _add_ends(high, term[1])
        return low, high

    def _atom_range(self, atom: Atom) -> _Range:
        if isinstance(atom, Compound):
            return _RANGES[atom.operator](*map(self._range, atom.arguments))
        known = self._range_of_symbol.get(atom)
        if known is None:
            low, high = self._limits.get(atom, (0, None))
            known = (
                -_INFINITY if low is None else self._range(low)[0],
                _INFINITY if high is None else self._range(high)[1],
            )
            self._range_of_symbol[atom] = known
        return known

    # Proofs

    def proves_nonnegative(self, extent: Extent) -> bool:
        """True only if extent >= 0 for all values within the bounds; False means "not proved"."""
        extent = require_extent(extent)
        if isinstance(extent, int):
            return extent >= 0
        if extent in self._unproved:
            return False
        self._steps = 0
        self._tried.clear()
        if self._prove(extent):
            return True
        self._unproved.add(extent)
        return False

    def _prove(self, extent: Extent) -> bool:
        """By interval, by a common factor, or with an atom replaced by one of its limits.

        Replacing is sound point by point: where c >= 0 and atom >= low,
        c*atom + rest >= c*low + rest.
        """
        if isinstance(extent, int):
            return extent >= 0
        if extent in self._proved:
            return True
        if extent in self._tried or self._steps >= _PROOF_STEPS:
            return False
        self._steps += 1
        self.total_steps += 1
        self._tried.add(extent)
        if (
            self._range(extent)[0] >= 0
            or self._prove_by_factors(extent)
            or self._prove_by_elimination(extent)
        ):
            self._proved.add(extent)
            return True
        return False

    def _prove_by_factors(self, extent: Dim) -> bool:
        shared = shared_monomial(extent.terms)
        if not shared or len(extent.terms) == 1:
            return False
        return all(
            power % 2 == 0 or self._prove(atom_extent(atom)) for atom, power in shared
        ) and self._prove(divide_terms(extent, shared, 1))

    def _prove_by_elimination(self, extent: Dim) -> bool:
        """With one atom after the other replaced by a limit, those first whose limits mention most.

        A sum of multiples of symbols is least where the symbol of highest rank is at its limit,
        whatever the others are: no other order can prove more, so no other is tried.
        """
        if _is_sum_of_symbols(extent):
            highest = max(
                (monomial[0][0] for monomial, _ in extent.terms if monomial), key=self._rank
            )
            return self._rank(highest) > 0 and self._prove_without(extent, highest)
        atoms = {atom for monomial, _ in extent.terms for atom, _ in monomial}
        ordered = sorted(
            atoms,
            key=lambda atom: (-self._rank(atom), atom_key(atom)),
        )
        return any(
            self._prove_without(extent, atom)
            for atom in ordered
            if not any(
                isinstance(other, Compound) and other != atom and _occurs(atom, other)
                for other in atoms
            )
        )

    def _prove_without(self, extent: Dim, atom: Atom) -> bool:
        slopes, rest = _collect_powers(extent, atom)
        if self._prove_case_by_case(atom, slopes, rest):
            return True
        rising = all(self._prove(slope) for slope in slopes.values())
        falling = not rising and all(self._prove(-slope) for slope in slopes.values())
        if not rising and not falling:
            return False
        linear = list(slopes) == [1]
        if linear and self._prove_scaled(atom, slopes[1], rest, rising):
            return True
        # Higher powers are monotone only where the atom, or the limit below it, is nonnegative.
        if not linear and not self._prove(atom_extent(atom)):
            return False
        return any(
            self._prove(rest + sum(slope * raised(limit, power) for power, slope in slopes.items()))
            for limit in self._limits_of(atom, lower=rising)
            if linear or self._prove(limit)
        )

    def _limits_of(self, atom: Atom, lower: bool) -> Iterator[Extent]:
        """Extents that are at most (`lower`) or at least as large as the atom."""
        if isinstance(atom, str):
            limit = self._limits.get(atom, (0, None))[0 if lower else 1]
            if limit is not None:
                yield limit
            return
        if atom.operator == ("max" if lower else "min"):
            yield from atom.arguments
        if atom.operator not in INFIX:
            return
        dividend, divisor = atom.arguments
        if not self._prove(divisor):
            return
        if atom.operator == "mod":
            yield 0 if lower else divisor - 1
        if self._prove(dividend):
            yield 0 if lower else dividend

    def _prove_case_by_case(self, atom: Atom, slopes: dict[int, Extent], rest: Extent) -> bool:
        """min and max are always one of their arguments."""
        if isinstance(atom, str) or atom.operator in INFIX:
            return False
        return all(
            self._prove(
                rest + sum(slope * raised(argument, power) for power, slope in slopes.items())
            )
            for argument in atom.arguments
        )

    def _prove_scaled(self, atom: Atom, slope: Extent, rest: Extent, rising: bool) -> bool:
        """slope*(x//b) + rest >= 0 for b >= 1, from x - b + 1 <= b*(x//b) <= x.

        An integer is >= 0 where b times it is > -b.
        """
        if isinstance(atom, str) or atom.operator != "floordiv":
            return False
        dividend, divisor = atom.arguments
        if not self._prove(divisor):
            return False
        nearest = dividend - divisor + 1 if rising else dividend
        return self._prove(slope * nearest + divisor * rest + divisor - 1)

    # Simplification

    def simplify(self, extent: Extent) -> Extent:
        """An extent with the same value wherever the bounds hold and `extent` is defined."""
        extent = require_extent(extent)
        if isinstance(extent, int):
            return extent
        known = self._simplified.get(extent)
        if known is not None:
            return known
        result: Extent = extent
        for _ in range(_SIMPLIFY_ROUNDS):
            before = result
            result = self._recombine(self._simplify_once(before))
            if result == before:
                break
        self._simplified[extent] = result
        return result

    def _simplify_once(self, extent: Extent) -> Extent:
        if isinstance(extent, int):
            return extent
        replaced: dict[Atom, Extent] = {}
        for monomial, _ in extent.terms:
            for atom, _ in monomial:
                if atom in replaced:
                    continue
                if isinstance(atom, str):
                    if atom in self._fixed:
                        replaced[atom] = self._fixed[atom]
                    continue
                better = self._simplify_compound(atom)
                if lone_atom(better) != atom:
                    replaced[atom] = better
        return _replace_atoms(extent, replaced) if replaced else extent

    def _simplify_compound(self, atom: Compound) -> Extent:
        arguments = tuple(map(self.simplify, atom.arguments))
        try:
            value = FUNCTIONS[atom.operator](*arguments)
        except ZeroDivisionError:
            # Nothing is computed yet: the division fails where, and if, it is evaluated.
            return atom_extent(atom)
        rebuilt = lone_atom(value)
        if not isinstance(rebuilt, Compound):
            return value
        if rebuilt.operator not in INFIX:
            return self._simplify_choice(rebuilt)
        better = self._simplify_division(rebuilt)
        return value if better is None else better

    def _at_most(self, left: Extent, right: Extent) -> bool:
        return self.proves_nonnegative(right - left)

    def _simplify_choice(self, atom: Compound) -> Extent:
        kept: list[Extent] = []
        for candidate in atom.arguments:
            kept = keep_deciding(atom.operator, kept, candidate, self._at_most)
        return FUNCTIONS[atom.operator](*kept)

    def _simplify_division(self, atom: Compound) -> Extent | None:
        """x//b or x % b for b provably >= 0, so >= 1 where it has a value; None if no rule fits."""
        dividend, divisor = atom.arguments
        if not self.proves_nonnegative(divisor):
            return None
        quotient = self._known_quotient(dividend, divisor)
        if quotient is not None:
            return quotient if atom.operator == "floordiv" else dividend - quotient * divisor
        for factor, whole, low in _tilings(dividend, divisor):
            if self.proves_nonnegative(low) and self.proves_nonnegative(factor - 1 - low):
                # (f*x + r)//(f*b) = x//b and (f*x + r) % (f*b) = f*(x % b) + r for 0 <= r < f.
                outer = divisor // factor
                if atom.operator == "floordiv":
                    return whole // outer
                return factor * (whole % outer) + low
        inner = lone_atom(dividend)
        if atom.operator == "mod" or not isinstance(inner, Compound):
            return None
        return self._merge_nested(inner, divisor)

    def _known_quotient(self, dividend: Extent, divisor: Extent) -> int | None:
        low, high = _floordiv_range(self._range(dividend), self._range(divisor))
        if low == high:
            return int(low)
        if self.proves_nonnegative(dividend):
            return 0 if self.proves_nonnegative(divisor - 1 - dividend) else None
        if self.proves_nonnegative(-1 - dividend) and (
            self.proves_nonnegative(dividend + 1) or self.proves_nonnegative(dividend + divisor)
        ):
            return -1
        return None

    def _merge_nested(self, inner: Compound, divisor: Extent) -> Extent | None:
        """(x//a)//b = x//(a*b) and (x % (a*b))//b = (x//b) % a for a, b >= 1."""
        if inner.operator not in INFIX:
            return None
        dividend, inner_divisor = inner.arguments
        if not self.proves_nonnegative(inner_divisor):
            return None
        if inner.operator == "floordiv":
            return dividend // (inner_divisor * divisor)
        if not is_multiple(inner_divisor, divisor):
            return None
        return (dividend // divisor) % (inner_divisor // divisor)

    def _recombine(self, extent: Extent) -> Extent:
        """Uses x % b = x - b*(x//b) where that leaves fewer compounds: (k//n)*n + k % n = k."""
        for monomial, coefficient in terms_of(extent):
            for atom, power in monomial:
                if not isinstance(atom, Compound) or atom.operator != "mod" or power != 1:
                    continue
                dividend, divisor = atom.arguments
                rest = tuple(factor for factor in monomial if factor[0] is not atom)
                quotient = self._simplify_once(dividend // divisor)
                change = dividend - divisor * quotient - atom_extent(atom)
                candidate = extent + from_terms([(rest, coefficient)]) * change
                if _count_compound_terms(candidate) < _count_compound_terms(extent):
                    return self._recombine(candidate)
        return extent


@functools.lru_cache(maxsize=CACHED_RESULTS)
def joined(extent: Extent) -> Extent:
    """An extent in which quotients and remainders that belong together are one again.

    >>> k = dim("k")
    >>> joined(k // 12 * 12 + k // 4 % 3 * 4 + k % 4)
    k
    """
    return Bounds({})._recombine(extent)


def _require_limit(limit: object) -> Limit:
    return None if limit is None else require_extent(limit)


def _occurs(atom: Atom, inside: Compound) -> bool:
    if isinstance(atom, str):
        return atom in inside.symbols
    return any(
        other == atom or (isinstance(other, Compound) and _occurs(atom, other))
        for argument in inside.arguments
        for monomial, _ in terms_of(argument)
        for other, _ in monomial
    )


def _is_sum_of_symbols(extent: Dim) -> bool:
    """Whether every term is a number or a number times a symbol."""
    return all(
        not monomial or (len(monomial) == 1 and monomial[0][1] == 1 and type(monomial[0][0]) is str)
        for monomial, _ in extent.terms
    )


def _collect_powers(extent: Dim, atom: Atom) -> tuple[dict[int, Extent], Extent]:
    """({power: coefficient}, rest) of the polynomial in `atom`, taken as a variable of its own."""
    groups: dict[int, list[tuple[Monomial, int]]] = {}
    for monomial, coefficient in extent.terms:
        power = next((power for own, power in monomial if own == atom), 0)
        rest = tuple(factor for factor in monomial if factor[0] != atom)
        groups.setdefault(power, []).append((rest, coefficient))
    # Dropping a common factor keeps the terms in order.
    rest_terms = from_terms(groups.pop(0, []))
    return {power: from_terms(terms) for power, terms in groups.items()}, rest_terms


def _replace_atoms(extent: Dim, replaced: Mapping[Atom, Extent]) -> Extent:
    total: Extent = 0
    for monomial, coefficient in extent.terms:
        kept = tuple(factor for factor in monomial if factor[0] not in replaced)
        term = from_terms([(kept, coefficient)])
        for atom, power in monomial:
            if atom in replaced:
                term = term * raised(replaced[atom], power)
        total = total + term
    return total


def _count_compound_terms(extent: Extent) -> int:
    return sum(
        any(isinstance(atom, Compound) for atom, _ in monomial) for monomial, _ in terms_of(extent)
    )


def _tilings(dividend: Extent, divisor: Extent) -> Iterator[tuple[Extent, Extent, Extent]]:
    """(f, x, r) with dividend = f*x + r, for f dividing `divisor` and a term of `dividend`."""
    divisor_terms = terms_of(divisor)
    if len(divisor_terms) != 1:
        return
    divisor_monomial, divisor_coefficient = divisor_terms[0]
    factors = {
        (common_monomial(monomial, divisor_monomial), math.gcd(coefficient, divisor_coefficient))
        for monomial, coefficient in terms_of(dividend)
    }
    for factor in sorted(factors, key=lambda term: (term_key(term), -term[1])):
        if factor == (CONSTANT, 1) or factor == divisor_terms[0]:
            continue
        whole, rest = _split_by_term(dividend, factor)
        if whole != 0:
            yield from_terms([factor]), whole, rest


def _split_by_term(extent: Extent, factor: tuple[Monomial, int]) -> tuple[Extent, Extent]:
    """(x, r) with extent = factor*x + r, every term that is a multiple in x."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in terms_of(extent):
        divided = divide_monomials(monomial, factor[0])
        if divided is None:
            rest[monomial] = coefficient
            continue
        quotient, remainder = divmod(coefficient, factor[1])
        # A constant is split so that the remainder stays small; other terms go where they divide.
        if remainder and monomial:
            rest[monomial] = coefficient
            continue
        whole[divided] = quotient
        if remainder:
            rest[monomial] = remainder
    return from_sums(whole), from_sums(rest)


def _as_bounds(bounds: Bounds | Mapping[str, tuple[Limit, Limit]]) -> Bounds:
    return bounds if isinstance(bounds, Bounds) else Bounds(bounds)


def simplify(extent: Extent, bounds: Bounds | Mapping[str, tuple[Limit, Limit]]) -> Extent:
    """`extent` simplified for symbols within (low, high), both inclusive; see `Bounds`.

    The result has the same value wherever the bounds hold and `extent` is defined. A symbol without
    bounds is the extent of an array, at least 0; give (None, None) for one that may be negative.

    >>> i, j, n = dim("i"), dim("j"), dim("n")
    >>> simplify((i*n + j)//n, {"i": (0, 9), "j": (0, n - 1)})
    i
    """
    if isinstance(extent, int):
        return extent
    return _as_bounds(bounds).simplify(extent)


def proves_nonnegative(extent: Extent, bounds: Bounds | Mapping[str, tuple[Limit, Limit]]) -> bool:
    """True only if extent >= 0 for all values within the bounds; False means "not proved"."""
    return _as_bounds(bounds).proves_nonnegative(extent)


def interval(
    extent: Extent, bounds: Bounds | Mapping[str, tuple[Limit, Limit]]
) -> tuple[int | None, int | None]:
    """Constants low <= extent <= high within the bounds, None where none is known."""
    return _as_bounds(bounds).interval(extent)
