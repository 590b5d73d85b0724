"""Which type is the object that a user calls?

A Function is an instance of one native leaf type over an ordinary Python class. The leaf adds
three words: the vectorcall entry, a callable for everything unusual, and the descriptor that the
entry interprets (`graphc.runtime.entry`). Where the native type cannot be had (another interpreter,
a free-threaded build, an unknown layout) a plain class calls the unusual way every time.
"""

from __future__ import annotations

import ctypes
import inspect
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from graphc.runtime.entry import make_immortal

if TYPE_CHECKING:
    from graphc.runtime.callable import Implementation

class _Signature:
    """`__signature__` of an instance; the class itself keeps its own."""

    def __get__(self, instance: Any, owner: type | None = None) -> inspect.Signature:
        if instance is None:
            raise AttributeError("__signature__")
        return instance._impl.call_signature


class Function:
    """A compiled function. Made by compiling, not by calling the class.

    `f(*args, out=None)`: arguments by position or by the names of the inputs. Attributes that are
    not its own are those of its implementation. As an attribute of a class it does not bind, like
    a builtin: `C.f(x)` and `C().f(x)` are the same call.
    """

    __slots__ = ("_impl", "__weakref__", "__dict__")
    __signature__ = _Signature()

    def __new__(cls, *args: Any, **named: Any) -> Function:
        raise TypeError(f"{cls.__name__} objects are made by compiling a graph")

    def __getattr__(self, name: str) -> Any:
        if name == "__name__":
            return self._impl.spec.name
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._impl, name)

    def __dir__(self) -> list[str]:
        public = (name for name in dir(self._impl) if not name.startswith("_"))
        return sorted({*super().__dir__(), *public})

    def __repr__(self) -> str:
        return f"<graphc.Function {self._impl.describe()}>"

    def __reduce__(self) -> Any:
        return self._impl.reduce()

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memo: dict) -> Function:
        return self


def make_function(
    implementation: Implementation, base: type[Any] = Function, *, plain: bool = False
) -> Any:
    """A Function over the implementation: an instance of the native leaf of `base`.

    `base` may add methods and properties, but no slots. `plain` asks for the Python class, which
    is also what is made where native code cannot read the interpreter's objects.
    """
    runtime = implementation.call_runtime
    native = not plain and bool(runtime.routines.entry)
    with _LOCK:
        if (base, native) not in _TYPES:
            _TYPES[base, native] = _leaf_type(base) if native else _plain_type(base)
        leaf = _TYPES[base, native]
    function: Any = object.__new__(leaf.type)
    function._impl = implementation
    leaf.set_slow(function, implementation.slow)
    leaf.set_descriptor(function, implementation.descriptor.address)
    leaf.set_entry(function, runtime.routines.entry)  # last: a call without it raises
    known = weakref.ref(function)

    def install(address: int) -> None:
        alive = known()
        if alive is not None:
            leaf.set_entry(alive, address)

    if native:
        implementation.attach(install, known)
    return function


@dataclass(frozen=True)
class _Leaf:
    """A final class over a base, and what writes the native words of its instances."""

    type: Any
    set_entry: Callable[[Any, int], None]
    set_slow: Callable[[Any, Any], None]
    set_descriptor: Callable[[Any, int], None]


_TYPES: dict[tuple[type, bool], _Leaf] = {}
_LOCK = threading.Lock()


def _plain_type(base: type) -> _Leaf:
    def call(self: Any, /, *args: Any, **named: Any) -> Any:
        return self._impl.slow(*args, **named)

    def ignore(function: Any, word: Any) -> None:
        """There are no native words."""

    def refuse(cls: type, **named: Any) -> NoReturn:
        raise TypeError(f"type {base.__name__!r} is not an acceptable base type")

    body = _class_body(base) | {"__slots__": (), "__call__": call}
    leaf = type(base.__name__, (base,), body | {"__init_subclass__": classmethod(refuse)})
    return _Leaf(leaf, ignore, ignore, ignore)


def _class_body(base: type) -> dict[str, Any]:
    return {"__doc__": base.__doc__, "__module__": base.__module__}


class _MemberDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _TypeSlot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _TypeSpec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_TypeSlot)),
    ]


_TP_CALL, _TP_MEMBERS = 50, 72
_OBJECT_MEMBER, _WORD_MEMBER, _READ_ONLY = 16, 19, 1
_HAVE_VECTORCALL = 1 << 11


def _leaf_type(base: type) -> _Leaf:
    """The native leaf type over `base`, one in a process: three words after the fields of the
    base.

    CPython's own deallocation and traversal serve it, since the slow callable is an ordinary
    object member. That member is writable on purpose: read-only ones are not cleared, and leak.
    The member descriptors are then taken off the type, so only this module can write the raw
    words. The type is final, and not immutable, as its base is not either.
    """
    offset = base.__basicsize__
    if offset != Function.__basicsize__:
        raise TypeError(f"{base.__name__} must declare __slots__ = (): the entry knows one layout")
    members = (_MemberDef * 5)(
        _MemberDef(b"__vectorcalloffset__", _WORD_MEMBER, offset, _READ_ONLY, None),
        _MemberDef(b"_entry", _WORD_MEMBER, offset, 0, None),
        _MemberDef(b"_slow", _OBJECT_MEMBER, offset + 8, 0, None),
        _MemberDef(b"_descriptor", _WORD_MEMBER, offset + 16, 0, None),
    )
    call = ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p)
    slots = (_TypeSlot * 3)(
        _TypeSlot(_TP_CALL, call), _TypeSlot(_TP_MEMBERS, ctypes.addressof(members))
    )
    name = f"{base.__module__}.{base.__name__}".encode()
    spec = _TypeSpec(name, offset + 24, 0, _HAVE_VECTORCALL, slots)
    make_immortal((members, slots, spec))  # the type points into them for as long as it lives
    create = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object)
    make = create(("PyType_FromSpecWithBases", ctypes.pythonapi))
    leaf = make(ctypes.addressof(spec), (base,))
    for attribute, value in _class_body(base).items():
        setattr(leaf, attribute, value)
    setters = [leaf.__dict__[name].__set__ for name in ("_entry", "_slow", "_descriptor")]
    for attribute in ("_entry", "_slow", "_descriptor"):
        delattr(leaf, attribute)
    return _Leaf(leaf, *setters)
