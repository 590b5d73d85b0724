"""Where are the checkout and the package under test, and how does a script run as a user would?

`conftest.py` decides which graphc is imported; these are the paths that follow from it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import graphc

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(graphc.__file__).resolve().parent


def run_python(*arguments: str, folder: Path, timeout: float = 120) -> str:
    """What an interpreter that imports the graphc under test prints; fails with its errors.

    Runs in `folder`, which is not put on the import path.
    """
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        cwd=folder,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
