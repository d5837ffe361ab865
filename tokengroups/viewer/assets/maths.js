// Numbers and rotations. Matrices are row-major arrays; see CONVENTIONS.md.

const halves = Float32Array.from({ length: 65536 }, (_, bits) => {
	const exponent = (bits >> 10) & 31, mantissa = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
	if (exponent === 31) return mantissa ? NaN : sign * Infinity;
	return sign * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24);
});

// Half-precision number, given its bits.
export const fromHalf = (bits) => halves[bits & 0xffff];

export const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
export const add = (a, b) => along(a, b, 1);
export const subtract = (a, b) => along(a, b, -1);
export const scaled = (a, factor) => a.map((value) => value * factor);
export const along = (point, direction, length) => point.map((value, i) => value + direction[i] * length);
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const normalised = (a) => scaled(a, 1 / Math.hypot(...a));

// Sum of vectors, each times its weight.
export const weighted = (vectors, weights) => vectors.map((each, k) => scaled(each, weights[k])).reduce(add);

export const rowsOf = (m) => [m.slice(0, 3), m.slice(3, 6), m.slice(6)];
export const apply3 = (m, v) => rowsOf(m).map((row) => dot(row, v));

export const moved = ({ linear, shift }, point) => add(apply3(linear, point), shift);

// Product with the transposed matrix: a rotation's inverse.
export const applyTransposed3 = (m, v) => weighted(rowsOf(m), v);
export const multiply3 = (a, b) => rowsOf(a).flatMap((row) => applyTransposed3(b, row));

// Unit quaternion w x y z, given its packed 32 bits.
export function unpackQuaternion(bits) {
	const parts = [20, 10, 0].map((shift) => (((bits >>> shift) & 1023) - 511) / (511 * Math.SQRT2));
	parts.splice(bits >>> 30, 0, Math.sqrt(Math.max(1 - dot(parts, parts), 0)));
	return parts;
}

export function rotationFromQuaternion([w, x, y, z]) {
	return [
		1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
		2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
		2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
	];
}

export const rotationAbout = (axis, angle) =>
	rotationFromQuaternion([Math.cos(angle / 2), ...scaled(axis, Math.sin(angle / 2))]);
