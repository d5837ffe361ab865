// Order of the splats by depth. Functions stand alone: a worker runs their text.

// Function that sorts the splats of `words` from near to far, then by index, into `order`, and returns their number,
// without what is nearer than 0.01 or too faint. Depth comes from the third rows of groups' views (3x4, NaN = hidden).
// Bits of positive floats sort like their values: by two counting sorts of 16 bits.
export function depthSorter(words) {
	const faintest = 0x1c05; // half of the smallest opacity that is not below 1 / 255
	const low = new Uint32Array(65537), high = low.slice();
	const keys = new Uint32Array(words.length / 8), passed = keys.slice(), kept = keys.slice();
	const floats = new Float32Array(words.buffer), depth = new Float32Array(1), bits = new Uint32Array(depth.buffer);
	return (views, order) => {
		low.fill(0), high.fill(0);
		let count = 0;
		for (let i = 0, w = 0; w < words.length; i++, w += 8) {
			const v = 12 * (words[w + 7] >>> 16) + 8;
			depth[0] = views[v] * floats[w] + views[v + 1] * floats[w + 1] + views[v + 2] * floats[w + 2] + views[v + 3];
			if (!(depth[0] >= 0.01) || words[w + 5] >>> 16 < faintest) continue;
			keys[i] = bits[0], kept[count++] = i;
			low[(bits[0] & 0xffff) + 1]++, high[(bits[0] >>> 16) + 1]++;
		}
		for (let b = 0; b < 65536; b++) low[b + 1] += low[b], high[b + 1] += high[b];
		for (let i = 0; i < count; i++) passed[low[keys[kept[i]] & 0xffff]++] = kept[i];
		for (let i = 0; i < count; i++) order[high[keys[passed[i]] >>> 16]++] = passed[i];
		return count;
	};
}

// The first message has the splats, others views and a buffer.
function serveSorter(port) {
	let sort;
	port.onmessage = ({ data: { words, views, order, job } }) => {
		if (words) sort = depthSorter(words);
		else port.postMessage({ order, count: sort(views, order), job }, [order.buffer]);
	};
}

// Sorts in a worker, or here; `done({ order, count, job })` may read the order until the next.
export class Sorter {
	constructor({ words, count }, done) {
		this.spare = new Uint32Array(count); // null while in use
		this.latest = this.spare.slice();
		try {
			const source = new Blob([depthSorter, serveSorter, "serveSorter(self)"], { type: "text/javascript" });
			this.worker = new Worker(URL.createObjectURL(source));
		} catch {
			const { port1, port2 } = new MessageChannel();
			serveSorter(port1);
			this.worker = port2;
		}
		this.worker.onmessage = ({ data }) => {
			[this.spare, this.latest] = [this.latest, data.order];
			if (this.waiting) this.sort(...this.waiting);
			done(data);
		};
		this.worker.postMessage({ words });
	}

	// Of orders that wait, only the last is made.
	sort(views, job) {
		const { spare } = this;
		this.waiting = spare ? null : [views, job];
		this.spare = null;
		if (spare) this.worker.postMessage({ views, order: spare, job }, [spare.buffer]);
	}

	end() {
		this.worker.onmessage = null;
		this.worker.terminate?.();
	}
}
