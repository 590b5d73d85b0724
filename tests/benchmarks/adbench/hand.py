"""How far is a posed hand from measured points?  ADBench's hand tracking.

Twenty-two bones, each turned against the one before it by angles of the pose `theta`, move the
vertices of a mesh, which follow several bones with weights. A measured point belongs to a vertex
(simple), or to a place on a triangle given by two coordinates `us` of its own (complicated).

A vertex is linear in the bones' matrices: all vertices that are asked for are one matrix product,
of the matrices side by side with the weighted base positions. A column of the Jacobian is another
such product, so they are taken together: forward mode over the columns of the pose, of which those
of different fingers share a direction up to the matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILES = (
    *(f"simple_hand{i}" for i in ("1_t26_c100", "2_t26_c192", "5_t26_c800")),
    *(f"complicated_hand{i}" for i in ("1_t26_c100", "2_t26_c192", "5_t26_c800")),
)
FINGERS, JOINTS = 5, 4


def read(path: Path) -> dict[str, Any]:
    """A file of ADBench's with the model that lies beside it; `us` is there if complicated."""
    values = read_model(path.parent / "model")
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    count, angles = map(int, lines[0])
    values["correspondences"] = np.array([int(line[0]) for line in lines[1 : count + 1]])
    values["measured"] = np.array([list(map(float, line[1:4])) for line in lines[1 : count + 1]])
    if path.stem.startswith("complicated"):
        values["us"] = np.array([list(map(float, s)) for s in lines[count + 1 : 2 * count + 1]])
    values["theta"] = np.array([float(line[0]) for line in lines[-angles:]])
    return values


def read_model(folder: Path) -> dict[str, Any]:
    """Bones, each with its parent and two matrices; vertices with weights; triangles."""
    bones = [line.split(":") for line in (folder / "bones.txt").read_text().split()]
    vertices = [line.split(":") for line in (folder / "vertices.txt").read_text().split()]
    weights = np.zeros((len(vertices), len(bones)))
    for row, words in zip(weights, vertices, strict=True):
        for i in range(int(words[8])):
            row[int(words[9 + 2 * i])] = float(words[10 + 2 * i])
    matrices = np.array([words[2:34] for words in bones], float).reshape(-1, 2, 4, 4)
    triangles = [line.split(":") for line in (folder / "triangles.txt").read_text().split()]
    return {
        "parents": [int(words[1]) for words in bones],
        "relatives": matrices[:, 0],
        "inverses": matrices[:, 1],
        "positions": np.array([[*words[:3], 1] for words in vertices], float),
        "weights": weights,
        "triangles": np.array(triangles, int),
    }


def generations(parents: Sequence[int]) -> list[list[int]]:
    """The bones by how many are between them and the root, so that those of one are independent."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[i for i, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def places_of_angles(bones: int) -> np.ndarray:
    """Which angle of the pose each bone has as flexion and abduction; one past the last for none.

    The first six are the rotation and the translation of the whole hand. Of each finger the first
    bone has two angles, the next two have one, the last has none.
    """
    found = np.full((bones, 2), -1)
    angle = 6
    for finger in range(FINGERS):
        for joint in range(JOINTS - 1):
            bone = 2 + finger * JOINTS + joint
            found[bone, 0], angle = angle, angle + 1
            if joint == 0:
                found[bone, 1], angle = angle, angle + 1
    return np.where(found < 0, angle, found)


def turned(lib: Any, flexion: Any, abduction: Any) -> Any:
    """The rotations Rz(abduction) Rx(flexion), [bones, 3, 3]."""
    c, s = lib.cos(flexion), lib.sin(flexion)
    d, t = lib.cos(abduction), lib.sin(abduction)
    zero = 0 * c
    rows = [d, -t * c, t * s, t, d * c, -d * s, zero, s, c]
    return lib.reshape(lib.stack(rows, axis=1), (-1, 3, 3))


def rotation(lib: Any, axis: Any) -> Any:
    """Rodrigues' rotation about an axis by its length, [3, 3]."""
    x, y, z = (axis[i] for i in range(3))
    angle = lib.sqrt(x * x + y * y + z * z)
    x, y, z = x / angle, y / angle, z / angle
    s, c = lib.sin(angle), lib.cos(angle)
    rows = [
        *(x * x + (1 - x * x) * c, x * y * (1 - c) - z * s, x * z * (1 - c) + y * s),
        *(x * y * (1 - c) + z * s, y * y + (1 - y * y) * c, y * z * (1 - c) - x * s),
        *(x * z * (1 - c) - y * s, z * y * (1 - c) + x * s, z * z + (1 - z * z) * c),
    ]
    return lib.reshape(lib.stack(rows), (3, 3))


