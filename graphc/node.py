"""What is a node, and when are two nodes the same?

A node is an op, its arguments, its attributes and a type: immutable, slotted, and *interned*.
Writing an expression twice gives the same object, so common sub-expressions are shared from the
moment they are written, through differentiation and rewriting, to the kernels; a dictionary from
nodes to anything needs no structural comparison. The hash is the identity; `==` builds an
element-wise comparison, as in NumPy, and `bool(node)` raises.

The table holds weak references keyed by the hash of (op, arguments, attributes): a graph nobody
refers to is freed. Nothing here recurses over a graph.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from array import array
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import origin
from graphc.collector import paused
from graphc.dims import Dim, Extent
from graphc.errors import GraphError
from graphc.origin import user_frame
from graphc.tensor import TensorMethods
from graphc.types import TensorType, TupleType, Type

if TYPE_CHECKING:
    from graphc.op import Op


class Attributes(Mapping[str, Any]):
    """The attributes of a node: an immutable, hashable mapping in the order that the op declares.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)
        self._hash = hash(tuple(self._items.values()))

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    # Those of the dictionary: what a Mapping has of its own calls `__getitem__` for every item.

    def keys(self) -> KeysView[str]:
        return self._items.keys()

    def values(self) -> ValuesView[Any]:
        return self._items.values()

    def items(self) -> ItemsView[str, Any]:
        return self._items.items()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Attributes) and self._items == other._items

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._items.items())

    def __reduce__(self) -> Any:
        return (Attributes, (self._items,))


NO_ATTRIBUTES = Attributes({})


class Constant:
    """The value of a constant node: a read-only copy of an array, digested once, equal by content.
    """

    __slots__ = ("array", "digest")

    def __init__(self, value: Any, dtype: Any = None) -> None:
        array = np.array(value, dtype=dtype, order="C")
        array.flags.writeable = False
        self.array = array
        head = f"{array.dtype.str}{array.shape}".encode()
        self.digest = hashlib.blake2b(head + array.tobytes(), digest_size=16).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.digest == other.digest

    def __repr__(self) -> str:
        if self.array.ndim == 0:
            return repr(self.array.item())
        return f"<array {self.array.dtype.name}{list(self.array.shape)}>"

    def __reduce__(self) -> Any:
        return (Constant, (self.array,))


