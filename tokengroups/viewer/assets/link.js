// What a served page tells its server and hears from it, one order after the other; docs/view.md has the protocol.
import { byId } from "./dom.js";
import { unpack } from "./packed.js";

const AGAIN_MS = 2000;
const GONE = "The server is gone. The edits stay in this page until it is back.";
const OUTDATED = /^The (server is back|scene's file)/; // notes, by the next state
const editsOf = (steps) => steps.map(({ edits }) => edits);

export class Link {
	constructor(editor) {
		const version = Number(document.documentElement.dataset.version);
		Object.assign(this, { editor, version, waiting: 0, queue: Promise.resolve() });
		this.after(async () => {
			const state = await this.ask("state");
			if (state.version === version) this.source = state.source, (editor.baked = editsOf(state.steps));
			await this.adopt(state);
		});
		this.listen();
		addEventListener("focus", () => this.refresh());
	}

	listen() {
		const events = new WebSocket(new URL("events", location.href.replace(/^http/, "ws")));
		events.onmessage = ({ data }) => this.refresh(JSON.parse(data).version);
		events.onclose = () => {
			this.lose();
			setTimeout(() => this.listen(), AGAIN_MS);
		};
	}

	lose() {
		const { editor } = this;
		if (!this.lost) editor.note(GONE);
		this.lost = true;
		editor.unsaved = editor.history.done > 0;
	}

	// Do something once the orders before are answered.
	after(task) {
		this.waiting++;
		const failed = ({ message }) => this.editor.note(this.lost ? GONE : message);
		return (this.queue = this.queue.then(task).catch(failed).finally(() => {
			if (!--this.waiting && this.behind) this.refresh();
		}));
	}

	ask(path, order) {
		const body = JSON.stringify({ version: this.version, ...order });
		const options = order && { method: "POST", body, headers: { "Content-Type": "application/json" } };
		return fetch(path, options).then((response) => response.json()).catch((error) => {
			this.lose();
			throw error;
		});
	}

	send(path, { version, ...order } = {}) {
		return this.after(async () => {
			if (this.lost) return; // sent when the server is back
			const { editor } = this;
			this.before = editor.app.groups; // what is new is selected
			const { error, choices, ...state } = await this.ask(path, { ...order, version: version ?? this.version });
			await this.adopt(error ? await this.ask("state") : state);
			const again = { "Do it all the same": () => this.send(path, order), "Leave it": () => {} };
			if (error) editor.note(error, choices && again);
		});
	}

	// Look at the server's state; edits that it lacks are asked about, or given to `use`.
	refresh(version, use) {
		return this.after(async () => {
			if (version === this.version && !this.lost && !this.behind) return;
			const state = await this.ask("state"), { steps, done } = this.editor.history;
			const mine = steps.slice(0, done), theirs = editsOf(state.steps);
			while (mine.length && JSON.stringify(mine[0]) === JSON.stringify(theirs.shift())) mine.shift();
			if (!this.lost || !mine.length || use) return this.adopt(state).then(() => use && mine.forEach(use));
			this.editor.note(`The server is back, without your last edits (${mine.length}).`, {
				"Send them": () => this.refresh(null, (edits) => this.send("edit", { edits })),
				"Drop them": () => this.refresh(null, () => {}),
			});
		});
	}

	// Show a state of the server; fetch its scene where the page cannot make it.
	async adopt(state) {
		const { editor } = this, { version, source } = state, steps = editsOf(state.steps);
		Object.assign(this, { version, lost: false, behind: this.waiting > 1 });
		if (this.behind) return; // a later answer has it all
		const history = { steps: [...steps, ...editsOf(state.undone).reverse()], done: steps.length };
		if (source !== this.source || !editor.outcome(history)) {
			const response = await fetch("scene"), sent = Number(response.headers.get("Tokengroups-Version"));
			if (sent !== version) return this.adopt(await this.ask("state"));
			editor.take(unpack(new Uint8Array(await response.arrayBuffer())), steps);
			this.source = source;
		}
		editor.unsaved = false;
		if (OUTDATED.test(byId("note").textContent)) editor.note("");
		editor.follow(history, state.command);
		if (this.before) editor.chooseNew(this.before);
		this.before = null;
		const again = { "Read it again, without the edits": () => this.send("reload", { version }) };
		if (state.file_changed) editor.note("The scene's file has changed on the disk.", again);
	}

	// Without an ending: a folder of PLY files.
	save(name, more) {
		return this.after(async () => {
			const { error, choices, files } = await this.ask("save", { name, groups: !name.includes("."), ...more });
			const replace = { "Replace it": () => this.save(name, { replace: true }) };
			const wrote = error ?? `Wrote ${files[0]}${files[1] ? " and others" : ""}.`;
			this.editor.note(wrote, choices?.includes("replace") && replace);
		});
	}
}
