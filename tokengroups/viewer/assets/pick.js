// What shows at a pixel: the renderer's maths, on the CPU.
import {
	along, applyTransposed3, cross, dot, fromHalf, rotationFromQuaternion, scaled, unpackQuaternion,
} from "./maths.js";
import { WORDS } from "./packed.js";

const MIN_ALPHA = 1 / 255, BLUR = 0.3, MAX_ALPHA = 0.999, MIN_TRANSMITTANCE = 1e-4;
const FARTHEST = Math.sqrt(2 * Math.log(1 / MIN_ALPHA)); // standard deviations

// Camera-from-group of every group, 12 numbers each: the camera's pose after the group's own matrix, 3x4.
export function groupViews({ rotation, eye }, matrices) {
	return Float64Array.from(matrices, (_, index) => {
		const row = Math.floor((index % 12) / 4), shifted = index % 4 === 3;
		const term = (k) => rotation[3 * row + k] * (matrices[index + 4 * (k - row)] - (shifted && eye[k]));
		return term(0) + term(1) + term(2);
	});
}

export class Picker {
	// Take 12 numbers a group, rows of the 3x4 matrix that moves it, a rotation times a scale and a shift; a camera of
	// `cameraFor`; splats from near to far, of which the first `count` are shown; and which group counts as which.
	constructor({ words, shares, header }, matrices, camera, order, count, heads) {
		const { fx, fy, cx, cy, width, height } = camera, focal = [fx, fy], centre = [cx, cy], unit = header.scale_unit;
		// Of x / z and y / z in the projection's Jacobian: 0.3 of half the field of view beyond the picture.
		const limits = (share) => [width, height].map((side, k) => (share * side - centre[k]) / focal[k]);
		const low = limits(-0.15), high = limits(1.15), views = groupViews(camera, matrices);
		const rows = focal.map((f, k) => f * Math.hypot(1, Math.max(-low[k], high[k]))); // of the Jacobian, times z
		const longest = unit * Math.max(...rows);
		// Squares that hold the splats: centre x y and half the side.
		const floats = new Float32Array(words.buffer), bounds = new Float32Array(3 * count);
		for (let k = 0; k < count; k++) {
			const w = WORDS * order[k], v = 12 * (words[w + 7] >>> 16);
			const place = (r) =>
				views[r] * floats[w] + views[r + 1] * floats[w + 1] + views[r + 2] * floats[w + 2] + views[r + 3];
			const size = Math.max(fromHalf(words[w + 4]), fromHalf(words[w + 4] >>> 16), fromHalf(words[w + 5]));
			const z = place(v + 8);
			const grown = views[v] ** 2 + views[v + 4] ** 2 + views[v + 8] ** 2; // as all columns of a similarity
			bounds[3 * k] = (fx * place(v)) / z + cx;
			bounds[3 * k + 1] = (fy * place(v + 4)) / z + cy;
			bounds[3 * k + 2] = FARTHEST * Math.sqrt(grown * ((size * longest) / z) ** 2 + BLUR) + 0.01;
		}
		order = order.slice(0, count);
		Object.assign(this, { words, floats, shares, unit, focal, centre, low, high, views, order, bounds, heads });
	}

	// Projection of a splat: centre x y, Cholesky factor ux uy vy of its conic, depth.
	project(index) {
		const { words, floats, unit, focal, centre, low, high, views } = this, w = WORDS * index;
		const start = 12 * (words[w + 7] >>> 16), rows = [0, 4, 8].map((r) => views.slice(start + r, start + r + 4));
		const [x, y, z] = rows.map((row) => dot(row, [...floats.subarray(w, w + 3), 1]));
		const scales = [words[w + 4], words[w + 4] >>> 16, words[w + 5]].map((bits) => fromHalf(bits) * unit);
		const turn = rotationFromQuaternion(unpackQuaternion(words[w + 3]));
		const axes = rows.map((row) => applyTransposed3(turn, row).map((value, k) => value * scales[k]));
		const slopes = [x / z, y / z];
		const [a, b] = slopes.map((slope, k) =>
			scaled(along(axes[k], axes[2], -Math.min(high[k], Math.max(low[k], slope))), focal[k] / z));
		const xx = dot(a, a), yy = dot(b, b) + BLUR, xy = dot(a, b), area = cross(a, b);
		const determinant = dot(area, area) + BLUR * (xx + yy); // Lagrange's identity: needles keep their digits
		const ux = determinant <= 1e30 ? Math.sqrt(yy / determinant) : NaN;
		return [...slopes.map((slope, k) => focal[k] * slope + centre[k]), ux, (-ux * xy) / yy, 1 / Math.sqrt(yy), z];
	}

	// Composite at a point, the centre of the first pixel being (0.5, 0.5): alpha, depth (mean z, 0 where nothing is),
	// and group, index of the one of the largest weight, -1 where less than half is covered.
	at(x, y) {
		const { words, shares, order, bounds, heads } = this, weights = new Float64Array(this.views.length / 12);
		const give = (group, weight) => (weights[heads?.[group] ?? group] += weight);
		let transmittance = 1, alpha = 0, depth = 0;
		for (let k = 0, b = 0; k < order.length; k++, b += 3) {
			if (!(Math.abs(x - bounds[b]) < bounds[b + 2] && Math.abs(y - bounds[b + 1]) < bounds[b + 2])) continue;
			const index = order[k], w = WORDS * index, [cx, cy, ux, uy, vy, z] = this.project(index);
			const p = ux * (x - cx) + uy * (y - cy), q = vy * (y - cy);
			const a = Math.min(MAX_ALPHA, fromHalf(words[w + 5] >>> 16) * Math.exp(-0.5 * (p * p + q * q)));
			if (!(a >= MIN_ALPHA)) continue;
			if (transmittance * (1 - a) <= MIN_TRANSMITTANCE) break;
			const weight = a * transmittance, [low, high, mixed] = shares?.subarray(3 * index, 3 * index + 3) ?? [0, 0, 0xf0];
			give(words[w + 7] >>> 16, (weight * (mixed >> 4)) / 15); // two groups' shares, over 15
			give(low | (high << 8), (weight * (mixed & 15)) / 15);
			alpha += weight, depth += weight * z, transmittance *= 1 - a;
		}
		return { alpha, depth: depth / alpha || 0, group: alpha < 0.5 ? -1 : weights.indexOf(Math.max(...weights)) };
	}
}
