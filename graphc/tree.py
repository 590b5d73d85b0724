"""How do nested containers become a flat list of leaves, and back?

Functions take and return what users have: dicts of lists of arrays, dataclasses of parameters, None
for what is absent. Everything inside graphc wants a flat list. `flatten` gives both halves, the
leaves and a `Structure` that can be compared, hashed, printed and pickled, so that it can be part
of a cache key.

The order of leaves is a function of the structure alone:

- dict: by sorted keys, so two equal dicts flatten alike whatever their insertion order was. Keys of
  several types are sorted by the name of their type first; keys without a total order are a
  TypeError.
- list, tuple, namedtuple: by position.
- dataclass instance: fields in order of definition; a field with `metadata={"static": True}` is no
  child but part of the structure, and its value must be hashable.
- None: no leaves.
- types given to `register_container`: as their `flatten` says.

Containers are recognised by exact type: an instance of a subclass of dict, list or tuple that is
not a namedtuple is a leaf unless it is registered, as is everything else.

    >>> leaves, structure = flatten({"weight": [1, 2], "bias": None, "scale": (3,)})
    >>> leaves
    [3, 1, 2]
    >>> structure
    {'bias': None, 'scale': (*,), 'weight': [*, *]}
    >>> structure.unflatten("abc")
    {'bias': None, 'scale': ('a',), 'weight': ['b', 'c']}
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn, TypeAlias, TypeVar, final

import numpy as np

__all__ = ["LEAF", "Structure", "flatten", "map_tree", "paths", "register_container"]

# Containers are shallow; whatever is deeper is a mistake, and should not end as a RecursionError.
_DEEPEST = 200

T = TypeVar("T")
IsLeaf: TypeAlias = "Callable[[Any], bool] | None"
Opened: TypeAlias = "tuple[Sequence[Any], Hashable]"


@final
class Structure:
    """A tree without its leaves: immutable, hashable, compared by value.

    `kind` is a key of the table of container kinds, `container` the class for kinds that have
    several ("namedtuple", "dataclass", "registered"), `auxiliary` what else the kind needs to build
    one (keys of a dict, static fields of a dataclass), `children` the structures inside,
    `leaf_count` the number of leaves.
    """

    __slots__ = ("_hash", "_is_flat", "auxiliary", "children", "container", "kind", "leaf_count")

    kind: str
    container: type | None
    auxiliary: Hashable
    children: tuple[Structure, ...]
    leaf_count: int
    _hash: int
    _is_flat: bool  # whether all children are leaves

    def __init__(
        self,
        kind: str,
        container: type | None = None,
        auxiliary: Hashable = None,
        children: tuple[Structure, ...] = (),
    ) -> None:
        count = 1 if kind == "leaf" else sum(child.leaf_count for child in children)
        for slot, value in (
            ("kind", kind),
            ("container", container),
            ("auxiliary", auxiliary),
            ("children", children),
            ("leaf_count", count),
            ("_hash", hash((kind, container, auxiliary, children))),
            ("_is_flat", all(child.kind == "leaf" for child in children)),
        ):
            object.__setattr__(self, slot, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"structures are immutable: cannot set {name!r}")

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Structure):
            return NotImplemented
        if self._hash != other._hash or self._parts() != other._parts():
            return False
        # Static fields 1, 1.0 and True are equal in Python, but do not compute the same.
        return self.kind != "dataclass" or [*map(type, _static_values(self))] == [
            *map(type, _static_values(other))
        ]

    def _parts(self) -> tuple[Any, ...]:
        return self.kind, self.container, self.auxiliary, self.children

    def __reduce__(self) -> tuple[Any, ...]:
        return Structure, self._parts()

    def __repr__(self) -> str:
        return _KINDS[self.kind].text(self, [repr(child) for child in self.children])

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The containers, built anew around `leaves`.

        ValueError if the number of leaves is not `leaf_count`. Dataclasses are made as `copy` and
        `pickle` make them: `__init__` and `__post_init__` do not run, so leaves may be of any type.
        """
        leaves = list(leaves)
        if len(leaves) != self.leaf_count:
            raise ValueError(f"{self} has {self.leaf_count} leaves, but {len(leaves)} were given")
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind == "leaf":
            return next(leaves)
        if self._is_flat:
            return _KINDS[self.kind].close(self, [*islice(leaves, len(self.children))])
        return _KINDS[self.kind].close(self, [child._build(leaves) for child in self.children])

    def spread(self, tree: Any, stop: Callable[[Any], bool]) -> list[Any]:
        """For each leaf what a tree has in its place that may end earlier: `stop(subtree)` says
        where one value stands for all leaves beneath. ValueError where the structures differ.

        >>> flatten({"a": [1, 2], "b": 3})[1].spread({"a": None, "b": 7}, lambda tree: tree is None)
        [None, None, 7]
        """
        if self.kind == "leaf" or stop(tree):
            return [tree] * self.leaf_count
        kind = _kind_of(type(tree))
        children, auxiliary = _KINDS[kind].open(tree)
        children = list(children)
        same = (kind, _stored_class(kind, tree), auxiliary) == self._parts()[:3]
        if not same or len(children) != len(self.children):
            raise ValueError(f"{self._outline()} is needed, got {type(tree).__qualname__}")
        parts = zip(self.children, children, strict=True)
        return [value for child, part in parts for value in child.spread(part, stop)]

    def paths(self) -> list[str]:
        """The way to each leaf, such as "['layers'][0].weight"; "" where the root is a leaf."""
        return list(self._paths(""))

    def _paths(self, prefix: str) -> Iterator[str]:
        if self.kind == "leaf":
            yield prefix
        for step, child in zip(self.steps(), self.children, strict=True):
            yield from child._paths(prefix + step)

    def steps(self) -> list[str]:
        """The last part of the path of each child: "['key']", "[0]" or ".field"."""
        return _KINDS[self.kind].steps(self)

    def difference(self, other: Structure, path: str = "") -> str | None:
        """Where the two first differ and how, for an error message; None if they are equal."""
        if self == other:
            return None
        for step, left, right in zip(self.steps(), self.children, other.children, strict=False):
            # Children are comparable only if the containers around them agree.
            if self._parts()[:3] != other._parts()[:3]:
                break
            found = left.difference(right, path + step)
            if found is not None:
                return found
        return f"at {path or 'the root'}: {self._outline()} against {other._outline()}"

    def _outline(self) -> str:
        if self.kind == "leaf":
            return "a leaf"
        return _KINDS[self.kind].text(self, ["..."] * len(self.children))


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of container: taken apart, put together, named."""

    open: Callable[[Any], Opened]
    close: Callable[[Structure, list[Any]], Any]
    steps: Callable[[Structure], list[str]]
    text: Callable[[Structure, list[str]], str]


# dict


def _open_dict(tree: dict[Any, Any]) -> Opened:
    keys = _sorted_keys(tree)
    return [tree[key] for key in keys], keys


def _sorted_keys(tree: dict[Any, Any]) -> tuple[Hashable, ...]:
    by_type: dict[tuple[str, str], list[Any]] = {}
    try:
        keys = sorted(tree)
        groups = [keys]
    except TypeError:
        for key in tree:
            by_type.setdefault((type(key).__qualname__, type(key).__module__), []).append(key)
        try:
            groups = [sorted(by_type[name]) for name in sorted(by_type)]
        except TypeError as error:
            raise TypeError(f"keys of a dict have no order: {error}") from None
    # Sorting does not complain of partial orders (frozenset, nan), but depends on insertion order.
    if not all(all(map(operator.lt, group, group[1:])) for group in groups):
        raise TypeError(f"keys of a dict have no total order: {list(tree)}")
    return tuple(key for group in groups for key in group)


def _keys(structure: Structure) -> tuple[Hashable, ...]:
    return structure.auxiliary  # type: ignore[return-value]


def _close_dict(structure: Structure, children: list[Any]) -> dict[Any, Any]:
    return dict(zip(_keys(structure), children, strict=True))


def _dict_text(structure: Structure, children: list[str]) -> str:
    pairs = zip(_keys(structure), children, strict=True)
    return "{" + ", ".join(f"{key!r}: {child}" for key, child in pairs) + "}"


# Sequences


def _positions(structure: Structure) -> list[str]:
    return [f"[{index}]" for index in range(len(structure.children))]


def _tuple_text(structure: Structure, children: list[str]) -> str:
    return f"({', '.join(children)}{',' if len(children) == 1 else ''})"


def _class_of(structure: Structure) -> Any:
    return structure.container


def _named_text(names: Iterable[str], structure: Structure, children: list[str]) -> str:
    pairs = [f"{name}={child}" for name, child in zip(names, children, strict=True)]
    return f"{_class_of(structure).__qualname__}({', '.join(pairs)})"


# dataclass: the auxiliary holds the values of static fields, in order


@functools.lru_cache(maxsize=1024)
def _field_names(container: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names of children, names of static fields)."""
    fields = dataclasses.fields(container)
    return (
        tuple(field.name for field in fields if not field.metadata.get("static")),
        tuple(field.name for field in fields if field.metadata.get("static")),
    )


