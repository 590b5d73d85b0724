"""What does the first level of the cache hold? Everything between a graph and its machine code, as
text.

The key is that of the closed graph, which knows inputs by position and no origins, with the
options, the processor and the versions. The entry is the *plan*: the modules to link, the constants
that folding made, the sizes of the arena and of the work. A hit skips rewriting, fusion, lowering
and printing; the second level, objects by the key of their text, then skips LLVM.

An entry is data, read without executing anything: a line of JSON, the bytes of the constants, and
the texts, compressed, which are read only if an object is missing or somebody wants to see them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc._version import LOADED_AT_NS, __version__
from graphc.codegen.machine import Machine
from graphc.dims import Extent, parse
from graphc.graph import Graph
from graphc.options import Options
from graphc.runtime.engine import ABI_VERSION, Source, engine
from graphc.runtime.native import Module

FORMAT = 4
_FASTEST = 1  # a third larger than what takes zlib four times as long
_BETWEEN = "\0"  # two texts


@dataclass(frozen=True)
class Plan:
    """What must be linked, and how much memory and work a call needs."""

    modules: tuple[Module, ...]
    constants: Mapping[str, Any]
    arena: Extent
    work: Extent
    firings: int

    def to_bytes(self) -> bytes:
        """The plan as a line of JSON and the bytes that it describes."""
        texts = _BETWEEN.join(module.source.text for module in self.modules)
        head = {
            "format": FORMAT,
            "modules": [_fields(module) for module in self.modules],
            "arena": str(self.arena),
            "work": str(self.work),
            "firings": self.firings,
            "constants": [
                (symbol, array.dtype.str, array.shape) for symbol, array in self.constants.items()
            ],
        }
        arrays = [np.ascontiguousarray(array).tobytes() for array in self.constants.values()]
        packed = zlib.compress(texts.encode(), _FASTEST)
        return b"".join([json.dumps(head).encode(), b"\n", *arrays, packed])

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """The plan of an entry. Raises `ValueError` for what is none, or is of another format."""
        try:
            line, _, rest = data.partition(b"\n")
            head = json.loads(line)
            if head["format"] != FORMAT:
                raise ValueError(f"a plan of format {head['format']}, not {FORMAT}")
            constants, at = {}, 0
            for symbol, dtype, shape in head["constants"]:
                array = np.frombuffer(rest, dtype, math.prod(shape), at).reshape(shape).copy()
                constants[symbol], at = array, at + array.nbytes
            packed = rest[at:]
            texts = functools.cache(lambda: zlib.decompress(packed).decode().split(_BETWEEN))
            modules = tuple(_module(i, fields, texts) for i, fields in enumerate(head["modules"]))
            sizes = parse(head["arena"]), parse(head["work"])
            return Plan(modules, constants, *sizes, head["firings"])
        except _DAMAGE as error:
            raise ValueError(f"not a plan: {error}") from None


# What reading an entry that is damaged, foreign or too short leads to.
_DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def _fields(module: Module) -> dict[str, Any]:
    """A module as a JSON object, without its text."""
    source = module.source
    return {
        "name": module.name,
        "key": engine().key_of(source),
        "opt_level": source.opt_level,
        "passes": source.passes,
        "exports": module.exports,
        "imports": module.imports,
        "group": module.group,
        "kept": module.kept,
    }


def _module(number: int, fields: Mapping[str, Any], texts: Callable[[], list[str]]) -> Module:
    """A module from its JSON object and the texts of all."""
    source = Source(
        lambda: texts()[number], fields["opt_level"], fields["passes"], str(fields["key"])
    )
    return Module(
        fields["name"],
        source,
        tuple(fields["exports"]),
        tuple(fields["imports"]),
        fields["group"],
        fields["kept"],
    )


# How far the clock of a file system may be behind that of the process.
_CLOCK_NS = 2_000_000_000


def sources() -> str:
    """A digest of the code that this process runs, for a plan made by other code is another plan;
    empty if nobody can say which code that is.

    The files on disk are that code unless one was changed after the process began to load graphc.
    Then a plan would be kept under the name of code that never made it, and whoever finds it would
    call a program with other slots and another arena than it expects.
    """
    digest, youngest = _first_look()
    return digest if youngest < LOADED_AT_NS - _CLOCK_NS else ""


def are_sources_unchanged() -> bool:
    """Whether graphc's files are those that `sources` saw: what was imported since is theirs."""
    return _files() == _first_look()


@functools.cache
def _first_look() -> tuple[str, int]:
    return _files()


def _files() -> tuple[str, int]:
    """A digest of graphc's files as they are now, and when the last of them was changed."""
    import graphc.codegen
    import graphc.runtime

    seen, youngest = hashlib.sha256(), 0
    for package in (graphc, graphc.codegen, graphc.runtime):
        folder = package.__path__[0]
        for where, facts in sorted(_sources_in(folder)):
            youngest = max(youngest, facts.st_mtime_ns, facts.st_ctime_ns)
            name = where[len(folder) :].replace(os.sep, "/")
            seen.update(f"{name}:{facts.st_size}:{facts.st_mtime_ns};".encode())
    return seen.hexdigest(), youngest


def _sources_in(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The source files in a folder, at any depth, and what is known of them. Every compilation that
    keeps its plan looks, so not by `pathlib`, which takes four times as long.
    """
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".ll")):
                    yield entry.path, entry.stat()
                elif "." not in entry.name and entry.is_dir() and entry.name != "__pycache__":
                    waiting.append(entry.path)


def plan_key(
    graph: Graph, options: Options, donated: Mapping[int, int], workers: int, variant: str
) -> str:
    """The key of a plan: everything that decides it, 64 hexadecimal digits; empty if the code that
    makes it is not known.
    """
    facts = plan_facts(graph, options, donated, workers, variant)
    if not facts["graphc's files"]:
        return ""
    text = "\0".join(f"{name}={value}" for name, value in facts.items())
    return hashlib.sha256(text.encode()).hexdigest()


def plan_facts(
    graph: Graph, options: Options, donated: Mapping[int, int], workers: int, variant: str
) -> dict[str, str]:
    """What decides a plan, each by the name that a reader knows it by."""
    return {
        "the format of plans": str(FORMAT),
        "the version": __version__,
        "graphc's files": sources(),
        "the ABI": str(ABI_VERSION),
        "graph": graph.key.hex(),
        "variant": variant,
        "what is donated": str(sorted(donated.items())),
        "the number of threads": str(workers),
        "Options.math": options.math,
        "Options.deterministic": str(options.deterministic),
        "Options.opt_level": str(options.opt_level),
        "Options.library": str(options.library),
        "Options.exclude": str(sorted(options.exclude)),
        "the processor": repr(Machine.host()),
        "the compiler": engine().versions,
    }
