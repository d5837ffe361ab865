// What lies over the picture: handles of the selected group, cameras, a box, a measured line. Pixels are the screen's.
import { byId, copyOf, say } from "./dom.js";
import { AMOUNTS, dragged, handles, project, unproject } from "./gizmo.js";
import { add, along, subtract } from "./maths.js";
import { inBox } from "./objects.js";

const SHORTEST = 14, SMALLEST = 20; // pixels of an arrow, square pixels of a plane: smaller ones are not shown

export class Overlay {
  constructor(app) {
    this.app = app;
    this.measured = []; // points of the world, relative to the scene's origin
    for (const handle of byId("gizmo").children) this.listen(handle);
  }

  update() {
    const { app } = this, { selected, editor, scene: { header } } = app, screen = app.screen();
    const active = selected !== null && !app.measuring;
    const lines = active && handles(screen, editor.centre(selected), header.frame);
    for (const handle of byId("gizmo").children) {
      const { classList, dataset } = handle, line = lines && lines[dataset.handle];
      const hidden = !lines || (classList.contains("plane") && area(line) < SMALLEST);
      draw(handle, hidden ? "" : classList.contains("arrow") ? arrowPath(line) : linePath(line));
    }
    const points = this.measured.map((point) => project(screen, point)).filter(Boolean);
    byId("ruler").setAttribute("d", linePath(points));
    byId("ends").setAttribute("d", points.map((point) => linePath([point, point])).join(""));
    if (app.framed) this.drawCameras(screen, header.cameras);
  }

  /** Drag a handle: the picture follows, and on release it becomes one step of the edits. */
  listen(handle) {
    const { app } = this, { editor } = app;
    const pixel = ({ clientX, clientY }) => {
      const { left, top } = app.canvas.getBoundingClientRect();
      return [clientX - left, clientY - top];
    };
    handle.onpointerdown = (event) => {
      if (event.button) return;
      handle.setPointerCapture(event.pointerId);
      app.focus();
      const { frame, snap } = app.scene.header, k = Number(handle.dataset.handle);
      const drag = [app.screen(), editor.centre(app.selected), frame, k, pixel(event)];
      this.amounts = {};
      handle.onpointermove = (moved) => {
        const steps = moved.ctrlKey || moved.shiftKey || moved.metaKey ? snap : 0;
        const amounts = this.amounts && dragged(...drag, pixel(moved), steps);
        if (!amounts) return;
        this.amounts = amounts;
        editor.preview(editor.step(amounts));
        say("amount", this.amountText(amounts));
      };
    };
    handle.onlostpointercapture = () => {
      const { amounts } = this;
      handle.onpointermove = this.amounts = null;
      say("amount", "");
      if (amounts) editor.edit(editor.step(amounts));
    };
    handle.onpointercancel = () => this.cancel();
  }

  /** Give up what is being dragged. */
  cancel() {
    this.amounts = null;
    this.app.editor.preview();
    say("amount", "");
  }

  /** Show the box between two corners; none without them. */
  box(a, b) {
    byId("box").setAttribute("d", a ? `M${a}H${b[0]}V${b[1]}H${a[0]}Z` : "");
  }

  /** Select the groups whose centres are in the box; with `more`, beside those that are selected. */
  choose(a, b, more) {
    const { app } = this, free = [...app.groups.keys()].filter((id) => !app.hidden.has(id) && !app.locked.has(id));
    const screen = app.screen(), inside = (id) => inBox(project(screen, app.editor.centre(id)) ?? [], a, b);
    app.choose([...(more ? app.selection : []), ...free.filter(inside)]);
  }

  /** Add what shows at a point as an end of the line that is measured; without a point, begin anew. */
  measure(place) {
    const { app } = this;
    if (place) {
      const { alpha, depth } = app.pickAt(place);
      if (alpha < 0.5) return;
      this.measured = [...(this.measured.length === 1 ? this.measured : []), unproject(app.screen(), place, depth)];
    } else this.measured = [];
    const [a, b] = this.measured;
    this.distance = b && Math.hypot(...subtract(b, a));
    byId("length").hidden = !b;
    this.tellDistance();
    this.update();
  }

  tellDistance() {
    const { distance, measured: [a], app: { editor, measuring } } = this;
    const hint = measuring ? `Click ${a ? "the other point" : "two points"}` : "";
    say("amount", distance ? `Distance ${+(distance * editor.state.unit).toPrecision(4)}` : hint);
  }

  /** Pyramids where the photos were taken, with the photos in them; a click shows what a photo saw. */
  drawCameras(screen, cameras) {
    if (this.framed !== cameras) byId("cameras").replaceChildren(...cameras.map(this.pyramid, this));
    this.framed = cameras;
    [...byId("cameras").children].forEach((camera, k) => {
      const places = cameras[k].pyramid.map((point) => project(screen, point)), [tip, a, b, c, d] = places;
      if (camera.toggleAttribute("hidden", !places.every(Boolean))) return; // some of it is behind the eye
      const map = [subtract(b, a), subtract(d, a), a].map(([x, y]) => [x, y]);
      draw(camera, linePath([a, b, c, d, a, tip, b, c, tip, d]));
      camera.querySelector("image").setAttribute("transform", `matrix(${map})`);
    });
  }

  pyramid({ photo }, k) {
    const camera = copyOf("pyramid").firstElementChild;
    camera.querySelector("title").textContent = `photo ${k + 1}`;
    if (photo) camera.querySelector("image").setAttribute("href", photo);
    camera.onclick = () => this.app.showPhoto(k);
    return camera;
  }

  amountText(amounts) {
    const { state: { unit }, base: { header } } = this.app.editor;
    const written = ([name, value]) => {
      const length = AMOUNTS.indexOf(name) < 3;
      return `${name} ${+(length ? value * unit : value).toFixed(length ? header.digits - 1 : 2) || 0}`;
    };
    return Object.entries(amounts).map(written).join(", ");
  }
}

const draw = (parent, line) => parent.querySelectorAll("path").forEach((path) => path.setAttribute("d", line));
const linePath = (points) =>
  points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function arrowPath([from, tip]) {
  const [x, y] = subtract(tip, from), length = Math.hypot(x, y), [u, v] = [x / length, y / length];
  if (length < SHORTEST) return "";
  const barb = (side) => add(tip, [-9 * u - side * v, -9 * v + side * u]);
  return linePath([along(from, [u, v], 8), tip]) + linePath([barb(5), tip, barb(-5)]);
}

/** Area of a parallelogram given by its corners, one after the other. */
const area = ([[x, y], [bx, by], , [dx, dy]]) => Math.abs((bx - x) * (dy - y) - (by - y) * (dx - x));
