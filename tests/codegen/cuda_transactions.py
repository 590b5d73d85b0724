"""How many 32-byte sectors of global memory does a launch touch, warp by warp?

The text of the kernels is run by the emulator with each access to a parameter array noted: what the
threads of a warp access by one statement, the same time round, is one transaction, and it moves the
sectors that its addresses fall into. This is what a GPU's memory controller counts before any
cache; only the spelling of accesses differs from the text that NVRTC gets.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass

import numpy as np

SECTOR = 32

# Sets by open addressing: the C++ library is not linked.
_COUNTER = r"""
namespace counting {
typedef unsigned long long Word;
const unsigned SIZE = 1u << 22;
Word sectors[SIZE], turns[SIZE];
unsigned turn_of[SIZE];
Word reads, writes;

inline Word mixed(Word a, Word b)
{
    Word x = (a * 0x9e3779b97f4a7c15ULL + b + 1) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 32)) * 0xc4ceb9fe1a85ec53ULL;
    return (x ^ (x >> 29)) | 1;
}
inline bool added(Word* table, Word key, unsigned* place)
{
    unsigned at = unsigned(key >> 7) % SIZE;
    while (table[at] != 0 && table[at] != key) at = (at + 1) % SIZE;
    *place = at;
    if (table[at] == key) return false;
    table[at] = key;
    return true;
}
inline void note(const volatile void* address, unsigned bytes, unsigned site, bool writes_it)
{
    const Word block = blockIdx.x, thread = threadIdx.x;
    unsigned place;
    added(turns, mixed(mixed(block, thread), 2 * site + writes_it), &place);
    const Word round = turn_of[place]++;
    const Word warp = mixed(mixed(block, thread / 32), mixed(2 * site + writes_it, round));
    const Word first = Word(address) / 32, last = (Word(address) + bytes - 1) / 32;
    for (Word sector = first; sector <= last; ++sector)
        if (added(sectors, mixed(warp, sector), &place)) ++(writes_it ? writes : reads);
}
template <typename T> struct Element {
    T* at;
    unsigned site;
    template <typename U> void operator=(U value) { note(at, sizeof(T), site, true); *at = value; }
    operator T() const { note(at, sizeof(T), site, false); return *at; }
};
template <typename T> struct Array {
    T* base;
    Array<T> operator+(long long i) const { return Array<T>{base + i}; }
    Element<T> at(long long i, unsigned site) const { return Element<T>{base + i, site}; }
};
}
extern "C" __attribute__((visibility("default"))) void counted(unsigned long long* found)
{
    found[0] = counting::reads, found[1] = counting::writes;
    counting::reads = counting::writes = 0;
    for (unsigned i = 0; i < counting::SIZE; ++i)
        counting::sectors[i] = counting::turns[i] = counting::turn_of[i] = 0;
}
"""


@dataclass(frozen=True)
class Sectors:
    """Sectors that were read and written; `bytes` is what that moves."""

    reads: int
    writes: int

    @property
    def bytes(self) -> int:
        return SECTOR * (self.reads + self.writes)


_FUNCTION = re.compile(r"^(?:extern \"C\" __global__|static __device__)[^{]*?\(", re.MULTILINE)
_ARRAY = re.compile(r"\n?\s*((?:const )?[\w ]+?)\*(?: __restrict__)? (b\d+)(?=[,)])")


def instrumented(text: str) -> str:
    """The text with accesses to its parameter arrays noted."""
    pieces, end = [_COUNTER], 0
    for match in _FUNCTION.finditer(text):
        close = text.index("\n}", match.end())
        pieces.append(text[end : match.start()])
        pieces.append(_with_notes(text[match.start() : close]))
        end = close
    return "".join([*pieces, text[end:]]) + "\n"


def _with_notes(function: str) -> str:
    head, body = function.split("\n{", 1)
    arrays = {name: type_ for type_, name in _ARRAY.findall(head)}
    opening = "\n{"
    for name, type_ in arrays.items():
        opening += f"\n    const counting::Array<{type_.strip()}> c{name} = {{{name}}};"
        body = _elements(body, name)
        body = re.sub(rf"\b(take<\d+>|put)\({name} \+", rf"\1(c{name} +", body)
    lines = []
    for number, line in enumerate(body.split("\n")):
        line = line.replace("@site", f"{number}u")
        line = re.sub(r"\btake<(\d+)>\((c\w+)", rf"noted_take<\1>({number}u, \2", line)
        line = re.sub(r"\bput\((c\w+)", rf"noted_put({number}u, \1", line)
        lines.append(line)
    used = "".join(f"\n    (void)c{name};" for name in arrays)
    return head + opening + used + "\n".join(lines)


def _elements(body: str, name: str) -> str:
    """`name[...]` as an element that is noted."""
    found, end = [], 0
    for match in re.finditer(rf"\b{name}\[", body):
        depth, close = 1, match.end()
        while depth:
            depth += {"[": 1, "]": -1}.get(body[close], 0)
            close += 1
        found += [body[end : match.start()], f"c{name}.at({body[match.end() : close - 1]}, @site)"]
        end = close
    return "".join([*found, body[end:]])


_NOTED = r"""
template <int N, typename T> __device__ inline Pack<T, N> take(const T* from, long long count);
template <int N, typename T>
__device__ inline void put(T* to, const Pack<T, N>& pack, long long count);
template <int N, typename T> inline auto noted_take(unsigned site, counting::Array<T> from)
{
    counting::note(from.base, sizeof(T) * N, site, false);
    return take<N>(from.base);
}
template <int N, typename T>
inline auto noted_take(unsigned site, counting::Array<T> from, long long rest)
{
    counting::note(from.base, sizeof(T) * (rest < N ? unsigned(rest) : N), site, false);
    return take<N>(from.base, rest);
}
template <int N, typename T>
inline void noted_put(unsigned site, counting::Array<T> to, const Pack<T, N>& pack, long long rest)
{
    counting::note(to.base, sizeof(T) * (rest < N ? unsigned(rest) : N), site, true);
    put(to.base, pack, rest);
}
template <int N, typename T>
inline void noted_put(unsigned site, counting::Array<T> to, const Pack<T, N>& pack)
{
    counting::note(to.base, sizeof(T) * N, site, true);
    put(to.base, pack);
}
"""


def with_counts(text: str) -> str:
    """A text to compile for the emulator, whose module answers `counted`."""
    body = instrumented(text)
    at = body.find("\n\n", body.find("*(Pack<T, N>*)to = pack;"))
    return body if at < len(_COUNTER) else body[:at] + "\n" + _NOTED + body[at:]


def counted(module: object) -> Sectors:
    """What has been accessed since the last time."""
    found = np.zeros(2, np.uint64)
    module._loaded.counted(found.ctypes.data_as(ctypes.c_void_p))  # type: ignore[attr-defined]
    return Sectors(int(found[0]), int(found[1]))
