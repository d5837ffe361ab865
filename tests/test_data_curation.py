"""Curation of videos and scans: each rule against masks whose right answer is known, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_curation import ByColor, Follow, by_color

from tokengroups.cli.main import main
from tokengroups.data.curation.base import Mask, Photo, Proposal
from tokengroups.data.curation.matching import MatchSettings, refine_ids
from tokengroups.data.curation.regions import boundary, without_small_regions
from tokengroups.data.curation.scans import find_scans, read_ids
from tokengroups.data.curation.suppression import SuppressionSettings, box_suppression, overlaps, suppress
from tokengroups.data.curation.video import Clip, VideoSettings, _new_objects, curate_video
from tokengroups.data.instance_masks import decode_rle
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.insscene import InsScene
from tokengroups.data.readers.scannet import write_scannet
from tokengroups.errors import UserError
from tokengroups.io.pixels import read_pixels, write_pixels

SIZE = (40, 60)
RED, GREEN, BLUE, GREY, PINK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90), (200, 90, 150)


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def picture(*things: tuple[tuple[int, int, int], Mask]) -> Photo:
    photo = np.zeros((*SIZE, 3), np.uint8)
    for color, mask in things:
        photo[mask] = color
    return photo


def proposals(*masks: Mask, scores: Sequence[float] = ()) -> list[Proposal]:
    return [Proposal(mask, score, 1.0) for mask, score in zip(masks, scores or [0.9] * len(masks), strict=True)]


LEFT, MIDDLE, RIGHT = box(0, 0, 40, 20), box(0, 20, 40, 40), box(0, 40, 40, 60)
STRIP = box(39, 20, 40, 40)  # less than 1 % of the picture


def video() -> list[Photo]:
    """Red and grey from the start; green is a strip in frame 1 and large from frame 2 on; red is away in frame 4."""
    return [
        picture((RED, LEFT), (GREY, RIGHT)),
        picture((RED, LEFT), (GREY, RIGHT), (GREEN, STRIP)),
        picture((RED, LEFT), (GREEN, MIDDLE), (GREY, RIGHT)),
        picture((RED, LEFT), (GREEN, MIDDLE), (GREY, RIGHT)),
        picture((GREEN, MIDDLE), (GREY, RIGHT)),
        picture((RED, LEFT), (GREEN, MIDDLE), (BLUE, RIGHT)),
    ]


# --- suppression -----------------------------------------------------------------------------------------------------


def test_overlaps_are_counts_of_shared_pixels() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random(SIZE) < density for density in (0.0, 0.1, 0.9)] + [box(3, 4, 9, 11)]
    expected = [[int((one & other).sum()) for other in masks[1:]] for one in masks]
    np.testing.assert_array_equal(overlaps(masks, masks[1:]), expected)


def test_doubtful_proposals_are_dropped_at_the_limit() -> None:
    kept = suppress(proposals(box(0, 0, 9, 9), box(20, 20, 30, 30), scores=[0.7, 0.71]), SuppressionSettings())
    assert [proposal.score for proposal in kept] == [0.71]


def test_the_better_of_two_alike_stays_and_the_order_is_by_score() -> None:
    one, same, other = box(0, 0, 20, 20), box(0, 0, 20, 21), box(20, 30, 40, 60)
    kept = suppress(proposals(one, same, other, scores=[0.8, 0.95, 0.9]), SuppressionSettings())
    assert [proposal.score for proposal in kept] == [0.95, 0.9]
    assert kept[0].mask is same
    both = suppress(proposals(one, same, scores=[0.8, 0.95]), SuppressionSettings(max_iou=20 / 21))
    assert len(both) == 2  # IoU is exactly the limit


def test_what_suppresses_must_be_kept_itself() -> None:
    """A chain: the second repeats the first, the third the second but not the first."""
    first, second, third = box(0, 0, 10, 20), box(0, 0, 10, 22), box(0, 0, 10, 25)
    iou = [20 / 22, 22 / 25, 20 / 25]
    assert min(iou[:2]) > 0.8 >= iou[2]
    kept = suppress(proposals(first, second, third, scores=[0.95, 0.9, 0.85]), SuppressionSettings())
    assert [proposal.score for proposal in kept] == [0.95, 0.85]


@pytest.mark.parametrize("scores", [(0.95, 0.8), (0.8, 0.95)])
def test_parts_are_dropped_whichever_is_better(scores: tuple[float, float]) -> None:
    whole, part, half = box(0, 0, 40, 40), box(0, 0, 10, 10), box(0, 0, 40, 21)
    kept = suppress(proposals(whole, part, scores=scores), SuppressionSettings())
    assert len(kept) == 1 and kept[0].mask is whole
    assert len(suppress(proposals(whole, half, scores=scores), SuppressionSettings())) == 2  # shares 21 / 40
    assert len(suppress(proposals(whole, part, scores=scores), SuppressionSettings(max_inner=0.99))) == 2


def test_three_best_stay_where_nothing_would() -> None:
    doubtful = proposals(*(box(0, 5 * i, 9, 5 * i + 4) for i in range(5)), scores=[0.1, 0.5, 0.3, 0.2, 0.4])
    assert [proposal.score for proposal in suppress(doubtful, SuppressionSettings())] == [0.5, 0.4, 0.3]
    assert suppress([], SuppressionSettings()) == []


def test_boxes_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 40, (60, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, (60, 2))], axis=1).astype(float)
    scores, kept = rng.random(60), []
    canvas = [box(*map(int, row), size=(80, 80)) for row in boxes]
    for index in np.argsort(-scores):
        if all((canvas[index] & canvas[k]).sum() / (canvas[index] | canvas[k]).sum() <= 0.5 for k in kept):
            kept.append(int(index))
    assert box_suppression(boxes, scores, 0.5) == kept
    assert box_suppression(np.zeros((0, 4)), np.zeros(0), 0.5) == []


# --- regions ---------------------------------------------------------------------------------------------------------


def test_small_holes_are_filled_and_small_islands_dropped() -> None:
    clean = box(5, 5, 30, 30)
    noisy = clean.copy()
    noisy[10:12, 10:12], noisy[35, 40:43] = False, True
    np.testing.assert_array_equal(without_small_regions(noisy, 5), clean)
    np.testing.assert_array_equal(without_small_regions(noisy, 3), noisy | box(35, 40, 36, 43))
    two = box(0, 0, 2, 2) | box(9, 9, 12, 12)
    np.testing.assert_array_equal(without_small_regions(two, 100), box(9, 9, 12, 12))  # the largest stays
    assert not without_small_regions(np.zeros(SIZE, bool), 5).any()


def test_boundary_of_a_box_is_its_rim() -> None:
    rim = box(3, 4, 9, 12) & ~box(4, 5, 8, 11)
    np.testing.assert_array_equal(boundary(box(3, 4, 9, 12)), np.argwhere(rim))
    assert len(boundary(np.ones(SIZE, bool))) == 2 * sum(SIZE) - 4  # the picture's border counts


# --- videos ----------------------------------------------------------------------------------------------------------


def curate(frames: Sequence[Photo], **settings: object) -> tuple[Clip, ByColor, Follow]:
    proposer, propagator = ByColor(None, "cpu"), Follow(None, "cpu")
    chosen = replace(VideoSettings(new_area=100), **settings)  # pyright: ignore[reportArgumentType]
    return curate_video(frames, proposer, propagator, chosen), proposer, propagator


def numbers_of(frames: Sequence[Photo], clip: Clip) -> dict[int, tuple[int, ...]]:
    """Colour of every object, by the first prompt."""
    first = {number: min(prompts) for number, prompts in clip.prompts.items()}
    return {n: tuple(frames[f][decode_rle(clip.prompts[n][f])][0].tolist()) for n, f in first.items()}


def test_objects_of_later_key_frames_are_followed_both_ways() -> None:
    frames = video()
    clip, proposer, propagator = curate(frames)
    # Uncovered: 1/3 at frame 0; frame 2 shows 1/3 too, as green is where black was. Frames 4 and 5 show 2/3, before
    # green is found. So 4 is a key frame: green is new. Then 1/3 is uncovered at 4 and at 5: blue is never found.
    assert clip.key_frames == [0, 4]
    assert numbers_of(frames, clip) == {0: GREY, 1: RED, 2: GREEN}
    # Red is not seen at the second key frame, so it is not prompted there.
    assert propagator.asked == [(False, {0: [0, 1]}), (False, {0: [0, 1], 4: [0]}), (False, {4: [2]}), (True, {4: [2]})]
    assert proposer.calls == [(0.85, 1), (0.85, 1)]
    for frame, photo in enumerate(frames):
        for number, color in {0: GREY, 1: RED, 2: GREEN}.items():
            np.testing.assert_array_equal(decode_rle(clip.masks[frame][number]), by_color(photo, color))
    assert [clip.uncovered_share(frame) for frame in (0, 2, 5)] == pytest.approx([1 / 3, 0, 1 / 3])


def test_what_is_covered_by_half_is_not_new() -> None:
    half = box(0, 20, 40, 30)
    covered = box(0, 20, 40, 25)
    settings = VideoSettings(new_area=0)
    clip = Clip(SIZE, [{}])
    assert not clip.is_covered(0).any() and clip.uncovered_share(0) == 1
    assert _new_objects([half], covered, settings) == []  # exactly half
    assert len(_new_objects([half | box(0, 30, 40, 31)], covered, settings)) == 1
    assert _new_objects([half], np.zeros(SIZE, bool), replace(settings, new_area=400)) == []  # 400 px are not more
    assert len(_new_objects([half], np.zeros(SIZE, bool), replace(settings, new_area=399))) == 1


def test_a_key_frame_without_new_objects_costs_no_second_round() -> None:
    frames = [picture((RED, LEFT)), picture(), picture((RED, LEFT), (GREEN, STRIP))]
    clip, proposer, propagator = curate(frames)
    assert clip.key_frames == [0, 1] and len(proposer.calls) == 2
    assert propagator.asked == [(False, {0: [0]})]
    assert [sorted(masks) for masks in clip.masks] == [[0], [0], [0]] and not decode_rle(clip.masks[1][0]).any()


def test_a_blank_start_goes_on_to_the_first_frame_with_objects() -> None:
    clip, _, propagator = curate([picture(), picture(), picture((RED, LEFT)), picture((RED, LEFT))])
    assert clip.key_frames == [0, 1, 2]
    assert propagator.asked == [(False, {2: [0]}), (True, {2: [0]})]
    assert [frame for frame in range(4) if clip.masks[frame] and decode_rle(clip.masks[frame][0]).any()] == [2, 3]
    nothing, _, _ = curate([picture(), picture()])
    assert nothing.to_json()["masklet"] == [[], []] and nothing.to_json()["masklet_num"] == 0


def test_batches_hold_objects_of_one_key_frame() -> None:
    tiles = [(color, box(0, 12 * i, 30, 12 * i + 12)) for i, color in enumerate([RED, GREEN, BLUE, GREY, PINK])]
    _, _, propagator = curate([picture(*tiles[:3]), picture(*tiles[3:])], batch_size=2)
    last_round = propagator.asked[2:]
    assert propagator.asked[:2] == [(False, {0: [0, 1]}), (False, {0: [2]})]
    assert last_round == [(False, {0: [0, 1]}), (False, {0: [2]}), (False, {1: [3, 4]}), (True, {1: [3, 4]})]


def test_strides_look_at_fewer_frames() -> None:
    frames = [picture((RED, LEFT | MIDDLE)), picture((GREEN, MIDDLE)), picture((RED, LEFT), (GREEN, MIDDLE))]
    assert curate(frames)[0].key_frames == [0, 1]
    assert curate(frames, stride=2)[0].key_frames == [0, 2]
    assert curate(frames, growth=0.7)[0].key_frames == [0]


def test_json_is_sa_vs_and_counts_objects() -> None:
    frames = video()
    clip, _, _ = curate(frames)
    content = clip.to_json()
    sizes = (content["video_frame_count"], content["video_height"], content["video_width"])
    assert sizes == (6, *SIZE)
    assert content["masklet_num"] == 3 and clip.to_json(faithful=True)["masklet_num"] == 6
    assert content["masklet_id"] == [0, 1, 2] and len(content["masklet"]) == 6
    np.testing.assert_array_equal(decode_rle(content["masklet"][1][2]), STRIP)
    assert not decode_rle(content["masklet"][0][2]).any()  # object 2 is not there, but has its place


# --- scans -----------------------------------------------------------------------------------------------------------


def ids_of(*things: tuple[int, Mask]) -> np.ndarray:
    ids = np.zeros(SIZE, np.int64)
    for number, mask in things:
        ids[mask] = number
    return ids


def rules(**counts: int) -> dict[str, int]:
    return {"one_to_one": 0, "weak": 0, "covering": 0, "union": 0, "projected": 0} | counts


def test_rule_1_best_pairs_first_and_one_to_one() -> None:
    projected = ids_of((5, box(0, 0, 20, 20)), (9, box(0, 30, 20, 50)))
    good, worse, other = box(0, 0, 20, 22), box(0, 0, 20, 12), box(1, 30, 21, 50)
    refined = refine_ids(projected, [worse, other, good])
    expected = ids_of((5, good), (9, other))  # 'worse' lies in 'good' and adds nothing
    np.testing.assert_array_equal(refined.ids, expected)
    assert refined.rules == rules(one_to_one=2)


def test_rule_2_weak_matches_need_coverage() -> None:
    one = box(0, 0, 10, 20)  # 200 px
    large = box(0, 0, 25, 30)  # IoU 200 / 750, coverage 1
    refined = refine_ids(ids_of((3, one)), [large])
    np.testing.assert_array_equal(refined.ids, ids_of((3, large)))
    assert refined.rules == rules(weak=1)
    # .6 IoU + .4 coverage prefers the one that covers more.
    small = box(0, 0, 10, 5)  # IoU and coverage .25: below .3
    medium = box(0, 10, 23, 26)  # shares 100 of 368: IoU .21, coverage .5
    assert (refine_ids(ids_of((3, one)), [small, medium], MatchSettings(gain=1.0)).ids == ids_of((3, medium))).all()


def test_rule_3_takes_the_best_coverage_if_it_is_enough() -> None:
    one = box(0, 0, 20, 20)  # 400 px
    for columns, counts in ((5, rules(covering=1)), (3, rules(projected=1))):  # coverage .25 and .15
        refined = refine_ids(ids_of((3, one)), [box(0, 0, 20, columns)])
        assert refined.rules == counts
        np.testing.assert_array_equal(refined.ids, ids_of((3, one if columns == 3 else box(0, 0, 20, columns))))


def test_rule_4_unites_up_to_four() -> None:
    one = box(0, 0, 20, 50)  # 1000 px
    strips = [box(0, 5 * i, 20, 5 * i + 5) for i in range(6)]  # IoU and coverage .1 each
    refined = refine_ids(ids_of((3, one)), strips[:4], MatchSettings(gain=1.0))
    assert refined.rules == rules(union=1)
    np.testing.assert_array_equal(refined.ids, ids_of((3, box(0, 0, 20, 20))))
    assert refine_ids(ids_of((3, one)), strips[:1]).rules == rules(projected=1)
    five = refine_ids(ids_of((3, one)), strips, MatchSettings(gain=1.0))
    assert (five.ids == 3).sum() == 400  # four of the six


def test_rule_5_absorbs_what_raises_the_iou() -> None:
    one = box(0, 0, 20, 30)
    core, rest = box(0, 0, 20, 20), box(0, 20, 20, 30)
    beside = box(0, 30, 20, 36)  # outside of the id
    refined = refine_ids(ids_of((3, one)), [core, rest, beside])
    np.testing.assert_array_equal(refined.ids, ids_of((3, one)))
    assert refined.rules == rules(one_to_one=1)
    # A proposal goes to one id only, the first one.
    two = ids_of((3, one), (4, box(20, 0, 40, 30)))
    below, shared = box(20, 0, 40, 20), box(0, 20, 40, 30)
    np.testing.assert_array_equal(refine_ids(two, [core, below, shared]).ids, ids_of((3, core | shared), (4, below)))


def test_rule_5_begins_with_the_nearest() -> None:
    """Either strip raises the IoU from .6 to .9; the other one then adds no more than the limit."""
    one, core = box(0, 0, 20, 40), box(0, 0, 20, 24)
    near, far = box(0, 24, 20, 36), box(0, 28, 20, 40)
    for masks in ([core, far, near], [core, near, far]):
        refined = refine_ids(ids_of((3, one)), masks, MatchSettings(gain=0.11))
        np.testing.assert_array_equal(refined.ids, ids_of((3, core | near)))
    refined = refine_ids(ids_of((3, one)), [core, far, near])
    np.testing.assert_array_equal(refined.ids, ids_of((3, one)))


def test_rule_6_keeps_the_projection_and_background_stays_empty() -> None:
    projected = ids_of((7, box(0, 0, 9, 9)))
    refined = refine_ids(projected, [box(30, 30, 40, 60)])
    np.testing.assert_array_equal(refined.ids, projected)
    assert refined.rules == rules(projected=1)
    assert refine_ids(np.zeros(SIZE, np.int64), [box(0, 0, 9, 9)]).rules == rules()
    assert refine_ids(projected, []).rules == rules(projected=1)


def test_small_instances_are_on_top_unless_the_original_order_is_wanted() -> None:
    small, large = box(10, 10, 20, 20), box(0, 0, 40, 30)
    projected = ids_of((8, large), (2, small))
    masks = [large, small]
    np.testing.assert_array_equal(refine_ids(projected, masks).ids, ids_of((8, large), (2, small)))
    faithful = refine_ids(projected, masks, MatchSettings(faithful=True))
    np.testing.assert_array_equal(faithful.ids, ids_of((2, small), (8, large)))  # 8 is later, so it hides 2


def test_the_same_seed_gives_the_same_ids() -> None:
    rng = np.random.default_rng(3)
    masks = [box(*(int(x) for x in (*low, *(low + rng.integers(5, 25, 2))))) for low in rng.integers(0, 35, (40, 2))]
    projected = ids_of(*((i, box(8 * (i // 4), 15 * (i % 4), 8 * (i // 4) + 8, 15 * (i % 4) + 15)) for i in range(20)))
    first, again = (refine_ids(projected, masks, MatchSettings(seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first.ids, again.ids)


@pytest.mark.parametrize("kind", ["png", "npy", "tensor", "array"])
def test_ids_in_all_kinds_of_files(kind: str, tmp_path: Path) -> None:
    ids = ids_of((3, box(0, 0, 5, 5)), (40_000, box(20, 20, 30, 30)))
    if kind == "png":
        write_pixels(tmp_path / "a.png", ids.astype(np.uint16))
    elif kind == "npy":
        np.save(tmp_path / "a.npy", np.where(ids == 0, -1, ids).astype(np.int32))
    else:
        torch.save(
            torch.from_numpy(ids.astype(np.int32)) if kind == "tensor" else ids.astype(np.int32), tmp_path / "a.pth"
        )
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(read_ids(path), ids)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, ("ran.txt", "w")  # pyright: ignore[reportReturnType]


def test_saved_objects_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, tmp_path / "a.pth")
    (tmp_path / "ran.txt").unlink(missing_ok=True)
    for content in (None, b"", b"no tensor"):
        if content is not None:
            (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.pth") as caught:
            read_ids(tmp_path / "a.pth")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("wrong", [np.full((4, 4), 70_000), np.zeros((4, 4)), np.zeros((2, 4, 4), int)])
def test_maps_that_are_no_ids_are_refused(wrong: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", wrong)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_ids(tmp_path / "a.npy")


# --- the command -----------------------------------------------------------------------------------------------------

TOYS = ["--proposer", "toy_curation:ByColor", "--propagator", "toy_curation:Follow", "--device", "cpu"]


@pytest.fixture
def frames_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, photo in enumerate(video()):
        write_pixels(folder / f"{9 + number}.png", photo)  # natural order: 9, 10, ...
    return folder


def test_command_curates_a_video(frames_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sam2_results/clip"
    arguments = ["data", "curate", str(frames_folder), "-o", str(out), *TOYS, "--min-new-area", "100"]
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "frames": 6,
        "objects": 3,
        "key_frames": [0, 4],
        "without_object": round(
            sum([1 / 3, 1 / 3 - 20 / 2400, 0, 0, 1 / 3, 1 / 3]) / 6, 6
        ),  # black, and blue at the end
    }
    clip, _, _ = curate(video())
    assert json.loads((out / "auto_masks.json").read_text()) == clip.to_json()
    numbers = {GREY: 1, RED: 2, GREEN: 3}
    for number, photo in enumerate(video()):
        expected = sum(by_color(photo, color) * value for color, value in numbers.items())
        np.testing.assert_array_equal(read_pixels(out / f"masks/{9 + number}.png"), expected)
    assert main(arguments) == 0
    assert "3 objects in 6 frames, 2 key frames" in capsys.readouterr().out
    assert json.loads((out / "curation.json").read_text())["settings"]["new_area"] == 100


def test_curated_clips_are_read_back(tmp_path: Path) -> None:
    """The files are those of InsScene-15K's clips."""
    scene = tmp_path / "processed_re10k/clip"
    (scene / "rgb").mkdir(parents=True)
    (scene / "cam").mkdir()
    for number, photo in enumerate(video()):
        write_pixels(scene / f"rgb/{number}.png", photo)
        np.savez(scene / f"cam/{number}.npz", pose=np.eye(4), intrinsics=np.diag([50.0, 50.0, 1.0]))
    arguments = [str(scene / "rgb"), "-o", str(tmp_path / "sam2_results/clip"), *TOYS, "--min-new-area", "100"]
    assert main(["data", "curate", *arguments]) == 0
    read = InsScene(tmp_path)[0][:]
    for photo, ids in zip(video(), read.group_ids, strict=True):
        numbers = {GREY: 0, RED: 1, GREEN: 2}
        expected = np.full(SIZE, -1)
        for color, number in numbers.items():
            expected[by_color(photo, color)] = number
        np.testing.assert_array_equal(ids, expected)


