"""What do people compute about samples?  Moments, robust measures, ranks, histograms, tests."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import (
    everyday,
    increasing,
    integers,
    mask,
    number,
    positive,
    uniform,
    with_gaps,
)


@everyday("n m")
def standardize(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


@everyday("n")
def zscore(x):
    mu, sigma = np.mean(x), np.std(x, ddof=1)
    return (x - mu) / sigma


@everyday("n m")
def minmax_scale(x):
    low, high = x.min(axis=0), x.max(axis=0)
    return (x - low) / (high - low)


@everyday("n")
def skewness(x):
    d = x - x.mean()
    return np.mean(d**3) / np.mean(d**2) ** 1.5


@everyday("n m")
def excess_kurtosis(x):
    d = x - x.mean(axis=-1, keepdims=True)
    return (d**4).mean(axis=-1) / (d**2).mean(axis=-1) ** 2 - 3


@everyday("n")
def median_absolute_deviation(x):
    return np.median(np.abs(x - np.median(x)))


@everyday("n", smooth=False)
def outliers(x):
    q1, q3 = np.percentile(x, [25, 75])
    spread = q3 - q1
    return (x < q1 - 1.5 * spread) | (x > q3 + 1.5 * spread)


@everyday("n")
def interquartile_range(x):
    return np.quantile(x, 0.75) - np.quantile(x, 0.25)


@everyday("n")
def trimmed_mean(x):
    ordered = np.sort(x)
    cut = len(x) // 10
    return ordered[cut : len(x) - cut].mean()


@everyday("n m")
def winsorize(x):
    low = np.percentile(x, 5, axis=0)
    high = np.percentile(x, 95, axis=0)
    return np.clip(x, low, high)


@everyday("n", "n")
def pearson(x, y):
    xm, ym = x - x.mean(), y - y.mean()
    return np.sum(xm * ym) / np.sqrt(np.sum(xm**2) * np.sum(ym**2))


@everyday("n", "n", smooth=False)
def spearman(x, y):
    rx = np.argsort(np.argsort(x))
    ry = np.argsort(np.argsort(y))
    n = len(x)
    return 1 - 6 * np.sum((rx - ry) ** 2) / (n * (n**2 - 1))


@everyday("n", "n", smooth=False)
def kendall_tau(x, y):
    sx = np.sign(x[:, None] - x[None, :])
    sy = np.sign(y[:, None] - y[None, :])
    n = x.shape[0]
    return (sx * sy).sum() / (n * (n - 1))


@everyday("n m")
def covariance(x):
    centered = x - x.mean(axis=0)
    return centered.T @ centered / (len(x) - 1)


@everyday("m n")
def correlation_matrix(x):
    return np.corrcoef(x)


@everyday("m n")
def covariance_by_numpy(x):
    c = np.cov(x)
    return c, np.diag(c), np.trace(c)


@everyday("n", positive("n"))
def weighted_mean_and_deviation(x, w):
    mean = np.average(x, weights=w)
    return mean, np.sqrt(np.average((x - mean) ** 2, weights=w))


@everyday(positive("n m"))
def geometric_mean(x):
    return np.exp(np.log(x).mean(axis=1))


@everyday(positive("n"))
def harmonic_mean(x):
    return x.size / np.sum(1.0 / x)


@everyday(with_gaps("n m"), smooth=False)
def summary_with_gaps(x):
    return np.nanmean(x, axis=1), np.nanmin(x), np.nanmax(x), np.isnan(x).sum(axis=0)


@everyday(with_gaps("n m"), smooth=False)
def fill_gaps_with_column_means(x):
    means = np.nanmean(x, axis=0)
    return np.where(np.isnan(x), means, x)


@everyday("n", smooth=False)
def empirical_cdf(x):
    grid = np.linspace(-2, 2, 21)
    return np.searchsorted(np.sort(x), grid, side="right") / len(x)


@everyday("n", smooth=False)
def histogram_counts(x):
    counts, edges = np.histogram(x, bins=10, range=(-3, 3))
    return counts, edges


@everyday(uniform("n"), smooth=False)
def histogram_density(x):
    edges = np.linspace(0, 1, 6)
    counts, _ = np.histogram(x, bins=edges)
    return counts / counts.sum() / np.diff(edges)


@everyday(integers("n", 0, 6), smooth=False)
def die_frequencies(rolls):
    return np.bincount(rolls, minlength=6)[:6] / rolls.size


@everyday(integers("n", 0, 4), "n")
def group_means(labels, values):
    onehot = labels[:, None] == np.arange(4)
    counts = onehot.sum(axis=0)
    return (onehot * values[:, None]).sum(axis=0) / np.maximum(counts, 1)


@everyday(uniform("m", 0.05, 1.0))
def entropy(p):
    p = p / p.sum()
    return -(p * np.log2(p)).sum()


@everyday(uniform("m", 0.1, 1.0), uniform("m", 0.1, 1.0))
def kl_divergence(p, q):
    p, q = p / p.sum(), q / q.sum()
    return np.sum(np.where(p > 0, p * np.log(p / q), 0.0))


@everyday(uniform("m", 0.1, 1.0), uniform("m", 0.1, 1.0))
def jensen_shannon(p, q):
    p = p / np.linalg.norm(p, ord=1)
    q = q / np.linalg.norm(q, ord=1)
    m = 0.5 * (p + q)
    return 0.5 * (np.sum(p * np.log(p / m)) + np.sum(q * np.log(q / m)))


@everyday("n", "m")
def welch_t(a, b):
    va, vb = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    return (a.mean() - b.mean()) / np.sqrt(va + vb)


@everyday(positive("m k"))
def chi_squared_table(observed):
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    return ((observed - expected) ** 2 / expected).sum()


@everyday("n m")
def analysis_of_variance(groups):
    grand = groups.mean()
    between = groups.shape[1] * ((groups.mean(axis=1) - grand) ** 2).sum()
    within = ((groups - groups.mean(axis=1, keepdims=True)) ** 2).sum()
    return between / (groups.shape[0] - 1) / (within / (groups.size - groups.shape[0]))


@everyday("n")
def autocorrelation(x):
    x = x - x.mean()
    return np.array([np.dot(x[lag:], x[: len(x) - lag]) for lag in range(3)]) / np.dot(x, x)


@everyday("n", number(0.5))
def exponential_smoothing(x, alpha):
    weights = alpha * (1 - alpha) ** np.arange(x.shape[0])[::-1]
    return np.sum(weights * x) / np.sum(weights)


@everyday("n", "m")
def kernel_density(samples, points):
    h = 1.06 * samples.std() * len(samples) ** (-1 / 5)
    u = (points[:, np.newaxis] - samples) / h
    return np.exp(-0.5 * u * u).mean(axis=1) / (h * np.sqrt(2 * np.pi))


@everyday("n", "", positive(""))
def normal_log_likelihood(x, mu, sigma):
    return np.sum(-0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi))


@everyday("m n")
def moving_average(x):
    c = np.cumsum(np.pad(x, ((0, 0), (1, 0))), axis=1)
    return (c[:, 3:] - c[:, :-3]) / 3.0


@everyday(positive("n"))
def gini(x):
    x = np.sort(x)
    n = x.size
    index = np.arange(1, n + 1)
    return np.sum((2 * index - n - 1) * x) / (n * np.sum(x))


@everyday("n", mask("n"))
def masked_mean(x, keep):
    return np.sum(x * keep) / np.count_nonzero(keep)


@everyday("n", mask("n"))
def masked_sum_and_max(x, keep):
    return np.sum(x, where=keep), np.where(keep, x, -np.inf).max()


@everyday("n", smooth=False)
def rank_data(x):
    return x.argsort().argsort() + 1


@everyday("n m", smooth=False)
def top_three(x):
    order = np.argsort(-x, axis=1)[:, :3]
    return np.take_along_axis(x, order, axis=1), order


@everyday(increasing("n"), uniform("k", 0.0, 3.0))
def interpolate_table(grid, at):
    values = np.sqrt(grid)
    return np.interp(at, grid, values)


@everyday("n")
def running_mean_and_variance(x):
    count = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / count
    return mean, np.cumsum(x**2) / count - mean**2


@everyday("n k")
def log_softmax_rows(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@everyday("n k", integers("n", 0, 3))
def cross_entropy(logits, labels):
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return -logp[np.arange(len(labels)), labels].mean()


@everyday(integers("n", 0, 2), integers("n", 0, 2), smooth=False)
def confusion_matrix(truth, guess):
    return np.array([[np.sum((truth == i) & (guess == j)) for j in range(2)] for i in range(2)])


@everyday(integers("n", 0, 2), integers("n", 0, 2), smooth=False)
def precision_recall(truth, guess):
    hits = np.sum((truth == 1) & (guess == 1))
    precision = hits / np.maximum(guess.sum(), 1)
    recall = hits / np.maximum(truth.sum(), 1)
    return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)
