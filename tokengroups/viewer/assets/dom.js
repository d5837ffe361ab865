// Elements of the page.

export const byId = (id) => document.getElementById(id);

/** Show a message over the picture; "" takes it away. */
export function say(text) {
  byId("message").textContent = text;
}

/** New element; text among its children is text, never HTML. */
export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** New element of an SVG. */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(byId("overlay").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Let the browser save a file: a text, or a Blob. */
export function download(name, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content])), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
