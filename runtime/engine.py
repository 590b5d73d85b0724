"""How does LLVM IR text become machine code at an address?  Compiled to an object, cached, linked.

Compiling and linking are separate steps because only the second depends on this process: an object
holds no address, so it can come from the disk cache, and the addresses of other kernels, of the
thread pool or of `memcpy` are given when it is linked. Every symbol an object asks for is looked up
*before* LLVM sees it, for an undefined symbol, a foreign architecture or a wrong file format is not
an error there but a crash.

No platform is ruled out. Objects are ELF on Linux, Mach-O on macOS, and ELF again on Windows, where
LLVM's in-process linker does not hold COFF to the small code model.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from graphc._version import __version__
from graphc.runtime.cache import Cache
from graphc.runtime.objectfile import MACHINES, ObjectSymbols, read_symbols

ABI_VERSION = 1  # of the program signature and the status record, docs/decisions/0003-the-call.md

# What LLVM itself may call for a load, store or stack frame it finds too long to write out. Nothing
# else is taken from the process: libm and the compiler's run-time library differ between machines.
_PROCESS_SYMBOLS = {
    "darwin": ("memcpy", "memmove", "memset", "bzero", "__bzero", "memset_pattern16"),
    "win32": ("memcpy", "memmove", "memset", "__chkstk"),
}
_PROCESS_SYMBOLS_ELSEWHERE = ("memcpy", "memmove", "memset")

# Names of passes, as LLVM's own tools write them, and the methods that add them.
_PASS_METHODS = {
    "instcombine": "add_instruction_combine_pass",
    "simplifycfg": "add_simplify_cfg_pass",
    "sroa": "add_sroa_pass",
    "newgvn": "add_new_gvn_pass",
    "dce": "add_dead_code_elimination_pass",
    "adce": "add_aggressive_dce_pass",
    "dse": "add_dead_store_elimination_pass",
    "loop-rotate": "add_loop_rotate_pass",
    "loop-unroll": "add_loop_unroll_pass",
    "loop-reduce": "add_loop_strength_reduce_pass",
    "always-inline": "add_always_inliner_pass",
    "globaldce": "add_global_dead_code_eliminate_pass",
}
_PIPELINES = {"O1": 1, "O2": 2, "O3": 3}

# LLVM never forgets a library that was linked, not even when it is unmapped: 9 KiB each stay until
# its linker goes. So a linker takes this many, and goes with the last of them that is in use.
LIBRARIES_OF_A_LINKER = 32


class EngineError(RuntimeError):
    """LLVM text that does not compile, or an object that must not be linked."""


class Recorder(Protocol):
    """Receives `(phase, seconds, bytes)`; a list will do.

    Phases: `parse` (bytes of text), `passes`, `codegen` (bytes of object), `cache read`, `cache
    write`, `link` (bytes of object), `shared` (the same code was already loaded; 0 bytes).
    """

    def append(self, entry: tuple[str, float, int], /) -> None: ...


class MachineLike(Protocol):
    """What the engine reads of a target: LLVM's names for it."""

    @property
    def triple(self) -> str: ...
    @property
    def cpu(self) -> str: ...
    @property
    def features(self) -> str: ...


@dataclass(frozen=True)
class HostMachine:
    """The processor this process runs on, in LLVM's words."""

    triple: str
    cpu: str
    features: str


@dataclass
class Source:
    """A module to be compiled, or found under its key: its text, or what knows it, and how.

    The key of what a cache remembers is remembered with it: then the text is not even read.
    """

    written: str | Callable[[], str]
    opt_level: int = 2
    passes: str = "instcombine"
    key: str = ""

    @property
    def text(self) -> str:
        """The LLVM IR."""
        return self.written if isinstance(self.written, str) else self.written()


class Loaded(Mapping[str, int]):
    """Addresses of exported symbols, by name; the code is mapped as long as this object lives.

    Whoever keeps an address keeps the object. It holds in turn whatever it was told to `keep`, so
    that a kernel outlives the programs that call it.
    """

    def __init__(self, addresses: dict[str, int], tracker: Any, compiler: Any, keep: tuple) -> None:
        self._addresses = addresses
        self._keep = keep
        # A finaliser rather than __del__: it holds tracker and compiler in the right order, and
        # runs before `_keep` is let go. At exit nothing is unmapped: a thread may still be inside.
        weakref.finalize(self, _unload, tracker, compiler).atexit = False

    def __getitem__(self, name: str) -> int:
        return self._addresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def __repr__(self) -> str:
        return f"Loaded({', '.join(f'{name}={at:#x}' for name, at in self._addresses.items())})"

    # Identity, not the mapping's contents: two libraries are not one because their names agree.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _unload(tracker: Any, compiler: Any) -> None:
    """Unmaps one library; `compiler` is an argument so that it is there until then, and no longer
    than the last of its libraries.
    """
    if not compiler.closed:
        tracker.close()


