"""What do people fit?  Linear and logistic models, small networks, losses, kernels, attention."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, number, positive, single, uniform


@everyday("n k", "k", "")
def linear_prediction(x, w, b):
    return x @ w + b


@everyday("n k", "n", "k")
def least_squares_gradient(x, y, w):
    return 2 * x.T @ (x @ w - y) / len(y)


@everyday("n", "n")
def line_fit(x, y):
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    return slope, y.mean() - slope * x.mean()


@everyday("n", "n")
def r_squared(y, prediction):
    ss_res = np.sum((y - prediction) ** 2)
    ss_tot = np.sum((y - np.mean(y)) ** 2)
    return 1 - ss_res / ss_tot


@everyday("n k", "n", "k")
def ridge_loss(x, y, w):
    residual = y - np.dot(x, w)
    return residual.dot(residual) / y.shape[0] + 0.1 * np.sum(w**2)


@everyday("n k", "n", "k")
def gradient_descent(x, y, w):
    for _ in range(5):
        w = w - 0.05 * x.T @ (x @ w - y) / len(x)
    return w


@everyday("n k", "n", "k")
def lasso_step(x, y, w):
    z = w - 0.1 * x.T.dot(x.dot(w) - y)
    return np.sign(z) * np.maximum(np.abs(z) - 0.05, 0.0)


@everyday("n k", "k", integers("n", 0, 2))
def logistic_loss(x, w, y):
    p = 1 / (1 + np.exp(-(x @ w)))
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


@everyday("n k", "k", integers("n", 0, 2))
def stable_logistic_loss(x, w, y):
    z = x @ w
    return np.mean(np.logaddexp(0, z) - y * z)


@everyday("n k", "k", integers("n", 0, 2), smooth=False)
def accuracy(x, w, y):
    return ((x @ w > 0) == y).mean()


@everyday("n k", "k", integers("n", 0, 2))
def hinge_loss(x, w, y):
    return np.maximum(0, 1 - (2 * y - 1) * (x @ w)).mean() + 0.01 * w @ w


@everyday("n k", "k 4", "4", "4 2", "2")
def two_layer_network(x, w1, b1, w2, b2):
    h = np.tanh(x @ w1 + b1)
    return h @ w2 + b2


@everyday("n k", "k")
def poisson_regression(x, w):
    rate = np.exp(x @ w)
    return np.sum(rate) - np.sum(np.floor(rate) * np.log(rate))


@everyday("n k", integers("n", 0, 3), "k 3")
def softmax_regression(x, y, w):
    z = x @ w
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).mean()


@everyday(integers("n", 0, 5), smooth=False)
def one_hot(labels):
    return np.take(np.eye(5), labels, axis=0)


@everyday(integers("n", 0, 5), "5 3")
def embedding(tokens, table):
    return table[tokens].mean(axis=0)


@everyday("n k", "m k", "m 3")
def attention(q, k, v):
    scores = q @ k.T / np.sqrt(k.shape[-1])
    w = np.exp(scores - scores.max(-1, keepdims=True))
    return (w / w.sum(-1, keepdims=True)) @ v


@everyday("m 4", "m 4")
def causal_attention(q, k):
    n = q.shape[0]
    scores = np.where(np.tril(np.ones((n, n), dtype=bool)), q @ k.T, -1e9)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@everyday("n k", "k", "k")
def layer_norm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(var + 1e-5) + shift


@everyday("n")
def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@everyday("m")
def sinusoidal_positions(x):
    position = np.arange(x.shape[0])[:, None]
    rate = 1 / 10000 ** (np.arange(0, 8, 2) / 8)
    angles = position * rate
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * x[:, None]


@everyday("n", "n", "n", number(3))
def adam_step(w, m, g, t):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * m**2 + 0.001 * g**2
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return w - 0.01 * m_hat / (np.sqrt(v_hat) + 1e-8)


@everyday("n")
def vandermonde_features(x):
    return np.vander(x, 4, increasing=True)


@everyday("4", "n")
def polynomial_value(coefficients, x):
    return np.polyval(coefficients, x)


@everyday("4", "n")
def horner(c, x):
    y = np.zeros_like(x)
    for a in c:
        y = y * x + a
    return y


@everyday("4", "3")
def polynomial_product(p, q):
    return np.convolve(p, q)


@everyday("n 2")
def pairwise_products(x):
    return np.stack([x[:, i] * x[:, j] for i in range(2) for j in range(i, 2)], axis=1)


@everyday("n k", "k k", "m k")
def bilinear_form(x, a, y):
    return np.einsum("ni,ij,mj->nm", x, a, y)


@everyday("2 n k", "2 k m")
def batched_matmul(a, b):
    return np.matmul(a, b), np.einsum("bij,bjk->bik", a, b)


@everyday("n k", "m")
def kronecker(a, b):
    return np.kron(a, b)


@everyday("m m")
def matrix_power_series(a):
    a = a / 4
    term, total = np.eye(len(a)), np.eye(len(a))
    for i in range(1, 6):
        term = term @ a / i
        total = total + term
    return total


@everyday("m m", "m")
def power_iteration(a, v):
    a = a @ a.T
    for _ in range(4):
        v = a @ v
        v = v / np.linalg.norm(v)
    return v @ a @ v


@everyday("3 3", "3")
def jacobi_iteration(a, b):
    d = np.diag(a) + 5
    r = a - np.diagflat(np.diag(a))
    x = np.zeros_like(b)
    for _ in range(6):
        x = (b - r @ x) / d
    return x


@everyday("3 3")
def inverse_by_hand(a):
    a = a + 3 * np.eye(3)
    rows = [np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])]
    return np.stack(rows, axis=1) / np.dot(a[0], rows[0])


@everyday("4 4")
def cholesky_by_hand(root):
    a = root @ root.T + 4 * np.eye(4)
    lower = [[0.0] * 4 for _ in range(4)]
    for i in range(4):
        for j in range(i + 1):
            s = a[i, j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = np.sqrt(s) if i == j else s / lower[j][j]
    return np.array(lower)


@everyday("3 k")
def gram_schmidt(vectors):
    basis = []
    for v in vectors:
        w = v - sum(np.dot(v, b) * b for b in basis)
        basis.append(w / np.linalg.norm(w))
    return np.array(basis)


@everyday("n n", smooth=False)
def page_rank(a):
    links = (a > 0).astype(float)
    out = np.maximum(links.sum(axis=0), 1)
    rank = np.ones(len(a)) / len(a)
    for _ in range(5):
        rank = 0.15 / len(a) + 0.85 * (links / out) @ rank
    return rank


@everyday(uniform("k k", 0.1, 1), uniform("k m", 0.1, 1), integers("6", 0, 4), smooth=False)
def hidden_markov_likelihood(transition, emission, observed):
    transition = transition / transition.sum(axis=1, keepdims=True)
    emission = emission / emission.sum(axis=1, keepdims=True)
    alpha = emission[:, observed[0]]
    for t in range(1, 6):
        alpha = (alpha @ transition) * emission[:, observed[t]]
    return np.log(alpha.sum())


@everyday("2", "2 2")
def kalman_update(state, root):
    p = root @ root.T + np.eye(2)
    h = np.array([1.0, 0.0])
    gain = p @ h / (h @ p @ h + 0.5)
    return state + gain * (1.0 - h @ state), (np.eye(2) - np.outer(gain, h)) @ p


@everyday(single("n k"), "k", smooth=(1,))
def mixed_precision(x, w):
    return x @ w + np.float32(0.5), x * 2


@everyday(single("n"), integers("n", 0, 9, "int32"), smooth=False)
def mixed_integers(x, i):
    return x * i, i / 2, i // 2 + 0.5, np.sqrt(i), x + i.astype(np.int8)


@everyday(positive("n k"), integers("n", 0, 3), smooth=(0,))
def scatter_by_matmul(values, groups):
    return (groups == np.arange(3)[:, None]).astype(values.dtype) @ values
