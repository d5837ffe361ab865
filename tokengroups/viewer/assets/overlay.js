// What lies over the picture: handles of the selected group, cameras, a box, a measured line. Pixels are the screen's.
import { byId, svg } from "./dom.js";
import { dragged, frustumPoints, handles, project, unproject } from "./gizmo.js";
import { subtract } from "./maths.js";
import { inBox } from "./objects.js";

const SHORTEST = 14, SMALLEST = 20; // pixels of an arrow, square pixels of a plane: smaller ones are not shown
const FRUSTUM = 0.15; // length of a camera's pyramid, of the distance to what the first photo shows

export class Overlay {
  constructor(app) {
    this.app = app;
    this.measured = []; // points of the world, relative to the scene's origin
    this.handles = [3, 4, 5, 6, 7, 8, 0, 1, 2, 9].map((k) => {
      const kind = ["arrow", "plane", "ring", "scaler"][Math.floor(k / 3)], hit = svg("path", { class: "hit" });
      const handle = svg("g", { class: `${"xyz"[k % 3]} ${kind}`, "data-handle": k }, hit, svg("path"));
      this.listen(handle, k);
      return [k, handle];
    });
    byId("gizmo").append(...this.handles.map(([, handle]) => handle));
  }

  /** Pixels of the picture in one of the screen. */
  get ratio() {
    return this.app.canvas.width / this.app.canvas.clientWidth;
  }

  /** Where points of the world show; null where one is behind the camera. */
  places(points) {
    const camera = this.app.camera(), pixels = points.map((point) => project(camera, point));
    return pixels.every(Boolean) ? pixels.map(([x, y]) => [x / this.ratio, y / this.ratio]) : null;
  }

  update() {
    const { app, ratio } = this, { editor, selected } = app, active = selected !== null && !app.measuring;
    const lines = active && handles(app.camera(), editor.centre(selected), app.scene.header.frame, ratio);
    this.drawMeasured();
    this.drawCameras();
    byId("gizmo").toggleAttribute("hidden", !lines);
    if (!lines) return;
    for (const [k, handle] of this.handles) {
      const points = lines[k].map(([x, y]) => [x / ratio, y / ratio]);
      draw(handle, k < 3 ? arrowPath(...points) : k < 6 && area(points) < SMALLEST ? "" : linePath(points));
    }
  }

  /** Drag a handle: the picture follows, and on release it becomes one step of the edits. */
  listen(handle, k) {
    const { app } = this, { editor } = app;
    handle.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      handle.setPointerCapture(event.pointerId);
      app.canvas.focus({ preventScroll: true });
      const pixel = ({ clientX, clientY }) => {
        const { left, top } = app.canvas.getBoundingClientRect();
        return [(clientX - left) * this.ratio, (clientY - top) * this.ratio];
      };
      const { frame, snap } = app.scene.header, camera = app.camera(), from = pixel(event);
      const centre = editor.centre(app.selected);
      this.amounts = {};
      handle.onpointermove = (moved) => {
        const steps = moved.ctrlKey || moved.shiftKey || moved.metaKey ? snap : 0;
        const found = dragged(camera, centre, frame, k, from, pixel(moved), steps);
        if (!found || !this.amounts) return;
        this.amounts = found;
        editor.preview(editor.step(found));
        this.tell(this.amountText(found));
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
    const { app } = this, free = [...app.groups.keys()].filter((id) => !app.hidden.has(id) && !app.locked.has(id));
    const inside = (id) => this.places([app.editor.centre(id)])?.every((place) => inBox(place, a, b));
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
    this.distance = b && Math.hypot(...subtract(b, a));
    byId("length").hidden = !b;
    this.tell(b ? `Distance ${+(this.distance * app.editor.state.unit).toPrecision(4)}` : hint);
    this.update();
  }

  drawMeasured() {
    const points = this.measured.flatMap((point) => this.places([point]) ?? []);
    byId("ruler").setAttribute("d", points.length ? linePath([...points, points.at(-1)]) : "");
    byId("ends").setAttribute("d", points.map((point) => linePath([point, point])).join(""));
  }

  /** Pyramids where the photos were taken, with the photos in them; a click shows what a photo saw. */
  drawCameras() {
    const { app } = this, { header } = app.scene;
    byId("cameras").toggleAttribute("hidden", !app.framed);
    if (!app.framed) return;
    this.cameras ??= header.cameras.map(({ photo }, k) => {
      const picture = photo ? [svg("image", { href: photo, width: 1, height: 1, preserveAspectRatio: "none" })] : [];
      const parts = [svg("title", {}, `photo ${k + 1}`), svg("path", { class: "hit" }), ...picture, svg("path")];
      const camera = svg("g", {}, ...parts);
      camera.addEventListener("click", () => app.showPhoto(k));
      byId("cameras").append(camera);
      return camera;
    });
    this.cameras.forEach((camera, k) => {
      const places = this.places(frustumPoints(header.cameras[k].view, FRUSTUM * header.focus_depth));
      camera.toggleAttribute("hidden", !places);
      if (!places) return;
      const [tip, a, b, c, d] = places, sides = [b[0] - a[0], b[1] - a[1], d[0] - a[0], d[1] - a[1], ...a];
      draw(camera, linePath([tip, a, b, c, d, a]) + linePath([b, tip, c]) + linePath([d, tip]));
      camera.querySelector("image")?.setAttribute("transform", `matrix(${sides.map((value) => value.toFixed(2))})`);
    });
  }

  amountText(amounts) {
    const { state: { unit }, base: { header } } = this.app.editor;
    const written = ([name, value]) => {
      if (name === "scale") return `scale ${value.toFixed(2)}`;
      if (name.startsWith("turn")) return `${name} ${value.toFixed(1)}\u00b0`;
      return `${name} ${+(value * unit).toFixed(header.digits - 1) || 0}`;
    };
    return Object.entries(amounts).map(written).join(", ");
  }

  tell(text) {
    byId("amount").textContent = text;
  }
}

const draw = (parent, line) => parent.querySelectorAll("path").forEach((path) => path.setAttribute("d", line));
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
