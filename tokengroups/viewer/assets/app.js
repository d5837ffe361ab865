// The page: a scene, the view of it, and what is hidden, hovered and selected (by id). Drawn on demand.
import { commandsOf } from "./commands.js";
import { listen } from "./controls.js";
import { byId, download, element, say } from "./dom.js";
import { Editor } from "./editor.js";
import { dot } from "./maths.js";
import { fits, groupName } from "./objects.js";
import { Overlay } from "./overlay.js";
import { groupIndices, sortedPositions } from "./packed.js";
import { Panel } from "./panel.js";
import { Picker, groupViews } from "./pick.js";
import { Renderer } from "./renderer.js";
import { Sorter } from "./sort.js";
import { cameraFor, contextView, focusOn, pathFile } from "./view.js";

const MOST_PIXELS = 2 ** 22; // of the canvas; larger windows are drawn coarser
const SLOW_SORT_MS = 30; // the picture does not wait for slower ones
const SLOW_FRAME_MS = 60, STILL_MS = 200; // slower frames are drawn coarser until nothing has moved for a while
const FILM_HEIGHT = 480, SURE = 0.5; // pixels; probability
const HOVER_TINT = [1, 1, 1, 0.25], SELECTED_TINT = [0.25, 0.55, 1, 0.45], FOUND_TINT = [1, 0.75, 0];

export class App {
  constructor(scene) {
    Object.assign(this, {
      canvas: byId("canvas"), view: contextView(scene.header, 0), viewpoints: [], photo: 0, waiting: [],
      groups: new Map(), columns: [], // as `applyEdits` makes them
      hidden: new Set(), locked: new Set(), selection: new Set(), hovered: null, // ids; the locked cannot be picked
      lit: new Map(), // probabilities of what a query has found
      changes: 0, asked: -1, shown: -1, // of what the order depends on; those for which one was asked for, and is drawn
      frameMs: 0,
    });
    this.renderer = new Renderer(this.canvas);
    this.panel = new Panel(this);
    this.editor = new Editor(this, scene);
    this.overlay = new Overlay(this);
    this.commands = commandsOf(this);
    this.editor.start();
    this.showPhoto(0);
    this.watch();
  }

  /** Show another packed scene, in which lengths are `grown`; the eye stays where it is in the room. */
  load(scene, grown) {
    const { origin } = scene.header, before = this.scene?.header.origin ?? origin, { view } = this;
    const eye = view.eye.map((value, i) => (value + before[i]) * grown - origin[i]);
    this.view = { ...view, eye, distance: view.distance * grown };
    this.renderer.load(scene);
    this.sorter?.end();
    this.sorter = new Sorter(sortedPositions(scene), groupIndices(scene), (...order) => this.sorted(...order));
    Object.assign(this, { scene, order: null, sortMs: 0 });
  }

  /** Follow edits. */
  arrange({ groups, columns }) {
    Object.assign(this, { groups, columns, matrices: new Float32Array(12 * columns.length) });
    columns.forEach(({ linear, shift }, index) => this.setMatrix(index, linear, shift));
    this.panel.follow({ groups, columns });
    if ([...this.selection].every((id) => groups.has(id))) this.paint();
    else this.choose([...this.selection]);
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
      this.renderer.load(this.scene);
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
    byId("blend").hidden = byId("still").hidden = true;
    this.change();
  }

  setBackground(rgb) {
    this.renderer.background = rgb;
    this.invalidate();
  }

  /** See the scene as a photo did, and let the photo slide over it. */
  showPhoto(index) {
    const { header } = this.scene, count = header.cameras.length;
    this.photo = (index + count) % count;
    this.setView(contextView(header, this.photo));
    byId("photo").textContent = `Photo ${this.photo + 1} of ${count}`;
    const { photo } = header.cameras[this.photo];
    byId("blend").hidden = byId("still").hidden = !photo;
    if (photo) byId("still").src = photo;
  }

  /** Remember where one looks from. */
  keepView() {
    const view = { ...this.view }, button = element("button", { type: "button" }, `View ${this.viewpoints.push(view)}`);
    button.addEventListener("click", () => this.setView(view));
    byId("views").append(button);
    byId("viewpoints").hidden = false;
  }

  /** Save the kept views as a camera path. */
  film() {
    const { header } = this.scene, [height, width] = header.size_hw, zoom = Math.max(1, FILM_HEIGHT / height);
    const size = [width, height].map((side) => 2 * Math.round((side * zoom) / 2)); // videos have even sides
    download("path.json", pathFile(header, this.editor.state.unit, this.viewpoints, ...size));
    this.editor.note("Film it with: tokengroups render SCENE --camera path.json --video out.mp4");
  }

  /** Save what shows as a picture. */
  async picture() {
    await this.settled();
    this.draw();
    this.canvas.toBlob((blob) => download(`${this.scene.header.title}.png`, blob));
  }

