import { add, along, apply3, applyTransposed3, dot, normalised, subtract, weighted } from "./maths.js";

const NEAR = 0.01;
// Arrow, plane and ring of axis k, in pixels along the axes k, k + 1, k + 2.
const SHAPES = [
	[[0, 0, 0], [84, 0, 0]],
	[[0, 22, 22], [0, 40, 22], [0, 40, 40], [0, 22, 40], [0, 22, 22]],
	Array.from({ length: 65 }, (_, i) => [0, 64 * Math.cos((i * Math.PI) / 32), 64 * Math.sin((i * Math.PI) / 32)]),
];

// Pixel x y and depth of a point; null unless before the camera.
export function project({ rotation, eye, fx, fy, cx, cy }, point) {
	const [x, y, z] = apply3(rotation, subtract(point, eye));
	return z > NEAR ? [(fx * x) / z + cx, (fy * y) / z + cy, z] : null;
}

// Ray through a pixel, in the world, of depth 1.
export const rayThrough = ({ rotation, fx, fy, cx, cy }, [x, y]) =>
	applyTransposed3(rotation, [(x - cx) / fx, (y - cy) / fy, 1]);

export const unproject = (camera, pixel, depth) => along(camera.eye, rayThrough(camera, pixel), depth);

// Where the ray through a pixel meets the plane through the centre; null where it hardly does.
export function onPlane(camera, centre, normal, pixel) {
	const ray = rayThrough(camera, pixel), slope = dot(ray, normal);
	const depth = dot(subtract(centre, camera.eye), normal) / slope;
	return Math.abs(slope) > 0.01 * Math.hypot(...ray) && depth > NEAR ? along(camera.eye, ray, depth) : null;
}

// Lines of the handles in pixels: arrows 0 to 2 along the frame's axes, planes 3 to 5 across, rings 6 to 8 about them,
// and 9, which scales; null where they are not in view.
export function handles(camera, centre, frame) {
	const middle = project(camera, centre);
	if (!middle) return null;
	const unit = middle[2] / camera.fx, away = add(middle, [66, 66, 0]);
	const lines = SHAPES.flatMap((shape) => frame.map((_, k) => {
		const axes = [...frame.slice(k), ...frame.slice(0, k)];
		return shape.map((lengths) => project(camera, along(centre, weighted(axes, lengths), unit)));
	}));
	return lines.flat().every(Boolean) ? [...lines, [away, away]] : null;
}

// Moves along axes, turns about them, and a factor.
export const AMOUNTS = ["right", "up", "forward", "turn right", "turn up", "turn forward", "scale"];

// What dragging a handle between two pixels asks for, by those names: lengths, degrees, a factor; null where it has no
// meaning. With `snap`, moves are multiples of it, turns of 15 degrees, factors of 0.1.
export function dragged(camera, centre, frame, handle, from, to, snap) {
	const rounded = (value, step) => (snap ? Math.round(value / step) * step : value), k = handle % 3;
	if (handle > 8) {
		const middle = project(camera, centre);
		const [before, now] = [from, to].map((pixel) => Math.hypot(...subtract(pixel, middle)));
		return before > 0 ? { scale: Math.max(rounded(now / before, 0.1), 0.01) } : null;
	}
	const axis = frame[k], ahead = subtract(centre, camera.eye);
	const facing = normalised(along(ahead, axis, -dot(ahead, axis))); // of planes along it, the one seen best
	const [start, end] = [from, to].map((pixel) => onPlane(camera, centre, handle < 3 ? facing : axis, pixel));
	if (!start || !end) return null;
	if (handle < 6) {
		const offset = subtract(end, start), move = (i) => [AMOUNTS[i], rounded(dot(offset, frame[i]), snap)];
		return Object.fromEntries((handle < 3 ? [k] : [0, 1, 2]).map(move));
	}
	// The frame is left-handed: right-handed turns go from axis k + 2 to k + 1.
	const angle = (point) => Math.atan2(...[1, 2].map((i) => dot(subtract(point, centre), frame[(k + i) % 3])));
	const turn = ((angle(end) - angle(start)) * 180) / Math.PI;
	return { [AMOUNTS[3 + k]]: rounded(turn - 360 * Math.round(turn / 360), 15) };
}
