"""What do people compute about money?  Returns, risk, options, bonds, indicators, portfolios."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, increasing, integers, number, positive, uniform


@everyday(positive("n"))
def simple_returns(price):
    return price[1:] / price[:-1] - 1


@everyday(positive("n"))
def log_returns(price):
    return np.diff(np.log(price))


@everyday(positive("n k"))
def cumulative_return(price):
    returns = np.diff(price, axis=0) / price[:-1]
    return np.cumprod(1 + returns, axis=0) - 1


@everyday("n")
def sharpe_ratio(returns):
    return np.sqrt(252) * returns.mean() / returns.std(ddof=1)


@everyday("n")
def sortino_ratio(returns):
    downside = np.minimum(returns, 0)
    return returns.mean() / np.sqrt((downside**2).mean())


@everyday(positive("n"))
def maximum_drawdown(price):
    peak = np.maximum.accumulate(price)
    return np.max((peak - price) / peak)


@everyday("n")
def value_at_risk(returns):
    level = np.quantile(returns, 0.05)
    return -level, -np.where(returns <= level, returns, 0).sum() / (returns <= level).sum()


@everyday(uniform("n", 80, 120), number(100.0), number(0.03), number(0.2), number(0.5))
def black_scholes_call(s, k, r, sigma, t):
    d1 = (np.log(s / k) + (r + sigma**2 / 2) * t) / (sigma * np.sqrt(t))
    d2 = d1 - sigma * np.sqrt(t)

    def cdf(x):
        # Abramowitz and Stegun 7.1.26
        z = np.abs(x) / np.sqrt(2)
        u = 1 / (1 + 0.3275911 * z)
        tail = 1.421413741 + u * (-1.453152027 + u * 1.061405429)
        poly = u * (0.254829592 + u * (-0.284496736 + u * tail))
        erf = 1 - poly * np.exp(-z * z)
        return 0.5 * (1 + np.sign(x) * erf)

    return s * cdf(d1) - k * np.exp(-r * t) * cdf(d2)


@everyday(positive(""))
def binomial_option(s0):
    steps, u = 6, 1.1
    d, q, discount = 1 / u, 0.5, 0.99
    prices = s0 * u ** np.arange(steps, -1, -1) * d ** np.arange(0, steps + 1)
    values = np.maximum(prices - 1.0, 0)
    for _ in range(steps):
        values = discount * (q * values[:-1] + (1 - q) * values[1:])
    return values[0]


@everyday("n 20", number(100.0))
def asian_option(noise, s0):
    dt = 1 / 20
    paths = s0 * np.exp(np.cumsum((0.01 - 0.02) * dt + 0.2 * np.sqrt(dt) * noise, axis=1))
    payoff = np.maximum(paths.mean(axis=1) - s0, 0)
    return np.exp(-0.01) * payoff.mean()


@everyday("n", uniform("", 0.01, 0.1))
def net_present_value(flows, rate):
    return np.sum(flows / (1 + rate) ** np.arange(len(flows)))


@everyday(uniform("k", 0.01, 0.1))
def bond_price(yields):
    t = np.arange(1, 11)
    discount = (1 + yields[:, None]) ** -t
    return 5 * discount.sum(axis=1) + 100 * discount[:, -1]


@everyday(uniform("", 0.01, 0.1))
def bond_duration(y):
    t = np.arange(1.0, 11.0)
    flows = np.full(10, 5.0)
    flows[-1] += 100
    pv = flows * np.exp(-y * t)
    return np.average(t, weights=pv)


@everyday(number(1000.0), uniform("", 0.001, 0.01))
def annuity_payment(principal, rate):
    return principal * rate / (1 - (1 + rate) ** -360)


@everyday(positive("n"), number(0.05))
def compound_growth(deposits, rate):
    years = np.arange(len(deposits))[::-1]
    return (deposits * (1 + rate) ** years).sum()


@everyday(uniform("m", -1, 1))
def internal_rate_by_newton(flows):
    flows = np.concatenate([np.array([-3.0]), np.abs(flows) + 1])
    t = np.arange(len(flows))
    r = 0.1
    for _ in range(8):
        value = np.sum(flows * (1 + r) ** -t)
        slope = np.sum(-t * flows * (1 + r) ** (-t - 1))
        r = r - value / slope
    return r


@everyday("n k", uniform("k", 0.1, 1))
def portfolio_variance(returns, weights):
    weights = weights / weights.sum()
    cov = np.cov(returns, rowvar=False)
    return weights @ cov @ weights, np.sqrt(weights.T.dot(cov).dot(weights))


@everyday("n k")
def risk_contributions(returns):
    w = np.ones(returns.shape[1]) / returns.shape[1]
    cov = np.cov(returns.T)
    marginal = cov @ w
    return w * marginal / np.sqrt(w @ marginal)


@everyday("n", "n")
def beta(asset, market):
    c = np.cov(asset, market)
    return c[0, 1] / c[1, 1]


@everyday("n", "n")
def tracking_error(asset, index):
    return np.std(asset - index, ddof=1) * np.sqrt(252)


@everyday(positive("n"))
def simple_moving_average(price):
    return np.convolve(price, np.ones(4) / 4, mode="valid")


@everyday(positive("n"))
def exponential_moving_average(price):
    ema = price[0]
    for p in price[1:]:
        ema = 0.2 * p + 0.8 * ema
    return ema


@everyday(positive("n"))
def relative_strength(price):
    change = np.diff(price)
    gain = np.where(change > 0, change, 0).mean()
    loss = -np.where(change < 0, change, 0).mean()
    return 100 - 100 / (1 + gain / loss)


@everyday(positive("n"))
def bollinger_bands(price):
    windows = np.lib.stride_tricks.sliding_window_view(price, 4)
    middle, width = windows.mean(axis=1), 2 * windows.std(axis=1)
    return np.stack([middle - width, middle, middle + width])


@everyday(positive("n"), positive("n"))
def volume_weighted_price(price, volume):
    return np.cumsum(price * volume) / np.cumsum(volume)


@everyday(positive("n"), integers("n", 1, 100))
def order_book_imbalance(price, size):
    mid = np.median(price)
    bid = np.where(price < mid, size, 0).sum()
    ask = np.where(price >= mid, size, 0).sum()
    return (bid - ask) / (bid + ask)


@everyday("n")
def ewma_volatility(returns):
    lam = 0.94
    w = (1 - lam) * lam ** np.arange(returns.size - 1, -1, -1)
    return np.sqrt((w * returns**2).sum() / w.sum())


@everyday(uniform("n", 0, 200000))
def progressive_tax(income):
    brackets = np.array([0, 10000, 40000, 90000])
    rates = np.array([0.1, 0.2, 0.3, 0.4])
    upper = np.append(brackets[1:], np.inf)
    taxable = np.clip(income[:, None], brackets, upper) - brackets
    return taxable @ rates


@everyday(uniform("n", 0, 100000), smooth=False)
def tax_bracket(income):
    return np.digitize(income, [10000, 40000, 90000])


@everyday(increasing("m"), uniform("n", 0.2, 2))
def yield_curve(tenors, at):
    rates = 0.02 + 0.01 * np.log1p(tenors)
    return np.exp(-np.interp(at, tenors, rates) * at)


@everyday("n", number(2.0))
def huber_loss(residual, delta):
    a = np.abs(residual)
    return np.where(a <= delta, 0.5 * residual**2, delta * (a - 0.5 * delta)).mean()


@everyday("n", uniform("", 0.1, 0.9))
def pinball_loss(error, q):
    return np.mean(np.maximum(q * error, (q - 1) * error))


@everyday(positive("n"), smooth=False)
def moving_average_crossover(price):
    fast = np.convolve(price, np.ones(2) / 2, "valid")[2:]
    slow = np.convolve(price, np.ones(4) / 4, "valid")
    signal = (fast > slow).astype(int)
    return np.diff(signal, prepend=0)


@everyday(integers("n", -5, 6), uniform("n", 90, 110))
def profit_and_loss(trades, price):
    position = np.cumsum(trades)
    return np.sum(position[:-1] * np.diff(price)), position[-1]
