"""What is the extent of an axis, and which equalities between extents hold exactly?

An extent is an `int`, or a `Dim`: a polynomial with integer coefficients over *atoms*, where an
atom is a named symbol or floordiv, mod, min or max of extents. One small sorted normal form serves
array shapes ("batch", "2*n + 1") and the index arithmetic of kernels, where loop variables are
symbols too; so equality of shapes is equality of tuples, and an index that was flattened and split
again comes back as it was. A computer algebra system would be slower by orders of magnitude at the
few identities that matter here.

Two levels keep every step exact:

- The operators apply only identities that hold for all integers, of either sign, wherever the
  expression is defined (no division by zero): `(c*x + r)//c = x + r//c`, `(c*x + r) % c = r % c`,
  `(x//2)//3 = x//6` and the like.
- `simplify(extent, bounds)` may also use ranges of symbols: `j//n = 0` where `0 <= j <= n - 1`.

Where a divisor is zero an expression has no value; a simplified one may have: `(a*n)//n` is `a`.

    >>> batch, n = dim("batch"), dim("n")
    >>> 2*batch + n//3
    2*batch + n//3
    >>> (batch*n + 5)//n
    batch + 5//n
    >>> simplify((batch*n + dim("j")) % n, {"j": (0, n - 1)})
    j
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import operator
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias, final

from graphc import tracing
from graphc.tensor import TensorMethods

__all__ = [
    "Bounds",
    "Compound",
    "Dim",
    "Extent",
    "affine",
    "ceildiv",
    "dim",
    "dim_max",
    "dim_min",
    "evaluate",
    "interval",
    "joined",
    "parse",
    "product",
    "proves_nonnegative",
    "simplify",
    "substitute",
    "symbols_of",
]

Atom: TypeAlias = "str | Compound"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
Terms: TypeAlias = "tuple[tuple[Monomial, int], ...]"
Limit: TypeAlias = "int | Dim | None"

_CONSTANT: Monomial = ()
_CACHED_RESULTS = 1 << 14
_LARGEST_POWER = 64
_LARGEST_PARSED_BITS = 4096
_LARGEST_QUOTIENT = 256
_PROOF_STEPS = 48
_SIMPLIFY_ROUNDS = 8


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
        if not 0 <= exponent <= _LARGEST_POWER:
            raise ValueError(
                f"the power of an extent must lie between 0 and {_LARGEST_POWER}, not {exponent}"
            )
        result: Extent = 1
        for _ in range(exponent):
            result = self * result
        return result

    def __truediv__(self, other: Extent) -> Any:
        inexact = _inexact(self, other, operator.truediv)
        if inexact is not NotImplemented or _extent(other) is NotImplemented:
            return inexact
        raise TypeError(f"({self}) / ({other}) need not be an integer: use // or ceildiv")

    def __rtruediv__(self, other: Extent) -> Any:
        inexact = _inexact(self, other, lambda right, left: left / right)
        if inexact is not NotImplemented or _extent(other) is NotImplemented:
            return inexact
        raise TypeError(f"({other}) / ({self}) need not be an integer: use // or ceildiv")

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
                term = term * _power(_substitute_atom(atom, mapping), power)
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
        return _from_terms(slope), _from_terms(rest)

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
_INFIX = {"floordiv": "//", "mod": " % "}
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
    infix = _INFIX.get(name)
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
    """Arithmetic that leaves the integers: while a function is traced an extent is a value, too."""
    if tracing.current() is None or type(number) not in (int, float, Dim):
        return NotImplemented
    from graphc.weak import of_extent

    return apply(of_extent(extent), number)


def _require_extent(value: object) -> Extent:
    extent = _extent(value)
    if extent is NotImplemented:
        raise TypeError(f"an extent is an int or a Dim, not {type(value).__name__}: {value!r}")
    return extent


@functools.lru_cache(maxsize=_CACHED_RESULTS)
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
    atom = _lone_atom(extent)
    plain = atom is not None and (isinstance(atom, str) or atom.operator not in _INFIX)
    return text if plain else f"({text})"


def _lone_atom(extent: Extent) -> Atom | None:
    """The atom that `extent` is, if it is nothing more."""
    if isinstance(extent, int) or len(extent.terms) != 1:
        return None
    monomial, coefficient = extent.terms[0]
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    return monomial[0][0]


def _factor_text(atom: Atom, power: int) -> str:
    text = _atom_text(atom)
    if isinstance(atom, Compound) and atom.operator in _INFIX:
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


def _atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else atom.key


def _factor_key(factor: tuple[Atom, int]) -> str:
    atom = factor[0]
    return atom if isinstance(atom, str) else atom.key


def _term_key(term: tuple[Monomial, int]) -> tuple[int, tuple[tuple[str, int], ...]]:
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


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Extent:
    """The extent over nonzero terms that are already in order."""
    terms = tuple(terms)
    if not terms:
        return 0
    return terms[0][1] if terms[0][0] == _CONSTANT else _make_dim(terms)


def _from_sums(sums: Mapping[Monomial, int]) -> Extent:
    """The extent over terms in any order, zero coefficients allowed."""
    terms = [term for term in sums.items() if term[1]]
    if len(terms) > 1:
        terms.sort(key=_term_key)
    return _from_terms(terms)


def _add_constant(extent: Dim, constant: int) -> Dim:
    if constant == 0:
        return extent
    terms = extent.terms
    monomial, coefficient = terms[-1]
    if monomial != _CONSTANT:
        return _make_dim((*terms, (_CONSTANT, constant)))
    coefficient += constant
    return _make_dim((*terms[:-1], (_CONSTANT, coefficient)) if coefficient else terms[:-1])


@functools.lru_cache(maxsize=_CACHED_RESULTS)
def _add(left: Dim, right: Dim) -> Extent:
    sums = dict(left.terms)
    for monomial, coefficient in right.terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    return _from_sums(sums)


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


@functools.lru_cache(maxsize=_CACHED_RESULTS)
def _multiply(left: Dim, right: Dim) -> Extent:
    sums: dict[Monomial, int] = {}
    for left_monomial, left_coefficient in left.terms:
        for right_monomial, right_coefficient in right.terms:
            monomial = _multiply_monomials(left_monomial, right_monomial)
            sums[monomial] = sums.get(monomial, 0) + left_coefficient * right_coefficient
    return _from_sums(sums)


def _power(base: Extent, exponent: int) -> Extent:
    """`base ** exponent` for exponent >= 1, without the limit that `**` has for users."""
    result: Extent = base
    for _ in range(exponent - 1):
        result = result * base
    return result


def _terms_of(extent: Extent) -> Terms:
    if isinstance(extent, Dim):
        return extent.terms
    return ((_CONSTANT, extent),) if extent else ()


def _atom_extent(atom: Atom) -> Dim:
    return _make_dim(((((atom, 1),), 1),))


def _compound(name: str, *arguments: Extent) -> Dim:
    return _atom_extent(_make_compound(name, arguments))


# Division. Each rule hands its result to the operators again, and an atom is made only where no
# rule applies: so normal forms are fixed points, and text can be read back.


@functools.lru_cache(maxsize=_CACHED_RESULTS)
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


@functools.lru_cache(maxsize=_CACHED_RESULTS)
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
        rest = dividend - _atom_extent(inner[0])
        return (numerator + inner_divisor * rest) // (inner_divisor * divisor)
    atom = _lone_atom(dividend)
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
    return _from_terms(quotient), _from_terms(remainder)


def _drop_inner_mods(dividend: Extent, divisor: Extent) -> Extent | None:
    """`dividend` with c*(x % m) replaced by c*x where c*m is a multiple of `divisor`, or None."""
    for monomial, coefficient in _terms_of(dividend):
        for atom, power in monomial:
            if not isinstance(atom, Compound) or atom.operator != "mod" or power != 1:
                continue
            rest = tuple(factor for factor in monomial if factor[0] is not atom)
            outer = _from_terms([(rest, coefficient)])
            numerator, modulus = atom.arguments
            if _is_multiple(outer * modulus, divisor):
                return dividend + outer * (numerator - _atom_extent(atom))
    return None


def _is_multiple(extent: Extent, divisor: Extent) -> bool:
    if isinstance(divisor, int):
        return all(coefficient % divisor == 0 for _, coefficient in _terms_of(extent))
    return isinstance(extent, Dim) and _exact_quotient(extent, divisor) is not None


def _cancel_common_factor(dividend: Extent, divisor: Dim) -> tuple[Extent, Extent, Extent] | None:
    """(f, x, y) with dividend = f*x and divisor = f*y for the largest single term f, None if f = 1.

    floor(f*x / (f*y)) = floor(x/y) and (f*x) % (f*y) = f*(x % y) for f of either sign.
    """
    terms = (*_terms_of(dividend), *divisor.terms)
    content = math.gcd(*(coefficient for _, coefficient in terms))
    shared = _shared_monomial(terms)
    if content == 1 and not shared:
        return None
    factor = _from_terms([(shared, content)])
    return factor, _divide_terms(dividend, shared, content), _divide_terms(divisor, shared, content)


def _shared_monomial(terms: Terms) -> Monomial:
    """The largest monomial that divides every term."""
    return functools.reduce(_common_monomial, (monomial for monomial, _ in terms))


def _common_monomial(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(right)
    return tuple((atom, min(power, powers[atom])) for atom, power in left if atom in powers)


def _divide_monomials(dividend: Monomial, divisor: Monomial) -> Monomial | None:
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


def _divide_terms(extent: Extent, monomial: Monomial, coefficient: int) -> Extent:
    """`extent` divided by a term that divides each of its terms (which stay sorted)."""
    divided = ((_divide_monomials(own, monomial), c // coefficient) for own, c in _terms_of(extent))
    return _from_terms((quotient, c) for quotient, c in divided if quotient is not None)


def _quotient_of_terms(
    dividend: tuple[Monomial, int], divisor: tuple[Monomial, int]
) -> Extent | None:
    """The exact quotient of two terms, None if there is none."""
    whole, rest = divmod(dividend[1], divisor[1])
    if rest:
        return None
    monomial = _divide_monomials(dividend[0], divisor[0])
    return None if monomial is None else _from_terms([(monomial, whole)])


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
        for term in _terms_of(remainder):
            piece = _quotient_of_terms(term, divisor.terms[0])
            if piece is None:
                continue
            candidate = remainder - piece * divisor
            if len(_terms_of(candidate)) < len(_terms_of(remainder)):
                quotient, remainder = quotient + piece, candidate
                break
        else:
            return quotient, remainder


# min and max


def dim_min(first: Extent, *others: Extent) -> Extent:
    """The smallest of the extents."""
    return _choose("min", tuple(map(_require_extent, (first, *others))))


def dim_max(first: Extent, *others: Extent) -> Extent:
    """The largest of the extents."""
    return _choose("max", tuple(map(_require_extent, (first, *others))))


_OPPOSITE = {"min": "max", "max": "min"}


@functools.lru_cache(maxsize=_CACHED_RESULTS)
def _choose(name: str, candidates: tuple[Extent, ...]) -> Extent:
    """min or max: nested ones are flattened, what cannot decide is dropped, the rest is sorted."""
    kept: list[Extent] = []
    for candidate in _flat_candidates(name, candidates):
        kept = _keep_deciding(name, kept, candidate, _constant_difference_decides)
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
    atom = _lone_atom(extent)
    return atom.arguments if isinstance(atom, Compound) and atom.operator == name else ()


def _flat_candidates(name: str, candidates: Iterable[Extent]) -> Iterator[Extent]:
    for candidate in candidates:
        yield from _arguments_of(candidate, name) or (candidate,)


def _keep_deciding(
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
    dividend, divisor = _require_extent(dividend), _require_extent(divisor)
    if isinstance(divisor, int) and divisor < 0:
        raise ValueError(f"ceildiv needs a positive divisor, not {divisor}")
    return (dividend + divisor - 1) // divisor


def product(extents: Iterable[Extent]) -> Extent:
    """The product; 1 if there are none."""
    result: Extent = 1
    for extent in extents:
        result = result * _require_extent(extent)
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


def _as_function(apply: Callable[[Extent, Extent], Extent]) -> Callable[..., Extent]:
    return lambda left, right: apply(_require_extent(left), _require_extent(right))


_FUNCTIONS: dict[str, Callable[..., Extent]] = {
    "floordiv": _as_function(operator.floordiv),
    "mod": _as_function(operator.mod),
    "min": dim_min,
    "max": dim_max,
}


def _substitute_atom(atom: Atom, mapping: Mapping[str, Extent]) -> Extent:
    if isinstance(atom, str):
        return _require_extent(mapping[atom]) if atom in mapping else dim(atom)
    if atom.symbols.isdisjoint(mapping):
        return _atom_extent(atom)
    arguments = (substitute(argument, mapping) for argument in atom.arguments)
    return _FUNCTIONS[atom.operator](*arguments)


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


def parse(text: str) -> Extent:
    """The extent that `text` says, in the form that `str` writes; nothing is executed.

    Understood are names, integers, + - * // % **, min, max, floordiv(a, b) and mod(a, b).
    ValueError names anything else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _read(tree.body, text)
    except SyntaxError as error:
        raise ValueError(f"cannot read the extent {text!r}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"cannot read the extent {text[:60]!r}...: nested too deeply") from None
    except ZeroDivisionError:
        raise ValueError(f"cannot read the extent {text!r}: division by zero") from None


def _read_power(base: Extent, exponent: Extent) -> Extent:
    if type(exponent) is not int or not 0 <= exponent <= _LARGEST_POWER:
        raise ValueError(f"a power must be an integer between 0 and {_LARGEST_POWER}: {exponent}")
    if isinstance(base, int):
        if base.bit_length() * exponent > _LARGEST_PARSED_BITS:
            raise ValueError(f"{base}**{exponent} is too large for an extent")
        return base**exponent
    if -_term_key(base.terms[0])[0] * exponent > _LARGEST_POWER:
        raise ValueError(f"({base})**{exponent} exceeds degree {_LARGEST_POWER}")
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Extent, Extent], Extent]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _read_power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Extent], Extent]] = {
    ast.USub: lambda operand: -operand,
    ast.UAdd: lambda operand: operand,
}


