// Order of the splats by depth. The functions stand alone: their text also runs in a worker.

/**
 * Function that sorts splats from near to far, those of equal depth by index, into `order`, and returns their number.
 *
 * Depth is `row . (position, 1)` with the row of the splat's group in `rows` (4 numbers a group, NaN = hidden). What is
 * nearer than 0.01 is left out. Bits of positive floats sort like their values: two counting sorts by 16 bits do it.
 */
export function depthSorter(positions, groups) {
  const [keys, passed, kept] = [0, 0, 0].map(() => new Uint32Array(groups.length));
  const [low, high] = [0, 0].map(() => new Uint32Array(65537));
  const depth = new Float32Array(1), bits = new Uint32Array(depth.buffer);
  return (rows, order) => {
    low.fill(0), high.fill(0);
    let count = 0;
    for (let i = 0, p = 0; i < groups.length; i++, p += 3) {
      const r = 4 * groups[i];
      depth[0] = rows[r] * positions[p] + rows[r + 1] * positions[p + 1] + rows[r + 2] * positions[p + 2] + rows[r + 3];
      if (!(depth[0] >= 0.01)) continue;
      keys[i] = bits[0], kept[count++] = i;
      low[(bits[0] & 0xffff) + 1]++, high[(bits[0] >>> 16) + 1]++;
    }
    for (let b = 0; b < 65536; b++) low[b + 1] += low[b], high[b + 1] += high[b];
    for (let i = 0; i < count; i++) passed[low[keys[kept[i]] & 0xffff]++] = kept[i];
    for (let i = 0; i < count; i++) order[high[keys[passed[i]] >>> 16]++] = passed[i];
    return count;
  };
}

/** Serve a worker or a port: the first message brings the splats, the others rows and a buffer for the order. */
function serveSorter(port) {
  let sort;
  port.onmessage = ({ data: { positions, groups, rows, order, job } }) => {
    if (positions) sort = depthSorter(positions, groups);
    else port.postMessage({ order, count: sort(rows, order), job }, [order.buffer]);
  };
}

/** Sorts in a worker, or here where there are none; `done(order, count, job)` may read the order until the next. */
export class Sorter {
  constructor(positions, groups, done) {
    this.done = done;
    this.spare = new Uint32Array(groups.length); // null while the worker has it
    this.latest = new Uint32Array(groups.length);
    try {
      const source = [depthSorter, serveSorter, "serveSorter(self);"].join("\n");
      this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    } catch {
      const { port1, port2 } = new MessageChannel();
      serveSorter(port1);
      this.worker = port2;
    }
    this.worker.onmessage = ({ data: { order, count, job } }) => {
      [this.spare, this.latest] = [this.latest, order];
      if (this.waiting) this.sort(...this.waiting);
      this.done(order, count, job);
    };
    this.worker.postMessage({ positions, groups });
  }

  /** Ask for an order; of several that wait only the last one is made. */
  sort(rows, job) {
    const order = this.spare;
    this.waiting = order ? null : [rows, job];
    if (!order) return;
    this.spare = null;
    this.worker.postMessage({ rows, order, job }, [order.buffer]);
  }

  end() {
    this.done = () => {};
    this.worker.terminate?.();
  }
}
