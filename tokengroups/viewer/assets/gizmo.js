// Handles with which things are moved: where they lie in the picture, and what dragging them means.
import { along, apply3, applyTransposed3, dot, subtract, weighted } from "./maths.js";

const NEAR = 0.01;
// Handles that belong to axis k, by pixels of the screen along the axes k, k + 1, k + 2: arrow, plane and ring.
const SHAPES = [
  [[0, 0, 0], [84, 0, 0]],
  [[0, 22, 22], [0, 40, 22], [0, 40, 40], [0, 22, 40], [0, 22, 22]],
  Array.from({ length: 65 }, (_, i) => [0, 64 * Math.cos((i * Math.PI) / 32), 64 * Math.sin((i * Math.PI) / 32)]),
];
const SCALER = 66; // pixels of the screen

/** Pixel (x, y) and depth of a point; null where it is not in front of the camera. */
export function project(camera, point) {
  const [x, y, z] = apply3(camera.rotation, subtract(point, camera.eye));
  return z > NEAR ? [(camera.fx * x) / z + camera.cx, (camera.fy * y) / z + camera.cy, z] : null;
}

/** Direction of the ray through a pixel, in the world, of depth 1. */
export function rayThrough(camera, [x, y]) {
  return applyTransposed3(camera.rotation, [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1]);
}

/** Point of the world that shows at a pixel in a depth. */
export const unproject = (camera, pixel, depth) => along(camera.eye, rayThrough(camera, pixel), depth);

/** Where along the line centre + t axis the ray through a pixel passes nearest; null where both are parallel. */
export function alongAxis(camera, centre, axis, pixel) {
  const ray = rayThrough(camera, pixel), from = subtract(camera.eye, centre);
  const square = dot(ray, ray), slant = dot(ray, axis), rest = square - slant * slant;
  if (rest < 1e-4 * square) return null;
  return (slant * (slant * dot(from, axis) - dot(from, ray))) / rest + dot(from, axis);
}

/** Where the ray through a pixel meets the plane through the centre; null where it does not, or very obliquely. */
export function onPlane(camera, centre, normal, pixel) {
  const ray = rayThrough(camera, pixel), slope = dot(ray, normal);
  const depth = dot(subtract(centre, camera.eye), normal) / slope;
  return Math.abs(slope) > 0.01 * Math.hypot(...ray) && depth > NEAR ? unproject(camera, pixel, depth) : null;
}

/**
 * Lines of all handles in pixels: of the arrows 0 to 2 along the frame's axes, the planes 3 to 5 across them, the rings
 * 6 to 8 about them, and of 9, which scales. `ratio`: pixels in one of the screen. null: the centre is not in view.
 */
export function handles(camera, centre, frame, ratio = 1) {
  const middle = project(camera, centre);
  if (!middle) return null;
  const unit = (ratio * middle[2]) / camera.fx;
  const lines = SHAPES.flatMap((shape) => frame.map((_, k) => {
    const axes = [0, 1, 2].map((i) => frame[(k + i) % 3]);
    return shape.map((lengths) => project(camera, along(centre, weighted(axes, lengths), unit)));
  }));
  const away = middle.map((value, i) => value + (i < 2 ? SCALER * ratio : 0));
  lines.push([away, away]);
  return lines.flat().every(Boolean) ? lines : null;
}

/** Names of what an edit by hand or by numbers has: moves along right, up, forward, turns about them, and a factor. */
export const AMOUNTS = ["right", "up", "forward", "turn right", "turn up", "turn forward", "scale"];

/**
 * What dragging a handle from one pixel to another asks for, by those names: lengths, degrees, a factor; null where it
 * has no meaning. With `snap`, moves are multiples of it, turns of 15 degrees, factors of 0.1.
 */
export function dragged(camera, centre, frame, handle, from, to, snap = 0) {
  const rounded = (value, step) => (snap ? Math.round(value / step) * step : value), k = handle % 3;
  if (handle > 8) {
    const [x, y] = project(camera, centre), [before, now] = [from, to].map(([u, v]) => Math.hypot(u - x, v - y));
    return before > 0 ? { scale: Math.max(rounded(now / before, 0.1), 0.01) } : null;
  }
  const across = handle > 2, meet = across ? onPlane : alongAxis;
  const [start, end] = [from, to].map((pixel) => meet(camera, centre, frame[k], pixel));
  if (start === null || end === null) return null;
  if (!across) return { [AMOUNTS[k]]: rounded(end - start, snap) };
  if (handle > 5) { // the frame is left-handed: right-handed turns go from axis k + 2 to k + 1
    const angle = (point) => Math.atan2(...[1, 2].map((i) => dot(subtract(point, centre), frame[(k + i) % 3])));
    const turn = ((angle(end) - angle(start)) * 180) / Math.PI;
    return { [AMOUNTS[3 + k]]: rounded(turn - 360 * Math.round(turn / 360), 15) };
  }
  const offset = subtract(end, start), along = (i) => (i === k ? 0 : rounded(dot(offset, frame[i]), snap));
  return Object.fromEntries([0, 1, 2].map((i) => [AMOUNTS[i], along(i)]));
}
