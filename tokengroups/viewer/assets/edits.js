// Edits as a list of steps that can be undone. A step is a list of operations: the words of `tokengroups edit`, such as
// ["move", "3", "0.4", "0", "0"]. What the picture shows follows from the list alone.
import { add, along, apply3, multiply3, normalised, rotationAbout, scaled, subtract, weighted } from "./maths.js";

const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] }, NAMED = { "1,0,0": "x", "0,1,0": "y", "0,0,1": "z" };
const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];

/** The first `done` steps are in force, the others were undone. */
export const NO_EDITS = { steps: [], done: 0 };

export const withStep = ({ steps, done }, step) => ({ steps: [...steps.slice(0, done), step], done: done + 1 });
export const undone = (history) => (history.done ? { ...history, done: history.done - 1 } : history);
export const redone = (history) =>
  history.done < history.steps.length ? { ...history, done: history.done + 1 } : history;
export const operationsOf = ({ steps, done }) => steps.slice(0, done).flat();

/** Numbers as words, rounded to so many decimals. */
export const wordsOf = (values, digits) => values.map((value) => String(+value.toFixed(digits) || 0));

/** Move by an offset in the world; no operation for 0, and beyond what scenes hold. */
export function moveWords(id, offset, digits) {
  const words = wordsOf(offset, digits);
  const nothing = words.every((each) => each === "0"), beyond = offset.some((value) => Math.abs(value) > 1e8);
  return nothing || beyond ? [] : [["move", String(id), ...words]];
}

/** Turn about the centre by an angle about any axis. */
export function turnWords(id, axis, degrees) {
  const [turn] = wordsOf([degrees], 4), name = wordsOf(axis, 5).join();
  return turn === "0" ? [] : [["rotate", String(id), "--axis", NAMED[name] ?? name, "--degrees", turn]];
}

/** Whether `tokengroups edit` reads a text as a name: it is no number and no option. */
export const isName = (text) => isNaN(text) && !/^\s*(-|\+?(nan|inf|infinity)\s*$)/i.test(text);

/** Words of `scale` or `rescale`, given what stands before the factor. */
export function scaleWords(words, factor) {
  const written = String(+factor.toPrecision(5));
  return factor >= 1e-6 && factor <= 1e6 && written !== "1" ? [[...words, written]] : [];
}

/**
 * What operations make of a packed scene's groups; null where the page cannot say, as for `split`.
 *
 * @returns groups, by id; columns, what moves as a whole: the packed scene's groups and copies of them (`from`), each
 *   with its `owner`, the id of the group to which it belongs now or null, and its motion x -> linear x + shift in the
 *   packed scene's world; and unit, lengths of the edited scene over those of the packed one.
 */
export function applyEdits(packed, operations) {
  const groups = new Map(packed.map((group) => [group.id, group])), columns = packed.map(
    ({ id, centre, weight }, from) => ({ from, owner: id, centre, weight, linear: IDENTITY, shift: [0, 0, 0] }));
  let unit = 1;
  for (const [name, ...words] of operations) {
    const named = { remove: words, merge: words, rescale: [] }[name] ?? words.slice(0, 1);
    const ids = named.map(Number), [id] = ids;
    if (!ids.every((each, k) => groups.has(each) && String(each) === words[k])) return null;
    const members = columns.filter(({ owner }) => ids.includes(owner)), group = groups.get(id);
    if (name === "rescale") unit *= Number(words[0]);
    else if (name === "remove") ids.forEach((each) => groups.delete(each)), give(members, null);
    else if (name === "merge") ids.slice(1).forEach((each) => groups.delete(each)), give(members, id);
    else if (name === "rename") groups.set(id, { ...group, name: words[1] });
    else if (name === "rotate") turn(members, rotationAbout(axisOf(words[2]), (words[4] * Math.PI) / 180));
    else if (name === "scale") turn(members, scaled(IDENTITY, Number(words[1])));
    else if (name === "move") shiftBy(members, words.slice(1), unit);
    else if (name === "duplicate") {
      const copies = members.map((member) => ({ ...member })), copy = { ...group, id: Math.max(...groups.keys()) + 1 };
      groups.set(copy.id, copy);
      give(copies, copy.id);
      if (words.length > 1) shiftBy(copies, words.slice(1), unit);
      columns.push(...copies);
    } else return null;
  }
  return { groups, columns, unit };
}

const axisOf = (text) => AXES[text] ?? normalised(text.split(",").map(Number));
const give = (members, owner) => members.forEach((member) => (member.owner = owner));
const shiftBy = (members, words, unit) => members.forEach((each) => (each.shift = along(each.shift, words, 1 / unit)));

/** Turn or scale what belongs to one group about its centre. */
function turn(members, map) {
  const centre = centreOf(members);
  for (const member of members) {
    member.shift = add(centre, apply3(map, subtract(member.shift, centre)));
    member.linear = multiply3(map, member.linear);
  }
}

/** Centre of a group where edits have brought it, as `tokengroups.editing` has it. */
export function centreOf(members) {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  return weighted(members.map((each) => moved(each, each.centre)), members.map(({ weight }) => weight / total));
}

export const moved = ({ linear, shift }, point) => add(apply3(linear, point), shift);

/** How much larger motions make a group. */
export const growth = ([{ linear }]) => Math.hypot(...linear) / Math.sqrt(3);

/** The equal command line, for a POSIX shell. */
export function commandLine(title, operations) {
  const scene = `${title.startsWith("-") ? "./" : ""}${title}.safetensors`;
  return ["tokengroups edit", ...[scene, ...operations.flat()].map(quoted), "-o edited.safetensors"].join(" ");
}

const quoted = (text) => (/^[\w.,/:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The file that `tokengroups edit SCENE --script FILE` applies. */
export function editsFile(operations) {
  const lines = operations.map((words) => `    ${JSON.stringify(words)}`).join(",\n");
  return `{"format": "tokengroups.edits", "version": 1, "edits": [\n${lines}\n]}\n`;
}
