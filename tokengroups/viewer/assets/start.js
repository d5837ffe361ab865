import { App } from "./app.js";
import { byId, say } from "./dom.js";
import { fromBase64, gunzip, unpack } from "./packed.js";

async function openScene() {
	const { dataset } = document.documentElement, packed = byId("scene");
	try {
		if (!globalThis.DecompressionStream) throw new Error("This browser is too old for the page.");
		packed.remove();
		const app = new App(unpack(await gunzip(fromBase64(packed.textContent))));
		byId("blend").oninput = ({ target }) => (byId("still").style.clipPath = `inset(0 0 0 ${target.value}%)`);
		for (const each of document.querySelectorAll("[data-key]")) each.onclick = () => app.command(each.dataset.key);
		await app.settled();
		dataset.state = "ready";
		return app;
	} catch (error) {
		say("message", error.message);
		dataset.state = "failed";
		throw error;
	}
}

globalThis.tokengroups = openScene();
