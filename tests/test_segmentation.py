"""Instances of photos by any system, the names of their files, and what is said about them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from iggt_weights import ColorField, ColorFieldConfig

from tokengroups.data.base import open_dataset
from tokengroups.encoders import load_encoder
from tokengroups.errors import UserError
from tokengroups.evaluation.masks import group_masks, render_features
from tokengroups.evaluation.photo_masks import rendered_groups, track_numbers
from tokengroups.io.images import Photo
from tokengroups.io.photo_maps import on_photo
from tokengroups.postprocess import Draft, PhotoGroups
from tokengroups.scene import render_views
from tokengroups.segmentation import check_place, overlap_notes, plan_layout, segment_photos
from tokengroups.segmentation.facts import Sightings
from tokengroups.systems import SYSTEMS, load_model
from tokengroups.systems.iggt.clustering import ClusteringConfig
from tokengroups.systems.iggt_tiny import IGGTTiny, IGGTTinyConfig
from tokengroups.types import Cameras, Views


def rooms(count: int, views: int, size: int = 128) -> list[torch.Tensor]:
    """Photos of held-out rooms, [V, 3, H, W] each."""
    found = open_dataset("procedural", num_frames=views, size=size, options={"num_rooms": count})
    frames = [found[index][:] for index in list(found.splits["test"])[:count]]
    return [torch.from_numpy(each.images).permute(0, 3, 1, 2).float() / 255 for each in frames]


@pytest.fixture(scope="module")
def two_rooms() -> list[torch.Tensor]:
    return rooms(2, 3)


def tiny(**changes: object) -> IGGTTiny:
    torch.manual_seed(0)
    return IGGTTiny(load_encoder("vggt_tiny"), replace(IGGTTinyConfig(), **changes)).eval()


def test_a_system_that_segments_photos_gives_the_groups_of_its_scene(two_rooms: list[torch.Tensor]) -> None:
    model = tiny(clustering=ClusteringConfig(granularity=0.1))
    found, scene = segment_photos(model, two_rooms[0]), model.predict(two_rooms[0])
    assert scene.photo_groups is not None and len(found.ids) > 1
    assert torch.equal(found.labels, scene.photo_groups.labels) and torch.equal(found.scores, scene.photo_groups.scores)
    assert torch.equal(found.depth, scene.depth)
    assert torch.equal(found.cameras.cam_from_world, scene.scene.cameras.cam_from_world)
    assert set(scene.scene.group_ids.tolist()) <= set(found.ids.tolist()) == set(range(len(found.ids)))
    assert set(found.seconds) == {"masks", "geometry"} and found.seconds["masks"] > 0


@dataclass(frozen=True)
class Push:
    """A step that moves everything away, unevenly."""

    when: ClassVar[str] = "before_decoding"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, draft: Draft) -> Draft:
        depth = draft.geometry.depth * torch.linspace(1, 9, draft.geometry.depth.shape[-1])
        points = draft.geometry.points * depth[..., None]
        return replace(draft, geometry=replace(draft.geometry, depth=depth, points=points))


@pytest.mark.parametrize("smoothing", [0, 5])
def test_steps_change_the_depth_and_what_is_smoothed_in_space(smoothing: int) -> None:
    model = tiny(clustering=ClusteringConfig(granularity=0.1, smoothing=smoothing))
    photos = torch.rand(2, 3, 32, 32)
    plain, pushed = segment_photos(model, photos, steps=()), segment_photos(model, photos, steps=(Push(),))
    scene = model.predict(photos, postprocess=(Push(),))
    assert scene.photo_groups is not None
    assert torch.equal(pushed.labels, scene.photo_groups.labels) and torch.equal(pushed.depth, scene.depth)
    assert not torch.equal(pushed.depth, plain.depth)
    assert torch.equal(pushed.scores, plain.scores) == (smoothing == 0)


class Named(IGGTTiny):
    """Its instances have names, and come from no field."""

    def segment(self, draft: Draft) -> PhotoGroups:
        groups = super().segment(draft)
        names = tuple(f"thing {index}" for index in range(len(groups.scores)))
        return PhotoGroups(groups.labels, groups.scores, names=names)


def test_names_of_instances_are_handed_on(two_rooms: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    config = replace(IGGTTinyConfig(), clustering=ClusteringConfig(granularity=0.1))
    found = segment_photos(Named(load_encoder("vggt_tiny"), config).eval(), two_rooms[0], steps=())
    assert found.names == tuple(f"thing {index}" for index in found.ids.tolist()) and len(found.names) > 1


def test_groups_of_no_field_have_no_ceiling() -> None:
    ids = torch.arange(2).repeat_interleave(20).expand(2, 40, 40)
    pinhole = torch.tensor([[40.0, 0, 20], [0, 40, 20], [0, 0, 1]]).expand(2, 3, 3)
    cameras = Cameras(torch.eye(4).expand(2, 4, 4), pinhole, (40, 40))
    truth = Views(torch.zeros(2, 3, 40, 40), cameras, torch.ones(2, 40, 40), ids)
    numbers = track_numbers({"": ids}, PhotoGroups(ids, torch.ones(2)), truth)
    assert numbers["t_miou"] == 1 and np.isnan(numbers["t_miou_ceiling"])


def test_masks_need_neither_depth_nor_cameras(two_rooms: list[torch.Tensor]) -> None:
    model = tiny(clustering=ClusteringConfig(granularity=0.1))
    draft = model.encode(two_rooms[0])
    unknown = replace(draft.geometry, depth=draft.geometry.depth * torch.nan, points=draft.geometry.points * torch.nan)
    assert torch.equal(model.segment(replace(draft, geometry=unknown)).labels, model.segment(draft).labels)


def test_masks_of_eight_photos_take_less_than_a_cpu_second() -> None:
    (photos,), model, threads = rooms(1, 8), tiny(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        segment_photos(model, photos[:2], steps=())
        start = time.process_time()
        model.segment(model.begin(photos, None, ()))
        assert time.process_time() - start < 1.0
    finally:
        torch.set_num_threads(threads)


def test_groups_of_other_systems_are_those_that_a_rendering_shows(random_weights: Path) -> None:
    model, photos = load_model(random_weights), torch.rand(3, 3, 64, 64)
    found, scene = segment_photos(model, photos), model.predict(photos).scene
    views = torch.stack([view.group_map for view in render_views(scene, scene.cameras)])
    assert torch.equal(found.labels, views) and torch.equal(found.ids, scene.group_ids)
    assert len(found.labels.unique()) > 1
    rendered, features = render_features(scene, scene.cameras, scene.assignment)
    expected = group_masks(features, rendered.alphas)
    np.testing.assert_allclose(found.scores.numpy(), expected.confidences, rtol=1e-5)
    torch.testing.assert_close(found.depth, model.predict(photos).depth, rtol=0, atol=0)


def test_groupings_are_rendered_one_by_one(random_weights: Path) -> None:
    scene = load_model(random_weights).reconstruct(torch.rand(2, 3, 64, 64))
    other = torch.eye(5)[torch.arange(len(scene.anchors)) % 5]
    together = rendered_groups(scene, [scene.assignment, other])
    for grouping, (labels, scores) in zip((scene.assignment, other), together, strict=True):
        ((alone, lone_scores),) = rendered_groups(scene, [grouping])
        assert torch.equal(alone, labels) and torch.equal(lone_scores, scores)


def test_every_system_that_makes_scenes_can_be_asked() -> None:
    from tokengroups.registry import resolve
    from tokengroups.systems import SceneSystem

    kinds = [resolve(name, SYSTEMS, "system") for name in SYSTEMS]
    scenes = [kind for kind in kinds if issubclass(kind, SceneSystem)]
    assert len(scenes) >= 4
    assert all(
        callable(kind.segment) and set(kind.adjustable) <= {"granularity", "score", "max_gaussians"} for kind in scenes
    )


def test_settings_are_adjusted_within_their_bounds() -> None:
    model = tiny()
    model.adjust(granularity=0.25, max_gaussians=7)
    assert (model.clustering.granularity, model.gaussians.max_gaussians) == (0.25, 7)
    with pytest.raises(ValueError, match="granularity must be a finite number from 0.001 to 2"):
        model.adjust(granularity=3.0)
    with pytest.raises(KeyError):
        load_model().adjust(granularity=0.3)


# --- photos without overlap -----------------------------------------------------------------------------------------


def test_photos_of_different_rooms_are_noted_and_those_of_one_room_are_not(two_rooms: list[torch.Tensor]) -> None:
    first, second = two_rooms
    model = ColorField(load_encoder("vggt_tiny"), ColorFieldConfig())
    assert segment_photos(model, first).unrelated == ()
    assert segment_photos(model, torch.stack([first[0], second[0]])).unrelated == (0, 1)
    mixed = segment_photos(model, torch.cat([first[:2], second[:1]]))
    assert mixed.unrelated == (2,)
    assert any(note.startswith("c: do not fit the other photos") for note in overlap_notes(mixed, "abc"))
    assert segment_photos(model, torch.cat([second[:2], first[:2]])).unrelated == (2, 3)
    assert overlap_notes(segment_photos(model, first[:1]), ["a"]) == []


def test_instances_of_single_photos_are_noted() -> None:
    model = ColorField(load_encoder("vggt_tiny"), ColorFieldConfig())
    found = replace(segment_photos(model, torch.rand(3, 3, 32, 32), steps=()), unrelated=())
    labels = torch.zeros(3, 32, 32, dtype=torch.int64)
    labels[2], labels[0, 0] = 1, -1
    assert overlap_notes(replace(found, labels=labels), "abc") == ["c: no instance that another photo shows, too"]
    labels[1] = 2
    (note,) = overlap_notes(replace(found, labels=labels), "abc")
    assert note.startswith("no instance is seen in two photos")
    labels[:] = 4
    assert overlap_notes(replace(found, labels=labels), "abc") == []
    labels[:] = -1
    nothing = replace(found, labels=labels, ids=found.ids[:0], scores=found.scores[:0], names=())
    assert overlap_notes(nothing, "abc") == overlap_notes(nothing, "a") == ["no instance is found in the photos"]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photos", "stems"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["in/a.jpg", "in/a.png", "in/b.jpg"], ["a.jpg", "a.png", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
        (["x/a.jpg", "b.jpg"], ["x/a", "b"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["only/one/a.tar.jpg"], ["a.tar"]),
    ],
)
def test_files_are_named_after_their_photos(photos: list[str], stems: list[str]) -> None:
    layout = plan_layout([Path(photo) for photo in photos])
    assert list(layout.stems.values()) == stems
    assert [layout.file("masks", Path(photo)) for photo in photos] == [f"masks/{stem}.png" for stem in stems]
    assert len(set(layout.stems.values())) == len(photos)


def test_names_that_only_the_suffix_tells_apart() -> None:
    assert plan_layout([Path("x/a.jpg"), Path("x/a.png"), Path("x/b.png")]).shared_stems() == ["a.jpg", "a.png"]
    assert plan_layout([Path("x/a.jpg"), Path("y/a.jpg")]).shared_stems() == []


def test_places_among_photos_or_other_results_are_refused(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "a.jpg"
    for folder in ("photos", "out/masks", "out/overlays/deep", "capture/images"):
        (tmp_path / folder).mkdir(parents=True)
    layout = plan_layout([photo])
    check_place(tmp_path / "new" / "folder", layout, [photo], False)
    (tmp_path / "out" / "masks" / "a.png").touch()
    (tmp_path / "out" / "notes.txt").touch()
    check_place(tmp_path / "out", layout, [photo], False)
    with pytest.raises(UserError, match=r"photos such as a.jpg lie there"):
        check_place(tmp_path / "photos", layout, [photo], False)
    inside = plan_layout([tmp_path / "out" / "overlays" / "deep" / "a.jpg"])
    with pytest.raises(UserError, match="photos such as a.jpg lie there"):
        check_place(tmp_path / "out", inside, inside.photos, False)
    check_place(tmp_path / "capture", plan_layout([tmp_path / "capture" / "images" / "a.jpg"]), [], False)
    (tmp_path / "out" / "masks" / "b.png").touch()
    with pytest.raises(UserError, match=r"masks/b.png, of other photos or settings, would stay"):
        check_place(tmp_path / "out", layout, [photo], False)
    (tmp_path / "out" / "masks" / "b.png").unlink()
    (tmp_path / "out" / "overlays.mp4").touch()
    check_place(tmp_path / "out", layout, [photo], True)
    with pytest.raises(UserError, match="overlays.mp4, of other photos"):
        check_place(tmp_path / "out", layout, [photo], False)


@pytest.mark.parametrize("size_hw", [None, (30, 44), (13, 97)])
def test_maps_land_on_the_pixels_that_they_were_made_of(size_hw: tuple[int, int] | None) -> None:
    values = np.arange(20 * 20).reshape(20, 20) + 1
    photo = Photo(Path("a"), (60, 88), 1, (14, 0, 74, 60), (), np.eye(3))
    mapped = on_photo(values, photo, -7, size_hw)
    height, width = size_hw or photo.size_hw
    assert mapped.shape == (height, width)
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) * 60 / height, (column + 0.5) * 88 / width - 14
            expected = values[int(y / 3), int(x // 3)] if 0 <= x < 60 else -7
            assert mapped[row, column] == expected


def test_pixels_and_boxes_are_those_of_a_loop() -> None:
    rng, sightings = np.random.default_rng(3), Sightings()
    masks = {f"{index}.jpg": rng.integers(0, 5, (7, 9)).astype(np.uint16) for index in range(3)}
    masks["1.jpg"][masks["1.jpg"] == 4] = 0
    for name, mask in masks.items():
        sightings.add(name, mask)
    for value in range(1, 5):
        found = sightings.of(value)
        places = {name: np.argwhere(mask == value) for name, mask in masks.items() if (mask == value).any()}
        assert found["pixels"] == {name: len(each) for name, each in places.items()}
        for name, each in places.items():
            (top, left), (bottom, right) = each.min(axis=0), each.max(axis=0) + 1
            assert found["boxes"][name] == [left, top, right, bottom]
        assert found["pixels"][found["best_photo"]] == max(found["pixels"].values())
    assert 0 not in sightings.pixels and "1.jpg" not in sightings.of(4)["pixels"]
