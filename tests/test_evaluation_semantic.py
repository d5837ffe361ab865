"""Semantics of reconstructions made from the truth: right names score 1, swapped names lose the pixels they cover."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_evaluation import DATA, from_truth, scene  # noqa: F401 (a fixture)
from torch.nn import functional

from tokengroups.data.example import Example
from tokengroups.data.procedural import CLASS_NAMES
from tokengroups.data.readers.scannet import ScanNet
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.open_vocabulary import summarise_classes
from tokengroups.evaluation.phrases import PHRASES
from tokengroups.evaluation.report import format_report
from tokengroups.evaluation.semantic import (
    SemanticEvaluation,
    feature_basis,
    gaussian_features,
    instance_features,
    measure_semantics,
    semantic_channels,
    vocabulary_queries,
)
from tokengroups.evaluation.semantic_scores import SceneSemantics, summarise_semantics
from tokengroups.postprocess import Reconstruction
from tokengroups.types import Semantics


class ClassAxes:
    """A perfect text encoder: an axis per class, and phrases between the axes of the classes that they describe."""

    name, dim = "all:1", len(CLASS_NAMES)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        rows = [[float(name in PHRASES.get(text, (text,))) for name in CLASS_NAMES] for text in texts]
        return functional.normalize(torch.tensor(rows).reshape(len(texts), len(CLASS_NAMES)), dim=-1)


EVALUATION = SemanticEvaluation(ClassAxes(), CLASS_NAMES)


def with_semantics(scene: Example, renamed: dict[str, str] | None = None) -> Reconstruction:  # noqa: F811
    """From the truth; every group is embedded as its class, or as what that is renamed to. Residuals are zero."""
    prediction = from_truth(scene.context)
    ids = scene.context.group_ids[prediction.anchor_pixels.unbind(-1)].unique().tolist()
    names = [scene.classes[0].get(instance, "") for instance in ids]
    embeddings = ClassAxes().encode_text([(renamed or {}).get(name, name) for name in names])
    anchors = len(prediction.scene.anchors)
    semantics = Semantics(
        embeddings, torch.zeros(anchors, 2), torch.randn(len(CLASS_NAMES), 2), torch.tensor([40.0, 0.5]), "all:1"
    )
    return replace(prediction, scene=replace(prediction.scene, semantics=semantics))


@pytest.fixture(scope="module")
def room(scene: Example) -> Example:  # noqa: F811
    """Instances so thin that no anchor is on them become floor; the photos are the target views too."""
    ids = scene.context.group_ids
    thin = ~torch.isin(ids, ids[:, ::2, ::2])
    floor = next(instance for instance, name in scene.classes[0].items() if name == "floor")
    context = replace(scene.context, group_ids=torch.where(thin, floor, ids))
    return replace(scene, context=context, targets=context)


def measure(truth: Example, renamed: dict[str, str] | None = None) -> SceneSemantics:
    """The true groups are what is rendered."""
    reconstruction = with_semantics(truth, renamed).scene
    ids, column = truth.context.group_ids.unique(return_inverse=True)
    assert len(ids) == len(reconstruction.group_ids)
    shares = functional.one_hot(column, len(ids)).float()
    coefficients = torch.cat([shares, torch.zeros(*shares.shape[:-1], 2)], dim=-1)
    masks = shares.flatten(0, 2).T.bool().numpy()
    return measure_semantics(EVALUATION, reconstruction, truth, coefficients, masks)


@pytest.fixture(scope="module")
def right(room: Example) -> SceneSemantics:
    return measure(room)


def test_right_names_score_one(right: SceneSemantics) -> None:
    scores = summarise_semantics([right])
    for name in ("miou_target", "miou_target_dataset", "acc_target"):
        assert scores[name] == 1, name
    for kind in ("names", "unseen"):
        for suffix in ("", "_50", "_true_labels", "_true_groups"):
            assert scores[f"recall1_{kind}{suffix}"] == 1, (kind, suffix)
    assert scores["calibration_error_names"] < 1e-6  # cosines 0 and 1 far from the threshold
    assert 0.8 < scores["acc_source"] < 1 and 0 < scores["miou_target_image_zero"] < 1  # many classes are elsewhere
    num_names, num_phrases = (len(right.answers[kind].ious) for kind in ("names", "unseen"))
    assert num_phrases > num_names >= 3


def test_swapped_names_lose_what_they_cover(room: Example, right: SceneSemantics) -> None:
    ids = room.context.group_ids
    shares = {
        name: sum(float((ids == k).float().mean()) for k, own in room.classes[0].items() if own == name)
        for name in set(room.classes[0].values()) - {"wall", "floor", "ceiling"}
    }
    first, second = sorted(shares, key=lambda name: -shares[name])[:2]
    swapped = measure(room, {first: second, second: first})
    scores, asked = summarise_semantics([swapped]), len(right.answers["names"].ious)
    labelled = float((ids >= 0).float().mean())
    assert scores["acc_target"] == pytest.approx(1 - (shares[first] + shares[second]) / labelled, abs=1e-6)
    assert scores["recall1_names"] == pytest.approx((asked - 2) / asked)
    assert scores["recall1_names_true_groups"] == pytest.approx((asked - 2) / asked)
    assert scores["recall1_names_true_labels"] == scores["recall1_unseen_true_labels"] == 1
    assert scores["recall1_unseen"] < 1
    seen = [room.classes[0][instance] for instance in ids.unique().tolist()]
    wrong = 2 * (seen.count(first) + seen.count(second))  # sure of the other name, and sure that not its own
    assert scores["calibration_error_names"] == pytest.approx(wrong / (len(seen) * len(CLASS_NAMES)), abs=1e-6)


def test_scenes_are_pooled_in_any_order(room: Example, right: SceneSemantics) -> None:
    other = measure(room, {"wall": "floor", "floor": "wall"})
    both, reverse = summarise_semantics([right, other]), summarise_semantics([other, right])
    assert both == pytest.approx(reverse, abs=1e-12)
    assert both["acc_target"] == pytest.approx((1 + summarise_semantics([other])["acc_target"]) / 2)


def test_mean_features_of_instances_are_loops() -> None:
    coefficients, basis = torch.rand(2, 3, 4, 5), torch.randn(5, 7)
    ids = np.array([3, 3, 8, -1, 8, 3] * 4).reshape(2, 3, 4)
    got = instance_features(coefficients, ids, (3, 8), basis)
    for row, instance in enumerate((3, 8)):
        pixels = [coefficients[tuple(at)] @ basis for at in np.argwhere(ids == instance)]
        expected = functional.normalize(torch.stack(pixels).mean(dim=0), dim=-1)
        torch.testing.assert_close(got[row], expected)


def test_gaussian_features_are_embeddings_plus_residuals(scene: Example) -> None:  # noqa: F811
    world = with_semantics(scene).scene
    assert world.semantics is not None
    world = replace(world, semantics=replace(world.semantics, residuals=torch.randn(len(world.anchors), 2)))
    own = functional.one_hot(world.assignment.argmax(dim=-1), len(world.group_ids)).float()
    assert world.semantics is not None
    channels = torch.cat([own, world.semantics.residuals], dim=-1)  # assignments are one-hot here
    torch.testing.assert_close(channels, semantic_channels(world))
    expected = functional.normalize(channels @ feature_basis(world.semantics), dim=-1)[world.anchor_ids]
    torch.testing.assert_close(gaussian_features(world), expected)


def test_sizes_are_those_of_the_scene(right: SceneSemantics, room: Example) -> None:
    scores, groups = summarise_semantics([right]), len(room.context.group_ids.unique())
    gaussians = 2 * 32 * 32  # an anchor and Gaussian at every second pixel
    dim = len(CLASS_NAMES)
    assert scores["semantic_units"] == groups
    assert scores["semantic_scalars"] == groups * dim + gaussians * 2 + dim * 2
    assert scores["semantic_bytes"] == 4 * scores["semantic_scalars"]
    assert scores["semantic_scalars_per_gaussian_baseline"] == gaussians * dim
    assert scores["query_ms"] > 0 and scores["search_ms"] > 0 and scores["search_ms_gaussians"] > 0


def test_other_stands_for_classes_outside_a_short_vocabulary() -> None:
    queries = vocabulary_queries(ScanNet.class_names, {0: "wall", 3: "desk", 4: "rug", 6: "sofa"})
    assert {query.text: set(query.classes) for query in queries if query.classes} == {
        "wall": {"wall"}, "sofa": {"sofa"}, "other": {"desk", "rug"},
    }  # fmt: skip


def test_semantics_change_no_other_number(scene: Example) -> None:  # noqa: F811
    prediction = with_semantics(scene)
    plain = evaluate_scenes(lambda _: prediction, [scene], DATA, "truth")
    result = evaluate_scenes(lambda _: prediction, [scene], DATA, "truth", semantics=EVALUATION)
    before, after = plain.to_json(), json.loads(json.dumps(result.to_json(), allow_nan=False))
    names = [*summarise_semantics([]), *summarise_classes([])]
    assert all(before[name] is None and after[name] is not None for name in names)
    assert before["per_scene"][0]["recall1_names"] is None
    assert after["per_scene"][0]["recall1_names"] == after["recall1_names"]
    for name in set(before) - {*names, "protocol", "seconds_per_scene", "per_scene"}:
        assert after[name] == before[name], name
    assert before["protocol"]["vocabulary"] is None and "Semantics" not in before["protocol"]["text"]
    assert after["protocol"]["vocabulary"] == list(CLASS_NAMES)
    assert "44 names, listed in the JSON" in after["protocol"]["text"]
    assert after["acc_target"] > 0.7 and after["recall1_names_true_groups"] > 0.7
    assert "recall@1, unseen phrases" in format_report(result) and "recall@1" not in format_report(plain)


def test_a_model_without_semantics_leaves_them_out(scene: Example) -> None:  # noqa: F811
    result = evaluate_scenes(lambda _: from_truth(scene.context), [scene], DATA, "truth", semantics=EVALUATION)
    assert result.scenes[0].semantics is None and result.protocol.embeddings is None
    numbers = result.to_json()
    assert numbers["acc_target"] is None and numbers["miou_2d"] is None and numbers["miou_3d_scene_mean"] is None
    assert numbers["miou_2d_true_features"] > 0.7 and "Semantics" not in numbers["protocol"]["text"]
    report = format_report(result)
    assert "true features" in report and "recall@1" not in report
