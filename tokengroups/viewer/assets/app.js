// The page: a scene, the view of it, and what is hidden, hovered and selected. Everything is drawn on demand.
import { listen } from "./controls.js";
import { dot } from "./maths.js";
import { Panel, groupName } from "./panel.js";
import { groupIndices, sortedPositions } from "./packed.js";
import { Picker, groupViews } from "./pick.js";
import { Renderer } from "./renderer.js";
import { Sorter } from "./sort.js";
import { cameraFor, contextView, focusOn } from "./view.js";

const MOST_PIXELS = 2 ** 22; // of the canvas; larger windows are drawn coarser
const SLOW_SORT_MS = 30; // the picture does not wait for slower ones
const SLOW_FRAME_MS = 60, STILL_MS = 200; // slower frames are drawn coarser until nothing has moved for a while
const HOVER_TINT = [1, 1, 1, 0.25], SELECTED_TINT = [0.25, 0.55, 1, 0.45];

export const byId = (id) => document.getElementById(id);

/** Show a message over the picture; "" takes it away. */
export function say(text) {
  byId("message").textContent = text;
}

export class App {
  constructor(scene) {
    this.scene = scene;
    this.canvas = byId("canvas");
    this.renderer = new Renderer(this.canvas, scene);
    const count = scene.header.groups.length;
    this.matrices = new Float32Array(12 * count);
    for (let g = 0; g < count; g++) for (const k of [0, 5, 10]) this.matrices[12 * g + k] = 1;
    this.tints = new Float32Array(4 * count);
    this.hidden = new Uint8Array(count);
    this.hovered = this.selected = this.photo = -1;
    this.changes = 0; // of what the order depends on
    this.asked = this.shown = -1; // changes for which an order was asked for, and is drawn
    this.frameMs = 0;
    this.waiting = [];
    this.sorter = new Sorter(sortedPositions(scene), groupIndices(scene), (...order) => this.sorted(...order));
    this.panel = new Panel(this, byId("groups"));
    this.showPhoto(0);
    this.watch();
  }

