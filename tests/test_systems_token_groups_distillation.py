"""Distillation end to end: who learns, against full features, and that it converges to what the teacher says."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from toy_systems import WITH_SEMANTICS, decode

from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import MaskLossWeights, instance_ids, mask_costs
from tokengroups.losses.semantics import TeacherTargets
from tokengroups.systems.token_groups.distillation import distillation_losses, render_semantics


@pytest.fixture
def teacher() -> tuple[torch.Tensor, list[TeacherTargets]]:
    """Four instances in quadrants of 32x32 pixels; three classes; a strip that nobody labelled."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.zeros(2, 2, 32, 32, dtype=torch.int64)
    ids[..., 16:, :] += 1
    ids[..., 16:] += 2
    ids[..., :3] = -1
    features = functional.normalize(torch.randn(3, 10, generator=generator), dim=-1)
    classes = torch.tensor([0, 1, 2, 1, -1])
    return ids, [TeacherTargets(features, classes[ids[s]], features, classes[ids[s]]) for s in range(2)]


def test_losses_are_those_of_the_full_features(teacher):
    ids, targets = teacher
    _, output, cameras = decode(WITH_SEMANTICS)
    losses = distillation_losses(output, cameras, ids, targets, MaskLossWeights())
    channels = render_semantics(output, cameras)
    semantics = output.semantics
    pixels, groups = [], []
    for scene in range(2):
        shares, residual = channels[scene, ..., :6], channels[scene, ..., 6:]
        features = shares @ semantics.embeddings[scene] + residual @ semantics.projection[scene].T
        known = targets[scene].pixel_idx >= 0
        wanted = targets[scene].features[targets[scene].pixel_idx[known]]
        length = (features[known].square().sum(-1) + 1e-6).sqrt()
        pixels.append((1 - (features[known] * wanted).sum(-1) / length).mean())
        pairs = match_groups(mask_costs(shares, ids[scene]))
        means = [
            targets[scene].features[targets[scene].pixel_idx[ids[scene] == instance]].mean(dim=0)
            for instance in instance_ids(ids[scene])
        ]
        cosines = [
            functional.cosine_similarity(semantics.embeddings[scene, g], means[m], dim=0)
            for g, m in zip(*pairs, strict=True)
        ]
        groups.append(1 - torch.stack(cosines).mean())
    torch.testing.assert_close(losses.terms["pixels"], torch.stack(pixels).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.terms["groups"], torch.stack(groups).mean(), rtol=1e-4, atol=1e-5)


def test_geometry_and_grouping_are_not_disturbed(teacher):
    ids, targets = teacher
    model, output, cameras = decode(WITH_SEMANTICS)
    distillation_losses(output, cameras, ids, targets, MaskLossWeights()).total.backward()
    for name, parameter in model.named_parameters():
        learns = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert learns == name.startswith("semantic_head."), name


def test_the_head_learns_what_the_teacher_says(teacher):
    ids, targets = teacher
    model, output, cameras = decode(WITH_SEMANTICS)
    inputs = output.group_tokens, output.anchor_keys, output.assignment
    optimizer = torch.optim.Adam(model.semantic_head.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        semantics = model.semantic_head(*inputs)
        step = type(output)(**{**vars(output), "semantics": semantics})
        losses = distillation_losses(step, cameras, ids, targets, MaskLossWeights())
        optimizer.zero_grad()
        (losses.terms["pixels"] + losses.terms["groups"]).backward()
        optimizer.step()
        history.append((losses.terms["pixels"].item(), losses.terms["groups"].item()))
    assert history[-1][0] < 0.8 * history[0][0] and history[-1][1] < 0.3 * history[0][1], (history[0], history[-1])


def test_a_teacher_that_says_nothing_teaches_nothing(teacher):
    ids, targets = teacher
    model, output, cameras = decode(WITH_SEMANTICS)
    silent = [t.map(lambda x: x if x.is_floating_point() else torch.full_like(x, -1)) for t in targets]
    losses = distillation_losses(output, cameras, ids, silent, MaskLossWeights())
    assert losses.terms["pixels"] == 0 and losses.terms["groups"] == 0 and losses.terms["calibration"] == 0
    losses.total.backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


def test_the_calibration_compares_every_group_with_every_name_of_the_batch(teacher):
    """By loops: a group is what most of its visible pixels are; two scenes may have the same class."""
    ids, targets = teacher
    model, output, cameras = decode(WITH_SEMANTICS)
    losses = distillation_losses(output, cameras, ids, targets, MaskLossWeights())
    best = render_semantics(output, cameras)[..., :6].argmax(dim=-1)
    slope, threshold = output.semantics.calibration[0].double()
    terms = []
    for scene in range(2):
        for group in range(6):
            seen = targets[scene].name_idx[(best[scene] == group) & (targets[scene].name_idx >= 0)]
            if len(seen) == 0:
                continue
            own = int(torch.bincount(seen, minlength=3).argmax())
            for other in range(2):
                for name in range(3):
                    cosine = output.semantics.embeddings[scene, group] @ targets[other].names[name]
                    p = torch.sigmoid(slope * (cosine.double() - threshold))
                    terms.append(-torch.log(p if name == own else 1 - p))
    torch.testing.assert_close(losses.terms["calibration"].double(), torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)
    losses.terms["calibration"].backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    assert learns == {"semantic_head.log_slope", "semantic_head.threshold"}
