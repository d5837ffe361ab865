// Edits in the page: their history, what it makes of the picture, and the fields and buttons that belong to it.
import { byId, element } from "./dom.js";
import {
  NO_EDITS, applyEdits, commandLine, digitsFor, editsFile, matrixOf, moveWords, moved, operationsOf, redone, scaleWords,
  turnWords, undone, withStep,
} from "./edits.js";
import { frameOf } from "./gizmo.js";
import { add, scaled } from "./maths.js";

export class Editor {
  constructor(app) {
    this.app = app;
    const { groups, up, focus_depth: distance } = app.scene.header;
    this.digits = digitsFor(distance);
    this.frame = frameOf(up);
    this.snap = 10 ** Math.round(Math.log10(distance / 30)); // steps in which handles move where that is asked for
    this.history = NO_EDITS;
    this.state = applyEdits(groups, []);
    for (const field of byId("amounts").querySelectorAll("input")) {
      field.addEventListener("change", () => {
        if (field.value) this.edit(this.step({ [field.dataset.axis]: Number(field.value) }));
        field.value = "";
      });
      // Enter leaves the field, so that the next key is a command again, such as undo.
      field.addEventListener("keydown", (event) => event.key === "Enter" && app.canvas.focus({ preventScroll: true }));
    }
    addEventListener("beforeunload", (event) => this.unsaved && event.preventDefault()); // the browser asks
    this.show();
  }

  /** Operations in force, in their order. */
  get operations() {
    return operationsOf(this.history);
  }

  /** Operations for all selected groups: moves along right (0), up (1), forward (2), a turn about up, a factor. */
  step({ 0: right = 0, 1: up = 0, 2: forward = 0, turn = 0, scale = 1 }) {
    const { app, frame, digits } = this, { groups } = app.scene.header;
    const offset = [right, up, forward].map((by, k) => scaled(frame[k], by)).reduce(add);
    return [...app.selection].map((index) => groups[index].id).flatMap((id) => [
      ...moveWords(id, offset, digits), ...turnWords(id, frame[1], turn), ...scaleWords(id, scale),
    ]);
  }

  /** Show what a step would do. */
  preview(step) {
    this.state = applyEdits(this.app.scene.header.groups, [...this.operations, ...step]);
    this.app.setMatrices(this.state.motions.map((motion, index) => [index, matrixOf(motion)]));
  }

  edit(step) {
    this.become(step.length ? withStep(this.history, step) : this.history);
  }

  undo() {
    this.become(undone(this.history));
  }

  redo() {
    this.become(redone(this.history));
  }

  remove() {
    const { app, state } = this, { groups } = app.scene.header;
    if (!app.selection.size) return;
    const left = groups.some((_, index) => !state.gone[index] && !app.selection.has(index));
    if (!left) return this.note("A scene needs at least one group: the last one stays.");
    this.edit([["remove", ...[...app.selection].map((index) => String(groups[index].id))]]);
  }

  become(history) {
    this.unsaved = history.done > 0;
    this.history = history;
    this.preview([]);
    this.app.setGone(this.state.gone);
  }

  /** Where the centre of a group is now, in the world relative to the scene's origin. */
  centre(index) {
    const { groups, origin } = this.app.scene.header;
    return add(moved(this.state.motions[index], groups[index].centre), scaled(origin, -1));
  }

  show() {
    const { steps, done } = this.history;
    byId("amounts").disabled = !this.app.selection.size;
    byId("log").hidden = !steps.length;
    byId("line").textContent = commandLine(this.app.scene.header.title, this.operations);
    byId("line").scrollTop = 1e6; // the newest is last
    for (const key of ["undo", "copy", "save"]) button(key).disabled = !done;
    button("redo").disabled = done === steps.length;
    this.note("");
  }

  note(text) {
    byId("note").textContent = text;
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
    const file = new Blob([editsFile(this.operations)], { type: "application/json" });
    const link = element("a", { href: URL.createObjectURL(file), download: "edits.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    this.unsaved = false;
    this.note("Apply them with: tokengroups edit SCENE --script edits.json -o OUT");
  }
}

const button = (key) => byId("edits").querySelector(`[data-key="${key}"]`);
