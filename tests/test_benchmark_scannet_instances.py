"""The command that scores instances in 3D: on a replica of a scan, on rooms, and on bad input."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import instance_scenes
import numpy as np
import photo_instances
import pytest
import scannet_instances
import scannet_replica as replica
import torch
from segvggt_networks import CONFIG, SIZES
from torch import Tensor

from tokengroups.data.example import FramePlan
from tokengroups.encoders import load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.evaluation.depth_accuracy import depth_accuracy
from tokengroups.evaluation.scannet_instances import Ranking, instance_scores, measure_instances
from tokengroups.evaluation.vertex_masks import LabelMasks, visible_points
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.decode import DecodeConfig, find_instances, photo_masks
from tokengroups.systems.segvggt.system import FEATURES, LOGITS, QUERIES, SegVGGT, SegVGGTModelConfig, SegVGGTSettings

NAMES = ("wall", "floor", "ceiling", "chair", "table", "window", "cabinet")
MODEL = SegVGGTModelConfig(
    replace(CONFIG, queries=replace(CONFIG.queries, std=0.5, layer_scale=0.3)), NAMES,
    DecodeConfig(min_pixels=0, mask_threshold=0.45),
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small instance queries, shaken so that masks and LoRA are not trivial."""
    folder = tmp_path_factory.mktemp("segvggt")
    torch.manual_seed(1)
    encoder = VGGT(SIZES)
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_encoder(folder / "encoder", encoder.state_dict(), SIZES)
    system = SegVGGT.for_training(SegVGGTSettings(str(folder / "encoder"), "lora", model=MODEL))
    for name, parameter in system.joint.named_parameters():
        if "branch." in name or ".lora." in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    system.export(folder / "weights", system.network.state_dict())
    return folder / "weights"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return replica.write_replica(tmp_path / "scans")


def run(*arguments: object) -> int:
    return scannet_instances.main([str(argument) for argument in arguments])


