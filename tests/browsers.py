"""Pages of the viewer in a real browser: what its tests share."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scenes import random_scene

from tokengroups.scene import SceneView, render_views
from tokengroups.types import Cameras, TokenScene

DARK = (0.0, 0.0, 0.0)
AWAY = (710, 5)  # where the mouse is over no group, in a window of 720 x 300

PREPARE = """async ([width, height, background]) => {
  const app = await tokengroups;
  Object.assign(app.canvas.style, { width: `${width}px`, height: `${height}px` });
  app.resize();
  app.setBackground(background);
}"""
READ = """async (app) => {
  const { gl } = app.renderer, { width, height } = app.canvas, bytes = new Uint8Array(4 * width * height);
  await app.settled();
  app.draw(); // in this task: later the picture is no longer there to be read
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
  return bytes;
}"""
PIXELS = f"""async (photo) => {{
  const app = await tokengroups;
  if (photo !== null) app.showPhoto(photo);
  const bytes = await ({READ})(app);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}}"""
PICKS = """async (step) => {
  const app = await tokengroups, { width, height } = app.canvas, picks = [];
  await app.settled();
  for (let y = 0; y < height; y += step) for (let x = 0; x < width; x += step) {
    const { group, alpha, depth } = app.pick(x + 0.5, y + 0.5);
    picks.push([group ?? -1, alpha, depth]);
  }
  return picks;
}"""


@dataclass(frozen=True)
class Opened:
    """The page of a scene in a browser, and what it asked for or complained about."""

    page: Any
    cameras: Cameras
    requests: list[str]
    errors: list[str]

    def picture(self, photo: int | None = 0) -> np.ndarray:
        height, width = self.cameras.size_hw
        data = np.frombuffer(base64.b64decode(self.page.evaluate(PIXELS, photo)), np.uint8)
        return data.reshape(height, width, 4)[::-1, :, :3].astype(float)  # WebGL's rows go upwards

    def run(self, script: str) -> Any:
        """Value of an expression about `app`."""
        return self.page.evaluate(f"async () => {{ const app = await tokengroups; return {script}; }}")

    def becomes(self, script: str, value: Any) -> bool:
        """Whether an expression about `app` has this value soon."""
        for _ in range(100):
            if self.run(script) == value:
                return True
            self.page.wait_for_timeout(50)
        return False


def dense_scene(degree: int = 0, groups: int = 6) -> TokenScene:
    """Enough Gaussians to cover most of the picture, in two views of 256 x 192 pixels."""
    return random_scene(groups=groups, anchors_per_group=8, per_anchor=24, degree=degree)


def ours(scene: TokenScene, cameras: Cameras, photo: int = 0) -> SceneView:
    return list(render_views(scene, cameras))[photo]


def difference(picture: np.ndarray, view: SceneView) -> float:
    """Mean absolute difference of 8-bit values; rounding alone makes 0.25."""
    return float(np.abs(picture - 255 * view.color.clamp(0, 1).numpy()).mean())


def place_of(view: SceneView, group_id: int) -> tuple[float, float]:
    """Point of the window inside a group: where a square of 7 pixels shows nothing else."""
    mine = torch.from_numpy(np.asarray(view.group_map == group_id)).float()
    inner = torch.nn.functional.avg_pool2d(mine[None], 7, stride=1)[0]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    assert inner.max() == 1
    return column + 3.5, row + 3.5


def drag_handle(opened: Opened, handle: str, offset: tuple[float, float], *, held: str = "", part: float = 1.0) -> None:
    """Drag a handle of the selected group by pixels of the window; `part` says where along its line it is taken."""
    script = f"""() => {{
      const path = document.querySelector('[data-handle="{handle}"] path'), length = path.getTotalLength();
      const {{ x, y }} = path.getPointAtLength({part} * length);
      return [x, y];
    }}"""
    opened.run("app.settled()")
    x, y = opened.page.evaluate(script)
    opened.page.mouse.move(x, y)
    if held:
        opened.page.keyboard.down(held)
    opened.page.mouse.down()
    opened.page.mouse.move(x + offset[0], y + offset[1], steps=3)
    opened.page.mouse.up()
    if held:
        opened.page.keyboard.up(held)
