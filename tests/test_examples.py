"""Does every page of examples/ run, as a user would run it?"""

from __future__ import annotations

from pathlib import Path

import pytest
from places import ROOT, run_python

PAGES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))

# What a page prints that shows it came to its point.
SAYS = {
    "01_first_graph": ("evaluated: 5.0", "compiled: 5.0", "01_first_graph.py"),
    "02_look_at_a_gradient": ("softplus", "no overflow", "agrees with differences"),
    "03_compile_and_time": ("kernels: 1", "ratio", "refused: f() argument 2, y"),
    "04_train_digits": ("test accuracy: 0.9",),
    "05_cuda_source": ('extern "C" __global__', "05_cuda_source.py:"),
    "06_add_an_op": ("silu(", "compiled and evaluated agree"),
    "07_jit": ("step: 1 trace", "its number is needed at", "relies on", "gx.where"),
    "08_c_source": ("x, input, float64[rows, 4]", "step_call(", "C ends at the loss"),
    "09_sparse_newton": ("<pattern of 17760 positions", "by csr_array", "takes 320 GB"),
}


def test_the_pages_are_numbered_without_a_gap() -> None:
    assert [page.stem for page in PAGES] == list(SAYS)
    assert [int(page.name[:2]) for page in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs_and_explains_itself(page: Path, tmp_path: Path) -> None:
    output = run_python(str(page), folder=tmp_path)
    for text in SAYS[page.stem]:
        assert text in output
    assert page.read_text(encoding="utf-8").startswith(f'"""{page.name[:2]}. ')
    assert list(tmp_path.iterdir()) == [], "a page leaves no files behind"
