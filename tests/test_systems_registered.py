"""Drafts without the photos that do not fit the others, by the shipped weights on rooms and on what is none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

import tokengroups as tg
from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.postprocess import build_steps
from tokengroups.systems import GivenPhotos, SceneSystem, begin_registered, registration_facts, registrations_of

STEPS = build_steps(["bundle_adjustment"], "a test")


@cache
def model() -> SceneSystem:
    return tg.load_model()


@cache
def photos(seed: int) -> Tensor:
    return to_views(generate_room(seed, 0, "test", num_views=5, size=128), [0, 2, 4]).images


@cache
def foreign_first() -> GivenPhotos:
    """A photo of another room before three of one, and a mask."""
    mask = torch.ones(4, 128, 128, dtype=torch.bool)
    mask[2, :, :16] = False
    return GivenPhotos(torch.cat([photos(9003)[:1], photos(9002)]), mask=mask)


def test_the_first_photo_that_fits_is_the_world() -> None:
    given = foreign_first()
    found = begin_registered(model(), given, STEPS)
    assert found.kept == (1, 2, 3)
    assert [each.registered for each in found.registrations] == [False, True, True, True]
    assert all(each.partner in (1, 2, 3) for each in found.registrations)
    assert torch.equal(found.draft.photos, given.images[1:])
    torch.testing.assert_close(found.draft.geometry.cameras.cam_from_world[0], torch.eye(4))
    alone = begin_registered(model(), given.select([1, 2, 3]), STEPS)
    assert torch.equal(found.draft.geometry.depth, alone.draft.geometry.depth)
    assert found.registrations[1:] == tuple(
        replace(each, partner=each.partner + 1) for each in alone.registrations if each.partner is not None
    )


def test_all_may_be_kept_and_those_with_given_poses_are() -> None:
    given = foreign_first()
    found = begin_registered(model(), given, STEPS, keep_all=True)
    assert found.kept == (0, 1, 2, 3) and not found.registrations[0].registered
    assert found.registrations == registrations_of(found.draft, STEPS)
    pinhole = torch.tensor([[110.0, 0, 64], [0, 110, 64], [0, 0, 1]]).repeat(4, 1, 1)
    posed = replace(given, intrinsics=pinhole, cam_from_world=torch.eye(4).repeat(4, 1, 1))
    assert begin_registered(model(), posed, STEPS).kept == (0, 1, 2, 3)


def test_scores_are_those_after_bundle_adjustment_also_where_it_is_no_step() -> None:
    given = GivenPhotos(photos(9002))
    plain, adjusted = (begin_registered(model(), given, steps) for steps in ((), STEPS))
    assert plain.registrations == adjusted.registrations
    assert not torch.equal(plain.draft.geometry.depth, adjusted.draft.geometry.depth)


@pytest.mark.parametrize("kind", ["blank", "noise", "two rooms"])
def test_sets_without_two_photos_of_one_place_are_refused(kind: str) -> None:
    made = {
        "blank": lambda: torch.ones(3, 3, 128, 128),
        "noise": lambda: torch.rand(3, 3, 128, 128),
        "two rooms": lambda: torch.stack([photos(9002)[0], photos(9003)[0]]),
    }
    with pytest.raises(UserError, match=r"no two of the \d photos agree .* overlap by half; --keep-all"):
        begin_registered(model(), GivenPhotos(made[kind]()), STEPS)


def test_a_single_photo_is_fine() -> None:
    found = begin_registered(model(), GivenPhotos(torch.ones(1, 3, 64, 64)), STEPS)
    assert found.kept == (0,) and registration_facts(found, ["a.jpg"]) == [
        {
            "photo": "a.jpg", "registered": True, "score": 1.0, "matched": 1.0, "consistent": 1.0,
            "reprojection_px": None, "partner": None,
        }
    ]  # fmt: skip


def test_facts_name_photos_and_partners() -> None:
    facts = registration_facts(begin_registered(model(), foreign_first(), STEPS), ["x", "a", "b", "c"])
    assert [fact["photo"] for fact in facts] == ["x", "a", "b", "c"]
    assert not facts[0]["registered"] and facts[0]["partner"] in ("a", "b", "c")
    assert all(fact["partner"] not in ("x", fact["photo"]) for fact in facts)
