"""What does a function of NumPy do with an expression?  It builds the graph, or says why it cannot.

NumPy offers every call with a node to the node: ufuncs through `__array_ufunc__`, other functions
through `__array_function__`. The function of the same name on graphc's surface answers, called with
NumPy's argument names. An argument that ours does not have may keep its default; any other value is
refused by name, for silence would mean a wrong result. What the surface lacks is refused, too, with
the names that come nearest.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import opcode
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc import callers, dtypes
from graphc.errors import GraphError, GraphTypeError, shortened
from graphc.tensor import SURFACE, in_place

# Functions of the surface that NumPy's name otherwise; the first that exists is meant.
_SYNONYMS = {
    "bitwise_invert": ("invert", "bitwise_not"),
    "bitwise_left_shift": ("left_shift",),
    "bitwise_not": ("invert",),
    "bitwise_right_shift": ("right_shift",),
    "acos": ("arccos",),
    "acosh": ("arccosh",),
    "amax": ("max",),
    "amin": ("min",),
    "asin": ("arcsin",),
    "asinh": ("arcsinh",),
    "atan": ("arctan",),
    "atan2": ("arctan2",),
    "atanh": ("arctanh",),
    "concat": ("concatenate",),
    "conj": ("conjugate",),
    "fabs": ("absolute",),
    "invert": ("bitwise_not",),
    "left_shift": ("bitwise_left_shift",),
    "mod": ("remainder",),
    "permute_dims": ("transpose",),
    "pow": ("power",),
    "right_shift": ("bitwise_right_shift",),
    "true_divide": ("divide",),
}
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
    "logaddexp": "logsumexp",
}
_RUNNING = {
    "add": "cumsum",
    "multiply": "cumprod",
    "maximum": "cummax",
    "minimum": "cummin",
    "logaddexp": "logcumsumexp",
}
# Arguments whose name differs between NumPy and the surface.
_ARGUMENTS = {"a_min": "min", "a_max": "max", "newshape": "shape"}
# What NumPy calls a ufunc's argument, and the only value that means nothing to a graph.
_IDLE_OPTIONS = {"casting": "same_kind", "order": "K", "subok": True, "where": True, "out": None}
_IDLE: dict[str, Any] = {"out": None, "order": "C", "copy": None, "subok": True, "like": None}


def find(name: str, submodule: str = "") -> Callable[..., Any] | None:
    """The function of the surface for a function of NumPy."""
    if submodule and not submodule.startswith("lib"):
        import graphc

        home = getattr(graphc, submodule, None)  # gx.linalg for np.linalg
        return getattr(home, name) if name in getattr(home, "__all__", ()) else None
    for candidate in (name, *_SYNONYMS.get(name, ())):
        if candidate in SURFACE:
            return SURFACE[candidate]
    return None


# -- ufuncs ----------------------------------------------------------------------------------------


def apply_ufunc(ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """The result of `ufunc`, or of a method of it, with an expression among the inputs.

    Raises `GraphTypeError` for what has no equal here.
    """
    out = options.get("out")
    if out is not None:
        apply = _augmented(sys._getframe(2))
        if apply is None or out[0] is not inputs[0] or method != "__call__":
            _refuse_out(f"np.{ufunc.__name__}")
        return _in_place(apply, ufunc, *inputs)
    options = {name: value for name, value in options.items() if name != "out"}
    handler = _METHODS.get(method)
    if handler is None:
        _refuse(f"np.{ufunc.__name__}.{method}", ufunc.__name__)
    with named_in_errors(f"np.{ufunc.__name__}"):
        return handler(ufunc, *inputs, **options)


# What BINARY_OP says of `+=` and the others of its kind, in the order that Python numbers them.
_FIRST_AUGMENTED = 13
_AUGMENTED: tuple[Callable[[Any, Any], Any], ...] = (
    operator.add,
    operator.and_,
    operator.floordiv,
    operator.lshift,
    operator.matmul,
    operator.mul,
    operator.mod,
    operator.or_,
    operator.pow,
    operator.rshift,
    operator.sub,
    operator.truediv,
    operator.xor,
)


def _augmented(frame: types.FrameType) -> Callable[[Any, Any], Any] | None:
    """The operator, if a frame is at an augmented assignment: NumPy makes a ufunc with `out` of it,
    which only the instruction tells from a call whose result may be left unused.
    """
    code, at = frame.f_code.co_code, frame.f_lasti
    if opcode.opname[code[at]] != "BINARY_OP":
        return None
    which = code[at + 1] - _FIRST_AUGMENTED
    return _AUGMENTED[which] if 0 <= which < len(_AUGMENTED) else None


def _in_place(apply: Callable[[Any, Any], Any], ufunc: np.ufunc, array: Any, other: Any) -> Any:
    """`array += expression`: the name stands for an expression from then on."""
    if not isinstance(array, np.ndarray) or array.base is not None:
        raise GraphTypeError(
            f"np.{ufunc.__name__} in place: an expression cannot be written into a view of an array"
            "\nCollect the parts in a list, and join them: np.stack(parts)."
        )
    return in_place(apply, SURFACE["cast"](array, array.dtype), other)


def _call(ufunc: np.ufunc, *inputs: Any, dtype: Any = None, **options: Any) -> Any:
    name = ufunc.__name__
    function = find(name)
    if function is None:
        _refuse(f"np.{name}", name)
    for option, value in options.items():
        if option == "where" and value is not True:
            _refuse_argument(
                f"np.{name}",
                "where",
                "write gx.where(mask, result, other): every element needs a value",
            )
        if option not in _IDLE_OPTIONS or value != _IDLE_OPTIONS[option]:
            _refuse_argument(f"np.{name}", option, "leave it out")
    if dtype is None:
        return function(*inputs)
    return _in_dtype(name, function, inputs, dtypes.as_dtype(dtype))


def _in_dtype(name: str, function: Any, inputs: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    """The ufunc computed in `dtype`: the inputs are converted, as NumPy does."""
    plain = function(*inputs)
    if getattr(plain, "dtype", None) == dtype == dtypes.BOOL:
        return plain  # comparisons: the dtype is that of the result
    cast = SURFACE["cast"]
    for value in inputs:
        source = getattr(value, "dtype", None)
        if source is not None and not np.can_cast(source, dtype, "same_kind"):
            raise GraphTypeError(
                f"np.{name}(dtype={dtype.name}): {np.dtype(source).name} does not become "
                f"{dtype.name} by the rule same_kind\nConvert it yourself: x.astype({dtype.name!r})"
            )
    made = function(*[cast(value, dtype) for value in inputs])
    for result in made if isinstance(made, tuple) else (made,):
        if result.dtype != dtype:
            raise GraphTypeError(
                f"np.{name}(dtype={dtype.name}): it is computed in {result.dtype.name} there\n"
                f"Convert the result: np.{name}(...).astype({dtype.name!r})."
            )
    return made


def _reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    **options: Any,
) -> Any:
    named = {"axis": axis, "keepdims": keepdims, "dtype": dtype, "out": out, **options}
    where = f"np.{ufunc.__name__}.reduce"
    return _through_table(ufunc, "reduce", _REDUCTIONS, where, array, named)


def _accumulate(
    ufunc: np.ufunc, array: Any, axis: int = 0, dtype: Any = None, out: Any = None
) -> Any:
    named = {"axis": axis, "dtype": dtype, "out": out}
    where = f"np.{ufunc.__name__}.accumulate"
    return _through_table(ufunc, "accumulate", _RUNNING, where, array, named)


def _through_table(
    ufunc: np.ufunc,
    method: str,
    table: Mapping[str, str],
    where: str,
    array: Any,
    named: Mapping[str, Any],
) -> Any:
    function = find(table.get(ufunc.__name__, ""))
    if function is None:
        listed = ", ".join(name for name, ours in table.items() if find(ours) is not None)
        raise GraphTypeError(f"{where} of an expression is not supported; {method} is for {listed}")
    idle = {"out": None, "dtype": None, "where": True, "initial": np._NoValue}
    known = _parameters(function)
    given = {}
    for name, value in named.items():
        if name in known:
            if value is not np._NoValue and not (name in idle and value is idle[name]):
                given[name] = value
        elif not (name in idle and value is idle[name]):
            _refuse_argument(where, name, _forms(function))
    return function(array, **given)


def _outer(ufunc: np.ufunc, first: Any, second: Any, **options: Any) -> Any:
    expand, rank = SURFACE["reshape"], np.ndim(second)
    node = SURFACE["cast"](first, first.dtype) if hasattr(first, "dtype") else np.asarray(first)
    columns = expand(node, (*node.shape, *[1] * rank))
    return _call(ufunc, columns, second, **options)


def _at(ufunc: np.ufunc, *inputs: Any, **options: Any) -> NoReturn:
    forms = {"add": "add", "multiply": "multiply", "maximum": "max", "minimum": "min"}
    method = forms.get(ufunc.__name__, "set")
    raise GraphTypeError(
        f"np.{ufunc.__name__}.at changes its argument in place, which an expression cannot\n"
        f"Make a new one: x = x.at[indices].{method}(values)."
    )


_METHODS: Mapping[str, Callable[..., Any]] = {
    "__call__": _call,
    "reduce": _reduce,
    "accumulate": _accumulate,
    "outer": _outer,
    "at": _at,
}


# -- other functions -------------------------------------------------------------------------------


def call_function(function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The result of a function of NumPy with an expression among its arguments.

    Raises `GraphTypeError` for a function or an argument that has no equal here.
    """
    submodule = function.__module__.removeprefix("numpy").lstrip(".")
    shown = f"np.{submodule + '.' if submodule else ''}{function.__name__}"
    question = _QUESTIONS.get(shown)
    if question is not None:
        return question(*args, **named)
    if shown in _CHANGING:
        _refuse_changing(shown)
    ours = find(function.__name__, submodule)
    if ours is None:
        _refuse(shown, function.__name__)
    signature = _numpy_signature(function)
    with named_in_errors(shown):
        if signature is None:
            _require_call(shown, ours, args, named)
            return ours(*args, **named)
        return _call_bound(shown, ours, signature, signature.bind(*args, **named))


