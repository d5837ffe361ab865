"""The parts of a fit against loops in float64, other libraries and the renderer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from render_scenes import BACKENDS
from skimage.metrics import structural_similarity
from tolerances import tolerance

from tokengroups.fitting.density import MAX_COPIES, explore, regulariser, relocate, split_opacities
from tokengroups.fitting.optimisation import Optimisation, build_classifier, neighbour_loss, pixel_loss
from tokengroups.fitting.parameters import RATES, Parameters
from tokengroups.fitting.start import _neighbours, depth_range, pixel_footprints, start_points
from tokengroups.gaussians import covariances
from tokengroups.geometry import rigid, rotation_from_quaternion
from tokengroups.losses.photometric import ssim
from tokengroups.render import render
from tokengroups.types import Cameras, Gaussians, Views

BACKEND = BACKENDS[-1].partition(":")[0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def leaves(count: int, opacities: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Gaussians in front of a camera at the origin."""
    means = torch.rand(count, 3) * torch.tensor([1.0, 1.0, 0.5]) + torch.tensor([-0.5, -0.5, 2.0])
    opacities = torch.full((count,), 0.5) if opacities is None else opacities
    return {
        "means": means,
        "quats": torch.randn(count, 4),
        "log_scales": torch.full((count, 3), math.log(0.08)) + 0.3 * torch.randn(count, 3),
        "logits": torch.logit(opacities),
        "sh": torch.randn(count, 1, 3),
        "identities": torch.randn(count, 16),
    }


def parameters(count: int, opacities: torch.Tensor | None = None) -> Parameters:
    return Parameters(leaves(count, opacities))


def picture(gaussians: Gaussians) -> torch.Tensor:
    pinhole = torch.tensor([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]])[None]
    return render(gaussians, torch.eye(4)[None], pinhole, (64, 64), backend=BACKEND).colors[0]


# --- structural similarity -------------------------------------------------------------------------------------------


