// The list of groups beside the picture. Names come from files: they are text, never HTML.
import { byId, element } from "./dom.js";
import { groupName, listed, percent, sizeText } from "./objects.js";

export class Panel {
  constructor(app, list) {
    this.app = app;
    this.list = list;
    this.rows = app.scene.header.groups.map((group, index) => this.row(group, index));
    for (const id of ["search", "sorting"]) byId(id).addEventListener("input", () => this.arrange());
    this.arrange();
  }

  /** Follow the search and the order that are asked for. */
  arrange() {
    const found = listed(this.app.scene.header.groups, byId("search").value, byId("sorting").value);
    this.found = new Set(found);
    this.list.append(...found.map((index) => this.rows[index]));
    this.update();
  }

  row(group, index) {
    const { app } = this, name = groupName(group);
    const shown = element("input", { type: "checkbox", checked: true, ariaLabel: `show ${name}` });
    shown.addEventListener("change", () => app.setHidden(index, !shown.checked));
    const swatch = element("span", { className: "swatch" });
    for (const name of ["color", "mark"]) swatch.style.setProperty(`--${name}`, `rgb(${group[name]})`);
    const title = `group ${group.id}: ${group.count} Gaussians`, text = element("span", { className: "text" }, name);
    const label = element("button", { type: "button", className: "name", title }, swatch, text);
    label.addEventListener("click", (event) => {
      const more = event.shiftKey || event.ctrlKey || event.metaKey;
      app.select(!more && app.selection.size === 1 && index === app.selected ? -1 : index, more);
    });
    label.addEventListener("dblclick", () => app.focusGroup(index));
    const size = element("small", {}, sizeText(group.size));
    const facts = element("span", { className: "share" }, percent(group.share), size);
    const row = element("li", {}, shown, label, facts);
    row.addEventListener("pointerenter", () => app.hover(index));
    row.addEventListener("pointerleave", () => app.hover(-1));
    return row;
  }

  update() {
    const { hovered, selection, hidden, gone, locked } = this.app;
    this.rows.forEach((row, index) => {
      row.classList.toggle("hovered", index === hovered);
      row.classList.toggle("selected", selection.has(index));
      row.classList.toggle("hidden", !!hidden[index]);
      row.classList.toggle("locked", !!locked[index]);
      row.hidden = gone[index] || !this.found.has(index);
      row.firstChild.checked = !hidden[index];
    });
  }

  reveal(index) {
    this.rows[index]?.scrollIntoView({ block: "nearest" });
  }
}
