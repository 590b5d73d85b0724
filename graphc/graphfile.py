"""How is a graph written down, in a pickle or in a file, and read back?

As flat tables, so that depth costs nothing. Nodes are numbered, arguments first, and a node is the
number of its *head* (an op with its attributes; a million nodes share a few) and the numbers of its
arguments. Nested Graphs, events and constants are tables too, over the same numbers. Attributes go
through one explicit tagged encoding, so reading executes nothing: a tag that is not in the table
below is an error. Reading rebuilds nodes by interning, so what exists in this process already is
found again, and every type is inferred afresh.

A pickle holds these tables as they are. A graph file is a zip archive, readable by `np.load` and
`unzip`: `graph.json`, and one `.npy` member for each array. It states its version and the version
of every op, and a digest that is compared after loading.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from graphc import origin
from graphc._version import __version__
from graphc.dims import Dim, parse
from graphc.dtypes import as_dtype
from graphc.errors import GraphError
from graphc.graph import Graph, placeholder_op
from graphc.node import Attributes, Constant, Node, digest, intern
from graphc.op import Op, find
from graphc.types import TensorType, TupleType, Type

__all__ = ["load", "pack", "save", "unpack", "unpack_graph", "unpack_one"]

FORMAT = "graphc graph"
VERSION = 1
_NODE_ARRAYS = ("head", "count", "argument", "origin")


@dataclass
class Tables:
    """A graph, flat. `header` is plain JSON; `nodes` are integer arrays; `constants` are arrays.

    Node i has head `head[i]`, origins `origin[i]` (a set of events) and `count[i]` arguments; these
    stand one after the other in `argument`, and each is below i. `foreign` holds attribute values
    that have no encoding: in pickles only.
    """

    header: dict[str, Any]
    nodes: dict[str, np.ndarray]
    constants: list[np.ndarray] = field(default_factory=list)
    foreign: list[Any] = field(default_factory=list)


# -- pickles ---------------------------------------------------------------------------------------


def pack(outputs: Sequence[Node]) -> tuple[Any, ...]:
    """`outputs` and all they need as a flat tuple of bytes, arrays and lists, for pickling.

    Raises `GraphError` if they hold a bound variable of a function that is being traced.
    """
    writer = _Writer(foreign=True)
    tables = writer.tables([writer.value(node) for node in outputs], origins=True)
    text = json.dumps(tables.header, separators=(",", ":")).encode()
    arrays = tuple(tables.nodes[name] for name in _NODE_ARRAYS)
    return (VERSION, text, arrays, tables.constants, tables.foreign)


def unpack(table: tuple[Any, ...]) -> list[Node]:
    """The nodes that `pack` was given."""
    if table[0] != VERSION:
        raise GraphError(
            f"a pickled graph has version {table[0]!r}, graphc {__version__} reads {VERSION}\n"
            "Unpickle it with the graphc that made it, and keep it as a graph file: gx.save."
        )
    _, text, arrays, constants, foreign = table
    nodes = dict(zip(_NODE_ARRAYS, arrays, strict=True))
    return _Reader(Tables(json.loads(text), nodes, constants, foreign)).result()


def unpack_one(table: tuple[Any, ...]) -> Node:
    """The node that `pack` was given alone."""
    (node,) = unpack(table)
    return node


def unpack_graph(parameters: Sequence[Type], table: tuple[Any, ...]) -> Graph:
    """The Graph of these parameter types whose outputs were packed."""
    return Graph(parameters, unpack(table))


# -- files -----------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], outputs: Any, *, origins: bool = True) -> None:
    """Write `outputs` to a graph file: a node, a Graph, or nested lists, tuples and dicts of these.

    Keys of dicts are strings; None may stand for what is absent. The file has the same bytes in
    every process. `origins=False` leaves out where nodes were built, which names files of this
    machine. Raises `GraphError` for what cannot be stored; the file appears whole or not at all.
    """
    writer = _Writer(foreign=False)
    tables = writer.tables(writer.value(outputs), origins=origins)
    tables.header["digest"] = _digest(tables.header, list(writer.nodes))
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        with open(unfinished, "xb") as stream, zipfile.ZipFile(stream, "w") as archive:
            _write_archive(archive, tables)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Any:
    """What `save` was given. Nothing in the file is executed.

    Raises `GraphError` if the file is not a graph file, was written by a newer graphc, is damaged,
    or uses an op that is not registered here in that version; `OSError` if it cannot be read.

    >>> import os, tempfile
    >>> from graphc.ops.operands import symbol
    >>> x = symbol("x", ("n", 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "square.graph")
    >>> save(path, {"square": x * x})
    >>> load(path)["square"] is x * x
    True
    """
    name = os.fspath(path)
    with open(path, "rb") as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except Exception as error:  # of a damaged directory, more kinds than BadZipFile
            known = _damaged(name, str(error)) if _starts_as_zip(path) else _not_a_graph(name)
            raise known from None
        with archive:
            tables = _read_archive(archive, name)
    try:
        reader = _Reader(tables)
        result = reader.result()
        found = _digest(tables.header, reader.nodes)
    except _Refused as refusal:
        raise GraphError(f"cannot load {name!r}\n{refusal}") from None
    except Exception as error:  # what a damaged table leads to, errors of type rules included
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if tables.header.get("digest") != found:
        raise _damaged(name, "the digest of what was read is not the one that was written")
    return result


def _write_archive(archive: zipfile.ZipFile, tables: Tables) -> None:
    """Members in a fixed order and with a fixed date, so that equal graphs give equal files."""
    text = _json(tables.header).encode("utf-8", "surrogatepass")
    _add(archive, "graph.json", text, zipfile.ZIP_DEFLATED)
    for name in _NODE_ARRAYS:
        _add(archive, f"{name}.npy", _npy(tables.nodes[name]), zipfile.ZIP_DEFLATED)
    for i, array in enumerate(tables.constants):
        _add(archive, f"constant{i}.npy", _npy(array), zipfile.ZIP_STORED)


def _json(header: dict[str, Any]) -> str:
    """JSON with a line for each entry, and for each row of a table."""
    entries = []
    for name, value in header.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            rows = (json.dumps(row, ensure_ascii=False) for row in value)
            text = "[\n  " + ",\n  ".join(rows) + "\n ]"
        entries.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _add(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system = 3  # else the byte differs between systems
    member.external_attr = 0o644 << 16
    archive.writestr(member, data, compression)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _read_archive(archive: zipfile.ZipFile, name: str) -> Tables:
    if "graph.json" not in archive.namelist():
        raise _not_a_graph(name)
    try:
        header = json.loads(archive.read("graph.json"))
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise _not_a_graph(name)
        if header["version"] != VERSION:
            raise GraphError(
                f"cannot load {name!r}\n"
                f"It is a graph file of version {header['version']!r}, written by graphc "
                f"{header.get('writer')}; graphc {__version__} reads version {VERSION}.\n"
                "Load it with the graphc that wrote it, or a newer one."
            )
        nodes = {array: _read_npy(archive, array) for array in _NODE_ARRAYS}
        constants = [_read_npy(archive, f"constant{i}") for i in range(header["constants"])]
    except GraphError:
        raise
    except Exception as error:  # the zip, zlib, JSON and NumPy readers raise a dozen kinds
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    return Tables(header, nodes, constants)


def _read_npy(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _digest(header: dict[str, Any], nodes: Sequence[Node]) -> str:
    """One digest for the structure of the result, and for what its nodes and Graphs compute."""
    result, graphs = header["result"], header["graphs"]
    roots = {*_nodes_in(result), *(i for _, outputs in graphs for i in outputs)}
    parts = [json.dumps([result, graphs]).encode(), *(digest(nodes[i]) for i in sorted(roots))]
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _nodes_in(encoded: Any) -> Iterator[int]:
    """The numbers of nodes in an encoded value."""
    if isinstance(encoded, dict) and "node" in encoded and isinstance(encoded["node"], int):
        yield encoded["node"]
    elif isinstance(encoded, (dict, list)):
        for item in encoded.values() if isinstance(encoded, dict) else encoded:
            yield from _nodes_in(item)


def _starts_as_zip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as stream:
        return stream.read(2) == b"PK"


class _Refused(GraphError):
    """The file is sound, but this process cannot understand it."""


def _not_a_graph(name: str) -> GraphError:
    return GraphError(f"{name!r} is not a graph file\nGraph files are written by gx.save.")


def _damaged(name: str, why: str) -> GraphError:
    why = why if len(why) <= 300 else why[:300] + "..."
    return GraphError(
        f"the graph file {name!r} is damaged\n{why}\n"
        "Nothing was loaded. Save the graph again, or restore the file from a copy."
    )


# -- writing ---------------------------------------------------------------------------------------


class _Writer:
    """Numbers nodes, heads, Graphs and constants as they turn up; `value` encodes references."""

    def __init__(self, foreign: bool) -> None:
        self._takes_foreign = foreign
        self.nodes: dict[Node, int] = {}
        self._ops: dict[Op, int] = {}
        self._heads: dict[tuple[Op, Attributes], int] = {}
        self._head_rows: list[Any] = []
        self._graphs: dict[Graph, int] = {}
        self._graph_rows: list[Any] = []
        self._constants: dict[Constant, int] = {}
        self._foreign: list[Any] = []

    def tables(self, result: Any, origins: bool) -> Tables:
        """The tables of everything that `result`, an encoded value, refers to."""
        order = list(self.nodes)
        events, sets, origin_of = _origin_tables(order if origins else [])
        header = {
            "format": FORMAT,
            "version": VERSION,
            "writer": __version__,
            "ops": [[op.name, op.version] for op in self._ops],
            "heads": self._head_rows,
            "graphs": self._graph_rows,
            "constants": len(self._constants),
            "events": events,
            "origins": sets,
            "result": result,
        }
        numbers = self.nodes
        heads = (self._heads[node.op, node.attrs] for node in order)
        arguments = (numbers[argument] for node in order for argument in node.args)
        nodes = {
            "head": _narrow(heads),
            "count": _narrow(len(node.args) for node in order),
            "argument": _narrow(arguments),
            "origin": _narrow(origin_of),
        }
        constants = [_plain(constant.array) for constant in self._constants]
        return Tables(header, nodes, constants, self._foreign)

    def value(self, value: Any) -> Any:
        """`value` in JSON: null, booleans, integers and strings as they are, the rest tagged."""
        if value is None or type(value) in (bool, int, str):
            return value
        for kind, tag, encode in _ENCODERS:
            if isinstance(value, kind) and (kind not in _EXACT or type(value) is kind):
                return {tag: encode(self, value)}
        if not self._takes_foreign:
            raise GraphError(
                f"a graph file cannot hold a {type(value).__name__}: {str(value)[:60]!r}\n"
                "It holds nodes, Graphs, lists, tuples and dicts of them; attributes None,\n"
                "bool, int, float, str, bytes, extents, dtypes, types, constants, Graphs, tuples."
            )
        self._foreign.append(value)
        return {"foreign": len(self._foreign) - 1}

    def node(self, root: Node) -> int:
        """The number of `root`; what it needs, nodes of nested Graphs included, has lower ones."""
        numbers = self.nodes
        if root in numbers:
            return numbers[root]
        stack: list[tuple[Node, Iterator[Node]]] = [(root, self._needs(root))]
        while stack:
            node, needs = stack[-1]
            waiting = next((need for need in needs if need not in numbers), None)
            if waiting is not None:
                stack.append((waiting, self._needs(waiting)))
                continue
            stack.pop()
            if (node.op, node.attrs) not in self._heads:
                self._add_head(node)
            numbers[node] = len(numbers)
        return numbers[root]

    def _needs(self, node: Node) -> Iterator[Node]:
        if node.attrs and (node.op, node.attrs) not in self._heads:
            graphs = list(graphs_in(tuple(node.attrs.values())))
            if graphs:
                return iter([*node.args, *(output for graph in graphs for output in graph.outputs)])
        return iter(node.args)

    def _add_head(self, node: Node) -> None:
        if node.op is placeholder_op:
            raise GraphError(
                "an expression over a bound variable of a function being traced cannot be stored\n"
                "Store it outside of the function, or make it a closed Graph: graphc.graph.close."
            )
        op = self._ops.setdefault(node.op, len(self._ops))
        attributes = {name: self.value(value) for name, value in node.attrs.items()}
        self._heads[node.op, node.attrs] = len(self._head_rows)
        self._head_rows.append([op, attributes])

    def graph(self, graph: Graph) -> int:
        """The number of a Graph."""
        found = self._graphs.get(graph)
        if found is None:
            parameters = [self.value(type_) for type_ in graph.parameters]
            row = [parameters, [self.node(node) for node in graph.outputs]]
            found = self._graphs[graph] = len(self._graph_rows)
            self._graph_rows.append(row)
        return found

    def constant(self, constant: Constant) -> int | list[Any]:
        """The number of a constant; with its dtype if the file format of NumPy does not have that.
        """
        number = self._constants.setdefault(constant, len(self._constants))
        dtype = constant.array.dtype
        return number if dtype.isbuiltin == 1 else [number, dtype.name]

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Encoded elements of a container."""
        return [self.value(value) for value in values]

    def entries(self, values: dict[Any, Any]) -> dict[str, Any]:
        """Encoded entries of a dict with string keys."""
        unfit = next((key for key in values if type(key) is not str), None)
        if unfit is not None:
            raise GraphError(f"a graph file holds dicts with string keys; got the key {unfit!r}")
        return {key: self.value(value) for key, value in values.items()}


def _plain(array: np.ndarray) -> np.ndarray:
    """An array that NumPy's file format can hold: a dtype from elsewhere as its bits."""
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.itemsize}")


