// Where one looks from, immutable: rotation (camera from world: rows right, down, forward), eye, distance to the focus
// that it turns about, and lens (fx fy cx cy width height of the picture to see).
import { add, along, applyTransposed3, dot, multiply3, rotationAbout, rowsOf, scaled } from "./maths.js";

const STEEPEST = 0.995; // cosine between up and forward
const CLOSEST = 1e-3; // of the distance at the start

// Camera with all of the lens's picture, as large as it fits, in the middle of a canvas.
export function cameraFor({ rotation, eye, lens }, width, height) {
	const zoom = Math.min(width / lens.width, height / lens.height);
	return {
		rotation, eye, width, height, fx: lens.fx * zoom, fy: lens.fy * zoom,
		cx: width / 2 + (lens.cx - lens.width / 2) * zoom, cy: height / 2 + (lens.cy - lens.height / 2) * zoom,
	};
}

export const focusOf = ({ rotation, eye, distance }) => along(eye, rotation.slice(6), distance);

export const focusOn = (view, point) => ({ ...view, eye: along(point, view.rotation.slice(6), -view.distance) });

// Turn about the focus, in radians: `yaw` about the up axis, `pitch` about the picture's horizontal.
export function orbit(view, yaw, pitch, up) {
	const turned = multiply3(view.rotation, rotationAbout(up, -yaw));
	const tipped = multiply3(rotationAbout([1, 0, 0], pitch), turned);
	const steepness = (rotation) => Math.abs(dot(rotation.slice(6), up));
	const tooSteep = steepness(tipped) > Math.max(STEEPEST, steepness(turned));
	return focusOn({ ...view, rotation: tooSteep ? turned : tipped }, focusOf(view));
}

export const look = (view, ...turn) => ({ ...orbit({ ...view, distance: 0 }, ...turn), distance: view.distance });

// Shift along right, down, forward, in units of the distance.
export const shift = (view, offset) =>
	({ ...view, eye: along(view.eye, applyTransposed3(view.rotation, offset), view.distance) });

// Come nearer to the focus (`factor` below 1), or go away.
export const dolly = (view, factor, start) =>
	focusOn({ ...view, distance: Math.max(view.distance * factor, CLOSEST * start) }, focusOf(view));

// For `tokengroups render --camera`.
export function pathFile({ origin, film }, unit, views) {
	const viewpoints = views.map((view) => {
		const { rotation, eye, ...camera } = cameraFor(view, ...film), place = scaled(add(eye, origin), unit);
		const rows = rowsOf(rotation).map((row) => [...row, -dot(row, place)]);
		return { ...camera, cam_from_world: [...rows, [0, 0, 0, 1]] };
	});
	const seconds = 2 * Math.max(views.length - 1, 1);
	return JSON.stringify({ format: "tokengroups.path", version: 1, seconds, closed: false, viewpoints });
}
