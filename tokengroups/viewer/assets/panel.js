// The list of groups. Names come from files: they are text, never HTML.
import { byId, copyOf, say } from "./dom.js";
import { scaled } from "./maths.js";
import { factsText, fits, groupColor, groupName, listed, percent, sizeText } from "./objects.js";
import { extentsOf } from "./parts.js";

export class Panel {
	constructor(app) {
		this.app = app;
		byId("search").oninput = () => app.light([]);
		byId("search").onkeydown = ({ key, target }) => {
			if (key !== "Enter") return;
			app.focus(); // keys are commands again
			app.query(target.value);
		};
		byId("sorting").oninput = () => this.arrange();
	}

	follow() {
		const { columns, groups, scene } = this.app, sizes = extentsOf(scene, columns);
		this.groups = [...groups.values()].map((group) => ({ ...group, size: sizes.get(group.id) ?? group.size }));
		this.rows = new Map(this.groups.map((group) => [group.id, this.row(group)]));
		say("facts", factsText(this.groups, scene.header));
		this.arrange();
	}

	arrange() {
		const order = listed(this.groups, byId("sorting").value, this.app.lit);
		const list = byId("groups"), held = list.contains(document.activeElement);
		list.replaceChildren(...order.map(({ id }) => this.rows.get(id)));
		if (held) this.app.focus();
		this.update();
		this.reveal(this.app.selected);
	}

	row(group) {
		const { app } = this, { id, picture } = group, row = copyOf("row"), name = groupName(group);
		const set = (selector, properties) => Object.assign(row.querySelector(selector), properties);
		Object.assign(row, { onpointerenter: () => app.hover(id), onpointerleave: () => app.hover(null) });
		row.style.setProperty("--color", `rgb(${group.color})`);
		row.style.setProperty("--mark", `rgb(${scaled(groupColor(id), 255)})`);
		set("input", { ariaLabel: `show ${name}`, onchange: ({ target }) => app.setHidden([id], !target.checked) });
		set(".name", {
			title: `group ${id}: ${group.count} Gaussians`,
			onclick: ({ shiftKey, ctrlKey, metaKey }) => {
				const more = shiftKey || ctrlKey || metaKey;
				app.select(!more && app.selection.size === 1 && id === app.selected ? null : id, more);
			},
			ondblclick: () => app.focusGroup(id),
		});
		set(".text", { textContent: name });
		if (picture) set("img", { src: picture });
		set("small", { textContent: sizeText(scaled(group.size, app.editor.state.unit)) });
		return row;
	}

	update() {
		const { groups, hovered, selection, hidden, locked, lit } = this.app, text = byId("search").value;
		for (const [id, row] of this.rows) {
			const group = groups.get(id), share = lit.size ? lit.get(id) ?? 0 : group.share;
			const states = { hovered: id === hovered, selected: selection.has(id), locked: locked.has(id) };
			for (const [name, is] of Object.entries(states)) row.classList.toggle(name, is);
			row.querySelector(".name").setAttribute("aria-pressed", states.selected);
			row.hidden = !lit.size && !fits(group, text);
			row.querySelector("input").checked = !hidden.has(id);
			row.querySelector(".percent").textContent = percent(share);
		}
	}

	reveal(id) {
		this.rows.get(id)?.scrollIntoView({ block: "nearest" });
	}
}
