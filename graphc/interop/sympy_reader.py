"""How does a SymPy expression become a graph?  `from_sympy`: one walk, what is shared stays shared.

Arguments come before their users and every object is met once, so that an expression with a
billion paths costs no more than its objects, and depth costs nothing; equal parts that are
different objects become one node when they are interned. What a class of SymPy means is a row of a
table (`sympy_meanings`), found along the classes that it is derived from. Nothing asks SymPy about
a whole expression: `free_symbols`, substitution and printing recurse, and forget what is shared.

A sub-expression without symbols is one number, computed by SymPy in 40 digits and rounded once.
SymPy is imported when `from_sympy` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import graphc as gx
from graphc.errors import GraphError, shortened
from graphc.tree import flatten

# A number is computed by SymPy, which recurses, if it is written with at most so many objects.
_LARGEST_NUMBER = 64
DIGITS = 40


def from_sympy(
    expr: Any,
    symbols: Mapping[Any, Any] | None = None,
    *,
    dtype: Any = "float64",
    facts: bool = False,
) -> Any:
    """The graph of a SymPy expression, matrix or array, or of a nested container of these.

    `symbols` gives symbols, matrix symbols, indexed bases and undefined functions their meaning, by
    the object or by its name: a node, a number or an array; for a function a callable that takes
    nodes. Every other symbol becomes `gx.symbol(name, (), dtype)`, a MatrixSymbol a matrix, an
    IndexedBase that states its shape an array; with `facts` what SymPy assumes of a symbol
    (positive, nonnegative, integer, finite) goes with it. Symbols are expressions too, so a list of
    arguments, as `sympy.lambdify` takes it, is converted along:
    `gx.compile(*gx.from_sympy([[x, y], x * y]))`.

    Values are real: what is complex in SymPy, a root of a negative number for example, is NaN.
    `Sum` and `Product` over ranges of numbers become reductions, `Derivative` a derivative. Raises
    `GraphError`, naming the part, for what has no meaning in real arrays, and `ImportError` if
    SymPy is not installed.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> print(from_sympy(sympy.exp(-x * y) / 2))
    n0 = x: float64
    n1 = y: float64
    n2 = n0 * n1: float64
    n3 = -n2: float64
    n4 = exp(n3): float64
    n5 = n4 / 2.0: float64
    """
    leaves, structure = flatten(expr)
    reader = Reader(dict(symbols or {}), dtype, facts)
    return structure.unflatten([reader.node(leaf) for leaf in leaves])


class Reader:
    """One conversion: what symbols mean, and what each object became.

    `values` are nodes, Python numbers (which take the dtype of what they meet), or, for SymPy's
    tuples, tuples of these. `sizes` holds, for what has no symbols, with how many objects it is
    written.
    """

    def __init__(self, bindings: dict[Any, Any], dtype: Any, facts: bool) -> None:
        from graphc.interop.sympy_meanings import Meaning, meaning_of

        self.meaning, self.meaning_of = Meaning, meaning_of
        self.meanings: dict[type, Any] = {}  # of the classes met
        self.bindings, self.dtype, self.facts = bindings, dtype, facts
        self.whole: dict[Any, Any] = {}  # of the index of a sum its value as an integer
        self.values: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.named: dict[str, Any] = {}  # which SymPy symbol a name stands for
        self.held: list[Any] = []  # objects are known by identity: they must stay alive

    # -- the walk ----------------------------------------------------------------------------------

    def node(self, expr: Any) -> Any:
        """The node of an expression; a tuple of nodes for a tuple of SymPy's."""
        return self.as_nodes(self.value(expr))

    def as_nodes(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self.as_nodes, value))
        if isinstance(value, bool):
            return gx.constant(value)
        return value if isinstance(value, gx.Node) else gx.constant(value, self.dtype)

    def value(self, expr: Any) -> Any:
        """What an expression became, after everything that it needs."""
        root = self._as_expression(expr)
        stack: list[tuple[Any, Any, Sequence[Any] | None]] = [(root, None, None)]
        while stack:
            item, meaning, parts = stack.pop()
            if id(item) in self.values:
                continue
            if parts is None:
                meaning = self._meaning(item)
                parts = meaning.parts(item)
                self.held.append((item, parts))
                stack.append((item, meaning, parts))
                stack += [(p, None, None) for p in reversed(parts) if id(p) not in self.values]
                continue
            self.values[id(item)] = self._converted(item, meaning, parts)
        return self.values[id(root)]

    def _converted(self, item: Any, meaning: Any, parts: Sequence[Any]) -> Any:
        sizes = [self.sizes.get(id(part), 0) for part in parts]
        if meaning.foldable and all(sizes):
            size = 1 + sum(sizes)
            if size <= _LARGEST_NUMBER:
                number = self.number(item)
                if number is not None:
                    self.sizes[id(item)] = size
                    return number
        try:
            return meaning.build(self, item, [self.values[id(part)] for part in parts])
        except GraphError as error:
            if str(error).startswith("from_sympy"):
                raise
            raise GraphError(f"from_sympy: {described(item)}\n{error}") from None

    def _as_expression(self, expr: Any) -> Any:
        import sympy

        if isinstance(expr, str):
            raise GraphError(
                f"from_sympy takes expressions, got the text {shortened(repr(expr))}\n"
                "Parse it first: sympy.sympify(text), which evaluates it as Python."
            )
        try:
            found = sympy.sympify(expr, strict=True)
        except sympy.SympifyError:
            raise GraphError(
                "from_sympy takes SymPy expressions, matrices, arrays and nested containers of "
                f"them, got a {type(expr).__name__}: {shortened(repr(expr))}"
            ) from None
        self.held.append(found)
        return found

    def _meaning(self, item: Any) -> Any:
        given = self.binding(item)
        if given is not None:
            applied = getattr(item, "is_Function", False)
            return self.meaning(
                lambda reader, item, values: given(*map(reader.as_nodes, values))
                if applied
                else gx.constant(given),
                lambda item: item.args if applied else (),
            )
        kind = type(item)
        if kind not in self.meanings:
            self.meanings[kind] = self.meaning_of(item)
        found = self.meanings[kind]
        if found is None:
            raise refusal(item)
        return found

    # -- leaves ------------------------------------------------------------------------------------

    def binding(self, item: Any) -> Any:
        """What `symbols` says of a symbol, or of the function that is applied; None if nothing."""
        if not self.bindings:
            return None
        key = item.func if getattr(item, "is_Function", False) else item
        name = getattr(key, "name", None) or getattr(key, "__name__", None)
        if not getattr(item, "is_Function", False) and not isinstance(name, str):
            return None
        found = self.bindings.get(key)
        return self.bindings.get(name) if found is None else found

    def symbol(self, item: Any, shape: tuple[Any, ...] = ()) -> Any:
        """The graph's symbol for one of SymPy's; one name is one symbol."""
        label = getattr(item, "label", item)
        name = str(getattr(label, "name", label))
        if hasattr(item, "dummy_index"):
            name = f"_{name}_{item.dummy_index}"
        other = self.named.setdefault(name, item)
        if other is not item and other != item:
            raise GraphError(
                f"from_sympy: two different symbols are named {name!r}; in a graph a name stands "
                "for one\nRename one of them, or give both: symbols={first: node, second: node}"
            )
        return gx.symbol(name, shape, self.dtype, self._facts(item) if self.facts else ())

    def _facts(self, item: Any) -> tuple[str, ...]:
        assumed = getattr(item, "assumptions0", {})
        known = ("positive", "nonnegative", "integer", "finite")
        return tuple(fact for fact in known if assumed.get(fact))

    def leaf_number(self, item: Any) -> Any:
        """A number of SymPy's as one of Python's."""
        if item.is_Integer and abs(item.p) < 1 << 62:
            value = self.plain(int(item.p))
        elif item.is_Rational and gx.Type(self.dtype).dtype.kind in "iu":
            raise GraphError(f"from_sympy: {item} is no whole number, and none else is an index")
        else:
            value = self.number(item)
        self.sizes[id(item)] = 1
        return value

    def plain(self, value: int) -> Any:
        """A whole number in the kind of the conversion's dtype."""
        return value if gx.Type(self.dtype).dtype.kind in "iu" else float(value)

    def is_number(self, item: Any) -> bool:
        """Whether what was converted has no symbols, so that SymPy computes it."""
        return id(item) in self.sizes

    def combined(self, function: Any, items: Sequence[Any]) -> Any:
        """A sum or product of numbers as one number."""
        if len(items) == 1:
            return self.values.get(id(items[0])) or self.number(items[0])
        if gx.Type(self.dtype).dtype.kind in "iu":
            return int(function(*items))
        return self.number(function(*items))

    def with_index(self, index: Any, at: Any) -> Reader:
        """A conversion in which an index has an integer node as its value."""
        made = self.inner({index: gx.cast(at, self.dtype)})
        made.whole = {**self.whole, index: at}
        return made

    def index(self, item: Any) -> Any:
        """A position in an array: a number, or a node of integers."""
        if item.is_Integer:
            return int(item)
        made = Reader({**self.whole}, "int64", False)
        made.whole = self.whole
        return made.node(item)

    def number(self, item: Any) -> float | None:
        """The nearest float64 of an expression without symbols; None if SymPy has no value for it.
        """
        import sympy

        value = item.evalf(DIGITS)
        if value is sympy.S.ComplexInfinity or value.has(sympy.I):
            raise GraphError(
                f"from_sympy: {described(item)} is no real number; graphc's numbers are real"
            )
        if value.is_Number or value in (sympy.oo, -sympy.oo, sympy.nan):
            return float(value)
        return None

    def inner(self, bindings: Mapping[Any, Any], dtype: Any = None) -> Reader:
        """A conversion within this one in which some symbols mean something else."""
        made = Reader({**self.bindings, **bindings}, dtype or self.dtype, self.facts)
        made.named, made.whole = self.named, self.whole
        return made

    # -- numbers and nodes -------------------------------------------------------------------------

    def apply(self, function: Callable[..., Any], *values: Any) -> Any:
        """A function of graphc; numbers alone are numbers in the dtype of the conversion."""
        if any(isinstance(value, gx.Node) for value in values):
            return function(*values)
        return function(*(gx.constant(value, self.dtype) for value in values))


