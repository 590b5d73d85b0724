"""What is an extent?  A polynomial whose operators apply what holds for all integers.

A `Dim` keeps its terms sorted, so equality of extents is equality of tuples. Sums and products need
no thought; the rules of floordiv, mod, min and max make most of the file.
"""

from __future__ import annotations

import functools
import keyword
import math
import operator
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, final

from graphc import tracing
from graphc.tensor import TensorMethods

Atom: TypeAlias = "str | Compound"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
Terms: TypeAlias = "tuple[tuple[Monomial, int], ...]"

CONSTANT: Monomial = ()
CACHED_RESULTS = 1 << 14
LARGEST_POWER = 64
_LARGEST_QUOTIENT = 256


@final
class Compound:
    """An atom other than a symbol: `operator` ("floordiv", "mod", "min", "max") of `arguments`.

    Made by the operators of `Dim` only: they are what keeps arguments in normal form.
    """

    __slots__ = ("_hash", "_symbols", "arguments", "key", "operator", "text")

    key: str
    operator: str
    arguments: tuple[Extent, ...]
    text: str
    _hash: int
    _symbols: frozenset[str]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"extents are immutable: cannot set {name!r}")

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols inside."""
        return self._symbols

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Compound)
            and self._hash == other._hash
            and self.operator == other.operator
            and self.arguments == other.arguments
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_compound, (self.operator, self.arguments)

    def __repr__(self) -> str:
        return self.text


@final
class Dim:
    """A non-constant extent: immutable, hashable, compared by structure.

    `terms` is the normal form: pairs (monomial, coefficient), coefficients not 0, in graded
    lexicographic order with the constant last. A monomial is a tuple of (atom, power), symbols
    first, each kind sorted by text. Orders depend on text only, never on hashes. Operations whose
    result is constant return a plain `int`. Instances come from `dim` and arithmetic.
    """

    __slots__ = ("_hash", "_symbols", "_text", "terms")

    terms: Terms
    _hash: int
    _text: str | None
    _symbols: frozenset[str] | None

    def __new__(cls, *arguments: object) -> Dim:
        raise TypeError('a Dim is made by dim("name") and arithmetic, not by calling Dim')

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"extents are immutable: cannot set {name!r}")

    @staticmethod
    def symbol(name: str) -> Dim:
        """The extent named `name`; ValueError unless `name` is an identifier and no keyword."""
        return dim(name)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols, those inside floordiv, mod, min and max included."""
        found = self._symbols
        if found is None:
            found = frozenset().union(
                *(
                    (atom,) if isinstance(atom, str) else atom.symbols
                    for monomial, _ in self.terms
                    for atom, _ in monomial
                )
            )
            _set_dim_symbols(self, found)
        return found

    # Identity and text

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, Dim):
            if self._hash == other._hash and self.terms == other.terms:
                return True
        elif not isinstance(other, int):
            return NotImplemented  # foreign types may have their own idea
        # Written differently: unequal, constants not being Dims, unless a trace knows the sizes.
        return tracing.decide(self, "==", other, users_only=True) or False

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_dim, (self.terms,)

    def __repr__(self) -> str:
        text = self._text
        if text is None:
            text = _sum_text(self.terms)
            _set_dim_text(self, text)
        return text

    __str__ = __repr__

    # Arithmetic

    def __add__(self, other: Extent) -> Extent:
        if type(other) is not int and type(other) is not Dim:
            given, other = other, _extent(other)
            if other is NotImplemented:
                return _inexact(self, given, operator.add)
        if isinstance(other, Dim):
            return _add(self, other)
        return _add_constant(self, other)

    __radd__ = __add__

    def __sub__(self, other: Extent) -> Extent:
        given, other = other, _extent(other)
        if other is NotImplemented:
            return _inexact(self, given, operator.sub)
        return self + -other

    def __rsub__(self, other: Extent) -> Extent:
        return -self + other

    def __neg__(self) -> Dim:
        return _scale(self, -1)

    def __pos__(self) -> Dim:
        return self

    def __mul__(self, other: Extent) -> Extent:
        if type(other) is not int and type(other) is not Dim:
            given, other = other, _extent(other)
            if other is NotImplemented:
                return _inexact(self, given, operator.mul)
        if isinstance(other, Dim):
            return _multiply(self, other)
        return _scale(self, other) if other else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else _floordiv(self, other)

    def __rfloordiv__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else _floordiv(other, self)

    def __mod__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else _mod(self, other)

    def __rmod__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else _mod(other, self)

    def __divmod__(self, other: Extent) -> tuple[Extent, Extent]:
        return self // other, self % other

    def __rdivmod__(self, other: Extent) -> tuple[Extent, Extent]:
        return other // self, other % self

    def __pow__(self, exponent: int) -> Extent:
        """`self ** exponent` for 0 <= exponent <= 64; ValueError otherwise."""
        try:
            exponent = operator.index(exponent)
        except TypeError:
            return _inexact(self, exponent, operator.pow)
        if not 0 <= exponent <= LARGEST_POWER:
            raise ValueError(
                f"the power of an extent must lie between 0 and {LARGEST_POWER}, not {exponent}"
            )
        result: Extent = 1
        for _ in range(exponent):
            result = self * result
        return result

    def __truediv__(self, other: Extent) -> Any:
        return _inexact(self, other, operator.truediv)

    def __rtruediv__(self, other: Extent) -> Any:
        return _inexact(self, other, lambda right, left: left / right)

    # What has no answer before the sizes are known, or while a function is traced for a call

    def _compare(self, relation: str, other: object) -> bool:
        if _extent(other) is NotImplemented:
            return NotImplemented
        answer = tracing.decide(self, relation, other)
        if answer is not None:
            return answer
        raise TypeError(
            f"whether {self} is smaller or larger than {other} is unknown until run time: use "
            "dim_min or dim_max for the value, proves_nonnegative(difference, bounds) for a proof, "
            "or evaluate({name: int}) for given sizes"
        )

    def __lt__(self, other: object) -> bool:
        return self._compare("<", other)

    def __le__(self, other: object) -> bool:
        return self._compare("<=", other)

    def __gt__(self, other: object) -> bool:
        return self._compare(">", other)

    def __ge__(self, other: object) -> bool:
        return self._compare(">=", other)

    def __bool__(self) -> bool:
        answer = tracing.decide(self, "!=", 0)
        return self._unknown() if answer is None else answer

    def _unknown(self) -> NoReturn:
        tracing.want_number(self)
        raise TypeError(
            f"the extent {self} has no value until run time: use evaluate({{name: int}}) for given "
            "sizes, `==` to compare extents by structure, or give the array a static shape"
        )

    __int__ = __index__ = __float__ = _unknown

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Operators with NumPy's integers; while a function is traced, any function of NumPy."""
        extents = [_extent(value) for value in inputs]
        apply = _INTEGER_UFUNCS.get(ufunc.__name__)
        integers = method == "__call__" and not any(extent is NotImplemented for extent in extents)
        if apply is not None and integers and not options:
            return apply(*extents)
        if tracing.current() is None:
            return NotImplemented
        from graphc.weak import of_extent

        return of_extent(self).__array_ufunc__(ufunc, method, *inputs, **options)

    # Questions

    def substitute(self, mapping: Mapping[str, Extent]) -> Extent:
        """With the named symbols replaced, all at once; names that do not occur are ignored."""
        if self.symbols.isdisjoint(mapping):
            return self
        total: Extent = 0
        for monomial, coefficient in self.terms:
            term: Extent = coefficient
            for atom, power in monomial:
                term = term * raised(_substitute_atom(atom, mapping), power)
            total = total + term
        return total

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value at the given sizes.

        KeyError names a symbol without a value; ZeroDivisionError where a divisor is zero.
        """
        total = 0
        for monomial, coefficient in self.terms:
            for atom, power in monomial:
                coefficient *= _evaluate_atom(atom, values, self) ** power
            total += coefficient
        return total

    def affine(self, name: str) -> tuple[Extent, Extent] | None:
        """(c, rest), both free of `name`, with `self == c*name + rest`; None if there are none."""
        if name not in self.symbols:
            return 0, self
        slope: list[tuple[Monomial, int]] = []
        rest: list[tuple[Monomial, int]] = []
        for monomial, coefficient in self.terms:
            without = tuple(factor for factor in monomial if factor[0] != name)
            if any(isinstance(atom, Compound) and name in atom.symbols for atom, _ in without):
                return None
            if len(without) == len(monomial):
                rest.append((monomial, coefficient))
            elif (name, 1) in monomial:
                slope.append((without, coefficient))
            else:
                return None
        return from_terms(slope), from_terms(rest)

    def coefficient(self, name: str) -> Extent | None:
        """The c of `affine(name)`: 0 if `name` is absent, None if self is not affine in it."""
        parts = self.affine(name)
        return None if parts is None else parts[0]


Extent: TypeAlias = int | Dim

# Slot descriptors: the only way past the refusing `__setattr__`, and as fast as an assignment.
_new = object.__new__
_set_dim_terms = vars(Dim)["terms"].__set__
_set_dim_hash = vars(Dim)["_hash"].__set__
_set_dim_text = vars(Dim)["_text"].__set__
_set_dim_symbols = vars(Dim)["_symbols"].__set__
INFIX = {"floordiv": "//", "mod": " % "}
# Sorts behind every identifier.
_AFTER_SYMBOLS = "\U0010ffff"


_INTEGER_UFUNCS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "divmod": divmod,
    "power": operator.pow,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "negative": operator.neg,
    "positive": operator.pos,
}


def _make_dim(terms: Terms) -> Dim:
    """A Dim over terms in normal form."""
    made = _new(Dim)
    _set_dim_terms(made, terms)
    _set_dim_hash(made, hash(terms))
    _set_dim_text(made, None)
    _set_dim_symbols(made, None)
    return made


def _make_compound(name: str, arguments: tuple[Extent, ...]) -> Compound:
    made = _new(Compound)
    infix = INFIX.get(name)
    if infix is None:
        text = f"{name}({', '.join(map(str, arguments))})"
    else:
        text = infix.join(map(_operand_text, arguments))
    names: frozenset[str] = frozenset().union(*map(symbols_of, arguments))
    for slot, value in (
        ("operator", name),
        ("arguments", arguments),
        ("text", text),
        ("key", _AFTER_SYMBOLS + text),
        ("_symbols", names),
        ("_hash", hash((name, arguments))),
    ):
        object.__setattr__(made, slot, value)
    return made


def _extent(value: Any) -> Any:
    """`value` as int (also NumPy's and bool) or Dim; NotImplemented for anything else."""
    if type(value) is int or type(value) is Dim:
        return value
    if isinstance(value, TensorMethods):
        return NotImplemented  # and no question about its value
    try:
        return operator.index(value)
    except TypeError:
        return NotImplemented


def _inexact(extent: Dim, number: Any, apply: Callable[[Any, Any], Any]) -> Any:
    """Arithmetic that leaves the integers: the extent becomes a value, as weak as a Python number.
    """
    if type(number) not in (int, float, Dim):
        return NotImplemented
    from graphc.weak import of_extent

    return apply(of_extent(extent), number)


def require_extent(value: object) -> Extent:
    extent = _extent(value)
    if extent is NotImplemented:
        raise TypeError(f"an extent is an int or a Dim, not {type(value).__name__}: {value!r}")
    return extent


@functools.lru_cache(maxsize=CACHED_RESULTS)
def dim(name: str) -> Dim:
    """The extent named `name`; ValueError unless `name` is an identifier and no keyword."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a dimension is a string, not {type(name).__name__}")
    # Python's parser applies NFKC to identifiers: another spelling would not survive as text.
    if (
        not name.isidentifier()
        or keyword.iskeyword(name)
        or unicodedata.normalize("NFKC", name) != name
    ):
        raise ValueError(f"the name of a dimension must be a plain identifier, not {name!r}")
    return _make_dim((((((str(name)), 1),), 1),))


# Text


def _operand_text(extent: Extent) -> str:
    """Text of one side of // or %."""
    text = str(extent)
    if isinstance(extent, int):
        return text if extent >= 0 else f"({text})"
    atom = lone_atom(extent)
    plain = atom is not None and (isinstance(atom, str) or atom.operator not in INFIX)
    return text if plain else f"({text})"


def lone_atom(extent: Extent) -> Atom | None:
    """The atom that `extent` is, if it is nothing more."""
    if isinstance(extent, int) or len(extent.terms) != 1:
        return None
    monomial, coefficient = extent.terms[0]
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    return monomial[0][0]


def _factor_text(atom: Atom, power: int) -> str:
    text = _atom_text(atom)
    if isinstance(atom, Compound) and atom.operator in INFIX:
        text = f"({text})"
    return text if power == 1 else f"{text}**{power}"


def _term_text(monomial: Monomial, magnitude: int, negated: bool) -> str:
    if magnitude == 1 and len(monomial) == 1 and monomial[0][1] == 1 and not negated:
        return _atom_text(monomial[0][0])
    factors = [_factor_text(atom, power) for atom, power in monomial]
    if magnitude != 1 or not factors:
        factors.insert(0, str(magnitude))
    return "*".join(factors)


def _sum_text(terms: Terms) -> str:
    # Only a leading minus binds tighter than // and %: only there a lone n//2 needs parentheses.
    monomial, coefficient = terms[0]
    pieces = ["-"] if coefficient < 0 else []
    pieces.append(_term_text(monomial, abs(coefficient), coefficient < 0))
    for monomial, coefficient in terms[1:]:
        pieces.append(" - " if coefficient < 0 else " + ")
        pieces.append(_term_text(monomial, abs(coefficient), False))
    return "".join(pieces)


# Sums and products


def _atom_text(atom: Atom) -> str:
    return atom if isinstance(atom, str) else atom.text


def atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else atom.key


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


def from_terms(terms: Iterable[tuple[Monomial, int]]) -> Extent:
    """The extent over nonzero terms that are already in order."""
    terms = tuple(terms)
    if not terms:
        return 0
    return terms[0][1] if terms[0][0] == CONSTANT else _make_dim(terms)


def from_sums(sums: Mapping[Monomial, int]) -> Extent:
    """The extent over terms in any order, zero coefficients allowed."""
    terms = [term for term in sums.items() if term[1]]
    if len(terms) > 1:
        terms.sort(key=term_key)
    return from_terms(terms)


def _add_constant(extent: Dim, constant: int) -> Dim:
    if constant == 0:
        return extent
    terms = extent.terms
    monomial, coefficient = terms[-1]
    if monomial != CONSTANT:
        return _make_dim((*terms, (CONSTANT, constant)))
    coefficient += constant
    return _make_dim((*terms[:-1], (CONSTANT, coefficient)) if coefficient else terms[:-1])


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _add(left: Dim, right: Dim) -> Extent:
    sums = dict(left.terms)
    for monomial, coefficient in right.terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    return from_sums(sums)


def _scale(extent: Dim, factor: int) -> Dim:
    """`factor` is not 0."""
    if factor == 1:
        return extent
    return _make_dim(tuple([(monomial, c * factor) for monomial, c in extent.terms]))


def _multiply_monomials(left: Monomial, right: Monomial) -> Monomial:
    if not left:
        return right
    if not right:
        return left
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=_factor_key))


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _multiply(left: Dim, right: Dim) -> Extent:
    sums: dict[Monomial, int] = {}
    for left_monomial, left_coefficient in left.terms:
        for right_monomial, right_coefficient in right.terms:
            monomial = _multiply_monomials(left_monomial, right_monomial)
            sums[monomial] = sums.get(monomial, 0) + left_coefficient * right_coefficient
    return from_sums(sums)


