"""Is every function of NumPy, and every argument, right on expressions or refused by name?

The public names of NumPy are walked. A call that NumPy takes with arrays is made with symbols in
their place, from text, as a user's line: the result is NumPy's, in dtype, shape and value, or the
call raises a `GraphError` that names the function. Nothing else may happen, above all no array of
objects and no error from inside NumPy. What differs on purpose is in the tables, with the reason.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphError
from graphc.node import Node
from graphc.substitutes import substituted


@dataclass(frozen=True)
class Slot:
    """The place of an array in a call."""

    name: str


ARRAYS = {
    "matrix": np.array([[4.0, 1.0, 0.5], [0.75, 3.0, 0.25], [0.125, 0.375, 2.0]]),
    "line": np.array([0.75, 0.25, 0.5, 0.125]),
    "places": np.array([3, 1, 2, 0]),
    "mask": np.array([True, False, True, True]),
    "number": np.array(0.5),
    "count": np.array(3),
}
SYMBOLS = {name: gx.symbol(name, array.shape, array.dtype) for name, array in ARRAYS.items()}
A, V, I, M, S, K = map(Slot, ARRAYS)  # noqa: E741

# Calls of many kinds of functions; those that NumPy takes of a function are tried.
FORMS: tuple[tuple[Any, ...], ...] = (
    *((A,), (V,), (I,), (M,), (S,), (K,)),
    *((A, A), (V, V), (I, I), (M, M), (V, I), (V, M), (V, S), (A, 0), (V, 1), (I, 1), (A, (1, 0))),
    *(([A, A],), ([V, V],), ((V, I),), ([M], [V]), ("ij,jk->ik", A, A), ("i,i", V, V)),
    *((A, 0, 1), (V, V, V), (M, V, V), (I, I, I), (V, 0, 1), (V, 1, V), (V, I, 0), (V, K)),
    *((V, [1, 2]), (A, (9,)), (2, V), (3, I), ((2, 2), V), (I, (2, 2)), (np.sum, 0, A)),
    *(((K,),), ((K, 2), S), (S, S, K), (K, K), (0, S), (np.ones((3, 3)), A), (np.ones(4), V)),
    *((A, np.ones((3, 3))), (V, np.ones(4)), (np.ones(4, bool), V), (np.arange(4), I, 0)),
    *((V, M, V), (np.zeros(4), M, V), (np.zeros(4), I, V), (A, 0.5), (np.sum, A, (0,))),
    *((V, [M], [1.0, 2.0]), ([M], [V], 0.0), (I, I, V, 0), ((I,), (4,)), ((I, I), (4, 4))),
)
MOST_FORMS = 12  # of one function

MODULES = {"np": np, "np.linalg": np.linalg, "np.fft": np.fft, "np.random": np.random}
# They read or write files, or change the state of NumPy.
LEFT_OUT = {
    *("np.save", "np.savez", "np.savez_compressed", "np.savetxt", "np.load", "np.loadtxt"),
    *("np.fromfile", "np.memmap", "np.genfromtxt", "np.info", "np.show_config", "np.show_runtime"),
    *("np.seterr", "np.seterrcall", "np.setbufsize", "np.set_printoptions", "np.printoptions"),
    *("np.errstate", "np.test", "np.linalg.test", "np.fft.test", "np.random.test"),
    *("np.random.seed", "np.random.set_state"),
}
# NumPy asks the expression nothing: it knows the types that it takes, and says so.
REFUSED_BY_NUMPY = {
    "np.frombuffer": "bytes-like",
    "np.fromstring": "bytes-like",
    "np.nditer": "Iterator operand",
    **dict.fromkeys(("np.random.SeedSequence", "np.random.default_rng"), "SeedSequence expects"),
    **dict.fromkeys(("np.random.MT19937", "np.random.PCG64"), "SeedSequence expects"),
    **dict.fromkeys(("np.random.PCG64DXSM", "np.random.SFC64"), "SeedSequence expects"),
    "np.random.Philox": "SeedSequence expects",
}
DIFFERENT = {
    "np.array2string": "it is the text of an expression",
    "np.array_repr": "it is the text of an expression",
    "np.array_str": "it is the text of an expression",
    "np.bmat": "NumPy gives None for what it does not know",
    "np.bytes_": "it is the text of an expression",
    "np.conj": "bool stays bool, which NumPy makes int8",
    "np.conjugate": "bool stays bool, which NumPy makes int8",
    "np.einsum_path": "the second result is text",
    "np.empty": "its elements mean nothing",
    "np.empty_like": "its elements mean nothing",
    "np.interp": "points that do not increase have no meaning",
    "np.ldexp": "NumPy takes a Python int for float16",
    "np.linalg.eigh": "the sign of a vector is a matter of choice",
    "np.linalg.svd": "the sign of a vector is a matter of choice",
    "np.nanquantile": "NumPy gives int64 for a quantile 0 or 1 of integers",
    "np.polymul": "zeros in front are kept",
    "np.quantile": "NumPy gives int64 for a quantile 0 or 1 of integers",
    "np.str_": "it is the text of an expression",
    "np.typename": "it knows texts alone",
}
# Functions whose error is that of another one, which they call.
CALLED = {"poly1d": "poly", "row_stack": "vstack"}


def filled(value: Any, table: Mapping[str, Any]) -> Any:
    """A form with arrays or symbols in its places; arrays are fresh, for functions that write."""
    if isinstance(value, Slot):
        value = table[value.name]
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (list, tuple)):
        return type(value)([filled(item, table) for item in value])
    return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            yield


def public(module: str) -> Iterator[tuple[str, Any]]:
    home = MODULES[module]
    for name in sorted(getattr(home, "__all__", None) or dir(home)):
        value = getattr(home, name)
        error = isinstance(value, type) and issubclass(value, BaseException)
        known = callable(value) and not name.startswith("_") and not error
        if known and f"{module}.{name}" not in LEFT_OUT:
            yield f"{module}.{name}", value


def numpy_result(function: Any, form: Any, named: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether NumPy takes a call, and its result or error."""
    try:
        with quiet():
            return True, function(*filled(form, ARRAYS), **filled_named(named, ARRAYS))
    except BaseException as error:  # also the warnings that NumPy makes errors, and deprecations
        return False, error


