// Splats of one camera on the CPU, and what shows at a pixel: the renderer's maths once more, to pick groups.
import { fromHalf, rotationFromQuaternion, unpackQuaternion } from "./maths.js";
import { MIN_ALPHA, WORDS } from "./packed.js";

const BLUR = 0.3, MAX_ALPHA = 0.999, MIN_TRANSMITTANCE = 1e-4, MAX_DETERMINANT = 1e30;
export const GROUP_ALPHA = 0.5; // a pixel shows a group where at least this much is covered
const FIELDS = 10; // of a projected splat: x y ux uy vy opacity extent_x extent_y depth index

/** Limits of x / z and y / z in the projection's Jacobian: 0.3 of half the field of view beyond the picture. */
export function jacobianLimits({ fx, fy, cx, cy, width, height }) {
  const x = (0.15 * width) / fx, y = (0.15 * height) / fy;
  return { low: [-cx / fx - x, -cy / fy - y], high: [(width - cx) / fx + x, (height - cy) / fy + y] };
}

/**
 * Project the first `count` splats of `order` into a camera, near to far; those that touch the picture only.
 *
 * @param scene unpacked scene
 * @param matrices 12 numbers a group: rows of the 3x4 matrix that moves it
 * @param camera rotation (9), translation (3), fx, fy, cx, cy, width, height; world relative to the scene's origin
 */
export function projectSplats(scene, matrices, camera, order, count) {
  const { words } = scene, floats = new Float32Array(words.buffer), unit = scene.header.scale_unit;
  const { rotation: r, translation: t, fx, fy, cx, cy, width, height } = camera, { low, high } = jacobianLimits(camera);
  const out = new Float64Array(FIELDS * count), quaternion = [0, 0, 0, 0], turn = new Array(9);
  const view = new Float64Array(12), m = new Float64Array(9), p = new Float64Array(6);
  let splats = 0, last = -1;
  for (let k = 0; k < count; k++) {
    const i = order[k], w = WORDS * i, group = words[w + 7] >>> 16;
    if (group !== last) composeView(view, r, t, matrices, 12 * (last = group));
    const px = floats[w], py = floats[w + 1], pz = floats[w + 2];
    const x = view[0] * px + view[1] * py + view[2] * pz + view[3];
    const y = view[4] * px + view[5] * py + view[6] * pz + view[7];
    const z = view[8] * px + view[9] * py + view[10] * pz + view[11];
    rotationFromQuaternion(unpackQuaternion(words[w + 3], quaternion), turn);
    const scales = [fromHalf(words[w + 4]) * unit, fromHalf(words[w + 4] >>> 16) * unit, fromHalf(words[w + 5]) * unit];
    for (let a = 0; a < 3; a++) {
      const v = 4 * a;
      for (let b = 0; b < 3; b++) m[3 * a + b] = (view[v] * turn[b] + view[v + 1] * turn[3 + b] + view[v + 2] * turn[6 + b]) * scales[b];
    }
    const tx = Math.min(high[0], Math.max(low[0], x / z)), ty = Math.min(high[1], Math.max(low[1], y / z));
    for (let b = 0; b < 3; b++) p[b] = (fx / z) * (m[b] - tx * m[6 + b]), p[3 + b] = (fy / z) * (m[3 + b] - ty * m[6 + b]);
    let xx = p[0] * p[0] + p[1] * p[1] + p[2] * p[2], yy = p[3] * p[3] + p[4] * p[4] + p[5] * p[5];
    const xy = p[0] * p[3] + p[1] * p[4] + p[2] * p[5];
    const c0 = p[1] * p[5] - p[2] * p[4], c1 = p[2] * p[3] - p[0] * p[5], c2 = p[0] * p[4] - p[1] * p[3];
    const determinant = c0 * c0 + c1 * c1 + c2 * c2 + BLUR * (xx + yy + BLUR); // by Lagrange's identity: needles keep digits
    xx += BLUR, yy += BLUR;
    const opacity = fromHalf(words[w + 5] >>> 16), reach = Math.sqrt(2 * Math.log(opacity / MIN_ALPHA));
    const u = (fx * x) / z + cx, v = (fy * y) / z + cy, ex = reach * Math.sqrt(xx), ey = reach * Math.sqrt(yy);
    if (!(u + ex > 0 && u - ex < width && v + ey > 0 && v - ey < height && determinant <= MAX_DETERMINANT)) continue;
    const ux = Math.sqrt(yy / determinant);
    out.set([u, v, ux, (-ux * xy) / yy, 1 / Math.sqrt(yy), opacity, ex, ey, z, i], FIELDS * splats++);
  }
  return out.subarray(0, FIELDS * splats);
}

/** Camera-from-group, 3x4: the camera's pose after the group's matrix. */
function composeView(out, rotation, translation, matrices, start) {
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 4; j++) {
      out[4 * i + j] = j === 3 ? translation[i] : 0;
      for (let k = 0; k < 3; k++) out[4 * i + j] += rotation[3 * i + k] * matrices[start + 4 * k + j];
    }
  }
}

/**
 * Composite what lies at the point (x, y) of the picture, the centre of its first pixel being (0.5, 0.5).
 *
 * @returns alpha, depth (mean z, 0 where nothing is), and group: index of the one with the largest weight, -1 where less
 *   than half is covered. Weights of soft groups are split between the two most probable ones.
 */
export function pickAt(scene, splats, x, y) {
  const { words, shares } = scene, weights = new Map();
  const give = (group, weight) => weights.set(group, (weights.get(group) ?? 0) + weight);
  let transmittance = 1, alpha = 0, depth = 0;
  for (let s = 0; s < splats.length; s += FIELDS) {
    const dx = x - splats[s], dy = y - splats[s + 1];
    if (Math.abs(dx) > splats[s + 6] || Math.abs(dy) > splats[s + 7]) continue;
    const p = splats[s + 2] * dx + splats[s + 3] * dy, q = splats[s + 4] * dy;
    const a = Math.min(MAX_ALPHA, splats[s + 5] * Math.exp(-0.5 * (p * p + q * q)));
    if (a < MIN_ALPHA) continue;
    const next = transmittance * (1 - a), index = splats[s + 9], group = words[WORDS * index + 7] >>> 16;
    if (next <= MIN_TRANSMITTANCE) break;
    const weight = a * transmittance;
    if (shares) {
      give(group, (weight * (shares[3 * index + 2] >> 4)) / 15);
      give(shares[3 * index] | (shares[3 * index + 1] << 8), (weight * (shares[3 * index + 2] & 15)) / 15);
    } else give(group, weight);
    alpha += weight, depth += weight * splats[s + 8], transmittance = next;
  }
  let group = -1, most = 0;
  for (const [index, weight] of weights) if (weight > most || (weight === most && index < group)) (group = index), (most = weight);
  return { alpha, depth: alpha > 0 ? depth / alpha : 0, group: alpha < GROUP_ALPHA ? -1 : group };
}
