"""A tiny scan in exactly the files of ScanNet's release: rectangles before a wall, five frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokengroups.data.readers.scannet_files import matrix_text
from tokengroups.io.pixels import write_pixels

DEPTH_HW, PHOTO_HW = (48, 64), (121, 162)  # the factors of the two axes differ, as in ScanNet
FRAMES = (0, 1, 2, 3, 10)  # as text, 10 would come before 2
EVERY, USED = 2, (0, 2, 10)
FOCAL, CENTRE = (52.0, 50.0), (31.0, 24.5)  # of the depth maps, ScanNet's centre of the first pixel
LABEL_HEADER = (
    "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class\teigen13class\tModelNet40\tModelNet10\t"
    "ShapeNetCore55\tsynsetoffset\twnsynsetid\twnsynsetkey\tmpcat40\tmpcat40index"
)
LABELS = {  # raw id and NYU40 id
    "wall": (1, 1), "chair": (2, 5), "floor": (3, 2), "table": (4, 7), "office chair": (10, 5), "pillow": (13, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Rectangle:
    """An object that faces the cameras."""

    label: str
    x: tuple[float, float]
    y: tuple[float, float]
    z: float
    columns: int
    rows: int


RECTANGLES = (
    Rectangle("wall", (-2.5, 2.5), (-2, 2), 4.0, 26, 20),
    Rectangle("chair", (-1.1, -0.3), (-0.7, 0.6), 2.5, 17, 25),
    Rectangle("table", (0.3, 1.3), (-0.5, 0.5), 3.0, 21, 21),
    Rectangle("floor", (-0.6, 0.8), (0.9, 1.3), 3.3, 21, 9),
    Rectangle("pillow", (-0.1, 0.2), (-1.0, -0.7), 3.6, 7, 7),  # too few points to count
)
NAME = "scene0707_00"


def poses() -> dict[int, np.ndarray]:
    """Camera-to-world matrices: the cameras step to the right and turn to the left."""
    found = {}
    for step, frame in enumerate(FRAMES):
        angle = np.radians(6 * (step - 2))
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = [0.25 * (step - 2), 0.05 * step, 0.1 * step]
        found[frame] = pose
    return found


def points() -> tuple[np.ndarray, np.ndarray]:
    """Vertices of all rectangles, and the rectangle of each."""
    parts, owners = [], []
    for index, each in enumerate(RECTANGLES):
        x, y = np.meshgrid(np.linspace(*each.x, each.columns), np.linspace(*each.y, each.rows))
        parts.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, each.z)], axis=1))
        owners.append(np.full(x.size, index))
    return np.concatenate(parts).astype(np.float32).astype(np.float64), np.concatenate(owners)


def see(pose: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depth and rectangle of every pixel of a picture with the depth maps' field of view; -1 = nothing."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    x = (columns + 0.5) * DEPTH_HW[1] / size_hw[1] - 0.5 - CENTRE[0]
    y = (rows + 0.5) * DEPTH_HW[0] / size_hw[0] - 0.5 - CENTRE[1]
    rays = np.stack([x / FOCAL[0], y / FOCAL[1], np.ones(size_hw)], axis=-1) @ pose[:3, :3].T
    depth, owner = np.full(size_hw, np.inf), np.full(size_hw, -1)
    for index, each in enumerate(RECTANGLES):
        distance = (each.z - pose[2, 3]) / rays[..., 2]  # along a ray of depth 1: the z in the camera
        hit = pose[:3, 3] + distance[..., None] * rays
        inside = (hit[..., 0] >= each.x[0]) & (hit[..., 0] <= each.x[1])
        inside &= (hit[..., 1] >= each.y[0]) & (hit[..., 1] <= each.y[1]) & (distance < depth)
        depth[inside], owner[inside] = distance[inside], index
    return np.where(owner >= 0, depth, 0), owner


def segments() -> np.ndarray:
    """Superpoints: three columns of two on every rectangle, with numbers that fall and have gaps."""
    places, owners = points()
    corners = np.array([[each.x, each.y] for each in RECTANGLES])[owners]
    shares = (places[:, :2] - corners[..., 0]) / (corners[..., 1] - corners[..., 0])
    columns, rows = np.minimum(shares * [3, 2], [2, 1]).astype(np.int64).T
    return 9_000 - (owners * 400 + columns * 20 + rows) * 3


def write_replica(folder: Path, name: str = NAME) -> Path:
    """Write a scan with its exported frames, and the table of labels beside it."""
    scan = folder / name
    for part in ("color", "depth", "pose", "intrinsic"):
        (scan / part).mkdir(parents=True)
    _write_mesh(scan / f"{name}_vh_clean_2.ply")
    numbers, owners = segments(), points()[1]
    (scan / f"{name}_vh_clean_2.0.010000.segs.json").write_text(
        json.dumps({"params": {"kThresh": "0.0001"}, "sceneId": name, "segIndices": numbers.tolist()})
    )
    groups = [
        {"id": index, "objectId": index, "segments": np.unique(numbers[owners == index]).tolist(), "label": each.label}
        for index, each in enumerate(RECTANGLES)
    ]
    content = {"sceneId": f"scannet.{name}", "appId": "Aggregator.v2", "segGroups": groups}
    (scan / f"{name}.aggregation.json").write_text(json.dumps(content))
    (scan / f"{name}_vh_clean.aggregation.json").write_text(json.dumps({**content, "segGroups": groups[:1]}))
    rows = ["\t".join([str(raw), label, label, "1", str(nyu40), *[""] * 12]) for label, (raw, nyu40) in LABELS.items()]
    (folder / "scannetv2-labels.combined.tsv").write_text("\n".join([LABEL_HEADER, *rows]) + "\n")
    pinhole = np.eye(4)
    pinhole[0, 0], pinhole[1, 1], pinhole[:2, 2] = *FOCAL, CENTRE
    (scan / "intrinsic" / "intrinsic_depth.txt").write_text(matrix_text(pinhole))
    generator = np.random.default_rng(0)
    for frame, pose in poses().items():
        (scan / "pose" / f"{frame}.txt").write_text(matrix_text(pose))
        depth = see(pose, DEPTH_HW)[0]
        write_pixels(scan / "depth" / f"{frame}.png", np.round(depth * 1000).astype(np.uint16))
        colours = 40 + 40 * see(pose, PHOTO_HW)[1][..., None] + generator.integers(0, 30, (*PHOTO_HW, 3))
        write_pixels(scan / "color" / f"{frame}.jpg", colours.astype(np.uint8))
    return scan


def _write_mesh(path: Path) -> None:
    """A binary PLY with colours and faces."""
    places, owners = points()
    kinds = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]
    vertices = np.zeros(len(places), kinds)
    for axis, values in zip("xyz", places.T, strict=True):
        vertices[axis] = values
    vertices["red"], vertices["alpha"] = 40 * owners, 255
    faces = np.zeros(len(places) - 2, [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, np.arange(len(faces))[:, None] + np.arange(3)
    lines = ["ply", "format binary_little_endian 1.0", "comment VCGLIB generated", f"element vertex {len(places)}"]
    lines += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name, _ in kinds[3:]]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    path.write_bytes("\n".join(lines).encode() + b"\n" + vertices.tobytes() + faces.tobytes())
