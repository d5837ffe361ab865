// Edits in the page: their history, what it makes of the picture, and the fields and buttons that belong to it.
import { byId, create, download, say } from "./dom.js";
import {
  NO_EDITS, applyEdits, centreOf, commandLine, editsFile, moveWords, operationsOf, redone, scaleWords, turnWords,
  undone, isName, withStep, wordsOf,
} from "./edits.js";
import { AMOUNTS } from "./gizmo.js";
import { Link } from "./link.js";
import { add, scaled, subtract, weighted } from "./maths.js";
import { withCopies } from "./packed.js";
import { focusOf } from "./view.js";

const unitOf = (steps) => steps.flat().reduce((unit, [name, factor]) => (name === "rescale" ? unit * factor : unit), 1);

export class Editor {
  constructor(app, scene) {
    Object.assign(this, { app, base: scene, history: NO_EDITS, baked: [], grown: 1 });
    for (const field of document.querySelectorAll("[data-field]")) {
      field.onchange = () => {
        if (field.value) this.fill(field.dataset.field, field.value);
        field.value = 0; // what is no number stays otherwise
        field.value = "";
      };
      // Enter leaves the field, so that the next key is a command again, such as undo.
      field.onkeydown = ({ key }) => key === "Enter" && app.focus();
    }
    addEventListener("beforeunload", (event) => this.unsaved && event.preventDefault());
  }

  /** Show the scene; a served page works with its server from now on. */
  start() {
    this.follow(this.history);
    if (document.documentElement.dataset.version) this.link = new Link(this);
  }

  /** Take a packed scene that holds the first steps of the history. */
  take(base, baked) {
    Object.assign(this, { base, baked, grown: unitOf(baked) / unitOf(this.baked) });
  }

  /** What a history, and one more step, makes of the packed scene; null where the page cannot say. */
  outcome({ steps, done }, step = []) {
    const { base, baked } = this, now = steps.slice(0, done);
    const known = JSON.stringify(now.slice(0, baked.length)) === JSON.stringify(baked);
    return known ? applyEdits(base.header.groups, [...now.slice(baked.length), step].flat()) : null;
  }

  preview(step = []) {
    const { app, base, shown } = this, state = this.outcome(this.history, step);
    if (!state) return;
    const copies = state.columns.slice(base.header.groups.length).map(({ from }) => from);
    if (shown !== base || String(copies) !== String(this.copies)) {
      app.load(withCopies(base, copies), shown === base ? 1 : this.grown);
    }
    Object.assign(this, { state, copies, shown: base });
    app.arrange(state);
  }

  /** Take over a history, and the server's command line. */
  follow(history, command) {
    const { steps, done } = history;
    this.history = history;
    this.preview();
    byId("log").hidden = !steps.length;
    say("line", command ?? commandLine(this.base.header.title, this.operations));
    byId("line").scrollTop = 1e6; // the newest is last
    const [undo, redo, copy, save] = byId("log").querySelectorAll("button");
    undo.disabled = copy.disabled = save.disabled = !done;
    redo.disabled = done === steps.length;
    if (!byId("note").firstElementChild && !this.link?.lost) this.note(""); // choices and warnings stay
  }

  become(history, path, order) {
    const { link } = this, alone = !link || link.lost;
    if (history === this.history) return this.preview();
    if (alone && !this.outcome(history)) return this.note("This needs the server: tokengroups view SCENE.");
    this.unsaved = alone && history.done > 0;
    this.follow(history);
    if (!alone) link.send(path, order);
  }

  edit(step) {
    this.become(step.length ? withStep(this.history, step) : this.history, "edit", { edits: step });
  }

  undo() {
    this.become(undone(this.history), "undo");
  }

  redo() {
    this.become(redone(this.history), "redo");
  }

  get operations() {
    return operationsOf(this.history);
  }

  each(words) {
    return [...this.app.selection].flatMap((id) => words(String(id), this.app.groups.get(id)));
  }

  /** Offset in the edited scene of amounts along right, up and forward. */
  offset(amounts) {
    return scaled(weighted(this.base.header.frame, amounts), this.state.unit);
  }

  /** Operations for all selected groups: amounts by the names of `AMOUNTS`. */
  step(amounts) {
    const { frame, digits } = this.base.header, values = AMOUNTS.map((name) => amounts[name] ?? 0);
    return this.each((id) => [
      ...moveWords(id, this.offset(values.slice(0, 3)), digits),
      ...frame.flatMap((axis, k) => turnWords(id, axis, values[3 + k])),
      ...scaleWords(["scale", id], values[6] || 1),
    ]);
  }

  fill(name, value) {
    const { app, base: { header }, state: { unit } } = this;
    const place = scaled(add(focusOf(app.view), header.origin), unit);
    if (name === "save") this.link.save(value);
    else if (name === "split") this.split(value.trim().split(/[\s,]+/));
    else if (name === "rename" && !isName(value)) this.note("A name is no number and begins with no dash.");
    else if (name === "rename") this.edit([["rename", String(app.selected), value]]);
    else if (name === "length") this.edit(scaleWords(["rescale"], value / (app.overlay.distance * unit)));
    else if (name === "insert") this.edit([["insert", value, "--at", ...wordsOf(place, header.digits)]]);
    else this.edit(this.step({ [name]: AMOUNTS.indexOf(name) < 3 ? value / unit : Number(value) }));
    app.overlay.tellDistance();
  }

  remove() {
    const { groups, selection } = this.app;
    if (selection.size === groups.size) this.note("A scene needs at least one group: the last one stays.");
    else if (selection.size) this.edit([["remove", ...this.each((id) => id)]]);
  }

  duplicate() {
    const beside = ({ size }) => wordsOf(this.offset([Math.hypot(...size) / 2, 0, 0]), this.base.header.digits);
    const { app } = this, before = app.groups;
    this.edit(this.each((id, group) => [["duplicate", id, ...beside(group)]]));
    const copies = [...app.groups.keys()].filter((id) => !before.has(id));
    if (copies.length) app.choose(copies);
  }

  merge() {
    if (this.app.selection.size > 1) this.edit([["merge", ...this.each((id) => id)]]);
    else this.note("Select two groups or more: Shift-click.");
  }

  /** Split into what hangs together, or by a box between two corners. */
  split(corners = []) {
    this.edit(this.each((id) => [["split", id, ...corners]]));
  }

  members = (id) => this.state.columns.filter(({ owner }) => owner === id);

  /** Where the centre of a group is now, relative to the scene's origin. */
  centre(id) {
    return subtract(centreOf(this.members(id)), this.base.header.origin);
  }

  /** Say something below the fields, with buttons: { text: what it does }. */
  note(text, choices = {}) {
    byId("note").replaceChildren(text, ...Object.entries(choices).map(([textContent, act]) => {
      const onclick = () => {
        this.note("");
        act();
      };
      return create("button", { textContent, onclick });
    }));
  }

  async copy() {
    const line = byId("line");
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch { // pages from a disk may be refused the clipboard
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