def _open_dataclass(tree: Any) -> Opened:
    container: Any = type(tree)
    children, static = _field_names(container)
    return (
        [getattr(tree, name) for name in children],
        tuple(getattr(tree, name) for name in static),
    )


def _static_values(structure: Structure) -> tuple[Hashable, ...]:
    return structure.auxiliary  # type: ignore[return-value]


def _close_dataclass(structure: Structure, children: list[Any]) -> Any:
    container = _class_of(structure)
    names, static = _field_names(container)
    made = object.__new__(container)
    values = (*children, *_static_values(structure))
    for name, value in zip((*names, *static), values, strict=True):
        # Past the `__setattr__` of frozen dataclasses.
        object.__setattr__(made, name, value)
    return made


def _dataclass_text(structure: Structure, children: list[str]) -> str:
    names, static = _field_names(_class_of(structure))
    shown = [*children, *map(repr, _static_values(structure))]
    return _named_text((*names, *static), structure, shown)


# Users' own


_REGISTERED: dict[type, tuple[Callable[[Any], Opened], Callable[[list[Any], Any], Any]]] = {}


def register_container(
    container: type[T],
    flatten: Callable[[T], Opened],
    unflatten: Callable[[list[Any], Any], T],
) -> None:
    """Make instances of exactly the class `container` containers, for the whole process.

    `flatten(tree)` returns (children, auxiliary): the children in an order that is a function of
    the structure alone, and whatever else belongs to the structure, hashable. `unflatten(children,
    auxiliary)` builds an equal one; the children it gets may be of any type, so it should not check
    them. ValueError if the class is a container already. Registered dataclasses and namedtuples are
    flattened as registered.

    >>> class Box:
    ...     def __init__(self, content):
    ...         self.content = content
    >>> register_container(Box, lambda box: ([box.content], None), lambda new, _: Box(*new))
    >>> flatten([Box(1), 2])
    ([1, 2], [Box(*), *])
    """
    if not isinstance(container, type):
        raise TypeError(f"a container is registered by its class, not {container!r}")
    if container in _REGISTERED or container in _BUILT_IN:
        raise ValueError(f"{container.__qualname__} is a container already")
    _REGISTERED[container] = flatten, unflatten
    _PLAIN.discard(container)


