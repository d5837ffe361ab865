// Packed scenes, as tokengroups/viewer/pack.py writes and documents them.

export const WORDS = 8; // of 32 bits, per splat

export function fromBase64(text) {
  const binary = atob(text.trim()), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Take a packed scene apart: the header's facts, `words` (8 per splat, as in the file), and `harmonics` (4, 8 or 12
 * words per splat) and `shares` (3 bytes each) or null.
 */
export function unpack(bytes) {
  const text = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  if (text(0, 4) !== "TGPK") throw new Error("this is no packed scene");
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
  const header = JSON.parse(text(8, 8 + length));
  if (header.version !== 1) throw new Error(`packed scene of version ${header.version}; this page reads 1`);
  const count = header.gaussians;
  let start = 8 + length;
  const block = (width) => {
    const planes = bytes.subarray(start, start + count * width), records = new Uint8Array(count * width);
    if (planes.length !== records.length) throw new Error("the packed scene is cut off");
    start += records.length;
    for (let k = 0; k < width; k++) {
      for (let i = 0; i < count; i++) records[i * width + k] = planes[k * count + i];
    }
    return records;
  };
  const words = new Uint32Array(block(4 * WORDS).buffer);
  const harmonics = header.sh_degree ? new Uint32Array(block(16 * header.sh_degree).buffer) : null;
  return { header, count, words, harmonics, shares: header.soft ? block(3) : null };
}

/** The scene with copies appended: of the groups in the columns `sources`, each as a column of its own. */
export function withCopies(scene, sources) {
  if (!sources.length) return scene;
  const { header, harmonics, shares } = scene, groups = [...header.groups], owners = groupIndices(scene);
  const splats = Array.from(owners, (column, i) => [i, column]); // the splat that each one repeats, and its new column
  for (const source of sources) {
    owners.forEach((owner, i) => owner === source && splats.push([i, groups.length]));
    groups.push(header.groups[source]);
  }
  const repeated = (records, width) => {
    const out = new records.constructor(width * splats.length);
    splats.forEach(([i], k) => out.set(records.subarray(width * i, width * (i + 1)), width * k));
    return out;
  };
  const words = repeated(scene.words, WORDS), halves = new Uint16Array(words.buffer);
  splats.forEach(([, column], k) => (halves[2 * WORDS * k + 15] = column));
  return {
    header: { ...header, groups }, count: splats.length, words,
    harmonics: harmonics && repeated(harmonics, 4 * header.sh_degree), shares: shares && repeated(shares, 3),
  };
}

export const groupIndices = ({ words, count }) =>
  Uint16Array.from({ length: count }, (_, i) => words[WORDS * i + 7] >>> 16);
