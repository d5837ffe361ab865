// Where one looks from. A view is an immutable object: rotation (camera from world, 9 numbers: rows right, down,
// forward), eye, distance to the point that it turns about, and lens (fx fy cx cy width height of the picture to see).
import { add, apply3, applyTransposed3, dot, multiply3, rotationAbout, scaled } from "./maths.js";

const STEEPEST = 0.995; // cosine between up and the viewing direction
const CLOSEST = 1e-3; // of the distance at the start

/** Camera that shows the whole picture of a view's lens, as large as it fits, in the middle of a canvas. */
export function cameraFor({ rotation, eye, lens }, width, height) {
  const zoom = Math.min(width / lens.width, height / lens.height);
  const middle = (centre, side, whole) => (whole - side * zoom) / 2 + centre * zoom;
  return {
    rotation, translation: scaled(apply3(rotation, eye), -1), eye, width, height,
    fx: lens.fx * zoom, fy: lens.fy * zoom,
    cx: middle(lens.cx, lens.width, width), cy: middle(lens.cy, lens.height, height),
  };
}

/** Point that a view turns about. */
export const focusOf = ({ rotation, eye, distance }) => add(eye, scaled(rotation.slice(6), distance));

/** Turn about the focus: `yaw` about the up axis, `pitch` about the picture's horizontal; radians. */
export function orbit(view, yaw, pitch, up) {
  const focus = focusOf(view), forward = view.rotation.slice(6), right = view.rotation.slice(0, 3);
  const turned = applyTransposed3(rotationAbout(right, -pitch), forward), level = dot(turned, up);
  const tooSteep = Math.abs(level) > STEEPEST && Math.abs(level) > Math.abs(dot(forward, up));
  let rotation = multiply3(view.rotation, rotationAbout(up, -yaw));
  if (!tooSteep) rotation = multiply3(rotationAbout([1, 0, 0], pitch), rotation);
  return { ...view, rotation, eye: add(focus, scaled(rotation.slice(6), -view.distance)) };
}

/** Turn on the spot. */
export function look(view, yaw, pitch, up) {
  return { ...orbit({ ...view, distance: 0 }, yaw, pitch, up), distance: view.distance };
}

/** Shift by camera axes (right, down, forward), in units of the distance to the focus. */
export function shift(view, offset) {
  return { ...view, eye: add(view.eye, scaled(applyTransposed3(view.rotation, offset), view.distance)) };
}

/** Come nearer to the focus (`factor` below 1) or go away from it. */
export function dolly(view, factor, start) {
  const distance = Math.max(view.distance * factor, CLOSEST * start);
  return { ...view, distance, eye: add(focusOf(view), scaled(view.rotation.slice(6), -distance)) };
}

/** Look at a point from the same direction and distance. */
export function focusOn(view, point) {
  return { ...view, eye: add(point, scaled(view.rotation.slice(6), -view.distance)) };
}

/** A view's eye, and the corners of its picture at a depth: clockwise from the upper left. */
export function frustumPoints({ rotation, eye, lens: { fx, fy, cx, cy, width, height } }, depth) {
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([x, y]) => [(x - cx) / fx, (y - cy) / fy, 1]);
  return [eye, ...corners.map((ray) => add(eye, scaled(applyTransposed3(rotation, ray), depth)))];
}

/** The file that `tokengroups render --camera FILE --video out.mp4` films: views in pictures of one size. */
export function pathFile({ origin }, unit, views, width, height) {
  const viewpoints = views.map((view, k) => {
    const { rotation: r, fx, fy, cx, cy } = cameraFor(view, width, height);
    const shift = apply3(r, scaled(add(view.eye, origin), -unit));
    const rows = [0, 1, 2].map((i) => [...r.slice(3 * i, 3 * i + 3), shift[i]]);
    return { name: `view ${k + 1}`, width, height, fx, fy, cx, cy, cam_from_world: [...rows, [0, 0, 0, 1]] };
  });
  const path = { format: "tokengroups.path", version: 1, seconds: 2 * Math.max(views.length - 1, 1), closed: false };
  return JSON.stringify({ ...path, viewpoints }, null, 1);
}