  /** Hide groups, or show them. */
  setHidden(ids, hidden) {
    for (const id of ids) this.hidden[hidden ? "add" : "delete"](id);
    this.panel.update();
    this.change();
  }

  /** Move a column, x -> linear x + shift in the scene's world. */
  setMatrix(index, linear, shift) {
    const { origin } = this.scene.header;
    for (let i = 0; i < 3; i++) {
      const row = linear.slice(3 * i, 3 * i + 3);
      this.matrices.set([...row, dot(row, origin) + shift[i] - origin[i]], 12 * index + 4 * i);
    }
    this.tinted = false;
    this.change();
  }

  hover(id) {
    if (id === this.hovered) return;
    this.hovered = id;
    this.paint();
  }

  /** The group that was selected last, or null. */
  get selected() {
    return [...this.selection].at(-1) ?? null;
  }

  /** Select a group or none (null); with `more`, add it to those that are selected, or take it away from them. */
  select(id, more = false) {
    if (!more) return this.choose(id === null ? [] : [id]);
    const others = [...this.selection].filter((each) => each !== id);
    this.choose(others.length < this.selection.size || id === null ? others : [...others, id]);
  }

  choose(ids) {
    this.selection = new Set(ids.filter((id) => this.groups.has(id)));
    this.paint();
    this.panel.reveal(this.selected);
    byId("amounts").disabled = !this.selection.size;
    this.overlay?.update(); // at once: handles of another group must not be touched
    const group = this.groups.get(this.selected), others = this.selection.size - 1;
    byId("selection").textContent = group ? groupName(group) + (others ? ` and ${others} more` : "") : "";
  }

  focusGroup(id) {
    if (this.groups.has(id)) this.setView(focusOn(this.view, this.editor.centre(id)));
  }

  /** Light up what a query has found, given as { id, probability }; select those that are sure, or the best. */
  light(matches) {
    const found = matches.filter(({ id }) => this.groups.has(id)).map(({ id, probability }) => [id, probability]);
    this.lit = new Map(found);
    const least = Math.max(Math.min(SURE, ...[Math.max(...this.lit.values())]), 1e-6);
    this.panel.arrange();
    if (found.length) this.choose([...this.lit.keys()].filter((id) => this.lit.get(id) >= least));
    else this.paint();
  }

  /** Find groups by text: the server knows what it means, the page only names. */
  async query(text) {
    const { link } = this.editor, named = [...this.groups.values()].filter((group) => fits(group, text));
    const offline = { matches: named.map(({ id }) => ({ id, probability: 1 })) };
    const { error = "", matches = [] } = link && !link.lost ? await link.ask("query", { text }) : offline;
    this.light(matches);
    this.editor.note(error);
  }

  /** Show in colours what is found, hovered and selected. */
  paint() {
    const { columns, groups, hovered, lit, selection } = this;
    this.tints = new Float32Array(4 * columns.length);
    columns.forEach(({ owner }, index) => {
      const marked = selection.has(owner) && !lit.size, { mark } = groups.get(owner) ?? {};
      const tint = owner === hovered ? HOVER_TINT : marked ? SELECTED_TINT
        : lit.has(owner) ? [...FOUND_TINT, 0.7 * lit.get(owner)]
        : this.coloured && mark ? [...mark.map((value) => value / 255), 0.85] : [0, 0, 0, 0];
      this.tints.set(tint, 4 * index);
    });
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

  /** What shows at a point of the picture, in pixels from its upper left corner: alpha, depth, group (null = none). */
  pick(x, y) {
    if (this.pickedFrom !== this.shown) {
      this.picker = new Picker(this.scene, this.matrices, this.camera(), this.order, this.count);
      this.pickedFrom = this.shown;
    }
    const { group, ...found } = this.picker.at(x, y);
    return { ...found, group: this.columns[group]?.owner ?? null };
  }

  pickCss(x, y) {
    const pixels = this.canvas.width / this.canvas.clientWidth;
    const group = this.order && this.shown === this.changes ? this.pick(x * pixels, y * pixels).group : null;
    return this.locked.has(group) ? null : group;
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

  /** Third row of camera-from-group of every column, as the sorter takes them; NaN = hidden. */
  depthRows() {
    const views = groupViews(this.camera(), this.matrices), rows = new Float32Array(4 * this.columns.length);
    this.columns.forEach(({ owner }, index) => {
      const absent = owner === null || this.hidden.has(owner);
      rows.set(absent ? [NaN] : views.subarray(12 * index + 8, 12 * index + 12), 4 * index);
    });
    return rows;
  }

  sorted(order, count, job) {
    this.sortMs = performance.now() - this.began;
    Object.assign(this, { order, count, shown: job });
    this.renderer.setOrder(order, count);
    this.draw();
  }

  draw() {
    if (!this.order) return; // of a scene that was just loaded: the picture of the one before stays
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
