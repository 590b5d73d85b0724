"""Which symbols does an object file define, and which does it ask for?

LLVM's linker ends the process over an undefined symbol, a foreign architecture or a wrong file
format. So the engine reads every object's table itself before it is linked; the formats are the two
that are linked here, 64-bit little-endian ELF and Mach-O.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Machine numbers: System V ABI, e_machine; <mach/machine.h>, cputype.
MACHINES = {
    "x86_64": {"ELF": 62, "Mach-O": 0x01000007},
    "aarch64": {"ELF": 183, "Mach-O": 0x0100000C},
    "arm64": {"ELF": 183, "Mach-O": 0x0100000C},
    "riscv64": {"ELF": 243, "Mach-O": 0},
}

_ELF_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_ELF_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
_ELF_SYMBOL_TABLE = 2
_MACH_MAGIC = b"\xcf\xfa\xed\xfe"
_MACH_SYMBOL = struct.Struct("<IBBHQ")  # name, type, section, description, value
_MACH_SYMTAB = 2
_MACH_DEBUG, _MACH_TYPE, _MACH_EXTERNAL = 0xE0, 0x0E, 0x01


@dataclass(frozen=True)
class ObjectSymbols:
    """What an object offers and asks for, without the underscore Mach-O puts before names."""

    file_format: str
    machine: int
    defined: frozenset[str]
    undefined: frozenset[str]


def read_symbols(data: bytes) -> ObjectSymbols:
    """The symbols of a 64-bit little-endian ELF or Mach-O object; else raises `ValueError`."""
    try:
        if data.startswith(_ELF_MAGIC):
            return _read_elf_symbols(data)
        if data.startswith(_MACH_MAGIC):
            return _read_mach_symbols(data)
    except (struct.error, ValueError, IndexError):
        raise ValueError(f"the object file of {len(data)} bytes is damaged") from None
    raise ValueError("not an object file that can be linked here (64-bit ELF or Mach-O)")


def _read_elf_symbols(data: bytes) -> ObjectSymbols:
    (machine,) = struct.unpack_from("<H", data, 18)
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    section_bytes, section_count = struct.unpack_from("<HH", data, 58)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", data, sections_at + index * section_bytes)
        for index in range(section_count)
    ]
    defined: set[str] = set()
    undefined: set[str] = set()
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != _ELF_SYMBOL_TABLE:
            continue
        names_at = sections[link][4]
        for at in range(offset, offset + size, _ELF_SYMBOL.size):
            name_at, info, _, section, _, _ = _ELF_SYMBOL.unpack_from(data, at)
            is_local = info >> 4 == 0
            if is_local and section != 0:
                continue
            name = _text(data, names_at + name_at)
            if name:
                (defined if section else undefined).add(name)
    return ObjectSymbols("ELF", machine, frozenset(defined), frozenset(undefined))


def _read_mach_symbols(data: bytes) -> ObjectSymbols:
    (machine,) = struct.unpack_from("<I", data, 4)
    (command_count,) = struct.unpack_from("<I", data, 16)
    defined: set[str] = set()
    undefined: set[str] = set()
    at = 32
    for _ in range(command_count):
        command, command_bytes = struct.unpack_from("<II", data, at)
        if command == _MACH_SYMTAB:
            symbols_at, count, names_at, _ = struct.unpack_from("<IIII", data, at + 8)
            for index in range(count):
                name_at, kind, *_ = _MACH_SYMBOL.unpack_from(
                    data, symbols_at + index * _MACH_SYMBOL.size
                )
                if kind & _MACH_DEBUG or not kind & _MACH_EXTERNAL:
                    continue
                name = _text(data, names_at + name_at).removeprefix("_")
                (defined if kind & _MACH_TYPE else undefined).add(name)
        at += command_bytes
    return ObjectSymbols("Mach-O", machine, frozenset(defined), frozenset(undefined))


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
