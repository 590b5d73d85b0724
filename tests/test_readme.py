"""Is every code block of README.md true?

The Python blocks are one program: they run in order, in one namespace. The shell blocks are the two
commands of a newcomer; `.ci/run` runs the second as it stands, and a slow test here runs the first
in a fresh virtual environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest
from places import ROOT, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DEMO = 'pip install ".[examples]" && graphc demo'
TEST = 'pip install ".[test]" && pytest -n auto'


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert len(BLOCKS) == README.count("\n```") // 2
    assert {name for name, _ in BLOCKS} == {"python", "sh"}
    assert [text.strip() for text in blocks("sh")] == [DEMO, TEST]


def test_the_continuous_integration_runs_the_test_command() -> None:
    assert TEST in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_python_blocks_run_in_order(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")), encoding="utf-8")
    output = run_python(str(script), folder=tmp_path)
    assert "softplus" in output
    assert "kernels:" in output
    assert "__global__" in output
    assert (tmp_path / "gradient.svg").read_text(encoding="utf-8").lstrip().startswith("<svg")


def test_what_the_readme_points_to_exists() -> None:
    for name in re.findall(r"`([\w./]+(?:/|\.md))`", README):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_the_demo_command_in_a_fresh_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    for name in tracked:
        copy = tmp_path / "project" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        DEMO, shell=True, cwd=tmp_path / "project", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy 0.9" in done.stdout