def _narrow(numbers: Iterable[int]) -> np.ndarray:
    """The numbers in the smallest unsigned dtype that holds them."""
    wide = np.fromiter(numbers, np.uint64)
    return wide.astype(np.min_scalar_type(wide.max(initial=0)))


def graphs_in(value: Any) -> Iterator[Graph]:
    """The Graphs in an attribute's value, in order."""
    if isinstance(value, Graph):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from graphs_in(item)


_Encoder = Callable[[_Writer, Any], Any]
_ENCODERS: tuple[tuple[type, str, _Encoder], ...] = (
    (Node, "node", lambda writer, value: writer.node(value)),
    (float, "float", lambda writer, value: value.hex()),
    (tuple, "tuple", lambda writer, value: writer.items(value)),
    (Dim, "dim", lambda writer, value: str(value)),
    (np.dtype, "dtype", lambda writer, value: as_dtype(value).name),
    (TensorType, "tensor", lambda w, value: [value.dtype.name, [w.value(e) for e in value.shape]]),
    (TupleType, "types", lambda writer, value: writer.items(value.items)),
    (Constant, "constant", lambda writer, value: writer.constant(value)),
    (Graph, "graph", lambda writer, value: writer.graph(value)),
    (bytes, "bytes", lambda writer, value: value.hex()),
    (list, "list", lambda writer, value: writer.items(value)),
    (dict, "dict", lambda writer, value: writer.entries(value)),
)
# A subclass of these (a namedtuple, a NumPy scalar) would come back as something else.
_EXACT = frozenset((float, tuple, bytes, list, dict))


