import { byId } from "./dom.js";

export function commandsOf(app) {
	const { editor } = app, others = () => [...app.groups.keys()].filter((id) => !app.selection.has(id));
	const all = (ids, states) => [...ids].every((id) => states.has(id));
	// Switch a mode, which style.css and the key's button show.
	const switching = (mode, key, show) => () => {
		app[mode] = document.body.classList.toggle(mode);
		document.querySelector(`[data-key="${key}"]`).setAttribute("aria-pressed", app[mode]);
		show?.();
	};
	return {
		"[": () => app.showPhoto(app.photo - 1),
		"]": () => app.showPhoto(app.photo + 1),
		Home: () => app.showPhoto(0),
		"+": () => app.zoom(0.9),
		"=": () => app.zoom(0.9),
		"-": () => app.zoom(1 / 0.9),
		h: () => app.setHidden(app.selection, !all(app.selection, app.hidden)),
		u: () => app.setHidden(app.groups.keys(), false),
		i: () => {
			if (!app.selection.size) return;
			app.setHidden(others(), !all(others(), app.hidden));
			app.setHidden(app.selection, false);
		},
		l: () => {
			const change = all(app.selection, app.locked) ? "delete" : "add";
			for (const id of app.selection) app.locked[change](id);
			app.panel.update();
		},
		x: () => app.choose(others().filter((id) => !app.locked.has(id))),
		c: switching("coloured", "c", () => app.paint()),
		m: switching("measuring", "m", () => app.overlay.measure()),
		p: switching("framed", "p", () => app.overlay.update()),
		b: switching("cutting", "b"),
		v: () => app.keepView(),
		k: () => app.picture(),
		film: () => app.film(),
		f: () => app.focusGroup(app.selected),
		Escape: () => {
			if (app.overlay.amounts) return app.overlay.cancel();
			if (app.measuring) return app.command("m");
			if (app.cutting) return app.command("b");
			app.light([]);
			app.select(null);
		},
		g: () => document.body.classList.toggle("alone"),
		"?": () => byId("help").toggleAttribute("open"),
		merge: () => editor.merge(),
		split: editor.split,
		"Ctrl-d": () => editor.duplicate(),
		Delete: () => editor.remove(),
		Backspace: () => editor.remove(),
		copy: () => editor.copy(),
		save: () => editor.save(),
		"Ctrl-z": editor.undo,
		"Ctrl-Shift-z": editor.redo,
		"Ctrl-y": editor.redo,
	};
}
