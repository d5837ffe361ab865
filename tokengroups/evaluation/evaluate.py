"""Evaluating a reconstruction model on scenes with known views, depth and instances.

Context photos go to the model without cameras; the target views are then rendered from their true cameras,
expressed in the frame of the first context camera and multiplied by one scale per scene, which comes from the
context views' points. No target pixel touches the reconstruction or the cameras. Three groupings of the same
Gaussians are scored from one rendering: the model's, the oracle's and the planes + HDBSCAN baseline's. It also
carries the residuals that, with the groups' embeddings, say what a pixel means.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.data.example import Example
from tokengroups.errors import UserError
from tokengroups.evaluation.alignment import target_cameras
from tokengroups.evaluation.clustering import planes_hdbscan
from tokengroups.evaluation.geometry_metrics import GeometryMetrics, geometry_metrics, summarise
from tokengroups.evaluation.masks import GroupMasks, GroupOverlaps, group_masks, group_overlaps, group_scores
from tokengroups.evaluation.metrics import Metric, mean_over_scenes
from tokengroups.evaluation.protocol import EvaluationData, Protocol, make_protocol
from tokengroups.evaluation.results import EvaluationResult, SceneResult
from tokengroups.evaluation.semantic import SemanticEvaluation, measure_semantics
from tokengroups.evaluation.semantic_scores import SceneSemantics, summarise_semantics
from tokengroups.losses.perceptual import Lpips
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.postprocess import Reconstruction
from tokengroups.render import RenderOutput, render
from tokengroups.ties import ascending
from tokengroups.types import Cameras, Views

Predict = Callable[..., Reconstruction]  # photos [V,3,H,W], and `intrinsics` where they are known
_SAME_DISTANCE = 1e-6  # of the largest: cameras on a line or a circle are equally near but for rounding


@dataclass(frozen=True)
class _Measured:
    """One scene's numbers and what is pooled over the scenes."""

    result: SceneResult
    model: GroupOverlaps
    oracle: GroupOverlaps
    planes_hdbscan: GroupOverlaps
    semantics: SceneSemantics | None
    postprocess: tuple[str, ...]  # names of the steps


@dataclass(frozen=True)
class _Rendered:
    """The target views: colours, masks by three groupings, and the coefficients of meaning if there is any."""

    output: RenderOutput
    model: GroupMasks
    oracle: GroupMasks
    planes_hdbscan: GroupMasks
    coefficients: Float[Tensor, "T H W n"] | None


