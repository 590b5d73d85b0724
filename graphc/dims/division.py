"""What is a quotient of extents, and what is left?  The rules of floordiv and mod.

Each rule hands its result to the operators again, and an atom is made only where no rule applies:
so normal forms are fixed points, and text can be read back.
"""

from __future__ import annotations

import functools
import math

from graphc.dims.polynomial import (
    CACHED_RESULTS,
    RULES,
    Compound,
    Dim,
    Extent,
    atom_extent,
    compound,
    from_terms,
    terms_of,
)
from graphc.dims.terms import Monomial, divide_monomials, lone_atom, shared_monomial

# Terms of a quotient, at most.
_LARGEST_QUOTIENT = 256


@functools.lru_cache(maxsize=CACHED_RESULTS)
def floordiv(dividend: Extent, divisor: Extent) -> Extent:
    if isinstance(divisor, int):
        if divisor == 0:
            raise ZeroDivisionError(f"division of the extent {dividend} by zero")
        if isinstance(dividend, int):
            return dividend // divisor
        return _floordiv_by_int(dividend, divisor)
    if dividend == 0:
        return 0
    if divisor.terms[0][1] < 0:
        return -dividend // -divisor
    cancelled = _cancel_common_factor(dividend, divisor)
    if cancelled is not None:
        _, x, y = cancelled
        return x // y
    quotient, remainder = _divide_out(dividend, divisor)
    if quotient != 0:
        return quotient + remainder // divisor
    return compound("floordiv", dividend, divisor)


@functools.lru_cache(maxsize=CACHED_RESULTS)
def mod(dividend: Extent, divisor: Extent) -> Extent:
    if isinstance(divisor, int):
        if divisor == 0:
            raise ZeroDivisionError(f"division of the extent {dividend} by zero")
        if isinstance(dividend, int):
            return dividend % divisor
        return _mod_by_int(dividend, divisor)
    if dividend == 0:
        return 0
    if divisor.terms[0][1] < 0:
        return -(-dividend % -divisor)
    cancelled = _cancel_common_factor(dividend, divisor)
    if cancelled is not None:
        factor, x, y = cancelled
        return factor * (x % y)
    quotient, remainder = _divide_out(dividend, divisor)
    if quotient != 0:
        return remainder % divisor
    unwrapped = _drop_inner_mods(dividend, divisor)
    if unwrapped is not None:
        return unwrapped % divisor
    return compound("mod", dividend, divisor)


