import { add, scaled, subtract } from "./maths.js";
import { look, orbit, shift } from "./view.js";

const TURN = 3; // radians for a drag across the canvas's smaller side
const CLICK = 4; // pixels: less is no drag
const FLYING = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function listen(app) {
	pointers(app);
	keyboard(app);
}

// What lies under the pointer goes the same way.
function drag(app, movement, shifting, looking) {
	const { view, scene: { header: { frame: [, up] } } } = app, { width, height, fx } = app.screen();
	const [x, y] = scaled(movement, shifting ? -1 / fx : TURN / Math.min(width, height));
	if (shifting) app.setView(shift(view, [x, y, 0]));
	else app.setView(looking ? look(view, x / 2, -y / 2, up) : orbit(view, -x, y, up));
}

function pointers(app) {
	const { canvas, overlay } = app, held = new Map(); // where every finger or button is
	let moved = 0, corner = null; // of the box that is drawn
	const middle = () => scaled([...held.values()].reduce(add), 1 / held.size);
	const spread = ([a, b] = held.values()) => Math.hypot(...subtract(a, b));
	const placeOf = (event) => [event.offsetX, event.offsetY];
	canvas.onpointerdown = (event) => {
		canvas.setPointerCapture(event.pointerId);
		if (!held.size) moved = 0;
		const boxing = (event.ctrlKey || event.metaKey || app.cutting) && !event.button && !held.size;
		corner = boxing ? placeOf(event) : null;
		held.set(event.pointerId, placeOf(event));
		app.focus();
	};
	canvas.onpointermove = (event) => {
		const before = held.get(event.pointerId), place = placeOf(event);
		if (!before) return app.hoverAt(place);
		const start = middle(), several = held.size > 1, wide = several && spread();
		held.set(event.pointerId, place);
		moved += Math.hypot(...subtract(place, before));
		if (moved < CLICK) return;
		if (corner) return overlay.box(corner, place);
		drag(app, subtract(middle(), start), several || event.shiftKey || event.buttons & 6, event.altKey);
		if (several && spread() > 0) app.zoom(wide / spread());
	};
	canvas.onpointerup = canvas.onpointercancel = (event) => {
		const done = held.delete(event.pointerId) && event.type === "pointerup", end = [placeOf(event), event.shiftKey];
		if (done && corner && moved >= CLICK) overlay.enclose(corner, ...end);
		corner = null;
		overlay.box();
		if (done && moved < CLICK && !event.button) app.clickAt(...end);
	};
	canvas.onpointerleave = () => app.hover(null);
	canvas.oncontextmenu = (event) => event.preventDefault();
	canvas.onwheel = (event) => {
		event.preventDefault();
		const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
		app.zoom(Math.exp(Math.min(Math.max(pixels, -200), 200) / 500));
	};
}

function keyboard(app) {
	const down = new Set();
	let last = 0;
	const fly = (now) => {
		const { focus_depth: depth, frame: [, up] } = app.scene.header, step = Math.min((now - last) / 1000, 0.1);
		last = now;
		for (const key of down) { // flying is as fast near the focus as far from it
			const { view } = app, flown = FLYING[key];
			if (flown) app.setView(shift(view, scaled(flown, (step * depth) / view.distance)));
			else app.setView(orbit(view, ...scaled(ARROWS[key], step), up));
		}
		if (down.size) requestAnimationFrame(fly);
	};
	const nameOf = ({ key }) => (key.length === 1 ? key.toLowerCase() : key);
	addEventListener("keydown", (event) => {
		const { target, altKey, ctrlKey, metaKey, shiftKey } = event;
		if (altKey || target.closest("input:not([type=checkbox], [type=range]), select")) return;
		const key = (ctrlKey || metaKey ? `Ctrl-${shiftKey ? "Shift-" : ""}` : "") + nameOf(event);
		if (FLYING[key] || (ARROWS[key] && !target.closest("#panel, input"))) {
			if (!down.size) (last = performance.now()), requestAnimationFrame(fly);
			down.add(key);
		} else if (!app.command(key)) return;
		event.preventDefault();
	});
	addEventListener("keyup", (event) => down.delete(nameOf(event)));
	addEventListener("blur", () => down.clear());
}
