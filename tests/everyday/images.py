"""What do people do with pictures?  Filters, pyramids, colours, morphology, histograms, warps."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, mask, positive, uniform


@everyday(uniform("h w 3"))
def to_gray(image):
    return image @ np.array([0.299, 0.587, 0.114])


@everyday(uniform("h w 3"))
def weighted_gray(image):
    return np.dot(image[..., :3], [0.2126, 0.7152, 0.0722])


@everyday("h w")
def sobel(image):
    gx = image[:-2, 2:] + 2 * image[1:-1, 2:] + image[2:, 2:]
    gx = gx - image[:-2, :-2] - 2 * image[1:-1, :-2] - image[2:, :-2]
    gy = image[2:, :-2] + 2 * image[2:, 1:-1] + image[2:, 2:]
    gy = gy - image[:-2, :-2] - 2 * image[:-2, 1:-1] - image[:-2, 2:]
    return np.hypot(gx, gy)


@everyday("h w")
def laplacian(image):
    p = np.pad(image, 1, mode="reflect")
    return p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * image


@everyday("h w")
def periodic_laplacian(u):
    return sum(np.roll(u, s, axis=a) for s in (1, -1) for a in (0, 1)) - 4 * u


@everyday("h w", "3 3")
def filter_3x3(image, kernel):
    h, w = image.shape
    padded = np.pad(image, 1)
    out = np.zeros((h, w))
    for i in range(3):
        for j in range(3):
            out += kernel[i, j] * padded[i : i + h, j : j + w]
    return out


@everyday("h w", "3 3")
def filter_by_windows(image, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    return np.einsum("ijkl,kl->ij", windows, kernel)


@everyday("h w")
def gaussian_blur(image):
    x = np.arange(-2, 3)
    g = np.exp(-(x**2) / 2.0)
    g /= g.sum()
    p = np.pad(image, ((2, 2), (0, 0)), mode="edge")
    rows = sum(g[i] * p[i : i + image.shape[0]] for i in range(5))
    p = np.pad(rows, ((0, 0), (2, 2)), mode="edge")
    return sum(g[i] * p[:, i : i + image.shape[1]] for i in range(5))


@everyday("h w")
def median_filter(image):
    p = np.pad(image, 1, mode="symmetric")
    h, w = image.shape
    stack = np.stack([p[i : i + h, j : j + w] for i in range(3) for j in range(3)])
    return np.median(stack, axis=0)


@everyday("h w")
def unsharp_mask(image):
    blurred = (np.roll(image, 1, 1) + image + np.roll(image, -1, 1)) / 3
    return np.clip(image + 1.5 * (image - blurred), 0, 1)


@everyday(uniform("h w"))
def gamma_correct(image):
    return np.where(image <= 0.0031308, 12.92 * image, 1.055 * (image + 0.01) ** (1 / 2.4) - 0.055)


@everyday("h w")
def stretch_contrast(image):
    low, high = np.percentile(image, (2, 98))
    return np.clip((image - low) / (high - low), 0.0, 1.0)


@everyday(integers("h w", 0, 16, "uint8"), smooth=False)
def equalize_histogram(image):
    counts = np.bincount(image.ravel(), minlength=16)
    cdf = counts.cumsum()
    table = (15 * cdf / cdf[-1]).astype(np.uint8)
    return table[image]


@everyday(integers("h w", 0, 256, "uint8"), smooth=False)
def threshold(image):
    return (image > image.mean()).astype(np.uint8) * 255


@everyday(integers("h w", 0, 256, "uint8"), smooth=False)
def invert_and_brighten(image):
    inverted = 255 - image
    return np.minimum(inverted.astype(np.int32) + 40, 255).astype(np.uint8)


@everyday(integers("h w 3", 0, 256, "uint8"), smooth=False)
def to_unit_floats(image):
    return image.astype(np.float32) / 255.0


@everyday(integers("h w 3", 0, 256, "uint8"), smooth=False)
def pack_colours(image):
    r, g, b = (image[..., c].astype(np.uint32) for c in range(3))
    return (r << 16) | (g << 8) | b


@everyday(uniform("h w 3"), smooth=False)
def hue(image):
    r, g, b = np.moveaxis(image, -1, 0)
    high, low = image.max(axis=-1), image.min(axis=-1)
    delta = high - low
    h = np.select(
        [high == r, high == g], [((g - b) / delta) % 6, (b - r) / delta + 2], (r - g) / delta + 4
    )
    return h / 6, np.where(high > 0, delta / high, 0), high


@everyday("8 8")
def average_pool(image):
    h, w = image.shape
    return image.reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))


@everyday("8 6")
def max_pool(image):
    return np.maximum(
        np.maximum(image[::2, ::2], image[1::2, ::2]),
        np.maximum(image[::2, 1::2], image[1::2, 1::2]),
    )


@everyday("h w")
def upscale_nearest(image):
    return image.repeat(2, axis=0).repeat(2, axis=1)


@everyday("h w")
def tile_pattern(image):
    return np.tile(image, (2, 2))


@everyday("h w")
def rotate_and_flip(image):
    return np.rot90(image), np.flipud(image), np.fliplr(image), image.T[::-1]


@everyday(mask("h w"), smooth=False)
def dilate(image):
    p = np.pad(image, 1)
    return p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:] | image


@everyday(mask("h w"), smooth=False)
def life_step(cells):
    n = sum(
        np.roll(np.roll(cells, i, 0), j, 1).astype(int)
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    )
    return (n == 3) | (cells & (n == 2))


@everyday("h w")
def integral_image(image):
    return np.cumsum(np.cumsum(image, axis=0), axis=1)


@everyday("h w")
def box_sums(image):
    s = np.pad(image, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return s[3:, 3:] - s[:-3, 3:] - s[3:, :-3] + s[:-3, :-3]


@everyday("h w")
def image_gradient(image):
    gy, gx = np.gradient(image)
    return gy, gx


@everyday("h w")
def total_variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


@everyday("h w", "h w")
def peak_signal_to_noise(a, b):
    mse = np.mean((a - b) ** 2)
    return 20 * np.log10(1.0 / np.sqrt(mse))


@everyday(uniform("h w"), uniform("h w"))
def structural_similarity(a, b):
    ma, mb = a.mean(), b.mean()
    va, vb = a.var(), b.var()
    cab = ((a - ma) * (b - mb)).mean()
    c1, c2 = 0.01**2, 0.03**2
    return (2 * ma * mb + c1) * (2 * cab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))


@everyday(positive("h w"))
def center_of_mass(image):
    ys, xs = np.mgrid[:5, :6]
    part = image[:5, :6]
    return np.sum(ys * part) / part.sum(), np.sum(xs * part) / part.sum()


@everyday(positive("h w"))
def radial_profile(image):
    h, w = image.shape
    y, x = np.indices((h, w))
    r = np.sqrt((y - h / 2) ** 2 + (x - w / 2) ** 2)
    return (np.exp(-r) * image).sum() / np.exp(-r).sum()


@everyday("h w", uniform("m", 0, 3.9), uniform("m", 0, 3.9))
def bilinear_sample(image, y, x):
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - y0, x - x0
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


@everyday(uniform("h w 3"), uniform("h w 3"), uniform("h w"))
def alpha_blend(front, back, alpha):
    return alpha[..., None] * front + (1 - alpha[..., None]) * back


@everyday("h w")
def crop_and_pad(image):
    return np.pad(image[1:-1, 2:-2], ((1, 1), (2, 2)), constant_values=-1.0)


@everyday("h w")
def vignette(image):
    y = np.linspace(-1, 1, image.shape[0])
    x = np.linspace(-1, 1, image.shape[1])
    xx, yy = np.meshgrid(x, y)
    return image * (1 - 0.5 * (xx**2 + yy**2))


@everyday("h w 3", "3 4")
def batch_of_pixels(image, weights):
    flat = image.reshape(-1, 3)
    return np.maximum(flat @ weights, 0).reshape(image.shape[:2] + (4,))


@everyday("2 h w 3", "3 5")
def one_by_one_convolution(x, w):
    return np.tensordot(x, w, axes=([3], [0]))


@everyday("2 h w 3")
def normalize_batch(x):
    mean = x.mean(axis=(0, 1, 2), keepdims=True)
    var = x.var(axis=(0, 1, 2), keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


@everyday("h w", smooth=False)
def argmax_position(image):
    i, j = np.unravel_index(np.argmax(image), image.shape)
    return i, j


@everyday("h w", smooth=False)
def non_maximum(image):
    center = image[1:-1, 1:-1]
    around = [
        image[1 + i : image.shape[0] - 1 + i, 1 + j : image.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    return np.all([center >= a for a in around], axis=0)
