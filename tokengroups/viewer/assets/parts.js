// Groups taken apart, as tokengroups/editing/parts.py does it: anchors are never divided.
import { IDENTITY, add, along, fromHalf, moved, subtract } from "./maths.js";
import { WORDS } from "./packed.js";

const REACH = 3, NEIGHBOUR = 4, LEAST = 0.02; // as there
const MOST = 2048; // anchors of a group: all distances are taken

// Index, column, place in the world, and opacity of each splat.
function* splatsOf({ header, words, count }) {
	const floats = new Float32Array(words.buffer);
	for (let i = 0, w = 0; i < count; i++, w += WORDS) {
		const place = add([floats[w], floats[w + 1], floats[w + 2]], header.origin);
		yield [i, words[w + 7] >>> 16, place, fromHalf(words[w + 5] >>> 16) + 1e-9];
	}
}

// Anchors by column: index, number and mean of Gaussians, sum of opacities, centre by these.
export function anchorsOf(scene) {
	const found = scene.header.groups.map(() => new Map());
	for (const [i, column, place, opacity] of splatsOf(scene)) {
		const own = found[column], index = scene.anchors[i];
		const before = own.get(index) ?? { count: 0, weight: 0, mean: place, centre: place };
		const count = before.count + 1, weight = before.weight + opacity;
		const toward = (point, share) => along(point, subtract(place, point), share);
		const mean = toward(before.mean, 1 / count), centre = toward(before.centre, opacity / weight);
		own.set(index, { index, count, weight, mean, centre });
	}
	return found.map((own) => [...own.values()]);
}

// Sides of the boxes of the middle 96 % of opacity, by id, of groups that edits have reshaped.
export function extentsOf(scene, columns) {
	const reshaped = columns.filter(({ anchors, linear, owner }, k) =>
		anchors || linear !== IDENTITY || owner !== scene.header.groups[k].id);
	const splats = new Map(reshaped.map(({ owner }) => [owner, []]));
	if (!splats.size) return splats;
	for (const [, index, place, opacity] of splatsOf(scene)) {
		splats.get(columns[index].owner)?.push([...moved(columns[index], place), opacity]);
	}
	return new Map([...splats].map(([id, own]) => [id, [0, 1, 2].map((k) => {
		own.sort((a, b) => a[k] - b[k]);
		const total = own.reduce((sum, each) => sum + each[3], 0);
		const at = (share, sum = 0) => own.find((each) => (sum += each[3]) >= share * total)?.[k] ?? 0;
		return at(0.98) - at(0.02);
	})]));
}

const order = (a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
const sizeOf = (part) => part.reduce((sum, { count }) => sum + count, 0);

// Take anchors apart, by a box of two corners if there is one: the largest part first.
export function partsOf(anchors, box) {
	const inside = ({ place }) => place.every((value, k) => (value - box[k]) * (value - box[k + 3]) <= 0);
	const parts = box.length ? [anchors.filter((each) => !inside(each)), anchors.filter(inside)] : pieces(anchors);
	return parts.filter((part) => part.length).sort((a, b) => sizeOf(b) - sizeOf(a));
}

// What hangs together. Small pieces join the nearest larger one.
function pieces(anchors) {
	if (anchors.length > MOST) return [];
	const parts = [];
	let rest = [...anchors].sort((a, b) => order(a.place, b.place));
	const places = rest.map(({ place }) => place).filter((each, k, all) => !k || order(each, all[k - 1]));
	const neighbour = Math.min(Math.max((places.length >> 1) - 1, 1), NEIGHBOUR, places.length - 1);
	const spacings = places.map((a) => Float64Array.from(places, (b) => distance(a, b)).sort()[neighbour]);
	const reach = REACH * Float64Array.from(spacings).sort()[(places.length - 1) >> 1];
	while (rest.length) {
		const part = [rest.shift()]; // grows while it is walked along
		for (const { place } of part) {
			part.push(...rest.filter((each) => distance(place, each.place) <= reach));
			rest = rest.filter((each) => distance(place, each.place) > reach);
		}
		parts.push(part);
	}
	const least = LEAST * sizeOf(anchors), large = parts.filter((part) => sizeOf(part) >= least);
	if (!large.length) return [anchors];
	const gap = ({ place }, part) => Math.min(...part.map((each) => distance(place, each.place)));
	const nearest = (each) => large.reduce((best, part) => (gap(each, part) < gap(each, best) ? part : best));
	const small = parts.filter((part) => sizeOf(part) < least).flat().map((each) => [each, nearest(each)]);
	for (const [each, part] of small) part.push(each);
	return large;
}
