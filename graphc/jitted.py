"""How does a plain Python function become compiled code?  `gx.jit`: traced once a signature.

The function is called with placeholders in place of its arrays; what it does with them is the
graph. A trace serves every call of the same signature (`graphc.signature`): extents are symbols, so
one serves all sizes. Three things may tie it to fewer calls, and `why()` names each: a question
about extents that Python code asked (a guard), an extent whose number was needed (a pinned
dimension), and extents that had to be equal (tied dimensions).

A call looks its Function up under the dtypes and shapes of its arguments, which takes a fraction of
a microsecond; everything else happens when these are met for the first time.
"""

from __future__ import annotations

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import origin
from graphc.arguments import Arguments, Call, unbound
from graphc.errors import EndlessTraceError, ExtentError, GraphError
from graphc.function import TARGETS
from graphc.graph import Graph
from graphc.options import Options
from graphc.signature import Signature
from graphc.specialize import Family, Source, Specialization, specialize
from graphc.substitutes import substituted
from graphc.tree import flatten

_REMEMBERED = 1024  # exact shapes whose Function is found without another look
_LONGEST_NAME = 200
_DEEPEST = 100  # calls of a function within its own trace


def jit(
    function: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Iterable[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Iterable[int] = (),
    options: Options | None = None,
    target: str = "cpu",
) -> Any:
    """`function`, compiled for each signature of its arguments when it is first called with it.

    Arrays are traced, in nested containers as well (a list is a container, not an array, and the
    function gets containers of its own); Python ints and floats are traced as weak scalars; bools,
    strings, enumerations and dtypes are static, as are the arguments named by `static_argnums` or
    `static_argnames`, which must be hashable: another value is another trace. An argument left to
    its default is a constant of the trace. `donate_argnums` names arguments whose arrays may be
    overwritten with a result. Called with nodes, the function is inlined.

    Arrays and numbers that the function takes from outside are copied when it is traced: later
    changes are not seen until `cache_clear()`. Results are arrays, in the containers that the
    function returns; Python numbers, strings and None that it returns come back as they are.

    Raises `GraphError` where the function needs a value that only a call has.

    >>> import numpy as np
    >>> @jit
    ... def norm(x):
    ...     return np.sqrt((x * x).sum())
    >>> float(norm(np.array([3.0, 4.0])))
    5.0
    """
    if function is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            options=options,
            target=target,
        )
    return Jitted(function, static_argnums, static_argnames, donate_argnums, options, target)


