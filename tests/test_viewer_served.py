"""The page with its server, in real browsers: edits reach the server, the file and the other browser."""

from __future__ import annotations

import asyncio
import shlex
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import AWAY, DARK, Opened, dense_scene, difference, drag_handle, ours, place_of

import tokengroups as tg
from tokengroups.cli.main import main
from tokengroups.scene import group_centre
from tokengroups.scene.views import resize_cameras
from tokengroups.types import TokenScene
from tokengroups.viewer import open_session, server
from tokengroups.viewer.access import Access
from tokengroups.viewer.room import Room

pytest.importorskip("aiohttp", reason="the extra 'view' is not installed")
from aiohttp import web  # noqa: E402

NOTE, LINE = "document.getElementById('note').textContent", "document.getElementById('line').textContent"
IDLE = """async () => {
  const app = await tokengroups;
  while (app.editor.link.waiting) await app.editor.link.queue;
  await app.settled();
}"""


class Served:
    """A server in a thread, which can go away and come back at the same address."""

    def __init__(self, path: Path, **access: Any) -> None:
        self.path, self.access = path, Access(**access)
        with socket.create_server(("127.0.0.1", 0)) as place:
            self.port = place.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.room = Room(open_session(self.path))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.runner = web.AppRunner(server.make_app(self.room, self.access), shutdown_timeout=1)
        self._run(self.runner.setup())
        self._run(web.TCPSite(self.runner, "127.0.0.1", self.port).start())

    def stop(self) -> None:
        self._run(self.runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _run(self, task: Any) -> None:
        asyncio.run_coroutine_threadsafe(task, self.loop).result(20)


@pytest.fixture
def scene() -> TokenScene:
    return dense_scene()


@pytest.fixture
def served(scene: TokenScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.chdir(tmp_path)
    tg.save_scene("room.safetensors", scene)
    made = Served(Path("room.safetensors"))
    yield made
    if made.loop.is_running():
        made.stop()


@pytest.fixture
def look(browser: Any, scene: TokenScene) -> Iterator[Any]:
    contexts = []

    def open_page(served: Served, query: str = "", deaf: bool = False) -> Opened:
        context = browser.new_context(viewport={"width": 720, "height": 330})
        contexts.append(context)
        page, cameras = context.new_page(), resize_cameras(scene.cameras, 330)
        opened = Opened(page, cameras, [], [])
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        if deaf:  # it hears nothing of what others do
            page.route_web_socket("**/events", lambda _: None)
        page.goto(f"http://localhost:{served.port}/{query}")
        opened.run(
            f"(await app.settled(), app.setBackground({list(DARK)}), await app.editor.link.queue, await app.settled())"
        )
        return opened

    yield open_page
    for context in contexts:
        context.close()


def wait(opened: Opened) -> None:
    """Until all orders are answered and shown."""
    opened.page.evaluate(IDLE)


def choose(opened: Opened, name: str) -> None:
    opened.page.locator("#note").get_by_role("button", name=name).click()
    opened.run("new Promise((done) => setTimeout(done, 20))")
    wait(opened)


def test_a_room_is_edited_and_saved(served: Served, look: Any, scene: TokenScene) -> None:
    """Click, drag, rename, copy, split, merge, undo, query, save: the file is that of the command line shown."""
    opened = look(served)
    view = ours(scene, opened.cameras)
    group_id = int(view.group_map[view.group_map >= 0].mode().values)
    opened.page.mouse.click(*place_of(view, group_id))
    assert opened.run("app.selected") == group_id
    drag_handle(opened, "0", (40, 3), part=0.5)
    opened.page.get_by_label("rename").fill("it's mine; rm *")
    opened.page.get_by_label("rename").press("Enter")
    opened.page.keyboard.press("Control+d")
    wait(opened)
    copy = max(served.room.session.scene.group_ids.tolist())
    assert len(served.room.session.scene.group_ids) == 7 and copy in opened.run("[...app.groups.keys()]")
    edited = served.room.session.scene
    x = float(group_centre(edited, edited.group_ids.tolist().index(group_id))[0])
    opened.run(f"app.select({group_id})")
    box = opened.page.get_by_label("split by a box")
    box.fill(f"-9 -9 -9, {x} 9 9")
    box.press("Enter")
    wait(opened)
    assert len(served.room.session.scene.group_ids) == 8 and opened.run("app.groups.size") == 8
    others = [each for each in scene.group_ids.tolist() if each != group_id][:2]
    opened.run(f"app.choose({others})")
    opened.page.get_by_role("button", name="Merge").click()
    opened.page.keyboard.press("Control+z")
    opened.page.keyboard.press("Control+Shift+Z")
    wait(opened)
    edited = served.room.session.scene
    assert others[0] in edited.group_ids and others[1] not in edited.group_ids
    assert sorted(opened.run("[...app.groups.keys()]")) == sorted(edited.group_ids.tolist())
    opened.run("app.select(null)")
    assert difference(opened.picture(None), ours(edited, opened.cameras)) < 0.5
    opened.page.get_by_label("search groups").fill("mine")
    opened.page.get_by_label("search groups").press("Enter")
    assert opened.becomes(f"app.selection.has({group_id})", True)
    assert opened.run(f"app.lit.get({group_id})") == 1
    saving = opened.page.get_by_label("save as")
    saving.fill("saved.safetensors")
    saving.press("Enter")
    wait(opened)
    assert opened.run(NOTE) == "Wrote saved.safetensors."
    words = shlex.split(opened.run(LINE))
    assert main([*words[1:-1], "typed.safetensors"]) == 0
    assert Path("saved.safetensors").read_bytes() == Path("typed.safetensors").read_bytes()
    saving.fill("saved.safetensors")
    saving.press("Enter")
    wait(opened)
    assert "exists" in opened.run(NOTE)
    choose(opened, "Replace it")
    assert opened.run(NOTE) == "Wrote saved.safetensors." and opened.errors == []


def test_two_browsers_share_the_scene_and_not_the_selection(served: Served, look: Any) -> None:
    one, two = look(served), look(served)
    one.run("app.select(2)")
    two.run("app.select(5)")
    two.page.get_by_role("button", name="Remove").click()
    assert one.becomes("app.groups.has(5)", False)
    one.page.get_by_label("move right").fill("0.2")
    one.page.get_by_label("move right").press("Enter")
    assert two.becomes("app.editor.operations.length", 2)
    assert one.run("[...app.selection]") == [2] and two.run("[...app.selection]") == []
    one.run("app.select(null)")
    wanted = ours(served.room.session.scene, one.cameras)
    assert difference(one.picture(None), wanted) < 0.5 and difference(two.picture(None), wanted) < 0.5
    one.page.keyboard.press("Control+z")
    one.page.keyboard.press("Control+z")
    assert two.becomes("app.groups.has(5)", True)
    late = look(served)  # opened after edits: what it shows has them in it
    assert late.run("app.editor.history") == two.run("app.editor.history")


def test_an_edit_of_an_older_scene_is_a_choice(served: Served, look: Any) -> None:
    one, two = look(served), look(served, deaf=True)
    for choice, wanted in (("Leave it", [5]), ("Do it all the same", [5, 2])):
        one.run("app.editor.edit([['move', '8', '0.1', '0', '0']])")
        wait(one)
        two.run(
            "(app.select(5), app.editor.remove())" if choice == "Leave it" else "app.editor.edit([['remove', '2']])"
        )
        two.run("app.editor.link.queue")
        assert "has changed" in two.run(NOTE)
        assert two.run("app.groups.has(5)")  # it shows what the server has
        choose(two, choice)
        gone = [each for each in wanted if each not in served.room.session.scene.group_ids]
        assert gone == ([] if choice == "Leave it" else [2])
    assert two.run("app.groups.has(2)") is False and two.errors == []


def test_the_choice_stays_where_another_edit_was_a_moment_earlier(served: Served, look: Any) -> None:
    opened = look(served)
    opened.run("""app.editor.link.after(() => fetch("edit", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ version: app.editor.link.version, edits: [["move", "8", "0.1", "0", "0"]] }),
    })) && app.editor.edit([["remove", "2"]])""")
    opened.page.wait_for_timeout(500)  # the server tells of the other edit
    wait(opened)
    assert "has changed" in opened.run(NOTE) and opened.run("app.groups.has(2)")
    choose(opened, "Do it all the same")
    assert opened.run("app.groups.has(2)") is False and opened.run(NOTE) == ""
    assert 2 not in served.room.session.scene.group_ids and served.room.version == 2


def test_edits_wait_in_the_page_while_the_server_is_gone(served: Served, look: Any, scene: TokenScene) -> None:
    opened = look(served)
    opened.run("app.editor.edit([['remove', '2']])")
    wait(opened)
    served.stop()
    assert opened.becomes(f"{NOTE}.includes('server is gone')", True)
    opened.run("(app.select(5), app.editor.duplicate())")
    assert opened.run("[app.editor.unsaved, app.groups.size]") == [True, len(scene.group_ids)]
    opened.run("(app.select(5), app.command('split'))")
    assert "in one piece" in opened.run(NOTE)
    served.start()  # without any edits
    assert opened.becomes(f"{NOTE}.includes('without your last edits (2)')", True)
    choose(opened, "Send them")
    assert opened.becomes("app.editor.link.version", 2)
    ids = served.room.session.scene.group_ids.tolist()
    assert sorted(opened.run("[...app.groups.keys()]")) == sorted(ids)
    assert 2 not in ids and len(ids) == len(scene.group_ids)
    assert opened.run("[app.editor.unsaved, app.editor.link.lost]") == [False, False]


def test_another_file_on_the_disk_is_said(served: Served, look: Any, scene: TokenScene) -> None:
    opened = look(served)
    opened.run("app.editor.edit([['remove', '2']])")
    wait(opened)
    tg.save_scene("room.safetensors", tg.remove(scene, 8))
    opened.page.evaluate("dispatchEvent(new Event('focus'))")
    assert opened.becomes(f"{NOTE}.includes('changed on the disk')", True)
    choose(opened, "Read it again")
    assert opened.becomes("[app.groups.has(2), app.groups.has(8)]", [True, False])
    assert opened.run("app.editor.history.steps") == []


def look_again(opened: Opened) -> None:
    opened.page.evaluate("dispatchEvent(new Event('focus'))")
    wait(opened)


def test_reading_the_file_again_spares_what_others_did_since(served: Served, look: Any, scene: TokenScene) -> None:
    one, two, deaf = look(served), look(served), look(served, deaf=True)
    tg.save_scene("room.safetensors", tg.remove(scene, 8))
    one.run("app.editor.edit([['remove', '2']])")
    wait(one)
    look_again(deaf)
    assert all(each.becomes(f"{NOTE}.includes('changed on the disk')", True) for each in (one, two, deaf))
    choose(one, "Read it again")
    one.run("app.editor.edit([['move', '5', '0.1', '0', '0']])")
    wait(one)
    assert two.becomes(NOTE, "")
    choose(deaf, "Read it again")  # it has not heard that another did so
    assert "has changed" in deaf.run(NOTE) and len(served.room.session.steps) == 1
    assert deaf.run("app.editor.operations") == [["move", "5", "0.1", "0", "0"]]


def test_edits_that_another_browser_has_sent_again_are_not_sent_twice(served: Served, look: Any) -> None:
    one, two, deaf = look(served), look(served), look(served, deaf=True)
    one.run("app.editor.edit([['move', '5', '0.1', '0', '0'], ['duplicate', '8', '0', '0', '0']])")
    wait(one)
    look_again(deaf)
    served.stop()
    look_again(deaf)
    served.start()
    look_again(deaf)
    for opened in (one, two, deaf):
        assert opened.becomes(f"{NOTE}.includes('without your last edits (1)')", True)
    choose(one, "Send them")
    assert two.becomes(NOTE, "")
    choose(deaf, "Send them")
    assert [step.words[0][0] for step in served.room.session.steps] == ["move"]
    assert deaf.run("[app.editor.history.done, app.groups.size]") == [1, 7] and deaf.run(NOTE) == ""


def test_the_part_that_a_split_makes_is_selected(served: Served, look: Any, scene: TokenScene) -> None:
    opened = look(served)
    opened.run("app.select(8)")
    low = scene.gaussians.means.amin(dim=0).tolist()
    middle = group_centre(scene, scene.group_ids.tolist().index(8)).tolist()
    opened.page.get_by_label("split by a box").fill(" ".join(map(str, [*low, middle[0], 99, 99])))
    opened.page.get_by_label("split by a box").press("Enter")
    wait(opened)
    new_id = int(scene.group_ids.max()) + 1
    assert opened.run("[...app.selection]") == [new_id] == served.room.session.scene.group_ids[-1:].tolist()


def test_the_scale_is_set_by_a_known_length(served: Served, look: Any, scene: TokenScene) -> None:
    opened = look(served)
    view = ours(scene, opened.cameras)
    ids = view.group_map[view.group_map >= 0].unique().tolist()
    before, depth = opened.picture(None), opened.run("app.scene.header.focus_depth")
    opened.page.keyboard.press("m")
    for group_id in ids[:2]:
        opened.page.mouse.click(*place_of(view, group_id))
    measured = float(opened.page.locator("#amount").inner_text().removeprefix("Distance "))
    opened.page.get_by_label("true length").fill(str(2.5 * measured))
    opened.page.get_by_label("true length").press("Enter")
    opened.page.keyboard.press("m")
    opened.page.mouse.move(*AWAY)
    wait(opened)
    (operation,) = opened.run("app.editor.operations")
    assert operation[0] == "rescale" and float(operation[1]) == pytest.approx(2.5, rel=1e-3)
    rescaled = served.room.session.scene
    assert abs(opened.picture(None) - before).mean() < 0.5  # nothing seems to move
    opened.run("(app.editor.link.source = null, app.editor.link.refresh())")  # the scene itself, in the new unit
    wait(opened)
    assert opened.run("app.scene.header.focus_depth") == pytest.approx(2.5 * depth, rel=1e-3)
    assert abs(opened.picture(None) - before).mean() < 0.5
    opened.run(f"(app.select({ids[0]}), app.editor.edit(app.editor.step({{ right: 0.5 }})))")
    wait(opened)
    step = opened.run("app.editor.operations.at(-1)")
    assert float(step[2]) == pytest.approx(0.5) and rescaled.group_ids.tolist() == scene.group_ids.tolist()


def test_a_page_with_a_token(scene: TokenScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tg.save_scene("room.safetensors", scene)
    served = Served(Path("room.safetensors"), token="secret")
    try:
        opened = look(served, "?token=secret")
        opened.run("app.editor.edit([['remove', '2']])")
        wait(opened)
        assert 2 not in served.room.session.scene.group_ids and not opened.run("app.editor.link.lost")
    finally:
        served.stop()
