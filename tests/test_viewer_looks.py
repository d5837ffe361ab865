"""Looks of a scene: rendered once, and known again after every edit."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import random_scene

import tokengroups as tg
from tokengroups.scene import render_portrait, visible_shares
from tokengroups.types import TokenScene
from tokengroups.viewer import look, looks


@pytest.fixture
def scene() -> TokenScene:
    return random_scene(groups=5, anchors_per_group=6, per_anchor=8)


def never(*_args: object, **_options: object) -> object:
    raise AssertionError("this renders again")


def test_shares_and_portraits_are_rendered(scene: TokenScene) -> None:
    found = look(scene)
    assert torch.equal(found.shares, visible_shares(scene)) and found.photos == ()
    for column, url in enumerate(found.portraits):
        assert url is not None
        image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        assert image.size == (64, 64)
        for ground in (0, 255):
            page = Image.new("RGBA", image.size, (ground, ground, ground, 255))
            shown = np.asarray(Image.alpha_composite(page, image).convert("RGB")) / 255
            wanted = render_portrait(scene, column, 64, torch.full((3,), ground / 255)).clamp(0, 1).numpy()
            assert np.abs(shown - wanted).mean() < 0.03


def test_edits_that_leave_a_group_as_it_is_render_nothing(scene: TokenScene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = look(scene)
    monkeypatch.setattr(looks, "visible_shares", never)
    monkeypatch.setattr(looks, "cutout_url", never)
    edited = tg.move(scene, 2, (1.0, 0, 0))
    edited = tg.rotate(edited, 5, "y", 30)
    edited = tg.scale(edited, 8, 2.0)
    edited = tg.rename(edited, 8, "chair")
    after = before.after(edited)
    assert torch.equal(after.shares, before.shares) and after.portraits == before.portraits
    fewer = after.after(tg.remove(edited, [5, 11]))
    assert fewer.portraits == tuple(before.portraits[column] for column in (0, 2, 4))
    assert torch.equal(fewer.shares, before.shares[[0, 2, 4]])
    back = fewer.after(scene)  # as undo does
    assert torch.equal(back.shares, before.shares) and back.portraits == before.portraits


def test_shares_of_new_groups_are_those_of_their_gaussians(scene: TokenScene) -> None:
    before = look(scene)
    merged = before.after(tg.merge(scene, [2, 5]))
    assert merged.shares[0] == pytest.approx(float(before.shares[:2].sum()))
    assert torch.equal(merged.shares[1:], before.shares[2:])
    low, high = scene.gaussians.means.min(dim=0).values - 1, scene.gaussians.means.max(dim=0).values + 1
    middle = scene.gaussians.means[:, 0].median()
    box = [*low.tolist(), float(middle), *high[1:].tolist()]
    parts = before.after(tg.split(scene, 2, box))
    assert len(parts.shares) == 6 and min(parts.shares[0], parts.shares[5]) > 0
    assert float(parts.shares[0] + parts.shares[5]) == pytest.approx(float(before.shares[0]))
    twice = before.after(tg.duplicate(scene, 8, (0.5, 0, 0)))
    assert float(twice.shares[5]) == pytest.approx(float(before.shares[2]))
    other = before.after(tg.insert(scene, random_scene(seed=3), 2, (0, 0, 2)))
    assert other.shares[5] == 0 and torch.equal(other.shares[:5], before.shares)


def test_new_groups_get_portraits_of_their_own(scene: TokenScene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = look(scene)
    edited = tg.merge(tg.duplicate(scene, 8, (0.5, 0, 0)), [2, 5])
    after = before.after(edited)
    assert after.portraits[1:4] == before.portraits[2:]
    fresh = look(edited)
    assert {after.portraits[0], after.portraits[4]} == {fresh.portraits[0], fresh.portraits[4]}
    monkeypatch.setattr(looks, "_QUICK", 60)  # 48 Gaussians of the copy are few enough, not 96 more
    assert [url is None for url in before.after(edited).portraits] == [True, False, False, False, False]


def test_groups_of_equal_looks_are_told_apart_by_their_ids() -> None:
    """All Gaussians of a box have one colour and opacity; two such groups have shares of their own."""
    scene = tg.duplicate(tg.example_scene(), "box", (0.3, 0, 5.0))  # far behind
    before = look(scene)
    after = before.after(tg.move(scene, "ball", (0.1, 0, 0)))
    assert before.shares[1] > 2 * before.shares[3] and torch.equal(after.shares, before.shares)
    assert before.portraits[1] != before.portraits[3] and after.portraits == before.portraits


def test_only_the_most_visible_of_many_groups_have_portraits() -> None:
    scene = random_scene(groups=2000, anchors_per_group=1, per_anchor=4)
    found = look(scene)
    with_one = [column for column, url in enumerate(found.portraits) if url is not None]
    assert 10 <= len(with_one) <= looks.MOST_PORTRAITS
    assert set(with_one) <= set(found.shares.argsort(descending=True, stable=True)[: looks.MOST_PORTRAITS].tolist())
    assert sum(len(url) for url in found.portraits if url is not None) <= looks.PORTRAIT_CHARS


def test_invisible_groups_and_photos_of_the_same_views(scene: TokenScene) -> None:
    faint = replace(scene, gaussians=replace(scene.gaussians, opacities=0 * scene.gaussians.opacities))
    found = look(faint)
    assert found.shares.tolist() == [0] * 5
    assert torch.equal(found.after(tg.merge(faint, [2, 5])).shares, torch.zeros(4))
    with_photos = replace(found, photos=("data:a", None))
    assert with_photos.anew(faint, scene).photos == ("data:a", None)
    assert torch.equal(with_photos.anew(faint, scene).shares, visible_shares(scene))
    cameras = replace(scene.cameras, intrinsics=2 * scene.cameras.intrinsics)
    assert with_photos.anew(faint, replace(scene, cameras=cameras)).photos == ()
