"""What does `graphc demo` show? A perceptron trained on handwritten digits, natively compiled, and
what it was compiled to.

Loss, gradients and the momentum update are one compiled Function with a symbolic batch size;
parameters and velocities are donated, so training updates them in place. After training the demo
lists the kernels with the nodes and source lines that each computes, and writes the derivative
graph, the LLVM IR and the CUDA C++ source to a folder.
"""

from __future__ import annotations

import linecache
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gx
from graphc import nn, optim
from graphc.errors import missing_extra

CLASSES = 10
DIGITS = "scikit-learn digits"
# Below this many pictures an epoch costs milliseconds: more epochs of smaller batches generalise
# better.
FEW_PICTURES = 10_000


@dataclass(frozen=True)
class Settings:
    """How to train. `hidden` are the widths of the two hidden layers; `rate` falls linearly to 0
    over the epochs.

    `epochs` and `batch` None: chosen by the number of pictures, see `fitted`. `threads` None: all
    CPUs that the process may use. Raises `ValueError` for numbers below 1.
    """

    epochs: int | None = None
    batch: int | None = None
    rate: float = 0.1
    decay: float = 0.9
    hidden: tuple[int, int] = (256, 128)
    seed: int = 0
    shuffles: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "shuffles"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, got {value}")
        if min(self.hidden) < 1:
            raise ValueError(f"hidden widths are at least 1, got {self.hidden}")
        if self.seed < 0:
            raise ValueError(f"seed is at least 0, got {self.seed}")

    def fitted(self, pictures: int) -> Settings:
        """With epochs and batch filled in for a training set of that many pictures."""
        epochs, batch = (60, 32) if pictures < FEW_PICTURES else (10, 128)
        return replace(self, epochs=self.epochs or epochs, batch=self.batch or batch)


@dataclass(frozen=True)
class Data:
    """Pictures as float32 [n, pixels] in [0, 1], labels as int64 [n], for training and for testing.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def scikit_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_extra("scikit-learn", "examples", "The demo's bundled data") from None
    digits = load_digits()
    return (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)


def read_pictures(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Arrays `x` (uint8 or float, [n, ...]) and `y` (integers [n], 0 to 9) of an .npz file.

    Bytes are scaled to [0, 1]. Raises `OSError` if there is no such file, `ValueError` if it does
    not hold these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not {"x", "y"} <= set(archive.files):
                raise ValueError(f"{path} holds {archive.files}; wanted are arrays x and y")
            x, y = archive["x"], archive["y"]
    except (TypeError, AttributeError, zipfile.BadZipFile):  # a bare .npy, or a damaged archive
        raise ValueError(f"{path} is not an .npz file with arrays x and y") from None
    if len(x.shape) < 2 or y.shape != x.shape[:1] or not len(x):
        raise ValueError(f"{path}: x {x.shape} and y {y.shape} are not pictures with labels")
    if x.dtype != np.uint8 and x.dtype.kind != "f" or y.dtype.kind not in "iu":
        raise ValueError(f"{path}: x is uint8 or float and y integer, got {x.dtype} and {y.dtype}")
    if y.min() < 0 or y.max() >= CLASSES:
        raise ValueError(f"{path}: labels are 0 to {CLASSES - 1}, got {y.min()} to {y.max()}")
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return (x.reshape(len(x), -1) / scale).astype(np.float32), y.astype(np.int64)


def split(x: np.ndarray, y: np.ndarray, name: str, seed: int) -> Data:
    """A shuffled 80:20 split."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    if not len(train):
        raise ValueError(f"{name}: {len(x)} pictures are too few to train and to test on")
    return Data(name, x[train], y[train], x[test], y[test])


