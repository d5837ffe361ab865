
export const groupName = (group) => group.name || `group ${group.id}`;

export const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

// Fixed colour of a group id, as tokengroups/io/pictures.py has it; 0 to 1.
export function groupColor(id) {
	const hue = 6 * ((id * 0.618033988749895 + 0.02) % 1);
	const [value, saturation] = [[1, 0.65], [0.75, 0.85], [0.9, 0.4]][id % 3];
	const part = (place) => Math.max(0, Math.min(place, 4 - place, 1));
	return [5, 3, 1].map((shift) => value * (1 - saturation * part((shift + hue) % 6)));
}

export function factsText(groups, { gaussians, total }) {
	const count = groups.reduce((sum, group) => sum + group.count, 0).toLocaleString("en");
	const drawn = gaussians < total ? `, ${percent(gaussians / total)} drawn` : "";
	return `Groups: ${groups.length}, Gaussians: ${count}${drawn}`;
}

// Sides of a box in two digits each.
export const sizeText = (size) => size.map((side) => +side.toPrecision(2)).join(" \u00d7 ");

const COMPARE = {
	share: (a, b) => b.share - a.share,
	size: (a, b) => Math.hypot(...b.size) - Math.hypot(...a.size),
	name: (a, b) => groupName(a).localeCompare(groupName(b), "en", { numeric: true }),
};

// What a query has found is first (`lit`: probabilities by id).
export function listed(groups, sorting, lit) {
	const found = ({ id }) => lit.get(id) ?? 0;
	return [...groups].sort((a, b) => found(b) - found(a) || COMPARE[sorting](a, b) || a.id - b.id);
}

export const fits = (group, text) =>
	`${groupName(group)} ${group.id}`.toLowerCase().includes(text.trim().toLowerCase());

export const inBox = ([x, y], a, b) => (x - a[0]) * (x - b[0]) <= 0 && (y - a[1]) * (y - b[1]) <= 0;
