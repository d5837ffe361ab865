"""Photometric refinement: against Adam's first step, and on photos that are renderings of known Gaussians."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from scenes import random_scene

from tokengroups.postprocess import gaussian_fitting
from tokengroups.postprocess.gaussian_fitting import LearningRates, refine_gaussians
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.render import render
from tokengroups.types import Cameras, Gaussians

SIZE_HW = (24, 32)


@pytest.fixture
def scene() -> tuple[Gaussians, Cameras, torch.Tensor]:
    """Gaussians, two cameras, and their photos."""
    scene = random_scene(groups=4, anchors_per_group=3)
    return scene.gaussians, scene.cameras, photos_of(scene.gaussians, scene.cameras)


def photos_of(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    rendered = render(gaussians, cameras.cam_from_world, cameras.intrinsics, SIZE_HW)
    return rendered.colors.movedim(-1, 1)


def blurred(gaussians: Gaussians) -> Gaussians:
    return replace(gaussians, scales=gaussians.scales * 1.4, sh=gaussians.sh * 0.8)


def error(gaussians: Gaussians, cameras: Cameras, photos: torch.Tensor) -> float:
    return float((photos_of(gaussians, cameras) - photos).square().mean())


def test_blurred_gaussians_come_closer_to_photos_and_to_a_view_between_them(scene):
    gaussians, cameras, photos = scene
    between = cameras.map(lambda values: values.mean(dim=0, keepdim=True))
    start = blurred(gaussians)
    with torch.no_grad():
        result = refine_gaussians(start, photos, cameras, 20)
    assert error(result, cameras, photos) < 0.3 * error(start, cameras, photos)
    unseen = photos_of(gaussians, between)
    assert error(result, between, unseen) < 0.5 * error(start, between, unseen)
    assert not any(values.requires_grad for values in vars(result).values())


def test_first_step_is_a_rate_against_the_gradient(scene):
    """Adam's first step has the length of the rate, whatever the gradient's."""
    gaussians, cameras, photos = scene
    start, rates = blurred(gaussians), asdict(LearningRates())
    result = refine_gaussians(start, photos, cameras, 1)
    leaves = start.map(lambda values: values.clone().requires_grad_())
    (photos_of(leaves, cameras) - photos).square().mean().backward()
    size = start.scales.mean(dim=-1, keepdim=True)
    changes = {
        "means": (result.means - start.means) / size,
        "quats": result.quats - start.quats,
        "scales": (result.scales / start.scales).log(),
        "opacities": result.opacities.logit() - start.opacities.logit(),
        "sh": result.sh - start.sh,
    }
    for name, change in changes.items():
        gradient = getattr(leaves, name).grad
        clear = gradient.abs() > 1e-4
        assert clear.any(), name
        expected = -rates[name] * gradient.sign()
        torch.testing.assert_close(change[clear], expected[clear], rtol=2e-2, atol=1e-4, msg=name)


def test_steps_are_those_of_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]
    ours, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    adam = gaussian_fitting._Adam(ours, [0.1, 0.02])
    groups = [{"params": [theirs[0]], "lr": 0.1}, {"params": [theirs[1]], "lr": 0.02}]
    reference = torch.optim.Adam(groups, betas=gaussian_fitting.BETAS)

    def loss(parameters: list[torch.Tensor]) -> torch.Tensor:
        return (parameters[0].square().sum() - 1).square() + (3 * parameters[1]).sin().sum()

    for _ in range(7):
        adam.step(loss(ours))
        reference.zero_grad()
        loss(theirs).backward()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_order_of_the_photos_repetition_and_opacities_of_one(scene):
    gaussians, cameras, photos = scene
    start = blurred(gaussians)
    start = replace(start, opacities=start.opacities.clone())
    start.opacities[:2] = torch.tensor([1.0, 0.0])
    one, same = (refine_gaussians(start, photos, cameras, 4) for _ in range(2))
    swapped = refine_gaussians(start, photos.flip(0), cameras.map(lambda values: values.flip(0)), 4)
    for name, values in vars(one).items():
        assert torch.equal(values, getattr(same, name)), name
        assert values.isfinite().all(), name
    torch.testing.assert_close(photos_of(swapped, cameras), photos_of(one, cameras), rtol=0, atol=2e-3)


def test_no_steps_change_nothing_and_fewer_are_refused(scene):
    gaussians, cameras, photos = scene
    assert refine_gaussians(gaussians, photos, cameras, 0) is gaussians
    with pytest.raises(ValueError, match="steps must be a whole number from 0 to 1,000, got -2"):
        PhotometricRefinement(steps=-2)


def test_every_photo_of_many_is_used(scene):
    """Six photos, two a step: what only the last one shows is learned too."""
    gaussians, cameras, photos = scene
    many = cameras.map(lambda values: values[[0, 0, 0, 0, 0, 1]])
    shown = photos[[0, 0, 0, 0, 0, 1]]
    start = blurred(gaussians)
    last = cameras.map(lambda values: values[1:])
    result = refine_gaussians(start, shown, many, 6)
    assert error(result, last, photos[1:]) < 0.8 * error(start, last, photos[1:])


@pytest.mark.parametrize(("photos", "steps"), [(1, 10), (2, 20), (3, 30), (8, 80), (100, 80)])
def test_photos_are_rendered_equally_often_up_to_eight_of_them(photos, steps):
    assert gaussian_fitting.steps_for(20, photos) == steps
    rendered = steps * min(photos, gaussian_fitting.PHOTOS_PER_STEP)
    assert rendered == (20 * min(photos, 8) if photos > 1 else 10)
