// Elements of the page.

export const byId = (id) => document.getElementById(id);

/** Show a text, never HTML, in the element of that name; style.css hides most of them while they are empty. */
export function say(id, text) {
  byId(id).textContent = text;
}

export const create = (tag, properties) => Object.assign(document.createElement(tag), properties);

/** Copy of what the template of that name holds. */
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Let the browser save a file: a text, or a Blob. */
export function download(name, content) {
  const href = URL.createObjectURL(new Blob([content]));
  create("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}
