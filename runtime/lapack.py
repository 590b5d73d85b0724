"""Where are LAPACK's routines in this process?  In SciPy, which has them as capsules.

`scipy.linalg.cython_lapack.__pyx_capi__` holds an address for each routine, whose name is its C
signature: one that is not the signature that kernels call it with is refused. SciPy is imported
when the first program that calls a routine is linked, and not before: that takes 0.1 to 2 seconds.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

from graphc.codegen.lapack import Foreign, by_symbol
from graphc.errors import CompileError, missing_extra

_WHAT = 'Options(library="lapack")'


def require() -> None:
    """Raise the error that names the extra, if SciPy is not installed. It is not imported."""
    if importlib.util.find_spec("scipy") is None:
        raise missing_extra("scipy", "scipy", _WHAT)


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of those names that are routines of LAPACK."""
    return {name: _address(name) for name in set(names) if by_symbol(name) is not None}


@functools.cache
def _address(symbol: str) -> int:
    found = by_symbol(symbol)
    assert found is not None
    routine, dtype = found
    name = symbol.rpartition("_")[2]
    capsule = _capsules().get(name)
    signature = "" if capsule is None else _name_of(capsule)
    if not _fits(signature, routine, dtype):
        raise CompileError(
            f"{_WHAT}: SciPy's LAPACK has {name} as {signature or 'nothing'}, which is not what "
            "compiled code calls\nCompile without `library`, or with another version of SciPy."
        )
    return _pointer(capsule, signature)


def _capsules() -> Any:
    try:
        return importlib.import_module("scipy.linalg.cython_lapack").__pyx_capi__
    except ImportError as error:
        raise missing_extra("scipy", "scipy", _WHAT) from error


def _fits(signature: str, routine: Foreign, dtype: str) -> bool:
    """Whether a C signature, `void (char *, int *, ..._d *)`, has the routine's arguments."""
    result, _, rest = signature.rstrip(")").partition(" (")
    given = [argument.removesuffix(" *") for argument in rest.split(", ")]
    wanted = routine.signature(dtype)
    return result == "void" and len(given) == len(wanted) and all(
        kind == found or len(kind) == 1 and found.endswith(f"_{kind}")
        for kind, found in zip(wanted, given, strict=True)
    )


def _name_of(capsule: Any) -> str:
    ask = ctypes.pythonapi.PyCapsule_GetName
    ask.restype, ask.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return (ask(capsule) or b"").decode()


def _pointer(capsule: Any, name: str) -> int:
    ask = ctypes.pythonapi.PyCapsule_GetPointer
    ask.restype, ask.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ask(capsule, name.encode()) or 0


__all__ = ["addresses", "require"]
