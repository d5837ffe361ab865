"""Masks over photos: colours, outlines, places of ids; and sheets of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tokengroups.io.overlays import ContactSheet, draw_overlay, middles, overlay_size
from tokengroups.io.pictures import group_color


def test_instances_are_tinted_outlined_and_named() -> None:
    ids = np.full((640, 640), -1)
    ids[:, 200:400], ids[:, 400:] = 3, 12
    overlay = draw_overlay(Image.new("RGB", (640, 640), (100, 60, 20)), ids)
    grey = np.array([100, 60, 20])
    np.testing.assert_array_equal(overlay[5, 100], (0.35 * grey).round())
    for column, instance in ((205, 3), (635, 12)):
        np.testing.assert_allclose(overlay[5, column], (grey + group_color(instance)) / 2, atol=1)
    assert (overlay[:, 199] == 255).all() and (overlay[:, 399] == 255).all()  # the outlines
    for columns in (slice(210, 390), slice(410, 630)):  # the ids, white on black, in the middle
        part = overlay[:, columns]
        rows = np.argwhere((part == 255).all(axis=-1))[:, 0]
        assert len(rows) and (part == 0).all(axis=-1).any() and abs(rows.mean() - 320) < 15
    empty = draw_overlay(Image.new("RGB", (64, 64), "white"), np.full((64, 64), -1))
    assert (empty == round(0.35 * 255)).all()


def test_middles_are_as_far_from_borders_as_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    ids = np.full((24, 30), -1)
    ids[2:20, 3:14], ids[5:9, 14:30], ids[15:18, 20:23] = 0, 5, 9
    ids[rng.integers(0, 24, 12), rng.integers(0, 30, 12)] = 7
    wide = np.pad(ids, 1, constant_values=-2)

    def distance(row: int, column: int, instance: int) -> int:
        others = np.argwhere(wide != instance) - 1
        return int(np.abs(others - (row, column)).sum(axis=1).min())

    found = middles(ids)
    assert set(found) == {0, 5, 7, 9}
    for instance, (row, column, room) in found.items():
        assert ids[row, column] == instance
        rooms = [distance(r, c, instance) for r, c in np.argwhere(ids == instance)]
        assert room == max(rooms) == distance(row, column, instance)


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((128, 128), (640, 640)), ((3000, 4000), (960, 1280)), ((480, 800), (480, 800)), ((32, 6400), (6, 1280))],
)
def test_overlays_are_neither_tiny_nor_huge(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert overlay_size(size_hw) == expected


@pytest.mark.parametrize("count", [1, 5, 70])
def test_every_pair_is_on_the_sheet(count: int) -> None:
    sheet = ContactSheet([(96, 128)] * count)
    for index in range(count):
        color = np.full((96, 128, 3), (index + 1, 0, 107), np.uint8)
        sheet.add(
            color, color[:, :, ::-1], f"a/very/long/path/of/a/photo/that/never/fits/into/its/line/IMG_{index}.jpg"
        )
    red, green, blue = np.moveaxis(sheet.pixels().astype(np.int64), -1, 0)
    areas = np.bincount((red * 65536 + green * 256 + blue).ravel())
    for index in range(count):
        area = 192 * 256 if count <= 64 else 96 * 128  # enlarged where there is room
        assert areas[(index + 1) * 65536 + 107] == areas[107 * 65536 + index + 1] == area
    assert 0.4 < red.shape[1] / red.shape[0] < 4
