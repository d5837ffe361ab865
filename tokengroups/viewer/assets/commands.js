// What keys and buttons do, by the name of the key.
import { byId } from "./dom.js";

export function commandsOf(app) {
  const { editor } = app, all = [...app.hidden.keys()], others = () => all.filter((index) => !app.selection.has(index));
  const toggle = (states) => +![...app.selection].every((index) => states[index]);
  return {
    "[": () => app.showPhoto(app.photo - 1),
    "]": () => app.showPhoto(app.photo + 1),
    Home: () => app.showPhoto(0),
    h: () => app.setHidden([...app.selection], toggle(app.hidden)),
    u: () => app.setHidden(all, 0),
    i: () => {
      if (!app.selection.size) return;
      app.setHidden(others(), others().every((index) => app.hidden[index]) ? 0 : 1);
      app.setHidden([...app.selection], 0);
    },
    l: () => {
      const locked = toggle(app.locked);
      for (const index of app.selection) app.locked[index] = locked;
      app.panel.update();
    },
    x: () => app.choose(others().filter((index) => !app.gone[index] && !app.locked[index])),
    c: () => {
      document.body.classList.toggle("coloured", (app.coloured = press("c")));
      app.paint();
    },
    m: () => {
      document.body.classList.toggle("measuring", (app.measuring = press("m")));
      app.overlay.measure();
    },
    f: () => app.focusGroup(app.selected),
    Escape: () => app.overlay.cancel() || (app.measuring ? app.command("m") : app.select(-1)),
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

/** Press a button that stays down, or release it; returns whether it is down. */
function press(key) {
  const button = document.querySelector(`[data-key="${key}"]`), down = button.ariaPressed !== "true";
  button.ariaPressed = String(down);
  return down;
}
