"""How does an everyday function come with arguments?  A decorator draws them, by shape and seed.

`@everyday("n 3", positive("m"))` under a function says: the first argument has normal numbers in an
array of n rows and 3 columns, the second m positive ones. Letters are sizes that a run chooses, so
that a function can be called again with others. The functions themselves know only NumPy.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST = {"n": 12, "m": 7, "k": 5, "h": 9, "w": 10}
SECOND = {"n": 17, "m": 9, "k": 6, "h": 11, "w": 8}
SMALL = {"n": 6, "m": 4, "k": 3, "h": 5, "w": 6}  # for differences, which cost a call an element

Draw = Callable[[np.random.Generator, Mapping[str, int]], Any]
CASES: list[Case] = []


@dataclass(frozen=True)
class Case:
    """A function with its arguments. `smooth`: positions of the arguments it is differentiated in.

    `slow`: so long to compile that it is left out by default.
    """

    function: Callable[..., Any]
    draws: tuple[Draw, ...]
    smooth: tuple[int, ...]
    slow: bool

    @property
    def name(self) -> str:
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    def arguments(self, sizes: Mapping[str, int], dtype: str = "float64") -> list[Any]:
        """Arguments of the given sizes; those of floats are arrays of `dtype`."""
        seed = zlib.crc32(self.name.encode()) + sizes["n"]
        generator = np.random.default_rng(seed)
        values = [draw(generator, sizes) for draw in self.draws]
        return [
            value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == float else value
            for value in values
        ]


def everyday(
    *draws: str | Draw, smooth: bool | tuple[int, ...] = True, slow: bool = False
) -> Any:
    """Put a function on the list. `smooth` means in all arguments that are arrays of floats."""
    makers = tuple(normal(draw) if isinstance(draw, str) else draw for draw in draws)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        positions = smooth if isinstance(smooth, tuple) else ()
        if smooth is True:
            drawn = [make(np.random.default_rng(0), SMALL) for make in makers]
            positions = tuple(i for i, value in enumerate(drawn) if _is_float_array(value))
        CASES.append(Case(function, makers, positions, slow))
        return function

    return add


def _is_float_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _shape(text: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[word] if word in sizes else int(word) for word in text.split())


def normal(shape: str) -> Draw:
    return lambda generator, sizes: np.asarray(generator.normal(size=_shape(shape, sizes)))


def uniform(shape: str, low: float = 0.0, high: float = 1.0) -> Draw:
    return lambda generator, sizes: np.asarray(
        generator.uniform(low, high, size=_shape(shape, sizes))
    )


def positive(shape: str) -> Draw:
    return uniform(shape, 0.5, 2.5)


def integers(shape: str, low: int = 0, high: int = 10, dtype: str = "int64") -> Draw:
    return lambda generator, sizes: np.asarray(
        generator.integers(low, high, size=_shape(shape, sizes)), dtype=dtype
    )


def mask(shape: str) -> Draw:
    return lambda generator, sizes: np.asarray(generator.uniform(size=_shape(shape, sizes)) < 0.6)


def single(shape: str) -> Draw:
    """float32 whatever the dtype of the run: for arguments of mixed dtypes."""
    return lambda generator, sizes: generator.normal(size=_shape(shape, sizes)).astype("float32")


def with_gaps(shape: str) -> Draw:
    """Numbers, some of which are NaN."""

    def draw(generator: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        values = generator.normal(size=_shape(shape, sizes))
        values[generator.uniform(size=values.shape) < 0.25] = np.nan
        return values

    return draw


def increasing(shape: str) -> Draw:
    """Sorted along the last axis, with a distance of at least 0.1."""

    def draw(generator: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        return np.cumsum(generator.uniform(0.1, 1.0, size=_shape(shape, sizes)), axis=-1)

    return draw


def number(value: Any) -> Draw:
    """A Python number."""
    return lambda generator, sizes: value
