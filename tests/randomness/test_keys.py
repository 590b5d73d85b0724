"""Are random bits those of the published cipher, the same everywhere, each stream its own?"""

from __future__ import annotations

import numpy as np
import pytest
from backends import Case, backends, run

import graphc as gx
from graphc.ops.random import threefry_op
from graphc.random.keys import DRAW, FOLD_HIGH, FOLD_LOW, SPLIT, inner

KEY = np.array([7, 2**31 + 5], "uint32")
# Threefry-2x32, 20 rounds: counter, key, result. Known answers that the authors of the paper
# distribute with their implementation (Random123, file kat_vectors).
KNOWN = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
)


def value(node: gx.Node) -> np.ndarray:
    return np.asarray(gx.evaluate(node, {}))


def enciphered(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """The cipher by itself, through the evaluator: [n, 2] of [n, 2] and [n, 2]."""
    columns = [gx.constant(c) for c in (*keys.T, *counters.T)]
    both = threefry_op(*columns)
    return np.stack([value(gx.project(both, i)) for i in (0, 1)], axis=1)


@pytest.mark.parametrize("backend", backends())
def test_known_answers(backend: str) -> None:
    words = [gx.symbol(f"w{i}", (3,), "uint32") for i in range(4)]
    both = threefry_op(*words)
    case = Case(words, [gx.project(both, i) for i in (0, 1)])
    arrays = [np.array([row[p][i] for row in KNOWN], "uint32") for p in (1, 0) for i in (0, 1)]
    found = run(backend, case, arrays)
    for i in (0, 1):
        assert found[i].tolist() == [row[2][i] for row in KNOWN]


@pytest.mark.parametrize("backend", backends())
def test_the_same_bits_everywhere(backend: str) -> None:
    """Draws made of the bits by exact arithmetic: any shape, symbolic ones too, on any backend."""
    key, x = gx.symbol("key", (2,), "uint32"), gx.symbol("x", ("n", 3))
    r = gx.random
    outputs = [
        r.bits(key, x.shape),
        r.bits(key, (5,), "uint64"),
        r.uniform(key, x.shape),
        r.uniform(key, (4, 5), "float32"),
        r.uniform(key, (9,), "float16"),
        r.uniform(key, (9,), "bfloat16"),
        r.randint(key, (11,), -5, 6),
        r.randint(key, (11,), 0, 2**40 + 1),
        r.randint(key, (7,), -128, 128, "int8"),
        r.bernoulli(key, 0.3, x.shape),
        r.rademacher(key, (6,), "float32"),
        r.split(key, 3),
        r.fold_in(key, gx.constant(-9)),
        r.permutation(key, 10),
        r.bits(key, (0, 4)),
        r.uniform(key),
    ]
    rows = np.zeros((7, 3))
    want = [np.asarray(gx.evaluate(node, {key: KEY, x: rows})) for node in outputs]
    found = run(backend, Case([key, x], outputs), [KEY, rows])
    for have, expected in zip(found, want, strict=True):
        assert have.dtype == expected.dtype and have.shape == expected.shape
        assert have.tobytes() == expected.tobytes()


def test_threads_and_sizes_change_nothing() -> None:
    key, x = gx.symbol("key", (2,), "uint32"), gx.vector("x", "n", "float32")
    node = gx.random.normal(key, x.shape, "float32") + x
    one, two = (gx.compile([key, x], node, options=gx.Options(threads=n)) for n in (1, 2))
    long = one(KEY, np.zeros(300_001, "float32"))
    assert long.tobytes() == two(KEY, np.zeros(300_001, "float32")).tobytes()
    short = two(KEY, np.zeros(1001, "float32"))
    assert long[:1001].tobytes() == short.tobytes(), "a longer array begins with the shorter one"


def test_an_element_depends_on_key_and_position_alone() -> None:
    """The bits are the cipher of positions in C order."""
    low = np.arange(12, dtype="uint32")
    pairs = np.stack([low, np.zeros(12, "uint32")], axis=1)
    want = enciphered(np.tile(KEY, (12, 1)), pairs)
    assert value(gx.random.bits(KEY, (3, 4))).ravel().tolist() == want[:, 0].tolist()
    whole = want[:, 0].astype("uint64") | (want[:, 1].astype("uint64") << np.uint64(32))
    assert value(gx.random.bits(KEY, (2, 6), "uint64")).ravel().tolist() == whole.tolist()


def test_positions_beyond_32_bits() -> None:
    """Of an array too large to make, a window is read: its elements count on."""
    key = gx.symbol("key", (2,), "uint32")
    window = gx.random.bits(key, (3 << 31, 2))[-3:]
    found = gx.compile([key], window)(KEY).ravel()
    positions = np.arange((3 << 32) - 6, 3 << 32, dtype="uint64")
    pairs = np.stack([positions & 0xFFFFFFFF, positions >> 32], axis=1).astype("uint32")
    assert found.tolist() == enciphered(np.tile(KEY, (6, 1)), pairs)[:, 0].tolist()


def test_keys_of_seeds() -> None:
    assert value(gx.random.key(0)).tolist() == [0, 0]
    assert value(gx.random.key(5 + (9 << 32))).tolist() == [5, 9]
    assert value(gx.random.key(-1)).tolist() == [2**32 - 1] * 2
    assert value(gx.random.key(2**64 - 1)).tolist() == [2**32 - 1] * 2
    seed = gx.symbol("seed", (), "int64")
    made = gx.compile([seed], gx.random.key(seed))
    for number in (0, 1, -1, -(2**63), 2**40 + 17):
        assert made(number).tolist() == value(gx.random.key(number)).tolist()
    assert value(gx.random.key(np.uint8(200))).tolist() == [200, 0]


def test_split_does_not_depend_on_how_many() -> None:
    few, many = (value(gx.random.split(KEY, n)) for n in (2, 50))
    assert few.tolist() == many[:2].tolist() and many.shape == (50, 2)
    grid = value(gx.random.split(KEY, (5, 10)))
    assert grid.shape == (5, 10, 2) and grid.reshape(50, 2).tolist() == many.tolist()
    first, second = gx.random.split(KEY)
    assert [value(first).tolist(), value(second).tolist()] == few.tolist()


def test_fold_in_takes_every_integer() -> None:
    """All 64 bits count, whatever the dtype that holds them."""
    fold = gx.random.fold_in
    numbers = (0, 1, -1, 2**31, 2**32, 2**32 + 1, -(2**32), 2**63 - 1, -(2**63))
    keys = {tuple(value(fold(KEY, n)).tolist()) for n in numbers}
    assert len(keys) == len(numbers)
    for dtype in ("int8", "uint16", "int32", "uint64"):
        assert value(fold(KEY, np.array(5, dtype))).tolist() == value(fold(KEY, 5)).tolist()
    assert value(fold(KEY, 2**64 - 1)).tolist() == value(fold(KEY, -1)).tolist()


def test_purposes_do_not_meet() -> None:
    """Keys made of a key are not among the numbers drawn with it: the counters are others."""
    assert len({DRAW, SPLIT, FOLD_LOW, FOLD_HIGH}) == 4
    made = [value(inner(gx.constant(KEY), i)).tolist() for i in range(3)]
    made += [value(gx.random.fold_in(KEY, i)).tolist() for i in range(3)]
    made += value(gx.random.split(KEY, 3)).tolist()
    assert len(set(map(tuple, made))) == 9
    drawn = value(gx.random.bits(KEY, (1000,), "uint64"))
    split = value(gx.random.split(KEY, 1000)).astype("uint64")
    joined = split[:, 0] | (split[:, 1] << np.uint64(32))
    assert not set(drawn.tolist()) & set(joined.tolist())
    assert len(set(drawn.tolist())) == len(set(joined.tolist())) == 1000


def streams(count: int, length: int) -> dict[str, np.ndarray]:
    """Uniform numbers of keys that are related in every way that keys can be."""
    draw = lambda key: value(gx.random.uniform(key, (length,)))  # noqa: E731
    return {
        "seeds": np.stack([draw(gx.random.key(i)) for i in range(count)]),
        "split": np.stack([draw(k) for k in value(gx.random.split(KEY, count))]),
        "folded": np.stack([draw(gx.random.fold_in(KEY, i)) for i in range(count)]),
        "chain": np.stack([draw(k) for k in chain(count)]),
        "one bit apart": np.stack(
            [draw(KEY ^ np.uint32([1 << (i % 32), 0])) for i in range(count)]
        ),
    }


def chain(count: int) -> list[np.ndarray]:
    """Each key the first of two that the one before was split into."""
    keys = [KEY]
    while len(keys) < count:
        keys.append(value(gx.random.split(keys[-1]))[0])
    return keys


@pytest.mark.parametrize("kind", ("seeds", "split", "folded", "chain", "one bit apart"))
def test_streams_are_independent(kind: str) -> None:
    """Correlations of neighbouring streams, at the same and at shifted positions, are those of
    independent numbers: within 5 standard deviations, 1/sqrt(n) each.
    """
    length, count = 4000, 16
    made = streams(count, length)[kind]
    centred = (made - 0.5) * np.sqrt(12)
    matrix = centred @ centred.T / length
    apart = matrix[~np.eye(count, dtype=bool)]
    assert np.abs(apart).max() < 5 / np.sqrt(length)
    for lag in (1, 2, 8):
        shifted = centred[:, lag:] @ centred[:, :-lag].T / (length - lag)
        assert np.abs(shifted).max() < 5 / np.sqrt(length - lag)


def test_half_of_the_bits_turn_over() -> None:
    """One bit of the key or of the counter changes each bit of the result with probability 1/2."""
    count = 600
    base_key = np.tile(KEY, (count, 1))
    base = np.stack([np.arange(count), np.zeros(count)], axis=1).astype("uint32")
    before = enciphered(base_key, base)
    for bit in range(64):
        flip = np.zeros(2, "uint32")
        flip[bit // 32] = 1 << (bit % 32)
        for keys, counters in ((base_key ^ flip, base), (base_key, base ^ flip)):
            changed = np.bitwise_count(before ^ enciphered(keys, counters)).sum() / (64 * count)
            assert abs(changed - 0.5) < 5 * 0.5 / np.sqrt(64 * count)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (0, "got 0"),
        (None, "got None"),
        (np.array([1, 2]), "an array of int64"),
        (np.zeros((3,), "uint32"), r"uint32\[3\]"),
        (np.zeros((), "uint32"), "uint32"),
        (gx.vector("v", 2), "float64"),
    ],
)
def test_what_is_no_key_is_refused(bad: object, says: str) -> None:
    for draw in (gx.random.bits, gx.random.normal, gx.random.split, gx.random.permutation):
        with pytest.raises(gx.GraphError, match=rf"(?s)needs a key.*{says}.*gx\.random\.key\(seed"):
            draw(bad, 3)


