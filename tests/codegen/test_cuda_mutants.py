"""Would the checks of CUDA text notice if graphc printed it wrong?

The text of a few graphs is broken on purpose, in every place where a rule applies: a barrier left
out, a bound off by one, a vector that begins at the wrong element, a result stored by the wrong
thread, a tile that is not the other one. Each broken text must be caught by the emulator: by a
message, by a result that is wrong in some order of the threads, or by a sanitizer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cuda_host
import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda.program import translation_unit
from tests.cuda_emulator import emulator

pytestmark = emulator.required

RANDOM = np.random.default_rng(5)


@dataclass
class Subject:
    """A graph, its printed program, arrays to run it on, and what it must give."""

    inputs: list[gx.Node]
    outputs: list[gx.Node]
    options: gx.Options = field(default_factory=gx.Options)
    tolerance: float = 1e-4

    @functools.cached_property
    def program(self) -> Any:
        return gx.emit(self.inputs, self.outputs, target="cuda", options=self.options)

    @functools.cached_property
    def text(self) -> str:
        return translation_unit(self.program.kernels)

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        shapes = [tuple(e if isinstance(e, int) else ROWS for e in x.shape) for x in self.inputs]
        drawn = [RANDOM.standard_normal(shape).astype("float32") for shape in shapes]
        return [np.sort(array, axis=-1) for array in drawn]  # each lane adds to a maximum

    @functools.cached_property
    def wanted(self) -> list[np.ndarray]:
        values = dict(zip(self.inputs, self.arrays, strict=True))
        return [np.asarray(each) for each in gx.evaluate(self.outputs, values)]

    def fault(self, text: str, mode: str) -> str | None:
        """What is wrong with a text in a mode; None if nothing is found."""
        try:
            module = emulator.compile(text, [k.name for k in self.program.kernels], mode)
            orders = emulator.ORDERS if mode == "fast" else emulator.ORDERS[:1]
            for order, seed in orders:
                got = cuda_host.run(
                    self.program,
                    self.arrays,
                    cuda_host.sizes_of(self.program, self.arrays),
                    module=module,
                    order=order,
                    seed=seed,
                    apart=mode != "fast",
                )
                for one, other in zip(got.outputs, self.wanted, strict=True):
                    np.testing.assert_allclose(
                        one, other, rtol=self.tolerance, atol=self.tolerance
                    )
        except (emulator.EmulationError, AssertionError) as error:
            return str(error)
        return None


ROWS = 9  # where the number is not known to the text


def symbol(name: str, *shape: int | str) -> gx.Node:
    return gx.symbol(name, shape, "float32")


def _rows() -> Subject:
    x = symbol("x", 3, 300)
    return Subject([x], [gx.softmax(x, axis=1)])


def _short_rows() -> Subject:
    x = symbol("x", "m", 20)
    return Subject([x], [x.max(axis=1)])


def _packs() -> Subject:
    x, y = symbol("x", 6, 512), symbol("y", 512)
    return Subject([x, y], [x * y + 1])


def _product() -> Subject:
    a, b = symbol("a", 70, 36), symbol("b", 36, 68)
    return Subject([a, b], [gx.relu(a @ b)])


def _parts() -> Subject:
    x, a = symbol("x", 20, 40), symbol("a", 40, 30)
    return Subject([x, a], [x @ a, x.sum(axis=1)])


def _handed() -> Subject:
    """A product that goes to the rows of a softmax in registers."""
    q, k = symbol("q", 9, 8), symbol("k", 8, 140)
    return Subject([q, k], [gx.softmax(q @ k, axis=1)])


def _loop() -> Subject:
    """A loop on the device, whose launches wait for each other."""
    x, y, w = symbol("x", 3, 2, 60), symbol("y", 2, 60), symbol("w", 60, 60)
    last, _ = gx.scan(lambda s, v: ((s @ w + v) / (1 + s.max(axis=1, keepdims=True)), None), y, x)
    return Subject([x, y, w], [last])


def _columns() -> Subject:
    """Strips of threads that share the rows of a column."""
    x = symbol("x", 40, 13)
    return Subject([x], [x.sum(axis=0)])


def _matrix_units() -> Subject:
    a, b = symbol("a", 68, 20), symbol("b", 20, 36)
    return Subject([a, b], [a @ b], gx.Options(tensor_cores=True), 5e-2)


SUBJECTS = {
    "rows": functools.cache(_rows),
    "short rows": functools.cache(_short_rows),
    "packs": functools.cache(_packs),
    "product": functools.cache(_product),
    "parts": functools.cache(_parts),
    "handed": functools.cache(_handed),
    "loop": functools.cache(_loop),
    "columns": functools.cache(_columns),
    "matrix units": functools.cache(_matrix_units),
}


@dataclass(frozen=True)
class Rule:
    """A pattern, what takes the place of each of its matches in turn, and the mode that looks."""

    pattern: str
    replacement: str | Callable[[re.Match[str]], str]
    mode: str = "fast"


def _off_by_one(match: re.Match[str]) -> str:
    return match[0].replace(" < ", " <= ")


RULES = {
    "no barrier": Rule(r"__syncthreads\(\);", "", "tsan"),
    "bound off by one": Rule(r"(?<=[;(&] )\w+ < \d+(?=[;) ])|if \(\w+ < \d+", _off_by_one, "asan"),
    "vector from the next element": Rule(r"take<(\d)>\((b\d+) \+", r"take<\1>(1 + \2 +", "asan"),
    "vector to the next element": Rule(r"put\((b\d+) \+", r"put(1 + \1 +", "asan"),
    "the wrong half of the tile": Rule(r"\(step \+ 1\) % 2", "step % 2"),
    "too few lanes": Rule(r"int lanes = 16", "int lanes = 8"),
    "every thread stores": Rule(r"if \((threadIdx\.x|lane) == 0\) (b\d+)", r"\2", "tsan"),
    "every strip stores": Rule(r"if \(strip == 0 && ", "if (", "tsan"),
    "a column of the next block": Rule(r"( && .*?) < (q\d+|\d+)\) b", r"\1 <= \2) b", "tsan"),
    "rows of another strip": Rule(r"= strip;", "= strip + 1;"),
    "rows twice": Rule(r"\+= 32\)", "+= 31)"),
    "partial sums of another column": Rule(r"partials\[column\]", "partials[column ^ 1]"),
    "a block too early": Rule(r"\(int\)blockIdx\.x - (\d+)", r"(int)blockIdx.x - \1 + 1"),
    "a stride too short": Rule(r"threadIdx\.x \* 4", "threadIdx.x * 3"),
    "the row of another warp": Rule(r"warp \* (\d)", r"warp * \1 + 1"),
    "a held element of another row": Rule(r"(held_b\d+\[)m(\]\[0\];)", r"\1m ^ 1\2"),
    "a fragment of another lane": Rule(r"lane % 4", "(lane + 1) % 4"),
    "rounds the other way": Rule(r"t1 = 0; t1 < 3; \+\+t1", "t1 = 2; t1 >= 0; --t1"),
}
# What a text stays right without: a step that a row of 20 does not come to, the last barrier of a
# reduction after which no other comes, one between launches of a loop that share nothing, the very
# maximum of a row, by which softmax only shifts, bounds of elements that are held in registers and
# go nowhere, and one beyond which are the next row, which is written over again, and the padding
# between two arrays of the arena.
HARMLESS = {
    ("rows", "no barrier", 3),
    ("parts", "no barrier", 1),
    ("columns", "no barrier", 1),
    ("rows", "too few lanes", 0),
    ("short rows", "rows twice", 0),
    ("loop", "no barrier", 3),
    ("loop", "bound off by one", 22),
    ("handed", "too few lanes", 0),
    ("handed", "bound off by one", 18),
    ("handed", "bound off by one", 19),
    ("handed", "bound off by one", 22),
    ("handed", "a held element of another row", 0),
}
# Loops over registers, tiles and steps: their bounds are not those of memory.
_OF_REGISTERS = re.compile(r"for \(int [unmkr] = 0|tile|step")


def mutants() -> Iterator[tuple[str, str, int]]:
    """Subject, rule, and the number of the match that is broken."""
    for name, make in SUBJECTS.items():
        text = make().text
        for rule, what in RULES.items():
            for number, match in enumerate(re.finditer(what.pattern, text)):
                line = text[text.rfind("\n", 0, match.start()) + 1 : text.find("\n", match.end())]
                of_memory = rule != "bound off by one" or not _OF_REGISTERS.search(line)
                if of_memory and (name, rule, number) not in HARMLESS:
                    yield name, rule, number


def broken(text: str, rule: Rule, number: int) -> str:
    match = list(re.finditer(rule.pattern, text))[number]
    new = rule.replacement(match) if callable(rule.replacement) else match.expand(rule.replacement)
    return text[: match.start()] + new + text[match.end() :]


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_printed_is_right(name: str) -> None:
    subject = SUBJECTS[name]()
    for mode in ("fast", "asan", "tsan"):
        assert subject.fault(subject.text, mode) is None


@pytest.mark.parametrize(("name", "rule", "number"), list(mutants()))
def test_a_broken_text_is_caught(name: str, rule: str, number: int) -> None:
    subject, what = SUBJECTS[name](), RULES[rule]
    text = broken(subject.text, what, number)
    assert text != subject.text
    modes = dict.fromkeys(("fast", what.mode))
    assert any(subject.fault(text, mode) for mode in modes), text
