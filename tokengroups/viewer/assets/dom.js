export const byId = (id) => document.getElementById(id);

// Show a text, never HTML; style.css hides most elements while they are empty.
export const say = (id, text) => (byId(id).textContent = text);

export const create = (tag, properties) => Object.assign(document.createElement(tag), properties);

export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

// Save a text or a Blob as a file.
export function download(name, content) {
	const href = URL.createObjectURL(new Blob([content]));
	create("a", { href, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(href), 60000);
}
