"""Of which instructions does a kernel consist?  Counted in the disassembly of its machine code.

`nvdisasm` comes with the toolkit and as the wheel nvidia-cuda-nvdisasm; it needs no GPU. Counts are
of the text, not of what is executed: a loop counts once.
"""

from __future__ import annotations

import collections
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What an opcode does, by what stands in front of its first dot; anything else is arithmetic on
# integers, a comparison, a move or an address.
CLASSES = {
    "float32": "FFMA FADD FMUL FMNMX FSEL FSETP FSET FCHK FSWZADD FMNMX3 FADD2 FFMA2 FMUL2",
    "float64": "DFMA DADD DMUL DSETP DMNMX",
    "float16": "HADD2 HFMA2 HMUL2 HSET2 HSETP2 HMNMX2",
    "tensor": "HMMA IMMA DMMA QMMA HGMMA IGMMA QGMMA UTCHMMA",
    "special": "MUFU",
    "convert": "F2F F2I I2F I2FP F2FP F2IP I2I FRND",
    "load": "LDG LD",
    "store": "STG ST",
    "atomic": "RED REDG ATOM ATOMG ATOMS",
    "shared": "LDS STS LDSM LDGSTS",
    "local": "LDL STL",
    "constant": "LDC LDCU ULDC",
    "shuffle": "SHFL VOTE VOTEU REDUX MATCH",
    "barrier": "BAR MEMBAR DEPBAR LDGDEPBAR SYNCS ERRBAR",
    "control": (
        "BRA BRX EXIT RET CALL BSSY BSYNC BREAK BMOV WARPSYNC ENDCOLLECTIVE YIELD NANOSLEEP "
        "PREEXIT ACQBULK BPT"
    ),
}
OTHER = "integer"
_CLASS_OF = {opcode: name for name, listed in CLASSES.items() for opcode in listed.split()}
_PADDING = "NOP"
_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)((?:\.\w+)*)")


@dataclass(frozen=True)
class Mix:
    """Instructions by class, the most frequent first; `wide` are the loads and stores of global
    memory that move 16 bytes a thread.
    """

    counts: Mapping[str, int]
    wide: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        listed = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        moved = self.counts.get("load", 0) + self.counts.get("store", 0)
        wide = f"; {self.wide} of {moved} loads and stores are of 16 bytes" if moved else ""
        return f"{self.total}: {listed}{wide}"


@functools.cache
def disassembler() -> str | None:
    """The path of nvdisasm: of the wheel, or the one that the shell finds; None without one."""
    found = importlib.util.find_spec("nvidia")
    for folder in [] if found is None else found.submodule_search_locations or []:
        for name in ("nvdisasm", "nvdisasm.exe"):
            for path in sorted(Path(folder).glob(f"cu*/bin/{name}")):
                return str(path)
    return shutil.which("nvdisasm")


def reason_missing() -> str:
    """Why there is no disassembly; empty if there is."""
    return "" if disassembler() else "nvdisasm is not installed: pip install nvidia-cuda-nvdisasm"


def mixes(cubin: bytes) -> dict[str, Mix]:
    """The instructions of each kernel in a cubin; none where nvdisasm is missing or refuses it."""
    tool = disassembler()
    if tool is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.cubin")
        path.write_bytes(cubin)
        done = subprocess.run([tool, "-c", str(path)], capture_output=True, text=True, check=False)
    return counted(done.stdout) if done.returncode == 0 else {}


def counted(text: str) -> dict[str, Mix]:
    """The instructions of each function in a disassembly."""
    sections = re.split(r"^\.text\.(\w+):\s*$", text, flags=re.MULTILINE)[1:]
    return {
        name: _mix(body) for name, body in zip(sections[::2], sections[1::2], strict=True)
    }


def _mix(body: str) -> Mix:
    counts: collections.Counter[str] = collections.Counter()
    wide = 0
    for line in body.splitlines():
        match = _LINE.match(line)
        if match is None or match[1] == _PADDING:
            continue
        kind = _CLASS_OF.get(match[1], OTHER)
        counts[kind] += 1
        wide += kind in ("load", "store") and ".128" in match[2]
    return Mix(dict(counts.most_common()), wide)


__all__ = ["CLASSES", "Mix", "counted", "disassembler", "mixes", "reason_missing"]