class _FairLock:
    """A re-entrant lock that goes to a thread that waits before the last owner can have it again.

    LLVM runs without the GIL and with this lock, so a thread that compiles one text after another
    would let it go only while nobody else runs, and a thread that wants to fork would wait for
    ever.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner != me:
            with self._turn:
                self._lock.acquire()
            self._owner = me
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._lock.release()

    @property
    def busy(self) -> bool:
        """Would another thread make this one wait?"""
        return self._lock.locked() and self._owner != threading.get_ident()

    def forget_waiters(self) -> None:
        """For the child of a fork: who waited for a turn in the parent does not exist here."""
        self._turn = threading.Lock()


class Engine:
    """Compiles and links LLVM IR text for the machine it runs on; safe to share between threads.

    `cache`: where objects are kept between processes; None for the default folder. `host` is the
    machine that objects are compiled for when none is named. Compilation is serial, for llvmlite
    holds one lock around LLVM.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = Cache() if cache is None else cache
        self.lock = _FairLock()
        self._llvm = _import_llvm()
        self.host = _host_machine(self._llvm)
        self._target_machines: dict[tuple[str, str, str, int, bool], Any] = {}
        self._single_passes: dict[tuple[int, str], tuple[Any, Any]] = {}
        self._compiler: Any = None
        self._linked = 0
        self._loaded: weakref.WeakValueDictionary[tuple, Loaded] = weakref.WeakValueDictionary()

    @property
    def busy(self) -> bool:
        """Would a request wait for one of another thread?"""
        return self.lock.busy

    @property
    def versions(self) -> str:
        """Of everything that may change an object for the same text."""
        llvm = ".".join(map(str, self._llvm.llvm_version_info))
        llvmlite = _llvmlite_version()
        return f"graphc {__version__}, llvm {llvm}, llvmlite {llvmlite}, abi {ABI_VERSION}"

    def compile_ir(
        self,
        text: str,
        *,
        opt_level: int = 2,
        passes: str = "instcombine",
        machine: MachineLike | None = None,
        recorder: Recorder | None = None,
    ) -> bytes:
        """The object file of one module; raises `EngineError` with LLVM's words for malformed text.

        `opt_level`: 0 to 3, of code generation only. `passes`: run first, a comma-separated list of
        names in `pass_names()`; "none" runs nothing. Loop and SLP vectorisers stay off: kernels
        arrive vectorised, and searching them again costs 2 to 17 times the compile time.
        `machine`: None for the host. Relocations are position independent, for the small code
        model. Functions are marked `nounwind`: no exception passes through compiled code, and
        without unwind tables LLVM gives all of a dropped library back.
        """
        prepared = self._prepared(text, opt_level, passes, machine, recorder)
        with self.lock, prepared as (module, target):
            start = time.perf_counter()
            try:
                data = target.emit_object(module)
            except RuntimeError as error:
                raise EngineError(f"LLVM could not emit the object: {error}") from None
            _record(recorder, "codegen", start, len(data))
        return data

    def assembly(
        self,
        text: str,
        *,
        opt_level: int = 2,
        passes: str = "instcombine",
        machine: MachineLike | None = None,
    ) -> str:
        """The assembly text that `compile_ir` with the same arguments would assemble."""
        prepared = self._prepared(text, opt_level, passes, machine, None)
        with self.lock, prepared as (module, target):
            return target.emit_assembly(module)

    def optimized_ir(
        self,
        text: str,
        *,
        passes: str = "instcombine",
        machine: MachineLike | None = None,
    ) -> str:
        """The module after `passes`, as text."""
        with self.lock, self._prepared(text, 2, passes, machine, None) as (module, _):
            return str(module)

    def link(
        self,
        object_bytes: bytes,
        exports: Iterable[str],
        symbols: Mapping[str, int] | None = None,
        *,
        keep: tuple = (),
        recorder: Recorder | None = None,
    ) -> Loaded:
        """Maps an object into this process and returns the addresses of `exports`.

        `symbols` names what the object may call; names that it does not use are ignored. `keep`:
        objects that must live as long as the code, such as the `Loaded` that own the addresses in
        `symbols`. Raises `EngineError` for an object of another machine, a missing export, or a
        symbol that neither `symbols` nor the short list of C functions that LLVM may insert
        provides.
        """
        return self.link_all([object_bytes], exports, symbols, keep=keep, recorder=recorder)

    def link_all(
        self,
        objects: Sequence[bytes],
        exports: Iterable[str],
        symbols: Mapping[str, int] | None = None,
        *,
        keep: tuple = (),
        recorder: Recorder | None = None,
    ) -> Loaded:
        """Maps objects that may call each other, as `link` does one: together they take hardly
        longer.
        """
        start = time.perf_counter()
        exports = tuple(exports)
        try:
            tables = [read_symbols(data) for data in objects]
        except ValueError as error:
            raise EngineError(str(error)) from None
        for table in tables:
            self._check_architecture(table)
        defined = frozenset().union(*(table.defined for table in tables))
        absent = sorted(set(exports) - defined)
        if absent:
            raise EngineError(f"the object does not define {', '.join(absent)}")
        undefined = frozenset().union(*(table.undefined for table in tables)) - defined
        imports = self._resolve(undefined, symbols or {})
        with self.lock:
            builder = self._llvm.JITLibraryBuilder()
            for data in objects:
                builder.add_object_img(data)
            for name, address in imports.items():
                builder.import_symbol(name, address)
            for name in exports:
                builder.export_symbol(name)
            compiler = self._lljit()
            try:
                tracker = builder.link(compiler, f"graphc-{self._linked}")
            except RuntimeError as error:
                raise EngineError(f"LLVM could not link the object: {error}") from None
        addresses = {name: tracker[name] for name in exports}
        _record(recorder, "link", start, sum(map(len, objects)))
        return Loaded(addresses, tracker, compiler, keep)

    def load_ir(
        self,
        text: str,
        exports: Iterable[str],
        symbols: Mapping[str, int] | None = None,
        *,
        opt_level: int = 2,
        passes: str = "instcombine",
        cache: Cache | bool = True,
        keep: tuple = (),
        recorder: Recorder | None = None,
    ) -> Loaded:
        """Machine code of `text` for the host, from memory, from the disk cache, or compiled now.

        The same text with the same options and symbols is loaded once in a process, for as long as
        somebody holds it.  `cache`: True for the engine's own, False for none, or another `Cache`.
        Other arguments as for `compile_ir` and `link`.
        """
        source = Source(text, opt_level, passes)
        return self.load([source], exports, symbols, cache=cache, keep=keep, recorder=recorder)

    def load(
        self,
        sources: Sequence[Source],
        exports: Iterable[str],
        symbols: Mapping[str, int] | None = None,
        *,
        cache: Cache | bool = True,
        keep: tuple = (),
        recorder: Recorder | None = None,
    ) -> Loaded:
        """Modules that may call each other, as one library: as `load_ir` for one of them."""
        start = time.perf_counter()
        exports = tuple(exports)
        keys = tuple(map(self.key_of, sources))
        identity = (keys, exports, tuple(sorted((symbols or {}).items())))
        with self.lock:
            known = self._loaded.get(identity)
            if known is not None:
                _record(recorder, "shared", start, 0)
                return known
            store = {True: self.cache, False: None}[cache] if isinstance(cache, bool) else cache
            objects = [_kept(store, key, recorder) for key in keys]
            missing = [i for i, data in enumerate(objects) if data is None]
            made: set[int] = set()
            while True:
                for i in missing:
                    objects[i] = self._compiled(sources[i], recorder)
                made.update(missing)
                held = [data for data in objects if data is not None]
                try:
                    loaded = self.link_all(held, exports, symbols, keep=keep, recorder=recorder)
                    break
                except EngineError:
                    # Either the request is wrong, and compiling says so in the same words, or some
                    # entry is sound as a file but not as an object, and is replaced.
                    missing = [i for i in range(len(sources)) if i not in made]
                    if not missing:
                        raise
            for i in sorted(made):
                _store(store, keys[i], held[i], recorder)
            self._loaded[identity] = loaded
            return loaded

    def _compiled(self, source: Source, recorder: Recorder | None) -> bytes:
        return self.compile_ir(
            source.text, opt_level=source.opt_level, passes=source.passes, recorder=recorder
        )

    def key_of(self, source: Source) -> str:
        """The cache key of a module, computed once."""
        if not source.key:
            how = {"opt_level": source.opt_level, "passes": source.passes}
            source.key = self.object_key(source.text, **how)  # type: ignore[arg-type]
        return source.key

    def object_key(
        self,
        text: str,
        *,
        opt_level: int = 2,
        passes: str = "instcombine",
        machine: MachineLike | None = None,
    ) -> str:
        """The cache key of an object: everything that decides its bytes, 64 hexadecimal digits."""
        machine = machine or self.host
        digest = hashlib.blake2b(digest_size=32)
        fields = (self.versions, machine.triple, machine.cpu, machine.features, str(opt_level))
        for field in (*fields, passes, text):
            data = field.encode()
            digest.update(struct.pack("<Q", len(data)))  # no two lists of fields run together
            digest.update(data)
        return digest.hexdigest()

    def process_symbols(self, names: Iterable[str]) -> dict[str, int]:
        """Addresses of C functions of this process; raises `EngineError` if one is not there."""
        found = {name: _process_address(name) for name in names}
        absent = sorted(name for name, address in found.items() if not address)
        if absent:
            raise EngineError(f"this process has no symbol {', '.join(absent)}")
        return found

    @contextlib.contextmanager
    def _prepared(
        self,
        text: str,
        opt_level: int,
        passes: str,
        machine: MachineLike | None,
        recorder: Recorder | None,
    ) -> Iterator[tuple[Any, Any]]:
        """A verified module of its own context after `passes`, and the target machine for it."""
        target, layout = self._target_machine(machine, opt_level)
        start = time.perf_counter()
        # Types and constants live as long as their context: one for each module gives them back.
        with self._llvm.create_context() as context, self._parsed(text, context) as module:
            module.triple = target.triple
            module.data_layout = layout
            for function in module.functions:
                if not function.is_declaration:
                    function.add_function_attribute("nounwind")
            _record(recorder, "parse", start, len(text))
            start = time.perf_counter()
            self._run_passes(module, target, passes)
            _record(recorder, "passes", start, 0)
            yield module, target

    def _parsed(self, text: str, context: Any) -> Any:
        try:
            module = self._llvm.parse_assembly(text, context)
        except RuntimeError as error:
            raise EngineError(f"LLVM refuses the text: {error}") from None
        try:
            module.verify()
        except RuntimeError as error:
            module.close()  # before its context goes
            raise EngineError(f"LLVM refuses the text: {error}") from None
        return module

    def _run_passes(self, module: Any, target: Any, passes: str) -> None:
        if passes == "none":
            return
        names = [name.strip() for name in passes.split(",")]
        unknown = sorted(set(names) - set(pass_names()))
        if unknown:
            known = ", ".join(pass_names())
            raise EngineError(f"no pass is named {', '.join(unknown)}; there are {known}")
        for name in names:
            manager, builder = self._pass(target, name)
            manager.run(module, builder)

    def _pass(self, target: Any, name: str) -> tuple[Any, Any]:
        """What runs a pass, and the builder it needs.

        llvmlite gives neither back when it is dropped, 5 KiB together, so those of single passes
        are kept and run again. A pipeline can run only once: its inliner uses itself up.
        """
        key = (id(target), name)  # the target machines live as long as the engine
        if key in self._single_passes:
            return self._single_passes[key]
        tuning = self._llvm.create_pipeline_tuning_options(_PIPELINES.get(name, 2))
        tuning.loop_vectorization = False
        tuning.slp_vectorization = False
        builder = self._llvm.create_pass_builder(target, tuning)
        if name in _PIPELINES:
            return builder.getModulePassManager(), builder
        manager = self._llvm.create_new_module_pass_manager()
        getattr(manager, _PASS_METHODS[name])()
        self._single_passes[key] = manager, builder
        return manager, builder

    def _target_machine(self, machine: MachineLike | None, opt_level: int) -> tuple[Any, str]:
        if opt_level not in (0, 1, 2, 3):
            raise EngineError(f"opt_level is 0, 1, 2 or 3, not {opt_level!r}")
        in_process = machine is None
        machine = machine or self.host
        triple = machine.triple
        if in_process and sys.platform == "win32":
            triple += "-elf"
        key = (triple, machine.cpu, machine.features, opt_level, in_process)
        if key not in self._target_machines:
            created = self._create_target_machine(*key)
            self._target_machines[key] = (created, str(created.target_data))
        return self._target_machines[key]

    def _create_target_machine(
        self, triple: str, cpu: str, features: str, opt_level: int, in_process: bool
    ) -> Any:
        llvm = self._llvm
        if not in_process:  # 4 ms, only for those who cross-compile
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
        try:
            return llvm.Target.from_triple(triple).create_target_machine(
                cpu=cpu,
                features=features,
                opt=opt_level,
                jit=in_process,
                reloc="pic",
                codemodel="small",
            )
        except RuntimeError as error:
            raise EngineError(f"LLVM has no target {triple} {cpu}: {error}") from None

    def _lljit(self) -> Any:
        """The in-process linker of the next library. Who links holds the lock."""
        if self._compiler is None or self._linked == LIBRARIES_OF_A_LINKER:
            self._linked = 0
            # JITLink puts all sections of an object into one mapping, as the small code model
            # needs; the older linker asks for neighbouring ones and aborts if it gets others.
            # JITLink does not read ELF on Windows.
            self._compiler = self._llvm.create_lljit_compiler(
                use_jit_link=sys.platform != "win32", suppress_errors=True
            )
        self._linked += 1
        return self._compiler

    def _check_architecture(self, table: ObjectSymbols) -> None:
        architecture = self.host.triple.partition("-")[0]
        expected = MACHINES.get(architecture)
        if expected is None:  # a processor this table does not know: nothing to compare with
            return
        file_format = "Mach-O" if sys.platform == "darwin" else "ELF"
        if table.file_format != file_format or table.machine != expected[file_format]:
            raise EngineError(
                f"the object is {table.file_format} for machine {table.machine:#x};"
                f" this process links {file_format} for {architecture}"
            )

    def _resolve(self, undefined: frozenset[str], symbols: Mapping[str, int]) -> dict[str, int]:
        imports: dict[str, int] = {}
        missing = []
        from_process = _PROCESS_SYMBOLS.get(sys.platform, _PROCESS_SYMBOLS_ELSEWHERE)
        for name in sorted(undefined):
            address = symbols.get(name)
            if address is None and name in from_process:
                address = _process_address(name)
            if not address:
                missing.append(name)
            else:
                imports[name] = address
        if missing:
            raise EngineError(
                f"compiled code needs {', '.join(missing)}, which nothing provides: pass the"
                " address in `symbols`, or write as scalar instructions what LLVM lowered to a"
                " library call"
            )
        return imports


