// What keys and buttons do, by the name of the key.
import { byId } from "./dom.js";

export function commandsOf(app) {
  const { editor } = app, toggle = (states) => +![...app.selection].every((index) => states[index]);
  return {
    "[": () => app.showPhoto(app.photo - 1),
    "]": () => app.showPhoto(app.photo + 1),
    Home: () => app.showPhoto(0),
    h: () => app.setHidden([...app.selection], toggle(app.hidden)),
    u: () => app.setHidden([...app.hidden.keys()], 0),
    f: () => app.focusGroup(app.selected),
    Escape: () => app.overlay.cancel() || app.select(-1),
    g: () => document.body.classList.toggle("alone"),
    "?": () => byId("help").toggleAttribute("open"),
    Delete: () => editor.remove(),
    Backspace: () => editor.remove(),
    undo: () => editor.undo(),
    redo: () => editor.redo(),
    copy: () => editor.copy(),
    save: () => editor.save(),
    "Ctrl-z": () => editor.undo(),
    "Ctrl-Shift-z": () => editor.redo(),
    "Ctrl-y": () => editor.redo(),
  };
}
