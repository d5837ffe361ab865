// Numbers and rotations. Matrices are row-major arrays; conventions are those of CONVENTIONS.md.

const halves = halfTable();

/** Value of a half-precision number given by its 16 bits. */
export function fromHalf(bits) {
  return halves[bits & 0xffff];
}

function halfTable() {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    let value = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
    if (exponent === 31) value = mantissa ? NaN : Infinity;
    table[bits] = bits & 0x8000 ? -value : value;
  }
  return table;
}

/** Unit quaternion w x y z of its packed 32 bits, written into `out`. */
export function unpackQuaternion(bits, out) {
  const largest = bits >>> 30;
  let rest = 1;
  for (let k = 0, shift = 20; k < 4; k++) {
    if (k === largest) continue;
    out[k] = (((bits >>> shift) & 1023) - 511) / (511 * Math.SQRT2);
    rest -= out[k] * out[k];
    shift -= 10;
  }
  out[largest] = Math.sqrt(Math.max(rest, 0));
  return out;
}

/** Rotation matrix of a unit quaternion w x y z, written into `out`. */
export function rotationFromQuaternion([w, x, y, z], out = new Array(9)) {
  out[0] = 1 - 2 * (y * y + z * z), out[1] = 2 * (x * y - w * z), out[2] = 2 * (x * z + w * y);
  out[3] = 2 * (x * y + w * z), out[4] = 1 - 2 * (x * x + z * z), out[5] = 2 * (y * z - w * x);
  out[6] = 2 * (x * z - w * y), out[7] = 2 * (y * z + w * x), out[8] = 1 - 2 * (x * x + y * y);
  return out;
}

/** Rotation by an angle in radians about a unit axis. */
export function rotationAbout([x, y, z], angle) {
  const s = Math.sin(angle / 2);
  return rotationFromQuaternion([Math.cos(angle / 2), x * s, y * s, z * s]);
}

export function multiply3(a, b) {
  const out = new Array(9).fill(0);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  }
  return out;
}

export function apply3(m, v) {
  return [0, 3, 6].map((i) => m[i] * v[0] + m[i + 1] * v[1] + m[i + 2] * v[2]);
}

/** Product with the transposed matrix: the inverse of a rotation. */
export function applyTransposed3(m, v) {
  return [0, 1, 2].map((i) => m[i] * v[0] + m[i + 3] * v[1] + m[i + 6] * v[2]);
}

export const add = (a, b) => a.map((value, i) => value + b[i]);
export const scaled = (a, factor) => a.map((value) => value * factor);
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const normalised = (a) => scaled(a, 1 / Math.hypot(...a));
