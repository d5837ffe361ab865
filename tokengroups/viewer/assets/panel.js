// The list of groups beside the picture. Names come from files: they are text, never HTML.
import { byId, element } from "./dom.js";
import { growth } from "./edits.js";
import { fits, groupName, listed, percent, sizeText } from "./objects.js";

export class Panel {
  constructor(app) {
    this.app = app;
    byId("search").addEventListener("input", () => app.light([]));
    byId("search").addEventListener("keydown", ({ key, target }) => key === "Enter" && app.query(target.value));
    byId("sorting").addEventListener("input", () => this.arrange());
  }

  /** Make the rows anew where groups have changed. */
  follow({ groups, columns }) {
    const sizes = columns.map((column) => [column.owner, growth([column])]);
    const facts = JSON.stringify([[...groups.values()], sizes]);
    if (facts === this.facts) return;
    this.facts = facts;
    this.rows = new Map([...groups.values()].map((group) => [group.id, this.row(group)]));
    this.arrange();
  }

  /** Follow the search, what it has found, and the order that is asked for. */
  arrange() {
    const order = listed(this.app.groups.values(), byId("sorting").value, this.app.lit);
    byId("groups").replaceChildren(...order.map(({ id }) => this.rows.get(id)));
    this.update();
  }

  row(group) {
    const { app } = this, { id, picture } = group, name = groupName(group);
    const shown = element("input", { type: "checkbox", ariaLabel: `show ${name}` });
    shown.addEventListener("change", () => app.setHidden([id], !shown.checked));
    const swatch = element(picture ? "img" : "span", { className: "swatch", alt: "" });
    if (picture) swatch.src = picture;
    for (const name of ["color", "mark"]) swatch.style.setProperty(`--${name}`, `rgb(${group[name]})`);
    const title = `group ${id}: ${group.count} Gaussians`, text = element("span", { className: "text" }, name);
    const label = element("button", { type: "button", className: "name", title }, swatch, text);
    label.addEventListener("click", (event) => {
      const more = event.shiftKey || event.ctrlKey || event.metaKey;
      app.select(!more && app.selection.size === 1 && id === app.selected ? null : id, more);
    });
    label.addEventListener("dblclick", () => app.focusGroup(id));
    const { members, state } = app.editor, grown = state.unit * growth(members(id));
    const size = element("small", {}, sizeText(group.size.map((side) => side * grown)));
    const row = element("li", {}, shown, label, element("span", { className: "share" }, element("span"), size));
    row.addEventListener("pointerenter", () => app.hover(id));
    row.addEventListener("pointerleave", () => app.hover(null));
    return row;
  }

  update() {
    const { groups, hovered, selection, hidden, locked, lit } = this.app, text = byId("search").value;
    for (const [id, row] of this.rows) {
      const { classList, firstChild, lastChild } = row;
      classList.toggle("hovered", id === hovered);
      classList.toggle("selected", selection.has(id));
      classList.toggle("hidden", hidden.has(id));
      classList.toggle("locked", locked.has(id));
      row.hidden = !lit.size && !fits(groups.get(id), text);
      firstChild.checked = !hidden.has(id);
      lastChild.firstChild.textContent = percent(lit.size ? lit.get(id) ?? 0 : groups.get(id).share);
    }
  }

  reveal(id) {
    this.rows.get(id)?.scrollIntoView({ block: "nearest" });
  }
}
