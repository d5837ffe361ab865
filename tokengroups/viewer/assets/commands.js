// What keys and buttons do, by the name of the key.
import { byId } from "./dom.js";

export function commandsOf(app) {
  const { editor } = app, others = () => [...app.groups.keys()].filter((id) => !app.selection.has(id));
  const toggle = (states) => ![...app.selection].every((id) => states.has(id));
  return {
    "[": () => app.showPhoto(app.photo - 1),
    "]": () => app.showPhoto(app.photo + 1),
    Home: () => app.showPhoto(0),
    h: () => app.setHidden(app.selection, toggle(app.hidden)),
    u: () => app.setHidden(app.groups.keys(), false),
    i: () => {
      if (!app.selection.size) return;
      app.setHidden(others(), !others().every((id) => app.hidden.has(id)));
      app.setHidden(app.selection, false);
    },
    l: () => {
      const change = toggle(app.locked) ? "add" : "delete";
      for (const id of app.selection) app.locked[change](id);
      app.panel.update();
    },
    x: () => app.choose(others().filter((id) => !app.locked.has(id))),
    c: () => {
      document.body.classList.toggle("coloured", (app.coloured = press("c")));
      app.paint();
    },
    m: () => {
      document.body.classList.toggle("measuring", (app.measuring = press("m")));
      app.overlay.measure();
    },
    p: () => {
      app.framed = press("p");
      app.overlay.update();
    },
    v: () => app.keepView(),
    k: () => app.picture(),
    film: () => app.film(),
    f: () => app.focusGroup(app.selected),
    Escape: () => {
      if (app.overlay.cancel()) return;
      if (app.measuring) return app.command("m");
      app.light([]);
      app.select(null);
    },
    g: () => document.body.classList.toggle("alone"),
    "?": () => byId("help").toggleAttribute("open"),
    merge: () => editor.merge(),
    split: () => editor.split(),
    duplicate: () => editor.duplicate(),
    "Ctrl-d": () => editor.duplicate(),
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
