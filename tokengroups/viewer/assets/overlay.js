// What lies over the picture: handles of the selected group, a box, a measured line. Pixels are the screen's (CSS).
import { byId } from "./dom.js";
import { dragged, handles, project, unproject } from "./gizmo.js";
import { add, scaled } from "./maths.js";
import { inBox } from "./objects.js";

const NAMES = { 0: "right", 1: "up", 2: "forward", turn: "turn" };
const SHORTEST = 14, SMALLEST = 20; // pixels of an arrow, square pixels of a plane: smaller ones are not shown

export class Overlay {
  constructor(app) {
    this.app = app;
    this.measured = []; // points of the world, relative to the scene's origin
    for (const handle of byId("gizmo").children) this.listen(handle, handle.dataset.handle);
  }

  /** Pixels of the picture in one of the screen. */
  get ratio() {
    return this.app.canvas.width / this.app.canvas.clientWidth;
  }

  update() {
    const { app, ratio } = this, { editor, selected } = app;
    this.drawMeasured();
    const active = selected >= 0 && !app.measuring;
    const lines = active && handles(app.camera(), editor.centre(selected), editor.frame, ratio);
    byId("gizmo").toggleAttribute("hidden", !lines);
    if (!lines) return;
    for (const handle of byId("gizmo").children) {
      const name = handle.dataset.handle, points = lines[name].map(([x, y]) => [x / ratio, y / ratio]);
      const path = name < 3 ? arrowPath(...points) : name < 6 && area(points) < SMALLEST ? "" : linePath(points);
      for (const child of handle.children) child.setAttribute("d", path);
    }
  }

  /** Drag a handle: the picture follows, and on release it becomes one step of the edits. */
  listen(handle, name) {
    const { app } = this, { editor } = app;
    handle.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      handle.setPointerCapture(event.pointerId);
      app.canvas.focus({ preventScroll: true });
      const pixel = ({ clientX, clientY }) => {
        const { left, top } = app.canvas.getBoundingClientRect();
        return [(clientX - left) * this.ratio, (clientY - top) * this.ratio];
      };
      const camera = app.camera(), centre = editor.centre(app.selected), from = pixel(event);
      this.amounts = {};
      handle.onpointermove = (moved) => {
        const snap = moved.ctrlKey || moved.shiftKey || moved.metaKey ? editor.snap : 0;
        const found = dragged(camera, centre, editor.frame, name, from, pixel(moved), snap);
        if (!found || !this.amounts) return;
        this.amounts = found;
        editor.preview(editor.step(found));
        this.tell(amountText(found, editor.digits));
      };
      handle.onlostpointercapture = () => {
        const { amounts } = this;
        handle.onpointermove = handle.onlostpointercapture = this.amounts = null;
        this.tell("");
        if (amounts) editor.edit(editor.step(amounts));
      };
    });
    handle.addEventListener("pointercancel", () => this.cancel());
  }

  /** Give up what is being dragged; false if nothing is. */
  cancel() {
    if (!this.amounts) return false;
    this.amounts = null;
    this.app.editor.preview([]);
    this.tell("");
    return true;
  }

  /** Show the box between two corners; none without them. */
  box(a, b) {
    const line = a ? linePath([a, [b[0], a[1]], b, [a[0], b[1]]]) + "Z" : "";
    byId("box").setAttribute("d", line);
  }

  /** Select the groups whose centres are in the box; with `more`, beside those that are selected. */
  choose(a, b, more) {
    const { app, ratio } = this, camera = app.camera();
    const inside = (index) => {
      const pixel = project(camera, app.editor.centre(index));
      return pixel && inBox([pixel[0] / ratio, pixel[1] / ratio], a, b);
    };
    const free = [...app.hidden.keys()].filter((g) => !app.hidden[g] && !app.gone[g] && !app.locked[g]);
    app.choose([...(more ? app.selection : []), ...free.filter(inside)]);
  }

  /** Add what shows at a point as an end of the line that is measured; without a point, begin anew. */
  measure(x, y) {
    const { app, ratio } = this, pixel = [x * ratio, y * ratio];
    if (x === undefined) this.measured = [];
    else {
      const { alpha, depth } = app.pick(...pixel);
      if (alpha < 0.5) return;
      this.measured = [...(this.measured.length === 1 ? this.measured : []), unproject(app.camera(), pixel, depth)];
    }
    const [a, b] = this.measured, hint = app.measuring ? `Click ${a ? "the other point" : "two points"}` : "";
    this.tell(b ? `Distance ${+Math.hypot(...add(b, scaled(a, -1))).toPrecision(4)}` : hint);
    this.update();
  }

  drawMeasured() {
    const camera = this.app.camera(), pixels = this.measured.map((point) => project(camera, point)).filter(Boolean);
    const points = pixels.map(([x, y]) => [x / this.ratio, y / this.ratio]);
    byId("ruler").setAttribute("d", points.length ? linePath([...points, points.at(-1)]) : "");
    byId("ends").setAttribute("d", points.map((point) => linePath([point, point])).join(""));
  }

  tell(text) {
    byId("amount").textContent = text;
  }
}

function amountText(amounts, digits) {
  const written = ([name, value]) => `${NAMES[name]} ${+value.toFixed(name === "turn" ? 1 : digits - 1) || 0}`;
  return Object.entries(amounts).map(written).join(", ") + ("turn" in amounts ? "\u00b0" : "");
}

const linePath = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

function arrowPath([x, y], [tipX, tipY]) {
  const length = Math.hypot(tipX - x, tipY - y), u = (tipX - x) / length, v = (tipY - y) / length;
  if (length < SHORTEST) return "";
  const barb = (side) => [tipX - 9 * u - side * v, tipY - 9 * v + side * u];
  return linePath([[x + 8 * u, y + 8 * v], [tipX, tipY]]) + linePath([barb(5), [tipX, tipY], barb(-5)]);
}

/** Area of a polygon whose last point is its first. */
function area(points) {
  const sum = points.slice(1).reduce((total, [x, y], k) => total + points[k][0] * y - x * points[k][1], 0);
  return Math.abs(sum) / 2;
}
