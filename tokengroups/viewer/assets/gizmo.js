// Handles with which things are moved: where they lie in the picture, and what dragging them means.
import { add, apply3, applyTransposed3, cross, dot, normalised, scaled } from "./maths.js";

const NEAR = 0.01;
const ARROW = 84, RING = 60, PLANE = [22, 44]; // pixels of the screen
const RING_POINTS = 64;

/** Unit axes right, up, forward: level in the room, with `right` close to the world's x. */
export function frameOf(up) {
  const side = Math.abs(up[0]) < 0.9 ? [1, 0, 0] : [0, 0, 1], level = normalised(up);
  const right = normalised(add(side, scaled(level, -dot(side, level))));
  return [right, level, cross(level, right)];
}

/** Pixel (x, y) and depth of a point; null where it is not in front of the camera. */
export function project(camera, point) {
  const [x, y, z] = add(apply3(camera.rotation, point), camera.translation);
  return z > NEAR ? [(camera.fx * x) / z + camera.cx, (camera.fy * y) / z + camera.cy, z] : null;
}

/** Direction of the ray through a pixel, in the world, of depth 1. */
export function rayThrough(camera, [x, y]) {
  return applyTransposed3(camera.rotation, [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1]);
}

/** Point of the world that shows at a pixel in a depth. */
export const unproject = (camera, pixel, depth) => add(camera.eye, scaled(rayThrough(camera, pixel), depth));

/** Where along the line centre + t axis the ray through a pixel passes nearest; null where both are parallel. */
export function alongAxis(camera, centre, axis, pixel) {
  const ray = rayThrough(camera, pixel), from = add(camera.eye, scaled(centre, -1));
  const square = dot(ray, ray), slant = dot(ray, axis), rest = square - slant * slant;
  if (rest < 1e-4 * square) return null;
  return (slant * (slant * dot(from, axis) - dot(from, ray))) / rest + dot(from, axis);
}

/** Where the ray through a pixel meets the plane through the centre; null where it does not, or very obliquely. */
export function onPlane(camera, centre, normal, pixel) {
  const ray = rayThrough(camera, pixel), slope = dot(ray, normal);
  const depth = dot(add(centre, scaled(camera.eye, -1)), normal) / slope;
  return Math.abs(slope) > 0.01 * Math.hypot(...ray) && depth > NEAR ? unproject(camera, pixel, depth) : null;
}

/**
 * Lines of all handles in pixels: of the arrows "0" to "2" along the frame's axes, of the planes "3" to "5" across
 * them, and of the ring "turn". `ratio`: pixels in one of the screen. null where the centre is not in view.
 */
export function handles(camera, centre, frame, ratio = 1) {
  const middle = project(camera, centre);
  if (!middle) return null;
  const unit = (ratio * middle[2]) / camera.fx, lines = {};
  const at = (...lengths) => {
    const offset = lengths.map((length, k) => scaled(frame[k], length * unit)).reduce(add);
    return project(camera, add(centre, offset));
  };
  const [near, far] = PLANE, corners = [[near, near], [far, near], [far, far], [near, far]];
  for (let k = 0; k < 3; k++) {
    const from = (...lengths) => at(...[0, 1, 2].map((i) => lengths[(i - k + 3) % 3])); // along axes k, k + 1, k + 2
    lines[k] = [middle, from(ARROW, 0, 0)];
    lines[3 + k] = corners.map(([a, b]) => from(0, a, b));
  }
  lines.turn = Array.from({ length: RING_POINTS + 1 }, (_, i) => {
    const angle = (2 * Math.PI * i) / RING_POINTS;
    return at(RING * Math.cos(angle), 0, RING * Math.sin(angle));
  });
  return Object.values(lines).flat().every(Boolean) ? lines : null;
}

/**
 * What dragging a handle from one pixel to another asks for: { 0, 1, 2: along right, up, forward } or { turn: degrees
 * about up }; null where it has no meaning. With `snap`, moves are multiples of it and turns of 15 degrees.
 */
export function dragged(camera, centre, frame, handle, from, to, snap = 0) {
  const rounded = (value, step) => (snap ? Math.round(value / step) * step : value);
  if (handle === "turn") {
    const [start, end] = [from, to].map((pixel) => onPlane(camera, centre, frame[1], pixel));
    if (!start || !end) return null;
    // Right-handed about up: from right towards forward.
    const angle = (point) => {
      const arm = add(point, scaled(centre, -1));
      return Math.atan2(dot(arm, frame[2]), dot(arm, frame[0]));
    };
    const turn = ((angle(end) - angle(start)) * 180) / Math.PI;
    return { turn: rounded(turn - 360 * Math.round(turn / 360), 15) };
  }
  if (handle < 3) {
    const [start, end] = [from, to].map((pixel) => alongAxis(camera, centre, frame[handle], pixel));
    return start === null || end === null ? null : { [handle]: rounded(end - start, snap) };
  }
  const [start, end] = [from, to].map((pixel) => onPlane(camera, centre, frame[handle - 3], pixel));
  if (!start || !end) return null;
  const offset = add(end, scaled(start, -1));
  return Object.fromEntries([0, 1, 2].map((k) => [k, k === handle - 3 ? 0 : rounded(dot(offset, frame[k]), snap)]));
}