def _call_bound(
    shown: str, ours: Any, signature: inspect.Signature, bound: inspect.BoundArguments
) -> Any:
    """`ours`, with NumPy's arguments under our names for them."""
    theirs = list(signature.parameters)
    known = _parameters(ours)
    free = [name for name in known if name not in theirs]
    positional: list[Any] = []
    rest: tuple[Any, ...] = ()
    given: dict[str, Any] = {}
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        if name not in bound.arguments:
            continue
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            given |= value
        elif name in known:
            given[name] = value
        elif _ARGUMENTS.get(name) in known:
            if value is not np._NoValue:
                given[_ARGUMENTS[name]] = value
        elif index < len(known) and known[index] in free and parameter.default is parameter.empty:
            given[known[index]] = value
        elif not _is_default(name, value, parameter):
            _refuse_argument(shown, name, _forms(ours))
    kinds = _signature(ours).parameters
    while known and known[0] in given:
        if kinds[known[0]].kind is inspect.Parameter.KEYWORD_ONLY:
            break
        positional.append(given.pop(known[0]))
        known = known[1:]
    positional += rest
    given = {name: value for name, value in given.items() if value is not np._NoValue}
    _require_call(shown, ours, positional, given)
    return ours(*positional, **given)


def _require_call(shown: str, ours: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
    try:
        _signature(ours).bind(*args, **named)
    except TypeError as error:
        raise GraphTypeError(f"{shown} of an expression: {error}\n{_forms(ours)}.") from None


def _is_default(name: str, value: Any, parameter: inspect.Parameter) -> bool:
    """Whether an argument asks for nothing that a graph would not do anyway."""
    if value is np._NoValue or value is parameter.default:
        return True
    simple = (bool, int, float, str, type(None))
    if isinstance(value, simple) and isinstance(parameter.default, simple):
        return bool(value == parameter.default)
    return name in _IDLE and value is _IDLE[name]


@functools.cache
def _numpy_signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@functools.cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


def _parameters(function: Any) -> list[str]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in _signature(function).parameters.values() if p.kind not in variadic]


