// Settings that are changed while the server runs: applied with a click, and undone with another.

import { call } from "./api.js";
import { attr, byId, h, show, text } from "./dom.js";

/** Called after a change; set by the part of the page that compares settings. */
let changed = () => {};

export function onSettingChanged(then) {
  changed = then;
}

/** Returns a button that applies a line of the settings; it is disabled meanwhile. */
export function applyButton(setting, label, testid) {
  const button = h("button", { type: "button", class: "quiet", text: label, "aria-label": `${label}: ${setting}`, "data-testid": testid });
  button.addEventListener("click", () => {
    attr(button, "disabled", true);
    apply(setting).finally(() => attr(button, "disabled", false));
  });
  return button;
}

async function apply(setting) {
  const { error } = await call("POST", "api/settings", { setting });
  text(byId("settings-error"), error ?? "");
  await showChanged();
  if (error) return;
  byId("settings-changed").querySelector("button")?.focus();
  changed();
}

/** Lists the settings that differ from the configuration file and the command line. */
export async function showChanged() {
  const { data } = await call("GET", "api/settings");
  const list = data?.changed ?? [];
  show(byId("settings-part"), list.length > 0);
  byId("settings-changed").replaceChildren(...list.map(row));
}

function row({ name, setting, before }) {
  return h("li", { "data-testid": "setting-changed", "data-setting": name },
    h("code", { text: setting }), " is in force in place of ", h("code", { text: before }), " ",
    applyButton(before, "Undo", "setting-undo"), " ",
    h("span", { class: "faint", text: "To keep it after a restart, put this line into the configuration file: " }), line(setting));
}

/** Returns a line of the settings, with a button that copies it if pages may; otherwise it can be selected. */
export function line(setting) {
  const code = h("code", { text: setting });
  if (!navigator.clipboard) return h("span", { class: "setting" }, code);
  const copy = h("button", { type: "button", class: "quiet", text: "Copy", "aria-label": `Copy ${setting}` });
  const report = (words) => { text(copy, words); attr(copy, "aria-label", `${words} ${setting}`); };
  copy.addEventListener("click", () => navigator.clipboard.writeText(setting).then(() => report("Copied"), () => report("Not copied:")));
  return h("span", { class: "setting" }, code, " ", copy);
}
