"""Does the order of kernels keep few bytes alive, and respect what each needs?"""

from __future__ import annotations

import itertools
import random

from graphc.codegen.schedule import Traffic, _from_the_end, peak_bytes, schedule

Graph = dict[int, list[int]]


def traffic(needs: Graph, sizes: dict[int, int], after: Graph | None = None) -> Traffic[int]:
    """Every step makes one value, with its own number."""
    return Traffic(needs, {step: step for step in needs}, sizes, after or {})


def legal(order: list[int], needs: Graph) -> bool:
    at = {step: i for i, step in enumerate(order)}
    return all(at[n] < at[step] for step in needs for n in needs[step]) and len(at) == len(needs)


def test_a_result_is_taken_as_soon_as_it_can_be() -> None:
    """Cotangents 0, 1, 2, ... in a chain, each with a gradient, 100 + i, that nobody needs."""
    chain = {i: [i - 1] if i else [] for i in range(10)}
    needs = {**chain, **{100 + i: [i] for i in range(10)}}
    sizes = dict.fromkeys(chain, 1) | {step: 0 for step in needs if step >= 100}
    order = [*range(10), *range(100, 110)]
    # the gradients come when all cotangents are there
    assert peak_bytes(order, traffic(needs, sizes)) == 10
    found = schedule(order, traffic(needs, sizes))
    assert legal(found, needs) and peak_bytes(found, traffic(needs, sizes)) == 1


def test_what_is_computed_again_comes_just_before_it_is_read() -> None:
    """0 to 4 from nothing, each needed by a step of a chain."""
    chain = {10 + i: [i, 9 + i] if i else [i] for i in range(5)}
    needs = {**{i: [] for i in range(5)}, **chain}
    sizes = dict.fromkeys(needs, 1)
    order = [*range(5), *range(10, 15)]
    found = schedule(order, traffic(needs, sizes))
    assert legal(found, needs) and peak_bytes(found, traffic(needs, sizes)) == 2


def test_a_step_comes_after_those_whose_operands_it_overwrites() -> None:
    needs: Graph = {0: [], 1: [0], 2: [0], 3: [1, 2]}
    sizes = dict.fromkeys(needs, 1)
    for after in ({1: [2]}, {2: [1]}):
        found = _from_the_end(list(needs), traffic(needs, sizes, after))
        (later, (earlier,)), *_ = after.items()
        assert legal(found, needs) and found.index(earlier) < found.index(later)


def test_never_worse_than_what_was_given_and_legal() -> None:
    source = random.Random(3)
    for _ in range(200):
        count = source.randrange(1, 30)
        needs = {
            i: sorted(source.sample(range(i), min(i, source.randrange(4)))) for i in range(count)
        }
        sizes = {i: source.choice((0, 1, 5, 100)) for i in range(count)}
        order = list(range(count))
        found = schedule(order, traffic(needs, sizes))
        assert legal(found, needs)
        assert peak_bytes(found, traffic(needs, sizes)) <= peak_bytes(order, traffic(needs, sizes))
        assert found == schedule(order, traffic(needs, sizes))


def test_near_the_best_order_of_small_graphs() -> None:
    source = random.Random(4)
    best_of_all = ours = 0
    for _ in range(40):
        needs = {i: sorted(source.sample(range(i), min(i, source.randrange(3)))) for i in range(6)}
        sizes = {i: source.choice((1, 2, 8)) for i in range(6)}
        every = [p for p in map(list, itertools.permutations(range(6))) if legal(p, needs)]
        best_of_all += min(peak_bytes(p, traffic(needs, sizes)) for p in every)
        ours += peak_bytes(
            schedule(list(range(6)), traffic(needs, sizes)), traffic(needs, sizes)
        )
    assert ours <= 1.1 * best_of_all
