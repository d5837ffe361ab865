"""Open-vocabulary segmentation against torchmetrics, loops in float64 and explicit features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tokengroups.compat import prepare_torchvision
from tokengroups.evaluation.segmentation import classify_pixels, count_classes, segmentation_scores, vocabulary_rows
from tokengroups.text.teachers import look_up

CLASSES = 6


def images(seed: int = 0, num: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truth in blocks; every image lacks some classes, and one class never occurs."""
    rng = np.random.default_rng(seed)
    true, predicted = np.empty((num, 8, 8), dtype=np.int64), np.empty((num, 8, 8), dtype=np.int64)
    for index in range(num):
        occurring = rng.choice(CLASSES - 1, size=3, replace=False)
        true[index] = rng.choice([-1, *occurring], size=(4, 4)).repeat(2, 0).repeat(2, 1)
        noise = rng.choice(CLASSES - 1, size=(8, 8))
        predicted[index] = np.where((rng.random((8, 8)) < 0.3) | (true[index] < 0), noise, true[index])
    return predicted, true


def test_image_present_is_torchmetrics_per_class_mean() -> None:
    """The way Uni3R calls it: ignored pixels are background in truth and prediction, and background is left out."""
    prepare_torchvision()
    from torchmetrics.segmentation import MeanIoU

    predicted, true = images()
    metric = MeanIoU(CLASSES + 1, include_background=False, per_class=True, input_format="index")
    for one, truth in zip(predicted, true, strict=True):
        metric.update(torch.from_numpy(np.where(truth < 0, 0, one + 1))[None], torch.from_numpy(truth + 1)[None])
    per_class = metric.compute()
    assert (per_class < 0).sum() == 1  # the class that never occurs is -1 there and left out here
    got = segmentation_scores([count_classes(predicted, true, CLASSES)])
    assert got.image_present == pytest.approx(per_class[per_class >= 0].mean().item(), abs=1e-6)


def test_variants_are_loops() -> None:
    predicted, true = images(1)
    ious = np.full((len(true), CLASSES), np.nan)
    dataset = np.full(CLASSES, np.nan)
    for name in range(CLASSES):
        both = union = 0
        for index in range(len(true)):
            known = true[index] >= 0
            p, t = known & (predicted[index] == name), known & (true[index] == name)
            both, union = both + (p & t).sum(), union + (p | t).sum()
            if (p | t).any():
                ious[index, name] = (p & t).sum() / (p | t).sum()
        if union:
            dataset[name] = both / union
    got = segmentation_scores([count_classes(predicted, true, CLASSES)])
    assert got.image_zero == pytest.approx(np.nan_to_num(ious).mean())
    assert got.image_present == pytest.approx(np.nanmean(np.nanmean(ious[:, : CLASSES - 1], axis=0)))
    assert got.dataset == pytest.approx(np.nanmean(dataset))
    assert got.accuracy == pytest.approx((predicted == true)[true >= 0].mean())
    assert got.image_zero < got.image_present


def test_order_and_batching_of_the_images_do_not_matter() -> None:
    predicted, true = images(2)
    whole = segmentation_scores([count_classes(predicted, true, CLASSES)])
    parts = [count_classes(predicted[i], true[i], CLASSES) for i in ([4, 1], [0], [3, 2])]
    assert vars(segmentation_scores(parts)) == pytest.approx(vars(whole), abs=1e-12)


def test_unlabelled_pixels_count_nowhere_and_empty_ones_are_wrong() -> None:
    true = np.array([[[0, 0, 1, -1]]])
    counts = count_classes(np.array([[[0, -1, 1, 0]]]), true, 2)
    assert counts.correct.tolist() == [[1, 1]] and counts.predicted.tolist() == [[1, 1]]
    scores = segmentation_scores([counts])
    assert scores.accuracy == pytest.approx(2 / 3) and scores.dataset == pytest.approx((1 / 2 + 1) / 2)
    nothing = segmentation_scores([count_classes(true, np.full_like(true, -1), 2)])
    assert all(np.isnan(value) for value in vars(nothing).values())


def test_a_pixel_gets_the_name_of_largest_cosine_with_its_feature() -> None:
    coefficients, basis = torch.rand(2, 3, 4, 5), torch.randn(5, 7)
    names = functional.normalize(torch.randn(6, 7), dim=-1)
    features = torch.einsum("vhwn,nd->vhwd", coefficients.double(), basis.double())
    expected = functional.cosine_similarity(features[..., None, :], names.double(), dim=-1).argmax(dim=-1)
    assert torch.equal(classify_pixels(coefficients, basis, names), expected)
    thin = 1e-4 * coefficients  # little alpha keeps its name
    thin[0, 0, 0] = 0  # nothing at all has none
    got = classify_pixels(thin, basis, names)
    assert got[0, 0, 0] == -1 and torch.equal(got.flatten()[1:], expected.flatten()[1:])


def test_classes_outside_the_vocabulary_are_other_or_nothing() -> None:
    classes = {0: "wall", 4: "desk", 9: "sofa", 12: "wall"}
    assert vocabulary_rows(classes, ["sofa", "other", "wall"]) == {0: 2, 4: 1, 9: 0, 12: 2}
    rows = vocabulary_rows(classes, ["sofa", "wall"])
    assert rows == {0: 1, 9: 0, 12: 1}
    ids = torch.tensor([[[-1, 0, 4], [9, 12, 77]]])
    assert look_up(ids, rows).tolist() == [[[-1, 1, -1], [0, 1, -1]]]