def _open_registered(tree: Any) -> Opened:
    opened = _REGISTERED[type(tree)][0](tree)
    if not isinstance(opened, tuple) or len(opened) != 2:
        raise TypeError(
            f"the registered flatten of {type(tree).__qualname__} must return "
            f"(children, auxiliary), not {opened!r}"
        )
    return list(opened[0]), opened[1]


def _close_registered(structure: Structure, children: list[Any]) -> Any:
    container = _class_of(structure)
    if container not in _REGISTERED:
        raise TypeError(f"{container.__qualname__} is not registered with register_container here")
    return _REGISTERED[container][1](children, structure.auxiliary)


def _registered_text(structure: Structure, children: list[str]) -> str:
    auxiliary = "" if structure.auxiliary is None else f"[{structure.auxiliary!r}]"
    return f"{_class_of(structure).__qualname__}{auxiliary}({', '.join(children)})"


# The table


def _nothing(structure: Structure) -> list[str]:
    return []


_KINDS = {
    "leaf": _Kind(
        open=lambda tree: ((), None),
        close=lambda structure, children: None,
        steps=_nothing,
        text=lambda structure, children: "*",
    ),
    "none": _Kind(
        open=lambda tree: ((), None),
        close=lambda structure, children: None,
        steps=_nothing,
        text=lambda structure, children: "None",
    ),
    "dict": _Kind(
        open=_open_dict,
        close=_close_dict,
        steps=lambda structure: [f"[{key!r}]" for key in _keys(structure)],
        text=_dict_text,
    ),
    "list": _Kind(
        open=lambda tree: (tree, None),
        close=lambda structure, children: children,
        steps=_positions,
        text=lambda structure, children: f"[{', '.join(children)}]",
    ),
    "tuple": _Kind(
        open=lambda tree: (tree, None),
        close=lambda structure, children: tuple(children),
        steps=_positions,
        text=_tuple_text,
    ),
    "namedtuple": _Kind(
        open=lambda tree: (tree, None),
        close=lambda structure, children: _class_of(structure)._make(children),
        steps=lambda structure: [f".{name}" for name in _class_of(structure)._fields],
        text=lambda structure, children: _named_text(
            _class_of(structure)._fields, structure, children
        ),
    ),
    "dataclass": _Kind(
        open=_open_dataclass,
        close=_close_dataclass,
        steps=lambda structure: [f".{name}" for name in _field_names(_class_of(structure))[0]],
        text=_dataclass_text,
    ),
    "registered": _Kind(
        open=_open_registered,
        close=_close_registered,
        steps=_positions,
        text=_registered_text,
    ),
}
_BUILT_IN = {dict: "dict", list: "list", tuple: "tuple", type(None): "none"}
_KINDS_OF_ONE_CLASS = frozenset(_BUILT_IN.values())