def load(data_file: str | None, test_file: str | None, settings: Settings) -> list[Data]:
    """The data of each shuffle: the bundled digits, or those of the files."""
    if test_file and not data_file:
        raise ValueError("--test goes with --data: pictures to test on need pictures to train on")
    x, y = read_pictures(data_file) if data_file else scikit_digits()
    name = Path(data_file).name if data_file else DIGITS
    seeds = range(settings.seed, settings.seed + settings.shuffles)
    if not test_file:
        return [split(x, y, name, seed) for seed in seeds]
    test_x, test_y = read_pictures(test_file)
    if test_x.shape[1] != x.shape[1]:
        raise ValueError(f"{test_file} has {test_x.shape[1]} pixels a picture, not {x.shape[1]}")
    return [Data(name, x, y, test_x, test_y) for _ in seeds]


class Model:
    """Two hidden layers with relu: the graphs, and the two Functions compiled from them."""

    def __init__(self, pixels: int, settings: Settings) -> None:
        widths = (pixels, *settings.hidden, CLASSES)
        self.sizes = list(zip(widths, widths[1:], strict=False))
        self.x = gx.symbol("x", ("batch", pixels), "float32")
        self.labels = gx.symbol("labels", ("batch",), "int64")
        rate = gx.scalar("rate", "float32")
        layers = [nn.Dense.symbols(f"layer{i}", a, b) for i, (a, b) in enumerate(self.sizes)]
        speeds = [nn.Dense.symbols(f"speed{i}", a, b) for i, (a, b) in enumerate(self.sizes)]

        hidden = self.x
        for layer in layers[:-1]:
            hidden = gx.relu(nn.dense(layer, hidden))
        logits = nn.dense(layers[-1], hidden)
        self.loss = nn.softmax_cross_entropy(logits, self.labels)
        self.gradients = gx.grad(self.loss, layers)
        updated = optim.momentum(layers, self.gradients, speeds, rate, settings.decay)

        self.parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        state = [*self.parameters, *[s for speed in speeds for s in (speed.weight, speed.bias)]]
        new_state = [n for group in updated for layer in group for n in (layer.weight, layer.bias)]
        self.inputs = [self.x, self.labels, rate, *state]
        self.outputs = [self.loss, *new_state]
        options = gx.Options(threads=settings.threads)
        self.step = gx.compile(
            self.inputs, self.outputs, donate=state, options=options, name="training_step"
        )
        self.accuracy = gx.compile(
            [self.x, self.labels, *self.parameters],
            nn.accuracy(logits, self.labels),
            options=options,
            name="accuracy",
        )

    def start(self, generator: np.random.Generator) -> list[np.ndarray]:
        """Fresh parameters, then velocities of zero."""
        parameters: list[np.ndarray] = []
        for inputs, outputs in self.sizes:
            parameters += [nn.he_normal(generator, inputs, outputs), np.zeros(outputs, np.float32)]
        return [*parameters, *[np.zeros_like(p) for p in parameters]]

    def measure(self, data: Data, state: list[np.ndarray]) -> float:
        """The share of held-out pictures that are recognised."""
        return float(self.accuracy(data.test_x, data.test_y, *state[: len(self.parameters)]))


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data: mean loss, seconds, and the state (parameters, velocities)
    after it.
    """

    number: int
    loss: float
    seconds: float
    state: list[np.ndarray]


def train(model: Model, data: Data, settings: Settings, seed: int) -> Iterator[Epoch]:
    """Train, one epoch at a time. The state of every epoch is the same arrays: they are updated in
    place.
    """
    settings = settings.fitted(len(data.train_x))
    epochs, batch = settings.epochs or 1, settings.batch or 1
    generator = np.random.default_rng(seed)
    state = model.start(generator)
    for number in range(epochs):
        rate = np.float32(settings.rate * (1 - number / epochs))
        order = generator.permutation(len(data.train_x))
        losses = []
        start = time.perf_counter()
        for at in range(0, len(order), batch):
            chosen = order[at : at + batch]
            loss, *_ = model.step(data.train_x[chosen], data.train_y[chosen], rate, *state)
            losses.append(loss)
        yield Epoch(number, float(np.mean(losses)), time.perf_counter() - start, state)


def run(
    settings: Settings, data_file: str | None, test_file: str | None, folder: str | None
) -> float:
    """Train, report, write the folder; returns the mean accuracy over the shuffles."""
    console = _console()
    shuffles = load(data_file, test_file, settings)
    start = time.perf_counter()
    model = Model(shuffles[0].train_x.shape[1], settings)
    seconds = time.perf_counter() - start
    console.print(f"compiled loss, gradients and update to one Function in {seconds:.2f} s")
    scores = [
        _shuffle(model, data, settings, settings.seed + i, console)
        for i, data in enumerate(shuffles)
    ]
    if len(scores) > 1:
        console.print(f"mean test accuracy over {len(scores)} shuffles: {np.mean(scores):.4f}")
    _describe(model, console)
    where = write(model, Path(folder or "graphc-demo"))
    console.print(f"wrote to {where}{os.sep}", soft_wrap=True)
    for name, content in FILES.items():
        console.print(f"  {name:<20}{content}", soft_wrap=True)
    return float(np.mean(scores))


def _console() -> Any:
    try:
        from rich.console import Console
    except ImportError:
        raise missing_extra("rich", "examples", "The demo's progress bar") from None
    return Console(highlight=False)


def _shuffle(model: Model, data: Data, settings: Settings, seed: int, console: Any) -> float:
    """Train from one seed behind a progress bar; the test accuracy."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    epochs = settings.fitted(len(data.train_x)).epochs
    loss = TextColumn("loss {task.fields[loss]:.4f}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
    seconds: list[float] = []
    state: list[np.ndarray] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{data.name}, seed {seed}", total=epochs, loss=float("nan"))
        for epoch in train(model, data, settings, seed):
            seconds.append(epoch.seconds)
            state = epoch.state
            progress.update(task, advance=1, loss=epoch.loss)
    accuracy = model.measure(data, state)
    console.print(
        f"test accuracy {accuracy:.4f} on {len(data.test_x)} pictures; "
        f"{np.median(seconds):.4f} seconds per epoch of {len(data.train_x)}",
        soft_wrap=True,
    )
    return accuracy


def _describe(model: Model, console: Any) -> None:
    """The kernels of the training step, with the nodes and source lines that each computes."""
    kernels = model.step.report().kernels
    console.print(
        f"{len(kernels)} kernels of one training step, the nodes of each, and their lines:"
    )
    for kernel in kernels:
        console.print(f"  {kernel.title}", style="bold", markup=False, soft_wrap=True)
        for line in kernel.lines:
            where, _, nodes = line.partition("  ")
            file, _, number = where.rpartition(":")
            code = linecache.getline(file, int(number)).strip() if number.isdigit() else ""
            shown = f"      {nodes}  <-  {Path(file).name}:{number}  {code}"
            console.print(shown, markup=False, soft_wrap=True)


FILES = {
    "derivative.txt": "loss and gradients as numbered expressions",
    "derivative.dot": "the same for Graphviz",
    "derivative.svg": "the same as a drawing",
    "training_step.ll": "LLVM IR of every kernel that ran",
    "training_step.cu": "CUDA C++ of the same graph (not run on a GPU)",
}


def write(model: Model, folder: Path) -> Path:
    """Write the derivative graph (text, DOT, SVG), the LLVM IR and the CUDA C++ source; returns the
    folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gradients = [g for layer in model.gradients for g in (layer.weight, layer.bias)]
    shown = [model.loss, *gradients]
    for form, suffix in (("text", "txt"), ("dot", "dot"), ("svg", "svg")):
        gx.show(shown, format=form, path=str(folder / f"derivative.{suffix}"))
    (folder / "training_step.ll").write_text(model.step.llvm_ir, encoding="utf-8")
    source = gx.emit(model.inputs, model.outputs, target="cuda", name="training_step")
    (folder / "training_step.cu").write_text(source.text, encoding="utf-8")
    return folder.resolve()
