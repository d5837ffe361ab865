"""Scene files, groups and views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import random_scene, two_cameras
from tolerances import tolerance

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.editing import remove
from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid, project, transform_points
from tokengroups.postprocess import build_steps, describe_steps
from tokengroups.postprocess.boundary_crf import BoundaryCRF
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.scene import (
    load_scene,
    orbit_cameras,
    render_cutouts,
    render_portrait,
    render_portraits,
    render_views,
    save_scene,
    summarise,
    visible_shares,
)
from tokengroups.scene.groups import (
    column_of,
    for_all_groups,
    gaussian_mask,
    group_box,
    group_centre,
    group_members,
    select_points,
)
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.scene.views import look_at, resize_cameras, select_cameras
from tokengroups.types import TensorFields, TokenScene


def assert_same(a: Any, b: Any) -> None:
    """Equal dataclasses, tensors bit by bit."""
    for name, value in vars(a).items():
        other = getattr(b, name)
        if isinstance(value, TensorFields):
            assert_same(value, other)
        elif isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype and torch.equal(value, other), name
        else:
            assert value == other, name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_scene(tmp_path / "scene.safetensors", random_scene())
    return tmp_path / "scene.safetensors"


def test_scene_comes_back_bit_by_bit(saved: Path) -> None:
    assert_same(load_scene(saved), random_scene())


def test_scene_without_tokens_and_names_comes_back(tmp_path: Path) -> None:
    scene = replace(random_scene(token_dim=0, degree=0), group_names=(), provenance={})
    save_scene(tmp_path / "a.safetensors", scene)
    assert_same(load_scene(tmp_path / "a.safetensors"), scene)


def test_how_a_scene_was_postprocessed_comes_back(tmp_path: Path) -> None:
    steps = (BundleAdjustment(rigid_stages=1), FlipEnsemble(), BoundaryCRF(pair_weight=0.5))
    save_scene(tmp_path / "a.safetensors", replace(random_scene(), provenance={"postprocess": describe_steps(steps)}))
    recorded = load_scene(tmp_path / "a.safetensors").provenance["postprocess"]
    assert build_steps(recorded, "the scene", typed=False) == steps


def test_scenes_from_before_the_steps_are_still_read(data_dir: Path) -> None:
    """A file of version 1 with what was recorded then; it was written by commit 3abc6bd."""
    path = data_dir / "scene_before_steps.safetensors"
    scene, tensors = load_scene(path), read_tensors(path)
    assert scene.provenance["sharpening_steps"] == 20 and "postprocess" not in scene.provenance
    assert [photo["name"] for photo in scene.provenance["photos"]] == ["a.jpg", "b.jpg"]
    assert scene.semantics is not None and scene.semantics.encoder == "words:1"
    found = vars(scene.gaussians) | vars(scene.cameras) | vars(scene.semantics) | vars(scene)
    assert len(tensors) == 16 and all(torch.equal(found[name], value) for name, value in tensors.items())
    assert scene.group_names == ("thing 0", "thing 1") and scene.cameras.size_hw == (24, 32)
    edited = remove(scene, [int(scene.group_ids[0])])
    assert edited.provenance["sharpening_steps"] == 20 and len(edited.group_ids) == 1


def test_inconsistent_scene_is_not_saved(tmp_path: Path) -> None:
    scene = random_scene()
    with pytest.raises(ValueError, match="inconsistent scene: anchor_ids outside"):
        save_scene(tmp_path / "a.safetensors", replace(scene, anchor_ids=scene.anchor_ids + 1))
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: str) -> Path:
    """The file with some tensors and metadata replaced."""
    write_tensors(path, read_tensors(path) | (tensors or {}), read_metadata(path) | metadata)
    return path


def content(rest: str) -> dict[str, str]:
    """Metadata whose JSON object ends in this text."""
    return {"scene": '{"size_hw": [9, 9], "group_names": [], ' + rest + "}"}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"version": "0"}, "version 0, this release reads 1: made by an older tokengroups; make it again"),
        ({"version": "2"}, "version 2, this release reads 1: made by a newer tokengroups; update"),
        ({"version": "one"}, "version one, this release reads 1: no version at all"),
        ({"version": "²"}, "version ², this release reads 1: no version at all"),
        ({"version": "٣"}, "version ٣, this release reads 1: no version at all"),
        ({"version": "9" * 5000}, "no version at all"),
        ({"version": "-1"}, "no version at all"),
        ({"version": "\x1b[31m"}, r"version .x1b\[31m, this release"),
        ({"conventions": "7"}, "conventions 7, this release reads 1: made by a newer"),
        ({"format": "something else"}, "no token scene"),
        ({"scene": "{"}, "damaged scene metadata"),
        ({"scene": "[]"}, "damaged scene metadata"),
        ({"scene": "{}"}, "damaged scene metadata"),
        ({"scene": '{"size_hw": [1], "group_names": [], "provenance": {}}'}, "damaged scene metadata"),
        ({"scene": '{"size_hw": [0, 9], "group_names": [], "provenance": {}}'}, "positive size"),
        ({"scene": '{"size_hw": [20000, 20000], "group_names": [], "provenance": {}}'}, "pictures of 20000x20000"),
        ({"scene": '{"size_hw": [4096, 4096], "group_names": [], "provenance": {}}'}, "pictures of 4096x4096"),
        ({"scene": '{"size_hw": [1, 16385], "group_names": [], "provenance": {}}'}, "pictures of 16385x1"),
        ({"scene": '{"size_hw": [1e300, 9], "group_names": [], "provenance": {}}'}, "no whole number"),
        ({"scene": '{"size_hw": [Infinity, 9], "group_names": [], "provenance": {}}'}, "no whole number"),
        ({"scene": '{"size_hw": [NaN, 9], "group_names": [], "provenance": {}}'}, "no whole number|damaged"),
        ({"scene": '{"size_hw": [9.5, 9], "group_names": [], "provenance": {}}'}, "9.5 is no whole number"),
        ({"scene": '{"size_hw": ["9", 9], "group_names": [], "provenance": {}}'}, "no whole number"),
        ({"scene": '{"size_hw": [true, 9], "group_names": [], "provenance": {}}'}, "no whole number"),
        ({"scene": '{"size_hw": 9, "group_names": [], "provenance": {}}'}, "damaged scene metadata"),
        ({"scene": '{"size_hw": [9, 9], "group_names": "abc", "provenance": {}}'}, "group_names is no list"),
        ({"scene": '{"size_hw": [9, 9], "group_names": {"a": 1}, "provenance": {}}'}, "group_names is no list"),
        ({"scene": '{"size_hw": [9, 9], "group_names": [1, 2, 3], "provenance": {}}'}, "group_names is no list"),
        (content('"provenance": [["a", 1]]'), "provenance is no object"),
        (content('"provenance": {"edits": 3}'), "edits are no list"),
        (content('"provenance": {}, "text_encoder": 7'), "text_encoder"),
        ({"scene": "[" * 100000}, "nested too deeply"),
        (
            {"scene": '{"size_hw": [9, 9], "group_names": [], "provenance": {"a": %s}}' % ("[" * 500 + "]" * 500)},
            "deeper",
        ),
        (content('"provenance": {"a": %s}' % ("9" * 5000)), "damaged scene"),
        ({"scene": '{"size_hw": [9, 9], "group_names": ["a"], "provenance": {}}'}, "1 group names for 3"),
    ],
)
def test_other_versions_and_damaged_metadata_are_refused(saved: Path, metadata: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_scene(rewritten(saved, **metadata))
    assert str(caught.value).isprintable()


def damaged(case: str, scene: TokenScene) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors to put into the file, and words of the line that refuses it."""
    nan = scene.gaussians.means.clone()
    nan[3, 1] = float("nan")
    mirrored = scene.cameras.cam_from_world.clone()
    mirrored[0, 0, 0] = -1
    bent = scene.cameras.cam_from_world.clone()
    bent[0, 3, 2] = 0.5
    embedded = torch.nn.functional.normalize(torch.ones(3, 4), dim=1)
    return {
        "short": ({"means": scene.gaussians.means[1:]}, "means has shape"),
        "flat": ({"sh": scene.gaussians.sh.flatten(1)}, "sh has shape"),
        "coefficients": ({"sh": scene.gaussians.sh[:, :3]}, "sh has 3 coefficients"),
        "integer": ({"opacities": torch.ones(24, dtype=torch.int64)}, "opacities has dtype torch.int64"),
        "float ids": ({"group_ids": scene.group_ids.float()}, "group_ids has dtype"),
        "nan": ({"means": nan}, "means holds NaN"),
        "opacity": ({"opacities": scene.gaussians.opacities + 1}, "opacities outside"),
        "scale": ({"scales": -scene.gaussians.scales}, "scales below 0"),
        "quaternion": ({"quats": 0 * scene.gaussians.quats}, "quaternion of length 0"),
        "anchor": ({"anchor_ids": scene.anchor_ids - 1}, "anchor_ids outside"),
        "probabilities": ({"assignment": 2 * scene.assignment}, "do not sum to 1"),
        "same id": ({"group_ids": 0 * scene.group_ids}, "not unique"),
        "negative id": ({"group_ids": -scene.group_ids}, "negative"),
        "idle group": ({"assignment": torch.eye(3)[[0, 1] * 3]}, "group 8 owns no Gaussian"),
        "pose": ({"cam_from_world": mirrored}, "no rotation"),
        "focal": ({"intrinsics": -scene.cameras.intrinsics}, "positive focal"),
        "far": ({"means": scene.gaussians.means * 1e20}, "means holds .*beyond 1e.09"),
        "far anchors": ({"anchors": -1e10 + scene.anchors}, "anchors holds"),
        "far camera": ({"cam_from_world": scene.cameras.cam_from_world + 1e10}, "cam_from_world holds"),
        "huge scale": ({"scales": scene.gaussians.scales * 1e30}, "scales holds"),
        "double": ({"group_tokens": scene.group_tokens.double() * 1e300}, "group_tokens holds"),
        "tiny quaternion": ({"quats": 1e-30 * scene.gaussians.quats}, "quaternion of length 0"),
        "huge id": ({"group_ids": scene.group_ids + 2**31}, "group ids beyond 2147483646"),
        "largest id": ({"group_ids": scene.group_ids + (2**63 - 9)}, "group ids beyond 2147483646"),
        "eight bits": ({"scales": scene.gaussians.scales.to(torch.float8_e4m3fn)}, "scales has dtype torch.float8"),
        "brain": ({"quats": scene.gaussians.quats.bfloat16()}, "quats has dtype torch.bfloat16"),
        "complex": ({"sh": scene.gaussians.sh.to(torch.complex64)}, "sh has dtype torch.complex64"),
        "truth": ({"anchor_ids": scene.anchor_ids > 0}, "anchor_ids has dtype torch.bool"),
        "int32": ({"group_ids": scene.group_ids.int()}, "group_ids has dtype torch.int32"),
        "empty": ({name: getattr(scene.gaussians, name)[:0] for name in vars(scene.gaussians)}, "anchor_ids|means has"),
        "scalar": ({"opacities": torch.tensor(0.5)}, "opacities has shape"),
        "no colours": ({"sh": scene.gaussians.sh[:, :0]}, "sh has 0 coefficients"),
        "bent pose": ({"cam_from_world": bent}, "no rotation and translation"),
        "telescope": ({"intrinsics": scene.cameras.intrinsics * 1e7}, "focal length is not within"),
        "embedding": ({"embeddings": 3 * embedded}, "length is neither 0 nor 1"),
        "foreign tensor": ({"weight": torch.ones(1)}, "missing or unexpected .weight."),
    }[case]


