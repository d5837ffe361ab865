// Edits as steps: lists of words of `tokengroups edit`, such as ["move", "3", "0.4", "0", "0"].
import {
	IDENTITY, add, along, apply3, moved, multiply3, normalised, rotationAbout, scaled, subtract, weighted,
} from "./maths.js";
import { partsOf } from "./parts.js";

const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] }, NAMED = { "1,0,0": "x", "0,1,0": "y", "0,0,1": "z" };

// The first `done` steps are in force, the others were undone.
export const NO_EDITS = { steps: [], done: 0 };

export const withStep = ({ steps, done }, step) => ({ steps: [...steps.slice(0, done), step], done: done + 1 });
export const undone = (history) => (history.done ? { ...history, done: history.done - 1 } : history);
export const redone = (history) =>
	history.done < history.steps.length ? { ...history, done: history.done + 1 } : history;
export const operationsOf = ({ steps, done }) => steps.slice(0, done).flat();

export const wordsOf = (values, digits) => values.map((value) => String(+value.toFixed(digits) || 0));

// Nothing for 0, and beyond what scenes hold.
export function moveWords(id, offset, digits) {
	const words = wordsOf(offset, digits);
	const some = words.some((each) => each !== "0") && offset.every((value) => Math.abs(value) <= 1e8);
	return some ? [["move", String(id), ...words]] : [];
}

export function turnWords(id, axis, degrees) {
	const [turn] = wordsOf([degrees], 4), name = wordsOf(axis, 5).join();
	return turn === "0" ? [] : [["rotate", String(id), "--axis", NAMED[name] ?? name, "--degrees", turn]];
}

// Whether the command line reads it as a name: it is no number and no option.
export const isName = (text) => isNaN(text) && !/^\s*(-|\+?(nan|inf|infinity)\s*$)/i.test(text);

// Words of `scale` or `rescale`, given those before the factor.
export function scaleWords(words, factor) {
	const written = String(+factor.toPrecision(5));
	return factor >= 1e-6 && factor <= 1e6 && written !== "1" ? [[...words, written]] : [];
}

// A packed scene before all edits: `groups` by id; `columns`, what moves as a whole: groups of the packed scene, copies
// and parts of them (`from`; parts have `anchors`), each with an `owner`, the id of its group or null, and its motion
// x -> linear x + shift in the packed world; `unit`, lengths over packed ones; `anchors()`, as of `anchorsOf`, or null.
export function unedited(packed, anchors = null) {
	const columns = packed.map(({ id, centre, weight }, from) =>
		({ from, owner: id, centre, weight, linear: IDENTITY, shift: [0, 0, 0] }));
	return { groups: new Map(packed.map((group) => [group.id, group])), columns, unit: 1, anchors };
}

// What operations make of it; null where the page cannot say, as for `insert`.
export function applyEdits({ anchors, unit, ...before }, operations) {
	const groups = new Map(before.groups), columns = before.columns.map((column) => ({ ...column }));
	for (const [name, ...words] of operations) {
		const named = { remove: words, merge: words, rescale: [] }[name] ?? words.slice(0, 1);
		const ids = named.map(Number), [id] = ids, next = Math.max(...groups.keys()) + 1;
		if (!ids.every((each, k) => groups.has(each) && String(each) === words[k])) return null;
		const members = columns.filter(({ owner }) => ids.includes(owner)), group = groups.get(id);
		if (name === "rescale") unit *= Number(words[0]);
		else if (name === "remove") ids.forEach((each) => groups.delete(each)), give(members, null);
		else if (name === "merge") {
			const merged = ids.map((each) => groups.get(each));
			groups.set(id, { ...group, count: sum(merged, "count"), share: sum(merged, "share") });
			ids.slice(1).forEach((each) => groups.delete(each)), give(members, id);
		} else if (name === "rename") groups.set(id, { ...group, name: words[1] });
		else if (name === "rotate") turn(members, rotationAbout(axisOf(words[2]), (words[4] * Math.PI) / 180));
		else if (name === "scale") turn(members, scaled(IDENTITY, Number(words[1])));
		else if (name === "move") shiftBy(members, words.slice(1), unit);
		else if (name === "duplicate") {
			const copies = members.map((member) => ({ ...member }));
			groups.set(next, { ...group, id: next });
			give(copies, next);
			if (words.length > 1) shiftBy(copies, words.slice(1), unit);
			columns.push(...copies);
		} else if (name === "split" && anchors) {
			const parts = partsOf(anchorsIn(members, anchors), scaled(words.slice(1), 1 / unit));
			if (parts.length < 2) return null;
			parts.forEach((part, k) => {
				const owner = k ? next + k - 1 : id, count = sum(part, "count");
				groups.set(owner, { ...group, id: owner, count, share: (group.share * count) / group.count });
				if (k) columns.push(...members.map((each) => ({ ...narrowed(each, part), owner })));
			});
			members.forEach((each) => Object.assign(each, narrowed(each, parts[0])));
		} else return null;
	}
	return { groups, columns, unit, anchors };
}

const axisOf = (text) => AXES[text] ?? normalised(text.split(",").map(Number));
const give = (members, owner) => members.forEach((member) => (member.owner = owner));
const shiftBy = (members, words, unit) => members.forEach((each) => (each.shift = along(each.shift, words, 1 / unit)));

function turn(members, map) {
	const centre = centreOf(members);
	for (const member of members) {
		member.shift = add(centre, apply3(map, subtract(member.shift, centre)));
		member.linear = multiply3(map, member.linear);
	}
}

const sum = (parts, name) => parts.reduce((total, each) => total + each[name], 0);
const shares = (parts) => scaled(parts.map(({ weight }) => weight), 1 / sum(parts, "weight"));

// Anchors of columns, with the `place` where they are now.
export const anchorsIn = (members, anchors) => members.flatMap((column) =>
	(column.anchors ?? anchors()[column.from]).map((each) => ({ ...each, column, place: moved(column, each.mean) })));

// A column of those anchors only that are in a part.
function narrowed(column, part) {
	const anchors = part.filter((each) => each.column === column), weight = sum(anchors, "weight");
	const centre = weight ? weighted(anchors.map((each) => each.centre), shares(anchors)) : column.centre;
	return { ...column, anchors, weight, centre };
}

// Centre of a group, as `tokengroups.editing` has it.
export const centreOf = (members) => weighted(members.map((each) => moved(each, each.centre)), shares(members));

export function commandLine(title, operations) {
	const scene = `${title.startsWith("-") ? "./" : ""}${title}.safetensors`;
	return ["tokengroups edit", ...[scene, ...operations.flat()].map(quoted), "-o edited.safetensors"].join(" ");
}

const quoted = (text) => (/^[\w.,/:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// The file for `tokengroups edit --script`.
export function editsFile(operations) {
	const lines = operations.map((words) => `    ${JSON.stringify(words)}`).join(",\n");
	return `{"format": "tokengroups.edits", "version": 1, "edits": [\n${lines}\n]}\n`;
}
