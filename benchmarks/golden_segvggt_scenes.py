"""What follows from SegVGGT's outputs, scene by scene, in its golden files: the decoding and the objective.

Of a scene N a file holds ``outputs.post.N.{scores,labels,queries,pixels}``, pairs of a query and a class by descending
score, whose thresholds are ``post`` in the metadata; and ``reference.N.`` with ``gt_masks`` [K, S, h, w], ``gt_labels``
and what the formulas make of them: ``frame_target``, ``js_per_layer`` [L, Q, K], ``cost_*`` [Q, K], ``match_query``,
``match_gt`` and ``loss_*``, with the weights that are this code's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from golden_file import Comparison, Golden, compare_tensors
from torch import Tensor

from tokengroups.config import build_config
from tokengroups.errors import UserError
from tokengroups.losses.frame_attention import frame_masses, jensen_shannon
from tokengroups.losses.query_masks import QueryLossConfig, QueryPredictions, query_costs, query_losses
from tokengroups.losses.query_targets import InstanceTargets, instance_targets
from tokengroups.systems.segvggt.decode import DecodeConfig, QueryInstances, find_instances
from tokengroups.systems.segvggt.network import SegVGGTOutput

GATE = 1e-5  # relative L2 of scores, costs and losses, from float32 outputs
EXACT, PIXELS = 0.5, 2.5  # below: no pair differs; counts differ by two pixels
POST, REFERENCE = "outputs.post", "reference"
NAMES = {"topk": "max_pairs"}  # of `DecodeConfig`, where they differ
TERMS = {"cls": "class", "bce": "bce", "dice": "dice", "js": "attention"}  # names of losses in the file, and ours


def compare_scenes(golden: Golden, out: SegVGGTOutput) -> Iterator[Comparison]:
    """Decode our outputs and compute the objective, for every scene that the file has answers for.

    Raises:
        UserError: Thresholds, masks or another part of an answer are missing, or do not fit the outputs.
    """
    for scene in _scenes(golden, POST, len(out.queries)):
        config = _decode_config(golden)
        found = find_instances(out.queries[scene], out.features[scene], out.class_logits[scene], config)
        yield from _compare_pairs(golden, f"{POST}.{scene}.", found)
    for scene in _scenes(golden, REFERENCE, len(out.queries)):
        yield from _compare_objective(golden, f"{REFERENCE}.{scene}.", out, scene)


def _scenes(golden: Golden, prefix: str, count: int) -> list[int]:
    """Scenes that tensors are named after: ``PREFIX.SCENE.NAME``."""
    names = [name.removeprefix(f"{prefix}.") for name in golden.tensors if name.startswith(f"{prefix}.")]
    texts = {name.partition(".")[0] for name in names}
    if wrong := sorted(text for text in texts if not text.isdigit() or int(text) >= count):
        raise UserError(f"{golden.path}: {prefix}.{wrong[0]}: the photos have scenes 0 to {count - 1}")
    return sorted(map(int, texts))


def _decode_config(golden: Golden) -> DecodeConfig:
    known: Any = golden.metadata.get("post")
    if not isinstance(known, dict):
        raise UserError(f"{golden.path}: the metadata lack post, the thresholds of the decoding")
    values = {NAMES.get(str(name), str(name)): value for name, value in known.items()}
    return build_config(DecodeConfig, values, f"{golden.path}: post")


def _stored(golden: Golden, prefix: str, names: Sequence[str]) -> list[Tensor]:
    if missing := [name for name in names if prefix + name not in golden.tensors]:
        raise UserError(f"{golden.path}: lacks {', '.join(prefix + name for name in missing)}")
    return [golden.tensors[prefix + name] for name in names]


def _compare_pairs(golden: Golden, prefix: str, found: QueryInstances) -> Iterator[Comparison]:
    """Scores by rank, pairs at their ranks, and pixels by pair; pairs of equal scores may change places."""
    scores, labels, queries, pixels = _stored(golden, prefix, ("scores", "labels", "queries", "pixels"))
    label = prefix.removeprefix("outputs.")
    yield compare_tensors(f"{label}scores", found.scores, scores, GATE)
    rank = {pair: row for row, pair in enumerate(zip(queries.tolist(), labels.tolist(), strict=True))}
    ours = list(zip(found.queries.tolist(), found.classes.tolist(), strict=True))
    tolerance = GATE * float(scores.abs().max()) if len(scores) else 0.0
    wrong = len(set(rank) - set(ours))
    for row, pair in enumerate(ours):
        at = rank.get(pair)
        wrong += at is None or row >= len(scores) or abs(float(scores[at] - scores[row])) > tolerance
    yield _count(f"{label}pairs", wrong, EXACT)
    both = [(row, rank[pair]) for row, pair in enumerate(ours) if pair in rank]
    off = max((abs(int(found.cells[row]) - int(pixels[at])) for row, at in both), default=0 if not rank else math.inf)
    yield _count(f"{label}pixels", off, PIXELS)


def _compare_objective(golden: Golden, prefix: str, out: SegVGGTOutput, scene: int) -> Iterator[Comparison]:
    assert out.frame_attention is not None
    config, targets = QueryLossConfig(), _targets(golden, prefix, out.features.shape[1:4])
    predicted = QueryPredictions(
        out.queries[scene, None], out.features[scene, None], out.class_logits[scene, None],
        out.frame_attention[:, scene, None],
    )  # fmt: skip
    costs, answer = query_costs(predicted.scene(0), targets, config), query_losses(predicted, [targets], config)
    attention = frame_masses(out.frame_attention[:, scene, :, None])
    numbers: dict[str, Tensor | None] = {
        "frame_target": targets.frame_shares,
        "js_per_layer": jensen_shannon(targets.frame_shares, attention),
        "cost_cls": costs.classes, "cost_bce": costs.bce, "cost_dice": costs.dice, "cost_js": costs.attention,
        "cost_total": costs.total(config),
    }  # fmt: skip
    numbers |= {f"loss_{name}": answer.losses.terms[term].reshape(1) for name, term in TERMS.items()}
    for name, actual in numbers.items():
        expected = golden.tensors.get(prefix + name)
        if expected is not None and actual is not None:
            yield compare_tensors(prefix + name, actual, expected, GATE)
    stored = _stored(golden, prefix, ("match_query", "match_gt"))
    pairs = set(zip(*(side.tolist() for side in stored), strict=True))
    match = answer.matches[0]
    ours = set(zip(match.query.tolist(), match.instance.tolist(), strict=True))
    yield _count(f"{prefix}match", len(pairs ^ ours), EXACT)


def _targets(golden: Golden, prefix: str, shape: Sequence[int]) -> InstanceTargets:
    """Targets of every stored mask by itself: they may overlap."""
    masks, labels = _stored(golden, prefix, ("gt_masks", "gt_labels"))
    if masks.shape != (len(labels), *shape) or not bool(masks.flatten(1).any(dim=1).all()):
        wanted = " x ".join(map(str, (len(labels), *shape)))
        raise UserError(f"{golden.path}: {prefix}gt_masks must be {wanted} values, none of the masks empty")
    grid, rows = (shape[1], shape[2]), enumerate(zip(masks, labels.tolist(), strict=True))
    found = [instance_targets(torch.where(mask > 0, k, -1), {k: label}, grid) for k, (mask, label) in rows]
    parts = ([getattr(own, name) for own in found] for name in ("ids", "classes", "masks", "frame_shares"))
    return InstanceTargets(*map(torch.cat, parts))


def _count(name: str, off: float, gate: float) -> Comparison:
    return Comparison(name, float(off), float(off), gate)
