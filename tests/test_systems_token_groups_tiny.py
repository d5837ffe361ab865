"""Maps of single photos: where they are read, what they add, and that groups without them are unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.test_systems_token_groups_decoder import CONFIG, FEATURE_DIM, random_input
from tests.test_training_geometry import TINY
from tests.tolerances import tolerance
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder
from tokengroups.systems.token_groups.system import TokenGroups, build_decoder
from tokengroups.systems.token_groups_tiny.single_view_features import (
    PhotoFeatureEmbedding,
    photo_feature_dims,
)
from tokengroups.systems.weights import save_decoder, save_encoder
from tokengroups.training.experiments import read_experiment
from tokengroups.training.tasks.token_groups import build_task, load_start

CONFIGS = Path(__file__).parent.parent / "configs"
DIMS = (12, 8)  # coarse, fine
ENCODER = replace(TINY, perspective_channels=(8, 8, 16, 32), perspective_depth=1, perspective_details=8)


def random_maps(num_scenes: int, num_views: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(num_scenes, num_views, channels, cells, cells, generator=generator)
        for channels, cells in zip(DIMS, (4, 8), strict=True)
    )


def trained_embedding(dim: int = 5) -> PhotoFeatureEmbedding:
    torch.manual_seed(3)
    embedding = PhotoFeatureEmbedding(dim, DIMS)
    for parameter in embedding.parameters():
        parameter.data += torch.randn_like(parameter)
    return embedding


def read(image: Tensor, x: float, y: float) -> Tensor:
    """Bilinear value of [C, d, d] at a place in cells, the nearest border beyond the outermost middles."""
    side = image.shape[-1]
    x, y = (min(max(value - 0.5, 0.0), side - 1.0) for value in (x, y))
    left, top = min(int(x), side - 2), min(int(y), side - 2)
    a, b = x - left, y - top
    upper = (1 - a) * image[:, top, left] + a * image[:, top, left + 1]
    lower = (1 - a) * image[:, top + 1, left] + a * image[:, top + 1, left + 1]
    return (1 - b) * upper + b * lower


@pytest.mark.parametrize("size_hw", [(32, 32), (32, 48), (48, 32)])
@pytest.mark.parametrize("stride", [4, 8])
def test_maps_are_read_in_the_middle_of_every_cell(size_hw: tuple[int, int], stride: int) -> None:
    """Against loops in float64: the coarse map at the fine one's middles, their sum at the cells' middles."""
    embedding, maps = trained_embedding(), random_maps(2, 2)
    found = embedding(maps, size_hw, stride).detach()
    rows, columns, short = size_hw[0] // stride, size_hw[1] // stride, min(size_hw)
    assert found.shape == (2, 2 * rows * columns, 5)
    for scene, view in ((0, 0), (1, 1)):
        embedded = []
        for photos, norm, linear in zip(maps, embedding.norms, embedding.linears, strict=True):
            cells = photos[scene, view].double().permute(1, 2, 0)
            cells = functional.layer_norm(cells, cells.shape[-1:], norm.weight.double(), norm.bias.double())
            embedded.append((cells @ linear.weight.double().T + linear.bias.double()).permute(2, 0, 1))
        coarse, fine = embedded
        total = fine.clone()
        for i in range(8):
            for j in range(8):
                total[:, i, j] += read(coarse, (j + 0.5) / 2, (i + 0.5) / 2)
        for row in range(rows):
            for column in range(columns):
                y, x = (row + 0.5) * stride - size_hw[0] / 2, (column + 0.5) * stride - size_hw[1] / 2
                expected = read(total, (x / short + 0.5) * 8, (y / short + 0.5) * 8)
                value = found[scene, view * rows * columns + row * columns + column]
                torch.testing.assert_close(value.double(), expected.detach(), **tolerance("float32_chain"))


def test_groups_start_as_they_were_without(tmp_path) -> None:
    """Untrained, the maps add nothing: weights of plain token groups go on with them."""
    torch.manual_seed(0)
    plain = TokenGroupDecoder(CONFIG, FEATURE_DIM)
    images, geometry = random_input()
    geometry = replace(geometry, photo_features=random_maps(2, 2))
    save_decoder(tmp_path, plain.state_dict(), CONFIG, "unused")
    for parameter in plain.parameters():
        parameter.data = parameter.data.half().float()  # as they are written
    reading = TokenGroupDecoder(replace(CONFIG, photo_features=True), FEATURE_DIM, DIMS)
    load_start(reading, str(tmp_path))
    before, after = plain(images, geometry), reading(images, geometry)
    assert torch.equal(before.assignment, after.assignment)
    assert torch.equal(before.gaussians.means, after.gaussians.means)
    with pytest.raises(UserError, match="photo"):  # the other way round, weights would be lost
        save_decoder(tmp_path / "reading", reading.state_dict(), reading.config, "unused")
        load_start(plain, str(tmp_path / "reading"))


@pytest.mark.parametrize("part", ["context_photo", "anchor_photo"])
def test_both_tokens_and_anchors_read_the_maps(part: str) -> None:
    torch.manual_seed(0)
    decoder = TokenGroupDecoder(replace(CONFIG, photo_features=True), FEATURE_DIM, DIMS).eval()
    embedding = getattr(decoder, part)
    for linear in embedding.linears:
        torch.nn.init.normal_(linear.weight)
    images, geometry = random_input()
    first, second = (
        decoder(images, replace(geometry, photo_features=random_maps(2, 2, seed))) for seed in (0, 1)
    )
    assert not torch.allclose(first.assignment, second.assignment)
    both = replace(geometry, photo_features=random_maps(2, 2))
    for scene in range(2):
        one = both.map(lambda tensor, i=scene: tensor[i : i + 1])
        alone = decoder(images[scene : scene + 1], one)
        torch.testing.assert_close(alone.assignment[0], first.assignment[scene], **tolerance("float32_chain"))
    first.assignment.square().sum().backward()
    assert all(float(linear.weight.grad.abs().sum()) > 0 for linear in embedding.linears)


def test_the_whole_model_reads_its_encoder_s_maps() -> None:
    """Shapes as the encoder's configuration says, and the mirrored photos have maps of their own."""
    torch.manual_seed(0)
    config = replace(CONFIG, photo_features=True, mirrored_grouping=True, num_anchors=32)
    model = TokenGroups(VGGT(ENCODER), config).eval()
    photos = torch.rand(2, 3, 32, 32)
    geometry = model.encode(photos[None])
    assert tuple(maps.shape[2] for maps in geometry.photo_features) == photo_feature_dims(ENCODER) == (48, 8)
    before = model.predict(photos)
    assert model.decoder.context_photo is not None
    for linear in model.decoder.context_photo.linears:
        torch.nn.init.normal_(linear.weight)
    after = model.predict(photos)
    assert before.scene.assignment.shape != after.scene.assignment.shape or not torch.allclose(
        before.scene.assignment, after.scene.assignment
    )


def test_no_maps_to_read_is_refused(tmp_path) -> None:
    assert photo_feature_dims(TINY) == ()
    with pytest.raises(ValueError, match="photo_features needs an encoder with a perspective network"):
        build_decoder(replace(CONFIG, photo_features=True), TINY)
    save_encoder(tmp_path / "plain", VGGT(TINY).state_dict(), TINY)
    overrides = [f"encoder={tmp_path}/plain", "training.output=unused"]
    _, _, experiment = read_experiment(CONFIGS / "token_groups_tiny.yaml", overrides)
    with pytest.raises(UserError, match="plain has no perspective network; set it to false"):
        build_task(experiment)
    _, _, experiment = read_experiment(
        CONFIGS / "token_groups_tiny.yaml", [*overrides, "model.photo_features=false"]
    )
    with pytest.raises(UserError, match="model.border_rounds: .*plain tells no borders of objects"):
        build_task(experiment)


@pytest.mark.parametrize("name", ["sharpening_steps", "border_rounds"])
def test_negative_numbers_of_steps_are_refused(name) -> None:
    with pytest.raises(UserError, match=f"{name} must not be negative, got -1"):
        read_experiment(CONFIGS / "token_groups_tiny.yaml", [f"model.{name}=-1"])
