"""Instance fields as systems: scenes from them, weights, training, and the published checkpoint's format."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from iggt_weights import SIZES, published_state

from tokengroups.data.base import open_dataset
from tokengroups.data.example import FramePlan, cut_example, stack_examples
from tokengroups.encoders import load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.losses.instance_field import InstanceFieldLossConfig
from tokengroups.scene import load_scene, save_scene
from tokengroups.systems import load_model, save_system
from tokengroups.systems.cell_gaussians import CellGaussiansConfig, cell_stride
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.iggt import IGGT, IGGTConfig, IGGTSettings
from tokengroups.systems.iggt.published import FILE_NAME, load_published
from tokengroups.systems.iggt.system import at_cells
from tokengroups.systems.iggt_tiny import IGGTTiny, IGGTTinyConfig, IGGTTinySettings


def tiny(**changes: Any) -> IGGTTiny:
    torch.manual_seed(0)
    return IGGTTiny(load_encoder("vggt_tiny"), replace(IGGTTinyConfig(), **changes)).eval()


def test_every_cell_is_a_gaussian_of_its_pixel_s_instance() -> None:
    system = tiny(gaussians=CellGaussiansConfig(max_gaussians=2 * 64 * 64))
    made = system.predict(torch.rand(2, 3, 128, 128))
    scene, groups = made.scene, made.photo_groups
    assert len(scene.gaussians.means) == 2 * 64 * 64 and groups is not None
    owner = scene.group_ids[scene.assignment.argmax(dim=1)]
    assert torch.equal(owner, groups.labels[made.anchor_pixels.unbind(-1)])
    assert groups.field.shape == (2, 8, 128, 128) and len(groups.scores) >= len(scene.group_ids)
    assert groups.labels.min() == 0 and int(groups.labels.max()) == len(groups.scores) - 1


def test_scenes_of_instances_are_scenes_like_any_other(tmp_path: Path) -> None:
    scene = tiny(gaussians=CellGaussiansConfig(max_gaussians=2000)).reconstruct(torch.rand(2, 3, 64, 64))
    save_scene(tmp_path / "a.safetensors", scene)
    again = load_scene(tmp_path / "a.safetensors")
    assert torch.equal(again.assignment, scene.assignment) and torch.equal(again.group_ids, scene.group_ids)


def test_weights_are_found_by_their_folder(tmp_path: Path) -> None:
    system, photos = tiny(), torch.rand(1, 3, 64, 64)
    save_system(tmp_path, system.network.state_dict(), system, system.config, "vggt_tiny")
    loaded = load_model(tmp_path)
    geometry = loaded.encode(photos).geometry.map(lambda tensor: tensor[None])
    assert isinstance(loaded, IGGTTiny)
    torch.testing.assert_close(
        loaded.field(photos[None], geometry), system.field(photos[None], geometry), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize(
    ("views", "size_hw", "limit", "stride"),
    [(2, (128, 128), 40_000, 1), (8, (128, 128), 40_000, 2), (1, (42, 56), 100, 7), (9, (42, 56), 1, 14)],
)
def test_cells_divide_the_photos(views: int, size_hw: tuple[int, int], limit: int, stride: int) -> None:
    assert cell_stride(views, size_hw, limit) == stride


def test_ids_are_taken_where_the_cells_lie() -> None:
    """Corner cells lie on corner pixels, as bilinear enlargement with aligned corners puts them."""
    ids = torch.arange(7 * 9).reshape(1, 1, 7, 9)
    found = at_cells(ids, torch.zeros(1, 1, 8, 3, 5))
    assert found[0, 0].tolist() == [[0, 2, 4, 6, 8], [27, 29, 31, 33, 35], [54, 56, 58, 60, 62]]


def small_example() -> Any:
    rooms = open_dataset("procedural", num_frames=5, size=56, options={"num_rooms": 2})
    return stack_examples([cut_example(rooms[rooms.splits["train"][0]][:], FramePlan(2))])


def take_step(system: Any) -> tuple[float, float]:
    """Loss before and after ten steps on one example."""
    groups = [
        {**group, "lr": 2e-3 * group.pop("lr_scale")} for group in system.parameter_groups(0.0, False)
    ]  # the optimiser knows no lr_scale
    optimiser, example, losses = torch.optim.AdamW(groups), small_example(), []
    for step in range(10):
        optimiser.zero_grad()
        total = system.losses(example, step, "fp32").total
        total.backward()
        losses.append(float(total.detach()))
        optimiser.step()
    return losses[0], losses[-1]


@pytest.fixture
def encoder_folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    encoder = VGGT(SIZES)
    save_encoder(tmp_path / "encoder", encoder.state_dict(), SIZES)
    return tmp_path / "encoder"


@pytest.mark.parametrize(
    ("scale", "head"),
    [
        (0.0, InstanceHeadConfig()), (0.5, InstanceHeadConfig()), (0.0, InstanceHeadConfig(layout="paper")),
        (0.0, InstanceHeadConfig(fusion=False)), (0.5, InstanceHeadConfig(fusion=False)),
        (0.0, InstanceHeadConfig(layout="paper", fusion=False)),
    ],
)  # fmt: skip
def test_training_with_frozen_and_with_trained_encoder(
    scale: float, head: InstanceHeadConfig, encoder_folder: Path, tmp_path: Path
) -> None:
    losses = InstanceFieldLossConfig(min_cells=5)
    system = IGGT.for_training(IGGTSettings(str(encoder_folder), scale, IGGTConfig(head), losses))
    before = {name: tensor.clone() for name, tensor in system.encoder.state_dict().items()}
    first, last = take_step(system)
    assert last < first
    moved = [name for name, tensor in system.encoder.state_dict().items() if not torch.equal(tensor, before[name])]
    assert bool(moved) == (scale > 0)
    asked = [name for name, parameter in system.network.named_parameters() if parameter.requires_grad]
    silent = [name for name in asked if dict(system.network.named_parameters())[name].grad is None]
    assert not silent  # every process waits for the gradients of all
    system.export(tmp_path / "out", system.network.state_dict())
    assert (tmp_path / "out" / "encoder").exists() == (scale > 0)
    loaded = load_model(tmp_path / "out", encoder=None if scale > 0 else encoder_folder)
    for name, tensor in loaded.encoder.state_dict().items():
        torch.testing.assert_close(tensor, system.encoder.state_dict()[name], rtol=1e-3, atol=1e-5)  # half precision


def test_the_tiny_system_learns() -> None:
    settings = IGGTTinySettings(losses=InstanceFieldLossConfig(min_cells=5, classification=1.0))
    system = IGGTTiny.for_training(settings)
    rooms = open_dataset("procedural", num_frames=5, size=64, options={"num_rooms": 2})
    example = stack_examples([cut_example(rooms[rooms.splits["train"][0]][:], FramePlan(2))])
    optimiser = torch.optim.AdamW(system.network.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        optimiser.zero_grad()
        total = system.losses(example, step, "fp32").total
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.8 * losses[0]
    data = EvaluationData("procedural", FramePlan(2))
    assert set(system.evaluate([cut_example(rooms[0][:], FramePlan(2))], data)) == {
        "t_miou_ceiling", "t_miou_all_views_ceiling", "t_sr_ceiling",
    }  # fmt: skip


# --- the published checkpoint ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_folder", [True, False])
def test_the_published_checkpoint_loads_strictly(tmp_path: Path, as_folder: bool) -> None:
    state, file = published_state(), tmp_path / FILE_NAME
    torch.save(state, file)
    system = load_published(tmp_path if as_folder else file, SIZES)
    for name, tensor in system.branch.state_dict().items():
        assert torch.equal(tensor, state[f"module.{name}"]), name
    assert not any(parameter.requires_grad for parameter in system.parameters())
    field = system.predict(torch.rand(2, 3, 28, 42)).photo_groups
    assert field is not None and field.field.shape == (2, 8, 28, 42)


class Evil:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])


def _vggt(file: Path) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in VGGT(SIZES).state_dict().items()}, file)


def _segvggt(file: Path) -> None:
    names = ("aggregator.instance_query_token", "semantic_head.norm.weight")
    torch.save({name: torch.ones(1) for name in names}, file)


def _other(file: Path) -> None:
    torch.save({"backbone.weight": torch.ones(2)}, file)


def _partial(file: Path) -> None:
    torch.save({n: t for n, t in published_state().items() if "part_head.window_self" not in n}, file)


def _code(file: Path) -> None:
    torch.save({"module.a": Evil(file.parent / "ran")}, file)


def _list(file: Path) -> None:
    torch.save([torch.ones(1)], file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, "damaged or truncated"),
        (_vggt, "VGGT weights without all of IGGT's instance branch; IGGT's has point_head, part_adaptor"),
        (_segvggt, "a SegVGGT checkpoint"),
        (_other, "the checkpoint of another model"),
        (_partial, "do not fit this InstanceBranch: .* missing: part_head.window_self_atten"),
        (_code, "may run code"),
        (_list, "no state dict"),
        (lambda file: file.write_bytes(b"not a checkpoint"), "damaged or truncated"),
        (lambda file: file.unlink(), f"no such file; give {FILE_NAME}"),
    ],
)
def test_other_files_are_one_line_that_says_what_they_are(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    file = tmp_path / "a.pth"
    torch.save(published_state(), file)
    spoil(file)
    with pytest.raises(UserError, match=message) as caught:
        load_published(file, SIZES)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()
