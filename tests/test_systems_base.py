"""Systems: which interfaces they keep, and systems and encoders of one's own in one file."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_encoder import TINY
from toy_systems import ENCODER, GROUPS, random_photos

from tokengroups.checkpoint import read_tensors
from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.scannet import write_scannet
from tokengroups.encoders import Encoder, geometry_of, save_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.encoders.weights import approximate, hold_in_half
from tokengroups.errors import UserError
from tokengroups.geometry import world_points
from tokengroups.postprocess import Draft
from tokengroups.postprocess.draft import Model
from tokengroups.registry import resolve
from tokengroups.systems import SYSTEMS, SceneSystem, System, load_model, save_system
from tokengroups.systems.iggt.iggt import IGGT, IGGTConfig
from tokengroups.systems.iggt_tiny import IGGTTiny, IGGTTinyConfig, TinyInstanceHeadConfig
from tokengroups.systems.pixel_gaussians import PixelGaussians, PixelGaussiansConfig, PixelGaussiansSettings
from tokengroups.systems.segvggt.system import SegVGGT, SegVGGTModelConfig
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.systems.token_groups_tiny import TokenGroupsTiny, TokenGroupsTinyConfig
from tokengroups.systems.weights import system_name
from tokengroups.training.experiments import read_experiment
from tokengroups.training.log import read_metrics
from tokengroups.types import Cameras

IMPORTS = """\
from dataclasses import dataclass, replace
import torch
from torch import nn
from torch.nn import functional
from tokengroups.checkpoint import save_weights
from tokengroups.data.example import stack_examples
from tokengroups.encoders.base import geometry_of
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.postprocess import Prediction
from tokengroups.systems import SceneSystem
from tokengroups.types import Cameras, Gaussians

"""
ONE_GAUSSIAN = '''\

@dataclass(frozen=True)
class Config:
    opacity: float = 0.9

class OneGaussian(SceneSystem):
    """One Gaussian of the photo's mean colour, one unit in front of each camera: a group each."""

    config_class = Config

    def __init__(self, encoder, config, steps=()):
        super().__init__(encoder, steps)
        self.network = nn.Linear(3, 3)
        self.config = config

    def decode(self, draft):
        count = len(draft.photos)
        centres = draft.geometry.points[:, 0, 0]
        gaussians = Gaussians(
            centres, torch.ones(count, 4), torch.ones(count, 3), torch.full((count,), self.config.opacity),
            self.network(draft.photos.mean(dim=(2, 3)))[:, None])
        pixels = torch.tensor([[view, 0, 0] for view in range(count)])
        each, none = torch.arange(count), torch.zeros(count, 0)
        prediction = Prediction(gaussians, each, centres, pixels, 1, torch.eye(count), none)
        return replace(draft, prediction=prediction)
