"""Where do cameras see points?  Bundle adjustment, ADBench's BA: many small residuals.

A residual depends on one camera, one point and one weight, so the Jacobian is sparse: for each
observation two rows of 15 entries, and one entry for its weight. It is stated for one observation
and mapped over all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PARAMETERS = ("cameras", "points", "weights")
FILES = ("ba1_n49_m7776_p31843", "ba2_n21_m11315_p36455")
CAMERA = 11


def read(path: Path) -> dict[str, Any]:
    """A file of ADBench's holds one camera, point, weight and feature, which are repeated."""
    sizes, camera, point, weight, feature = path.read_text().splitlines()[:5]
    return repeated(
        *map(int, sizes.split()),
        *([float(word) for word in line.split()] for line in (camera, point, weight, feature)),
    )


def repeated(n: int, m: int, p: int, camera: Any, point: Any, weight: Any, feature: Any
             ) -> dict[str, Any]:  # fmt: skip
    """`n` cameras, `m` points and `p` observations, each like the one given, seen in turn."""
    number = np.arange(p)
    return {
        "cameras": np.tile(np.array(camera, float), (n, 1)),
        "points": np.tile(np.array(point, float), (m, 1)),
        "weights": np.tile(np.array(weight, float).reshape(-1), p),
        "features": np.tile(np.array(feature, float), (p, 1)),
        "camera_of": number % n,
        "point_of": number % m,
    }


def residual(lib: Any, camera: Any, point: Any, weight: Any, feature: Any) -> tuple[Any, Any]:
    """The weighted difference of where a camera sees a point and where it was seen.

    A camera is a rotation (axis times angle, Rodrigues' formula), its centre, focal length,
    principal point and two coefficients of radial distortion.
    """
    a, b, c = (camera[i] for i in range(3))
    x, y, z = (point[i] - camera[3 + i] for i in range(3))
    angle = lib.sqrt(a * a + b * b + c * c)
    a, b, c = a / angle, b / angle, c / angle
    cosine, sine = lib.cos(angle), lib.sin(angle)
    along = (a * x + b * y + c * z) * (1 - cosine)
    seen_x = x * cosine + (b * z - c * y) * sine + a * along
    seen_y = y * cosine + (c * x - a * z) * sine + b * along
    depth = z * cosine + (a * y - b * x) * sine + c * along
    u, v = seen_x / depth, seen_y / depth
    radius = u * u + v * v
    scale = camera[6] * (1 + radius * (camera[9] + radius * camera[10]))
    return (
        weight * (u * scale + camera[7] - feature[0]),
        weight * (v * scale + camera[8] - feature[1]),
    )


def residuals(lib: Any, vmap: Any, cameras: Any, points: Any, weights: Any, features: Any,
              camera_of: Any, point_of: Any) -> list[Any]:  # fmt: skip
    """The residuals of all observations [p, 2], and of their weights [p]."""

    def one(*given: Any) -> Any:
        return lib.stack(residual(lib, *given))

    seen = vmap(one)(cameras[camera_of], points[point_of], weights, features)
    return [seen, 1 - weights * weights]


def of_graphc(**values: Any) -> list[Any]:
    """The objective as a graph."""
    import graphc as gx

    return residuals(gx, gx.vmap, **values)


def jacobian_of_graphc(
    cameras: Any, points: Any, weights: Any, features: Any, camera_of: Any, point_of: Any
) -> list[Any]:
    """Of each observation two rows [p, 2, 15], by camera, point and weight; and of the residual of
    its weight the derivative [p].
    """
    import graphc as gx

    def rows(camera: Any, point: Any, weight: Any, feature: Any) -> Any:
        found = []
        for value in residual(gx, camera, point, weight, feature):
            by_camera, by_point, by_weight = gx.grad(value, (camera, point, weight))
            found += [by_camera, by_point, gx.reshape(by_weight, 1)]
        return gx.reshape(gx.concatenate(found), (2, CAMERA + 4))

    blocks = gx.vmap(rows)(cameras[camera_of], points[point_of], weights, features)
    return [blocks, -2 * weights]


def of_jax(**values: Any) -> list[Any]:
    """The objective in JAX."""
    import jax
    import jax.numpy as jnp

    return residuals(jnp, jax.vmap, **values)


def jacobian_of_jax(
    cameras: Any, points: Any, weights: Any, features: Any, camera_of: Any, point_of: Any
) -> list[Any]:
    """The same blocks in JAX."""
    import jax
    import jax.numpy as jnp

    def one(given: Any, feature: Any) -> Any:
        camera, point, weight = given[:CAMERA], given[CAMERA : CAMERA + 3], given[CAMERA + 3]
        return jnp.stack(residual(jnp, camera, point, weight, feature))

    joined = jnp.concatenate([cameras[camera_of], points[point_of], weights[:, None]], axis=1)
    return [jax.vmap(jax.jacrev(one))(joined, features), -2 * weights]


def by_hand(
    cameras: Any, points: Any, weights: Any, features: Any, camera_of: Any, point_of: Any
) -> list[Any]:
    """The objective in NumPy, over all observations at once."""
    seen = residual(np, cameras[camera_of].T, points[point_of].T, weights, features.T)
    return [np.stack(seen, axis=1), 1 - weights * weights]


def sparse(values: dict[str, Any], blocks: Any, by_weight: Any) -> dict[str, np.ndarray]:
    """The whole Jacobian in compressed rows: where rows begin, columns and values.

    Columns are all cameras' parameters, then all points', then all weights.
    """
    n, m, p = len(values["cameras"]), len(values["points"]), len(by_weight)
    by_camera = CAMERA * values["camera_of"][:, None] + np.arange(CAMERA)
    by_point = CAMERA * n + 3 * values["point_of"][:, None] + np.arange(3)
    last = CAMERA * n + 3 * m + np.arange(p)
    columns = np.concatenate([by_camera, by_point, last[:, None]], axis=1)
    width = columns.shape[1]
    entries = np.concatenate([width * np.arange(2 * p), 2 * width * p + np.arange(p + 1)])
    return {
        "rows": entries,
        "cols": np.concatenate([np.repeat(columns, 2, axis=0).ravel(), last]),
        "vals": np.concatenate([np.ravel(blocks), by_weight]),
    }
