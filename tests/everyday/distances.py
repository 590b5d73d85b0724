"""How far apart are things?  Metrics, kernels, similarities, assignments, matrices of distances."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, mask, number, positive, uniform


@everyday("n 3", "m 3")
def pairwise(x, y):
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=2))


@everyday("n k", "m k", smooth=False)
def pairwise_by_expansion(x, y):
    d2 = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.sqrt(np.maximum(d2, 0))


@everyday("n k", "m k")
def manhattan(x, y):
    return np.abs(x[:, np.newaxis, :] - y[np.newaxis, :, :]).sum(axis=-1)


@everyday("n", "n")
def chebyshev(x, y):
    return np.max(np.abs(x - y))


@everyday("n", "n", number(3))
def minkowski(x, y, p):
    return np.sum(np.abs(x - y) ** p) ** (1 / p)


@everyday("n k", "m k")
def cosine_similarity(x, y):
    xn = x / np.linalg.norm(x, axis=1, keepdims=True)
    yn = y / np.linalg.norm(y, axis=1, keepdims=True)
    return np.dot(xn, yn.T)


@everyday(positive("n"), positive("n"))
def canberra(x, y):
    return np.sum(np.abs(x - y) / (np.abs(x) + np.abs(y)))


@everyday(positive("n"), positive("n"))
def bray_curtis(x, y):
    return np.abs(x - y).sum() / np.abs(x + y).sum()


@everyday(integers("n", 0, 3), integers("n", 0, 3), smooth=False)
def hamming_distance(a, b):
    return np.mean(a != b)


@everyday(mask("n"), mask("n"), smooth=False)
def jaccard(a, b):
    return np.logical_and(a, b).sum() / np.logical_or(a, b).sum()


@everyday(mask("n"), mask("n"), smooth=False)
def dice(a, b):
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


@everyday("n 3", "3", "3 3")
def mahalanobis(x, mean, root):
    precision = root @ root.T + np.eye(3)
    d = x - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", d, precision, d))


@everyday("n k", "m k", number(0.7))
def gaussian_kernel(x, y, gamma):
    d2 = np.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)
    return np.exp(-gamma * d2)


@everyday("n k", "m k")
def polynomial_kernel(x, y):
    return (x @ y.T + 1) ** 3


@everyday("n 2", smooth=False)
def nearest_neighbour(points):
    d = np.linalg.norm(points[:, None] - points, axis=-1)
    d = d + np.where(np.eye(len(points), dtype=bool), np.inf, 0)
    return d.argmin(axis=1), d.min(axis=1)


@everyday("n 2", "m 2")
def hausdorff(a, b):
    d = np.sqrt(np.sum((a[:, None] - b[None]) ** 2, axis=-1))
    return np.maximum(d.min(axis=1).max(), d.min(axis=0).max())


@everyday("n 2", "m 2")
def chamfer(a, b):
    d = np.square(a[:, None, :] - b[None, :, :]).sum(axis=-1)
    return np.amin(d, axis=0).mean() + np.amin(d, axis=1).mean()


@everyday("n k", "3 k", smooth=False)
def nearest_centroid(x, centroids):
    return np.argmin(((x[:, None] - centroids) ** 2).sum(-1), axis=1)


@everyday("n 2", "3 2")
def kmeans_step(x, centroids):
    label = np.argmin(((x[:, None] - centroids[None]) ** 2).sum(axis=-1), axis=1)
    member = (label[:, None] == np.arange(3)[None, :]).astype(x.dtype)
    total = member.T @ x
    return total / np.maximum(member.sum(axis=0), 1)[:, None]


@everyday("n k", "3 k")
def soft_assignment(x, centroids):
    d2 = ((x[:, None] - centroids) ** 2).sum(axis=-1)
    w = np.exp(-d2 + d2.min(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


@everyday("n")
def wasserstein_to_uniform(x):
    return np.abs(np.sort(x) - np.linspace(-1, 1, len(x))).mean()


@everyday("n", "n")
def wasserstein(x, y):
    return np.mean(np.abs(np.sort(x) - np.sort(y)))


@everyday(uniform("m", 0.1, 1), uniform("m", 0.1, 1))
def hellinger(p, q):
    p, q = p / p.sum(), q / q.sum()
    return np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / np.sqrt(2)


@everyday("n", "n", smooth=False)
def two_sample_ks(a, b):
    both = np.concatenate([a, b])
    ca = np.searchsorted(np.sort(a), both, side="right") / len(a)
    cb = np.searchsorted(np.sort(b), both, side="right") / len(b)
    return np.max(np.abs(ca - cb))


@everyday("5", "6")
def dynamic_time_warping(a, b):
    cost = np.abs(a[:, None] - b[None, :])
    row = np.cumsum(cost[0])
    for i in range(1, 5):
        new = [row[0] + cost[i, 0]]
        for j in range(1, 6):
            new.append(cost[i, j] + np.minimum(np.minimum(new[-1], row[j]), row[j - 1]))
        row = np.stack(new)
    return row[-1]


@everyday(integers("5", 0, 3), integers("6", 0, 3), smooth=False)
def edit_distance(a, b):
    row = list(range(7))
    for i in range(5):
        new = [i + 1]
        for j in range(6):
            cost = (a[i] != b[j]).astype(int)
            new.append(np.minimum(np.minimum(new[j] + 1, row[j + 1] + 1), row[j] + cost))
        row = new
    return row[-1]


@everyday("n k")
def upper_triangle_distances(x):
    d = np.linalg.norm(x[:, None] - x[None] + 1e-3, axis=-1)
    return np.triu(d, 1).sum() / (len(x) * (len(x) - 1) / 2)


@everyday("6 3")
def condensed_distances(x):
    i, j = np.triu_indices(6, k=1)
    return np.linalg.norm(x[i] - x[j], axis=1)


@everyday("m m")
def double_center(d):
    n = d.shape[0]
    centering = np.eye(n) - np.ones((n, n)) / n
    return -0.5 * centering @ (d**2) @ centering


@everyday("n n", smooth=False)
def shortest_paths(weights):
    d = np.abs(weights)
    for _ in range(3):
        d = np.minimum(d, (d[:, :, None] + d[None, :, :]).min(axis=1))
    return d


@everyday("n k", "m k")
def maximum_mean_discrepancy(x, y):
    def k(a, b):
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1)).mean()

    return k(x, x) + k(y, y) - 2 * k(x, y)


@everyday("n k", "n k", "n k")
def triplet_loss(anchor, same, other):
    near = np.sum((anchor - same) ** 2, axis=1)
    far = np.sum((anchor - other) ** 2, axis=1)
    return np.maximum(near - far + 0.2, 0).mean()