# -- questions that need no graph ------------------------------------------------------------------


def _size(a: Any, axis: Any = None) -> Any:
    from graphc.dims import product
    from graphc.ops.operands import normalize_axes

    return a.size if axis is None else product(a.shape[w] for w in normalize_axes(axis, a, "size"))


def _result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    from graphc.weak import WeakScalar

    plain = [
        value.sample
        if isinstance(value, WeakScalar)
        else value
        if isinstance(value, (bool, int, float, complex))
        else value
        if isinstance(value, type)
        else getattr(value, "dtype", value)
        for value in arrays_and_dtypes
    ]
    return np.result_type(*plain)


def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return a  # expressions do not change


_QUESTIONS: Mapping[str, Callable[..., Any]] = {
    "np.shape": lambda a: a.shape,
    "np.ndim": lambda a: a.ndim,
    "np.size": _size,
    "np.result_type": _result_type,
    "np.can_cast": lambda from_, to, casting="safe": np.can_cast(from_.dtype, to, casting),
    "np.iscomplexobj": lambda x: x.dtype.kind == "c",
    "np.isrealobj": lambda x: x.dtype.kind != "c",
    "np.copy": _copy,
}

# What to write in the place of functions that change an argument: they return nothing.
_CHANGING: Mapping[str, str] = {
    "np.copyto": "x = gx.where(mask, source, x), or x = source",
    "np.fill_diagonal": "x = gx.fill_diagonal(x, value)",
    "np.place": "x = gx.where(mask, value, x)",
    "np.put": "x = x.at[indices].set(values)",
    "np.put_along_axis": "x = gx.put_along_axis(x, indices, values, axis)",
    "np.putmask": "x = gx.where(mask, values, x)",
}

