// Creates nodes and changes only what differs; all updates of the page use these functions.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element; `props` are attributes, handlers (`onclick`) or `class` and `text`. */
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

/** Sets text, which is never parsed as HTML: names and errors are from files, drivers and clients. */
export function text(node, value) {
  if (node.$text === value) return;
  node.$text = value;
  node.textContent = value;
}

/** Sets text in which ids, such as `pci-0000:01:00.0`, are not broken at a hyphen. */
export function textWithIds(node, value) {
  if (node.$text === value) return;
  node.$text = value;
  const parts = value.split(/(\S+-\d\S*)/); // every second part is an id
  node.replaceChildren(...parts.map((part, at) => (at % 2 ? h("span", { class: "id", text: part }) : part)));
}

/** Sets an attribute; `null`, `undefined` and `false` remove it. */
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

/** Sets the width of a bar to a share between 0 and 1; `null` for an unknown share. */
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

/** Inserts a node and restores its focus, which is lost when it is moved. */
function insert(parent, node, place) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, place);
  focused?.focus({ preventScroll: true });
}

/** Sets the options of a `<select>`, and keeps the choice if it still exists. */
export function options(select, values) {
  const joined = JSON.stringify(values);
  if (select.$options === joined) return;
  select.$options = joined;
  const chosen = select.value;
  select.replaceChildren(...values.map(({ value, label }) => h("option", { value, text: label })));
  if (values.some(({ value }) => value === chosen)) select.value = chosen;
}

export const byId = (id) => document.getElementById(id);
