import { byId, copyOf, say } from "./dom.js";
import { AMOUNTS, dragged, handles, project, unproject } from "./gizmo.js";
import { add, along, subtract } from "./maths.js";
import { inBox } from "./objects.js";

const SHORTEST = 14, SMALLEST = 20; // pixels of arrow and plane: smaller ones are hidden

export class Overlay {
	constructor(app) {
		this.app = app;
		this.measured = []; // points relative to the scene's origin
		for (const handle of byId("gizmo").children) this.listen(handle);
	}

	update() {
		const { app } = this, { selected, editor, scene: { header } } = app, screen = app.screen();
		const lines = selected !== null && handles(screen, editor.centre(selected), header.frame);
		for (const handle of byId("gizmo").children) {
			const k = handle.dataset.handle, path = k < 3 ? arrowPath : k < 6 ? planePath : linePath;
			draw(handle, lines ? path(lines[k]) : "");
		}
		const points = this.measured.map((point) => project(screen, point)).filter(Boolean);
		byId("ruler").setAttribute("d", linePath(points));
		byId("ends").setAttribute("d", points.map((point) => linePath([point, point])).join(""));
		if (app.framed) this.drawCameras(screen, header.cameras);
	}

	// Drag a handle: the picture follows; released, it becomes a step of the edits.
	listen(handle) {
		const { app } = this, { editor } = app;
		const pixel = ({ clientX, clientY }, { left, top } = app.canvas.getBoundingClientRect()) =>
			[clientX - left, clientY - top];
		handle.onpointerdown = (event) => {
			if (event.button) return;
			handle.setPointerCapture(event.pointerId);
			app.focus();
			const { frame, snap } = app.scene.header, k = Number(handle.dataset.handle);
			const drag = [app.screen(), editor.centre(app.selected), frame, k, pixel(event)];
			this.amounts = {};
			handle.onpointermove = (moved) => {
				const inSteps = moved.ctrlKey || moved.shiftKey || moved.metaKey;
				const amounts = this.amounts && dragged(...drag, pixel(moved), inSteps && snap);
				if (!amounts) return;
				this.amounts = amounts;
				editor.preview(editor.step(amounts));
				say("amount", this.amountText(amounts));
			};
		};
		handle.onlostpointercapture = () => {
			const { amounts } = this;
			handle.onpointermove = this.amounts = null;
			say("amount", "");
			if (amounts) editor.edit(editor.step(amounts));
		};
		handle.onpointercancel = () => this.cancel();
	}

	cancel() {
		this.amounts = null;
		this.app.editor.preview();
		say("amount", "");
	}

	amountText(amounts) {
		const { state: { unit }, base: { header: { digits } } } = this.app.editor;
		return Object.entries(amounts).map(([name, value]) => {
			const [factor, places] = AMOUNTS.indexOf(name) < 3 ? [unit, digits - 1] : [1, 2];
			return `${name} ${+(value * factor).toFixed(places)}`;
		}).join(", ");
	}

	box(a, b) {
		byId("box").setAttribute("d", a ? `M${a}H${b[0]}V${b[1]}H${a[0]}Z` : "");
	}

	// Cut off what is in a box, or select groups by their centres.
	enclose(a, b, more) {
		const { app } = this, { editor, hidden, locked, selection, scene } = app, screen = app.screen();
		const inside = (point) => inBox(project(screen, point) ?? [], a, b);
		if (app.cutting) {
			app.command("b");
			editor.cut(({ place }) => inside(subtract(place, scene.header.origin)));
		} else {
			const free = [...app.groups.keys()].filter((id) => !hidden.has(id) && !locked.has(id));
			app.choose([...(more ? selection : []), ...free.filter((id) => inside(editor.centre(id)))]);
		}
	}

	// Take what shows at a place as an end of the measured line; without one, begin anew.
	measure(place) {
		const { app } = this, { alpha, depth } = place ? app.pickAt(place) : {};
		if (alpha < 0.5) return;
		if (!place || this.measured.length > 1) this.measured = [];
		if (place) this.measured.push(unproject(app.screen(), place, depth));
		const [a, b] = this.measured;
		this.distance = b && Math.hypot(...subtract(b, a));
		byId("length").hidden = !b;
		this.tellDistance();
		this.update();
	}

	tellDistance() {
		const { distance, measured, app: { editor, measuring } } = this;
		const hint = measuring ? `Click ${measured.length ? "the other point" : "two points"}` : "";
		say("amount", distance ? `Distance ${+(distance * editor.state.unit).toPrecision(4)}` : hint);
	}

	drawCameras(screen, cameras) {
		if (this.framed !== cameras) byId("cameras").replaceChildren(...cameras.map(this.pyramid, this));
		this.framed = cameras;
		[...byId("cameras").children].forEach((camera, k) => {
			const places = cameras[k].pyramid.map((point) => project(screen, point)), [tip, a, b, c, d] = places;
			if (camera.toggleAttribute("hidden", !places.every(Boolean))) return; // some of it is behind the eye
			draw(camera, linePath([a, b, c, d, a, tip, b, c, tip, d]));
			const map = [subtract(b, a), subtract(d, a), a].map(([x, y]) => [x, y]);
			camera.querySelector("image").setAttribute("transform", `matrix(${map})`);
		});
	}

	pyramid({ photo }, k) {
		const camera = copyOf("pyramid").firstElementChild, [title, , image] = camera.children;
		title.textContent = `photo ${k + 1}`;
		if (photo) image.setAttribute("href", photo);
		camera.onclick = () => this.app.showPhoto(k);
		return camera;
	}
}

const draw = (parent, line) => parent.querySelectorAll("path").forEach((path) => path.setAttribute("d", line));
const linePath = (points) =>
	points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function arrowPath([from, tip]) {
	const [x, y] = subtract(tip, from), length = Math.hypot(x, y), u = x / length, v = y / length;
	if (length < SHORTEST) return "";
	const barb = (side) => add(tip, [-9 * u - side * v, -9 * v + side * u]);
	return linePath([along(from, [u, v], 8), tip]) + linePath([barb(5), tip, barb(-5)]);
}

function planePath(line) {
	const [[x, y], [bx, by], , [dx, dy]] = line;
	return Math.abs((bx - x) * (dy - y) - (by - y) * (dx - x)) < SMALLEST ? "" : linePath(line);
}
