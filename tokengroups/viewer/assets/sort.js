// Order of the splats by depth. The functions stand alone: their text also runs in a worker.

/** Buffers that `depthOrder` uses again and again, for `count` splats. */
function sortBuffers(count) {
  return {
    keys: new Uint32Array(count), passed: new Uint32Array(count), kept: new Uint32Array(count),
    low: new Uint32Array(65537), high: new Uint32Array(65537),
  };
}

/**
 * Sort splats from near to far, those of equal depth by index; `order` is filled, the number of splats is returned.
 *
 * Depth is `row . (position, 1)` with the row of the splat's group in `rows` (4 numbers a group, NaN = hidden). What is
 * nearer than 0.01 is left out. Bits of positive floats sort like their values: two counting sorts by 16 bits do it.
 */
function depthOrder(positions, groups, rows, order, buffers) {
  const { keys, passed, kept, low, high } = buffers, depth = new Float32Array(1), bits = new Uint32Array(depth.buffer);
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
}

/** What the worker runs: the first message brings the splats, the others rows and a buffer for the order. */
function sortService() {
  let positions, groups, buffers;
  self.onmessage = ({ data }) => {
    if (data.positions) {
      ({ positions, groups } = data);
      buffers = sortBuffers(groups.length);
      return;
    }
    const count = depthOrder(positions, groups, data.rows, data.order, buffers);
    self.postMessage({ order: data.order, count, job: data.job }, [data.order.buffer]);
  };
}

/** Sorts in a worker, or here where there are none; `done(order, count, job)` may read the order until the next. */
export class Sorter {
  constructor(positions, groups, done) {
    this.done = done;
    this.free = [new Uint32Array(groups.length), new Uint32Array(groups.length)];
    this.waiting = null;
    try {
      const source = [sortBuffers, depthOrder, sortService].map(String).join("\n") + "\nsortService();";
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      this.worker = new Worker(url);
      this.worker.onmessage = ({ data }) => this.finish(data);
      this.worker.postMessage({ positions, groups });
    } catch {
      const buffers = sortBuffers(groups.length);
      this.here = (rows, order) => depthOrder(positions, groups, rows, order, buffers);
    }
  }

  /** Ask for an order; of several that wait only the last one is made. */
  sort(rows, job) {
    if (this.busy) {
      this.waiting = [rows, job];
      return;
    }
    this.busy = true;
    const order = this.free.pop();
    if (this.worker) this.worker.postMessage({ rows, order, job }, [order.buffer]);
    else setTimeout(() => this.finish({ order, count: this.here(rows, order), job }));
  }

  end() {
    this.done = () => {};
    this.worker?.terminate();
  }

  finish({ order, count, job }) {
    this.busy = false;
    if (this.last) this.free.push(this.last);
    this.last = order;
    const next = this.waiting;
    this.waiting = null;
    if (next) this.sort(...next);
    this.done(order, count, job);
  }
}

export { depthOrder, sortBuffers };
