"""What does `graphc demo` show?  A perceptron trained on handwritten digits, natively compiled, and what it was compiled to.

Loss, gradients and the momentum update are one compiled Function with a symbolic batch size; parameters and velocities are donated, so
training updates them in place. After training the demo lists the kernels with the nodes and source lines that each computes, and
writes the derivative graph, the LLVM IR and the CUDA C++ source to a folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gx
from graphc import nn, optim
from graphc.errors import missing_extra

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """How to train. `hidden` are the widths of the two hidden layers; `rate` falls linearly to 0 over the epochs."""

    epochs: int = 30
    batch: int = 64
    rate: float = 0.1
    decay: float = 0.9
    hidden: tuple[int, int] = (256, 128)
    seed: int = 0
    shuffles: int = 1
    threads: int | None = None


@dataclass(frozen=True)
class Data:
    """Pictures as float32 [n, pixels] in [0, 1], labels as int64 [n], for training and for testing."""

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
    """Arrays `x` (uint8 or float, [n, ...]) and `y` ([n]) of an .npz file, scaled to [0, 1] if they are bytes.

    Raises `ValueError` if the file does not hold them.
    """
    with np.load(path, allow_pickle=False) as archive:
        if not {"x", "y"} <= set(archive.files):
            raise ValueError(f"{path} holds {archive.files}; wanted are arrays x and y")
        x, y = archive["x"], archive["y"]
    if len(x) != len(y) or x.ndim < 2 or y.ndim != 1:
        raise ValueError(f"{path}: x {x.shape} and y {y.shape} are not pictures with labels")
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return (x.reshape(len(x), -1) / scale).astype(np.float32), y.astype(np.int64)


def split(x: np.ndarray, y: np.ndarray, name: str, seed: int) -> Data:
    """A shuffled 80:20 split."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    return Data(name, x[train], y[train], x[test], y[test])


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


def train(model: Model, data: Data, settings: Settings, seed: int) -> Iterator[tuple[int, float, list[np.ndarray]]]:
    """Train; after each epoch give its number, its seconds and the state."""
    generator = np.random.default_rng(seed)
    state = model.start(generator)
    for epoch in range(settings.epochs):
        rate = np.float32(settings.rate * (1 - epoch / settings.epochs))
        order = generator.permutation(len(data.train_x))
        start = time.perf_counter()
        for at in range(0, len(order), settings.batch):
            chosen = order[at : at + settings.batch]
            model.step(data.train_x[chosen], data.train_y[chosen], rate, *state)
        yield epoch, time.perf_counter() - start, state


def measure(model: Model, data: Data, state: list[np.ndarray]) -> float:
    """The share of held-out pictures that are recognised."""
    return float(model.accuracy(data.test_x, data.test_y, *state[: len(model.parameters)]))


def run(settings: Settings, data_file: str | None, test_file: str | None, folder: str | None) -> float:
    """Train, report, write the folder; returns the mean accuracy over the shuffles."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        raise missing_extra("rich", "examples", "The demo's progress bar") from None
    console = Console(highlight=False)
    x, y = read_pictures(data_file) if data_file else scikit_digits()
    name = Path(data_file).name if data_file else "scikit-learn digits"
    start = time.perf_counter()
    model = Model(x.shape[1], settings)
    console.print(f"compiled loss, gradients and update in {time.perf_counter() - start:.2f} s")
    scores = []
    for shuffle in range(settings.shuffles):
        seed = settings.seed + shuffle
        if test_file:
            data = Data(name, x, y, *read_pictures(test_file))
        else:
            data = split(x, y, name, seed)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        seconds: list[float] = []
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"{name}, seed {seed}", total=settings.epochs)
            for _, spent, state in train(model, data, settings, seed):
                seconds.append(spent)
                progress.update(task, advance=1)
        scores.append(measure(model, data, state))
        console.print(
            f"test accuracy {scores[-1]:.4f} on {len(data.test_x)} pictures, "
            f"{np.median(seconds):.4f} seconds per epoch of {len(data.train_x)}"
        )
    if settings.shuffles > 1:
        console.print(f"mean over {settings.shuffles} shuffles: {np.mean(scores):.4f}")
    _describe(model, console)
    where = write(model, Path(folder or "graphc-demo"))
    console.print(f"wrote the derivative graph, LLVM IR and CUDA C++ to {where}/")
    return float(np.mean(scores))


def _describe(model: Model, console: Any) -> None:
    """The kernels of the training step, with the nodes and source lines that each computes."""
    console.print("kernels of one training step:")
    for kernel in model.step.report().kernels:
        console.print(f"  {kernel.title}", style="bold", markup=False)
        for line in kernel.lines:
            console.print(f"      {line}", markup=False)


def write(model: Model, folder: Path) -> Path:
    """Write the derivative graph (text, DOT, SVG), the LLVM IR and the CUDA C++ source; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    gradients = [g for layer in model.gradients for g in (layer.weight, layer.bias)]
    shown = [model.loss, *gradients]
    for form, suffix in (("text", "txt"), ("dot", "dot"), ("svg", "svg")):
        gx.show(shown, format=form, path=str(folder / f"derivative.{suffix}"))
    (folder / "training_step.ll").write_text(model.step.llvm_ir)
    source = gx.emit(model.inputs, model.outputs, target="cuda", name="training_step")
    (folder / "training_step.cu").write_text(source.text)
    return folder.resolve()