def test_ssim_is_that_of_scikit_image_and_has_its_gradient() -> None:
    one, other = torch.rand(2, 3, 20, 26, dtype=torch.float64), torch.rand(2, 3, 20, 26, dtype=torch.float64)
    expected = [
        structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, gaussian_weights=True, use_sample_covariance=False,
            data_range=1.0, sigma=1.5,
        )
        for a, b in zip(one, other, strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(ssim(one, other), torch.tensor(expected), **tolerance("float64"))
    assert torch.autograd.gradcheck(ssim, (one[:1, :, :12, :13].clone().requires_grad_(), other[:1, :, :12, :13]))


def test_ssim_of_equal_images_is_one_and_needs_eleven_pixels() -> None:
    image = torch.rand(3, 11, 11)
    assert float(ssim(image, image)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(image[:, :10], image[:, :10])


# --- density ---------------------------------------------------------------------------------------------------------


def loop_factor(opacity: float, new: float, copies: int) -> float:
    """The double sum of the paper's equation 9."""
    total = 0.0
    for i in range(1, copies + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1)
    return opacity / total


def test_split_follows_the_papers_double_sum() -> None:
    opacities = torch.tensor([0.02, 0.3, 0.7, 0.99, 0.5], dtype=torch.float64)
    copies = torch.tensor([1, 2, 5, 12, MAX_COPIES])
    new, factors = split_opacities(opacities, copies)
    torch.testing.assert_close(1 - (1 - new) ** copies, opacities, **tolerance("float64"))
    expected = [loop_factor(float(o), float(n), int(c)) for o, n, c in zip(opacities, new, copies, strict=True)]
    torch.testing.assert_close(factors, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)
    assert float(factors[0]) == pytest.approx(1)


@torch.no_grad()
def test_relocation_keeps_the_picture_and_revives_the_dead() -> None:
    opacities = torch.full((40,), 0.6)
    opacities[20:] = 0.001
    rows = parameters(40, opacities)
    before = picture(rows.gaussians())
    means = rows["means"].clone()
    assert relocate(rows, 40, generator()) == 20
    assert float(rows["logits"].sigmoid().min()) > 0.005
    after = picture(rows.gaussians())
    # The correction keeps the integral along lines through the centre: approximate elsewhere.
    assert float((after - before).abs().mean()) < 0.05 * float(before.abs().mean())
    assert torch.equal(rows["means"][:20], means[:20])
    assert float(torch.cdist(rows["means"][20:], means[:20]).amin(dim=1).max()) == 0
    naive = Parameters({name: rows[name].clone() for name in RATES})
    naive["logits"].fill_(torch.logit(torch.tensor(0.6)))  # copies without the correction
    assert float((picture(naive.gaussians()) - before).abs().mean()) > 3 * float((after - before).abs().mean())


@torch.no_grad()
def test_growth_adds_up_to_the_limit_and_keeps_the_picture() -> None:
    rows = parameters(30, torch.full((30,), 0.6))
    before = picture(rows.gaussians())
    for expected in (36, 40, 40):
        relocate(rows, 40, generator())
        assert len(rows) == expected
        assert {len(rows[name]) for name in RATES} == {expected}
    assert float((picture(rows.gaussians()) - before).abs().mean()) < 0.05 * float(before.abs().mean())


def test_adam_goes_on_after_rows_were_moved_and_added() -> None:
    rows = parameters(6)

    def step() -> None:
        rows.optimizer.zero_grad()
        sum(rows[name].square().sum() for name in RATES).backward()
        rows.optimizer.step()

    step()
    kept = rows.optimizer.state[rows["means"]]["exp_avg"][3].clone()
    rows.copy_rows(torch.tensor([0]), torch.tensor([1]))
    rows.append(torch.tensor([2, 2]))
    moments = rows.optimizer.state[rows["means"]]["exp_avg"]
    assert torch.equal(moments[3], kept) and float(moments[[0, 1, 6, 7]].abs().max()) == 0
    assert torch.equal(rows["means"][0], rows["means"][1]) and torch.equal(rows["sh"][6], rows["sh"][2])
    old = rows["means"].detach().clone()
    step()
    assert len(rows) == 8 and bool((rows["means"] != old).all())
    assert len(rows.optimizer.state) == len(RATES)


@torch.no_grad()
def test_noise_moves_only_faint_gaussians_and_has_their_shape() -> None:
    count = 4000
    opacities = torch.full((count,), 0.001)
    opacities[count // 2 :] = 0.5
    values = leaves(count, opacities)
    values["quats"][:] = torch.tensor([0.7, 0.1, -0.5, 0.3])
    values["log_scales"][:] = torch.tensor([0.3, 0.1, 0.02]).log()
    rows = Parameters(values)
    explore(rows, 2.0, generator())
    moved = rows["means"] - values["means"]
    assert float(moved[count // 2 :].abs().max()) < 1e-12
    gate = 1 / (1 + math.exp(-100 * ((1 - 0.001) - 0.995)))
    covariance = covariances(rows.gaussians())[0].double()
    expected = (2.0 * gate) ** 2 * covariance @ covariance
    found = torch.cov(moved[: count // 2].T.double())
    assert float((found - expected).norm() / expected.norm()) < 0.1  # 2,000 samples


def test_regulariser_is_the_two_means() -> None:
    opacities, scales = torch.tensor([0.2, 0.4]), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    assert float(regulariser(opacities, scales)) == pytest.approx(0.01 * 0.3 + 0.01 * 3.5)


# --- identities ------------------------------------------------------------------------------------------------------


def test_neighbour_loss_is_the_loop() -> None:
    means = torch.rand(12, 3, dtype=torch.float64)
    logits = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    samples = torch.tensor([0, 5, 11, 5])
    total = 0.0
    for i in samples.tolist():
        order = sorted((float((means[i] - means[j]).norm()), j) for j in range(12) if j != i)
        for _, j in order[:3]:
            own, other = logits[i].softmax(0).tolist(), logits[j].softmax(0).tolist()
            total += sum(p * math.log(p / q) for p, q in zip(own, other, strict=True))
    loss = neighbour_loss(means, logits, samples, 3)
    assert float(loss.detach()) == pytest.approx(total / (4 * 3), rel=1e-10)
    loss.backward()
    assert logits.grad is not None and float(logits.grad.abs().sum()) > 0


def test_neighbour_loss_of_agreeing_or_single_gaussians_is_zero() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5]]).expand(6, 3)
    assert float(neighbour_loss(torch.rand(6, 3), logits, torch.arange(6), 9)) == pytest.approx(0, abs=1e-6)
    assert float(neighbour_loss(torch.rand(1, 3), logits[:1], torch.tensor([0]), 5)) == 0


def test_pixel_loss_ignores_unlabelled_pixels() -> None:
    classifier = build_classifier(3, generator())
    rendered, columns = torch.randn(5, 6, 16), torch.randint(-1, 3, (5, 6))
    losses = [
        -float(classifier(rendered[r, c]).detach().log_softmax(0)[columns[r, c]])
        for r in range(5)
        for c in range(6)
        if columns[r, c] >= 0
    ]
    found = pixel_loss(rendered, columns, classifier, 100, generator())
    assert float(found.detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    rendered[columns < 0] = 1e3
    assert torch.equal(found, pixel_loss(rendered, columns, classifier, 100, generator()))
    nothing = pixel_loss(rendered, torch.full_like(columns, -1), classifier, 100, generator())
    assert float(nothing.detach()) == 0


def test_pixel_loss_of_few_pixels_estimates_that_of_all() -> None:
    classifier = build_classifier(3, generator())
    rendered, columns = torch.randn(40, 40, 16), torch.randint(-1, 3, (40, 40))
    everything = float(pixel_loss(rendered, columns, classifier, 10**6, generator()).detach())
    some = float(pixel_loss(rendered, columns, classifier, 800, generator()).detach())
    assert some == pytest.approx(everything, rel=0.1)  # 800 of 1,200 pixels


# --- start -----------------------------------------------------------------------------------------------------------


def wall_views() -> Views:
    """Three cameras side by side before a textured wall at z = 2, whose picture is exact."""
    size, focal = 48, 50.0
    pinhole = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    shifts = torch.tensor([-0.2, 0.0, 0.2])
    poses = rigid(torch.eye(3).expand(3, 3, 3), torch.stack([-shifts, torch.zeros(3), torch.zeros(3)], dim=1))
    axis = (torch.arange(size) + 0.5 - size / 2) / focal * 2.0
    x = axis[None, None] + shifts[:, None, None]
    y = axis[None, :, None].expand(3, size, size)
    red = 0.5 + 0.25 * torch.sin(9 * x) + 0.25 * torch.sin(31 * x + 5 * y)
    green = 0.5 + 0.5 * torch.sin(17 * y + 11 * x)
    images = torch.stack([red.expand_as(y), green.expand_as(y), (red * green).expand_as(y)], dim=1).clamp(0, 1)
    cameras = Cameras(poses, pinhole.expand(3, 3, 3), (size, size))
    ids = torch.zeros(3, size, size, dtype=torch.int64)
    return Views(images.contiguous(), cameras, torch.zeros(3, size, size), ids)


def test_plane_sweep_finds_a_wall() -> None:
    views = wall_views()
    start = start_points(views, 1000, None, generator())
    assert len(start.means) == 1000
    depth = start.means[:, 2]
    assert float(depth.median()) == pytest.approx(2, rel=0.05)  # hypotheses are 5 % apart
    assert float(((depth - 2).abs() < 0.2).float().mean()) > 0.8
    # Half as wide as they are apart: a pixel at z = 2 is 2 / 50 wide, and each has 3 * 48^2 / 1000 pixels.
    expected = depth.median() / 50 * math.sqrt(3 * 48 * 48 / 1000) / 2
    assert float(start.scales.median()) == pytest.approx(float(expected), rel=0.1)


def test_the_sweep_starts_nowhere_that_does_not_count() -> None:
    views = wall_views()
    mask = torch.ones(3, 48, 48, dtype=torch.bool)
    mask[:, :, :24] = False
    images = torch.where(mask[:, None], views.images, 1.0)
    start = start_points(replace(views, images=images, mask=mask), 10_000, None, generator())
    assert len(start.means) == 3 * 48 * 24
    assert float(((start.means[:, 2] - 2).abs() < 0.2).float().mean()) > 0.7


def test_pixels_that_do_not_count_move_nothing() -> None:
    views = wall_views()
    mask = torch.ones(3, 48, 48, dtype=torch.bool)
    mask[:, 10:30, 5:25] = False
    points = start_points(views, 300, None, generator())
    fits = []
    for color in (0.0, 1.0):
        painted = replace(views, images=torch.where(mask[:, None], views.images, color), mask=mask)
        fit = Optimisation(painted, torch.tensor([0]), points, 9, 0, 300, generator())
        numbers = [fit.step(step) for step in range(3)]
        fits.append((numbers, fit.quality(), fit.parameters.gaussians().sh))
    assert fits[0][:2] == fits[1][:2] and torch.equal(fits[0][2], fits[1][2])


@pytest.mark.parametrize("seed", range(20))
def test_neighbours_on_a_line_do_not_hang_on_a_rounding(seed: int) -> None:
    torch.manual_seed(seed)
    poses = torch.eye(4).repeat(9, 1, 1)
    poses[:, 0, 3] = torch.arange(9.0) / 3 + 1e-7 * torch.randn(9)
    cameras = Cameras(poses, torch.eye(3).expand(9, 3, 3), (8, 8))
    assert _neighbours(cameras, 4) == [3, 5, 2, 6]
    assert _neighbours(cameras, 1) == [0, 2, 3, 4]


def test_depth_range_follows_the_cameras() -> None:
    views = wall_views()
    near, far = depth_range(views.cameras)
    assert near == pytest.approx(0.5 * 0.2) and far == pytest.approx(20 * 0.4)
    assert depth_range(views.select([0]).cameras) == (1.0, 4.0)


def test_footprint_is_the_depth_over_the_focal_length_of_the_nearest_camera() -> None:
    turned = rotation_from_quaternion(torch.tensor([1.0, 0, 0, 0]))
    poses = torch.stack([torch.eye(4), rigid(turned, torch.tensor([0.0, 0, 1.0]))])
    pinhole = torch.tensor([[50.0, 0, 24], [0, 50, 24], [0, 0, 1]]).expand(2, 3, 3)
    points = torch.tensor([[0.0, 0, 3], [0, 0, -0.5], [9, 0, 1]])  # by both, by the second, by none
    found = pixel_footprints(points, Cameras(poses, pinhole, (48, 48)))
    torch.testing.assert_close(found[:2], torch.tensor([3 / 50, 0.5 / 50]))
    assert float(found[2]) == pytest.approx(float(found[:2].median()))