def _read(node: ast.expr, text: str) -> Extent:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return dim(name)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_read(operand, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_read(left, text), _read(right, text))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            if (len(arguments) != 2 and name in _INFIX) or not arguments:
                raise ValueError(
                    f"cannot read the extent {text!r}: wrong number of arguments of {name}"
                )
            return _FUNCTIONS[name](*(_read(argument, text) for argument in arguments))
    raise ValueError(
        f"cannot read the extent {text!r}: {ast.unparse(node)!r} is none of names, integers, "
        "+ - * // % **, min, max, floordiv, mod"
    )


# Ranges. Finite ends are exact integers; infinite ends are floats here and None in public answers.

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
        low, high = self._range(_require_extent(extent))
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
        extent = _require_extent(extent)
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
        shared = _shared_monomial(extent.terms)
        if not shared or len(extent.terms) == 1:
            return False
        return all(
            power % 2 == 0 or self._prove(_atom_extent(atom)) for atom, power in shared
        ) and self._prove(_divide_terms(extent, shared, 1))

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
            key=lambda atom: (-self._rank(atom), _atom_key(atom)),
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
        if not linear and not self._prove(_atom_extent(atom)):
            return False
        return any(
            self._prove(rest + sum(slope * _power(limit, power) for power, slope in slopes.items()))
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
        if atom.operator not in _INFIX:
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
        if isinstance(atom, str) or atom.operator in _INFIX:
            return False
        return all(
            self._prove(
                rest + sum(slope * _power(argument, power) for power, slope in slopes.items())
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
        extent = _require_extent(extent)
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
                if _lone_atom(better) != atom:
                    replaced[atom] = better
        return _replace_atoms(extent, replaced) if replaced else extent

    def _simplify_compound(self, atom: Compound) -> Extent:
        arguments = tuple(map(self.simplify, atom.arguments))
        try:
            value = _FUNCTIONS[atom.operator](*arguments)
        except ZeroDivisionError:
            # Nothing is computed yet: the division fails where, and if, it is evaluated.
            return _atom_extent(atom)
        rebuilt = _lone_atom(value)
        if not isinstance(rebuilt, Compound):
            return value
        if rebuilt.operator not in _INFIX:
            return self._simplify_choice(rebuilt)
        better = self._simplify_division(rebuilt)
        return value if better is None else better

    def _at_most(self, left: Extent, right: Extent) -> bool:
        return self.proves_nonnegative(right - left)

    def _simplify_choice(self, atom: Compound) -> Extent:
        kept: list[Extent] = []
        for candidate in atom.arguments:
            kept = _keep_deciding(atom.operator, kept, candidate, self._at_most)
        return _FUNCTIONS[atom.operator](*kept)

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
        inner = _lone_atom(dividend)
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
        if inner.operator not in _INFIX:
            return None
        dividend, inner_divisor = inner.arguments
        if not self.proves_nonnegative(inner_divisor):
            return None
        if inner.operator == "floordiv":
            return dividend // (inner_divisor * divisor)
        if not _is_multiple(inner_divisor, divisor):
            return None
        return (dividend // divisor) % (inner_divisor // divisor)

    def _recombine(self, extent: Extent) -> Extent:
        """Uses x % b = x - b*(x//b) where that leaves fewer compounds: (k//n)*n + k % n = k."""
        for monomial, coefficient in _terms_of(extent):
            for atom, power in monomial:
                if not isinstance(atom, Compound) or atom.operator != "mod" or power != 1:
                    continue
                dividend, divisor = atom.arguments
                rest = tuple(factor for factor in monomial if factor[0] is not atom)
                quotient = self._simplify_once(dividend // divisor)
                change = dividend - divisor * quotient - _atom_extent(atom)
                candidate = extent + _from_terms([(rest, coefficient)]) * change
                if _count_compound_terms(candidate) < _count_compound_terms(extent):
                    return self._recombine(candidate)
        return extent


@functools.lru_cache(maxsize=_CACHED_RESULTS)
def joined(extent: Extent) -> Extent:
    """An extent in which quotients and remainders that belong together are one again.

    >>> k = dim("k")
    >>> joined(k // 12 * 12 + k // 4 % 3 * 4 + k % 4)
    k
    """
    return Bounds({})._recombine(extent)


def _require_limit(limit: object) -> Limit:
    return None if limit is None else _require_extent(limit)


def _occurs(atom: Atom, inside: Compound) -> bool:
    if isinstance(atom, str):
        return atom in inside.symbols
    return any(
        other == atom or (isinstance(other, Compound) and _occurs(atom, other))
        for argument in inside.arguments
        for monomial, _ in _terms_of(argument)
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
    rest_terms = _from_terms(groups.pop(0, []))
    return {power: _from_terms(terms) for power, terms in groups.items()}, rest_terms


def _replace_atoms(extent: Dim, replaced: Mapping[Atom, Extent]) -> Extent:
    total: Extent = 0
    for monomial, coefficient in extent.terms:
        kept = tuple(factor for factor in monomial if factor[0] not in replaced)
        term = _from_terms([(kept, coefficient)])
        for atom, power in monomial:
            if atom in replaced:
                term = term * _power(replaced[atom], power)
        total = total + term
    return total


def _count_compound_terms(extent: Extent) -> int:
    return sum(
        any(isinstance(atom, Compound) for atom, _ in monomial) for monomial, _ in _terms_of(extent)
    )


def _tilings(dividend: Extent, divisor: Extent) -> Iterator[tuple[Extent, Extent, Extent]]:
    """(f, x, r) with dividend = f*x + r, for f dividing `divisor` and a term of `dividend`."""
    divisor_terms = _terms_of(divisor)
    if len(divisor_terms) != 1:
        return
    divisor_monomial, divisor_coefficient = divisor_terms[0]
    factors = {
        (_common_monomial(monomial, divisor_monomial), math.gcd(coefficient, divisor_coefficient))
        for monomial, coefficient in _terms_of(dividend)
    }
    for factor in sorted(factors, key=lambda term: (_term_key(term), -term[1])):
        if factor == (_CONSTANT, 1) or factor == divisor_terms[0]:
            continue
        whole, rest = _split_by_term(dividend, factor)
        if whole != 0:
            yield _from_terms([factor]), whole, rest


def _split_by_term(extent: Extent, factor: tuple[Monomial, int]) -> tuple[Extent, Extent]:
    """(x, r) with extent = factor*x + r, every term that is a multiple in x."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in _terms_of(extent):
        divided = _divide_monomials(monomial, factor[0])
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
    return _from_sums(whole), _from_sums(rest)


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
