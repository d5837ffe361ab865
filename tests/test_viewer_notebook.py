"""Scenes in notebooks, and the frame in a real browser."""

from __future__ import annotations

from html.parser import HTMLParser
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from browsers import READ
from scenes import random_scene

import tokengroups as tg
from tokengroups.errors import UserError
from tokengroups.viewer import pack_scene, page_html
from tokengroups.viewer.notebook import View

# A notebook's output, whose own policy and styles must not matter.
NOTEBOOK = """<!doctype html><html><head><style>* { color: red } canvas { display: none }</style></head><body>
<p>In [1]: tokengroups.view(scene)</p><div class="output">OUTPUT</div><div id="next">In [2]:</div></body></html>"""


class Frames(HTMLParser):
    """Attributes of the frames in a document, as a browser reads them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "iframe"  # nothing of the page is outside
        self.found.append(dict(attrs))


def test_the_output_is_one_frame_that_holds_the_page() -> None:
    scene = tg.example_scene()
    shown = tg.view(scene, height=300, title='</iframe>"<b>')
    (frame,) = Frames(shown._repr_html_()).found
    assert frame["srcdoc"] == shown.page == page_html(pack_scene(scene, '</iframe>"<b>').data, '</iframe>"<b>')
    assert frame["sandbox"] == "allow-scripts allow-downloads"  # not allow-same-origin, with which it could leave it
    assert "height: 300px" in (frame["style"] or "")
    assert repr(shown) == "View(height=300)"  # where a terminal would show it


def test_a_path_and_a_scene_make_the_same_page_as_the_command(tmp_path: Path) -> None:
    from tokengroups.cli.main import main

    scene = random_scene()
    tg.save_scene(tmp_path / "my room.safetensors", scene)
    shown = tg.view(tmp_path / "my room.safetensors")
    assert shown == tg.view(scene, title="my room") == tg.view(str(tmp_path / "my room.safetensors"))
    assert shown.save(str(tmp_path / "a.html")) == tmp_path / "a.html"
    assert main(["view", str(tmp_path / "my room.safetensors"), "--html", str(tmp_path / "b.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    few = tg.view(scene, max_gaussians=5)
    assert few.page == page_html(pack_scene(scene, "scene", 5).data, "scene")


def test_wrong_use_is_said(tmp_path: Path) -> None:
    shown = tg.view(tg.example_scene())
    for name, message in (("a.png", "ends in .html"), ("none/a.html", "there is no folder")):
        with pytest.raises(UserError, match=message):
            shown.save(tmp_path / name)
    with pytest.raises(UserError, match="there is no such file"):
        tg.view(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="it is a folder; give a file"):
        tg.view(tmp_path)
    for other in (3, None, [shown], b"a.safetensors"):
        with pytest.raises(TypeError, match=f"give a scene, or the path of a scene file, got {type(other).__name__}$"):
            unwrap(tg.view)(other)  # as users have it, without the tests' check of types
    for wrong in ({"height": 0}, {"max_gaussians": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            tg.view(tg.example_scene(), **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_scene_on_a_graphics_card_is_shown() -> None:
    assert tg.view(tg.example_scene().to("cuda")).page == tg.view(tg.example_scene()).page


def test_in_a_browser_the_frame_draws_edits_and_saves(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    """Two outputs in one notebook; the worker, the file that is saved, and the wall between page and notebook."""
    outputs = tg.view(tg.example_scene(), height=300)._repr_html_() + View(tg.view(random_scene()).page)._repr_html_()
    (tmp_path / "notebook.html").write_text(NOTEBOOK.replace("OUTPUT", outputs), encoding="utf-8")
    context = browser.new_context(viewport={"width": 900, "height": 860}, offline=True)
    page, errors, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "notebook.html").as_uri())
    frames = page.frames[1:]
    assert len(frames) == 2
    for frame, groups in zip(frames, (3, 3), strict=True):
        result = frame.evaluate(f"""async () => {{
          const app = await tokengroups, bytes = await ({READ})(app);
          let wall = false;
          try {{ parent.document.body }} catch {{ wall = true }}
          app.select(2);
          app.command("Delete");
          return [app.scene.header.groups.length, new Set(bytes).size > 50, wall, origin];
        }}""")
        assert result == [groups, True, True, "null"]
    assert page.locator("iframe").first.bounding_box()["height"] == 300
    with page.expect_download() as download:
        page.frame_locator("iframe").first.get_by_text("Save edits").click()
    assert '["remove", "2"]' in Path(download.value.path()).read_text().replace('","', '", "')
    page.screenshot(path=tmp_path / "notebook.png", timeout=90000)
    assert page.locator("#next").bounding_box()["y"] > 700  # below both frames
    assert errors == [] and not [url for url in requests if not url.startswith(("file:", "blob:", "about:"))]
    context.close()