@pytest.mark.parametrize("case", [
    "short", "flat", "coefficients", "integer", "float ids", "nan", "opacity", "scale", "quaternion",
    "anchor", "probabilities", "same id", "negative id", "idle group", "pose", "focal", "foreign tensor",
    "far", "far anchors", "far camera", "huge scale", "double", "tiny quaternion", "huge id", "largest id",
    "eight bits", "brain", "complex", "truth", "int32", "empty", "scalar", "no colours", "bent pose", "telescope",
    "embedding",
])  # fmt: skip
def test_damaged_tensors_are_refused(saved: Path, case: str) -> None:
    tensors, words = damaged(case, random_scene())
    if case == "embedding":
        save_scene(saved, random_scene(semantic_dim=4))
    with pytest.raises(UserError, match=words) as caught:
        load_scene(rewritten(saved, tensors))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "\x1b[2J", "words:1\n", "\ud800"])
def test_names_of_text_encoders_are_printable(saved: Path, name: str) -> None:
    scene = random_scene(semantic_dim=4)
    save_scene(saved, scene)
    content = json.loads(read_metadata(saved)["scene"]) | {"text_encoder": name}
    with pytest.raises(UserError, match="damaged scene: the name .* of a text encoder") as caught:
        load_scene(rewritten(saved, scene=json.dumps(content)))
    assert str(caught.value).isprintable() and scene.semantics is not None
    with pytest.raises(ValueError, match="inconsistent scene: the name"):
        save_scene(saved, replace(scene, semantics=replace(scene.semantics, encoder=name)))


