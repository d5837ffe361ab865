// The list of groups beside the picture. Names come from files: they are text, never HTML.
import { element } from "./dom.js";

export const groupName = (group) => group.name || `group ${group.id}`;

export function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

export class Panel {
  constructor(app, list) {
    this.app = app;
    const { groups } = app.scene.header;
    const byShare = (a, b) => groups[b].share - groups[a].share || groups[a].id - groups[b].id;
    const order = groups.map((_, index) => index).sort(byShare);
    this.rows = new Array(groups.length);
    list.append(...order.map((index) => (this.rows[index] = this.row(groups[index], index))));
  }

  row(group, index) {
    const { app } = this, name = groupName(group);
    const shown = element("input", { type: "checkbox", checked: true, ariaLabel: `show ${name}` });
    shown.addEventListener("change", () => app.setHidden(index, !shown.checked));
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = `rgb(${group.color})`;
    const title = `group ${group.id}: ${group.count} Gaussians`, text = element("span", { className: "text" }, name);
    const label = element("button", { type: "button", className: "name", title }, swatch, text);
    label.addEventListener("click", (event) => {
      const more = event.shiftKey || event.ctrlKey || event.metaKey;
      app.select(!more && app.selection.size === 1 && index === app.selected ? -1 : index, more);
    });
    label.addEventListener("dblclick", () => app.focusGroup(index));
    const row = element("li", {}, shown, label, element("span", { className: "share" }, percent(group.share)));
    row.addEventListener("pointerenter", () => app.hover(index));
    row.addEventListener("pointerleave", () => app.hover(-1));
    return row;
  }

  update() {
    const { hovered, selection, hidden, gone } = this.app;
    this.rows.forEach((row, index) => {
      row.classList.toggle("hovered", index === hovered);
      row.classList.toggle("selected", selection.has(index));
      row.classList.toggle("hidden", !!hidden[index]);
      row.hidden = !!gone[index];
      row.firstChild.checked = !hidden[index];
    });
  }

  reveal(index) {
    this.rows[index]?.scrollIntoView({ block: "nearest" });
  }
}
