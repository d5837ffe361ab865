"""The viewer: pages' sizes, first picture, picks and idle CPU in Chromium, and the slowest answers of its server.

Run: ``python benchmarks/viewer.py [--gaussians 32768 300000] [--runs 3] [--json FILE]``.

The scene is a room of `tokengroups demo`, from two photos. Its Gaussians are repeated with noise, so that there are as
many as asked for; the noise is of their size, and copies are smaller. Chromium (extra dev: playwright) draws 512x512
pixels in software. `first_s` is from opening the file until the picture's pixels can be read, `pick_ms` the slowest of
3 x 40 picks, `idle_cores` the CPU time of all its processes in ten seconds in which nothing changes. `served_ms` is the
slowest of several answers of `tokengroups view` over HTTP, by request: medians are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import sync_playwright

import tokengroups as tg
from tokengroups.types import TokenScene

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIDE_PX, PANEL_PX = 512, 280
DRAWN = """async () => {
  const app = await tokengroups, { gl } = app.renderer;
  await app.settled();
  gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
}"""
PICKS = """async () => {
  const app = await tokengroups, times = [];
  for (let view = 0; view < 3; view++) {
    app.setView({ ...app.view });
    await app.settled();
    for (let k = 0; k < 40; k++) {
      const began = performance.now();
      app.pick(Math.random() * app.canvas.width, Math.random() * app.canvas.height);
      times.push(performance.now() - began);
    }
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, nargs="+", default=[32_768, 300_000])
    parser.add_argument("--runs", type=int, default=3, help="of every browser; medians count")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command("demo", "--out", folder / "demo", "--scenes", 1)
        room = folder / "demo" / "room_1"
        for number in args.gaussians:
            scene = folder / f"room{number}.safetensors"
            tg.save_scene(scene, grown(tg.load_scene(room / "scene.safetensors"), number))
            rows.append({"gaussians": number, **page(scene, room / "photos", args.runs), **served(scene)})
            print(json.dumps(rows[-1]), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "tokengroups", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def grown(scene: TokenScene, number: int) -> TokenScene:
    """The scene with so many Gaussians."""
    gaussians, count = scene.gaussians, len(scene.gaussians.means)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.cat([torch.arange(count).repeat(number // count), torch.randperm(count, generator=generator)])
    chosen = chosen[:number].sort().values
    noise = torch.randn(number, 3, generator=generator) * gaussians.scales[chosen]
    many = gaussians.map(lambda values: values[chosen])
    smaller = many.scales / (number / count) ** 0.5
    many = replace(many, means=many.means + 0.7 * noise, scales=smaller)
    return replace(scene, gaussians=many, anchor_ids=scene.anchor_ids[chosen])


def page(scene: Path, photos: Path, runs: int) -> dict[str, Any]:
    """Size of the page, and times in a browser."""
    path = scene.with_suffix(".html")
    command("view", scene, "--html", path, "--photos", photos)
    found = [watched(path) for _ in range(runs)]
    medians = {name: statistics.median(each[name] for each in found) for name in found[0]}
    return {"page_mb": path.stat().st_size / 1e6, **medians}


def watched(path: Path) -> dict[str, float]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        context = browser.new_context(viewport={"width": SIDE_PX + PANEL_PX, "height": SIDE_PX}, offline=True)
        tab = context.new_page()
        tab.goto("about:blank")
        time.sleep(1)
        began, used = time.perf_counter(), children_cpu()
        tab.goto(path.as_uri())
        tab.evaluate(DRAWN)
        first, used = time.perf_counter() - began, children_cpu() - used
        picks = tab.evaluate(PICKS)
        time.sleep(8)  # the last frame is drawn meanwhile
        idle = children_cpu()
        time.sleep(10)
        idle = (children_cpu() - idle) / 10
        browser.close()
    return {"first_s": first, "first_cpu_s": used, "pick_ms": max(picks), "idle_cores": idle}


def children_cpu() -> float:
    """CPU seconds of all processes below this one."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                values = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(values[1])
            used[int(entry.name)] = sum(map(int, values[11:13])) / os.sysconf("SC_CLK_TCK")

    def below(process: int) -> bool:
        return process in parents and (parents[process] == os.getpid() or below(parents[process]))

    return sum(seconds for process, seconds in used.items() if below(process))


def served(scene: Path) -> dict[str, Any]:
    """Milliseconds of the server's answers."""
    found = tg.load_scene(scene)
    largest = int(found.assignment.argmax(dim=1).bincount().argmax())
    one, copy = str(int(found.group_ids[largest])), str(int(found.group_ids.max()) + 1)
    steps = {
        "move": [["move", one, "0.1", "0", "0"]],
        "rotate": [["rotate", one, "--axis", "y", "--degrees", "9"]],
        "duplicate": [["duplicate", one]],
        "duplicate, merge, split": [["duplicate", one, "9", "0", "0"], ["merge", one, copy], ["split", one]],
        "insert": [["insert", f"{scene.name}:{one}", "--at", "0", "0", "1"]],
        "rescale": [["rescale", "2"]],
        "remove": [["remove", one]],
    }
    times: dict[str, list[float]] = {}
    with server(scene) as address:

        def ask(name: str, path: str, order: dict[str, Any] | None = None) -> Any:
            body = None if order is None else json.dumps(order).encode()
            headers = {} if body is None else {"Content-Type": "application/json"}
            began = time.perf_counter()
            request = urllib.request.Request(address + path, body, headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    content = answer.read()
            except urllib.error.HTTPError as error:
                raise SystemExit(f"{name}: {error.read().decode()}") from error
            times.setdefault(name, []).append(1000 * (time.perf_counter() - began))
            return content

        version = 0
        for number in range(3):
            for name, edits in steps.items():
                version = json.loads(ask(name, "edit", {"edits": edits, "version": version}))["version"]
                ask("GET /scene", "scene")
                version = json.loads(ask("undo", "undo", {"version": version}))["version"]
            for path in ("", "state", "script"):
                ask(f"GET /{path}", path)
            for kind in ("safetensors", "ply", "spz", "glb"):
                order = {"name": f"saved{number}{kind}.{kind}", "version": version, "replace": True}
                ask(f"save .{kind}", "save", order)
                for left in scene.parent.glob("groups.json"):
                    left.unlink()
            ask("save groups", "save", {"name": f"{scene.stem}_{number}", "groups": True, "version": version})
    slowest = {name: round(max(each)) for name, each in times.items()}
    medians = {name: round(statistics.median(each), 1) for name, each in times.items()}
    return {"served_ms": max(slowest.values()), "slowest_ms": slowest, "median_ms": medians}


@contextmanager
def server(scene: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "tokengroups", "view", scene.name]
    process = subprocess.Popen(words, cwd=scene.parent, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