def test_what_is_refused_on_loading_is_not_saved(tmp_path: Path) -> None:
    scene = random_scene()
    odd = [
        replace(scene, gaussians=replace(scene.gaussians, means=scene.gaussians.means * 1e20)),
        replace(scene, group_ids=scene.group_ids + 2**31),
        replace(scene, cameras=replace(scene.cameras, size_hw=(20000, 20000))),
        replace(scene, provenance={"edits": 3}),
        replace(scene, provenance={"a": {1, 2}}),
        replace(scene, provenance={"a": json.loads("[" * 600 + "]" * 600)}),
    ]
    for each in odd:
        with pytest.raises(ValueError, match="inconsistent scene"):
            save_scene(tmp_path / "a.safetensors", each)
    assert list(tmp_path.iterdir()) == []


def test_the_bounds_themselves_are_allowed(tmp_path: Path) -> None:
    scene = random_scene()
    gaussians = replace(scene.gaussians, means=scene.gaussians.means.clamp(max=1).mul(0) + 1e9)
    ids = 2**31 - 2 - torch.arange(3)
    provenance = {"a": json.loads("[" * 390 + "]" * 390)}
    cameras = replace(scene.cameras, size_hw=(512, 16384))
    large = replace(scene, gaussians=gaussians, group_ids=ids, provenance=provenance, cameras=cameras)
    save_scene(tmp_path / "a.safetensors", large)
    assert_same(load_scene(tmp_path / "a.safetensors"), large)