def _origin_tables(order: Sequence[Node]) -> tuple[list[Any], list[Any], Iterator[int]]:
    """Rows of events, rows of sets of events, and the number of the set of each node of `order`.

    Events are equal by content here: forward mode makes one for each node.
    """
    numbers: dict[origin.Event, int] = {}
    rows: dict[tuple[Any, ...], int] = {}
    sets: dict[origin.Events, int] = {}

    def number(event: origin.Event) -> None:
        stack = [event]
        while stack:
            top = stack[-1]
            waiting = [cause for cause in top.because if cause not in numbers]
            if waiting and top not in numbers:
                stack += waiting
                continue
            stack.pop()
            causes = tuple(numbers[cause] for cause in top.because)
            row = (top.kind, top.subject, top.file, top.line, top.function, causes)
            numbers[top] = rows.setdefault(row, len(rows))

    set_rows: dict[tuple[int, ...], int] = {}
    origin_of: list[int] = []
    for node in order:
        events = node.origin
        found = sets.get(events)
        if found is None:
            for event in events:
                if event not in numbers:
                    number(event)
            row = tuple(dict.fromkeys(numbers[event] for event in events))
            found = sets[events] = set_rows.setdefault(row, len(set_rows))
        origin_of.append(found)
    events_json = [[*row[:-1], list(row[-1])] for row in rows]
    return events_json, [list(row) for row in set_rows], iter(origin_of)