def test_command_curates_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Photos show exact objects; projected ids are shifted by two pixels, and half as large."""
    for name in ("scan1", "scan2"):
        (tmp_path / "scans" / name / "images").mkdir(parents=True)
        (tmp_path / "scans" / name / "obj_ids").mkdir()
        for number in range(2):
            photo = picture((RED, box(4, 4, 24, 24)), (BLUE, box(10, 30, 36, 56)))
            write_pixels(
                tmp_path / "scans" / name / f"images/frame_{number:06d}.png",
                np.kron(photo, np.ones((2, 2, 1), np.uint8)),
            )
            shifted = ids_of((11, box(6, 6, 26, 26)), (12, box(12, 32, 38, 58)))
            np.save(tmp_path / "scans" / name / f"obj_ids/frame_{number:06d}.png.npy", shifted.astype(np.int32))
    out = tmp_path / "out"
    assert main(["data", "curate", str(tmp_path / "scans"), "-o", str(out), *TOYS, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["scan1", "scan2"] and facts["scan1"]["rules"] == rules(one_to_one=4)
    fine = read_pixels(out / "scan2/refined_ins_ids/frame_000001.png")
    at_photo = np.load(out / "scan2/refined_ins_ids/frame_000001.png.npy")
    assert fine.dtype == np.uint16 and at_photo.dtype == np.int16 and at_photo.shape == (80, 120)
    inner = (box(8, 8, 20, 20), box(14, 34, 32, 52))  # Lanczos' filter changes colours near the borders
    assert (fine[inner[0]] == 11).all() and (fine[inner[1]] == 12).all() and (fine[:2] == 0).all()
    assert (fine[5, 8:20] == 11).all() and (fine[25, 8:20] == 0).all()  # as the photo has it, not the projection
    np.testing.assert_array_equal(at_photo, np.kron(fine, np.ones((2, 2), int)))


def test_scans_in_scannets_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = generate_room(2, 0, "test", num_views=2, size=48)
    write_scannet(tmp_path / "room", room)
    (tmp_path / "room/instance-filt/1.png").unlink()
    (scan,) = find_scans(tmp_path)
    assert len(scan.pairs) == 1 and scan.without == ("1.jpg",)
    out = tmp_path / "out"
    assert main(["data", "curate", str(tmp_path / "room"), "-o", str(out), *TOYS]) == 0
    captured = capsys.readouterr()
    assert "left out 1 photo without ids" in captured.err and "1 frame" in captured.out
    assert read_pixels(out / "refined_ins_ids/0.png").shape == (48, 48)


def test_wrong_sources_are_one_line_and_nothing_is_written(
    frames_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "empty").mkdir()

    def refused(source: Path, *options: str) -> str:
        assert main(["data", "curate", str(source), "-o", str(out), *(options or TOYS)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not out.exists()
        return error

    assert "ffmpeg" in refused(tmp_path / "clip.mp4")
    assert "no such file or folder" in refused(tmp_path / "none")
    assert "no photo in the folder" in refused(tmp_path / "empty")
    assert "--weights DIR" in refused(frames_folder, "--device", "cpu")
    assert "config.json" in refused(frames_folder, "--weights", str(tmp_path / "empty"), "--device", "cpu")
    write_pixels(frames_folder / "20.png", video()[0][:-1])
    assert "20.png" in refused(frames_folder)
    write_pixels(frames_folder / "20.png", video()[0])
    write_pixels(frames_folder / "20.jpg", video()[0])
    assert "two frames are named 20" in refused(frames_folder)
    (frames_folder / "20.jpg").unlink()
    (frames_folder / "20.png").write_bytes((frames_folder / "20.png").read_bytes()[:90])
    assert "20.png" in refused(frames_folder)


def test_ids_of_another_shape_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "ids"):
        (tmp_path / "scan" / name).mkdir(parents=True)
    write_pixels(tmp_path / "scan/images/a.png", video()[0])
    np.save(tmp_path / "scan/ids/a.npy", np.ones((40, 40), int))
    assert main(["data", "curate", str(tmp_path / "scan"), "-o", str(tmp_path / "out"), *TOYS]) == 2
    assert "40x40 pixels, another shape than its photo's 60x40" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