@torch.no_grad()
def evaluate_scenes(
    predict: Predict,
    scenes: Iterable[Example],
    data: EvaluationData,
    weights: str,
    perceptual: Lpips | None = None,
    semantics: SemanticEvaluation | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> EvaluationResult:
    """Reconstruct, render and score every scene.

    Args:
        predict: Photos [V,3,H,W] in [0,1] to a reconstruction whose world is the first photo's camera; takes the
            keyword `intrinsics` [V,3,3] if they are given.
        scenes: At least one unbatched example with its name and classes, consumed one by one.
        data: What the scenes are; for the protocol.
        weights: Name of the model's weights; for the protocol.
        perceptual: LPIPS with real trunk weights; None or a random trunk leave LPIPS out.
        semantics: Encoder and vocabulary to measure meaning with; None, or a model without meaning, leave it out.
        metrics: Further metrics by their names.

    Raises:
        ValueError: If there is no scene.
        UserError: If the depth of a scene is unknown.
    """
    if perceptual is not None and perceptual.trunk_is_random:
        perceptual = None
    measured, digest, size_hw = [], hashlib.sha256(), (0, 0)
    for scene in scenes:
        for views in (scene.context, scene.targets):
            digest.update(views.images.cpu().numpy().tobytes())
            digest.update(views.group_ids.cpu().numpy().tobytes())
        size_hw = scene.targets.cameras.size_hw
        given = {"intrinsics": scene.context.cameras.intrinsics} if data.given_intrinsics else {}
        measured.append(_evaluate_scene(partial(predict, **given), scene, perceptual, semantics, metrics or {}))
    if not measured:
        raise ValueError("no scene to evaluate")
    names = [scene.result.name for scene in measured]
    lpips_trunk = None if perceptual is None else perceptual.trunk
    with_meaning = any(scene.semantics is not None for scene in measured)
    vocabulary = semantics.vocabulary if semantics is not None and with_meaning else None
    steps = measured[0].postprocess
    protocol = make_protocol(data, weights, names, size_hw, digest.hexdigest(), lpips_trunk, vocabulary, steps)
    return _summarise(measured, protocol)


def oracle_groups(
    group_ids: Int64[Tensor, "V H W"], anchor_pixels: Int64[Tensor, "K 3"]
) -> tuple[Float[Tensor, "K M"], Int64[Tensor, " M"]]:
    """Give every anchor the true instance at the photo pixel it was taken from: the ceiling of any grouping.

    Args:
        group_ids: True instances of the context views.
        anchor_pixels: View, row and column of every anchor's photo pixel.

    Returns:
        One-hot assignment, and the instance id of every column (-1 = unlabelled, if an anchor is).
    """
    ids, column = group_ids[anchor_pixels.unbind(-1)].unique(return_inverse=True)
    return functional.one_hot(column, len(ids)).float(), ids


def nearest_view_psnr(context: Views, targets: Views) -> float:
    """Mean PSNR of answering each target with the context photo whose camera centre is nearest; the first of equals."""
    centres = [torch.linalg.inv(views.cameras.cam_from_world.double())[:, :3, 3] for views in (context, targets)]
    distances = torch.linalg.vector_norm(centres[1][:, None] - centres[0], dim=-1).cpu().numpy()
    nearest = [int(ascending(row, _SAME_DISTANCE * float(distances.max()), 1)[0]) for row in distances]
    return psnr(context.images[nearest], targets.images).mean().item()


def _evaluate_scene(
    predict: Predict,
    scene: Example,
    perceptual: Lpips | None,
    evaluation: SemanticEvaluation | None,
    metrics: Mapping[str, Metric],
) -> _Measured:
    if not bool((scene.context.depth > 0).any()):
        raise UserError(f"scene {scene.names[0]}: its depth is unknown, so the scale of its cameras is too; add depth")
    prediction, seconds = _timed(predict, scene.context.images)
    device = prediction.depth.device
    context, targets = scene.context.to(device), scene.targets.to(device)
    cameras, scale = target_cameras(prediction, context, targets.cameras)
    rendered = _render_groupings(prediction, context.group_ids, cameras)
    images = rearrange(rendered.output.colors, "t h w c -> t c h w").clamp(0, 1)
    overlaps = [
        group_overlaps(masks, targets.group_ids.cpu().numpy(), scene.classes[0])
        for masks in (rendered.model, rendered.oracle, rendered.planes_hdbscan)
    ]
    semantics = None
    if evaluation is not None and rendered.coefficients is not None:
        semantics = measure_semantics(evaluation, prediction.scene, scene, rendered.coefficients, rendered.model.masks)
    result = SceneResult(
        name=scene.names[0],
        psnr=psnr(images, targets.images).mean().item(),
        ssim=ssim(images.double(), targets.images.double()).float().mean().item(),
        lpips=None if perceptual is None else perceptual(images, targets.images).mean().item(),
        psnr_nearest_view=nearest_view_psnr(context, targets),
        groups=group_scores(overlaps[:1]),
        geometry=geometry_metrics(prediction.depth, prediction.scene.cameras, context.depth, context.cameras),
        scale=scale,
        groups_used=rendered.model.num_large,
        seconds=seconds,
        semantics=None if semantics is None else summarise_semantics([semantics]),
        metrics={name: metric(images, prediction, scene.to(device)) for name, metric in metrics.items()},
    )
    steps = tuple(step["name"] for step in prediction.scene.provenance.get("postprocess", ()))
    return _Measured(result, *overlaps, semantics=semantics, postprocess=steps)


def _timed(predict: Predict, images: Tensor) -> tuple[Reconstruction, float]:
    start = time.perf_counter()
    prediction = predict(images)
    if prediction.depth.is_cuda:
        torch.cuda.synchronize(prediction.depth.device)
    return prediction, time.perf_counter() - start


def _render_groupings(prediction: Reconstruction, context_ids: Int64[Tensor, "V H W"], cameras: Cameras) -> _Rendered:
    """One rendering; masks by the model's, the oracle's and the baseline's grouping of the same anchors."""
    scene = prediction.scene
    oracle, oracle_ids = oracle_groups(context_ids, prediction.anchor_pixels)
    clusters = torch.from_numpy(planes_hdbscan(scene.anchors.cpu().numpy())).to(scene.anchors.device)
    channels = [scene.assignment, oracle, functional.one_hot(clusters).float()]
    if scene.semantics is not None:
        channels.append(scene.semantics.residuals)
    rendered = render(
        scene.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=scene.anchor_ids,
        anchor_features=torch.cat(channels, dim=-1),
    )
    assert rendered.features is not None
    parts = rendered.features.split([part.shape[1] for part in channels], dim=-1)
    model, by_oracle, by_planes = (group_masks(part, rendered.alphas) for part in parts[:3])
    return _Rendered(
        output=rendered,
        model=model,
        oracle=by_oracle.select((oracle_ids >= 0).cpu().numpy()),
        planes_hdbscan=by_planes,
        coefficients=None if scene.semantics is None else torch.cat([parts[0], parts[3]], dim=-1),
    )


def _summarise(measured: Sequence[_Measured], protocol: Protocol) -> EvaluationResult:
    scenes = tuple(scene.result for scene in measured)
    lpips = [scene.lpips for scene in scenes if scene.lpips is not None]
    semantics = [scene.semantics for scene in measured if scene.semantics is not None]
    return EvaluationResult(
        protocol=protocol,
        psnr=fmean(scene.psnr for scene in scenes),
        ssim=fmean(scene.ssim for scene in scenes),
        lpips=fmean(lpips) if lpips else None,
        groups=group_scores([scene.model for scene in measured]),
        oracle=group_scores([scene.oracle for scene in measured]),
        planes_hdbscan=group_scores([scene.planes_hdbscan for scene in measured]),
        psnr_nearest_view=fmean(scene.psnr_nearest_view for scene in scenes),
        geometry=GeometryMetrics(**summarise([scene.geometry for scene in scenes])),
        groups_used=fmean(scene.groups_used for scene in scenes),
        seconds_per_scene=fmean(scene.seconds for scene in scenes),
        semantics=summarise_semantics(semantics) if semantics else None,
        metrics=mean_over_scenes([scene.metrics for scene in scenes]),
        scenes=scenes,
    )
