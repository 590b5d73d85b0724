"""How long does `import graphc` take beside `import numpy`?

Each import in a process of its own, in turns, so that a busy moment of the machine meets all of
them. The first expression loads NumPy and the ops that it needs: the third row. The budget of each
is a ratio of 1.5.

    python tests/benchmarks/imports.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from peers import with_byte_code

import graphc

ROUNDS = 15
STATEMENTS = {
    "import numpy": "import numpy",
    "import graphc": "import graphc",
    "import graphc, build x + 1": "import graphc; graphc.vector('x', 3) + 1",
}
_CODE = """
import time
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""


def seconds(statement: str) -> float:
    """Of one fresh process, without the start of the interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(Path(graphc.__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(statement)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=os.path.abspath(os.sep),
    )
    return float(done.stdout)


def main() -> None:
    with_byte_code()
    for statement in STATEMENTS.values():  # the file system's cache
        seconds(statement)
    rounds = [
        {name: seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(ROUNDS)
    ]
    print(f"{'statement':<30}{'median ms':>12}{'ratio':>8}   (budget: 1.5)")
    for name in STATEMENTS:
        times = [r[name] for r in rounds]
        ratio = statistics.median(r[name] / r["import numpy"] for r in rounds)
        print(f"{name:<30}{statistics.median(times) * 1e3:>12.1f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
