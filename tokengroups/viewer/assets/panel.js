// The list of groups beside the picture. Names come from files: they are text, never HTML.
import { byId, copyOf } from "./dom.js";
import { growth } from "./edits.js";
import { scaled } from "./maths.js";
import { fits, groupName, listed, percent, sizeText } from "./objects.js";

export class Panel {
  constructor(app) {
    this.app = app;
    byId("search").oninput = () => app.light([]);
    byId("search").onkeydown = ({ key, target }) => {
      if (key !== "Enter") return;
      app.focus(); // the next key is a command again
      app.query(target.value);
    };
    byId("sorting").oninput = () => this.arrange();
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
    const { app } = this, { id, picture } = group, row = copyOf("row"), name = groupName(group);
    const set = (selector, properties) => Object.assign(row.querySelector(selector), properties);
    Object.assign(row, { onpointerenter: () => app.hover(id), onpointerleave: () => app.hover(null) });
    for (const kind of ["color", "mark"]) row.style.setProperty(`--${kind}`, `rgb(${group[kind]})`);
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
    const { members, state } = app.editor, size = scaled(group.size, state.unit * growth(members(id)));
    set("small", { textContent: sizeText(size) });
    return row;
  }

  update() {
    const { groups, hovered, selection, hidden, locked, lit } = this.app, text = byId("search").value;
    for (const [id, row] of this.rows) {
      const group = groups.get(id), share = lit.size ? lit.get(id) ?? 0 : group.share;
      row.classList.toggle("hovered", id === hovered);
      row.classList.toggle("selected", selection.has(id));
      row.classList.toggle("locked", locked.has(id));
      row.hidden = !lit.size && !fits(group, text);
      row.querySelector("input").checked = !hidden.has(id);
      row.querySelector(".percent").textContent = percent(share);
    }
  }

  reveal(id) {
    this.rows.get(id)?.scrollIntoView({ block: "nearest" });
  }
}