def filled_named(named: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: filled(value, table) for name, value in named.items()}


def differs(result: Any, expected: Any) -> str:
    """What is different between a result that may hold nodes and NumPy's; empty if nothing."""
    if isinstance(expected, (list, tuple)) and isinstance(result, (list, tuple)):
        if len(result) != len(expected):
            return f"{len(result)} results, {len(expected)} expected"
        return next(filter(None, map(differs, result, expected)), "")
    if isinstance(result, Node):
        try:
            result = gx.evaluate(result, dict(zip(SYMBOLS.values(), ARRAYS.values(), strict=True)))
        except ZeroDivisionError:
            return ""  # of integers, where NumPy gives 0 and a warning
    got, wanted = np.asarray(result), np.asarray(expected)
    if got.dtype == object or wanted.dtype == object:
        return "" if str(result) == str(expected) else f"{result!r} is not {expected!r}"
    if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
        return f"{got.dtype}{got.shape} is not {wanted.dtype}{wanted.shape}"
    close = np.allclose(got, wanted, equal_nan=True) if wanted.dtype.kind in "biufc" else True
    return "" if close else f"{got} is not {wanted}"


def names_it(error: GraphError, shown: str, function: Any) -> bool:
    name = shown.rpartition(".")[2]
    known = {name, getattr(function, "__name__", name), CALLED.get(name, name)}
    return any(each in str(error) for each in known)


