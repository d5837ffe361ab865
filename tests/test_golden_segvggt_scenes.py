"""Decoding and objective in SegVGGT's golden files: stored numbers, numbers by loops, and told mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from golden_file import Golden, read_golden
from golden_segvggt_scenes import compare_scenes
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.systems.segvggt.network import SegVGGTOutput

POST = {"topk": 9, "mask_threshold": 0.3, "score_threshold": 0.05, "min_pixels": 3}


def some_outputs() -> SegVGGTOutput:
    """Two scenes of three photos, five queries, two classes, two layers."""
    rng = torch.Generator().manual_seed(1)
    logits = [torch.randn(2, 5, 4, generator=rng), torch.randn(2, 3, 6, 7, 4, generator=rng)]
    attention = torch.rand(2, 2, 5, 3, generator=rng) / 50
    return SegVGGTOutput(*logits, torch.randn(2, 5, 3, generator=rng), frame_attention=attention)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def entropy_from(p: np.ndarray, m: np.ndarray) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, m, strict=True) if a > 0)


def decoded(out: SegVGGTOutput, scene: int) -> dict[str, Tensor]:
    """Section 4.2 in float64, pair by pair."""
    probs = softmax(out.class_logits[scene].double().numpy())
    masks = sigmoid(out.mask_logits()[scene].double().numpy())
    pairs = sorted(((probs[q, c], q, c) for q in range(5) for c in range(2)), reverse=True)[: POST["topk"]]
    rows = []
    for chance, q, c in pairs:
        inside = masks[q][masks[q] > 0.5]
        score, count = chance * inside.sum() / (len(inside) + 1e-6), int((masks[q] > POST["mask_threshold"]).sum())
        if score > POST["score_threshold"] and count > POST["min_pixels"]:
            rows.append((score, c, q, count))
    scores, labels, queries, pixels = zip(*sorted(rows, reverse=True), strict=True)
    whole = {"labels": labels, "queries": queries, "pixels": pixels}
    return {"scores": torch.tensor(scores)} | {n: torch.tensor(v, dtype=torch.int32) for n, v in whole.items()}


def reference(out: SegVGGTOutput, scene: int, gt: np.ndarray, labels: list[int]) -> dict[str, Tensor]:
    """Section 6 in float64, pair by pair."""
    assert out.frame_attention is not None
    layers, queries, instances, frames = 2, 5, len(gt), 3
    chances = softmax(out.class_logits[scene].double().numpy())
    logits = out.mask_logits()[scene].double().numpy().reshape(queries, -1)
    flat, attention = gt.reshape(instances, -1), out.frame_attention[:, scene].double().numpy()
    target = gt.sum(axis=(2, 3)) / gt.sum(axis=(1, 2, 3))[:, None]
    js = np.zeros((layers, queries, instances))
    cls, bce, dice = (np.zeros((queries, instances)) for _ in range(3))
    for q in range(queries):
        for k in range(instances):
            p, y = sigmoid(logits[q]), flat[k]
            cls[q, k] = -chances[q, labels[k]]
            bce[q, k] = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
            dice[q, k] = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
            for layer in range(layers):
                mass = attention[layer, q] / attention[layer, q].sum()
                middle = (mass + target[k]) / 2
                js[layer, q, k] = (entropy_from(mass, middle) + entropy_from(target[k], middle)) / 2
    cost_js = js.sum(axis=0) / (layers * frames)
    total = 0.5 * cls + bce + dice + 0.5 * cost_js
    rows, columns = linear_sum_assignment(total)
    wanted, weights = np.full(queries, 2), np.full(queries, 0.1)
    wanted[rows], weights[rows] = np.array(labels)[columns], 1.0
    loss_cls = (-np.log(chances[range(queries), wanted]) * weights).sum() / weights.sum()
    numbers = {
        "frame_target": target, "js_per_layer": js, "cost_cls": cls, "cost_bce": bce, "cost_dice": dice,
        "cost_js": cost_js, "cost_total": total, "loss_cls": [loss_cls], "loss_bce": [bce[rows, columns].mean()],
        "loss_dice": [dice[rows, columns].mean()], "loss_js": [cost_js[rows, columns].mean()],
    }  # fmt: skip
    ints = {"match_query": rows[::-1].copy(), "match_gt": columns[::-1].copy(), "gt_labels": labels}
    found = {name: torch.tensor(np.asarray(value), dtype=torch.float64) for name, value in numbers.items()}
    found |= {name: torch.tensor(np.asarray(value), dtype=torch.int32) for name, value in ints.items()}
    return found | {"gt_masks": torch.from_numpy(gt.astype(np.uint8))}


def some_golden(out: SegVGGTOutput) -> Golden:
    """A file of two scenes; masks overlap, and an instance is in one frame alone."""
    tensors: dict[str, Tensor] = {}
    rng = np.random.default_rng(3)
    for scene, labels in enumerate(([0, 1, 1], [1, 0])):
        gt = rng.random((len(labels), 3, 6, 7)) < 0.4
        gt[0, 1:] = False
        assert (gt.sum(axis=0) > 1).any()
        tensors |= {f"outputs.post.{scene}.{name}": t for name, t in decoded(out, scene).items()}
        found = reference(out, scene, gt.astype(float), labels)
        tensors |= {f"reference.{scene}.{name}": tensor for name, tensor in found.items()}
    return Golden(Path("some.safetensors"), tensors, {"post": POST})


def failed(golden_file: Golden, out: SegVGGTOutput) -> list[str]:
    return [row.name for row in compare_scenes(golden_file, out) if not row.passed]


def test_the_shipped_file_is_compared_whole(data_dir: Path) -> None:
    file = data_dir / "segvggt_small.safetensors"
    stored = {name.removeprefix("outputs.") for name in load_file(file)}
    rows = golden.compare("segvggt", file)
    assert all(row.passed for row in rows)
    inputs = {name for name in stored if name.startswith("weights.")}
    inputs |= {"reference.0.gt_masks", "reference.0.gt_labels"}
    joined = {"reference.0.match_query", "reference.0.match_gt", "post.0.labels", "post.0.queries"}
    assert {row.name for row in rows} == (stored - inputs - joined) | {"reference.0.match", "post.0.pairs"}
    gates = {row.name.rpartition(".")[2]: row.gate for row in rows if row.name.startswith(("post", "reference"))}
    assert gates.pop("pairs") == gates.pop("match") == 0.5 and gates.pop("pixels") == 2.5
    assert set(gates.values()) == {1e-5}


def test_numbers_equal_loops_for_two_scenes_with_overlapping_masks() -> None:
    out = some_outputs()
    rows = list(compare_scenes(some_golden(out), out))
    assert len(rows) == 2 * (3 + 12) and all(row.passed for row in rows)
    assert all(row.error < 2e-6 for row in rows)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("outputs.post.1.scores", lambda t: t * (1 + 3e-5), ["post.1.scores"]),
        ("outputs.post.0.scores", lambda t: t[:-1], ["post.0.scores", "post.0.pairs"]),
        ("outputs.post.0.labels", lambda t: 1 - t, ["post.0.pairs"]),  # a query's pixels are the same
        ("outputs.post.0.queries", lambda t: t.flip(0), ["post.0.pairs", "post.0.pixels"]),
        ("outputs.post.0.pixels", lambda t: t + 3, ["post.0.pixels"]),
        ("outputs.post.0.pixels", lambda t: t - 2, []),
        ("reference.1.match_gt", lambda t: t.flip(0), ["reference.1.match"]),
        ("reference.0.cost_js", lambda t: t * 3, ["reference.0.cost_js"]),
        ("reference.0.js_per_layer", lambda t: t.flip(0), ["reference.0.js_per_layer"]),
        ("reference.0.loss_cls", lambda t: t * (1 + 2e-5), ["reference.0.loss_cls"]),
        ("reference.0.frame_target", lambda t: t.flip(1), ["reference.0.frame_target"]),
    ],
)
def test_each_mistake_is_told(name: str, change: Any, told: list[str]) -> None:
    out = some_outputs()
    spoilt = some_golden(out)
    spoilt.tensors[name] = change(spoilt.tensors[name])
    assert failed(spoilt, out) == told


def test_pairs_of_equal_scores_may_change_places() -> None:
    out = some_outputs()
    spoilt = some_golden(out)
    for name in ("labels", "queries", "pixels"):
        tensor = spoilt.tensors[f"outputs.post.0.{name}"]
        tensor[:2] = tensor[:2].flip(0)
    assert "post.0.pairs" in failed(spoilt, out)  # their scores are not equal yet
    scores = spoilt.tensors["outputs.post.0.scores"]
    scores[1] = scores[0]
    assert failed(spoilt, out) == ["post.0.scores"]


def test_parts_that_are_missing_or_do_not_fit_are_one_line(data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    out = some_outputs()
    changes: list[tuple[str, Any, str]] = [
        ("reference.1.gt_labels", None, "lacks reference.1.gt_labels"),
        ("outputs.post.0.pixels", None, r"lacks outputs.post.0.pixels"),
        ("reference.2.gt_masks", torch.ones(1), "reference.2: the photos have scenes 0 to 1"),
        ("reference.0.gt_masks", torch.ones(3, 3, 6, 6), "gt_masks must be 3 x 3 x 6 x 7 values"),
    ]
    for name, value, message in changes:
        spoilt = some_golden(out)
        spoilt.tensors.pop(name, None)
        spoilt.tensors.update({} if value is None else {name: value})
        with pytest.raises(UserError, match=message):
            list(compare_scenes(spoilt, out))
    whole = read_golden(data_dir / "segvggt_small.safetensors")
    posts = [({}, "lack post"), ({"post": {"topk": 0}}, "max_pairs"), ({"post": {"nms": 1}}, "unknown key 'nms'")]
    for post, message in posts:
        metadata = {name: value for name, value in whole.metadata.items() if name != "post"} | post
        texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in metadata.items()}
        save_file(whole.tensors, tmp_path / "a.safetensors", texts)
        assert golden.main(["segvggt", str(tmp_path / "a.safetensors")]) == 2
        assert message in capsys.readouterr().err
