// Groups as the list shows them.

export const groupName = (group) => group.name || `group ${group.id}`;

export const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** Sides of a box in two digits each. */
export const sizeText = (size) => size.map((side) => +side.toPrecision(2)).join(" \u00d7 ");

const COMPARE = {
  share: (a, b) => b.share - a.share,
  size: (a, b) => Math.hypot(...b.size) - Math.hypot(...a.size),
  name: (a, b) => groupName(a).localeCompare(groupName(b), "en", { numeric: true }),
};

/** Groups in order, those first that a query has found (`lit`: probabilities by id). */
export function listed(groups, sorting, lit) {
  const found = ({ id }) => lit.get(id) ?? 0;
  return [...groups].sort((a, b) => found(b) - found(a) || COMPARE[sorting](a, b) || a.id - b.id);
}

/** Whether a group's name or id has a text in it. */
export const fits = (group, text) =>
  `${groupName(group)} ${group.id}`.toLowerCase().includes(text.trim().toLowerCase());

export const inBox = ([x, y], a, b) => (x - a[0]) * (x - b[0]) <= 0 && (y - a[1]) * (y - b[1]) <= 0;
