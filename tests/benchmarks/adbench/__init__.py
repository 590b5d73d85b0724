"""ADBench's problems as graphs, one a file: where their data lie, and what they have in common.

After Srajer, Kukelova and Fitzgibbon, "A benchmark of selected algorithmic differentiation tools on
some problems in computer vision and machine learning" (Optim. Methods Softw. 33, 2018), and
GradBench, which corrects the mixture's prior. A problem states its objective once, over a namespace
that has NumPy's names, so that graphc and JAX are given the same formulas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "adbench"


def expected(name: str) -> dict[str, Any]:
    """The right answers for a file of ADBench's, by name."""
    with np.load(DATA / "expected.npz") as answers:
        head = f"{name}/"
        return {k[len(head) :]: answers[k] for k in answers.files if k.startswith(head)}


def only(folder: str, stem: str) -> Path:
    """ADBench's file of that name; `FileNotFoundError` where the data are not there."""
    path = DATA / folder / f"{stem}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"ADBench's data are missing: {path}")
    return path
