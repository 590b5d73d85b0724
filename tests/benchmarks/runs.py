"""What do several runs of `peers.py --json` say together?

    python tests/benchmarks/runs.py "one thread=a.json,b.json,c.json" "two threads=d.json,e.json"

prints a table in Markdown with a line for each variant: graphc's least time in the first group of
runs, the other participant that was fastest there, and for each group the ratio to the fastest in
every run, by least times, and the part of the roofline that was reached (the median over the runs).
Runs of one group may be spread over files: a run is a file, and one that lacks a variant says
nothing of it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers import seconds_text, versus_best

Run = Mapping[str, Mapping[str, Any]]  # of a variant, the participants' figures


def main() -> None:
    groups: dict[str, list[Run]] = {}
    for given in sys.argv[1:]:
        title, _, files = given.partition("=")
        if not files:
            sys.exit(f'a group of runs is given as "title=file,file": got {given!r}')
        groups[title] = [json.loads(Path(file).read_text()) for file in files.split(",")]
    if not groups:
        sys.exit(__doc__)
    print(table(groups))


def table(groups: Mapping[str, Sequence[Run]]) -> str:
    """The table of all variants, in the order in which they are met."""
    variants = dict.fromkeys(name for runs in groups.values() for run in runs for name in run)
    heads = [f"ratio, {title} | roofline" for title in groups]
    lines = ["| " + " | ".join(["workload", "graphc", "next", *heads]) + " |"]
    lines.append("|" + " --- |" * (3 + 2 * len(groups)))
    for variant in variants:
        cells = [_of_group(runs, variant) for runs in groups.values()]
        first = next((cell for cell in cells if cell is not None), None)
        if first is None:
            continue
        shown = [variant, seconds_text(first[0]), first[1]]
        for cell in cells:
            shown += ["-", "-"] if cell is None else [", ".join(cell[2]), f"{cell[3]:.2f}"]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _of_group(runs: Sequence[Run], variant: str) -> tuple[float, str, list[str], float] | None:
    """graphc's least time, who is next, the ratio in each run, the median of the roofline."""
    runs = [run for run in runs if "best" in run.get(variant, {}).get("graphc", {})]
    if not runs:
        return None
    own = [run[variant]["graphc"] for run in runs]
    found = [versus_best(dict(run[variant])) for run in runs]
    ratios = [f"{each[0]:.2f}" if each else "-" for each in found]
    names = [each[2] for each in found if each]
    name = statistics.mode(names) if names else "-"
    roofline = statistics.median(row["roofline"] for row in own)
    return min(row["best"] for row in own), name, ratios, roofline


if __name__ == "__main__":
    main()
