"""What do people do with samples in time?  Windows, filters, envelopes, transforms as sums."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, number, positive, uniform


@everyday("n")
def hann_windowed(x):
    n = len(x)
    return x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1)))


@everyday("n")
def hamming_windowed(x):
    return x * (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(x.size) / (x.size - 1)))


@everyday("n")
def blackman_windowed(x):
    k = np.linspace(0, 2 * np.pi, len(x))
    return x * (0.42 - 0.5 * np.cos(k) + 0.08 * np.cos(2 * k))


@everyday("n")
def window_by_numpy(x):
    return x * np.hanning(len(x))


@everyday("n")
def triangular_windowed(x):
    n = x.shape[0]
    return x * (1 - np.abs((np.arange(n) - (n - 1) / 2) / (n / 2)))


@everyday("n", positive(""))
def gaussian_windowed(x, sigma):
    t = np.arange(len(x)) - (len(x) - 1) / 2
    return x * np.exp(-0.5 * (t / sigma) ** 2)


@everyday("n")
def kaiser_windowed(x):
    n = len(x)
    r = 2 * np.arange(n) / (n - 1) - 1
    return x * np.i0(4.0 * np.sqrt(np.maximum(1 - r**2, 0))) / np.i0(4.0)


@everyday("n", "5")
def fir_filter(x, taps):
    return np.convolve(x, taps, mode="same")


@everyday("n", "3")
def full_convolution(x, kernel):
    return np.convolve(x, kernel)


@everyday("n", "4")
def valid_correlation(x, template):
    return np.correlate(x, template, mode="valid")


@everyday("n")
def smooth_by_three(x):
    padded = np.pad(x, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


@everyday("n")
def differentiate(x):
    return np.gradient(x, 0.1)


@everyday("n")
def second_difference(x):
    return np.diff(x, n=2)


@everyday("n")
def pre_emphasis(x):
    return np.append(x[0], x[1:] - 0.97 * x[:-1])


@everyday("n")
def energy(x):
    return np.sum(np.square(x)), np.sqrt(np.mean(np.square(x)))


@everyday("n", smooth=False)
def zero_crossings(x):
    return np.sum(np.signbit(x[:-1]) != np.signbit(x[1:]))


@everyday("n", smooth=False)
def local_maxima(x):
    middle = (x[1:-1] > x[:-2]) & (x[1:-1] > x[2:])
    return np.concatenate(([False], middle, [False]))


@everyday("n")
def power_spectrum(x):
    n = len(x)
    k = np.arange(n)[:, None] * np.arange(n) * (2 * np.pi / n)
    return ((np.cos(k) @ x) ** 2 + (np.sin(k) @ x) ** 2) / n


@everyday("n")
def cosine_transform(x):
    n = x.shape[-1]
    k = np.arange(n).reshape(-1, 1)
    basis = np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n))
    return 2 * basis @ x


@everyday("n")
def goertzel(x):
    w = 2 * np.pi * 3 / len(x)
    t = np.arange(len(x))
    return np.hypot(np.sum(x * np.cos(w * t)), np.sum(x * np.sin(w * t)))


@everyday(positive("n"))
def decibels(p):
    return 10 * np.log10(np.maximum(p, 1e-10) / np.max(p))


@everyday("n", number(0.8))
def soft_clip(x, limit):
    return np.where(np.abs(x) < limit, x, np.sign(x) * (limit + np.tanh(np.abs(x) - limit)))


@everyday("n")
def mu_law(x):
    x = x / np.max(np.abs(x))
    return np.sign(x) * np.log1p(255 * np.abs(x)) / np.log1p(255)


@everyday(uniform("n", -1, 1), smooth=False)
def quantize_to_bytes(x):
    return np.round((x + 1) * 127.5).astype(np.uint8)


@everyday("24")
def frames(x):
    index = np.arange(8)[None, :] + 4 * np.arange(5)[:, None]
    return x[index] * np.hamming(8)


@everyday("24")
def strided_frames(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, 6)[::2]
    return windows.max(axis=-1) - windows.mean(axis=-1)


@everyday("24")
def decimate(x):
    return x.reshape(-1, 4).mean(axis=1)


@everyday("n")
def upsample_hold(x):
    return np.repeat(x, 3)


@everyday("n")
def upsample_linear(x):
    middle = 0.5 * (x[1:] + x[:-1])
    return np.concatenate([np.stack([x[:-1], middle], axis=1).ravel(), x[-1:]])


@everyday("n")
def zero_stuff(x):
    return np.stack([x, np.zeros_like(x)], axis=1).reshape(-1)


@everyday(positive(""), smooth=(0,))
def chirp(rate):
    t = np.linspace(0, 1, 50, endpoint=False)
    return np.sin(2 * np.pi * (t + 0.5 * rate * t**2))


@everyday(uniform("n", -3, 3))
def sawtooth(t):
    return 2 * (t - np.floor(t + 0.5))


@everyday(uniform("n", -3, 3), smooth=False)
def square_wave(t):
    return np.where(np.mod(t, 1.0) < 0.5, 1.0, -1.0)


@everyday(uniform("n", -2, 2))
def sinc_pulse(t):
    return np.sinc(t) * np.cos(np.pi * t / 4)


@everyday(uniform("n", -9, 9), smooth=False)
def wrap_phase(phase):
    return (phase + np.pi) % (2 * np.pi) - np.pi


@everyday(uniform("n", -3, 3))
def unwrap_phase(phase):
    return np.unwrap(phase)


@everyday("n")
def leaky_integrator(x):
    y, out = 0.0, []
    for i in range(6):
        y = 0.9 * y + 0.1 * x[i]
        out.append(y)
    return np.stack(out)


@everyday("n")
def recursive_filter(x):
    y = [x[0]]
    for i in range(1, len(x)):
        y.append(0.5 * y[-1] + x[i])
    return np.array(y)


@everyday("n")
def detrend(x):
    t = np.arange(len(x)) - (len(x) - 1) / 2
    slope = np.sum(t * x) / np.sum(t**2)
    return x - x.mean() - slope * t


@everyday("2 n")
def mid_side(stereo):
    left, right = stereo
    return np.vstack([(left + right) / 2, (left - right) / 2])


@everyday("n", smooth=False)
def hysteresis(x):
    return np.maximum.accumulate(np.where(np.abs(x) > 0.5, np.arange(len(x)), 0))


@everyday("n")
def envelope(x):
    return np.maximum.accumulate(np.abs(x))


@everyday(integers("n", 0, 256, "uint8"), smooth=False)
def parity_bits(data):
    bits = (data[:, None] >> np.arange(8, dtype=np.uint8)) & 1
    return bits.sum(axis=1) % 2


@everyday(integers("n", 0, 256, "uint8"), smooth=False)
def gray_code(data):
    return data ^ (data >> 1)


@everyday("n")
def haar_step(x):
    even, odd = x[::2][:3], x[1::2][:3]
    return np.concatenate([even + odd, even - odd]) / np.sqrt(2)


@everyday("n m")
def normalize_channels(x):
    return x / np.maximum(np.abs(x).max(axis=0, keepdims=True), 1e-8)


@everyday("n")
def delay_and_mix(x):
    delayed = np.zeros_like(x)
    delayed = np.concatenate([delayed[:2], x[:-2]])
    return x + 0.4 * delayed