def wrong(shown: str, function: Any, form: Any, named: Mapping[str, Any], expected: Any) -> str:
    """What is wrong with a call of NumPy with symbols; empty if nothing."""
    scope = {
        "np": np,
        "given": filled(form, SYMBOLS),
        "named": filled_named(named, SYMBOLS),
    }
    try:
        with quiet():
            result = eval(f"{shown}(*given, **named)", scope)
    except GraphError as error:
        return "" if names_it(error, shown, function) else f"not named: {error}"
    except Exception as error:
        # A shape that is a node of rank 0: NumPy answers for the node.
        known = REFUSED_BY_NUMPY.get(shown, "expected a sequence of integers or a single integer")
        if known in str(error):
            return ""
        return f"{type(error).__name__}: {error}"
    return "" if shown in DIFFERENT else differs(result, expected)


@pytest.mark.parametrize("traced", [False, True], ids=["outside", "traced"])
@pytest.mark.parametrize("module", MODULES)
def test_functions_are_right_or_refused(module: str, traced: bool) -> None:
    mistakes, tried = [], 0
    for shown, function in public(module):
        taken = ((form, *numpy_result(function, form, {})) for form in FORMS)
        taken = itertools.islice((row for row in taken if row[1]), MOST_FORMS)
        for form, _, expected in list(taken):
            tried += 1
            with substituted() if traced else contextlib.nullcontext():
                mistake = wrong(shown, function, form, {}, expected)
            if mistake:
                mistakes.append(f"{shown}{form}: {mistake}")
    assert not mistakes, "\n".join(mistakes)
    assert tried > 20


# Values of arguments, by name; those that NumPy takes of a function are tried.
OUT, LIKE = object(), np.ones(2)
VALUES: dict[str, tuple[Any, ...]] = {
    "append": (0.0, V),
    "assume_unique": (True,),
    "axes": (0, (1, 0), (0,), None),
    "axis": (0, -1, None, (0,), 5, -4),
    "axis1": (1,),
    "base": (2.0,),
    "bias": (True,),
    "bins": (3, [0.0, 0.5, 1.0]),
    "casting": ("unsafe", "safe", "no", "same_kind"),
    "compute_uv": (False,),
    "constant_values": (1,),
    "copy": (True, False, None),
    "correction": (1,),
    "ddof": (1,),
    "decimals": (1,),
    "deg": (True,),
    "density": (True,),
    "descending": (True, False),
    "device": ("cpu", None),
    "discont": (1.0,),
    "dtype": ("float32", "int64", object, complex, "S3", "datetime64[s]", None),
    "dx": (0.5,),
    "edge_order": (2,),
    "endpoint": (False,),
    "equal_nan": (True, False),
    "full_matrices": (False,),
    "fweights": (I,),
    "hermitian": (True,),
    "increasing": (True,),
    "indexing": ("ij",),
    "initial": (1.0, None),
    "invert": (True,),
    "k": (1, -1),
    "keepdims": (True, False),
    "kind": ("stable", "quicksort", "heapsort", None),
    "left": (0.0,),
    "like": (LIKE, None),
    "max": (0.6,),
    "max_rows": (1,),
    "mean": (np.array(0.5),),
    "method": ("nearest", "linear", "lower"),
    "min": (0.1,),
    "minlength": (6,),
    "mode": ("clip", "wrap", "raise", "full", "valid", "same", "constant", "edge", "reflect"),
    "n": (2, 0),
    "nan": (1.0,),
    "ndmin": (2,),
    "norm": ("ortho",),
    "num": (3,),
    "offset": (1,),
    "optimize": (True, False),
    "ord": (1, 2, "fro", "nuc", np.inf),
    "order": ("F", "C", "K", "A", None),
    "out": (OUT,),
    "overwrite_input": (True,),
    "period": (1.0,),
    "prepend": (0.0,),
    "range": ((0, 1), None),
    "return_counts": (True,),
    "return_index": (True,),
    "return_inverse": (True,),
    "returned": (True,),
    "rowvar": (False,),
    "rtol": (1e-3,),
    "shape": ((3, 3),),
    "side": ("right",),
    "signature": ("d->d", "dd->d"),
    "size": (3, (2, 2)),
    "sorter": (I,),
    "sparse": (True,),
    "stable": (True, None),
    "strict": (True,),
    "subok": (True, False),
    "trim": ("f",),
    "UPLO": ("U",),
    "weights": (V, None),
    "where": (M, True, np.ones((3, 3), bool)),
}
PLAIN_FORMS = ((A,), (V,), (A, A), (V, V), (V, 1), (M, V, V), (A, 0), ([V, V],), (I, I), (M,))
UFUNC_ARGUMENTS = ("axis", "casting", "dtype", "keepdims", "order", "out", "signature", "subok")


