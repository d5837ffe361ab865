// Packed scenes, as tokengroups/viewer/pack.py has them.

export const WORDS = 8; // of 32 bits, per splat

export function fromBase64(text) {
	const binary = atob(text), bytes = new Uint8Array(binary.length);
	for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
	return bytes;
}

export async function gunzip(bytes) {
	const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
	return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Take a packed scene apart: `header`, `words` (8 per splat), and `harmonics` (4, 8 or 12 words per splat), `shares`
// (3 bytes) and `anchors` (indices) or null.
export function unpack(bytes) {
	const text = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
	if (text(0, 4) !== "TGPK") throw new Error("this is no packed scene");
	let start = 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
	const header = JSON.parse(text(8, start)), { version, gaussians: count, sh_degree: degree } = header;
	if (version !== 1) throw new Error(`packed scene of version ${version}; this page reads 1`);
	const block = (width, Numbers) => {
		const records = new Uint8Array(count * width);
		if (start + records.length > bytes.length) throw new Error("the packed scene is cut off");
		for (let k = 0; k < width; k++) for (let i = k; i < records.length; i += width) records[i] = bytes[start++];
		return new Numbers(records.buffer);
	};
	const words = block(4 * WORDS, Uint32Array), harmonics = degree ? block(16 * degree, Uint32Array) : null;
	const shares = header.soft ? block(3, Uint8Array) : null, anchors = header.anchors ? block(4, Int32Array) : null;
	anchors?.forEach((step, i) => (anchors[i] = step + (anchors[i - 1] ?? 0)));
	return { header, count, words, harmonics, shares, anchors };
}

// The scene with `columns` as `applyEdits` makes them.
export function withColumns(scene, columns) {
	const { header, anchors } = scene, groups = columns.map(({ from }) => header.groups[from]);
	const parts = header.groups.map(() => []), splats = []; // the splat that each one repeats, and its column
	columns.forEach(({ from, anchors }, column) =>
		parts[from].push([column, anchors && new Set(anchors.map(({ index }) => index))]));
	groupIndices(scene).forEach((group, i) => {
		for (const [column, own] of parts[group]) if (!own || own.has(anchors[i])) splats.push([i, column]);
	});
	const repeated = (records, width) => {
		const out = records && new records.constructor(width * splats.length);
		if (out) splats.forEach(([i], k) => out.set(records.subarray(width * i, width * (i + 1)), width * k));
		return out;
	};
	const words = repeated(scene.words, WORDS), halves = new Uint16Array(words.buffer);
	splats.forEach(([, column], k) => (halves[2 * WORDS * k + 15] = column));
	return {
		header: { ...header, groups }, count: splats.length, words,
		harmonics: repeated(scene.harmonics, 4 * header.sh_degree), shares: repeated(scene.shares, 3),
	};
}

export const groupIndices = ({ words, count }) =>
	Uint16Array.from({ length: count }, (_, i) => words[WORDS * i + 7] >>> 16);
