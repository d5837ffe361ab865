// The page. States of groups are by id. Drawn on demand.
import { commandsOf } from "./commands.js";
import { listen } from "./controls.js";
import { byId, create, download, say } from "./dom.js";
import { Editor } from "./editor.js";
import { add, dot, rowsOf, scaled, subtract } from "./maths.js";
import { fits, groupColor, groupName } from "./objects.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Picker, groupViews } from "./pick.js";
import { Renderer } from "./renderer.js";
import { Sorter } from "./sort.js";
import { cameraFor, dolly, focusOn, pathFile } from "./view.js";

const MOST_PIXELS = 2 ** 22; // of the canvas
const SLOW_SORT_MS = 30; // the picture does not wait for slower ones
const SLOW_FRAME_MS = 60, STILL_MS = 200; // slower frames are coarse until all is still
const HOVER_TINT = [1, 1, 1, 0.25], SELECTED_TINT = [0.25, 0.55, 1, 0.45], FOUND_TINT = [1, 0.75, 0];

export class App {
	constructor(scene) {
		Object.assign(this, {
			scene, canvas: byId("canvas"), view: scene.header.cameras[0].view, viewpoints: [], waiting: [],
			hidden: new Set(), locked: new Set(), selection: new Set(), hovered: null,
			lit: new Map(), // probabilities of what a query has found
			changes: 0, asked: -1, shown: -1, // of what the order depends on; for which one is asked for, drawn
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

	// Show another packed scene, whose lengths have `grown`; the eye stays.
	load(scene, grown) {
		const { view } = this, eye = scaled(add(view.eye, this.scene.header.origin), grown);
		this.view = { ...view, eye: subtract(eye, scene.header.origin), distance: view.distance * grown };
		this.renderer.load(scene);
		this.sorter?.end();
		this.sorter = new Sorter(scene, (sorted) => this.sorted(sorted));
		Object.assign(this, { scene, order: null, sortMs: 0, tinted: false });
	}

	arrange({ groups, columns }, dragging) {
		Object.assign(this, { groups, columns, matrices: new Float32Array(12 * columns.length) });
		columns.forEach(({ linear, shift }, index) => this.setMatrix(index, linear, shift));
		if (dragging) return this.paint();
		for (const ids of [this.hidden, this.locked]) for (const id of ids) if (!groups.has(id)) ids.delete(id);
		this.panel.follow();
		this.choose(this.selection);
	}

	watch() {
		const { canvas } = this;
		new ResizeObserver(() => this.resize()).observe(canvas);
		const theme = () => this.setBackground(scaled(getComputedStyle(canvas).backgroundColor.match(/\d+/g), 1 / 255));
		matchMedia("(prefers-color-scheme: dark)").onchange = theme;
		theme();
		canvas.addEventListener("webglcontextlost", (event) => {
			event.preventDefault();
			say("message", "The graphics card was reset; wait.");
		});
		canvas.addEventListener("webglcontextrestored", () => {
			this.renderer.setUp();
			this.load(this.scene, 1);
			this.change();
			say("message", "");
		});
		this.resize();
		listen(this);
	}

	resize() {
		const { canvas } = this, sides = [canvas.clientWidth, canvas.clientHeight];
		const ratio = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / (sides[0] * sides[1] || 1)));
		const [width, height] = sides.map((side) => Math.round(side * ratio) || 1);
		if (width === canvas.width && height === canvas.height) return;
		Object.assign(canvas, { width, height });
		this.change();
	}

	camera = () => cameraFor(this.view, this.canvas.width, this.canvas.height);

	// The same in CSS pixels.
	screen = () => cameraFor(this.view, this.canvas.clientWidth, this.canvas.clientHeight);

	// A photo from there can slide over the picture.
	setView(view, photo) {
		this.view = view;
		byId("blend").hidden = byId("still").hidden = !photo;
		if (photo) byId("still").src = photo;
		this.change();
	}

	zoom(factor) {
		this.setView(dolly(this.view, factor, this.scene.header.focus_depth));
	}

	focus() {
		this.canvas.focus({ preventScroll: true });
	}

	setBackground(rgb) {
		this.renderer.background = rgb;
		this.invalidate();
	}

	showPhoto(index) {
		const { cameras } = this.scene.header, count = cameras.length;
		this.photo = (index + count) % count;
		this.setView(cameras[this.photo].view, cameras[this.photo].photo);
		say("photo", `Photo ${this.photo + 1} of ${count}`);
	}

	keepView() {
		const { view } = this, textContent = `View ${this.viewpoints.push(view)}`;
		byId("views").append(create("button", { textContent, onclick: () => this.setView(view) }));
	}

	film() {
		download("path.json", pathFile(this.scene.header, this.editor.state.unit, this.viewpoints));
		this.editor.note("Film it with: tokengroups render SCENE --camera path.json --video out.mp4");
	}

	async picture() {
		await this.settled();
		if (!this.coloured) this.renderer.fill("tints", new Float32Array(this.tints.length));
		this.draw();
		this.tinted = false;
		this.invalidate();
		this.canvas.toBlob((blob) => download(`${this.scene.header.title}.png`, blob));
	}

	setHidden(ids, hidden) {
		for (const id of ids) this.hidden[hidden ? "add" : "delete"](id);
		this.panel.update();
		this.change();
	}

	// Move a column: x -> linear x + shift, in the scene's world.
	setMatrix(index, linear, shift) {
		const { origin } = this.scene.header;
		const rows = rowsOf(linear).flatMap((row, i) => [...row, dot(row, origin) + shift[i] - origin[i]]);
		this.matrices.set(rows, 12 * index);
		this.tinted = false;
		this.change();
	}

	hover(id) {
		if (id === this.hovered) return;
		this.hovered = id;
		this.paint();
	}

	get selected() {
		return [...this.selection].at(-1) ?? null;
	}

	// Select a group or none (null); with `more`, beside the others.
	select(id, more) {
		const ids = more ? new Set(this.selection) : new Set();
		if (!ids.delete(id)) ids.add(id);
		this.choose(ids);
	}

	choose(ids) {
		this.selection = new Set([...ids].filter((id) => this.groups.has(id)));
		this.paint();
		this.panel.reveal(this.selected);
		byId("amounts").disabled = !this.selection.size;
		this.overlay?.update(); // at once: nobody may touch handles of another group
		const group = this.groups.get(this.selected), others = this.selection.size - 1;
		const field = byId("name");
		if (field !== document.activeElement) field.value = group?.name ?? "";
		say("selection", group ? groupName(group) + (others ? ` and ${others} more` : "") : "");
	}

	focusGroup(id) {
		if (id !== null) this.setView(focusOn(this.view, this.editor.centre(id)));
	}

	light(matches) {
		this.lit = new Map(matches.map(({ id, probability }) => [id, probability]));
		const least = Math.max(Math.min(0.5, Math.max(...this.lit.values())), 1e-6);
		this.panel.arrange();
		if (this.lit.size) this.choose([...this.lit.keys()].filter((id) => this.lit.get(id) >= least));
		else this.paint();
	}

	// A server knows what a text means, the page only names.
	async query(text) {
		const { editor, groups } = this, named = [...groups.values()].filter((group) => fits(group, text));
		const offline = { matches: named.map(({ id }) => ({ id, probability: 1 })) };
		const { error = "", matches = [] } = editor.alone ? offline : await editor.link.ask("query", { text });
		this.light(matches);
		editor.note(error || (this.selection.size ? "" : "Nothing fits."));
	}

	paint() {
		const { columns, hovered, lit, selection } = this;
		this.tints = new Float32Array(columns.flatMap(({ owner }) => {
			if (owner === hovered) return HOVER_TINT;
			if (lit.has(owner)) return [...FOUND_TINT, 0.7 * lit.get(owner)];
			if (selection.has(owner) && !lit.size) return SELECTED_TINT;
			return this.coloured && owner !== null ? [...groupColor(owner), 0.85] : [0, 0, 0, 0];
		}));
		this.tinted = false;
		this.panel.update();
		this.invalidate();
	}

	command(key) {
		this.commands[key]?.();
		return key in this.commands;
	}

	// Alpha, depth and group (null = none) at a pixel.
	pick(x, y) {
		if (this.pickedFrom !== this.shown) {
			const { scene, matrices, order, count } = this, firsts = new Map(); // a group's columns count as one
			const heads = this.columns.map(({ owner }, k) => firsts.get(owner) ?? (firsts.set(owner, k), k));
			this.picker = new Picker(scene, matrices, this.camera(), order, count, heads);
			this.pickedFrom = this.shown;
		}
		const found = this.picker.at(x, y);
		return { ...found, group: this.columns[found.group]?.owner ?? null };
	}

	pickAt = (place) => this.pick(...scaled(place, this.canvas.width / this.canvas.clientWidth));

	get behind() {
		return this.shown !== this.changes;
	}

	groupAt(place) {
		const group = this.behind ? null : this.pickAt(place).group;
		return this.locked.has(group) ? null : group;
	}

	hoverAt(place) {
		this.pointer = place;
		this.hovering ??= setTimeout(() => {
			this.hovering = null;
			this.hover(this.groupAt(this.pointer));
		}, 30);
	}

	async clickAt(place, more) {
		if (this.behind) await this.settled();
		if (this.measuring) this.overlay.measure(place);
		else this.select(this.groupAt(place), more);
	}

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
		const views = groupViews(this.camera(), this.matrices);
		this.columns.forEach(({ owner }, index) => {
			if (owner === null || this.hidden.has(owner)) views[12 * index + 8] = NaN;
		});
		this.sorter.sort(views, this.changes);
		if (this.sortMs > SLOW_SORT_MS) this.draw();
	}

	sorted({ order, count, job }) {
		Object.assign(this, { order, count, shown: job, sortMs: performance.now() - this.began });
		this.renderer.setOrder(order, count);
		this.draw();
	}

	draw() {
		if (!this.order) return; // a scene was just loaded: the picture of the one before stays
		if (!this.tinted) {
			this.renderer.fill("matrices", this.matrices);
			this.renderer.fill("tints", this.tints);
			this.tinted = true;
		}
		const coarse = this.frameMs > SLOW_FRAME_MS && performance.now() - this.movedAt < STILL_MS;
		clearTimeout(this.refining);
		if (coarse) this.refining = setTimeout(() => this.invalidate(), STILL_MS);
		this.renderer.draw(this.camera(), coarse ? 0.5 : 1);
		this.overlay.update();
		if (!coarse) this.renderer.finished().then((ms) => (this.frameMs = ms));
		if (!this.behind) this.waiting.splice(0).forEach((resolve) => resolve());
	}

	// Wait until the picture shows the present state.
	settled() {
		this.movedAt = 0;
		this.invalidate();
		return new Promise((resolve) => this.waiting.push(resolve));
	}
}
