"""The page as a file: one for all, no reference to anything outside, names that cannot become markup; its size."""

from __future__ import annotations

import base64
import gzip
import html.parser
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import random_scene

import tokengroups as tg
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians, TokenScene
from tokengroups.viewer import pack_scene, page_html
from tokengroups.viewer.page import bundle

ASSETS = Path(tg.__file__).parent / "viewer" / "assets"
HOSTILE = "</script><script>alert(1)</script>"


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("type") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None if tag == "script" else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data


def test_the_page_holds_the_packed_scene_and_refers_to_nothing() -> None:
    packed = pack_scene(random_scene(degree=2)).data
    page = page_html(packed, "a room")
    found = Elements(page)
    assert gzip.decompress(base64.b64decode(found.scripts["text/plain"])) == packed
    assert found.scripts["module"] == bundle()
    attributes = {name for _, attributes in found.tags for name in attributes}
    assert not attributes & {"src", "href", "srcset", "onload", "onclick", "onerror"}
    assert "://" not in page and "url(" not in page and "import(" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "title", [HOSTILE, '"><img src=x onerror=alert(1)>', "$scene ${script} $$", "\\u0000 \u2028", ""]
)
def test_names_never_become_markup(title: str) -> None:
    scene = replace(random_scene(), group_names=(HOSTILE, "<!--", "&lt;"))
    plain = Elements(page_html(pack_scene(random_scene()).data, "plain")).tags
    assert Elements(page_html(pack_scene(scene, title).data, title)).tags == plain


def test_the_page_is_the_same_every_time() -> None:
    assert page_html(pack_scene(random_scene()).data, "x") == page_html(pack_scene(random_scene()).data, "x")


def test_scripts_are_bundled_whole_and_in_order() -> None:
    script = bundle()
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert script.isascii() and '"use strict"' not in script
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(set(names)) == len(names), "a name at the top of two files"
    sources = {path.name: path.read_text() for path in ASSETS.glob("*.js")}
    for source in sources.values():
        assert set(re.findall(r'from "\./(\S+)";', source)) <= set(sources)
        assert all(len(line) <= 120 for line in source.splitlines())
    assert sum(len(source.encode()) for source in sources.values()) <= 80_000


def large_scene(count: int) -> TokenScene:
    """Random numbers, which compress worse than a reconstruction does; 32 Gaussians lie around each anchor."""
    rng = torch.Generator().manual_seed(0)
    anchors = count // 32
    places = 3 * torch.rand(anchors, 3, generator=rng) + torch.tensor([-1.5, -1.5, 1.0])
    small = random_scene(groups=40, anchors_per_group=1, per_anchor=1)
    return replace(
        small,
        gaussians=Gaussians(
            means=places.repeat_interleave(32, dim=0) + 0.03 * torch.randn(32 * anchors, 3, generator=rng),
            quats=torch.randn(count, 4, generator=rng),
            scales=torch.exp(torch.randn(count, 3, generator=rng) - 5),
            opacities=torch.rand(count, generator=rng),
            sh=(torch.rand(count, 1, 3, generator=rng) - 0.5) / SH_C0,
        ),
        anchor_ids=torch.arange(count) // 32,
        anchors=torch.zeros(anchors, 3),
        assignment=torch.softmax(4 * torch.randn(anchors, 40, generator=rng), dim=1),
    )


def test_a_scene_of_usual_size_makes_a_page_below_a_megabyte() -> None:
    assert len(page_html(pack_scene(large_scene(32_768)).data, "usual")) <= 1_000_000


@pytest.mark.slow
def test_300_000_gaussians_make_a_page_below_8_megabytes() -> None:
    assert len(page_html(pack_scene(large_scene(300_000)).data, "large")) <= 8_000_000
