"""As which words are elements sorted, so that comparing them is one instruction?

A sort may compare keys, unsigned integers in the order of the elements: NaN is the largest, and
-0.0 equals 0.0, as in NumPy. A network of comparisons, which only ever takes the smaller and the
larger of two words, does better with words that vector units compare: where values alone are
wanted, `Values` sorts these themselves; where positions are wanted as well, which break ties,
`Packed` puts a key and a position into one float, and `Paired` has a word for each.

Vector units take the smaller of two integers of up to 32 bits at least as fast as of two floats,
but few have an instruction for 64 bits. So float32 is sorted as integers, which its bits are but
for the sign, and what takes 64 bits as floats wherever it can be: the bits of positive floats have
the order of integers, as long as they are neither infinite nor NaN, nor so small that a processor
might take them for 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Extent

# Bits of a packed word: of int32 without its sign; of float64 without that, one that stays off, so
# that it is finite, and one that is on, so that it is not subnormal.
PAYLOAD = {"int32": 31, "float64": 61}

Record = tuple[Any, ...]


def bits_of(dtype: str) -> int:
    """Bits of an element in memory."""
    return 8 if dtype == "bool" else 16 if dtype == "bfloat16" else np.dtype(dtype).itemsize * 8


# -- keys ------------------------------------------------------------------------------------------


def key_of(k: Any, value: Any, descending: bool) -> Any:
    """An unsigned integer in the order of the elements: equal keys for equal elements, the largest
    for NaN.
    """
    bits = bits_of(value.dtype)
    name = f"uint{bits}"
    if value.dtype == "bool":
        key = k.convert(value, name)
    elif value.dtype.startswith("uint"):
        key = value
    elif value.dtype.startswith("int"):
        key = k.xor(k.bitcast(value, name), 1 << (bits - 1))
    else:
        key = _float_key(k, value, bits)
    return k.not_(key) if descending else key


def _float_key(k: Any, value: Any, bits: int) -> Any:
    """Negative numbers have their order turned, and lie below the positive ones."""
    signed = f"int{bits}"
    raw = k.bitcast(k.select(k.eq(value, 0.0), k.const(0.0, value.dtype), value), signed)
    turned = k.xor(raw, k.or_(k.shr(raw, bits - 1), -(1 << (bits - 1))))
    key = k.bitcast(turned, f"uint{bits}")
    return k.select(k.ne(value, value), k.const(2**bits - 1, f"uint{bits}"), key)


def value_of(k: Any, key: Any, dtype: str, descending: bool) -> Any:
    """An element that has a key: of floats 0.0 for both zeros, and a NaN for every NaN."""
    bits = bits_of(dtype)
    key = k.not_(key) if descending else key
    if dtype == "bool":
        return k.ne(key, 0)
    if dtype.startswith("uint"):
        return key
    if dtype.startswith("int"):
        return k.bitcast(k.xor(key, 1 << (bits - 1)), dtype)
    turned = k.bitcast(key, f"int{bits}")
    mask = k.or_(k.shr(k.not_(turned), bits - 1), -(1 << (bits - 1)))
    return k.bitcast(k.xor(turned, mask), dtype)


# The bits of infinity.
_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}


# -- words -----------------------------------------------------------------------------------------


def words_for(dtype: str, positions: bool, descending: bool, length: int) -> Values:
    """The words in which lines of so many elements are sorted."""
    if not positions:
        return Values(dtype, descending)
    for name, room in PAYLOAD.items():
        if bits_of(dtype) + length.bit_length() <= room:
            return Packed(dtype, descending, name)
    return Paired(dtype, descending)


class Values:
    """The elements themselves, turned round where the largest come first.

    Floats come in order but for NaN, which is taken for the largest word there is (`prepared`), and
    equal ones in any order. What NaN and zeros of both signs were, and in which order they came, is
    written once more after the sort (`loses_order`).
    """

    gives_positions = False

    def __init__(self, dtype: str, descending: bool) -> None:
        self.dtype, self.descending, self.bits = dtype, descending, bits_of(dtype)
        self.is_float = "float" in dtype
        self.loses_order = self.is_float and not self.gives_positions
        self.names: tuple[str, ...] = self._names()

    def _names(self) -> tuple[str, ...]:
        if self.is_float and self.bits < 64:
            return (f"int{self.bits}",)
        # There is no instruction for the smaller of two uint64 where there is one for int64.
        return ({"bool": "uint8", "uint64": "int64"}.get(self.dtype, self.dtype),)

    def packed(self, loop: Any, value: Any, position: Extent) -> Record:
        """The record of an element at a position of its line."""
        k, (name,) = loop.k, self.names
        if "float" in name:
            return (k.neg(value) if self.descending else value,)
        if self.is_float:
            word = self._turned(k, k.bitcast(value, name))
        elif self.dtype == "uint64":
            word = k.bitcast(k.xor(value, 1 << 63), name)
        else:
            word = k.convert(value, name)
        return (k.not_(word) if self.descending else word,)

    def value(self, k: Any, item: Record) -> Any:
        """The element of a record; None where its position must tell."""
        (word,) = item
        if "float" in self.names[0]:
            return k.neg(word) if self.descending else word
        word = k.not_(word) if self.descending else word
        if self.is_float:
            return k.bitcast(self._turned(k, word), self.dtype)
        if self.dtype == "bool":
            return k.ne(word, 0)
        return k.xor(k.bitcast(word, "uint64"), 1 << 63) if self.dtype == "uint64" else word

    def _turned(self, k: Any, bits: Any) -> Any:
        """The bits of a float as a signed integer in its order, or back."""
        return k.xor(bits, k.and_(k.shr(bits, self.bits - 1), (1 << (self.bits - 1)) - 1))

    def last(self, k: Any) -> Record:
        """A record that no other comes after, once they are prepared."""
        if self.is_float and self.loses_order and "float" not in self.names[0] and self.descending:
            return (k.const(_INFINITY[self.dtype], self.names[0]),)  # of -infinity, turned round
        return tuple(k.const(_largest(name), name) for name in self.names)

    def prepared(self, k: Any, item: Record) -> Record:
        """A record as it is compared with others."""
        if not self.loses_order:
            return item
        (word,) = item
        if "float" not in word.dtype:  # only a NaN whose sign is on is not where it belongs
            # a signed word of -infinity, or not of it
            low = -1 - _INFINITY[self.dtype]
            if self.descending:
                return (k.select(k.gt(word, -1 - low), -1 - _largest(word.dtype), word),)
            return (k.select(k.lt(word, low), _largest(word.dtype), word),)
        if self.descending:
            return (k.select(k.gt(word, -np.inf), word, -np.inf),)
        return (k.select(k.lt(word, np.inf), word, np.inf),)

    def position(self, k: Any, item: Record) -> Any:
        """Where the element of a record was, as int64; None where that is not known."""
        return None


class Packed(Values):
    """A key in the upper bits of a word, a position in the lower ones."""

    gives_positions = True

    def __init__(self, dtype: str, descending: bool, name: str) -> None:
        self.name = name
        super().__init__(dtype, descending)
        self.integer = f"uint{bits_of(name)}"
        self.places = PAYLOAD[name] - self.bits
        self.on = 1 << PAYLOAD[name] if "float" in name else 0

    def _names(self) -> tuple[str, ...]:
        return (self.name,)

    def packed(self, loop: Any, value: Any, position: Extent) -> Record:
        k = loop.k
        key = k.convert(key_of(k, value, self.descending), self.integer)
        place = k.convert(loop.position(position), self.integer)
        bits = k.or_(k.shl(key, self.places), k.or_(place, self.on))
        return (k.bitcast(bits, self.name),)

    def value(self, k: Any, item: Record) -> Any:
        if self.is_float:
            return None
        bits = k.shr(k.bitcast(item[0], self.integer), self.places)
        key = k.convert(bits, f"uint{self.bits}")  # without the bit that is on
        return value_of(k, key, self.dtype, self.descending)

    def position(self, k: Any, item: Record) -> Any:
        bits = k.bitcast(item[0], self.integer)
        return k.convert(k.and_(bits, (1 << self.places) - 1), "int64")


class Paired(Values):
    """A key of 64 bits, as a signed integer, and a position."""

    gives_positions = True

    def _names(self) -> tuple[str, ...]:
        return ("int64", "int64")

    def packed(self, loop: Any, value: Any, position: Extent) -> Record:
        k = loop.k
        key = k.convert(key_of(k, value, self.descending), "uint64")
        return k.bitcast(k.xor(key, 1 << 63), "int64"), loop.position(position)

    def value(self, k: Any, item: Record) -> Any:
        if self.is_float:
            return None
        wide = k.xor(k.bitcast(item[0], "uint64"), 1 << 63)
        key = k.convert(wide, f"uint{self.bits}")
        return value_of(k, key, self.dtype, self.descending)

    def position(self, k: Any, item: Record) -> Any:
        return item[1]


def _largest(name: str) -> Any:
    return np.inf if "float" in name else np.iinfo(name).max


__all__ = ["Packed", "Paired", "Record", "Values", "bits_of", "key_of", "value_of", "words_for"]