def answer(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def true_instances(_: object, photos: Tensor, names: tuple[str, ...]) -> photo_instances.PhotoInstances:
    """The true masks of the replica as a system's answer, the table called a chair by the lower score."""
    labels, depth = [], []
    for frame in replica.USED:
        maps = replica.see(replica.poses()[frame], (photos.shape[-2], photos.shape[-1]))
        depth.append(torch.from_numpy(maps[0]) * 0.2)
        labels.append(torch.from_numpy(maps[1]))
    masks, order, scores = LabelMasks(torch.stack(labels), 5), np.array([1, 2]), np.array([0.9, 0.8])
    plain, aware = Ranking(order, scores), Ranking(order, scores, np.full(2, names.index("chair")))
    return photo_instances.PhotoInstances(masks, plain, aware, torch.stack(depth))


@pytest.mark.parametrize("kind", ["scannet", "scannet200"])
def test_true_masks_get_the_numbers_of_the_rules(
    kind: str, scan: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Chair and table are found; a table that is called chair is a mistake of a lower score, and a missed table."""
    monkeypatch.setattr(scannet_instances, "find_photo_instances", true_instances)
    json_file = tmp_path / "out.json"
    arguments = ("--root", scan.parent, "--classes", kind, "--every", 2, "--json", json_file)
    assert run("--weights", weights, *arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    report = answer(json_file)
    for rule in ("any", "majority", "mean"):
        numbers = report["means"][rule]
        assert (numbers["agnostic_ap"], numbers["ap"]) == (1.0, 0.5)
        assert report["runs"][0]["rules"][rule]["ap_by_class"] == {"chair": 1.0, "table": 0.0}
        assert numbers["depth_absrel"] < 0.02 and numbers["depth_inliers_125"] > 0.97
    assert shown[0].split() == ["number", "any", "majority", "mean"]
    assert shown[1].split() == ["agnostic_ap", "1.000", "1.000", "1.000"] and shown[-1] == f"wrote {json_file}"
    assert report["protocol"]["classes"] == kind and report["protocol"]["label_table"] is True
    assert report["runs"][0]["scenes"]["numbers"][replica.NAME]["frames"] == 3


def test_queries_are_decoded_and_looked_up_as_published(scan: Path, weights: Path) -> None:
    """Overlapping masks at the features' resolution, several classes of one query, scores without classes."""
    system = load_model(weights)
    assert isinstance(system, SegVGGT)
    scans = instance_scenes.Scans(scan, "scannet", scannet_instances.SCANNET, replica.EVERY, None)
    (scene,) = scans.load(system.image_size, system.size_multiple)
    assert scene.photos.shape == (3, 3, 42, 56)
    found = photo_instances.find_photo_instances(system, scene.photos, scans.names)
    geometry = system.encode(scene.photos).geometry
    queries, features, logits = (geometry.evidence[name] for name in (QUERIES, FEATURES, LOGITS))
    assert isinstance(queries, Tensor) and isinstance(features, Tensor) and isinstance(logits, Tensor)
    decoded = find_instances(queries, features, logits, MODEL.decode)
    triples = zip(decoded.queries.tolist(), decoded.classes.tolist(), decoded.scores.tolist(), strict=True)
    names = scannet_instances.SCANNET
    known = [(query, names.index(NAMES[row]), score) for query, row, score in triples if NAMES[row] in names]
    aware = found.aware
    assert aware is not None and aware.rows is not None
    assert list(zip(aware.masks.tolist(), aware.rows.tolist(), aware.scores.tolist(), strict=True)) == known
    assert len(known) == 4 * CONFIG.queries.number  # chair, table, window, cabinet
    alone = find_instances(queries, features, logits, replace(MODEL.decode, class_agnostic=True))
    assert found.agnostic.masks.tolist() == alone.queries.tolist() and found.agnostic.rows is None
    assert found.agnostic.scores.tolist() == alone.scores.tolist() and len(alone.scores) == CONFIG.queries.number
    grid = (features.shape[1], features.shape[2])
    expected = torch.stack(list(photo_masks(queries, features, grid, MODEL.decode.mask_threshold)))
    sight = visible_points(scene.points, scene.cam_from_world[1], scene.intrinsics, scene.depth(1))
    rows = torch.floor(sight.places[:, 1] * grid[0]).long()
    columns = torch.floor(sight.places[:, 0] * grid[1]).long()
    inside = found.masks.probabilities(1, sight.places, slice(None)) > found.masks.threshold
    assert torch.equal(inside, expected[1][:, rows, columns].T) and 0 < float(inside.float().mean()) < 1
    torch.testing.assert_close(found.depth, geometry.depth)


def test_depth_before_is_that_of_the_encoder_without_lora(scan: Path, weights: Path, tmp_path: Path) -> None:
    json_file, own = tmp_path / "out.json", weights.parent / "encoder"
    arguments = ("--weights", weights, "--encoder", own, "--root", scan, "--every", 2, "--json", json_file)
    assert run(*arguments, "--rule", "majority") == 0
    report = answer(json_file)
    assert list(report["means"]) == ["majority"]
    numbers = report["means"]["majority"]
    (scene,) = instance_scenes.Scans(scan, "scannet", NAMES, 2, None).load(56, 14)
    true = [scene.depth(view) for view in range(3)]
    with torch.no_grad():
        old = depth_accuracy(load_encoder(own).encode(scene.photos[None]).depth[0], true)
        new = depth_accuracy(load_model(weights, encoder=own).encode(scene.photos).geometry.depth, true)
    assert numbers["depth_absrel_before"] == pytest.approx(old.depth_absrel, rel=1e-6)
    assert numbers["depth_absrel"] == pytest.approx(new.depth_absrel, rel=1e-6)
    assert abs(old.depth_absrel - new.depth_absrel) > 1e-4


def test_other_systems_have_no_classes(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (scan.parent / "list.txt").write_text(f"{replica.NAME}\n")
    arguments = ("--root", scan.parent, "--scenes", scan.parent / "list.txt", "--every", 2)
    assert run("--weights", "iggt_tiny", *arguments, "--json", tmp_path / "out.json") == 0
    numbers = answer(tmp_path / "out.json")["means"]
    assert "ap" not in numbers["any"] and 0 <= numbers["any"]["agnostic_ap25"] <= 1
    for name, value in numbers["majority"].items():
        assert value == numbers["mean"][name], name  # labels are 0 or 1
    assert "note" not in capsys.readouterr().err


def test_the_true_masks_of_a_room_find_all_its_instances() -> None:
    """Points of frames between the photos included; some of those no photo shows."""
    rooms = instance_scenes.Rooms(5, 1, FramePlan(3))
    (scene,) = rooms.load(64, 16)
    frames = instance_scenes.ProceduralRooms(None, num_frames=7, size=64, seeds=(5,), num_rooms=1)[1]
    assert scene.frames == ("1", "3", "5") and scene.photos.shape == (3, 3, 64, 64)
    voxels = {tuple(np.floor(np.array(point) / 0.02)) for point in scene.points.tolist()}
    assert len(voxels) == len(scene.points) <= (frames.depth > 0).sum()
    ids = torch.from_numpy(frames.group_ids[1::2].astype(np.int64))
    number = int(ids.max()) + 1
    ranking = Ranking(np.arange(number), np.linspace(1, 0.5, number))
    sights = instance_scenes.see_points(scene, torch.device("cpu"))
    assert 0.5 < len(torch.cat([sight.points for sight in sights]).unique()) / len(scene.points) < 1
    found = measure_instances(LabelMasks(ids, number), ranking, None, sights, scene.truth, ["majority"])
    scores = instance_scores([found["majority"]], rooms.names)
    assert scores["agnostic_ap50"] > 0.85 and scores["agnostic_ap50_objects"] > 0.85
    assert {frames.instance_classes[i] for i in scene.truth.structure} == {"wall", "floor", "ceiling"}


def test_rooms_of_several_seeds(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ("--rooms", 1, "--seeds", 4, 5, "--views", 2, "--json", tmp_path / "out.json")
    assert run("--weights", weights, *arguments, "--encoder", weights.parent / "encoder") == 0
    report = answer(tmp_path / "out.json")
    first, second = (run["rules"]["any"]["depth_absrel"] for run in report["runs"])
    assert report["means"]["any"]["depth_absrel"] == pytest.approx((first + second) / 2) and first != second
    assert "agnostic_ap_objects" in report["means"]["any"] and "±" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --root SCANS or --rooms N"),
        (("--root", "{scans}", "--rooms", 1), "either --root SCANS or --rooms N"),
        (("--root", "{scans}/nothing"), "no such folder"),
        (("--root", "{scans}/scene0707_00/pose"), "no scene in ScanNet's layout"),
        (("--root", "{scans}", "--scenes", "{scans}/list.txt"), "scene0001_00 is no scan"),
        (("--root", "{scans}", "--every", 0), "--every 0: must be at least 1|--every 0: choose"),
        (("--rooms", 1, "--seeds", -1), "--seeds -1"),
        (("--rooms", 1, "--json", "{scans}/no/such/out.json"), "out.json"),
        (("--rooms", 1, "--before", "nowhere"), "nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: tuple[object, ...], message: str, scan: Path, capsys: pytest.CaptureFixture
) -> None:
    (scan.parent / "list.txt").write_text("scene0001_00\n")
    given = [str(argument).format(scans=scan.parent) for argument in arguments]
    assert run("--weights", "iggt_tiny", *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_files_of_two_scans_are_refused(scan: Path, capsys: pytest.CaptureFixture) -> None:
    for pose in (scan / "pose").iterdir():
        moved = np.loadtxt(pose)
        moved[0, 3] += 50
        np.savetxt(pose, moved)
    assert run("--weights", "iggt_tiny", "--root", scan, "--every", 2) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {replica.NAME}: no photo shows any of its points; are mesh, depth and poses of one scan?"


def test_what_lacks_is_said_before_the_work(
    scan: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A second scan without its objects; an encoder of other patches."""
    second = replica.write_replica(tmp_path / "more", "scene0708_00")
    (second / "scene0708_00.aggregation.json").unlink()
    second.rename(scan.parent / second.name)
    assert run("--weights", "iggt_tiny", "--root", scan.parent, "--every", 2) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scene0708_00: no file *.aggregation.json" in line
    assert run("--weights", weights, "--rooms", 1, "--before", "vggt_tiny") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--before vggt_tiny: its patches of 16 pixels do not fit" in line


def test_without_the_table_a_note_says_so(scan: Path, weights: Path, monkeypatch: Any, capsys: Any) -> None:
    (scan.parent / "scannetv2-labels.combined.tsv").unlink()
    monkeypatch.setattr(scannet_instances, "find_photo_instances", true_instances)
    assert run("--weights", weights, "--root", scan, "--every", 2) == 0
    assert "objects count only if their label is a class's name" in capsys.readouterr().err