def test_truncated_foreign_and_missing_files_are_refused(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    for content in (data[:-10], data[:50], b"", b"I am a text", b"\xff" * 64):
        saved.write_bytes(content)
        with pytest.raises(UserError, match="cannot read") as caught:
            load_scene(saved)
        assert "\n" not in str(caught.value)
    write_tensors(saved, {"weight": torch.ones(2)})
    with pytest.raises(UserError, match="no token scene"):
        load_scene(saved)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            load_scene(missing)


def test_weighted_quantile_against_repeated_values() -> None:
    values = torch.tensor([[3.0], [1.0], [2.0]])
    weights = torch.tensor([1.0, 2.0, 5.0])
    repeated = [1.0] * 2 + [2.0] * 5 + [3.0]
    for quantile in (0.1, 0.25, 0.3, 0.5, 0.8, 0.95):
        expected = np.quantile(repeated, quantile, method="inverted_cdf")
        assert float(weighted_quantile(values, weights, quantile)[0]) == expected


def test_unknown_group_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match="there is no group 7; the scene has the groups 2, 5, 8"):
        column_of(random_scene(), 7)
    assert column_of(random_scene(), 5) == 1


def test_every_gaussian_belongs_to_one_group_and_lies_near_its_centre() -> None:
    scene = random_scene()
    masks = torch.stack([gaussian_mask(scene, column) for column in range(3)])
    assert bool((masks.sum(dim=0) == 1).all())
    for column in range(3):
        low, high = group_box(scene, column)
        centre = group_centre(scene, column)
        assert bool((low <= centre).all() and (centre <= high).all())


