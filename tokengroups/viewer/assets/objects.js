// Groups as the list shows them.

export const groupName = (group) => group.name || `group ${group.id}`;

export function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** Sides of a box in two digits each. */
export const sizeText = (size) => size.map((side) => +side.toPrecision(2)).join(" \u00d7 ");

const COMPARE = {
  share: (a, b) => b.share - a.share,
  size: (a, b) => Math.hypot(...b.size) - Math.hypot(...a.size),
  name: (a, b) => groupName(a).localeCompare(groupName(b), "en", { numeric: true }),
};

/** Indices of the groups whose name or id has the text that is searched for, in order. */
export function listed(groups, text, sorting) {
  const wanted = text.trim().toLowerCase(), compare = COMPARE[sorting];
  const fits = (index) => `${groupName(groups[index])} ${groups[index].id}`.toLowerCase().includes(wanted);
  const before = (a, b) => compare(groups[a], groups[b]) || groups[a].id - groups[b].id;
  return [...groups.keys()].filter(fits).sort(before);
}

/** Whether a point lies in the rectangle between two corners. */
export const inBox = ([x, y], a, b) => (x - a[0]) * (x - b[0]) <= 0 && (y - a[1]) * (y - b[1]) <= 0;
