"""Invariance to the photos' order, to a photo given twice, and to other scenes in the batch.

Part of ``python benchmarks/views.py --sections invariances``. Every scene has four photos, numbered along the path; a
case reconstructs it from some of them in two ways and scores both on the same target views. How far the second
reconstruction lies from the first is told by what does not depend on the choice of the world: depth and points
after one scale, and camera motions between the photos.

If only the later photos change places, the network computes the same sums in another order, but the anchors are
chosen one by one, and a near tie broken otherwise changes all that follow. If the first photo changes, the world
does, and a network may answer differently. Groups are compared as sets: which token holds an object is no matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from quality import interval
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from tokengroups.data.example import Example, FramePlan
from tokengroups.encoders import Geometry
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.geometry_metrics import geometry_metrics
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.geometry import invert_rigid
from tokengroups.postprocess import Reconstruction
from tokengroups.scene.views import render_views, select_cameras
from tokengroups.systems import SceneSystem

NUM_PHOTOS = 4
SCORES = ("psnr", "ap_all", "ap_objects", "point_error", "groups_used")
BATCHES = (2, 4)  # photos a scene


@dataclass(frozen=True)
class Case:
    """Two ways of handing photos over, by their numbers along the path."""

    name: str
    usual: tuple[int, ...]
    other: tuple[int, ...]


CASES = (
    Case("4 photos, order changed, first stays", (0, 1, 2, 3), (0, 3, 2, 1)),
    Case("4 photos, last one first", (0, 1, 2, 3), (3, 0, 1, 2)),
    Case("2 photos, exchanged", (1, 2), (2, 1)),
    Case("1 photo, given twice", (1,), (1, 1)),
    Case("1 photo, given four times", (1,), (1, 1, 1, 1)),
)


def measure_invariances(model: SceneSystem, scenes: Iterable[Example]) -> dict[str, dict[str, float]]:
    """Numbers of every case and batch size: differences and means over the scenes."""
    scenes = list(scenes)
    results = {case.name: measure_case(model, scenes, case) for case in CASES}
    for photos in BATCHES:
        images = torch.stack([scene.context.images[:photos] for scene in scenes])
        pairs = [batch_difference(model, pair) for pair in images.split(2) if len(pair) == 2]
        if pairs:
            results[f"batch of two, {photos} photos"] = _means(pairs)
    return results


def measure_case(model: SceneSystem, scenes: Sequence[Example], case: Case) -> dict[str, float]:
    """Scores of the second way minus those of the first, and how far the reconstructions are apart."""
    first, usual = score(model, scenes, case.usual)
    second, other = score(model, scenes, case.other)
    apart = [distance(*pair, case) for pair in zip(first, second, strict=True)]
    return {f"{name}, usual": usual[name] for name in SCORES} | {
        f"{name}, change": other[name] - usual[name] for name in SCORES
    } | _means(apart)  # fmt: skip


def score(
    model: SceneSystem, scenes: Sequence[Example], order: tuple[int, ...]
) -> tuple[list[Reconstruction], dict[str, Any]]:
    """Reconstructions from the photos in this order, and their scores."""
    reconstructions: list[Reconstruction] = []

    def predict(images: Tensor) -> Reconstruction:
        reconstructions.append(model.predict(images))
        return reconstructions[-1]

    arranged = (replace(scene, context=scene.context.select(list(order))) for scene in scenes)
    result = evaluate_scenes(predict, arranged, EvaluationData("procedural", FramePlan(len(order))), "")
    return reconstructions, result.to_json()


def distance(first: Reconstruction, second: Reconstruction, case: Case) -> dict[str, float]:
    """How far two reconstructions are apart; a photo of the second one stands at `place` in the first."""
    place = [case.usual.index(photo) for photo in case.other]
    cameras = select_cameras(first.scene.cameras, place)
    apart = asdict(geometry_metrics(second.depth, second.scene.cameras, first.depth[place], cameras))
    pixels = second.anchor_pixels.clone()
    pixels[:, 0] = torch.tensor(place)[pixels[:, 0]]
    groups = _group_of_pixel(first.anchor_pixels, first.scene.assignment)
    others = _group_of_pixel(pixels, second.scene.assignment)
    common = groups.keys() & others.keys()
    maps = [
        next(iter(render_views(each.scene, select_cameras(each.scene.cameras, [view])))).group_map
        for each, view in ((first, place[0]), (second, 0))
    ]
    centres = invert_rigid(second.scene.cameras.cam_from_world)[:, :3, 3]
    return {
        "finite": float(all(value.isfinite().all() for value in (second.depth, *_parts(second)))),
        "depth apart": apart["depth_absrel"],
        "points apart": apart["point_error"],
        "rotations apart (deg)": apart["rotation_error_deg"],
        "directions apart (deg)": apart["translation_error_deg"],
        "widest baseline / mean depth": float((centres - centres[0]).norm(dim=-1).max() / second.depth.mean()),
        "other anchors": 1 - len(common) / len(pixels),
        "same anchors in another group": regrouped([groups[key] for key in common], [others[key] for key in common]),
        "pixels of photo 1 in another group": regrouped(*(each.flatten().tolist() for each in maps)),
    }  # fmt: skip


def regrouped(first: Sequence[int], second: Sequence[int]) -> float:
    """Share of things that another group holds, after the groups are matched one to one as well as they can be."""
    if not first:
        return float("nan")
    rows, columns = (np.unique(ids, return_inverse=True)[1] for ids in (first, second))
    shared = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(shared, (rows, columns), 1)
    return float(1 - shared[linear_sum_assignment(shared, maximize=True)].sum() / len(first))


@torch.no_grad()
def batch_difference(model: SceneSystem, images: Tensor) -> dict[str, float]:
    """Largest differences between a batch of two scenes [2,V,3,H,W] and the same scenes one by one."""
    together, geometry = decode(model, images)
    alone = [decode(model, photos[None]) for photos in images]
    depth = torch.cat([each.depth for _, each in alone])
    poses = torch.cat([each.cameras.cam_from_world for _, each in alone])
    batched = [_group_of_pixel(*each) for each in zip(together.anchor_pixels, together.assignment, strict=True)]
    single = [_group_of_pixel(each.anchor_pixels[0], each.assignment[0]) for each, _ in alone]
    common = [(a[key], b[key]) for a, b in zip(batched, single, strict=True) for key in a.keys() & b.keys()]
    return {
        "largest relative change of depth": float(((geometry.depth - depth) / depth).abs().max()),
        "largest change of a pose's entries": float((geometry.cameras.cam_from_world - poses).abs().max()),
        "other anchors": 1 - len(common) / sum(map(len, single)),
        "same anchors in another group": fmean(a != b for a, b in common) if common else float("nan"),
    }


def decode(model: SceneSystem, images: Tensor) -> tuple[Any, Geometry]:
    """Predictions for a batch without the steps after decoding, and the geometry they were made from."""
    geometry, network = model.encode_batch(images), model.network
    assert isinstance(network, nn.Module)
    return network(images, geometry), geometry


def print_invariances(runs: Sequence[dict[str, dict[str, float]]]) -> None:
    """Cases, then batches, a column each, as Markdown: means over the seeds with 95 % intervals."""
    cases = [case.name for case in CASES]
    for names in (cases, [name for name in runs[0] if name not in cases]):
        if not names:
            continue
        print(f"\n| | {' | '.join(names)} |\n|---|{'--:|' * len(names)}")
        for key in runs[0][names[0]]:
            cells = [cell([run[name][key] for run in runs]) for name in names]
            print(f"| {key} | {' | '.join(cells)} |")


def cell(values: Sequence[float | None]) -> str:
    """Mean and half of the 95 % interval; `-` where a run has no value."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    if not np.isfinite(numbers).all():
        return "-"
    mean, half = interval(numbers)
    size = max(abs(mean), half)
    style = ".1e" if 0 < size < 0.001 else ".3f" if size < 10 else ".2f" if size < 1000 else ",.0f"
    return f"{mean:{style}} ± {half:{style}}" if half > 0 else f"{mean:{style}}"


def _group_of_pixel(pixels: Tensor, assignment: Tensor) -> dict[tuple[int, ...], int]:
    """Which group the anchor of a photo's pixel (view, row, column) belongs to."""
    return dict(zip(map(tuple, pixels.tolist()), assignment.argmax(dim=-1).tolist(), strict=True))


def _parts(reconstruction: Reconstruction) -> tuple[Tensor, ...]:
    scene = reconstruction.scene
    gaussians = scene.gaussians
    return (scene.cameras.cam_from_world, scene.assignment, *(vars(gaussians).values()))


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Over the rows where there is a value."""
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return {key: float(np.nan if np.isnan(column).all() else np.nanmean(column)) for key, column in columns.items()}
