"""What is an extent?  A polynomial whose operators apply what holds for all integers.

A `Dim` keeps its terms sorted, so equality of extents is equality of tuples. Sums and products are
here; the rules of floordiv and mod are in `division`, those of min and max in `choice`.
"""

from __future__ import annotations

import functools
import keyword
import operator
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, final

from graphc import tracing
from graphc.dims.terms import (
    CONSTANT,
    INFIX,
    Atom,
    Monomial,
    Terms,
    multiply_monomials,
    operand_text,
    sum_text,
    symbols_of_atom,
    term_key,
)
from graphc.tensor import TensorMethods

CACHED_RESULTS = 1 << 14
LARGEST_POWER = 64

# floordiv and mod of two extents, one of them a Dim: entered by `division`, which has the rules.
RULES: dict[str, Callable[..., Extent]] = {}


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
            text = sum_text(self.terms)
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
        return NotImplemented if other is NotImplemented else RULES["floordiv"](self, other)

    def __rfloordiv__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else RULES["floordiv"](other, self)

    def __mod__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else RULES["mod"](self, other)

    def __rmod__(self, other: Extent) -> Extent:
        other = _extent(other)
        return NotImplemented if other is NotImplemented else RULES["mod"](other, self)

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
        text = infix.join(map(operand_text, arguments))
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


# Sums and products


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


@functools.lru_cache(maxsize=CACHED_RESULTS)
def _multiply(left: Dim, right: Dim) -> Extent:
    sums: dict[Monomial, int] = {}
    for left_monomial, left_coefficient in left.terms:
        for right_monomial, right_coefficient in right.terms:
            monomial = multiply_monomials(left_monomial, right_monomial)
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


def compound(name: str, *arguments: Extent) -> Dim:
    return atom_extent(_make_compound(name, arguments))


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


def _as_function(apply: Callable[[Extent, Extent], Extent]) -> Callable[..., Extent]:
    return lambda left, right: apply(require_extent(left), require_extent(right))


# min and max are entered by `choice`.
FUNCTIONS: dict[str, Callable[..., Extent]] = {
    "floordiv": _as_function(operator.floordiv),
    "mod": _as_function(operator.mod),
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
