// Order of the splats by depth. The functions stand alone: their text also runs in a worker.

/**
 * Function that sorts the splats of `words` (packed.js) from near to far, those of equal depth by index, into `order`,
 * and returns their number. What is nearer than 0.01, or too faint to be drawn anywhere, is left out.
 *
 * Depth is `row . (position, 1)` with the third row of the group's view (`views`: 3x4 each, NaN = hidden). Bits of
 * positive floats sort like their values: two counting sorts by 16 bits do it.
 */
export function depthSorter(words) {
  const faintest = 0x1c05; // half of the smallest opacity that is not below 1 / 255
  const floats = new Float32Array(words.buffer), [low, high] = [0, 0].map(() => new Uint32Array(65537));
  const [keys, passed, kept] = [0, 0, 0].map(() => new Uint32Array(words.length / 8));
  const depth = new Float32Array(1), bits = new Uint32Array(depth.buffer);
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

/** Serve a worker or a port: the first message brings the splats, the others views and a buffer for the order. */
function serveSorter(port) {
  let sort;
  port.onmessage = ({ data: { words, views, order, job } }) => {
    if (words) sort = depthSorter(words);
    else port.postMessage({ order, count: sort(views, order), job }, [order.buffer]);
  };
}

/** Sorts in a worker, or here where there are none; `done({ order, count, job })` may read the order until the next. */
export class Sorter {
  constructor({ words, count }, done) {
    this.spare = new Uint32Array(count); // null while the worker has it
    this.latest = new Uint32Array(count);
    try {
      const source = [depthSorter, serveSorter, "serveSorter(self);"].join("\n");
      this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
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

  /** Ask for an order; of several that wait only the last one is made. */
  sort(views, job) {
    const order = this.spare;
    this.waiting = order ? null : [views, job];
    if (!order) return;
    this.spare = null;
    this.worker.postMessage({ views, order, job }, [order.buffer]);
  }

  end() {
    this.worker.onmessage = null;
    this.worker.terminate?.();
  }
}
