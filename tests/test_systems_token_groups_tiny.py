"""Maps of single photos and more anchors for more photos: what they add, and that groups without them are unchanged."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tiny_encoder import WITH_SINGLE_VIEW
from tolerances import tolerance
from torch import Tensor
from torch.nn import functional
from toy_systems import DEEPER, ENCODER, FEATURE_DIM, GROUPS, random_input, random_photos

from tokengroups.encoders import save_encoder
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.encoders.vggt import VGGT
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.errors import UserError
from tokengroups.nn.single_view_embedding import SingleViewEmbedding
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.systems import save_system
from tokengroups.systems.token_groups import TokenGroupModel
from tokengroups.systems.token_groups_tiny import TokenGroupsTiny, TokenGroupsTinyConfig, TokenGroupTinyModel
from tokengroups.training.experiments import read_experiment

CONFIGS = Path(__file__).parent.parent / "configs"
DIMS = (12, 8)  # coarse, fine
PLAIN = TokenGroupsTinyConfig(**asdict(DEEPER))
READING = replace(PLAIN, single_view_features=True)
DETAILED = replace(WITH_SINGLE_VIEW, single_view_details=8)


def random_maps(num_scenes: int, num_views: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(num_scenes, num_views, channels, cells, cells, generator=generator)
        for channels, cells in zip(DIMS, (4, 8), strict=True)
    )


def trained_embedding(dim: int = 5) -> SingleViewEmbedding:
    torch.manual_seed(3)
    embedding = SingleViewEmbedding(dim, DIMS)
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


def with_maps(geometry, maps):
    return replace(geometry, evidence={SINGLE_VIEW_FEATURES: maps})


def test_groups_start_as_they_were_without(tmp_path) -> None:
    """Untrained, the maps add nothing: weights of plain token groups go on with them."""
    torch.manual_seed(0)
    encoder = VGGTTiny(DETAILED)
    plain = TokenGroupsTiny(encoder, PLAIN)
    save_system(tmp_path, plain.network.state_dict(), plain, PLAIN, "unused")
    for parameter in plain.network.parameters():
        parameter.data = parameter.data.half().float()  # as they are written
    reading = TokenGroupsTiny(encoder, READING)
    reading.load_start(str(tmp_path))
    images = random_photos()[None]
    geometry = plain.encode_batch(images)
    assert geometry.evidence[SINGLE_VIEW_FEATURES][0].shape[2] == 48
    before, after = plain.network(images, geometry), reading.network(images, geometry)
    assert torch.equal(before.assignment, after.assignment)
    assert torch.equal(before.gaussians.means, after.gaussians.means)
    with pytest.raises(UserError, match="single_view"):  # the other way round, weights would be lost
        save_system(tmp_path / "reading", reading.network.state_dict(), reading, READING, "unused")
        plain.load_start(str(tmp_path / "reading"))


@pytest.mark.parametrize("part", ["context_single_view", "anchor_single_view"])
def test_both_tokens_and_anchors_read_the_maps(part: str) -> None:
    torch.manual_seed(0)
    model = TokenGroupTinyModel(READING, FEATURE_DIM, DIMS).eval()
    embedding = getattr(model, part)
    for linear in embedding.linears:
        torch.nn.init.normal_(linear.weight)
    images, geometry = random_input()
    first, second = (model(images, with_maps(geometry, random_maps(2, 2, seed))) for seed in (0, 1))
    assert not torch.allclose(first.assignment, second.assignment)
    both = with_maps(geometry, random_maps(2, 2))
    for scene in range(2):
        one = both.map(lambda tensor, i=scene: tensor[i : i + 1])
        alone = model(images[scene : scene + 1], one)
        torch.testing.assert_close(alone.assignment[0], first.assignment[scene], **tolerance("float32_chain"))
    first.assignment.square().sum().backward()
    assert all(float(linear.weight.grad.abs().sum()) > 0 for linear in embedding.linears)


def test_the_photos_colour_is_all_that_the_queries_add_to_the_paper_s() -> None:
    """The same weights with a colour layer of zeros predict what the paper's model does."""
    torch.manual_seed(0)
    tiny, paper = TokenGroupTinyModel(PLAIN, FEATURE_DIM), TokenGroupModel(DEEPER, FEATURE_DIM)
    state = {name: value for name, value in tiny.state_dict().items() if not name.startswith("anchor_color.")}
    paper.load_state_dict(state)
    images, geometry = random_input()
    expected = paper(images, geometry)
    assert not torch.allclose(tiny(images, geometry).assignment, expected.assignment)
    for parameter in tiny.anchor_color.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(tiny(images, geometry).assignment, expected.assignment)