def test_several_keys_are_not_one() -> None:
    with pytest.raises(gx.GraphError, match=r"several keys: take one, keys\[i\]"):
        gx.random.uniform(gx.random.split(KEY, 2), (3,))


@pytest.mark.parametrize("seed", (1.5, 2**64, -(2**63) - 1, "a", None, True, np.zeros(2, "int64")))
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(gx.GraphError, match="seed"):
        gx.random.key(seed)


def test_bits_are_integers() -> None:
    with pytest.raises(gx.GraphError, match="gives integers, got dtype float32"):
        gx.random.bits(KEY, (2,), "float32")
    with pytest.raises(gx.GraphError, match="the data is one integer"):
        gx.random.fold_in(KEY, 1.5)


def test_keys_in_a_scan_and_in_jit() -> None:
    """A key is a state like any other."""

    def step(key: gx.Node, _: object) -> tuple[gx.Node, gx.Node]:
        following, now = gx.random.split(key)
        return following, gx.random.normal(now, (2,))

    final, drawn = gx.scan(step, gx.constant(KEY), None, length=4)
    compiled = gx.compile([], [final, drawn])()
    key, rows = KEY, []
    for _ in range(4):
        following, now = value(gx.random.split(key))
        rows.append(value(gx.random.normal(now, (2,))))
        key = following
    assert compiled[0].tolist() == key.tolist()
    np.testing.assert_allclose(compiled[1], rows, rtol=1e-14)

    @gx.jit
    def noisy(key: gx.Node, x: gx.Node) -> gx.Node:
        return x + gx.random.uniform(key, x.shape)

    for n in (3, 8):
        want = value(gx.random.uniform(KEY, (n,)))
        assert noisy(KEY, np.zeros(n)).tolist() == want.tolist()


def test_a_draw_is_part_of_the_kernel_that_uses_it() -> None:
    key, x = gx.symbol("key", (2,), "uint32"), gx.vector("x", "n", "float32")
    kept = gx.random.bernoulli(key, gx.constant(0.9, "float32"), x.shape)
    dropout = gx.where(kept, x / 0.9, gx.zeros_like(x))
    assert len(gx.compile([key, x], dropout).kernels) == 1
    total = gx.sum(gx.random.normal(key, x.shape, "float32") * x)
    assert len(gx.compile([key, x], total).kernels) == len(gx.compile([x], gx.sum(x)).kernels)
