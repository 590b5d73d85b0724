"""What do people compute about points?  Rotations, areas, angles, projections, curves."""

from __future__ import annotations

import numpy as np

from tests.everyday.case import everyday, integers, number, positive, uniform


@everyday("n 2", "")
def rotate(points, theta):
    c, s = np.cos(theta), np.sin(theta)
    rotation = np.array([[c, -s], [s, c]])
    return points @ rotation.T


@everyday("3 3", "3")
def rotation_about_axis(points, axis):
    axis = axis / np.linalg.norm(axis)
    angle = np.pi / 5
    cross = np.cross(axis, points)
    dot = (points * axis).sum(axis=1, keepdims=True)
    return points * np.cos(angle) + cross * np.sin(angle) + axis * dot * (1 - np.cos(angle))


@everyday("n 2")
def polygon_area(vertices):
    x, y = vertices.T
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


@everyday("n 2")
def polygon_centroid(vertices):
    x, y = vertices[:, 0], vertices[:, 1]
    xn, yn = np.roll(x, -1), np.roll(y, -1)
    cross = x * yn - xn * y
    area = cross.sum() / 2
    return np.stack([((x + xn) * cross).sum(), ((y + yn) * cross).sum()]) / (6 * area)


@everyday("n 2")
def perimeter(vertices):
    return np.linalg.norm(np.roll(vertices, -1, axis=0) - vertices, axis=1).sum()


@everyday("n 3")
def curve_length(points):
    return np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)).sum()


@everyday("n 3", integers("m 3", 0, 6))
def triangle_normals(vertices, faces):
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(b - a, c - a)


@everyday("n 3", smooth=(0,))
def mesh_area(vertices):
    tri = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4]])
    corners = vertices[tri]
    u = corners[:, 1] - corners[:, 0]
    v = corners[:, 2] - corners[:, 0]
    return 0.5 * np.linalg.norm(np.cross(u, v), axis=-1).sum()


@everyday("n 3", "n 3")
def angle_between(u, v):
    cosine = np.einsum("ij,ij->i", u, v)
    cosine = cosine / (np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1))
    return np.arccos(np.clip(cosine, -1.0, 1.0))


@everyday("n 3")
def to_spherical(p):
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    r = np.sqrt(x**2 + y**2 + z**2)
    return np.stack((r, np.arccos(z / r), np.arctan2(y, x)), axis=-1)


@everyday(positive("n"), uniform("n", 0, 3), uniform("n", 0, 6))
def from_spherical(r, theta, phi):
    return np.column_stack(
        [r * np.sin(theta) * np.cos(phi), r * np.sin(theta) * np.sin(phi), r * np.cos(theta)]
    )


@everyday(uniform("n 2", -1.2, 1.2), uniform("n 2", -1.2, 1.2))
def great_circle(a, b):
    lat1, lon1 = a[:, 0], a[:, 1]
    lat2, lon2 = b[:, 0], b[:, 1]
    h = np.sin((lat2 - lat1) / 2) ** 2
    h += np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371.0 * np.arcsin(np.sqrt(h))


@everyday("4", "n 3")
def rotate_by_quaternion(q, v):
    q = q / np.sqrt(np.sum(q**2))
    w, u = q[0], q[1:]
    t = 2 * np.cross(u, v)
    return v + w * t + np.cross(u, t)


@everyday("4", "4")
def quaternion_product(p, q):
    a1, b1, c1, d1 = p
    a2, b2, c2, d2 = q
    return np.array(
        [
            a1 * a2 - b1 * b2 - c1 * c2 - d1 * d2,
            a1 * b2 + b1 * a2 + c1 * d2 - d1 * c2,
            a1 * c2 - b1 * d2 + c1 * a2 + d1 * b2,
            a1 * d2 + b1 * c2 - c1 * b2 + d1 * a2,
        ]
    )


@everyday("3")
def skew_matrix(v):
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


@everyday("n 3", "3", "3")
def distance_to_plane(points, origin, normal):
    unit = normal / np.linalg.norm(normal)
    return np.abs((points - origin) @ unit)


@everyday("n 2", "2", "2")
def project_onto_segment(points, a, b):
    ab = b - a
    t = ((points - a) @ ab) / (ab @ ab)
    t = np.clip(t, 0, 1)
    return a + t[:, None] * ab