def _floordiv_by_int(dividend: Dim, divisor: int) -> Extent:
    if divisor < 0:
        return -dividend // -divisor
    quotient, remainder = _split_multiples(dividend, divisor)
    if quotient != 0:
        return quotient + remainder // divisor
    common = math.gcd(divisor, *(c for monomial, c in dividend.terms if monomial))
    if common > 1:
        # x//(g*b) = (x//g)//b for positive g and b, and x//g is exact up to the constant.
        return (dividend // common) // (divisor // common)
    if dividend.terms[0][1] < 0:
        # floor(-x/b) = -ceil(x/b): makes the idiom -(-n//b) equal to ceildiv(n, b).
        return -((-dividend + (divisor - 1)) // divisor)
    inner = [atom for atom in map(_inner_floordiv, dividend.terms) if atom is not None]
    if len(inner) == 1:
        # x//a + r = (x + a*r)//a, then nested division by positive integers merges.
        numerator, inner_divisor = inner[0].arguments
        rest = dividend - atom_extent(inner[0])
        return (numerator + inner_divisor * rest) // (inner_divisor * divisor)
    atom = lone_atom(dividend)
    if isinstance(atom, Compound) and atom.operator == "mod" and isinstance(atom.arguments[1], int):
        numerator, modulus = atom.arguments
        if modulus % divisor == 0:
            return (numerator // divisor) % (modulus // divisor)
    return compound("floordiv", dividend, divisor)


def _inner_floordiv(term: tuple[Monomial, int]) -> Compound | None:
    """The atom of a term that is just x//a with a constant a."""
    monomial, coefficient = term
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    atom = monomial[0][0]
    if isinstance(atom, str) or atom.operator != "floordiv":
        return None
    return atom if isinstance(atom.arguments[1], int) else None


def _mod_by_int(dividend: Dim, divisor: int) -> Extent:
    if divisor < 0:
        return -(-dividend % -divisor)
    quotient, remainder = _split_multiples(dividend, divisor)
    if quotient != 0:
        return remainder % divisor
    common = math.gcd(divisor, *(c for monomial, c in dividend.terms if monomial))
    if common > 1:
        # (g*x + s) % (g*b) = g*(x % b) + s for 0 <= s < g.
        offset = _constant_of(dividend) % common
        return common * ((dividend // common) % (divisor // common)) + offset
    unwrapped = _drop_inner_mods(dividend, divisor)
    if unwrapped is not None:
        return unwrapped % divisor
    return compound("mod", dividend, divisor)


def _constant_of(extent: Dim) -> int:
    monomial, coefficient = extent.terms[-1]
    return 0 if monomial else coefficient


def _split_multiples(dividend: Dim, divisor: int) -> tuple[Extent, Extent]:
    """(q, r) with dividend = q*divisor + r, where q takes the terms that are multiples.

    The constant is divided with remainder.
    """
    quotient = []
    remainder = []
    for monomial, coefficient in dividend.terms:
        whole, rest = divmod(coefficient, divisor)
        if rest == 0:
            quotient.append((monomial, whole))
        elif monomial:
            remainder.append((monomial, coefficient))
        else:
            remainder.append((monomial, rest))
            if whole:
                quotient.append((monomial, whole))
    return from_terms(quotient), from_terms(remainder)


def _drop_inner_mods(dividend: Extent, divisor: Extent) -> Extent | None:
    """`dividend` with c*(x % m) replaced by c*x where c*m is a multiple of `divisor`, or None."""
    for monomial, coefficient in terms_of(dividend):
        for atom, power in monomial:
            if not isinstance(atom, Compound) or atom.operator != "mod" or power != 1:
                continue
            rest = tuple(factor for factor in monomial if factor[0] is not atom)
            outer = from_terms([(rest, coefficient)])
            numerator, modulus = atom.arguments
            if is_multiple(outer * modulus, divisor):
                return dividend + outer * (numerator - atom_extent(atom))
    return None


def is_multiple(extent: Extent, divisor: Extent) -> bool:
    if isinstance(divisor, int):
        return all(coefficient % divisor == 0 for _, coefficient in terms_of(extent))
    return isinstance(extent, Dim) and _exact_quotient(extent, divisor) is not None


def _cancel_common_factor(dividend: Extent, divisor: Dim) -> tuple[Extent, Extent, Extent] | None:
    """(f, x, y) with dividend = f*x and divisor = f*y for the largest single term f, None if f = 1.

    floor(f*x / (f*y)) = floor(x/y) and (f*x) % (f*y) = f*(x % y) for f of either sign.
    """
    terms = (*terms_of(dividend), *divisor.terms)
    content = math.gcd(*(coefficient for _, coefficient in terms))
    shared = shared_monomial(terms)
    if content == 1 and not shared:
        return None
    factor = from_terms([(shared, content)])
    return factor, divide_terms(dividend, shared, content), divide_terms(divisor, shared, content)


def divide_terms(extent: Extent, monomial: Monomial, coefficient: int) -> Extent:
    """`extent` divided by a term that divides each of its terms (which stay sorted)."""
    divided = ((divide_monomials(own, monomial), c // coefficient) for own, c in terms_of(extent))
    return from_terms((quotient, c) for quotient, c in divided if quotient is not None)


def _quotient_of_terms(
    dividend: tuple[Monomial, int], divisor: tuple[Monomial, int]
) -> Extent | None:
    """The exact quotient of two terms, None if there is none."""
    whole, rest = divmod(dividend[1], divisor[1])
    if rest:
        return None
    monomial = divide_monomials(dividend[0], divisor[0])
    return None if monomial is None else from_terms([(monomial, whole)])


def _exact_quotient(dividend: Dim, divisor: Dim) -> Extent | None:
    """q with dividend = q*divisor as polynomials; None if there is none of moderate length."""
    quotient: Extent = 0
    remainder: Extent = dividend
    for _ in range(_LARGEST_QUOTIENT):
        if isinstance(remainder, int):
            break
        piece = _quotient_of_terms(remainder.terms[0], divisor.terms[0])
        if piece is None:
            return None
        quotient = quotient + piece
        remainder = remainder - piece * divisor
    return quotient if remainder == 0 else None


def _divide_out(dividend: Extent, divisor: Dim) -> tuple[Extent, Extent]:
    """(q, r) with dividend = q*divisor + r: exact, else every step leaves fewer terms."""
    if isinstance(dividend, int):
        return 0, dividend
    exact = _exact_quotient(dividend, divisor)
    if exact is not None:
        return exact, 0
    quotient: Extent = 0
    remainder: Extent = dividend
    while True:
        for term in terms_of(remainder):
            piece = _quotient_of_terms(term, divisor.terms[0])
            if piece is None:
                continue
            candidate = remainder - piece * divisor
            if len(terms_of(candidate)) < len(terms_of(remainder)):
                quotient, remainder = quotient + piece, candidate
                break
        else:
            return quotient, remainder


RULES.update(floordiv=floordiv, mod=mod)