class Jitted:
    """A function that `gx.jit` made. Called like the function; see its methods for the rest."""

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: int | Iterable[int],
        static_argnames: str | Iterable[str],
        donate_argnums: int | Iterable[int],
        options: Options | None,
        target: str,
    ) -> None:
        if not callable(function):
            raise TypeError(f"gx.jit takes a function, got a {type(function).__name__}")
        if target not in TARGETS:
            raise ValueError(f"target is one of {TARGETS}, got {target!r}")
        if options is not None and not isinstance(options, Options):
            raise TypeError(f"options is a gx.Options, got a {type(options).__name__}")
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._target = target
        title = str(getattr(function, "__name__", type(function).__name__))[:_LONGEST_NAME]
        self._title = title if title.isprintable() and title else "f"
        self._arguments = Arguments(
            function, self._title, static_argnums, static_argnames, donate_argnums
        )
        self._has_statics = bool(self._arguments.static_positions)
        self._quick: dict[Any, Callable[..., Any]] = {}
        self._families: dict[Signature, Family] = {}
        self._traces: list[Specialization] = []
        self._tracing: set[Signature] = set()
        self._lock = threading.RLock()
        self._depth = threading.local()
        self._bound: dict[int, tuple[Any, Jitted]] = {}

    # -- the call ----------------------------------------------------------------------------------

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        if named or self._has_statics:
            return self._call(args, named)
        key: list[Any] = []
        for value in args:
            kind = type(value)
            if kind is np.ndarray:
                key.append(value.dtype)
                key.append(value.shape)
            elif kind is float or kind is int:
                key.append(kind)
            else:
                return self._call(args, named)
        function = self._quick.get(tuple(key))
        if function is None:
            return self._call(args, named)
        try:
            return function(*args)
        except ExtentError:  # symbols do not do for these sizes: what of the sizes themselves?
            pass
        return self._call(args, named, exact=True)

    def _call(self, args: tuple[Any, ...], named: Mapping[str, Any], exact: bool = False) -> Any:
        """The call in full: arguments taken apart, the trace found or made, its Function called."""
        reading = self._arguments.read(args, named)
        if reading is None:
            return self._inlined(args, named)
        key = tuple(reading.key)
        run = None if exact else self._quick.get(key)
        if run is None:
            run = self._found(self._arguments.call(reading), exact).runner
            self._remember(key, run)
        try:
            return run(*reading.values)
        except ExtentError:
            if exact:
                raise
        return self._call(args, named, exact=True)

    def _remember(self, key: Any, run: Callable[..., Any]) -> None:
        if len(self._quick) >= _REMEMBERED:
            self._quick.clear()
        self._quick[key] = run

    def _inlined(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """The function's own result for nodes, within whatever graph they belong to."""
        depth = getattr(self._depth, "value", 0)
        if depth >= _DEEPEST:
            raise self._recursion()
        self._depth.value = depth + 1
        try:
            with substituted():
                return self._function(*args, **named)
        finally:
            self._depth.value = depth

    def _recursion(self) -> EndlessTraceError:
        return EndlessTraceError(
            f"{self._title} calls itself without end while it is traced: {self._where()}\n"
            "A trace does not know values, so a condition on them cannot end the recursion.\n"
            "Make the argument that counts down static (static_argnames), or use gx.while_loop."
        )

    # -- traces ------------------------------------------------------------------------------------

    def _found(self, call: Call, exact: bool = False) -> Specialization:
        """The trace for a call, made if there is none; `exact`: one for its very sizes."""
        with self._lock:
            family = self._families.get(call.signature) or Family()
            sizes = call.sizes()
            for trace in family.traces:
                if trace.serves(sizes) and not (exact and trace.symbolic):
                    return trace
            if call.signature in self._tracing:
                raise self._recursion()
            self._tracing.add(call.signature)
            try:
                cause = self._cause(call, family, sizes)
                number = len(self._traces) + 1
                made = specialize(self._source(call), call, family, exact, number, cause)
            finally:
                self._tracing.discard(call.signature)
            self._families[call.signature] = family
            if exact:  # first, because only its own sizes reach it
                family.traces.insert(0, made)
            else:
                family.traces.append(made)
            self._traces.append(made)
            return made

    def _source(self, call: Call) -> Source:
        def run(leaves: Sequence[Any]) -> Any:
            args, named = call.signature.structure.unflatten(leaves)
            before, self._depth.value = getattr(self._depth, "value", 0), 1
            try:
                return self._function(*args, **named)
            except RecursionError:
                raise self._recursion() from None
            finally:
                self._depth.value = before

        return Source(
            title=self._title,
            run=run,
            definition=_definition(self._function),
            donated=frozenset(map(self._arguments.name, self._arguments.donated)),
            target=self._target,
            options=self._options,
        )

    def _cause(self, call: Call, family: Family, sizes: Mapping[str, int]) -> str:
        """Why no trace at hand serves this call."""
        if not self._traces:
            return "the first call"
        if family.traces:
            last = family.traces[-1]
            uncallable = f"trace {last.number} could not be called with these sizes"
            return last.hindrance(sizes) or uncallable
        changes = [
            (trace, call.signature.difference(trace.signature, call.paths))
            for trace in self._traces
        ]
        closest, lines = min(changes, key=lambda change: len(change[1]))
        return f"{'; '.join(lines)} (trace {closest.number})"

    def _where(self) -> str:
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        return f"defined at {code.co_filename}:{code.co_firstlineno}" if code else "a builtin"

    # -- what a user may ask -----------------------------------------------------------------------

    def compiled(self, /, *args: Any, **named: Any) -> Any:
        """The Function that a call with these arguments uses, compiled if need be.

        It takes the traced leaves in order, and returns what the function returns, as far as that
        comes from arrays. Raises `GraphError` if nothing does.
        """
        reading = self._arguments.read(args, named)
        if reading is None:
            raise TypeError(f"{self._title}.compiled takes arrays; with nodes it is inlined")
        function = self._found(self._arguments.call(reading)).function
        if function is None:
            raise GraphError(f"{self._title} computes nothing from arrays: there is no Function")
        return function

    def graph(self, /, *args: Any, **named: Any) -> Graph:
        """The graph that a call with these arguments computes, as it was written."""
        return self.compiled(*args, **named).graph  # type: ignore[no-any-return]

    @property
    def traces(self) -> tuple[Specialization, ...]:
        """The traces made so far, in order."""
        return tuple(self._traces)

    def why(self) -> str:
        """Each trace: its signature, what ties it to certain sizes, and why it was made."""
        traces = self.traces
        counted = f"{len(traces)} trace{'s' * (len(traces) != 1)}"
        return "\n".join([f"{self._title}: {counted}", *map(str, traces)])

    def cache_clear(self) -> None:
        """Forget every trace. Compiled code stays in the cache on disk."""
        with self._lock:
            self._quick.clear()
            self._families.clear()
            self._traces.clear()
            self._bound.clear()

    # -- as a method, and as an object -------------------------------------------------------------

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bound to an instance, which is static: one of its own for each. An instance that is a
        container is an argument like any other.
        """
        if instance is None:
            return self
        if _is_container(instance):
            return types.MethodType(self, instance)
        held = self._bound.get(id(instance))
        if held is None or held[0]() is not instance:
            with self._lock:
                held = self._bound[id(instance)] = self._bind(instance)
        return BoundJitted(held[1], instance)

    def _bind(self, instance: Any) -> tuple[Any, Jitted]:
        key, bound = id(instance), self._bound
        try:
            reference = weakref.ref(instance, lambda _: bound.pop(key, None))
        except TypeError:
            raise TypeError(
                f"{self._title} is a compiled method of a {type(instance).__name__}, which cannot "
                "be referred to weakly: add '__weakref__' to its __slots__"
            ) from None

        @functools.wraps(self._function)
        def method(*args: Any, **named: Any) -> Any:
            return self._function(reference(), *args, **named)

        known = self._arguments
        if known.parameters:
            method.__signature__ = unbound(known.parameters)  # type: ignore[attr-defined]
        return reference, Jitted(
            method,
            [position - 1 for position in known.static_positions if position > 0],
            known.static_names - {p.name for p in known.parameters[:1]},
            [position - 1 for position in known.donated if position > 0],
            self._options,
            self._target,
        )

    def __repr__(self) -> str:
        return f"<gx.jit {self._title}, {len(self._traces)} traced>"

    def __reduce__(self) -> str:
        return str(getattr(self._function, "__qualname__", self._title))

    def __copy__(self) -> Jitted:
        return self

    def __deepcopy__(self, memo: Any) -> Jitted:
        return self


class BoundJitted:
    """A compiled method bound to an instance, which it keeps alive; otherwise a `Jitted`."""

    __slots__ = ("__self__", "_jitted")

    def __init__(self, jitted: Jitted, instance: Any) -> None:
        self._jitted = jitted
        self.__self__ = instance

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        return self._jitted(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jitted, name)

    def __repr__(self) -> str:
        return f"{self._jitted!r} of {self.__self__!r}"


def _definition(function: Callable[..., Any]) -> origin.Event:
    """Where the function is defined, as the origin of its arguments."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return origin.Event("frame", "", "<builtin>", 0, "")
    return origin.Event("frame", "", code.co_filename, code.co_firstlineno, code.co_name)


def _is_container(instance: Any) -> bool:
    return flatten(instance, is_leaf=lambda part: part is not instance)[1].kind != "leaf"
