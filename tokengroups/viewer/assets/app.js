// The page: a scene, the view of it, and what is hidden, hovered and selected. Everything is drawn on demand.
import { commandsOf } from "./commands.js";
import { listen } from "./controls.js";
import { Editor } from "./editor.js";
import { dot } from "./maths.js";
import { byId, say } from "./dom.js";
import { Overlay } from "./overlay.js";
import { groupName } from "./objects.js";
import { Panel } from "./panel.js";
import { groupIndices, sortedPositions } from "./packed.js";
import { Picker, groupViews } from "./pick.js";
import { Renderer } from "./renderer.js";
import { Sorter } from "./sort.js";
import { cameraFor, contextView, focusOn } from "./view.js";

const MOST_PIXELS = 2 ** 22; // of the canvas; larger windows are drawn coarser
const SLOW_SORT_MS = 30; // the picture does not wait for slower ones
const SLOW_FRAME_MS = 60, STILL_MS = 200; // slower frames are drawn coarser until nothing has moved for a while
const HOVER_TINT = [1, 1, 1, 0.25], SELECTED_TINT = [0.25, 0.55, 1, 0.45];
const markTint = (mark) => [...mark.map((value) => value / 255), 0.85];

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
    this.gone = new Uint8Array(count); // removed by an edit
    this.locked = new Uint8Array(count); // cannot be picked
    this.coloured = this.measuring = false;
    this.selection = new Set();
    this.hovered = this.photo = -1;
    this.changes = 0; // of what the order depends on
    this.asked = this.shown = -1; // changes for which an order was asked for, and is drawn
    this.frameMs = 0;
    this.waiting = [];
    this.sorter = new Sorter(sortedPositions(scene), groupIndices(scene), (...order) => this.sorted(...order));
    this.panel = new Panel(this, byId("groups"));
    this.editor = new Editor(this);
    this.overlay = new Overlay(this);
    this.commands = commandsOf(this);
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

  /** Hide a group or several, or show them. */
  setHidden(indices, hidden) {
    for (const index of [indices].flat()) this.hidden[index] = hidden ? 1 : 0;
    this.panel.update();
    this.change();
  }

  /** Move a group by a 3x4 matrix of the scene's world (12 numbers): x -> A x + t. */
  setMatrix(index, matrix) {
    this.setMatrices([[index, matrix]]);
  }

  setMatrices(pairs) {
    const { origin } = this.scene.header;
    for (const [index, matrix] of pairs) {
      const rows = Array.from(matrix);
      for (let i = 0; i < 3; i++) rows[4 * i + 3] += dot(rows.slice(4 * i, 4 * i + 3), origin) - origin[i];
      this.matrices.set(rows, 12 * index);
    }
    this.tinted = false;
    this.change();
  }

  /** Take groups out of the picture and the list: 1 = gone. */
  setGone(gone) {
    this.gone = gone;
    this.choose([...this.selection].filter((index) => !gone[index]));
    this.change();
  }

  hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    this.paint();
  }

  /** Index of the group that was selected last; -1 = none. */
  get selected() {
    return [...this.selection].at(-1) ?? -1;
  }

  /** Select a group (-1 = none); with `more`, add it to those that are selected, or take it away from them. */
  select(index, more = false) {
    if (!more) return this.choose(index < 0 ? [] : [index]);
    const others = [...this.selection].filter((each) => each !== index);
    this.choose(others.length < this.selection.size || index < 0 ? others : [...others, index]);
  }

  choose(indices) {
    this.selection = new Set(indices);
    this.paint();
    this.panel.reveal(this.selected);
    this.editor?.show();
    this.overlay?.update(); // at once: handles of another group must not be touched
    const group = this.scene.header.groups[this.selected], others = this.selection.size - 1;
    byId("selection").textContent = group ? groupName(group) + (others ? ` and ${others} more` : "") : "";
  }

  focusGroup(index) {
    const { groups } = this.scene.header;
    if (groups[index]) this.setView(focusOn(this.view, this.editor.centre(index)));
  }

  /** Show in colours what is hovered and selected. */
  paint() {
    this.tints.fill(0);
    if (this.coloured) this.scene.header.groups.forEach(({ mark }, g) => this.tints.set(markTint(mark), 4 * g));
    for (const index of this.selection) this.tints.set(SELECTED_TINT, 4 * index);
    if (this.hovered >= 0 && !this.selection.has(this.hovered)) this.tints.set(HOVER_TINT, 4 * this.hovered);
    this.tinted = false;
    this.panel.update();
    this.invalidate();
  }

  /** Do what a key or a button asks for; false if there is no such command. */
  command(key) {
    this.commands[key]?.();
    return key in this.commands;
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
    const group = this.order && this.shown === this.changes ? this.pick(x * pixels, y * pixels).group : -1;
    return this.locked[group] ? -1 : group;
  }

  hoverAt(x, y) {
    const late = !this.pointer;
    this.pointer = [x, y];
    if (late) setTimeout(() => (this.hover(this.pickCss(...this.pointer)), (this.pointer = null)), 30);
  }

  clickAt(x, y, more) {
    if (this.measuring) this.overlay.measure(x, y);
    else this.select(this.pickCss(x, y), more);
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
    const absent = (g) => this.hidden[g] || this.gone[g];
    this.hidden.forEach((_, g) => rows.set(absent(g) ? [NaN] : views.subarray(12 * g + 8, 12 * g + 12), 4 * g));
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
    this.overlay.update();
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
