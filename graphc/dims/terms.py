"""What are the terms of an extent?  Monomials of atoms, their order, and the text of both.

These are tuples; what is made of them, and what may be done with it, is `polynomial`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from graphc.dims.polynomial import Compound, Extent

Atom: TypeAlias = "str | Compound"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
Terms: TypeAlias = "tuple[tuple[Monomial, int], ...]"

CONSTANT: Monomial = ()
# Operators that are written between their arguments.
INFIX = {"floordiv": "//", "mod": " % "}


def atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else atom.key


def symbols_of_atom(atom: Atom) -> frozenset[str]:
    """Names of all symbols in an atom."""
    return frozenset((atom,)) if isinstance(atom, str) else atom.symbols


def lone_atom(extent: Extent) -> Atom | None:
    """The atom that `extent` is, if it is nothing more."""
    if isinstance(extent, int) or len(extent.terms) != 1:
        return None
    monomial, coefficient = extent.terms[0]
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    return monomial[0][0]


def _factor_key(factor: tuple[Atom, int]) -> str:
    atom = factor[0]
    return atom if isinstance(atom, str) else atom.key


def term_key(term: tuple[Monomial, int]) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Graded lexicographic order.

    It is a monomial order (the leading term of a product is the product of the leading terms),
    which polynomial division relies on; see Cox, Little, O'Shea, "Ideals, Varieties, and
    Algorithms", 2.2.
    """
    degree = 0
    keys = []
    for atom, power in term[0]:
        degree -= power
        keys.append((atom if isinstance(atom, str) else atom.key, -power))
    return degree, tuple(keys)


def multiply_monomials(left: Monomial, right: Monomial) -> Monomial:
    if not left:
        return right
    if not right:
        return left
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=_factor_key))


def shared_monomial(terms: Terms) -> Monomial:
    """The largest monomial that divides every term."""
    return functools.reduce(common_monomial, (monomial for monomial, _ in terms))


def common_monomial(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(right)
    return tuple((atom, min(power, powers[atom])) for atom, power in left if atom in powers)


def divide_monomials(dividend: Monomial, divisor: Monomial) -> Monomial | None:
    if not divisor:
        return dividend
    powers = dict(dividend)
    for atom, power in divisor:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        if left:
            powers[atom] = left
        else:
            del powers[atom]
    return tuple(powers.items())


# Text


def operand_text(extent: Extent) -> str:
    """Text of one side of // or %."""
    text = str(extent)
    if isinstance(extent, int):
        return text if extent >= 0 else f"({text})"
    atom = lone_atom(extent)
    plain = atom is not None and (isinstance(atom, str) or atom.operator not in INFIX)
    return text if plain else f"({text})"


def _factor_text(atom: Atom, power: int) -> str:
    text = _atom_text(atom)
    if not isinstance(atom, str) and atom.operator in INFIX:
        text = f"({text})"
    return text if power == 1 else f"{text}**{power}"


def _term_text(monomial: Monomial, magnitude: int, negated: bool) -> str:
    if magnitude == 1 and len(monomial) == 1 and monomial[0][1] == 1 and not negated:
        return _atom_text(monomial[0][0])
    factors = [_factor_text(atom, power) for atom, power in monomial]
    if magnitude != 1 or not factors:
        factors.insert(0, str(magnitude))
    return "*".join(factors)


def sum_text(terms: Terms) -> str:
    # Only a leading minus binds tighter than // and %: only there a lone n//2 needs parentheses.
    monomial, coefficient = terms[0]
    pieces = ["-"] if coefficient < 0 else []
    pieces.append(_term_text(monomial, abs(coefficient), coefficient < 0))
    for monomial, coefficient in terms[1:]:
        pieces.append(" - " if coefficient < 0 else " + ")
        pieces.append(_term_text(monomial, abs(coefficient), False))
    return "".join(pieces)


def _atom_text(atom: Atom) -> str:
    return atom if isinstance(atom, str) else atom.text