def test_the_whole_model_reads_its_encoder_s_maps() -> None:
    """Shapes as the encoder's configuration says, and the mirrored photos have maps of their own."""
    torch.manual_seed(0)
    model = TokenGroupsTiny(VGGTTiny(DETAILED), replace(READING, num_anchors=32), [FlipEnsemble()]).eval()
    photos = torch.rand(2, 3, 32, 32)
    maps = model.encode(photos).geometry.evidence[SINGLE_VIEW_FEATURES]
    dims = model.encoder.evidence_dims[SINGLE_VIEW_FEATURES]
    assert tuple(photo_maps.shape[1] for photo_maps in maps) == dims == (48, 8)
    before = model.predict(photos)
    assert model.network.context_single_view is not None
    for linear in model.network.context_single_view.linears:
        torch.nn.init.normal_(linear.weight)
    after = model.predict(photos)
    assert before.scene.assignment.shape != after.scene.assignment.shape or not torch.allclose(
        before.scene.assignment, after.scene.assignment
    )


@pytest.mark.parametrize(("num_photos", "anchors"), [(1, 48), (2, 48), (4, 68), (8, 96)])
def test_more_photos_get_more_anchors_of_the_same_size(num_photos, anchors) -> None:
    torch.manual_seed(0)
    config = TokenGroupsTinyConfig(**asdict(GROUPS))
    photos = random_photos(num_photos, seed=1)
    plain = TokenGroupsTiny(VGGT(ENCODER), config)
    assert len(plain.predict(photos).scene.anchors) == 48
    model = TokenGroupsTiny(VGGT(ENCODER), replace(config, anchor_growth=0.5))
    model.load_state_dict(plain.state_dict())
    scene = model.predict(photos).scene
    assert len(scene.anchors) == len(scene.assignment) == anchors
    assert len(scene.gaussians.means) == len(scene.anchor_ids) == 3 * anchors
    sizes = [scene.gaussians.scales.median(), model.predict(photos[:2]).scene.gaussians.scales.median()]
    assert 0.5 < sizes[0] / sizes[1] < 2


def test_no_maps_to_read_is_refused(tmp_path) -> None:
    assert SINGLE_VIEW_FEATURES not in getattr(VGGT(ENCODER), "evidence_dims", {})
    with pytest.raises(ValueError, match="single_view_features needs an encoder with a single-view network"):
        TokenGroupsTiny(VGGT(ENCODER), READING)
    save_encoder(tmp_path / "plain", VGGT(ENCODER).state_dict(), ENCODER)
    overrides = [f"encoder={tmp_path}/plain", "training.output=unused", f"data.root={tmp_path}"]
    experiment = read_experiment(CONFIGS / "token_groups_tiny.yaml", [*overrides, "postprocess=[]"])
    with pytest.raises(UserError, match="plain does not fit the model: single_view_features needs"):
        experiment.build()
    experiment = read_experiment(CONFIGS / "token_groups_tiny.yaml", [*overrides, "model.single_view_features=false"])
    with pytest.raises(UserError, match="boundary_crf needs pair_affinity, which VGGT does not predict"):
        experiment.build()


@pytest.mark.parametrize(("step", "setting"), [("photometric_refinement", "steps"), ("boundary_crf", "iterations")])
def test_negative_numbers_of_steps_are_refused(step, setting, tmp_path) -> None:
    overrides = ["training.output=unused", f"data.root={tmp_path}"]
    spec = f"postprocess=[{{name: {step}, {setting}: -1}}]"
    experiment = read_experiment(CONFIGS / "token_groups_tiny.yaml", [*overrides, spec])
    with pytest.raises(UserError, match=f"postprocess: {step}: the key '{setting}' must be a whole .*, got -1"):
        experiment.build()
