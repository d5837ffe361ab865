"""Adapting an encoder by rendering: batches, objective, learning, resuming, evaluation and what is exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_training import assert_same_end
from tests.tolerances import tolerance
from tokengroups.config import config_to_dict
from tokengroups.data.example import Example
from tokengroups.data.stream import ExampleConfig
from tokengroups.encoders import Geometry, load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt.pose_encoding import decode_pose
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.errors import UserError
from tokengroups.geometry import relative_cameras, world_points
from tokengroups.losses.encoder import EncoderLossWeights
from tokengroups.losses.photometric import psnr
from tokengroups.losses.terms import LossTerms
from tokengroups.systems import System
from tokengroups.systems.pixel_gaussians import (
    PixelGaussians,
    PixelGaussiansConfig,
    PixelGaussiansLossWeights,
    PixelGaussiansSettings,
)
from tokengroups.systems.pixel_gaussians.system import PixelGaussianNetwork, PixelGaussiansOutput, render_targets
from tokengroups.training.config import TrainingConfig
from tokengroups.training.experiments import read_experiment
from tokengroups.training.loop import train
from tokengroups.training.optim import build_optimizer
from tokengroups.training.tasks.system import SystemTask
from tokengroups.types import Cameras

CONFIG = Path(__file__).parent.parent / "configs" / "vggt_tiny_gaussians.yaml"
ENCODER = VGGTTinyConfig(
    patch_size=8, image_size=32, embed_dim=16, num_heads=2, num_registers=1, dino_depth=1, depth=4, layer_scale=0.2,
    dino_layer_scale=1.0, camera_depth=1, camera_heads=2, camera_iterations=2, enable_point=True,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=4, stem_channels=(4, 8, 16),
    matching_dim=8,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PixelGaussiansExperiment(PixelGaussiansSettings):
    training: TrainingConfig
    data: ExampleConfig


def build_task(experiment: PixelGaussiansExperiment) -> SystemTask:
    return SystemTask(experiment, PixelGaussians)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The number of threads decides the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> PixelGaussiansExperiment:
    folder = tmp_path_factory.mktemp("pixel_gaussians")
    torch.manual_seed(0)
    save_encoder(folder / "encoder", VGGTTiny(ENCODER).state_dict(), ENCODER)
    return PixelGaussiansExperiment(
        training=TrainingConfig(
            str(folder / "run"), 4, 2, learning_rate=1e-3, warmup_steps=2, log_every=1, trackers=(), device="cpu"
        ),
        data=ExampleConfig(
            root=str(folder / "rooms"), options={"num_rooms": 2}, num_frames=5, size=32, evaluation_scenes=1
        ),
        start_from=str(folder / "encoder"),
        model=PixelGaussiansConfig(stride=2, dim=8),
        losses=PixelGaussiansLossWeights(lpips=0.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def task(experiment: PixelGaussiansExperiment) -> SystemTask:
    return build_task(experiment)


def test_the_system_gets_its_own_settings_alone(task: SystemTask, experiment: PixelGaussiansExperiment) -> None:
    assert isinstance(task.system, PixelGaussians) and type(task.system.settings) is PixelGaussiansSettings
    own = vars(task.system.settings)
    assert vars(experiment) == own | {"training": experiment.training, "data": experiment.data}


def test_a_batch_is_a_pure_function_of_step_and_slots(task: SystemTask, experiment: PixelGaussiansExperiment) -> None:
    both = task.batch(3, range(2))
    assert both.context.images.shape == (2, 2, 3, 32, 32)
    assert both.targets.images.shape == (2, 5, 3, 32, 32)
    again = build_task(experiment).batch(3, range(1, 2))
    assert torch.equal(again.targets.images[0], both.targets.images[1])
    assert not torch.equal(task.batch(4, range(1)).context.images[0], both.context.images[0])


def test_the_loss_of_a_batch_is_the_mean_of_its_scenes(task: SystemTask) -> None:
    with torch.no_grad():
        whole = task.losses(task.batch(0, range(2)), 0)
        parts = [task.losses(task.batch(0, range(slot, slot + 1)), 0) for slot in range(2)]
    for name, value in {"total": whole.total, **whole.terms}.items():
        single = [part.total if name == "total" else part.terms[name] for part in parts]
        torch.testing.assert_close(value, (single[0] + single[1]) / 2, **tolerance("float32_chain"))
    torch.testing.assert_close(whole.total, whole.terms["mse"] + whole.terms["geometry"])


@pytest.mark.parametrize(("geometry", "points"), [(1.0, 1.0), (0.5, 0.0), (0.0, 1.0)])
def test_everything_trainable_learns_and_nothing_else_is_waited_for(
    experiment: PixelGaussiansExperiment, geometry: float, points: float
) -> None:
    """As data-parallel training demands: a parameter has a gradient, or it is frozen."""
    weights = PixelGaussiansLossWeights(0.0, geometry, EncoderLossWeights(points=points))
    task = build_task(replace(experiment, losses=weights))
    losses = task.losses(task.batch(0, range(1)), 0)
    losses.total.backward()
    expected = losses.terms["mse"] + geometry * losses.terms["geometry"]
    torch.testing.assert_close(losses.total, expected)
    frozen = set()
    for name, parameter in task.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name
            frozen.add(name.split(".")[1] if "point_head" in name else name.split(".")[-1])
    alone = {"empty_pose_tokens"} if geometry == 0 else set()
    assert frozen == {"mask_token"} | alone | ({"point_head"} if geometry * points == 0 else set())


class MeanDifference(torch.nn.Module):
    """In the place of LPIPS."""

    def forward(self, predicted: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        return (predicted - photos).abs().mean(dim=(1, 2, 3))


def test_the_perceptual_term_compares_every_rendered_view(
    experiment: PixelGaussiansExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def build(config: object, weight: float) -> MeanDifference:  # noqa: ARG001
        asked.append(weight)
        return MeanDifference()

    monkeypatch.setattr("tokengroups.systems.pixel_gaussians.system.build_lpips", build)
    task = build_task(replace(experiment, losses=PixelGaussiansLossWeights(lpips=0.5)))
    batch = task.batch(0, range(1))
    with torch.no_grad():
        losses = task.losses(batch, 0)
        rendered = render_targets(task.model(batch.context.images), batch)
    assert asked == [0.5]
    torch.testing.assert_close(losses.terms["lpips"], (rendered - batch.targets.images).abs().mean())
    expected = losses.terms["mse"] + 0.5 * losses.terms["lpips"] + losses.terms["geometry"]
    torch.testing.assert_close(losses.total, expected)


def test_true_geometry_of_any_scale_renders_the_target_views(task: SystemTask) -> None:
    """First camera and one scale: truth that is 0.3 times as large, in another world, gives the photos back."""
    batch = task.batch(1, range(2))
    first, ones = batch.context.cameras.cam_from_world[:, 0], torch.full((2,), 0.3)
    cameras = Cameras(
        relative_cameras(batch.context.cameras.cam_from_world, first, ones),
        batch.context.cameras.intrinsics,
        batch.context.cameras.size_hw,
    )
    depth = 0.3 * batch.context.depth
    points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)
    with torch.no_grad():
        output = task.model(batch.context.images)
        geometry = Geometry(output.geometry.features, points, depth, 1 + depth, cameras)
        gaussians = task.model.head(batch.context.images, geometry)
        opaque = replace(gaussians, opacities=torch.full_like(gaussians.opacities, 0.95))
        rendered = render_targets(PixelGaussiansOutput(output.encoded, geometry, opaque), batch)
        wrong = replace(batch, targets=batch.targets.map(lambda tensor: tensor.flip(1)))
        of_wrong_views = render_targets(PixelGaussiansOutput(output.encoded, geometry, opaque), wrong)
    photos = [1, 3]  # among the target views; the others see what no photo does
    right = psnr(rendered, batch.targets.images)[:, photos]
    mistaken = psnr(of_wrong_views, batch.targets.images)[:, photos]
    assert right.min() > 17, right
    assert right.mean() > 3 + mistaken.mean(), (right, mistaken)


def test_steps_on_one_batch_lower_the_loss(experiment: PixelGaussiansExperiment) -> None:
    task = build_task(experiment)
    config = replace(experiment.training, learning_rate=3e-3)
    optimizer = build_optimizer(task.parameter_groups(), task.model, config)
    batch, history = task.batch(0, range(1)), []
    for step in range(10):
        losses = task.losses(batch, step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append({"total": losses.total.item(), "mse": losses.terms["mse"].item()})
    assert history[-1]["total"] < 0.9 * history[0]["total"], history
    assert history[-1]["mse"] < history[0]["mse"], history


def test_the_trunk_learns_slower_and_muon_takes_its_matrices(experiment: PixelGaussiansExperiment) -> None:
    muon = replace(experiment.training, optimizer="muon")
    task = build_task(replace(experiment, training=muon, encoder_lr_scale=0.25, gaussians_lr_scale=5.0))
    scales = {id(p): group["lr_scale"] for group in task.parameter_groups() for p in group["params"]}
    by_muon = {id(p) for group in task.parameter_groups() if group.get("muon") for p in group["params"]}
    encoder = task.model.encoder
    for name, parameter in task.model.named_parameters():
        if parameter.requires_grad:
            slow = name.startswith(("encoder.aggregator.", "encoder.matching."))
            fast = name.startswith("head.")
            assert scales[id(parameter)] == (0.25 if slow else 5.0 if fast else 1.0), name
    assert id(encoder.aggregator.global_blocks[0].mlp.fc1.weight) in by_muon
    assert id(encoder.camera_head.pose_branch.fc1.weight) in by_muon
    assert not any(id(p) in by_muon for p in task.model.head.parameters())


class Crash(Exception):
    pass


class CrashingTask(SystemTask):
    """Dies in the middle of a step: nothing is saved on the way out."""

    def losses(self, batch: Example, step: int) -> LossTerms:
        if step == 3:
            raise Crash
        return super().losses(batch, step)


def test_a_crashed_run_continues_to_the_same_bits(experiment: PixelGaussiansExperiment, tmp_path: Path) -> None:
    def run(name: str, kind: type[SystemTask] = SystemTask) -> None:
        training = replace(experiment.training, output=str(tmp_path / name), checkpoint_every=2, precision="bf16")
        changed = replace(experiment, training=training)
        train(kind(changed, PixelGaussians), training, config_to_dict(changed))

    run("whole")
    with pytest.raises(Crash):
        run("crashed", CrashingTask)
    run("crashed")
    assert_same_end(tmp_path / "whole", tmp_path / "crashed")
    exported = load_encoder(tmp_path / "whole" / "weights")
    assert exported.config == ENCODER and exported.frozen


def test_evaluation_names_its_numbers(task: SystemTask) -> None:
    with torch.no_grad():
        numbers = task.evaluate()
    assert numbers.keys() == {
        "psnr",
        "psnr_nearest_view",
        "depth_absrel",
        "point_error",
        "rotation_error_deg",
        "translation_error_deg",
        "translation_length_ratio",
        "match_accuracy",
    }
    assert all(np.isfinite(value) for value in numbers.values())


def test_the_exported_folder_is_the_trained_encoder_alone(
    task: SystemTask, experiment: PixelGaussiansExperiment, tmp_path: Path
) -> None:
    with torch.no_grad():
        for parameter in task.model.encoder.parameters():
            parameter.copy_(parameter.half().float())  # what a weight folder keeps of it
    task.export(tmp_path, task.model.state_dict())
    images = torch.rand(1, 2, 3, 32, 32)
    encoder = load_encoder(tmp_path)
    with torch.no_grad():
        trained, loaded = task.model.encoder.eval()(images), encoder(images)
    for name in ("depth", "depth_confidence", "match_descriptors"):
        assert torch.equal(getattr(trained, name), getattr(loaded, name)), name
    assert torch.equal(trained.pose_encodings[-1], loaded.pose_encodings[-1])
    assert encoder.state_dict().keys() == task.model.encoder.state_dict().keys()
    assert build_task(replace(experiment, start_from=str(tmp_path))).model.encoder.config == ENCODER


def test_the_means_follow_the_predicted_cameras_with_gradients_to_the_whole_encoder() -> None:
    """Through the module: depth unprojected with the encoder's own cameras, relative to the first one."""
    torch.manual_seed(0)
    frozen = VGGTTiny(replace(ENCODER, enable_point=False)).freeze()
    model = PixelGaussianNetwork(frozen, PixelGaussiansConfig(dim=8))
    assert model.encoder.training and all(p.requires_grad for p in model.encoder.parameters())
    images = torch.rand(2, 2, 3, 32, 32)
    output = model(images)
    cameras = Cameras(*decode_pose(output.encoded.pose_encodings[-1], (32, 32)), (32, 32))
    points = world_points(output.encoded.depth, cameras.cam_from_world, cameras.intrinsics)
    moved = points @ cameras.cam_from_world[:, 0, :3, :3].mT[:, None, None]
    moved = moved + cameras.cam_from_world[:, 0, None, None, None, :3, 3]
    torch.testing.assert_close(output.geometry.points, moved, **tolerance("float32_chain"))
    output.gaussians.means.square().sum().backward()
    for part in ("aggregator", "camera_head", "depth_head", "matching"):
        module = getattr(model.encoder, part)
        assert max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None) > 0, part


