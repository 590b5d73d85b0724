"""Does a mistake give a message that helps? Every text, compared with the files under
`errors/golden`.

The programs of `errors/cases.py` run in a new process, so that nothing else that a test run has
built can lend its origins. After a change that is meant, write the files anew and read the
difference:

    pytest tests/test_errors.py --regenerate
    git diff tests/errors/golden
"""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from places import run_python

HERE = Path(__file__).resolve().parent / "errors"
LINES, WIDTH = 8, 240

_RUN = """
import json, runpy, sys
import numpy as np
import graphc as gx
cases = runpy.run_path(sys.argv[1])
found = {}
for topic, programs in cases["TOPICS"].items():
    for name, program in programs.items():
        texts = []
        for target in cases["TARGETS"].get(topic, ("cpu",)):
            given = {"__name__": "model", "gx": gx, "np": np, "target": target}
            try:
                exec(compile(program.lstrip("\\n"), "model.py", "exec"), given)
                texts.append("nothing was raised")
            except Exception as error:
                kinds = [kind.__name__ for kind in type(error).__mro__[:-1]]
                texts.append(f"{kinds[0]}: {error}")
            del given
        found[f"{topic}/{name}"] = [texts, kinds]
print(json.dumps(found))
"""


def _cases() -> dict[str, dict[str, str]]:
    spec = importlib.util.spec_from_file_location("error_cases", HERE / "cases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TOPICS


TOPICS = _cases()
NAMES = [f"{topic}/{name}" for topic, programs in TOPICS.items() for name in programs]


@functools.cache
def raised() -> dict[str, Any]:
    """For every case what was raised on each target, and the classes of the last exception."""
    with tempfile.TemporaryDirectory() as folder:
        printed = run_python("-c", _RUN, str(HERE / "cases.py"), folder=Path(folder))
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("topic", TOPICS)
def test_the_texts_are_those_of_the_golden_files(topic: str, pytestconfig: pytest.Config) -> None:
    sections = [f"[{name}]\n{raised()[f'{topic}/{name}'][0][0]}\n" for name in TOPICS[topic]]
    text, path = "\n".join(sections), HERE / "golden" / f"{topic}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} differs; if that is meant: pytest tests/test_errors.py --regenerate"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_refused_in_a_few_lines(name: str) -> None:
    texts, _ = raised()[name]
    lines = texts[0].splitlines()
    assert lines[0] != "nothing was raised"
    assert len(lines) <= LINES and all(len(line) <= WIDTH for line in lines)
    assert set(texts) == {texts[0]}, "backends differ"


@pytest.mark.parametrize("name", NAMES)
def test_the_class_is_one_that_the_interface_promises(name: str) -> None:
    """`GraphError` while building, `CompileError` while compiling; for calls what NumPy raises."""
    _, kinds = raised()[name]
    wanted = {
        "build": {"GraphError", "TypeError", "AttributeError"},
        "compile": {"GraphError", "CompileError", "ValueError", "TypeError"},
        "call": {"TypeError", "ValueError", "IndexError", "OverflowError", "MemoryError"},
        "run": {"IndexError", "ValueError"},
        "evaluate": {"TypeError", "ValueError"},
    }[name.partition("/")[0]]
    assert wanted & set(kinds)


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if name.startswith(("call/", "run/")) and "argument" not in name],
)
def test_a_refused_call_names_the_line_of_the_user(name: str) -> None:
    text = raised()[name][0][0]
    about_the_call = any(word in text for word in ("out:", "keyword", "beyond", " result "))
    assert "model.py:" in text or about_the_call or "container" in name


def test_names_that_are_long_or_odd_do_not_make_endless_messages() -> None:
    import numpy as np

    import graphc as gx

    x = gx.vector("x" * 200, 3)
    f = gx.compile([x], [x * 2], name="f" * 200)
    for mistake in (lambda: f(np.ones(4)), lambda: f(), lambda: f(z=1)):
        with pytest.raises((TypeError, ValueError)) as caught:
            mistake()
        lines = str(caught.value).splitlines()
        assert len(lines) <= LINES and all(len(line) < 1000 for line in lines)


def test_a_ragged_list_is_no_constant() -> None:
    import graphc as gx

    with pytest.raises(gx.GraphError, match="cannot make a constant of"):
        gx.constant([[1], [1, 2]])