# -- refusals --------------------------------------------------------------------------------------


class named_in_errors:
    """Within, an error of a graph begins with the name of NumPy's function that was called."""

    __slots__ = ("_shown",)

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(error, GraphError) or not error.args:
            return
        text = str(error.args[0])
        shown = _outer_name(self._shown.rpartition(".")[2]) or self._shown
        if shown.rpartition(".")[2] not in text:
            error.args = (f"{shown}: {text}", *error.args[1:])


def _forms(function: Any) -> str:
    """What our function takes, as advice."""
    return f"gx.{function.__name__} takes {', '.join(_parameters(function))}"


def _refuse(shown: str, name: str) -> NoReturn:
    outer = _outer_name(name)
    near = [] if outer is None else difflib.get_close_matches(outer, SURFACE, n=3, cutoff=0.6)
    near += difflib.get_close_matches(name, SURFACE, n=3, cutoff=0.6)
    named = ", ".join(f"gx.{n}" for n in dict.fromkeys(near))
    raise GraphTypeError(
        f"{shown} of an expression is not supported"
        + (f", which {outer} calls" if outer else "")
        + (f"\nNearest are {named}." if near else "")
        + "\nOutside of the graph: evaluate first, with gx.evaluate or gx.compile."
    )


def _outer_name(name: str) -> str | None:
    """The function that the user called, if it is another one of NumPy's, which called `name`."""
    outer = callers.called(callers.user_frame(2))
    return outer if outer and outer.rpartition(".")[2] != name else None


def _refuse_changing(shown: str) -> NoReturn:
    outer = _outer_name(shown.rpartition(".")[2])
    called = f"{outer}, by {shown}," if outer else shown
    advice = _CHANGING[shown]
    ours = find(outer.rpartition(".")[2]) if outer else None
    if ours is not None:
        advice = _forms(ours)
    raise GraphTypeError(
        f"{called} changes an array in place, which is not done with expressions\n"
        f"Make a new one: {advice}."
    )


def _refuse_argument(shown: str, argument: str, advice: str) -> NoReturn:
    raise GraphTypeError(
        f"{shown}: the argument {argument!r} is not supported with expressions\n"
        f"{shortened(advice[0].upper() + advice[1:] if not advice.startswith('gx.') else advice)}."
    )


def _refuse_out(shown: str) -> NoReturn:
    raise GraphTypeError(
        f"{shown}: the argument 'out' is not supported with expressions: nothing is computed yet\n"
        "Use the result: array = np.add(array, expression), or array += expression.\n"
        "A compiled Function writes into arrays: f(..., out=array)."
    )