def test_an_encoder_without_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="need an encoder with a depth head"):
        PixelGaussianNetwork(VGGTTiny(replace(ENCODER, enable_depth=False)), PixelGaussiansConfig())


def test_it_is_a_system_for_any_vggt(experiment: PixelGaussiansExperiment, tmp_path: Path) -> None:
    """The published architecture is adapted as well: no matching loss, and it is exported as itself."""
    shared = {field.name for field in fields(VGGTConfig)}
    sizes = VGGTConfig(**{name: value for name, value in vars(ENCODER).items() if name in shared})
    save_encoder(tmp_path / "vggt", VGGT(sizes).state_dict(), sizes)
    task = build_task(replace(experiment, start_from=str(tmp_path / "vggt")))
    assert isinstance(task.system, System)
    losses = task.losses(task.batch(0, range(1)), 0)
    assert losses.total.isfinite() and "matching" not in losses.terms
    task.export(tmp_path / "again", task.model.state_dict())
    assert type(load_encoder(tmp_path / "again")) is VGGT


def test_settings_that_cannot_work_are_one_line(experiment: PixelGaussiansExperiment) -> None:
    with pytest.raises(UserError, match=r"unknown key 'losses\.geometri'; did you mean 'geometry'\?"):
        read_experiment(CONFIG, ["losses.geometri=1"])
    with pytest.raises(UserError, match="the key 'encoder_lr_scale' must be a finite number above 0 .*, got 0"):
        read_experiment(CONFIG, ["encoder_lr_scale=0"])
    with pytest.raises(UserError, match=r"'losses\.geometry' must be a finite number from 0 .*, got -1"):
        read_experiment(CONFIG, ["losses.geometry=-1"])
    with pytest.raises(UserError, match=r"2 \* context_views \+ 1, got 5 for 3"):
        build_task(replace(experiment, data=replace(experiment.data, context_views=3)))
    with pytest.raises(UserError, match="data.size must be a multiple of 8, got 36"):
        build_task(replace(experiment, data=replace(experiment.data, size=36)))
