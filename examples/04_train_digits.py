"""04. Train on handwritten digits.

A training step is one graph: the loss of a batch, its gradient, and the new parameters. Compiled as
one Function it runs without any Python between its kernels, and because the parameters are
*donated*, they are updated in place. The batch size is a named dimension, so the last, smaller
batch of an epoch needs no code of its own.

Run me: python examples/04_train_digits.py (needs scikit-learn: pip install
"graphc-compiler[examples]")
"""

import numpy as np
from sklearn.datasets import load_digits

import graphc as gx
from graphc import nn, optim

# -- the model: 64 pixels, 64 hidden units, 10 classes ---------------------------------------------

x = gx.symbol("x", ("batch", 64), "float32")
labels = gx.symbol("labels", ("batch",), "int64")
rate = gx.scalar("rate", "float32")

# Parameters are an ordinary container, here a dict of dataclasses. Gradients and updates come back
# in the same container.
model = {
    "hidden": nn.Dense.symbols("hidden", 64, 64),
    "logits": nn.Dense.symbols("logits", 64, 10),
}
velocity = {
    "hidden": nn.Dense.symbols("hidden.velocity", 64, 64),
    "logits": nn.Dense.symbols("logits.velocity", 64, 10),
}

logits = nn.dense(model["logits"], gx.relu(nn.dense(model["hidden"], x)))
loss = nn.softmax_cross_entropy(logits, labels)
new_model, new_velocity = optim.momentum(model, gx.grad(loss, model), velocity, rate)


def leaves(tree):
    return [tree[name].weight for name in tree] + [tree[name].bias for name in tree]


state = leaves(model) + leaves(velocity)
step = gx.compile(
    [x, labels, rate, *state], [loss, *leaves(new_model), *leaves(new_velocity)], donate=state
)
accuracy = gx.compile([x, labels, *leaves(model)], nn.accuracy(logits, labels))

# -- the data: a fifth is held out -----------------------------------------------------------------

digits = load_digits()
generator = np.random.default_rng(0)
order = generator.permutation(len(digits.target))
pictures = (digits.data[order] / 16).astype("float32")
targets = digits.target[order].astype("int64")
held_out = len(order) // 5
train_x, test_x = pictures[held_out:], pictures[:held_out]
train_y, test_y = targets[held_out:], targets[:held_out]

# -- training --------------------------------------------------------------------------------------

weights = [nn.he_normal(generator, 64, 64), nn.he_normal(generator, 64, 10)]
biases = [np.zeros(64, "float32"), np.zeros(10, "float32")]
arrays = [*weights, *biases]
arrays += [np.zeros_like(array) for array in arrays]

for epoch in range(20):
    shuffled = generator.permutation(len(train_x))
    losses = []
    for start in range(0, len(shuffled), 32):
        chosen = shuffled[start : start + 32]
        # The arrays of the state are overwritten: what `step` returns for them are the same
        # objects.
        value, *_ = step(train_x[chosen], train_y[chosen], 0.05, *arrays)
        losses.append(value)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")

share = float(accuracy(test_x, test_y, *arrays[:4]))
print(f"test accuracy: {share:.3f} on {held_out} pictures that were not trained on")
assert share > 0.95