def raised(base: Extent, exponent: int) -> Extent:
    """`base ** exponent` for exponent >= 1, without the limit that `**` has for users."""
    result: Extent = base
    for _ in range(exponent - 1):
        result = result * base
    return result


def terms_of(extent: Extent) -> Terms:
    if isinstance(extent, Dim):
        return extent.terms
    return ((CONSTANT, extent),) if extent else ()


def atom_extent(atom: Atom) -> Dim:
    return _make_dim(((((atom, 1),), 1),))


def _compound(name: str, *arguments: Extent) -> Dim:
    return atom_extent(_make_compound(name, arguments))


# Division. Each rule hands its result to the operators again, and an atom is made only where no
# rule applies: so normal forms are fixed points, and text can be read back.


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _floordiv(dividend: Extent, divisor: Extent) -> Extent:
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
    return _compound("floordiv", dividend, divisor)


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _mod(dividend: Extent, divisor: Extent) -> Extent:
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
    return _compound("mod", dividend, divisor)


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
    return _compound("floordiv", dividend, divisor)


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
    return _compound("mod", dividend, divisor)


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


# min and max


def dim_min(first: Extent, *others: Extent) -> Extent:
    """The smallest of the extents."""
    return _choose("min", tuple(map(require_extent, (first, *others))))