LEAF = Structure("leaf")


def _kind_of(container: type) -> str:
    kind = _BUILT_IN.get(container)
    if kind is not None:
        return kind
    return "registered" if container in _REGISTERED else _kind_of_class(container)


@functools.lru_cache(maxsize=1024)
def _kind_of_class(container: type) -> str:
    if issubclass(container, tuple) and hasattr(container, "_fields"):
        return "namedtuple"
    return "dataclass" if dataclasses.is_dataclass(container) else "leaf"


# Taking trees apart

# Types of most leaves; none of them is a container.
_PLAIN: set[type] = {np.ndarray, np.float64, np.float32, float, int, bool, complex, str}
# The structures of containers of leaves: of dicts by their keys, all of them str, of lists and
# tuples by their class and length.
_FLAT: dict[Any, Structure] = {}
_MOST_FLAT = 1024


def _flattened_flat(tree: Any, leaves: list[Any]) -> Structure | None:
    """The structure of a dict, list or tuple of plain leaves, which are added: what most calls
    pass, and parts of what they pass. None for all else.
    """
    container = type(tree)
    if container is dict:
        for name, child in tree.items():
            if type(name) is not str or type(child) not in _PLAIN:
                return None
        names = tuple(sorted(tree))
        leaves += [tree[name] for name in names]
        return _FLAT.get(names) or _new_flat(names, "dict", names, len(names))
    if container is not list and container is not tuple:
        return None
    for child in tree:
        if type(child) not in _PLAIN:
            return None
    leaves += tree
    known = (container, len(tree))
    return _FLAT.get(known) or _new_flat(known, container.__name__, None, len(tree))