  watch() {
    const { canvas } = this;
    new ResizeObserver(() => this.resize()).observe(canvas);
    const theme = () => {
      const [red, green, blue] = getComputedStyle(canvas).backgroundColor.match(/[\d.]+/g);
      this.setBackground([red / 255, green / 255, blue / 255]);
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
    theme();
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      say("The graphics card was reset; the picture comes back by itself.");
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.renderer.setUp();
      if (this.order) this.renderer.setOrder(this.order, this.count);
      this.tinted = false;
      say("");
      this.invalidate();
    });
    this.resize();
    listen(this, canvas);
  }

  /** Follow the window, unless `setSize` was called. */
  resize() {
    if (this.fixed) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / Math.max(width * height, 1)));
    this.setSize(Math.max(Math.round(width * ratio), 1), Math.max(Math.round(height * ratio), 1), false);
  }

  /** Set the picture's size in pixels; it no longer follows the window. */
  setSize(width, height, fixed = true) {
    this.fixed = fixed;
    if (width === this.canvas.width && height === this.canvas.height) return;
    Object.assign(this.canvas, { width, height });
    this.change();
  }

  camera() {
    return cameraFor(this.view, this.canvas.width, this.canvas.height);
  }

  setView(view) {
    this.view = view;
    this.change();
  }

  setBackground(rgb) {
    this.renderer.background = rgb;
    this.invalidate();
  }

  /** See the scene as a photo did. */
  showPhoto(index) {
    const count = this.scene.header.cameras.length;
    this.photo = (index + count) % count;
    this.setView(contextView(this.scene.header, this.photo));
    byId("photo").textContent = `Photo ${this.photo + 1} of ${count}`;
  }

  setHidden(index, hidden) {
    this.hidden[index] = hidden ? 1 : 0;
    this.panel.update();
    this.change();
  }

  /** Move a group by a 3x4 matrix of the scene's world (12 numbers): x -> A x + t. */
  setMatrix(index, matrix) {
    const { origin } = this.scene.header, rows = Array.from(matrix);
    for (let i = 0; i < 3; i++) rows[4 * i + 3] += dot(rows.slice(4 * i, 4 * i + 3), origin) - origin[i];
    this.matrices.set(rows, 12 * index);
    this.tinted = false;
    this.change();
  }

  hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    this.paint();
  }

  select(index) {
    if (index === this.selected) return;
    this.selected = index;
    this.paint();
    this.panel.reveal(index);
    const group = this.scene.header.groups[index];
    byId("selection").textContent = group ? groupName(group) : "";
  }

  focusGroup(index) {
    const { groups, origin } = this.scene.header;
    if (groups[index]) this.setView(focusOn(this.view, groups[index].centre.map((value, k) => value - origin[k])));
  }

  /** Show in colours what is hovered and selected. */
  paint() {
    this.tints.fill(0);
    if (this.selected >= 0) this.tints.set(SELECTED_TINT, 4 * this.selected);
    if (this.hovered >= 0 && this.hovered !== this.selected) this.tints.set(HOVER_TINT, 4 * this.hovered);
    this.tinted = false;
    this.panel.update();
    this.invalidate();
  }

  /** Keys that are no movement; false if there is no such command. */
  command(key) {
    const commands = {
      "[": () => this.showPhoto(this.photo - 1),
      "]": () => this.showPhoto(this.photo + 1),
      Home: () => this.showPhoto(0),
      h: () => this.selected >= 0 && this.setHidden(this.selected, !this.hidden[this.selected]),
      u: () => this.hidden.forEach((hidden, index) => hidden && this.setHidden(index, false)),
      f: () => this.focusGroup(this.selected),
      Escape: () => this.select(-1),
      g: () => document.body.classList.toggle("alone"),
      "?": () => byId("help").toggleAttribute("open"),
    };
    commands[key]?.();
    return key in commands;
  }

  // --- picking ---

  /** What shows at a point of the picture, in pixels from its upper left corner: alpha, depth, group (-1 = none). */
  pick(x, y) {
    if (this.pickedFrom !== this.shown) {
      this.picker = new Picker(this.scene, this.matrices, this.camera(), this.order, this.count);
      this.pickedFrom = this.shown;
    }
    return this.picker.at(x, y);
  }

  pickCss(x, y) {
    const pixels = this.canvas.width / this.canvas.clientWidth;
    return this.order && this.shown === this.changes ? this.pick(x * pixels, y * pixels).group : -1;
  }

  hoverAt(x, y) {
    const late = !this.pointer;
    this.pointer = [x, y];
    if (late) setTimeout(() => (this.hover(this.pickCss(...this.pointer)), (this.pointer = null)), 30);
  }

  clickAt(x, y) {
    this.select(this.pickCss(x, y));
  }

  // --- drawing ---

  /** Say that the view, a matrix or what is hidden has changed. */
  change() {
    this.changes++;
    this.movedAt = performance.now();
    this.invalidate();
  }

  invalidate() {
    this.frame ??= requestAnimationFrame(() => this.update());
  }

  update() {
    this.frame = null;
    if (this.asked === this.changes) return this.draw();
    this.asked = this.changes;
    this.began = performance.now();
    this.sorter.sort(this.depthRows(), this.changes);
    if (this.sortMs > SLOW_SORT_MS) this.draw();
  }

  /** Third row of camera-from-group for every group, as the sorter takes them: depth of a position; NaN = hidden. */
  depthRows() {
    const views = groupViews(this.camera(), this.matrices), rows = new Float32Array(4 * this.hidden.length);
    this.hidden.forEach((hidden, g) => rows.set(hidden ? [NaN] : views.subarray(12 * g + 8, 12 * g + 12), 4 * g));
    return rows;
  }

  sorted(order, count, job) {
    this.sortMs = performance.now() - this.began;
    Object.assign(this, { order, count, shown: job });
    this.renderer.setOrder(order, count);
    this.draw();
  }

  draw() {
    if (!this.tinted) this.renderer.setGroups(this.matrices, this.tints);
    this.tinted = true;
    const coarse = this.frameMs > SLOW_FRAME_MS && performance.now() - this.movedAt < STILL_MS;
    clearTimeout(this.refining);
    if (coarse) this.refining = setTimeout(() => this.invalidate(), STILL_MS);
    this.renderer.draw(this.camera(), coarse ? 0.5 : 1);
    if (!coarse) this.renderer.finished((ms) => (this.frameMs = ms));
    if (this.shown === this.changes) for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** Wait until the picture shows the present state. */
  async settled() {
    this.movedAt = 0;
    this.invalidate();
    await new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Draw, and return the picture's bytes: rows from the top, red green blue alpha. */
  async pixels() {
    await this.settled();
    this.draw();
    return this.renderer.pixels();
  }
}