'''


def example_of(kind: type) -> str:
    """The code in the documentation of an interface."""
    return textwrap.dedent(inspect.getdoc(kind).partition("::\n\n")[2])


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module into the working folder; nothing of it stays after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written = []

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(IMPORTS + code)
        importlib.invalidate_caches()
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


def configuration(folder: Path, task: str, **changes: object) -> Path:
    settings = {
        "task": task,
        "training": {
            "output": str(folder / "run"), "steps": 2, "batch_size": 2, "log_every": 1, "trackers": [], "device": "cpu",
        },
        "data": {
            "root": str(folder / "rooms"), "options": {"num_rooms": 2}, "num_frames": 5, "size": 32,
            "evaluation_scenes": 1,
        },
    }  # fmt: skip
    path = folder / "own.yaml"
    path.write_text(json.dumps(settings | changes))
    return path


def test_built_in_systems_keep_their_interfaces(tmp_path):
    save_encoder(tmp_path / "encoder", VGGT(ENCODER).state_dict(), ENCODER)
    pixels = PixelGaussians(
        PixelGaussiansSettings(str(tmp_path / "encoder"), model=PixelGaussiansConfig(stride=2, dim=8))
    )
    tiny_config = TokenGroupsTinyConfig(**vars(GROUPS))
    groups, tiny = TokenGroups(VGGT(ENCODER), GROUPS), TokenGroupsTiny(VGGTTiny(TINY), tiny_config)
    field = IGGT(VGGT(ENCODER), IGGTConfig())
    own = {"head": TinyInstanceHeadConfig(single_view_features=False)}
    queries = SegVGGT(VGGT(ENCODER), SegVGGTModelConfig())
    systems = (groups, tiny, pixels, field, IGGTTiny(VGGT(ENCODER), IGGTTinyConfig(**own)), queries)
    assert all(isinstance(system, System) for system in systems)
    assert [isinstance(system, SceneSystem) for system in systems] == [True, True, False, True, True, True]
    assert [isinstance(system, Model) for system in systems] == [True, True, False, True, True, True]
    assert [system_name(type(system)) for system in systems] == list(SYSTEMS)
    assert isinstance(groups.encoder, Encoder) and isinstance(tiny.encoder, Encoder)
    assert not isinstance(torch.nn.Linear(3, 3), System) and not isinstance(VGGT(ENCODER), System)
    draft = groups.encode(random_photos())
    assert isinstance(draft, Draft) and draft.model is groups and draft.prediction is None


def test_photos_must_suit_the_encoder_and_the_model():
    system = TokenGroups(VGGT(ENCODER), replace(GROUPS, context_patch=12, anchor_stride=4))
    assert system.size_multiple == 24 and system.image_size == 32
    assert system.train().encoder.training is False and system.network.training is True


class Wall(torch.nn.Module):
    """An encoder with one weight: the depth of a wall."""

    image_size, patch_size, feature_dim, evidence_dims = 32, 8, 3, {}

    def __init__(self) -> None:
        super().__init__()
        self.depth = torch.nn.Parameter(torch.ones(()))

    def encode(self, images, intrinsics=None):
        assert self.depth.device == images.device and intrinsics is None
        eyes = [torch.eye(n).to(images).expand(*images.shape[:2], n, n) for n in (4, 3)]
        depth = self.depth * torch.ones_like(images[:, :, 0])
        return geometry_of(images[..., ::8, ::8], depth, depth, Cameras(*eyes, (32, 32)))


def test_the_encoder_runs_where_the_photos_are():
    """A training moves the network to its device, and evaluates before the first step."""
    for encode in (
        lambda system, photos: system.encode(photos),
        lambda system, photos: system.encode_batch(photos[None]),
    ):
        system = SceneSystem(Wall(), ())
        encode(system, random_photos(2))
        encode(system, random_photos(2).to("meta"))
        assert system.encoder.depth.device.type == "meta"


def test_steps_before_decoding_run_in_full_precision_under_autocast():
    """Training in bfloat16 must not round points."""
    model = load_model("token_groups_tiny")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        geometry = model.encode_batch(torch.rand(1, 2, 3, 64, 64))
    cameras = geometry.cameras
    exact = world_points(geometry.depth, cameras.cam_from_world, cameras.intrinsics)
    torch.testing.assert_close(geometry.points, exact, rtol=0, atol=1e-6)


def test_a_system_of_ones_own_trains_by_its_import_path(own, tmp_path, capsys):
    """The example of the documentation, run by the command."""
    own("my_system", example_of(System))
    config = configuration(tmp_path, "my_system:MeanColour", bias=False)
    assert main(["train", str(config)]) == 0
    assert "trained 2 steps" in capsys.readouterr().out
    trained = read_tensors(tmp_path / "run" / "weights" / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in trained.items()} == {"weight": (3, 3)}
    experiment = read_experiment(config)
    assert experiment.config.bias is False and experiment.task == "my_system:MeanColour"
    task = experiment.build()
    assert isinstance(task.system, System) and task.model is task.system.network
    assert not torch.equal(task.model.weight, trained["weight"])  # it has learned
    evaluated = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "mse" in str(row)]
    assert len(evaluated) >= 2
    with pytest.raises(UserError, match="own.yaml: unknown key 'biass'; did you mean 'bias'"):
        read_experiment(configuration(tmp_path, "my_system:MeanColour", biass=False))


def test_what_is_no_system_is_refused_in_one_line(own, tmp_path):
    own("my_parts", "class Empty:\n    pass\n")
    for task, message in (
        ("nothing", r"'task' must be one of geometry, single_view, token_groups, .*, or module:Class; got 'nothing'"),
        ("no_such_module:System", "no system 'no_such_module:System': there is no module no_such_module"),
        ("my_parts:Missing", "no system 'my_parts:Missing': my_parts has no Missing"),
        ("my_parts:Empty", "task my_parts:Empty: no system, .*; add settings_class, a dataclass, for_training, losses"),
        ("my_parts:dataclass", "task my_parts:dataclass: no system"),
    ):
        with pytest.raises(UserError, match=message) as error:
            read_experiment(configuration(tmp_path, task))
        assert "\n" not in str(error.value)


def test_an_encoder_of_ones_own_carries_a_built_in_system(own, tmp_path):
    """The example of the documentation of `Encoder`."""
    own("my_wall", example_of(Encoder))
    model = {
        "context_patch": 8, "anchor_stride": 8, "num_anchors": 16, "num_groups": 3, "gaussians_per_anchor": 2,
        "dim": 16, "num_heads": 2, "anchor_layers": 1, "group_layers": 1,
    }  # fmt: skip
    config = configuration(tmp_path, "token_groups", encoder="my_wall:FlatWall", model=model, losses={"lpips": 0.0})
    assert main(["train", str(config)]) == 0
    loaded = load_model(tmp_path / "run" / "weights")  # its module has been imported by the training
    scene = loaded.reconstruct(random_photos())
    torch.testing.assert_close(scene.anchors[:, 2], torch.ones(16))
    assert loaded.image_size == 32 and not isinstance(loaded.encoder, torch.nn.Module)


def test_a_system_that_makes_scenes_needs_no_more_than_decoding(own, tmp_path, capsys):
    own("my_wall", example_of(Encoder))
    own("my_scenes", ONE_GAUSSIAN)
    kind, wall = resolve("my_scenes:OneGaussian", {}, "system"), resolve("my_wall:FlatWall", {}, "encoder")
    system = kind(wall(), kind.config_class(opacity=0.5))
    assert isinstance(system, SceneSystem) and isinstance(system, Model) and system.text_encoder == ""
    assert system_name(kind) == "my_scenes:OneGaussian"
    save_system(tmp_path / "own", system.network.state_dict(), system, system.config, "my_wall:FlatWall")
    loaded = load_model(tmp_path / "own")
    photos = random_photos(3)
    scene = loaded.reconstruct(photos, postprocess="photometric_refinement")
    assert scene.group_ids.tolist() == [0, 1, 2] and len(scene.gaussians.means) == 3
    assert [step["name"] for step in scene.provenance["postprocess"]] == ["photometric_refinement"]
    assert loaded.reconstruct(photos).gaussians.opacities.tolist() == [0.5] * 3
    for view in range(2):
        write_scannet(tmp_path / "scans" / f"a{view}", generate_room(1, 0, "test", num_views=3, size=32))
    words = ["--data", str(tmp_path / "scans"), "--views", "1", "--split", "all", "--size", "32"]
    assert main(["evaluate", "--weights", str(tmp_path / "own"), *words]) == 0
    assert "own on 2 scenes of scans" in capsys.readouterr().out


def test_approximate_attention_is_recorded_or_refused():
    model = load_model("token_groups_tiny")
    assert "fast" not in model.predict(random_photos(), postprocess="none").scene.provenance
    approximate(model.encoder)
    assert model.predict(random_photos(), postprocess="none").scene.provenance["fast"] is True
    with pytest.raises(UserError, match="the encoder Wall has no approximate mode"):
        approximate(Wall())


def test_only_large_encoders_are_held_in_half():
    encoder = load_model("token_groups_tiny").encoder
    hold_in_half(encoder)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    large = VGGT(VGGTConfig(embed_dim=16, num_heads=1, dino_depth=1, camera_depth=1, camera_heads=1)).freeze()
    for _ in range(2):
        hold_in_half(large)
        assert large.in_half