def _new_flat(known: Any, kind: str, auxiliary: Hashable, count: int) -> Structure:
    if len(_FLAT) >= _MOST_FLAT:
        _FLAT.clear()
    structure = _FLAT[known] = Structure(kind, None, auxiliary, (LEAF,) * count)
    return structure


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], Structure]:
    """(leaves, structure) of a tree; `structure.unflatten(leaves)` builds an equal one.

    `is_leaf(subtree)`, asked first, stops the descent where it returns True. ValueError names the
    path of a container that holds itself or lies too deep, TypeError that of keys that cannot be
    sorted and of auxiliary data that cannot be hashed.
    """
    leaves: list[Any] = []
    flat = _flattened_flat(tree, leaves) if is_leaf is None else None
    if flat is not None:
        return leaves, flat
    return leaves, _flatten(tree, is_leaf, leaves, [])


# The containers around a subtree, outermost first, each with the index of the child entered.
_Above: TypeAlias = "list[tuple[Any, int]]"


def _flatten(tree: Any, is_leaf: IsLeaf, leaves: list[Any], above: _Above) -> Structure:
    kind = _kind_of(type(tree))
    if kind == "leaf" or (is_leaf is not None and is_leaf(tree)):
        leaves.append(tree)
        return LEAF
    if above and (len(above) >= _DEEPEST or any(tree is container for container, _ in above)):
        _refuse_depth(tree, above)
    try:
        children, auxiliary = _KINDS[kind].open(tree)
        hash(auxiliary)
    except TypeError as error:
        name, where = type(tree).__qualname__, _path_of(above)
        raise TypeError(f"cannot flatten the {name} at {where}: {error}") from error
    structures = []
    for index, child in enumerate(children):
        if is_leaf is None and len(above) + 1 < _DEEPEST:
            flat = LEAF if type(child) in _PLAIN else _flattened_flat(child, leaves)
            if flat is LEAF:
                leaves.append(child)
            if flat is not None:
                structures.append(flat)
                continue
        above.append((tree, index))
        structures.append(_flatten(child, is_leaf, leaves, above))
        above.pop()
    return Structure(kind, _stored_class(kind, tree), auxiliary, tuple(structures))


def _stored_class(kind: str, tree: Any) -> type | None:
    return None if kind in _KINDS_OF_ONE_CLASS else type(tree)


def _step(tree: Any, index: int) -> str:
    """The last part of the path of one child. Opens the container again: only errors ask."""
    kind = _kind_of(type(tree))
    children, auxiliary = _KINDS[kind].open(tree)
    blank = (LEAF,) * len(children)
    return Structure(kind, _stored_class(kind, tree), auxiliary, blank).steps()[index]


def _path_of(above: _Above) -> str:
    return "".join(_step(container, index) for container, index in above) or "the root"


def _refuse_depth(tree: Any, above: _Above) -> NoReturn:
    for level, (container, _) in enumerate(above):
        if container is tree:
            name, outer = type(tree).__qualname__, _path_of(above[:level])
            raise ValueError(f"the {name} at {outer} contains itself, at {_path_of(above)}")
    raise ValueError(
        f"containers are nested more than {_DEEPEST} deep, along {_path_of(above[:4])}..."
    )


def map_tree(fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """The tree of `fn(leaf, *corresponding leaves of rest)`.

    ValueError names the path of the first difference where a tree of `rest` has another structure.

    >>> map_tree(lambda x, y: x + y, {"a": 1, "b": [2]}, {"a": 10, "b": [20]})
    {'a': 11, 'b': [22]}
    """
    leaves, structure = flatten(tree, is_leaf)
    columns = [leaves]
    for position, other in enumerate(rest, start=2):
        other_leaves, other_structure = flatten(other, is_leaf)
        difference = structure.difference(other_structure)
        if difference is not None:
            raise ValueError(f"tree 1 and tree {position} differ in structure {difference}")
        columns.append(other_leaves)
    return structure.unflatten(map(fn, *columns))


def paths(tree: Any, is_leaf: IsLeaf = None) -> list[str]:
    """The path of each leaf, in the order of leaves.

    >>> paths({"layers": [(1, 2)], "step": 0})
    ["['layers'][0][0]", "['layers'][0][1]", "['step']"]
    """
    return flatten(tree, is_leaf)[1].paths()