def described(item: Any) -> str:
    """A part of an expression in few words: its class, and its text unless it is long."""
    kind = type(item).__name__
    few, stack = 0, [item]
    while stack and few <= _LARGEST_NUMBER:  # what is shared counts each time: so would its text
        few += 1
        stack.extend(getattr(stack.pop(), "args", ()))
    if stack:
        return f"{kind}(...)"
    text = str(item)
    return text if text.startswith(kind) else f"{kind}: {shortened(text)}"


# What to do instead, by the name of the class or of one that it is derived from.
_NEAREST = {
    "ImaginaryUnit": "Numbers are real: convert the parts of expr.as_real_imag().",
    "Integral": "Solve it with expr.doit(), or write a Sum over points.",
    "Limit": "Solve it with expr.doit().",
    "DiracDelta": "It is no function; a narrow exp(-x**2/...) is the nearest.",
    "LambertW": "Solve w*exp(w) = x with gx.root.",
    "arg": "Write atan2(im, re) of the two real parts.",
    "Lambda": "Convert its body, expr.expr.",
    "Subs": "Substitute with expr.doit().",
    "Order": "Remove it with expr.removeO().",
    "ComplexInfinity": "Use oo or -oo.",
    "AppliedUndef": "Say what it means: symbols={f: a function of nodes}.",
    "Set": "Write a condition: S.contains(x) gives one for intervals.",
    "Expr": "Rewrite it in functions that graphc has, expr.rewrite(...), or say what it means: "
    "symbols={name: a function of nodes}.",
}


def refusal(item: Any) -> GraphError:
    names = [kind.__name__ for kind in type(item).__mro__]
    advice = next((_NEAREST[name] for name in names if name in _NEAREST), "")
    return GraphError(
        f"from_sympy: {described(item)} has no counterpart among graphc's expressions"
        + (f"\n{advice}" if advice else "")
    )