def test_centre_is_weighted_by_opacity_and_defined_for_invisible_groups() -> None:
    scene = random_scene(groups=1, anchors_per_group=1, per_anchor=2)
    means = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])

    def centre_x(opacities: list[float]) -> float:
        gaussians = replace(scene.gaussians, means=means, opacities=torch.tensor(opacities))
        return float(group_centre(replace(scene, gaussians=gaussians), 0)[0])

    assert centre_x([0.9, 0.3]) == pytest.approx(0.25)
    assert centre_x([0.0, 0.0]) == pytest.approx(0.5)


def test_summaries_count_everything_once() -> None:
    scene = random_scene()
    shares = visible_shares(scene)
    summaries = summarise(scene, shares)
    assert sorted(summary.id for summary in summaries) == [2, 5, 8]
    assert sum(summary.num_gaussians for summary in summaries) == 24
    assert sum(summary.num_anchors for summary in summaries) == 6
    seen = [summary.visible_share for summary in summaries]
    assert seen == sorted(seen, reverse=True) and 0 < sum(seen) <= 1


def test_views_show_groups_where_something_is() -> None:
    scene = random_scene()
    views = list(render_views(scene, scene.cameras, torch.ones(3)))
    assert len(views) == 2
    for view in views:
        assert view.color.shape == (24, 32, 3) and view.depth.shape == view.group_map.shape == (24, 32)
        assert torch.equal(view.group_map >= 0, view.alpha >= 0.5)
        assert set(view.group_map.unique().tolist()) <= {-1, 2, 5, 8}
    shares = torch.stack([(view.group_map[..., None] == scene.group_ids).float().mean((0, 1)) for view in views])
    torch.testing.assert_close(visible_shares(scene), shares.mean(dim=0))


def test_scene_in_float64_renders() -> None:
    scene = random_scene().map(lambda values: values.double() if values.is_floating_point() else values)
    assert next(iter(render_views(scene, scene.cameras))).color.isfinite().all()


def test_resized_cameras_see_the_same() -> None:
    cameras, points = two_cameras(), torch.rand(10, 3) + torch.tensor([0.0, 0.0, 2.0])
    large = resize_cameras(cameras, 48)
    assert large.size_hw == (48, 64)
    torch.testing.assert_close(project(points, large.intrinsics[0])[0], 2 * project(points, cameras.intrinsics[0])[0])
    assert torch.equal(select_cameras(cameras, [1]).cam_from_world[0], cameras.cam_from_world[1])


def test_orbit_keeps_distance_and_sight_of_its_focus() -> None:
    scene = random_scene()
    cameras = orbit_cameras(scene, 8)
    torch.testing.assert_close(cameras.cam_from_world[0], scene.cameras.cam_from_world[0], **tolerance("float32"))
    world_from_cam = invert_rigid(cameras.cam_from_world.double())
    eyes, forward = world_from_cam[:, :3, 3], world_from_cam[:, :3, 2]
    focus = (eyes[0] + eyes[4]) / 2  # opposite places
    distance = (eyes - focus).norm(dim=1)
    torch.testing.assert_close(distance, distance[:1].expand(8), **tolerance("float32_chain"))
    torch.testing.assert_close(eyes + distance[:, None] * forward, focus.expand(8, 3), **tolerance("float32_chain"))
    torch.testing.assert_close(eyes[:, 1], eyes[:1, 1].expand(8), **tolerance("float32_chain"))  # y is up here