def bone_matrices(lib: Any, theta: Any, relatives: Any, inverses: Any, parents: Sequence[int]
                  ) -> Any:  # fmt: skip
    """What each bone does to the base positions: rotations [bones, 3, 3], shifts [bones, 3]."""
    extended = lib.concatenate([theta, lib.zeros(1)])
    angles = extended[places_of_angles(len(parents))]
    turns = turned(lib, angles[:, 0], angles[:, 1])
    relative = lib.matmul(relatives[:, :3, :3], turns)
    shifts = relatives[:, :3, 3]
    turn, shift, order = [], [], []
    for level in generations(parents):
        own, moved = relative[np.array(level)], shifts[np.array(level)]
        if order:
            above = np.array([order.index(parents[i]) for i in level])
            parent = lib.concatenate(turn)[above]
            moved = lib.concatenate(shift)[above] + lib.matmul(parent, moved[:, :, None])[:, :, 0]
            own = lib.matmul(parent, own)
        turn.append(own)
        shift.append(moved)
        order += level
    back = np.argsort(order)
    absolute, moved = lib.concatenate(turn)[back], lib.concatenate(shift)[back]
    whole = lib.matmul(absolute, inverses[:, :3, :3])
    return whole, lib.matmul(absolute, inverses[:, :3, 3:])[:, :, 0] + moved


def differences(
    lib: Any, theta: Any, us: Any, relatives: Any, inverses: Any, positions: Any, weights: Any,
    triangles: Any, correspondences: Any, measured: Any, parents: Sequence[int],
) -> Any:  # fmt: skip
    """Measured points less those of the posed hand, [points, 3]. `us` is None if simple."""
    turns, shifts = bone_matrices(lib, theta, relatives, inverses, parents)
    every = lib.concatenate([turns, shifts[:, :, None]], axis=2)
    globally = rotation(lib, theta[:3])
    moving = lib.reshape(lib.swapaxes(lib.matmul(globally, every), 1, 2), (-1, 3))
    base = weights[:, :, None] * positions[:, None, :]
    base = lib.reshape(base, (base.shape[0], -1))
    if us is None:
        asked = base[correspondences]
    else:
        corners = triangles[correspondences]
        first, second = us[:, 0:1], us[:, 1:2]
        asked = first * base[corners[:, 0]] + second * base[corners[:, 1]]
        asked = asked + (1 - first - second) * base[corners[:, 2]]
    return measured - (lib.matmul(asked, moving) + theta[3:6])


def of_graphc(theta: Any, us: Any = None, **values: Any) -> Any:
    """The objective as a graph."""
    import graphc as gx

    return differences(gx, theta, us, **values)


def jacobian_of_graphc(theta: Any, us: Any = None, **values: Any) -> Any:
    """[points, 3, 26], or [points, 3, 28] with the two columns by a point's own coordinates first.
    """
    import graphc as gx

    value = of_graphc(theta, us, **values)
    found = gx.jacobian(value, theta)
    if us is None:
        return found
    own = gx.vmap(lambda tangent: gx.jvp(value, us, tangent), out_axes=2)(
        gx.broadcast_to(gx.expand_dims(gx.eye(2), 1), (2, *us.shape))
    )
    return gx.concatenate([own, found], axis=2)


def of_jax(theta: Any, us: Any = None, **values: Any) -> Any:
    """The objective in JAX."""
    import jax.numpy as jnp

    return differences(jnp, theta, us, **values)


def jacobian_of_jax(theta: Any, us: Any = None, **values: Any) -> Any:
    """The Jacobian in JAX."""
    import jax
    import jax.numpy as jnp

    def by_theta(tangent: Any) -> Any:
        return jax.jvp(lambda t: of_jax(t, us, **values), (theta,), (tangent,))[1]

    found = jax.vmap(by_theta, out_axes=2)(jnp.eye(theta.shape[0]))
    if us is None:
        return found

    def by_us(tangent: Any) -> Any:
        whole = jnp.broadcast_to(tangent, us.shape)
        return jax.jvp(lambda u: of_jax(theta, u, **values), (us,), (whole,))[1]

    return jnp.concatenate([jax.vmap(by_us, out_axes=2)(jnp.eye(2)), found], axis=2)


def by_hand(theta: Any, us: Any = None, **values: Any) -> Any:
    """The objective in NumPy."""
    return differences(np, theta, us, **values)
