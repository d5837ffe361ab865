// Edits as a list of steps that can be undone. A step is a list of operations, and an operation the words of
// `tokengroups edit`, such as ["move", "3", "0.4", "0", "0"]. What the picture shows follows from the list alone.
import { add, apply3, multiply3, rotationAbout, rotationAngles, scaled } from "./maths.js";

const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };

/** History without edits: the first `done` steps are in force, the others were undone. */
export const NO_EDITS = { steps: [], done: 0 };

export const withStep = ({ steps, done }, step) => ({ steps: [...steps.slice(0, done), step], done: done + 1 });
export const undone = ({ steps, done }) => ({ steps, done: Math.max(done - 1, 0) });
export const redone = ({ steps, done }) => ({ steps, done: Math.min(done + 1, steps.length) });
export const operationsOf = ({ steps, done }) => steps.slice(0, done).flat();

/** A number as a word, rounded to so many decimals. */
const word = (value, digits) => String(+value.toFixed(digits) || 0);

/** Decimals that positions of a scene need: four digits of the distance at which it is seen. */
export const digitsFor = (distance) => Math.min(Math.max(4 - Math.floor(Math.log10(distance)), 0), 12);

/** Move by an offset along the axes of the world. No operation where all numbers are 0. */
export function moveWords(id, offset, digits) {
  const words = offset.map((value) => word(value, digits));
  return words.every((each) => each === "0") ? [] : [["move", String(id), ...words]];
}

/** Turn about the centre by an angle about any axis: up to three turns about x, y, z, which the command line knows. */
export function turnWords(id, axis, degrees) {
  const angles = rotationAngles(rotationAbout(axis, (degrees * Math.PI) / 180));
  const turns = ["x", "y", "z"].map((name, k) => [name, word((angles[k] * 180) / Math.PI, 4)]);
  return turns.filter(([, turn]) => turn !== "0").map((turn) => turnOf(id, ...turn));
}

const turnOf = (id, axis, degrees) => ["rotate", String(id), "--axis", axis, "--degrees", degrees];

export function scaleWords(id, factor) {
  const written = word(factor, 4);
  return factor > 0 && written !== "0" && written !== "1" ? [["scale", String(id), written]] : [];
}

/**
 * What operations make of groups: `gone` (1 = removed), and `motions`, { linear (9), shift } in the scene's world, with
 * x -> linear x + shift. The centre about which a group turns is the moved centre, as in `tokengroups.editing`.
 */
export function applyEdits(groups, operations) {
  const index = new Map(groups.map((group, k) => [String(group.id), k])), gone = new Uint8Array(groups.length);
  const motions = groups.map(() => ({ linear: [1, 0, 0, 0, 1, 0, 0, 0, 1], shift: [0, 0, 0] }));
  for (const [name, ...words] of operations) {
    const k = index.get(words[0]);
    if (name === "remove") for (const id of words) gone[index.get(id)] = 1;
    else if (name === "move") motions[k].shift = add(motions[k].shift, words.slice(1).map(Number));
    else if (name === "rotate") {
      motions[k] = about(groups[k].centre, motions[k], rotationAbout(AXES[words[2]], (words[4] * Math.PI) / 180));
    } else if (name === "scale") {
      const factor = Number(words[1]);
      motions[k] = about(groups[k].centre, motions[k], [factor, 0, 0, 0, factor, 0, 0, 0, factor]);
    } else throw new Error(`this page knows no operation ${name}`);
  }
  return { motions, gone };
}

/** A motion followed by a linear map about where it has brought the centre. */
function about(centre, { linear, shift }, map) {
  const now = moved({ linear, shift }, centre), product = multiply3(map, linear);
  return { linear: product, shift: add(now, scaled(apply3(product, centre), -1)) };
}

/** Where a motion brings a point. */
export const moved = ({ linear, shift }, point) => add(apply3(linear, point), shift);

/** Rows of a motion's 3x4 matrix. */
export const matrixOf = ({ linear: m, shift: t }) => [0, 1, 2].flatMap((i) => [...m.slice(3 * i, 3 * i + 3), t[i]]);

/** The equal command line, for a POSIX shell. */
export function commandLine(title, operations) {
  const scene = `${title.startsWith("-") ? "./" : ""}${title}.safetensors`;
  return ["tokengroups edit", quoted(scene), ...operations.flat(), "-o edited.safetensors"].join(" ");
}

const quoted = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The file that `tokengroups edit SCENE --script FILE` applies. */
export function editsFile(operations) {
  const lines = operations.map((words) => `    ${JSON.stringify(words)}`).join(",\n");
  return `{"format": "tokengroups.edits", "version": 1, "edits": [\n${lines}\n]}\n`;
}