def dim_max(first: Extent, *others: Extent) -> Extent:
    """The largest of the extents."""
    return _choose("max", tuple(map(require_extent, (first, *others))))


_OPPOSITE = {"min": "max", "max": "min"}


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _choose(name: str, candidates: tuple[Extent, ...]) -> Extent:
    """min or max: nested ones are flattened, what cannot decide is dropped, the rest is sorted."""
    kept: list[Extent] = []
    for candidate in _flat_candidates(name, candidates):
        kept = keep_deciding(name, kept, candidate, _constant_difference_decides)
    # Absorption: min(a, max(a, b)) = a.
    absorbing = set(kept)
    kept = [
        candidate
        for candidate in kept
        if absorbing.isdisjoint(_arguments_of(candidate, _OPPOSITE[name]))
    ]
    if len(kept) == 1:
        return kept[0]
    return _compound(name, *sorted(kept, key=_candidate_key))


def _candidate_key(candidate: Extent) -> tuple[bool, str]:
    return isinstance(candidate, int), str(candidate)


def _arguments_of(extent: Extent, name: str) -> tuple[Extent, ...]:
    """The arguments if `extent` is just the compound `name`, else nothing."""
    atom = lone_atom(extent)
    return atom.arguments if isinstance(atom, Compound) and atom.operator == name else ()