def test_orbit_of_cameras_that_cancel_out_goes_about_the_first_ones_up() -> None:
    scene = random_scene()
    poses = scene.cameras.cam_from_world.clone()
    poses[1, :3, :3] = torch.tensor([-1.0, -1, 1])[:, None] * poses[0, :3, :3]  # upside down
    poses[1, 1, :3] += 1e-7 * torch.randn(3)
    opposed = replace(scene, cameras=replace(scene.cameras, cam_from_world=poses[:2]))
    alone = replace(scene, cameras=select_cameras(opposed.cameras, [0]))
    orbits = [orbit_cameras(each, 5).cam_from_world for each in (opposed, alone)]
    torch.testing.assert_close(*orbits, **tolerance("float32"))


def test_arc_has_the_first_camera_in_its_middle() -> None:
    scene = random_scene()
    cameras = orbit_cameras(scene, 3, 40.0)
    torch.testing.assert_close(cameras.cam_from_world[1], scene.cameras.cam_from_world[0], **tolerance("float32"))
    between = cameras.cam_from_world[0, :3, :3] @ cameras.cam_from_world[2, :3, :3].T
    angle = torch.rad2deg(torch.acos((between.trace() - 1) / 2))
    assert float(angle) == pytest.approx(40, abs=0.01)


def test_look_at_puts_the_target_on_the_axis() -> None:
    eye, target = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 3.0])
    for down in (torch.tensor([0.0, 1.0, 0.0]), target - eye):  # the second has no right direction of its own
        pose = look_at(eye, target, down)
        seen = transform_points(pose, target[None])[0]
        torch.testing.assert_close(seen, torch.stack([seen.new_zeros(()), seen.new_zeros(()), (target - eye).norm()]))
        torch.testing.assert_close(pose[:3, :3] @ pose[:3, :3].T, torch.eye(3), **tolerance("float32"))
        assert torch.linalg.det(pose[:3, :3]) > 0


@pytest.mark.parametrize("shift", [-1e-7, 0.0, 1e-7])
def test_first_of_the_views_that_face_a_group_equally_takes_its_portrait(shift: float) -> None:
    scene = random_scene()
    eye = group_centre(scene, 0).double() - torch.tensor([0.0, 0.0, 2.0]).double()
    poses = torch.eye(4).double().repeat(2, 1, 1)
    poses[:, :3, 3] = -eye - torch.tensor([[-0.5, 0, 0], [0.5 + shift, 0, 0]]).double()
    both = replace(scene, cameras=replace(scene.cameras, cam_from_world=poses))
    alone = replace(scene, cameras=select_cameras(both.cameras, [0]))
    portraits = [render_portrait(each, 0, 32, torch.ones(3)) for each in (both, alone)]
    assert torch.equal(*portraits)


def test_portrait_shows_the_group_alone() -> None:
    scene = random_scene()
    portrait = render_portrait(scene, 0, 32, torch.ones(3))
    assert portrait.shape == (32, 32, 3)
    covered = (portrait - 1).abs().amax(dim=-1) > 0.05
    assert 0.05 < covered.float().mean() < 0.98
    emptied = replace(scene, gaussians=replace(scene.gaussians, opacities=0 * scene.gaussians.opacities))
    assert torch.equal(render_portrait(emptied, 0, 32, torch.ones(3)), torch.ones(32, 32, 3))


def test_cutouts_are_portraits_on_any_background() -> None:
    scene = random_scene(groups=4)
    for column, cutout in zip((2, 0), render_cutouts(scene, [2, 0], 32), strict=True):
        color, alpha = cutout[..., :3], cutout[..., 3:]
        assert bool((cutout >= 0).all()) and bool((cutout <= 1).all()) and 0.05 < alpha.mean() < 0.98
        for background in (torch.zeros(3), torch.tensor([1.0, 0.5, 0.2])):
            portrait = render_portrait(scene, column, 32, background)
            on_it = color * alpha + background * (1 - alpha)
            unclipped = (portrait - background * (1 - alpha) < alpha).all(dim=-1)  # colours of Gaussians may exceed 1
            torch.testing.assert_close(on_it[unclipped], portrait[unclipped], **tolerance("float32"))
            assert unclipped.float().mean() > 0.2