def pass_names() -> tuple[str, ...]:
    """Names that `passes` may list, "none" apart; O1, O2 and O3 are LLVM's own pipelines."""
    return (*_PIPELINES, *_PASS_METHODS)


_engine: Engine | None = None
_engine_lock = threading.Lock()


def engine() -> Engine:
    """The engine of this process, made at the first call (llvmlite is imported then)."""
    global _engine
    if _engine is None:
        with _engine_lock:
            if _engine is None:
                created = Engine()
                _hold_locks_across_fork(created)
                _engine = created
    return _engine


def _hold_locks_across_fork(shared: Engine) -> None:
    """Forks only while no thread is inside LLVM: the child would wait for that thread for ever.

    llvmlite's own lock has no public name; without it a fork is as safe as llvmlite makes it.
    """
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    llvm_lock = getattr(shared._llvm.ffi.lib, "_lock", None)
    locks = [shared.lock] if llvm_lock is None else [shared.lock, llvm_lock]

    def acquire() -> None:
        for lock in locks:
            lock.__enter__()

    def release() -> None:
        for lock in reversed(locks):
            lock.__exit__(None, None, None)

    def release_in_child() -> None:
        shared.lock.forget_waiters()
        release()

    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release_in_child)


def _import_llvm() -> Any:
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise EngineError(f"compiling needs llvmlite: {error}") from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _host_machine(llvm: Any) -> HostMachine:
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM cannot ask this processor; its name must do
        features = ""
    return HostMachine(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


@functools.cache
def _process_libraries() -> tuple[ctypes.CDLL, ...]:
    """Where C functions are looked up. LLVM's own look-up depends on what ran before it."""
    if sys.platform != "win32":
        return (ctypes.CDLL(None),)
    libraries = []
    for name in ("ucrtbase", "vcruntime140", "ntdll"):
        with contextlib.suppress(OSError):
            libraries.append(ctypes.CDLL(name))
    return tuple(libraries)


@functools.cache
def _process_address(name: str) -> int:
    """The address of a C function, or 0."""
    for library in _process_libraries():
        function = getattr(library, name, None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


@functools.cache
def _llvmlite_version() -> str:
    import llvmlite

    return llvmlite.__version__


def _kept(store: Cache | None, key: str, recorder: Recorder | None) -> bytes | None:
    """The object of a key, if it is kept."""
    start = time.perf_counter()
    data = None if store is None else store.get(key)
    if data is not None:
        _record(recorder, "cache read", start, len(data))
    return data


def _store(store: Cache | None, key: str, data: bytes, recorder: Recorder | None) -> None:
    if store is None:
        return
    start = time.perf_counter()
    if store.put(key, data):
        _record(recorder, "cache write", start, len(data))


def _record(recorder: Recorder | None, phase: str, start: float, size_bytes: int) -> None:
    if recorder is not None:
        recorder.append((phase, time.perf_counter() - start, size_bytes))