def _flat_candidates(name: str, candidates: Iterable[Extent]) -> Iterator[Extent]:
    for candidate in candidates:
        yield from _arguments_of(candidate, name) or (candidate,)


def keep_deciding(
    name: str,
    kept: list[Extent],
    candidate: Extent,
    at_most: Callable[[Extent, Extent], bool],
) -> list[Extent]:
    """`kept` with `candidate`, less what another one makes superfluous; `at_most(a, b)`: a <= b."""
    loses = at_most if name == "max" else lambda a, b: at_most(b, a)
    if any(loses(candidate, other) for other in kept):
        return kept
    return [other for other in kept if not loses(other, candidate)] + [candidate]


def _constant_difference_decides(left: Extent, right: Extent) -> bool:
    difference = right - left
    return isinstance(difference, int) and difference >= 0


# Functions of extents, integers included


def ceildiv(dividend: Extent, divisor: Extent) -> Extent:
    """The quotient rounded up, for a positive divisor."""
    dividend, divisor = require_extent(dividend), require_extent(divisor)
    if isinstance(divisor, int) and divisor < 0:
        raise ValueError(f"ceildiv needs a positive divisor, not {divisor}")
    return (dividend + divisor - 1) // divisor


def product(extents: Iterable[Extent]) -> Extent:
    """The product; 1 if there are none."""
    result: Extent = 1
    for extent in extents:
        result = result * require_extent(extent)
    return result


