// Mouse, touch and keyboard: gestures change the view of an `app` and tell it of clicks.
import { add, scaled, subtract } from "./maths.js";
import { look, orbit, shift } from "./view.js";

const TURN = 3; // radians for a drag across the smaller side of the canvas
const CLICK = 4; // pixels: what moves less is no drag
const FLYING = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function listen(app) {
  pointers(app, app.canvas);
  keyboard(app);
}

/** Turn or shift by a movement in CSS pixels; what lies under the pointer goes the same way. */
function drag(app, movement, how) {
  const { frame: [, up] } = app.scene.header, { width, height, fx } = app.screen();
  const [x, y] = scaled(movement, how === "shift" ? -1 / fx : TURN / Math.min(width, height));
  if (how === "shift") app.setView(shift(app.view, [x, y, 0]));
  else if (how === "look") app.setView(look(app.view, x / 2, -y / 2, up));
  else app.setView(orbit(app.view, -x, y, up));
}

function pointers(app, canvas) {
  const held = new Map(); // of every finger or button, where it is
  let moved = 0, corner = null; // of the box that is drawn with Ctrl
  const middle = () => scaled([...held.values()].reduce(add), 1 / held.size);
  const spread = ([a, b] = held.values()) => Math.hypot(...subtract(a, b));
  const placeOf = (event) => [event.offsetX, event.offsetY];
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!held.size) moved = 0;
    corner = (event.ctrlKey || event.metaKey) && !event.button ? placeOf(event) : null;
    held.set(event.pointerId, placeOf(event));
    app.focus();
  };
  canvas.onpointermove = (event) => {
    const before = held.get(event.pointerId), place = placeOf(event);
    if (!before) return app.hoverAt(place);
    const start = middle(), several = held.size > 1, wide = several && spread();
    held.set(event.pointerId, place);
    moved += Math.hypot(...subtract(place, before));
    if (moved < CLICK) return;
    if (corner) return app.overlay.box(corner, place);
    const shifting = several || event.shiftKey || event.buttons & 6;
    drag(app, subtract(middle(), start), shifting ? "shift" : event.altKey ? "look" : "orbit");
    if (several && spread() > 0) app.zoom(wide / spread());
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    const clicked = held.delete(event.pointerId) && moved < CLICK && event.type === "pointerup" && event.button === 0;
    if (corner && moved >= CLICK) app.overlay.choose(corner, placeOf(event), event.shiftKey);
    corner = null;
    app.overlay.box();
    if (clicked) app.clickAt(placeOf(event), event.shiftKey);
  };
  canvas.onpointerleave = () => app.hover(null);
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.onwheel = (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 * event.deltaY : event.deltaY;
    app.zoom(Math.exp(Math.min(Math.max(lines, -200), 200) / 500));
  };
}

function keyboard(app) {
  const down = new Set();
  let last = 0;
  const fly = (now) => {
    const { focus_depth: depth, frame: [, up] } = app.scene.header, step = Math.min((now - last) / 1000, 0.1);
    last = now;
    for (const key of down) { // flying is as fast near the focus as far from it
      if (FLYING[key]) app.setView(shift(app.view, scaled(FLYING[key], (step * depth) / app.view.distance)));
      else app.setView(orbit(app.view, ...scaled(ARROWS[key], step), up));
    }
    if (down.size) requestAnimationFrame(fly);
  };
  const nameOf = ({ key }) => (key.length === 1 ? key.toLowerCase() : key);
  addEventListener("keydown", (event) => {
    const { target, altKey, ctrlKey, metaKey, shiftKey } = event, key = nameOf(event);
    if (altKey || target.closest("input:not([type=checkbox], [type=range]), select")) return;
    if (ctrlKey || metaKey) {
      if (!app.command(`Ctrl-${shiftKey ? "Shift-" : ""}${key}`)) return;
    } else if (FLYING[key] || (ARROWS[key] && !target.closest("#panel, input"))) {
      if (!down.size) (last = performance.now()), requestAnimationFrame(fly);
      down.add(key);
    } else if (!app.command(key)) return;
    event.preventDefault();
  });
  addEventListener("keyup", (event) => down.delete(nameOf(event)));
  addEventListener("blur", () => down.clear());
}