def test_all_portraits_are_those_of_each_group() -> None:
    scene = random_scene(groups=4)
    portraits = list(render_portraits(scene, 24, torch.ones(3)))
    for column, portrait in enumerate(portraits):
        assert torch.equal(portrait, render_portrait(scene, column, 24, torch.ones(3)))
    assert len(portraits) == 4


@pytest.mark.parametrize("groups", [1, 3, 30])
def test_members_and_measures_of_all_groups_are_those_of_each(groups: int) -> None:
    """Groups of equal size together, and of 1 to 4 times 4 Gaussians."""
    scene = random_scene(groups=groups, anchors_per_group=3)
    owners = torch.arange(groups).repeat_interleave(torch.arange(groups) % 4 + 1)
    owners = torch.cat([torch.arange(groups), owners])[: len(scene.assignment)]
    owners = torch.cat([owners, torch.zeros(len(scene.assignment) - len(owners), dtype=torch.int64)])
    scene = replace(scene, assignment=torch.nn.functional.one_hot(owners, groups).float())
    measured = for_all_groups(scene, lambda mine: zip(mine, select_points(scene, mine).box().unbind(1), strict=True))
    centres = for_all_groups(scene, lambda mine: select_points(scene, mine).centre())
    assert len(measured) == len(centres) == groups
    for column, (members, (mine, box), centre) in enumerate(zip(group_members(scene), measured, centres, strict=True)):
        assert torch.equal(mine, gaussian_mask(scene, column).nonzero()[:, 0]) and torch.equal(members, mine)
        assert torch.equal(box, group_box(scene, column))
        torch.testing.assert_close(centre, group_centre(scene, column), **tolerance("float32"))


def test_groups_without_opacity_count_all_their_gaussians_alike() -> None:
    scene = random_scene(groups=3)
    faint = replace(scene.gaussians, opacities=torch.where(gaussian_mask(scene, 1), 0.0, scene.gaussians.opacities))
    means = scene.gaussians.means[gaussian_mask(scene, 1)]
    centre = for_all_groups(replace(scene, gaussians=faint), lambda mine: select_points(scene, mine).centre())[1]
    torch.testing.assert_close(group_centre(replace(scene, gaussians=faint), 1), means.mean(dim=0))
    assert centre.isfinite().all()


def test_scores_of_groups_come_back_and_are_consistent(tmp_path: Path) -> None:
    scene = replace(random_scene(), group_scores=torch.tensor([0.9, 0.0, 0.25]))
    save_scene(tmp_path / "scene.safetensors", scene)
    assert_same(load_scene(tmp_path / "scene.safetensors"), scene)
    assert {group.id: group.score for group in summarise(scene, visible_shares(scene))} == {
        2: pytest.approx(0.9), 5: None, 8: 0.25,
    }  # fmt: skip
    tensors, metadata = read_tensors(tmp_path / "scene.safetensors"), read_metadata(tmp_path / "scene.safetensors")
    for wrong, words in (
        (torch.tensor([0.9, 0.1]), "group_scores has shape"),
        (torch.tensor([0.9, -0.1, 0.0]), "negative score"),
        (torch.tensor([0.9, torch.nan, 0.0]), "group_scores holds NaN"),
        (torch.tensor([1, 2, 3]), "group_scores has dtype"),
    ):
        metadata.pop("digest", None)
        write_tensors(tmp_path / "wrong.safetensors", {**tensors, "group_scores": wrong}, metadata)
        with pytest.raises(UserError, match=words):
            load_scene(tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="negative score"):
        save_scene(tmp_path / "wrong.safetensors", replace(scene, group_scores=-torch.ones(3)))