def arguments(function: Any) -> list[str]:
    """The arguments of a function whose values are known here."""
    if isinstance(function, np.ufunc):
        return [*UFUNC_ARGUMENTS, "where"]
    try:
        return [name for name in inspect.signature(function).parameters if name in VALUES]
    except (TypeError, ValueError):
        return ["axis", "dtype", "keepdims", "order", "out", "where"]


@pytest.mark.parametrize("module", ["np", "np.linalg", "np.fft"])
def test_arguments_are_right_or_refused(module: str) -> None:
    mistakes, tried = [], 0
    for shown, function in public(module):
        if isinstance(function, type) or shown in REFUSED_BY_NUMPY:
            continue
        plain = ((form, *numpy_result(function, form, {})) for form in PLAIN_FORMS)
        for form, _, result in list(itertools.islice((row for row in plain if row[1]), 2)):
            for name, value in ((n, v) for n in arguments(function) for v in VALUES[n]):
                if value is OUT:
                    value = np.empty_like(result) if isinstance(result, np.ndarray) else None
                taken, expected = numpy_result(function, form, {name: value})
                if not taken:
                    continue
                tried += 1
                mistake = wrong(shown, function, form, {name: value}, expected)
                if mistake:
                    mistakes.append(f"{shown}{form}, {name}={value!r}: {mistake}")
    assert not mistakes, "\n".join(mistakes)
    assert tried > 20


@pytest.mark.filterwarnings("ignore:you are shuffling")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.sin(x, dtype="int64"),
        lambda x: np.less(x, x, dtype="float32"),
        lambda x: np.concatenate([x, x], dtype="int64"),
        lambda x: np.hstack([x, x], dtype="int64"),
        lambda x: np.var(x, dtype="int64"),
        lambda x: np.nanmean(x, dtype="int64"),
        lambda x: np.cov(x, dtype="int64"),
        lambda x: np.stack([x, x], axis=None),
        lambda x: np.expand_dims(x, None),
        lambda x: np.lexsort(x, axis=None),
        lambda x: np.isin(x, x, kind="stable"),
        lambda x: np.size(x, 5),
        lambda x: np.fill_diagonal(x, 0),
        lambda x: np.put_along_axis(np.ones((3, 3)), np.zeros((1, 3), int), x[:1], 0),
        lambda x: np.full_like(np.ones((3, 3)), x),
        lambda x: np.array([x, x]),
        lambda x: np.random.default_rng(0).normal(x),
        lambda x: np.from_dlpack(x),
        lambda x: np.isfortran(x),
        lambda x: x.flags,
        lambda x: x.view("float32"),
        lambda x: np.random.shuffle(x),
    ],
)
def test_what_has_no_meaning_is_refused_when_it_is_written(call: Any) -> None:
    with pytest.raises(GraphError):
        call(SYMBOLS["matrix"])


def test_attributes_of_memory_are_absent() -> None:
    """`hasattr` says so, and code that asks for them before use goes another way."""
    for name in ("flags", "strides", "ctypes", "__dlpack__", "nonsense"):
        assert not hasattr(SYMBOLS["matrix"], name)
    with pytest.raises(AttributeError, match="'Node' object has no attribute 'nonsense'"):
        _ = SYMBOLS["matrix"].nonsense
