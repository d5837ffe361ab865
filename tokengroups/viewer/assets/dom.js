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