class Node(TensorMethods):
    """One node of an expression graph.

    `op`, `args` (a tuple of nodes), `attrs` (a mapping), `type`; `shape` and `dtype` for tensors;
    `origin` is why it exists; `digest` identifies its structure in every process.
    """

    __slots__ = ("__weakref__", "_digest", "_origins", "args", "attrs", "op", "type")
    op: Op
    args: tuple[Node, ...]
    attrs: Attributes
    type: Type
    _digest: bytes | None
    _origins: origin.Events

    __hash__ = object.__hash__

    @property
    def shape(self) -> tuple[Extent, ...]:
        type_ = self.type
        return type_.shape if type(type_) is TensorType else self._tensor("shape").shape

    @property
    def dtype(self) -> np.dtype[Any]:
        type_ = self.type
        return type_.dtype if type(type_) is TensorType else self._tensor("dtype").dtype

    @property
    def ndim(self) -> int:
        type_ = self.type
        return len(type_.shape if type(type_) is TensorType else self._tensor("rank").shape)

    @property
    def size(self) -> Extent:
        return self._tensor("size").size

    def _tensor(self, what: str) -> TensorType:
        if not isinstance(self.type, TensorType):
            raise GraphError(
                f"a node with several results has no {what}: {self.op.name} gives {self.type}\n"
                "Take one of its results: gx.project(node, i)"
            )
        return self.type

    @property
    def origin(self) -> origin.Events:
        """The events that led to this node; the first is where it was built."""
        return self._origins

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the structure: ops, attributes, types and leaves; not origins."""
        return digest(self).hex()

    def __repr__(self) -> str:
        from graphc.display.text import summary

        return summary(self)

    def __str__(self) -> str:
        from graphc.display.text import to_text

        return to_text(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        from graphc.graphfile import pack, unpack_one

        return (unpack_one, (pack([self]),))

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: Any) -> Node:
        return self


class _Reference(weakref.ref):  # type: ignore[type-arg]
    """A table entry: knows its key, so that the callback can take it out."""

    __slots__ = ("key",)
    key: int


_table: dict[int, _Reference | tuple[_Reference, ...]] = {}
_lock = threading.RLock()
# Of a hash: an int of 60 bits takes 32 bytes, one of 64 takes 48.
_KEY_BITS = (1 << 60) - 1


def _forget(reference: _Reference) -> None:
    """A node died: take its entry out of the table."""
    with _lock:
        held = _table.get(reference.key)
        if held is reference:
            del _table[reference.key]
        elif isinstance(held, tuple):
            rest = tuple(entry for entry in held if entry is not reference)
            _table[reference.key] = rest[0] if len(rest) == 1 else rest


def _found(
    held: _Reference | tuple[_Reference, ...], op: Op, args: tuple[Node, ...], attrs: Attributes
) -> Node | None:
    """The node of an entry of the table that is `op` over `args` with `attrs`; None if none is."""
    for entry in held if isinstance(held, tuple) else (held,):
        node = entry()
        if node is None or node.op is not op or len(node.args) != len(args):
            continue
        if all(map(is_, node.args, args)) and (node.attrs is attrs or node.attrs == attrs):
            return node
    return None


_type_of = attrgetter("type")
_new = object.__new__
_records, _because = origin._enabled.get, origin._context.get


def intern(
    op: Op, args: tuple[Node, ...], attrs: Attributes, depth: int = 2, like: Node | None = None
) -> Node:
    """The node of `op` over `args` with `attrs`: the one that exists, or a new one of the type that
    the op infers.

    Raises `GraphError` if the op's type rule refuses the arguments. `depth` is how many frames of
    graphc lie above. `like` is a node of the same op and attributes over other arguments, which
    this one takes the place of: it has the origins, and the type if the arguments have theirs.
    """
    key = hash((op, args, attrs._hash)) & _KEY_BITS
    if like is not None:
        events = like._origins
    elif _records():  # as `origin.current`, which every node would call
        events = _because() or user_frame(depth)
    else:
        events = ()
    held = _table.get(key)  # a look needs no lock: entries are replaced, never changed
    if held is not None:
        node = _found(held, op, args, attrs)
        if node is not None:
            if node._origins is not events:
                node._origins = origin.unite(node._origins, events)
            return node
    if like is not None and _are_of_types(args, like.args):
        type_ = like.type
    else:
        types = map(_type_of, args)
        type_ = op.infer(*types, **attrs._items)  # a dictionary: a Mapping is asked for every item
    node = _new(Node)
    node.op, node.args, node.attrs, node.type = op, args, attrs, type_
    node._digest, node._origins = None, events
    reference = _Reference(node, _forget)
    reference.key = key
    # At once; nor does it need a lock where nothing is replaced.
    held = _table.setdefault(key, reference)
    return node if held is reference else _beside(reference, node)


def _beside(reference: _Reference, node: Node) -> Node:
    """Enter a node whose place in the table is taken: by the same one, which another thread has
    made first, by one that is dying, or by another one of the same hash. The node to be used.
    """
    key = reference.key
    with _lock:
        held = _table.get(key)
        if held is None:
            _table[key] = reference
            return node
        other = _found(held, node.op, node.args, node.attrs)
        if other is not None:
            return other
        _table[key] = (*(held if type(held) is tuple else (held,)), reference)
    return node


def _are_of_types(args: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
    """Whether arguments have the types that others have."""
    if len(args) != len(others):
        return False
    for place, one in enumerate(args):  # noqa: SIM110 - many times as fast
        if one.type is not others[place].type:
            return False
    return True


def youngest() -> Node | None:
    """The node that was made last, of those alive."""
    with _lock:
        for held in reversed(_table.values()):
            node = (held[-1] if isinstance(held, tuple) else held)()
            if node is not None:
                return node
    return None


def created_since(marker: Node | None) -> set[Node]:
    """The nodes made after `marker`, which was `youngest()` and is still alive.

    A node that shares its hash with an older one is not among them.
    """
    found: set[Node] = set()
    with paused(), _lock:  # a collection would take dead nodes out of the table meanwhile
        for held in reversed(_table.values()):
            node = None if isinstance(held, tuple) else held()
            if node is not None and node is marker:
                break
            if node is not None:
                found.add(node)
    return found


def interned_count() -> int:
    """How many nodes are alive in this process."""
    return len(_table)


def add_origin(node: Node, events: origin.Events) -> None:
    """Unite `events` into the origins of a node: rewriting does this for the nodes that it makes
    out of others.
    """
    node._origins = origin.unite(node._origins, events)


# -- walks: iterative, so that depth costs nothing -------------------------------------------------


def topological(roots: Iterable[Node], known: Iterable[Node] = ()) -> list[Node]:
    """Every node that `roots` need, arguments before users, in an order that depends on the
    structure only.

    Nodes in `known` are taken as given: neither they nor what only they need are listed.
    """
    done: set[Node] = set(known)
    order: list[Node] = []
    for root in roots:
        if root in done:
            continue
        done.add(root)
        path, rests = [root], [iter(root.args)]
        while path:
            for argument in rests[-1]:
                if argument in done:
                    continue
                done.add(argument)
                if argument.args:
                    path.append(argument)
                    rests.append(iter(argument.args))
                    break
                order.append(argument)
            else:
                order.append(path.pop())
                rests.pop()
    return order


def users_of(order: Iterable[Node]) -> dict[Node, list[Node]]:
    """By node: those that read it, in order, once for each argument that it is to them. What nobody
    reads has no entry.
    """
    found: dict[Node, list[Node]] = {}
    for node in order:
        for argument in node.args:
            users = found.get(argument)
            if users is None:
                found[argument] = [node]
            else:
                users.append(node)
    return found


def digest(node: Node) -> bytes:
    """The structural digest of a node (16 bytes), the same in every process and for every hash
    seed.
    """
    if node._digest is None:
        stack = [node]
        while stack:  # arguments first; a node is pushed again after the arguments it waits for
            top = stack[-1]
            if top._digest is not None:
                stack.pop()
                continue
            waiting = [argument for argument in top.args if argument._digest is None]
            if waiting:
                stack.extend(waiting)
                continue
            _digest_over_arguments(top)
            stack.pop()
    assert node._digest is not None
    return node._digest


def table_digest(
    order: Iterable[Node], outputs: Iterable[Node], leaves: Mapping[Node, Node]
) -> bytes:
    """The digest of what nodes listed arguments first compute, with others in place of some
    `leaves`: of a table with a row for each node, which is less work than a digest of each.

    The order follows from the structure, so equal graphs have equal tables.
    """
    numbers: dict[Node, int] = {}
    heads: dict[Any, int] = {}
    parts: list[bytes] = []
    table: list[int] = []
    for number, node in enumerate(order):
        numbers[node] = number
        if leaves and node in leaves:
            node = leaves[node]
        op, args, attrs, type_ = node.op, node.args, node.attrs, node.type
        like = (op, type_) if attrs is NO_ATTRIBUTES else (op, type_, attrs)
        head = heads.get(like)
        if head is None:
            head = heads[like] = len(heads)
            text = _head(op, attrs, type_)
            parts += [b"%d:" % len(text), text]
        if len(args) == 2:
            first, second = args
            table += (head, 2, numbers[first], numbers[second])
        else:
            table += (head, len(args), *[numbers[argument] for argument in args])
    table += [numbers[node] for node in outputs]
    parts.append(array("i", table).tobytes())
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def digest_in_order(order: Iterable[Node]) -> None:
    """Find the digests of nodes that are listed arguments first: no search for what is missing."""
    heads: dict[tuple[Op, Type], bytes] = {}  # of nodes without attributes, which most are
    blake2b, join = hashlib.blake2b, b"\0".join
    for node in order:
        if node._digest is not None:
            continue
        if node.attrs is not NO_ATTRIBUTES:
            _digest_over_arguments(node)
            continue
        head = heads.get((node.op, node.type))
        if head is None:
            head = heads[node.op, node.type] = _head(node.op, node.attrs, node.type)
        parts = [head, *[argument._digest for argument in node.args]]
        node._digest = blake2b(join(parts), digest_size=16).digest()  # type: ignore[arg-type]


def digests_over(order: Iterable[Node], known: Mapping[Node, bytes]) -> dict[Node, bytes]:
    """The digests that nodes listed arguments first would have if the leaves in `known` had those
    given there. What the nodes themselves are called is not touched.
    """
    found = dict(known)
    heads: dict[tuple[Op, Attributes, Type], bytes] = {}
    blake2b, join = hashlib.blake2b, b"\0".join
    for node in order:
        if node in known:
            continue
        like = node.op, node.attrs, node.type
        head = heads.get(like)
        if head is None:
            head = heads[like] = _head(*like)
        parts = [head, *[found[argument] for argument in node.args]]
        found[node] = blake2b(join(parts), digest_size=16).digest()
    return found


def _digest_over_arguments(node: Node) -> None:
    """Find the digest of a node whose arguments have theirs."""
    digests: Any = [argument._digest for argument in node.args]
    node._digest = digest_of(node.op, node.attrs, node.type, digests)


def digest_of(op: Op, attrs: Attributes, type_: Type, arguments: Iterable[bytes] = ()) -> bytes:
    """The digest of a node, given those of its arguments; the node need not exist."""
    return hashlib.blake2b(
        b"\0".join([_head(op, attrs, type_), *arguments]), digest_size=16
    ).digest()


def _head(op: Op, attrs: Attributes, type_: Type) -> bytes:
    """What a digest knows of a node besides its arguments."""
    attributes = b"" if attrs is NO_ATTRIBUTES else attributes_bytes(attrs)
    return b"\0".join((op.fingerprint.encode(), attributes, repr(type_).encode()))


def attributes_bytes(attrs: Attributes) -> bytes:
    """The attributes of a node as bytes for a digest."""
    if not attrs:
        return b""
    return b";".join(name.encode() + b"=" + _value_bytes(value) for name, value in attrs.items())


_WRITTEN = frozenset((bool, int, float, str, type(None)))  # plainly


def _value_bytes(value: Any) -> bytes:
    if type(value) in _WRITTEN:
        return repr(value).encode()
    if type(value) is tuple:
        if _WRITTEN.issuperset(map(type, value)):
            return f"({','.join(map(repr, value))})".encode()
    elif type(value) is not TensorType and hasattr(value, "digest"):  # constants and graphs
        held = value.digest
        return held if isinstance(held, bytes) else held.encode()
    if isinstance(value, tuple):
        return b"(" + b",".join(map(_value_bytes, value)) + b")"
    if isinstance(value, (Dim, np.dtype, TensorType, TupleType)):
        return str(value).encode()
    return repr(value).encode()
