"""Does text become code that runs, is shared, is freed, and never crashes the process?"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from graphc.runtime.cache import Cache
from graphc.runtime.engine import (
    LIBRARIES_OF_A_LINKER,
    Engine,
    EngineError,
    HostMachine,
    Source,
    engine,
    pass_names,
)
from graphc.runtime.objectfile import read_symbols

ROOT = Path(__file__).resolve().parents[2]
INT = ctypes.c_int64
TRIPLE = """
define i64 @triple(i64 %x) {
  %y = mul i64 %x, 3
  ret i64 %y
}
"""
CALLER = """
declare i64 @triple(i64)
define i64 @caller(i64 %x) {
  %y = call i64 @triple(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
"""
EXP = """
declare double @llvm.exp.f64(double)
define double @f(double %x) {
  %y = call double @llvm.exp.f64(double %x)
  ret double %y
}
"""
AARCH64 = HostMachine("aarch64-unknown-linux-gnu", "generic", "")
MACOS = HostMachine("arm64-apple-macosx", "apple-m1", "")
WINDOWS = HostMachine("x86_64-pc-windows-msvc", "x86-64", "")


def function(address: int, result=INT, *arguments):
    return ctypes.CFUNCTYPE(result, *(arguments or (INT,)))(address)


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def compiler(tmp_path: Path) -> Engine:
    return Engine(Cache(tmp_path / "cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Cache(tmp_path_factory.mktemp("cache")))


# --- compiling -----------------------------------------------------------------------------------


def test_llvmlite_is_imported_at_the_first_use_only() -> None:
    code = """
import sys
from graphc.runtime import engine, threads
assert "llvmlite" not in sys.modules
engine.engine()
assert "llvmlite" in sys.modules
assert engine.engine() is engine.engine()
"""
    run_python(code)


def test_text_to_code(shared: Engine) -> None:
    data = shared.compile_ir(TRIPLE)
    loaded = shared.link(data, ["triple"])
    assert function(loaded["triple"])(14) == 42
    assert dict(loaded) == {"triple": loaded["triple"]}


@pytest.mark.parametrize("opt_level", [0, 1, 2, 3])
@pytest.mark.parametrize("passes", ["none", "O1", "sroa,instcombine, simplifycfg", "always-inline"])
def test_every_level_gives_the_same_result(shared: Engine, opt_level: int, passes: str) -> None:
    loaded = shared.load_ir(TRIPLE, ["triple"], opt_level=opt_level, passes=passes, cache=False)
    assert function(loaded["triple"])(-5) == -15


@pytest.mark.parametrize("name", pass_names())
def test_every_named_pass_exists(shared: Engine, name: str) -> None:
    assert "@triple" in shared.optimized_ir(TRIPLE, passes=name)


def test_objects_are_deterministic(shared: Engine) -> None:
    assert shared.compile_ir(TRIPLE) == shared.compile_ir(TRIPLE)


def test_the_vectorisers_are_off(shared: Engine) -> None:
    text = """
define void @scale(ptr %x, i64 %count) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %at = getelementptr float, ptr %x, i64 %i
  %old = load float, ptr %at
  %new = fmul float %old, 2.0
  store float %new, ptr %at
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""
    optimized = shared.optimized_ir(text, passes="O3")
    assert "x float>" not in optimized


def test_assembly_is_for_the_machine_asked_for(shared: Engine) -> None:
    assert "triple" in shared.assembly(TRIPLE)
    assert "ret" in shared.assembly(TRIPLE, machine=AARCH64)
    assert shared.assembly(TRIPLE, machine=AARCH64) != shared.assembly(TRIPLE, machine=MACOS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("define i64 @f() {\n  %x = add i64 1,\n}\n", "expected"),
        ("define void @f() {\n  call void @llvm.nonsense()\n  ret void\n}\n", "llvm.nonsense"),
        (
            "define i64 @f() {\nentry:\n  br label %a\na:\n  %x = phi i64 [1, %b]\n  ret i64 %x\n"
            "b:\n  ret i64 0\n}\n",
            "PHI",
        ),
    ],
    ids=["syntax", "unknown intrinsic", "verifier"],
)
def test_malformed_text_is_refused(shared: Engine, text: str, words: str) -> None:
    for _ in range(3):  # the module and its context are given back in the right order
        with pytest.raises(EngineError, match=words):
            shared.compile_ir(text)


def test_bad_options_are_refused(shared: Engine) -> None:
    with pytest.raises(EngineError, match="opt_level"):
        shared.compile_ir(TRIPLE, opt_level=4)
    with pytest.raises(EngineError, match="no pass is named loop-vectorize"):
        shared.compile_ir(TRIPLE, passes="instcombine,loop-vectorize")
    with pytest.raises(EngineError, match="no target"):
        shared.compile_ir(TRIPLE, machine=HostMachine("pdp11-unknown-unix", "", ""))


# --- linking -------------------------------------------------------------------------------------


def test_a_missing_symbol_is_named(shared: Engine) -> None:
    with pytest.raises(EngineError, match=r"needs triple, which nothing provides"):
        shared.load_ir(CALLER, ["caller"], cache=False)


def test_a_missing_export_is_named(shared: Engine) -> None:
    with pytest.raises(EngineError, match="does not define sextuple"):
        shared.load_ir(TRIPLE, ["triple", "sextuple"], cache=False)


@pytest.mark.parametrize(
    ("body", "symbol"),
    [
        ("%y = call double @llvm.exp.f64(double %x)\n ret double %y", "exp"),
        ("%y = call double @llvm.pow.f64(double %x, double %x)\n ret double %y", "pow"),
        ("%y = frem double %x, 3.0\n ret double %y", "fmod"),
        ("%h = fptrunc double %x to half\n %y = fpext half %h to double\n ret double %y", "__"),
        ("%y = call double @llvm.nonsense.f64(double %x)\n ret double %y", "llvm.nonsense.f64"),
    ],
    ids=["exp", "pow", "fmod", "half", "intrinsic that does not exist"],
)
def test_library_calls_of_llvm_are_refused(shared: Engine, body: str, symbol: str) -> None:
    text = f"""
declare double @llvm.exp.f64(double)
declare double @llvm.pow.f64(double, double)
declare double @llvm.nonsense.f64(double)
define double @f(double %x) {{
 {body}
}}
"""
    with pytest.raises(EngineError, match=symbol):
        shared.load_ir(text, ["f"], cache=False)


def test_a_library_call_may_be_given(shared: Engine) -> None:
    symbols = shared.process_symbols(["exp"])
    loaded = shared.load_ir(EXP, ["f"], {**symbols, "unused": 1}, cache=False)
    assert function(loaded["f"], ctypes.c_double, ctypes.c_double)(0.0) == 1.0


def test_symbols_of_the_process(shared: Engine) -> None:
    assert shared.process_symbols(["memcpy", "strlen"])["strlen"] > 0
    with pytest.raises(EngineError, match="no_such_function"):
        shared.process_symbols(["memcpy", "no_such_function"])


@pytest.mark.parametrize("first", [True, False], ids=["before any link", "after one"])
def test_memory_functions_come_from_the_process(tmp_path: Path, first: bool) -> None:
    fresh = Engine(Cache(tmp_path))
    if not first:
        fresh.load_ir(TRIPLE, ["triple"])
    text = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
define i64 @fill(ptr %to, ptr %from, i64 %bytes) {
  call void @llvm.memset.p0.i64(ptr %to, i8 7, i64 %bytes, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %from, ptr %to, i64 %bytes, i1 false)
  %next = getelementptr i8, ptr %from, i64 1
  call void @llvm.memmove.p0.p0.i64(ptr %next, ptr %from, i64 %bytes, i1 false)
  ret i64 %bytes
}
"""
    loaded = fresh.load_ir(text, ["fill"])
    to, source = ctypes.create_string_buffer(100), ctypes.create_string_buffer(101)
    fill = function(loaded["fill"], INT, ctypes.c_void_p, ctypes.c_void_p, INT)
    assert fill(ctypes.addressof(to), ctypes.addressof(source), 100) == 100
    assert to.raw == b"\7" * 100
    assert source.raw == b"\7" * 101


def test_code_calls_other_code_and_keeps_it(compiler: Engine) -> None:
    callee = compiler.load_ir(TRIPLE, ["triple"])
    caller = compiler.load_ir(CALLER, ["caller"], callee, keep=(callee,))
    del callee
    gc.collect()
    assert function(caller["caller"])(2) == 7


def test_data_and_far_symbols(shared: Engine) -> None:
    """Constants are in reach of the small code model; a C function far away is called by a stub."""
    text = """
declare i64 @strlen(ptr)
@table = internal constant [4 x i64] [i64 2, i64 3, i64 5, i64 7]
@counter = global i64 40
@text = internal constant [6 x i8] c"seven\\00"
define i64 @look(i64 %index) {
  %at = getelementptr i64, ptr @table, i64 %index
  %value = load i64, ptr %at
  %old = load i64, ptr @counter
  %length = call i64 @strlen(ptr @text)
  %sum = add i64 %value, %old
  %new = add i64 %sum, %length
  store i64 %new, ptr @counter
  ret i64 %new
}
"""
    loaded = shared.load_ir(text, ["look", "counter"], shared.process_symbols(["strlen"]))
    assert function(loaded["look"])(3) == 52
    assert INT.from_address(loaded["counter"]).value == 52


@pytest.mark.parametrize("machine", [AARCH64, MACOS, WINDOWS], ids=["elf", "mach-o", "coff"])
def test_objects_of_other_machines_are_not_linked(shared: Engine, machine: HostMachine) -> None:
    if machine.triple.partition("-")[0] == shared.host.triple.partition("-")[0]:
        machine = WINDOWS
    data = shared.compile_ir(TRIPLE, machine=machine)
    with pytest.raises(EngineError, match="the object is|not an object"):
        shared.link(data, ["triple"])


def test_damaged_objects_are_not_linked(shared: Engine) -> None:
    data = shared.compile_ir(TRIPLE)
    for damaged in (b"", b"garbage" * 20, data[:40], data[: len(data) // 2], data[:5] + data[6:]):
        with pytest.raises(EngineError):
            shared.link(damaged, ["triple"])


@pytest.mark.parametrize("machine", [None, AARCH64, MACOS], ids=["host", "elf", "mach-o"])
def test_symbols_of_an_object(shared: Engine, machine: HostMachine | None) -> None:
    text = EXP + "@table = global [3 x i64] zeroinitializer\n@hidden = internal global i64 3\n"
    table = read_symbols(shared.compile_ir(text, machine=machine))
    assert table.defined == {"f", "table"}
    assert table.undefined == {"exp"}


# --- sharing and freeing -------------------------------------------------------------------------


def test_the_same_text_is_loaded_once(compiler: Engine) -> None:
    events: list[tuple[str, float, int]] = []
    first = compiler.load_ir(TRIPLE, ["triple"], recorder=events)
    second = compiler.load_ir(TRIPLE, ["triple"], recorder=events)
    assert first is second
    phases = [phase for phase, _, _ in events]
    assert phases == ["parse", "passes", "codegen", "link", "cache write", "shared"]
    assert all(seconds >= 0 for _, seconds, _ in events)
    sizes = {phase: size for phase, _, size in events}
    assert sizes["parse"] == len(TRIPLE)
    assert sizes["codegen"] == sizes["link"] == sizes["cache write"] > 0


def test_other_symbols_are_other_code(compiler: Engine) -> None:
    symbols = compiler.process_symbols(["abs", "labs"])
    first = compiler.load_ir(CALLER, ["caller"], {"triple": symbols["labs"]})
    triple = compiler.load_ir(TRIPLE, ["triple"])
    second = compiler.load_ir(CALLER, ["caller"], triple, keep=(triple,))
    assert function(first["caller"])(-5) == 6
    assert function(second["caller"])(-5) == -14


def test_threads_get_the_same_code(compiler: Engine) -> None:
    found: list = []
    start = threading.Barrier(4)

    def load() -> None:
        start.wait()
        loaded = compiler.load_ir(TRIPLE, ["triple"])
        found.append((loaded, function(loaded["triple"])(7)))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(loaded) for loaded, _ in found}) == 1
    assert {result for _, result in found} == {21}


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="counts mappings on Linux")
def test_dropped_code_is_unmapped(compiler: Engine) -> None:
    def executable_pages() -> int:
        gc.collect()
        total = 0
        for line in Path("/proc/self/maps").read_text().splitlines():
            extent, permissions, *_ = line.split()
            begin, end = (int(address, 16) for address in extent.split("-"))
            total += (end - begin) // os.sysconf("SC_PAGE_SIZE") * ("x" in permissions)
        return total

    data = compiler.compile_ir(TRIPLE)
    compiler.link(data, ["triple"])
    before = executable_pages()
    held = [compiler.link(data, ["triple"]) for _ in range(50)]
    during = executable_pages()
    assert all(function(loaded["triple"])(2) == 6 for loaded in held)
    del held
    assert during >= before + 50
    assert executable_pages() <= before + 10


DROPPED_FUNCTIONS = """
import gc, os
import numpy as np
import graphc as gx

def resident_bytes():
    gc.collect()
    with open("/proc/self/statm") as words:
        return int(words.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

x, cold = gx.vector("x", 7), gx.Options(cache=False)

def compile_and_drop(number):
    f = gx.compile([x], (x * float(number)).sum(), options=cold)
    assert f(np.ones(7)) == 7 * number

for number in range(40):
    compile_and_drop(number)
before = resident_bytes()
for number in range(40, 240):
    compile_and_drop(number)
print((resident_bytes() - before) // 200)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads resident pages on Linux")
def test_dropped_functions_give_their_memory_back() -> None:
    """26 KiB each stayed when all of them were linked by one linker."""
    assert int(run_python(DROPPED_FUNCTIONS)) < 6 * 1024  # bytes for each


def test_code_outlives_the_linker_that_follows(compiler: Engine) -> None:
    data = compiler.compile_ir(TRIPLE)
    held = [compiler.link(data, ["triple"]) for _ in range(2 * LIBRARIES_OF_A_LINKER + 3)]
    del held[1::2]
    gc.collect()
    assert all(function(loaded["triple"])(5) == 15 for loaded in held)


def test_a_linker_goes_with_its_last_library(compiler: Engine) -> None:
    data = compiler.compile_ir(TRIPLE)
    held = [compiler.link(data, ["triple"])]
    first = weakref.ref(compiler._compiler)
    held += [compiler.link(data, ["triple"]) for _ in range(LIBRARIES_OF_A_LINKER)]
    assert compiler._compiler is not first()
    last = held.pop(0)
    del held[: LIBRARIES_OF_A_LINKER - 1]
    gc.collect()
    assert first() is not None
    assert function(last["triple"])(6) == 18
    del last
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("passes", ["instcombine", "always-inline,sroa,simplifycfg", "O2"])
def test_passes_run_again_do_the_same(compiler: Engine, passes: str) -> None:
    texts = [TRIPLE, TRIPLE.replace("triple", "other"), TRIPLE]
    again = [compiler.compile_ir(text, passes=passes) for text in texts]
    assert again == [Engine(compiler.cache).compile_ir(text, passes=passes) for text in texts]


# --- the disk cache ------------------------------------------------------------------------------


def test_objects_come_from_the_disk(compiler: Engine) -> None:
    first: list = []
    compiler.load_ir(TRIPLE, ["triple"], recorder=first)
    second: list = []
    other = Engine(Cache(compiler.cache.folder.parent))
    loaded = other.load_ir(TRIPLE, ["triple"], recorder=second)
    assert function(loaded["triple"])(5) == 15
    assert [phase for phase, _, _ in second] == ["cache read", "link"]


def test_no_cache_is_used_when_none_is_wanted(compiler: Engine, tmp_path: Path) -> None:
    events: list = []
    compiler.load_ir(TRIPLE, ["triple"], cache=False, recorder=events)
    assert [phase for phase, _, _ in events] == ["parse", "passes", "codegen", "link"]
    assert compiler.cache.size_bytes() == 0
    elsewhere = Cache(tmp_path / "elsewhere")
    compiler.load_ir(CALLER.replace("@triple", "@labs"), ["caller"],
                     compiler.process_symbols(["labs"]), cache=elsewhere)  # fmt: skip
    assert compiler.cache.size_bytes() == 0
    assert elsewhere.size_bytes() > 0


def test_modules_that_call_each_other_are_one_library(compiler: Engine) -> None:
    sources = [Source(CALLER), Source(TRIPLE)]
    events: list[tuple[str, float, int]] = []
    loaded = compiler.load(sources, ["caller"], recorder=events)
    assert function(loaded["caller"])(-5) == -14
    assert [phase for phase, _, _ in events].count("link") == 1
    assert compiler.load([Source(CALLER), Source(TRIPLE)], ["caller"]) is loaded
    with pytest.raises(EngineError, match="triple"):
        compiler.load(sources[:1], ["caller"])


@pytest.mark.parametrize("lost", ["first", "second", "both", "no object"])
def test_what_a_group_lacks_is_compiled(compiler: Engine, lost: str) -> None:
    """By its key alone: the text is asked for where the object is not to be had."""
    compiler.load([Source(CALLER), Source(TRIPLE)], ["caller"])
    keys = [compiler.object_key(text) for text in (CALLER, TRIPLE)]
    asked: list[str] = []

    def source(text: str, key: str) -> Source:
        return Source(lambda: asked.append(key) or text, key=key)  # type: ignore[func-returns-value]

    for key in {"first": keys[:1], "second": keys[1:], "both": keys}.get(lost, ()):
        path = compiler.cache.explain(key).path
        assert path is not None
        path.unlink()
    if lost == "no object":
        compiler.cache.put(keys[1], b"\x7fELF\x02\x01 nonsense")
    fresh = Engine(Cache(compiler.cache.folder.parent))
    loaded = fresh.load([source(CALLER, keys[0]), source(TRIPLE, keys[1])], ["caller"])
    assert function(loaded["caller"])(-5) == -14
    wanted = {"first": {keys[0]}, "second": {keys[1]}}
    assert set(asked) == wanted.get(lost, set(keys))


@pytest.mark.parametrize("damage", ["file", "object", "foreign object"])
def test_damaged_entries_are_rebuilt(compiler: Engine, damage: str) -> None:
    compiler.load_ir(TRIPLE, ["triple"])
    key = compiler.object_key(TRIPLE)
    path = compiler.cache.explain(key).path
    assert path is not None
    if damage == "file":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "object":  # a sound entry of bytes that are no object
        compiler.cache.put(key, b"\x7fELF\x02\x01 nonsense")
    else:
        compiler.cache.put(key, compiler.compile_ir(TRIPLE, machine=WINDOWS))
    fresh = Engine(Cache(compiler.cache.folder.parent))
    loaded = fresh.load_ir(TRIPLE, ["triple"])
    assert function(loaded["triple"])(4) == 12
    events: list = []
    last = Engine(Cache(compiler.cache.folder.parent))
    last.load_ir(TRIPLE, ["triple"], recorder=events)
    assert events[0][0] == "cache read"


def test_the_key_covers_what_decides_the_object(shared: Engine) -> None:
    host = shared.host
    keys = {
        shared.object_key(TRIPLE),
        shared.object_key(TRIPLE + " "),
        shared.object_key(TRIPLE, opt_level=1),
        shared.object_key(TRIPLE, passes="none"),
        shared.object_key(TRIPLE, machine=AARCH64),
        shared.object_key(TRIPLE, machine=HostMachine(host.triple, "generic", host.features)),
        shared.object_key(TRIPLE, machine=HostMachine(host.triple, host.cpu, "")),
    }
    assert len(keys) == 7
    assert shared.object_key(TRIPLE) == shared.object_key(TRIPLE, machine=host)
    assert "llvm" in shared.versions


def test_the_key_is_the_same_in_every_process(shared: Engine) -> None:
    code = f"""
from graphc.runtime.engine import engine
print(engine().object_key({TRIPLE!r}))
"""
    keys = {run_python(code, PYTHONHASHSEED=seed) for seed in ("0", "1234")}
    assert keys == {shared.object_key(TRIPLE)}


# --- the life of a process -----------------------------------------------------------------------


def test_exit_with_code_loaded_is_clean(tmp_path: Path) -> None:
    code = f"""
import ctypes, threading, time
from graphc.runtime.engine import engine
text = '''
define void @spin(ptr %flag) {{
entry:
  br label %loop
loop:
  %value = load atomic i64, ptr %flag seq_cst, align 8
  %go = icmp eq i64 %value, 0
  br i1 %go, label %loop, label %done
done:
  ret void
}}
'''
loaded = engine().load_ir(text, ["spin"])
word = ctypes.c_int64(0)
spin = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(loaded["spin"])
threading.Thread(target=spin, args=(ctypes.addressof(word),), daemon=True).start()
time.sleep(0.05)
other = engine().load_ir({TRIPLE!r}, ["triple"])
print(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(other["triple"])(2))
"""
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path)) == "6"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_compiles_while_the_parent_did(tmp_path: Path) -> None:
    code = f"""
import ctypes, os, threading, warnings
from graphc.runtime.cache import Cache
from graphc.runtime.engine import engine
warnings.simplefilter("ignore")
compiler = engine()
stop = threading.Event()

def compile_for_ever():
    number = 0
    while not stop.is_set():
        number += 1
        compiler.load_ir({TRIPLE!r}.replace("3", str(number)), ["triple"], cache=False)

thread = threading.Thread(target=compile_for_ever)
thread.start()
children = []
for attempt in range(5):
    child = os.fork()
    if child == 0:
        loaded = compiler.load_ir({TRIPLE!r}, ["triple"], cache=False)
        result = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded["triple"])(attempt)
        os._exit(0 if result == 3 * attempt else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
thread.join()
print(codes)
"""
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path)) == "[0, 0, 0, 0, 0]"


def test_one_engine_for_a_process() -> None:
    assert engine() is engine()
