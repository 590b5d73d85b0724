"""Does `graphc demo` learn, report what it ran, and write what it says?"""

from __future__ import annotations

import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import cli, demo
from graphc.demo import Data, Model, Settings

pytest.importorskip("sklearn")
pytest.importorskip("rich")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(64, Settings(threads=1))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return demo.scikit_digits()


def last_state(model: Model, data: Data, settings: Settings, seed: int) -> list[np.ndarray]:
    *_, last = demo.train(model, data, settings, seed)
    return last.state


# -- accuracy --------------------------------------------------------------------------------------


def test_mean_accuracy_over_five_shuffles(
    model: Model, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """The demo's promise, with its own settings: at least 98 % of held-out digits."""
    settings = Settings(shuffles=5, threads=1)
    scores = []
    for seed, data in enumerate(demo.load(None, None, settings)):
        assert len(data.train_x) == 1437
        assert len(data.test_x) == 360
        scores.append(model.measure(data, last_state(model, data, settings, seed)))
    assert np.mean(scores) >= 0.98, scores


def test_a_shuffle_holds_out_what_it_does_not_train_on() -> None:
    x = np.arange(10, dtype=np.float32).reshape(10, 1)
    data = demo.split(x, np.arange(10), "ten", seed=3)
    assert sorted([*data.train_y, *data.test_y]) == list(range(10))
    assert np.array_equal(data.train_x[:, 0], data.train_y)
    again = demo.split(x, np.arange(10), "ten", seed=3)
    assert np.array_equal(data.test_y, again.test_y)


# -- the training step -----------------------------------------------------------------------------


def test_step_is_one_function_that_updates_in_place(
    model: Model, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    state = model.start(np.random.default_rng(0))
    before = [array.copy() for array in state]
    results = model.step(x[:32], y[:32], np.float32(0.1), *state)
    assert all(new is old for new, old in zip(results[1:], state, strict=True))
    want = gx.evaluate(
        model.outputs,
        dict(zip(model.inputs, [x[:32], y[:32], np.float32(0.1), *before], strict=True)),
    )
    for got, expected in zip(results, want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-5)


def test_the_same_bits_for_any_number_of_threads(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    data = Data("digits", x[:500], y[:500], x[500:], y[500:])
    states = []
    for threads in (1, 2):
        settings = Settings(epochs=1, threads=threads)
        states.append(last_state(Model(64, settings), data, settings, seed=0))
    for one, two in zip(*states, strict=True):
        assert np.array_equal(one, two)


def test_loss_falls(model: Model, digits: tuple[np.ndarray, np.ndarray]) -> None:
    data = demo.split(*digits, "digits", 0)
    losses = [epoch.loss for epoch in demo.train(model, data, Settings(epochs=3), 0)]
    assert losses[0] > losses[1] > losses[2]


# -- the report and the folder ---------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shown"
    arguments = ["demo", "--epochs", "2", "--shuffles", "2", "--folder", str(folder)]
    assert cli.main(arguments) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"test accuracy 0\.\d{4} on 360 pictures", output)) == 2
    assert len(re.findall(r"\d\.\d{4} seconds per epoch of 1437", output)) == 2
    assert "2/2" in output, "the progress bar"
    assert "mean test accuracy over 2 shuffles" in output
    assert "contract add relu" in output
    assert re.search(r"<-  demo\.py:\d+  hidden = gx\.relu", output)
    assert str(folder) in output
    assert {path.name for path in folder.iterdir()} == set(demo.FILES)


def test_what_is_written(model: Model, tmp_path: Path) -> None:
    where = demo.write(model, tmp_path / "new" / "folder")
    texts = {name: (where / name).read_text(encoding="utf-8") for name in demo.FILES}
    assert "layer0.weight" in texts["derivative.txt"]
    assert texts["derivative.dot"].startswith("digraph")
    assert xml.etree.ElementTree.fromstring(texts["derivative.svg"]).tag.endswith("svg")
    assert "define " in texts["training_step.ll"]
    assert texts["training_step.cu"].count("__global__") >= 6


def test_every_kernel_names_lines_of_the_demo(model: Model) -> None:
    kernels = model.step.report().kernels
    assert kernels
    for kernel in kernels:
        assert kernel.nodes
        assert all(f"{Path(demo.__file__).name}:" in line for line in kernel.lines), kernel


# -- data of the user's own ------------------------------------------------------------------------


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_bytes_are_scaled_and_flattened(tmp_path: Path) -> None:
    pictures = np.full((4, 2, 3), 255, np.uint8)
    path = save(tmp_path / "four.npz", x=pictures, y=np.array([0, 1, 2, 9], np.uint8))
    x, y = demo.read_pictures(path)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert np.array_equal(x, np.ones((4, 6)))


def test_train_and_test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = generator.normal(0, 0.05, (200, 3, 4)) + np.eye(10, 12)[y].reshape(200, 3, 4)
    one = save(tmp_path / "one.npz", x=x, y=y)
    two = save(tmp_path / "two.npz", x=x[:50], y=y[:50])
    arguments = ["demo", "--data", one, "--test", two, "--epochs", "20", "--hidden", "16", "16"]
    assert cli.main([*arguments, "--folder", str(tmp_path / "shown")]) == 0
    assert "test accuracy 1.0000 on 50 pictures" in capsys.readouterr().out


EYE = np.eye(4)
WRONG = {
    "no x": {"z": EYE, "y": np.arange(4)},
    "lengths": {"x": EYE, "y": np.arange(3)},
    "rank": {"x": np.arange(4.0), "y": np.arange(4)},
    "labels of another kind": {"x": EYE, "y": np.arange(4.0)},
    "labels out of range": {"x": EYE, "y": np.arange(4) + 7},
    "negative labels": {"x": EYE, "y": np.arange(4) - 1},
    "complex pictures": {"x": EYE * 1j, "y": np.arange(4)},
    "objects": {"x": np.array([[None]] * 4), "y": np.arange(4)},
    "no pictures": {"x": np.zeros((0, 4)), "y": np.zeros(0, int)},
    "too few to split": {"x": EYE[:1], "y": np.arange(1)},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "wrong.npz", **WRONG[name])
    assert cli.main(["demo", "--data", path, "--folder", str(tmp_path / "shown")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("graphc demo: ")
    assert len(error.splitlines()) <= 8
    assert not (tmp_path / "shown").exists()


def test_wrong_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "bare.npy", EYE)
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut off")
    good = save(tmp_path / "good.npz", x=EYE, y=np.arange(4))
    other = save(tmp_path / "other.npz", x=np.eye(5), y=np.arange(5))
    for arguments in (
        ["--data", str(tmp_path / "missing.npz")],
        ["--data", str(tmp_path / "bare.npy")],
        ["--data", str(tmp_path / "text.npz")],
        ["--data", str(tmp_path / "cut.npz")],
        ["--data", str(tmp_path)],
        ["--data", good, "--test", other],
        ["--test", good],
    ):
        assert cli.main(["demo", *arguments]) == 1, arguments
        assert capsys.readouterr().err.startswith("graphc demo: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--batch", "-1"],
        ["--shuffles", "0"],
        ["--hidden", "0", "4"],
        ["--seed", "-1"],
        ["--threads", "0"],
    ],
)
def test_wrong_numbers_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", *arguments, "--folder", str(tmp_path / "shown")]) == 1
    assert arguments[0][2:] in capsys.readouterr().err
    assert not (tmp_path / "shown").exists()


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("rich", "rich")]
)
def test_missing_extras_are_named(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (module, "rich.console"):
        if name.startswith(module):
            monkeypatch.setitem(__import__("sys").modules, name, None)
    assert cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert package in error
    assert "graphc-compiler[examples]" in error
