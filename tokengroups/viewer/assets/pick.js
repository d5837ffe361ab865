// What shows at a pixel, on the CPU: the renderer's maths once more, for the few splats that lie near it.
import {
  along, applyTransposed3, cross, dot, fromHalf, rotationFromQuaternion, scaled, unpackQuaternion,
} from "./maths.js";
import { WORDS } from "./packed.js";

const MIN_ALPHA = 1 / 255; // fainter contributions are dropped
const BLUR = 0.3, MAX_ALPHA = 0.999, MIN_TRANSMITTANCE = 1e-4, MAX_DETERMINANT = 1e30;
const FARTHEST = Math.sqrt(2 * Math.log(1 / MIN_ALPHA)); // standard deviations at which an opaque splat ends
const GROUP_ALPHA = 0.5; // a pixel shows a group where at least this much is covered

/** Camera-from-group, 3x4, of every group: the camera's pose after the group's own matrix; 12 numbers each. */
export function groupViews({ rotation, eye }, matrices) {
  return Float64Array.from(matrices, (_, index) => {
    const row = Math.floor((index % 12) / 4), column = index % 4, start = index - 4 * row;
    let sum = 0;
    for (let k = 0; k < 3; k++) sum += rotation[3 * row + k] * (matrices[start + 4 * k] - (column === 3 ? eye[k] : 0));
    return sum;
  });
}

/** What shows where in one picture. Made once per view; every look then is fast. */
export class Picker {
  /**
   * @param scene unpacked scene
   * @param matrices 12 numbers a group: rows of the 3x4 matrix that moves it, a rotation times a scale and a shift
   * @param camera rotation (9), eye (3), fx, fy, cx, cy, width, height; world relative to the scene's origin
   * @param order splats from near to far, of which the first `count` are shown
   */
  constructor(scene, matrices, camera, order, count) {
    const { fx, fy, cx, cy, width, height } = camera, x = (0.15 * width) / fx, y = (0.15 * height) / fy;
    // Limits of x / z and y / z in the projection's Jacobian: 0.3 of half the field of view beyond the picture.
    const limits = { low: [-cx / fx - x, -cy / fy - y], high: [(width - cx) / fx + x, (height - cy) / fy + y] };
    Object.assign(this, { scene, camera, limits, views: groupViews(camera, matrices), order: order.slice(0, count) });
    this.bounds = this.bound();
  }

  /** Squares that hold the splats: 3 numbers each, the centre's x and y and half the side. */
  bound() {
    const { scene: { words, header }, order, views, camera: { fx, fy, cx, cy }, limits: { low, high } } = this;
    const floats = new Float32Array(words.buffer), bounds = new Float32Array(3 * order.length);
    const steepest = (k) => Math.hypot(1, Math.max(-low[k], high[k])); // row of the Jacobian, times z / f
    const focal = header.scale_unit * Math.max(fx * steepest(0), fy * steepest(1));
    for (let k = 0; k < order.length; k++) {
      const w = WORDS * order[k], v = 12 * (words[w + 7] >>> 16);
      const place = (r) =>
        views[r] * floats[w] + views[r + 1] * floats[w + 1] + views[r + 2] * floats[w + 2] + views[r + 3];
      const size = Math.max(fromHalf(words[w + 4]), fromHalf(words[w + 4] >>> 16), fromHalf(words[w + 5]));
      const z = place(v + 8);
      const grown = views[v] ** 2 + views[v + 4] ** 2 + views[v + 8] ** 2; // the same for all columns of a similarity
      bounds[3 * k] = (fx * place(v)) / z + cx;
      bounds[3 * k + 1] = (fy * place(v + 4)) / z + cy;
      bounds[3 * k + 2] = FARTHEST * Math.sqrt(grown * ((size * focal) / z) ** 2 + BLUR) + 0.01;
    }
    return bounds;
  }

  /** Projection of one splat: its centre x y, the Cholesky factor ux uy vy of its conic, and its depth. */
  project(index) {
    const { scene: { words, header }, views, camera: { fx, fy, cx, cy }, limits: { low, high } } = this;
    const w = WORDS * index, v = 12 * (words[w + 7] >>> 16), point = [...new Float32Array(words.buffer, 4 * w, 3), 1];
    const rows = [v, v + 4, v + 8].map((start) => views.subarray(start, start + 4));
    const [x, y, z] = rows.map((row) => dot(row, point));
    const scales = [words[w + 4], words[w + 4] >>> 16, words[w + 5]].map((bits) => fromHalf(bits) * header.scale_unit);
    const turn = rotationFromQuaternion(unpackQuaternion(words[w + 3]));
    const axes = rows.map((row) => applyTransposed3(turn, row).map((value, k) => value * scales[k]));
    const clamp = (value, k) => Math.min(high[k], Math.max(low[k], value));
    const a = scaled(along(axes[0], axes[2], -clamp(x / z, 0)), fx / z);
    const b = scaled(along(axes[1], axes[2], -clamp(y / z, 1)), fy / z);
    const xx = dot(a, a), yy = dot(b, b) + BLUR, xy = dot(a, b), area = cross(a, b);
    const determinant = dot(area, area) + BLUR * (xx + yy); // by Lagrange's identity: needles keep their digits
    const ux = determinant <= MAX_DETERMINANT ? Math.sqrt(yy / determinant) : NaN;
    return [(fx * x) / z + cx, (fy * y) / z + cy, ux, (-ux * xy) / yy, 1 / Math.sqrt(yy), z];
  }

  /**
   * Composite what lies at the point (x, y) of the picture, the centre of its first pixel being (0.5, 0.5).
   *
   * @returns alpha, depth (mean z, 0 where nothing is), and group: index of the one with the largest weight, -1 where
   *   less than half is covered. Weights of soft groups are split between the two most probable ones.
   */
  at(x, y) {
    const { scene: { words, shares }, order, bounds } = this, weights = new Map();
    const give = (group, weight) => weights.set(group, (weights.get(group) ?? 0) + weight);
    let transmittance = 1, alpha = 0, depth = 0;
    for (let k = 0, b = 0; k < order.length; k++, b += 3) {
      if (!(Math.abs(x - bounds[b]) < bounds[b + 2] && Math.abs(y - bounds[b + 1]) < bounds[b + 2])) continue;
      const index = order[k], w = WORDS * index, [cx, cy, ux, uy, vy, z] = this.project(index);
      const p = ux * (x - cx) + uy * (y - cy), q = vy * (y - cy);
      const a = Math.min(MAX_ALPHA, fromHalf(words[w + 5] >>> 16) * Math.exp(-0.5 * (p * p + q * q)));
      if (!(a >= MIN_ALPHA)) continue;
      if (transmittance * (1 - a) <= MIN_TRANSMITTANCE) break;
      const weight = a * transmittance, mixed = shares ? shares[3 * index + 2] : 0xf0; // shares of two groups, over 15
      give(words[w + 7] >>> 16, (weight * (mixed >> 4)) / 15);
      if (mixed & 15) give(shares[3 * index] | (shares[3 * index + 1] << 8), (weight * (mixed & 15)) / 15);
      alpha += weight, depth += weight * z, transmittance *= 1 - a;
    }
    const [group] = [...weights].reduce((best, each) => (each[1] > best[1] ? each : best), [-1, 0]);
    return { alpha, depth: alpha > 0 ? depth / alpha : 0, group: alpha < GROUP_ALPHA ? -1 : group };
  }
}
