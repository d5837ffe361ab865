// Mouse, touch and keyboard. Nothing here knows of splats: gestures change the view of an `app` and tell it of clicks.
import { dolly, look, orbit, shift } from "./view.js";

const TURN = 3; // radians for a drag across the smaller side of the canvas
const CLICK = 4; // pixels: what moves less is no drag
const FLYING = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function listen(app, canvas) {
  pointers(app, canvas);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  const wheel = (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 * event.deltaY : event.deltaY;
    zoom(app, Math.exp(Math.min(Math.max(lines, -200), 200) / 500));
  };
  canvas.addEventListener("wheel", wheel, { passive: false });
  keyboard(app);
}

function zoom(app, factor) {
  app.setView(dolly(app.view, factor, app.scene.header.focus_depth));
}

/** Turn or shift by a movement in CSS pixels; what lies under the pointer goes the same way. */
function drag(app, canvas, dx, dy, how) {
  const side = Math.min(canvas.clientWidth, canvas.clientHeight), { frame: [, up] } = app.scene.header;
  if (how === "shift") {
    const { fx } = app.camera(), pixel = canvas.width / canvas.clientWidth / fx;
    app.setView(shift(app.view, [-dx * pixel, -dy * pixel, 0]));
  } else if (how === "look") app.setView(look(app.view, (TURN * dx) / side / 2, (-TURN * dy) / side / 2, up));
  else app.setView(orbit(app.view, (-TURN * dx) / side, (TURN * dy) / side, up));
}

function pointers(app, canvas) {
  const held = new Map(); // of every finger or button, where it is
  let moved = 0, corner = null; // of the box that is drawn with Ctrl
  const middle = () => [...held.values()].reduce(([x, y], p) => [x + p.x / held.size, y + p.y / held.size], [0, 0]);
  const spread = () => Math.hypot(...[...held.values()].slice(0, 2).reduce(([x, y], p) => [p.x - x, p.y - y], [0, 0]));
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!held.size) moved = 0;
    corner = (event.ctrlKey || event.metaKey) && !event.button ? [event.offsetX, event.offsetY] : null;
    held.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    const place = held.get(event.pointerId);
    if (!place) return app.hoverAt(event.offsetX, event.offsetY);
    const [x, y] = middle(), wide = spread(), several = held.size > 1;
    held.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    const [newX, newY] = middle();
    moved += Math.hypot(event.offsetX - place.x, event.offsetY - place.y);
    if (moved < CLICK) return;
    if (corner) return app.overlay.box(corner, [event.offsetX, event.offsetY]);
    const shifting = several || event.shiftKey || event.buttons & 6;
    drag(app, canvas, newX - x, newY - y, shifting ? "shift" : event.altKey ? "look" : "orbit");
    if (several && spread() > 0) zoom(app, wide / spread());
  });
  const end = (event) => {
    const clicked = held.delete(event.pointerId) && moved < CLICK && event.type === "pointerup" && event.button === 0;
    if (corner && moved >= CLICK) app.overlay.choose(corner, [event.offsetX, event.offsetY], event.shiftKey);
    corner = null;
    app.overlay.box();
    if (clicked) app.clickAt(event.offsetX, event.offsetY, event.shiftKey);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => app.hover(null));
}

function keyboard(app) {
  const down = new Set();
  let last = 0;
  const fly = (now) => {
    const step = Math.min((now - last) / 1000, 0.1);
    last = now;
    for (const key of down) {
      const far = app.scene.header.focus_depth / app.view.distance; // flying is as fast near the focus as far from it
      if (FLYING[key]) app.setView(shift(app.view, FLYING[key].map((value) => value * step * far)));
      else app.setView(orbit(app.view, -ARROWS[key][0] * step, ARROWS[key][1] * step, app.scene.header.frame[1]));
    }
    if (down.size) requestAnimationFrame(fly);
  };
  const key = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);
  addEventListener("keydown", (event) => {
    if (event.altKey || event.target.closest("input:not([type=checkbox]), select")) return;
    if (event.ctrlKey || event.metaKey) {
      if (app.command(`Ctrl-${event.shiftKey ? "Shift-" : ""}${key(event)}`)) event.preventDefault();
      return;
    }
    const name = key(event), inPanel = event.target.closest("#panel");
    if (FLYING[name] || (ARROWS[name] && !inPanel)) {
      if (!down.size) (last = performance.now()), requestAnimationFrame(fly);
      down.add(name);
    } else if (name === "+" || name === "=") zoom(app, 0.9);
    else if (name === "-") zoom(app, 1 / 0.9);
    else if (!app.command(name)) return;
    event.preventDefault();
  });
  addEventListener("keyup", (event) => down.delete(key(event)));
  addEventListener("blur", () => down.clear());
}