def symbols_of(extent: Extent) -> frozenset[str]:
    """Names of the symbols in an extent."""
    return extent.symbols if isinstance(extent, Dim) else frozenset()


def substitute(extent: Extent, mapping: Mapping[str, Extent]) -> Extent:
    """`extent` with the named symbols replaced, all at once."""
    return extent.substitute(mapping) if isinstance(extent, Dim) else extent


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """The value of an extent at the given sizes; KeyError names a symbol without a value."""
    return extent.evaluate(values) if isinstance(extent, Dim) else operator.index(extent)


def affine(extent: Extent, name: str) -> tuple[Extent, Extent] | None:
    """(c, rest), both free of `name`, with `extent == c*name + rest`; None if there are none."""
    return extent.affine(name) if isinstance(extent, Dim) else (0, extent)


def separated(extent: Extent, names: Sequence[str]) -> list[Extent] | None:
    """Extents whose sum is `extent`: one without any of `names`, then for each name one that
    mentions no other of them; None if there are none.
    """
    if isinstance(extent, int):
        return [extent, *[0] * len(names)]
    parts: list[list[tuple[Monomial, int]]] = [[] for _ in range(len(names) + 1)]
    for term in extent.terms:
        mentioned = [
            number
            for number, name in enumerate(names, 1)
            if any(name in symbols_of_atom(atom) for atom, _ in term[0])
        ]
        if len(mentioned) > 1:
            return None
        parts[mentioned[0] if mentioned else 0].append(term)
    return [from_terms(part) for part in parts]


def symbols_of_atom(atom: Atom) -> frozenset[str]:
    """Names of all symbols in an atom."""
    return frozenset((atom,)) if isinstance(atom, str) else atom.symbols


def _as_function(apply: Callable[[Extent, Extent], Extent]) -> Callable[..., Extent]:
    return lambda left, right: apply(require_extent(left), require_extent(right))


FUNCTIONS: dict[str, Callable[..., Extent]] = {
    "floordiv": _as_function(operator.floordiv),
    "mod": _as_function(operator.mod),
    "min": dim_min,
    "max": dim_max,
}


def _substitute_atom(atom: Atom, mapping: Mapping[str, Extent]) -> Extent:
    if isinstance(atom, str):
        return require_extent(mapping[atom]) if atom in mapping else dim(atom)
    if atom.symbols.isdisjoint(mapping):
        return atom_extent(atom)
    arguments = (substitute(argument, mapping) for argument in atom.arguments)
    return FUNCTIONS[atom.operator](*arguments)


_EVALUATORS: dict[str, Callable[..., int]] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "min": min,
    "max": max,
}


def _evaluate_atom(atom: Atom, values: Mapping[str, int], whole: Dim) -> int:
    if isinstance(atom, str):
        try:
            return operator.index(values[atom])
        except KeyError:
            given = ", ".join(sorted(values)) or "none"
            raise KeyError(
                f"no value for the dimension {atom!r} of {whole}; values were given for: {given}"
            ) from None
    arguments = (evaluate(argument, values) for argument in atom.arguments)
    return _EVALUATORS[atom.operator](*arguments)


# Reading
