"""How are displayed graphs compared with the files under `golden/`?

The graphs of `examples.py` are shown in a new process, so that nothing else that a test run has
built can lend them its origins. After a change that is meant, write the files anew and read the
difference:

    pytest tests/display --regenerate
    git diff tests/display/golden
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from places import run_python

HERE = Path(__file__).resolve().parent
_SHOW_ALL = """
import json, sys
namespace = {"__name__": "model"}
exec(compile(open(sys.argv[1]).read(), "model.py", "exec"), namespace)
from graphc.display import show
from graphc.display.text import to_text
shown = {}
for name in ("gradient", "regions"):
    x = namespace[name]()
    shown[f"{name}.txt"] = to_text(x)
    shown[f"{name}.origins.txt"] = to_text(x, origins=True)
    shown[f"{name}.all.txt"] = to_text(x, hide=False)
    shown[f"{name}.dot"] = show(x, "dot")
    shown[f"{name}.tex"] = show(x, "latex")
    try:
        shown[f"{name}.svg"] = show(x, "svg")
    except ImportError:
        pass
print(json.dumps(shown))
"""


@pytest.fixture
def show_examples(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Every example in every format, by file name, from a new process."""

    def show() -> dict[str, str]:
        path = str(HERE / "examples.py")
        return json.loads(run_python("-c", _SHOW_ALL, path, folder=tmp_path))

    return show


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`check_golden(name, text)` compares `text` with a golden file, or writes it."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        if request.config.getoption("--regenerate", default=False):
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8"), (
            f"{name} differs; if that is meant: pytest tests/display --regenerate"
        )

    return check
