"""Which values does a call pass, and which of them are traced? Told in microseconds.

Every call of a jitted function that is not plainly of arrays comes through here, so reading is one
pass: positions and keywords in one order, containers flattened, each leaf recognised by its type,
and a key made of what decides which compiled code serves. Names, paths and signatures are for calls
that nothing serves yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError, shortened
from graphc.node import Node
from graphc.signature import STATIC_TYPES, Leaf, Signature, Static, dimension_names
from graphc.tree import LEAF, Structure, flatten
from graphc.weak import WeakScalar

_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (*_PLACED, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Reading:
    """A call as it was read: `key` decides which code serves it, `values` are what that code takes.

    `leaves` are all leaves, static ones wrapped; `structures` one for each argument, positional
    ones first, then those of `names`.
    """

    __slots__ = ("key", "leaves", "names", "structures", "values")

    def __init__(self) -> None:
        self.key: list[Any] = []
        self.values: list[Any] = []
        self.leaves: list[Any] = []
        self.structures: list[Structure | None] = []
        self.names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """The arguments of one call with what is only needed to make a trace for it."""

    signature: Signature
    paths: tuple[str, ...]
    leaves: tuple[Any, ...]

    @property
    def axes(self) -> list[list[str]]:
        """A name for every axis of every leaf."""
        return dimension_names(self.paths, self.signature.entries)

    def sizes(self) -> dict[str, int]:
        """The extents of all axes, by name."""
        return {
            name: size
            for names, leaf in zip(self.axes, self.leaves, strict=True)
            for name, size in zip(names, getattr(leaf, "shape", ()), strict=False)
        }


class Arguments:
    """The parameters of a function, and which of them are static or donated."""

    def __init__(
        self,
        function: Callable[..., Any],
        title: str,
        static_argnums: int | Iterable[int],
        static_argnames: str | Iterable[str],
        donate_argnums: int | Iterable[int],
    ) -> None:
        self.title = title
        self.parameters = _parameters_of(function)
        self.static_positions, self.static_names = self._chosen(
            "static", static_argnums, static_argnames
        )
        self.donated, _ = self._chosen("donate", donate_argnums, ())
        both = self.donated & self.static_positions
        if both:
            raise ValueError(f"argument {min(both)} is both static and donated")

    def read(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Reading | None:
        """The parts of a call; None if a node is among them.

        Raises `TypeError` for a leaf that is neither array, number, nor static.
        """
        reading = Reading()
        if named:
            args, named = self._positional(args, named)
        statics = self.static_positions
        for position, value in enumerate(args):
            if position in statics:
                value = self._static(value, position)
            if not self._take(value, reading, position):
                return None
        if named:
            reading.names = tuple(sorted(named))
            for name in reading.names:
                reading.key.append(name)
                value = named[name]
                if name in self.static_names:
                    value = self._static(value, name)
                if not self._take(value, reading, name):
                    return None
        return reading

    def _take(self, value: Any, reading: Reading, argument: int | str) -> bool:
        """Read one argument; False for a node. Its key is that of `Jitted.__call__` for arrays."""
        kind = type(value)
        if kind is np.ndarray:
            reading.key += (value.dtype, value.shape)
            reading.values.append(value)
            reading.leaves.append(value)
            reading.structures.append(None)
            return True
        if kind is Static:
            leaves, structure = [value], None
        else:
            leaves, structure = flatten(value)
            if structure.kind == "leaf":
                structure = None
            else:
                reading.key.append(structure)
        reading.structures.append(structure)
        for index, leaf in enumerate(leaves):
            kind = type(leaf)
            if kind is np.ndarray:
                reading.key += (leaf.dtype, leaf.shape)
            elif kind is float or kind is int:
                reading.key.append(kind)
            elif kind is Static:
                reading.key.append(leaf)
                reading.leaves.append(leaf)
                continue
            elif isinstance(leaf, (Node, WeakScalar)):
                return False
            elif isinstance(leaf, STATIC_TYPES):
                leaf = Static(leaf)
                reading.key.append(leaf)
                reading.leaves.append(leaf)
                continue
            else:
                leaf = self._as_array(leaf, argument, structure, index)
                reading.key += (leaf.dtype, leaf.shape)
            reading.values.append(leaf)
            reading.leaves.append(leaf)
        return True

    def call(self, reading: Reading) -> Call:
        """The signature of a call and a path for every leaf.

        Raises `TypeError` for an array of a dtype that is not supported.
        """
        paths: list[str] = []
        for position, structure in enumerate(reading.structures):
            paths += _under(self._argument(position, reading), structure)
        entries = [self._entry(*pair) for pair in zip(reading.leaves, paths, strict=True)]
        count = len(reading.structures) - len(reading.names)
        whole = tuple(LEAF if s is None else s for s in reading.structures)
        structure = Structure(
            "tuple",
            None,
            None,
            (
                Structure("tuple", None, None, whole[:count]),
                Structure("dict", None, reading.names, whole[count:]),
            ),
        )
        return Call(Signature(structure, tuple(entries)), tuple(paths), tuple(reading.leaves))

    def _entry(self, leaf: Any, path: str) -> Leaf | Static:
        if isinstance(leaf, Static):
            return leaf
        if type(leaf) in (int, float):
            return Leaf(dtypes.weak_dtype(leaf), weak=True)
        try:
            dtype = dtypes.as_dtype(_numpy_spelling(leaf.dtype))
        except GraphError as error:
            raise TypeError(f"{self.title}() argument {path}: {error}") from None
        return Leaf(dtype, tuple(extent == 1 for extent in leaf.shape))

    def _positional(
        self, args: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Keywords as positions, as far as they continue the positions without a gap."""
        rest = dict(named)
        added = []
        for parameter in self.parameters[len(args) :]:
            if parameter.kind is not _MOVABLE or parameter.name not in rest:
                break
            added.append(rest.pop(parameter.name))
        return (*args, *added), rest

    def _static(self, value: Any, argument: int | str) -> Static:
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"{self.title}() argument {self.name(argument)} is static, so it must be hashable; "
                f"got a {type(value).__name__}: {shortened(repr(value))}"
            ) from None
        return Static(value)

    def _as_array(
        self, value: Any, argument: int | str, structure: Structure | None, index: int
    ) -> np.ndarray:
        if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.ma.MaskedArray):
            return np.asarray(value)
        path = _under(self.name(argument), structure)[index]
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{self.title}() argument {path} is a masked array: fill it first, array.filled(0)"
            )
        if _is_on_gpu(value):
            return value  # a Function for "cuda" reads it there
        if hasattr(value, "__array__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        raise TypeError(
            f"{self.title}() argument {path}: a {type(value).__name__} is neither an array nor a "
            f"number: {shortened(repr(value))}\n"
            "  If it chooses what is computed, declare it: static_argnames or static_argnums.\n"
            "  If it contains arrays, make its type known: gx.register_container."
        )

    # -- names -------------------------------------------------------------------------------------

    def name(self, argument: int | str) -> str:
        """What to call an argument, given its position or its keyword."""
        if isinstance(argument, str):
            return argument
        for index, parameter in enumerate(self.parameters):
            if parameter.kind is parameter.VAR_POSITIONAL:
                return f"{parameter.name}[{argument - index}]"
            if index == argument:
                return parameter.name
        return f"argument_{argument}"

    def _argument(self, position: int, reading: Reading) -> str:
        count = len(reading.structures) - len(reading.names)
        return self.name(position if position < count else reading.names[position - count])

    def _chosen(
        self, what: str, positions: int | Iterable[int], names: str | Iterable[str]
    ) -> tuple[frozenset[int], frozenset[str]]:
        """Positions and names of the arguments that are meant; each implies the other."""
        numbers = [positions] if isinstance(positions, int) else list(positions)
        labels = {names} if isinstance(names, str) else set(names)
        kinds = {p.kind for p in self.parameters} if self.parameters else set(_VARIADIC)
        count = len([p for p in self.parameters if p.kind in _PLACED])
        known = [p.name for p in self.parameters if p.kind in _NAMED]
        for number in numbers:
            if type(number) is not int:
                raise TypeError(f"{what}_argnums are integers, got {number!r}")
            if not -count <= number < count and inspect.Parameter.VAR_POSITIONAL not in kinds:
                raise ValueError(
                    f"{what}_argnums: {self.title} takes {count} arguments, got {number}"
                )
        for label in labels:
            if label not in known and inspect.Parameter.VAR_KEYWORD not in kinds:
                raise ValueError(
                    f"{what}_argnames: {self.title} has no argument {label!r}; "
                    f"it has {', '.join(known)}"
                )
        chosen = {number % count if number < 0 else number for number in numbers}
        for index, parameter in enumerate(self.parameters):
            if parameter.kind in _NAMED and (index in chosen or parameter.name in labels):
                labels.add(parameter.name)
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    chosen.add(index)
        return frozenset(chosen), frozenset(labels)


def _is_on_gpu(value: Any) -> bool:
    """Whether an array says by a protocol that it lies on a GPU, and what it is."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return False
    if hasattr(value, "__dlpack_device__"):  # first: an array that has both may refuse the other
        return int(value.__dlpack_device__()[0]) in _DLPACK_GPU
    return hasattr(value, "__cuda_array_interface__")


_DLPACK_GPU = (2, 13)  # memory of CUDA, and managed memory


def _numpy_spelling(dtype: Any) -> Any:
    """A dtype of NumPy's, or the name of another library's: "float32" of `torch.float32`."""
    return dtype if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]


_MOVABLE = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _under(root: str, structure: Structure | None) -> list[str]:
    """The paths of the leaves of an argument."""
    return [root] if structure is None else [root + path for path in structure.paths()]


def _parameters_of(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # builtins need not have one
        return ()


def unbound(parameters: Sequence[inspect.Parameter]) -> inspect.Signature:
    """The signature of a method without its first parameter."""
    skip = 1 if parameters and parameters[0].kind in _PLACED else 0
    return inspect.Signature(list(parameters[skip:]))
