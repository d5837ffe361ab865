import { byId, create, download, say } from "./dom.js";
import {
	NO_EDITS, anchorsIn, applyEdits, centreOf, commandLine, editsFile, isName, moveWords, operationsOf, redone,
	scaleWords, turnWords, undone, unedited, withStep, wordsOf,
} from "./edits.js";
import { AMOUNTS } from "./gizmo.js";
import { Link } from "./link.js";
import { add, scaled, subtract, weighted } from "./maths.js";
import { withColumns } from "./packed.js";
import { anchorsOf } from "./parts.js";
import { focusOf } from "./view.js";

const THINNED = "The page has not all Gaussians for this.";
const unitOf = (steps) => steps.flat().reduce((unit, [name, by]) => (name === "rescale" ? unit * by : unit), 1);

export class Editor {
	constructor(app, scene) {
		Object.assign(this, { app, base: scene, history: NO_EDITS, baked: [], grown: 1 });
		for (const field of document.querySelectorAll("[data-field]")) {
			field.onchange = () => {
				const { value, dataset: { field: name } } = field;
				field.value = 0; // what is no number stays otherwise
				field.value = "";
				if (value || name === "rename") this.fill(name, value);
			};
			field.onkeydown = ({ key }) => key === "Enter" && app.focus(); // keys are commands again
		}
		addEventListener("beforeunload", (event) => this.unsaved && event.preventDefault());
	}

	start() {
		this.follow(this.history);
		if (document.documentElement.dataset.version) this.link = new Link(this);
	}

	// Take a packed scene that holds the first steps of the history.
	take(base, baked) {
		Object.assign(this, { base, baked, anchored: null, grown: unitOf(baked) / unitOf(this.baked) });
	}

	anchors = () => (this.anchored ??= anchorsOf(this.base));

	// What a history makes of the packed scene; null where the page cannot say. Servers split more exactly.
	outcome({ steps, done }) {
		const { base, baked } = this, now = steps.slice(0, done);
		if (JSON.stringify(now.slice(0, baked.length)) !== JSON.stringify(baked)) return null;
		const anchors = base.anchors && this.alone ? this.anchors : null;
		return applyEdits(unedited(base.header.groups, anchors), now.slice(baked.length).flat());
	}

	// Show the scene after all edits and one more step.
	preview(step = []) {
		const { app, base, edited, shown } = this, state = edited && applyEdits(edited, step);
		if (!state) return;
		const parts = JSON.stringify(state.columns, ["from", "anchors", "index"]);
		const fits = shown === base && parts === this.parts;
		if (!fits) app.load(withColumns(base, state.columns), shown === base ? 1 : this.grown);
		Object.assign(this, { state, parts, shown: base });
		app.arrange(state, step.length);
	}

	follow(history, command) {
		const { steps, done } = history;
		Object.assign(this, { history, edited: this.outcome(history) });
		byId("log").hidden = !steps.length;
		this.preview();
		say("line", command ?? commandLine(this.base.header.title, this.operations));
		byId("line").scrollTop = 1e6; // the newest is last
		const [undo, redo, copy, save] = byId("log").querySelectorAll("button");
		undo.disabled = copy.disabled = save.disabled = !done;
		redo.disabled = done === steps.length;
		const note = byId("note");
		if (!note.firstElementChild && !/^The server/.test(note.textContent)) this.note(""); // choices and warnings stay
	}

	get alone() {
		return !this.link || this.link.lost;
	}

	become(history, path, order) {
		const { alone } = this;
		if (history === this.history) return;
		const whole = this.base.anchors ? "It is in one piece, too large, or on one side of the box." : THINNED;
		const why = order?.edits[0][0] === "split" ? whole : "This needs the server.";
		if (alone && !this.outcome(history)) return this.note(why);
		this.unsaved = alone && history.done > 0;
		this.follow(history);
		if (!alone) this.link.send(path, order);
	}

	edit(step, nothing) {
		const { app } = this, before = app.groups;
		if (step.length) this.become(withStep(this.history, step), "edit", { edits: step });
		else if (nothing) this.note(nothing);
		else this.preview();
		this.chooseNew(before);
	}

	chooseNew(before) {
		const { app } = this, added = [...app.groups.keys()].filter((id) => !before.has(id));
		if (added.length) app.choose(added);
	}

	undo = () => this.become(undone(this.history), "undo");
	redo = () => this.become(redone(this.history), "redo");

