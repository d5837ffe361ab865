// What a served page tells its server, and hears from it. Orders go one after the other; docs/view.md has the protocol.
import { unpack } from "./packed.js";

const AGAIN_MS = 2000; // between attempts to reach a server that is gone
const GONE = "The server is gone. The edits stay in this page until it is back.";
const editsOf = (steps) => steps.map(({ edits }) => edits);

export class Link {
  constructor(editor) {
    const version = Number(document.documentElement.dataset.version); // of the scene in the page
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

  /** Do something when all orders before are answered. */
  after(task) {
    this.waiting++;
    const failed = (error) => this.editor.note(this.lost ? GONE : error.message);
    const done = () => {
      if (!--this.waiting && this.behind) this.refresh();
    };
    return (this.queue = this.queue.then(task).catch(failed).finally(done));
  }

  /** Ask, or send an order for the present version; the answer has what was wrong as its `error`. */
  async ask(path, order) {
    const body = order && JSON.stringify({ version: this.version, ...order });
    const options = order && { method: "POST", body, headers: { "Content-Type": "application/json" } };
    try {
      return await (await fetch(path, options)).json();
    } catch (error) {
      this.lose();
      throw error;
    }
  }

  /** Send an order, and show what becomes of it. */
  send(path, order = {}) {
    return this.after(async () => {
      if (this.lost) return; // all is sent when the server is back
      const answer = await this.ask(path, order);
      if (!answer.error) return this.adopt(answer);
      await this.adopt(await this.ask("state"));
      const choices = { "Do it all the same": () => this.send(path, order), "Leave it": () => {} };
      this.editor.note(answer.error, answer.choices ? choices : {});
    });
  }

  /** Look at the server's state, unless the page has seen that version. */
  refresh(version) {
    return this.after(async () => {
      if (version === this.version && !this.lost && !this.behind) return;
      const state = await this.ask("state"), { steps, done } = this.editor.history, theirs = editsOf(state.steps);
      const first = steps.findIndex((step, k) => JSON.stringify(step) !== JSON.stringify(theirs[k]));
      const mine = first < 0 || !this.lost ? [] : steps.slice(first, done);
      const adopt = () => this.after(() => this.adopt(state));
      if (!mine.length) return this.adopt(state);
      this.editor.note(`The server is back, without your last edits (${mine.length}).`, {
        "Send them": () => adopt().then(() => mine.forEach((edits) => this.send("edit", { edits }))),
        "Drop them": adopt,
      });
    });
  }

  /** Show a state of the server; its scene is fetched where the page cannot make it. */
  async adopt(state) {
    const { editor } = this, steps = editsOf(state.steps);
    Object.assign(this, { version: state.version, lost: false });
    this.behind = this.waiting > 1; // a later answer has it all
    if (this.behind) return;
    const history = { steps: [...steps, ...editsOf(state.undone).reverse()], done: steps.length };
    if (state.source !== this.source || !editor.outcome(history)) {
      const response = await fetch("scene"), version = Number(response.headers.get("Tokengroups-Version"));
      if (version !== state.version) return this.adopt(await this.ask("state"));
      editor.take(unpack(new Uint8Array(await response.arrayBuffer())), steps);
      this.source = state.source;
    }
    editor.unsaved = false;
    editor.follow(history, state.command);
    const again = { "Read it again, without the edits": () => this.send("reload") };
    if (state.file_changed) editor.note("The scene's file has changed on the disk.", again);
  }

  /** Write a scene, another format, or without an ending a folder of the groups' PLY files. */
  save(name, more) {
    return this.after(async () => {
      const { error, choices, files } = await this.ask("save", { name, groups: !name.includes("."), ...more });
      const replace = { "Replace it": () => this.save(name, { replace: true }) };
      const wrote = error ?? `Wrote ${files[0]}${files[1] ? " and others" : ""}.`;
      this.editor.note(wrote, choices?.includes("replace") ? replace : {});
    });
  }
}