@everyday("n 2", smooth=False)
def inside_triangle(p):
    a, b, c = np.array([0.0, 0.0]), np.array([2.0, 0.0]), np.array([0.0, 2.0])

    def side(p, q, r):
        return (p[..., 0] - r[0]) * (q[1] - r[1]) - (q[0] - r[0]) * (p[..., 1] - r[1])

    d1, d2, d3 = side(p, a, b), side(p, b, c), side(p, c, a)
    negative = (d1 < 0) | (d2 < 0) | (d3 < 0)
    positive = (d1 > 0) | (d2 > 0) | (d3 > 0)
    return ~(negative & positive)


@everyday("n 2", smooth=False)
def inside_polygon(points):
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
    inside = np.zeros(len(points), dtype=bool)
    for i in range(4):
        x1, y1 = square[i]
        x2, y2 = square[(i + 1) % 4]
        crosses = (y1 > points[:, 1]) != (y2 > points[:, 1])
        at = x1 + (points[:, 1] - y1) / (y2 - y1 + 1e-30) * (x2 - x1)
        inside ^= crosses & (points[:, 0] < at)
    return inside


@everyday("n 3")
def homogeneous_transform(points):
    matrix = np.eye(4)
    matrix[:3, 3] = [1.0, 2.0, 3.0]
    ones = np.ones((points.shape[0], 1))
    return (np.hstack([points, ones]) @ matrix.T)[:, :3]


@everyday(positive("n 3"), number(500.0))
def pinhole_projection(points, focal):
    return focal * points[:, :2] / points[:, 2:] + np.array([320.0, 240.0])


@everyday("4 2")
def bezier_cubic(control):
    t = np.linspace(0, 1, 11)[:, None]
    p0, p1, p2, p3 = control
    return (
        (1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3
    )


@everyday("5 2")
def de_casteljau(points):
    t = 0.3
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    return points[0]


@everyday("n 2")
def signed_turns(path):
    d = np.diff(path, axis=0)
    cross = d[:-1, 0] * d[1:, 1] - d[:-1, 1] * d[1:, 0]
    dot = np.sum(d[:-1] * d[1:], axis=1)
    return np.arctan2(cross, dot)


@everyday("n 2")
def bounding_box(points):
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


@everyday("n 4", smooth=False)
def box_overlap(boxes):
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    top = np.minimum(high[:, None], high[None])
    bottom = np.maximum(low[:, None], low[None])
    inter = np.prod(np.clip(top - bottom, 0, None), axis=-1)
    area = np.prod(high - low, axis=1)
    return inter / (area[:, None] + area - inter)


@everyday("2 2", "2 2")
def line_intersection(p, q):
    d1, d2 = p[1] - p[0], q[1] - q[0]
    det = d1[0] * d2[1] - d1[1] * d2[0]
    w = q[0] - p[0]
    t = (w[0] * d2[1] - w[1] * d2[0]) / det
    return p[0] + t * d1


@everyday("3", "3", "3")
def circumradius(a, b, c):
    la, lb, lc = (np.linalg.norm(s) for s in (b - c, c - a, a - b))
    s = (la + lb + lc) / 2
    return la * lb * lc / (4 * np.sqrt(s * (s - la) * (s - lb) * (s - lc)))


@everyday("n 3", "m 3")
def nearest_point(cloud, queries):
    d2 = ((queries[:, None, :] - cloud[None, :, :]) ** 2).sum(-1)
    return cloud[np.argmin(d2, axis=1)], np.sqrt(d2.min(axis=1))


@everyday("n 2")
def align_to_first_axis(points):
    centered = points - points.mean(axis=0)
    cxx, cyy = (centered**2).mean(axis=0)
    cxy = np.mean(centered[:, 0] * centered[:, 1])
    theta = 0.5 * np.arctan2(2 * cxy, cxx - cyy)
    c, s = np.cos(theta), np.sin(theta)
    return centered @ np.array([[c, -s], [s, c]])


@everyday("n 2", smooth=False)
def sort_by_angle(points):
    center = points.mean(0)
    angles = np.arctan2(points[:, 1] - center[1], points[:, 0] - center[0])
    return points[np.argsort(angles)]
