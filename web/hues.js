// One colour per adapter, the same on its card, in the timeline and in the log.

const HUES = 16;
const given = new Map();

/** Assigns colours in the server's order, first to adapters that can be on. */
export function giveHues(adapters) {
  const unused = (adapter) => Number(adapter.state === "unused");
  for (const { id } of [...adapters].sort((a, b) => unused(a) - unused(b))) {
    if (!given.has(id)) given.set(id, given.size % HUES);
  }
}

export const hueClass = (id) => `hue-${given.get(id) ?? 0}`;

/** Canvases need colours, not classes. */
let colours = new Map();
addEventListener("themechange", () => { colours = new Map(); });

export function colour(className) {
  if (!colours.has(className)) colours.set(className, resolved(className));
  return colours.get(className);
}

function resolved(className) {
  const probe = document.createElement("i");
  probe.className = `probe ${className}`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

export const adapterColour = (id) => colour(hueClass(id));