	get operations() {
		return operationsOf(this.history);
	}

	each = (words) => [...this.app.selection].flatMap((id) => words(String(id), this.app.groups.get(id)));

	// Offset in the edited scene, given right, up and forward.
	offset = (amounts) => scaled(weighted(this.base.header.frame, amounts), this.state.unit);

	// Motions by amounts, named as in `AMOUNTS`.
	step(amounts) {
		const { frame, digits } = this.base.header, values = AMOUNTS.map((name) => amounts[name] ?? 0);
		return this.each((id) => [
			...moveWords(id, this.offset(values.slice(0, 3)), digits),
			...frame.flatMap((axis, k) => turnWords(id, axis, values[3 + k])),
			...scaleWords(["scale", id], values[6] || 1),
		]);
	}

	fill(name, value) {
		const { app, base: { header }, state: { unit } } = this, number = Number(value);
		const place = () => wordsOf(scaled(add(focusOf(app.view), header.origin), unit), header.digits);
		if (name === "save") return this.link.save(value);
		if (name === "rename" && value && !isName(value)) return this.note("A name is no number and begins with no dash.");
		const corners = value.trim().split(/[\s,]+/).map(Number), fit = corners.every((each) => Math.abs(each) < 1e38);
		if (name === "split" && !(fit && corners.length === 6)) return this.note("Type six numbers: two corners.");
		const steps = {
			split: () => this.each((id) => [["split", id, ...corners.map(String)]]),
			rename: () => this.each((id) => [["rename", id, value]]),
			length: () => scaleWords(["rescale"], number / (app.overlay.distance * unit)),
			insert: () => [["insert", value, "--at", ...place()]],
		};
		const amount = () => this.step({ [name]: AMOUNTS.indexOf(name) < 3 ? number / unit : number });
		this.edit((steps[name] ?? amount)(), "This is nothing, or too much.");
		app.overlay.tellDistance();
	}

	remove() {
		const { groups, selection } = this.app;
		if (selection.size === groups.size) this.note("A scene needs at least one group.");
		else if (selection.size) this.edit([["remove", ...this.each((id) => id)]]);
	}

	duplicate() {
		const beside = ({ size }) => this.offset([Math.hypot(...size) / 2, 0, 0]);
		this.edit(this.each((id, group) => [["duplicate", id, ...wordsOf(beside(group), this.base.header.digits)]]));
	}

	merge() {
		if (this.app.selection.size > 1) this.edit([["merge", ...this.each((id) => id)]]);
		else this.note("Select two groups or more: Shift-click.");
	}

	split = () => this.edit(this.each((id) => [["split", id]]));

	// Split by the smallest boxes around the anchors that are `inside`.
	cut(inside) {
		const { base: { anchors, header: { digits } }, state: { unit } } = this, margin = 10 ** (1 - digits);
		if (!anchors) return this.note(THINNED);
		this.edit(this.each((id, group) => {
			const all = anchorsIn(this.members(group.id), this.anchors), chosen = all.filter(inside);
			if (!chosen.length || chosen.length === all.length) return [];
			const end = (sign) => [0, 1, 2].map((k) =>
				sign * chosen.reduce((most, { place }) => Math.max(most, sign * place[k] * unit + margin), -Infinity));
			return [["split", id, ...wordsOf([...end(-1), ...end(1)], digits)]];
		}), "The box holds none of it, or all.");
	}

	members = (id) => this.state.columns.filter(({ owner }) => owner === id);

	// Centre of a group, relative to the scene's origin.
	centre = (id) => subtract(centreOf(this.members(id)), this.base.header.origin);

	// Say something, with buttons: { text: what it does }.
	note(text, choices = {}) {
		const buttons = Object.entries(choices).map(([textContent, act]) =>
			create("button", { textContent, onclick: () => (this.note(""), act()) }));
		byId("note").replaceChildren(text, ...buttons);
	}

	async copy() {
		const line = byId("line");
		try {
			await navigator.clipboard.writeText(line.textContent);
		} catch { // it may be refused
			getSelection().selectAllChildren(line);
			document.execCommand("copy");
		}
		this.unsaved = false;
		this.note("Copied.");
	}

	save() {
		download("edits.json", editsFile(this.operations));
		this.unsaved = false;
		this.note("Apply them with: tokengroups edit SCENE --script edits.json -o OUT");
	}
}
