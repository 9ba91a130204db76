// Makes nodes and changes only what differs: every update of the page goes through these.

const SVG = "http://www.w3.org/2000/svg";

/** A new element; `props` are attributes, handlers (`onclick`) or `class` and `text`. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(node, name, value);
  node.append(...children);
  return node;
}

function set(node, name, value) {
  if (name === "text") text(node, value);
  else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else attr(node, name, value);
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Text is never parsed: names and errors come from files, drivers and clients. */
export function text(node, value) {
  if (node.$text === value) return;
  node.$text = value;
  node.textContent = value;
}

/** Text whose ids, as in `pci-0000:01:00.0`, are not broken at a hyphen. */
export function textWithIds(node, value) {
  if (node.$text === value) return;
  node.$text = value;
  const parts = value.split(/(\S+-\d\S*)/); // every second one is an id
  node.replaceChildren(...parts.map((part, at) => (at % 2 ? h("span", { class: "id", text: part }) : part)));
}

/** `null`, `undefined` and `false` take the attribute away. */
export function attr(node, name, value) {
  const wanted = value === true ? "" : value;
  const known = (node.$attrs ??= new Map());
  if (known.has(name) && known.get(name) === wanted) return;
  known.set(name, wanted);
  if (wanted == null || wanted === false) node.removeAttribute(name);
  else node.setAttribute(name, wanted);
}

export function show(node, visible) {
  attr(node, "hidden", !visible);
}

/** A share between 0 and 1 as the width of a bar; `null` for an unknown one. */
export function fill(node, share) {
  const width = share === null ? "" : `${(Math.min(1, Math.max(0, share)) * 100).toFixed(1)}%`;
  if (node.$width === width) return;
  node.$width = width;
  node.style.width = width;
}

/**
 * Keeps one view (`{root, …}`) per item under `parent`, in the order of the items. Nodes that stay
 * are not moved, so focus, open details and pressed buttons survive.
 */
export function keyed(parent, items, keyOf, make, update) {
  const views = (parent.$views ??= new Map());
  removeOthers(views, new Set(items.map(keyOf)));
  let place = parent.firstElementChild;
  for (const item of items) {
    let view = views.get(keyOf(item));
    if (!view) views.set(keyOf(item), (view = make(item)));
    if (view.root === place) place = place.nextElementSibling;
    else insert(parent, view.root, place);
    update(view, item);
  }
}

function removeOthers(views, wanted) {
  for (const [key, view] of views) {
    if (wanted.has(key)) continue;
    view.root.remove();
    views.delete(key);
  }
}

/** Moving a node takes the focus from it. */
function insert(parent, node, place) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, place);
  focused?.focus({ preventScroll: true });
}

/** The options of a `<select>`, the choice kept where it still exists. */
export function options(select, values) {
  const joined = JSON.stringify(values);
  if (select.$options === joined) return;
  select.$options = joined;
  const chosen = select.value;
  select.replaceChildren(...values.map(({ value, label }) => h("option", { value, text: label })));
  if (values.some(({ value }) => value === chosen)) select.value = chosen;
}

export const byId = (id) => document.getElementById(id);