# -- reading ---------------------------------------------------------------------------------------


class _Reader:
    """Rebuilds nodes in order; a head is decoded at its first node, when its Graphs are there."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        header = tables.header
        self._ops = [_op(name, version) for name, version in header["ops"]]
        self._heads: list[tuple[Op, Attributes] | None] = [None] * len(header["heads"])
        self._graphs: dict[int, Graph] = {}
        self._constants: dict[int, Constant] = {}
        self.nodes: list[Node] = []
        self._build()

    def result(self) -> Any:
        """What was written."""
        result = self._tables.header["result"]
        # `pack` writes a plain list of nodes, `save` one value.
        return list(map(self.value, result)) if isinstance(result, list) else self.value(result)

    def _build(self) -> None:
        heads, counts, arguments = _checked(self._tables)
        events = self._origins()
        origin_of = self._tables.nodes["origin"].tolist() if events else []
        nodes, known = self.nodes, self._heads
        united: dict[tuple[origin.Events, int], origin.Events] = {}
        following = iter(arguments)
        with origin.origins(False):
            for i, (head, count) in enumerate(zip(heads, counts, strict=True)):
                op, attrs = known[head] or self._head(head)
                node = intern(op, tuple([nodes[a] for a in islice(following, count)]), attrs)
                if origin_of:
                    key = (node._origins, origin_of[i])
                    if key not in united:
                        united[key] = _united(key[0], events[key[1]])
                    node._origins = united[key]
                nodes.append(node)

    def _head(self, number: int) -> tuple[Op, Attributes]:
        op_number, encoded = self._tables.header["heads"][number]
        op = self._ops[_below(op_number, len(self._ops))]
        if tuple(encoded) != op.attributes:
            raise ValueError(f"op {op.name} has attributes {op.attributes}, not {tuple(encoded)}")
        attrs = Attributes({name: self.value(value) for name, value in encoded.items()})
        self._heads[number] = (op, attrs)
        return op, attrs

    def _origins(self) -> list[origin.Events]:
        rows, sets = self._tables.header["events"], self._tables.header["origins"]
        events: list[origin.Event] = []
        for kind, subject, file, line, function, causes in rows:
            because = tuple(events[_below(cause, len(events))] for cause in causes)
            events.append(origin.Event(kind, subject, file, line, function, because))
        return [tuple(events[_below(event, len(events))] for event in row) for row in sets]

    def value(self, value: Any) -> Any:
        """The decoded value."""
        if value is None or type(value) in (bool, int, str):
            return value
        ((tag, content),) = value.items()
        return _DECODERS[tag](self, content)

    def node(self, number: Any) -> Node:
        """The node of that number."""
        return self.nodes[_below(number, len(self.nodes))]

    def graph(self, number: Any) -> Graph:
        """The Graph of that number; its nodes have been built."""
        if number not in self._graphs:
            rows = self._tables.header["graphs"]
            parameters, outputs = rows[_below(number, len(rows))]
            types = [self.value(type_) for type_ in parameters]
            self._graphs[number] = Graph(types, [self.node(output) for output in outputs])
        return self._graphs[number]

    def constant(self, content: Any) -> Constant:
        """The constant of a number, in the dtype that may stand beside it."""
        number, *stated = content if isinstance(content, list) else [content]
        if number not in self._constants:
            held = self._tables.constants
            array = held[_below(number, len(held))]
            dtype = as_dtype(stated[0] if stated else array.dtype.name)
            self._constants[number] = Constant(array.view(dtype) if stated else array, dtype)
        return self._constants[number]

    def foreign(self, number: Any) -> Any:
        """A value that the pickle holds as it is."""
        return self._tables.foreign[_below(number, len(self._tables.foreign))]

    def tensor(self, content: Any) -> TensorType:
        """A tensor type."""
        dtype, shape = content
        return TensorType(dtype, tuple(self.value(extent) for extent in shape))


_DECODERS: dict[str, Callable[[_Reader, Any], Any]] = {
    "node": _Reader.node,
    "float": lambda reader, content: float.fromhex(content),
    "tuple": lambda reader, content: tuple(map(reader.value, content)),
    "dim": lambda reader, content: parse(content),
    "dtype": lambda reader, content: as_dtype(content),
    "tensor": _Reader.tensor,
    "types": lambda reader, content: TupleType(map(reader.value, content)),
    "constant": _Reader.constant,
    "graph": _Reader.graph,
    "bytes": lambda reader, content: bytes.fromhex(content),
    "list": lambda reader, content: list(map(reader.value, content)),
    "dict": lambda reader, content: {key: reader.value(value) for key, value in content.items()},
    "foreign": _Reader.foreign,
}


def _op(name: str, version: int) -> Op:
    """The registered op of that name and version."""
    try:
        op = find(name)
    except GraphError as error:
        raise _Refused(str(error)) from None
    if op.version == version:
        return op
    advice = (
        "Update graphc, or the package that defines the op."
        if version > op.version
        else "The op has changed its meaning since: build the graph anew, or use the older graphc."
    )
    raise _Refused(
        f"It uses version {version} of the op {name!r}; version {op.version} is registered here "
        f"(graphc {__version__}).\n{advice}"
    )


def _below(number: Any, limit: int) -> int:
    """`number` if it is an index below `limit`; never one that counts from the end."""
    if type(number) is not int or not 0 <= number < limit:
        raise ValueError(f"{number!r} is not the number of an entry among {limit}")
    return number


def _checked(tables: Tables) -> tuple[list[int], list[int], list[int]]:
    """Heads, counts and arguments, after checking that every number refers to something earlier."""
    head, count, argument, origin_of = (tables.nodes[name] for name in _NODE_ARRAYS)
    for array in (head, count, argument, origin_of):
        if array.ndim != 1 or array.dtype.kind != "u":
            raise ValueError(f"a table of nodes is {array.dtype.name} of rank {array.ndim}")
    total = int(count.sum(dtype=np.uint64))
    owner = np.repeat(np.arange(len(count)), count) if total == len(argument) else None
    sound = (
        len(head) == len(count)
        and owner is not None
        and len(origin_of) in (0, len(head))
        and bool(np.all(head < len(tables.header["heads"])))
        and bool(np.all(argument < owner))
        and bool(np.all(origin_of < max(len(tables.header["origins"]), 1)))
    )
    if not sound:
        raise ValueError("the table of nodes refers to entries that are not there")
    return head.tolist(), count.tolist(), argument.tolist()


def _united(mine: origin.Events, read: origin.Events) -> origin.Events:
    """Events of a node and those read for it: other objects, even where they say the same."""
    said = set(map(_said, mine))
    return origin.unite(mine, tuple(event for event in read if _said(event) not in said))


def _said(event: origin.Event) -> tuple[Any, ...]:
    return (event.kind, event.subject, event.file, event.line, origin.location(event.because))
