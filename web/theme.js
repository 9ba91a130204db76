// Light or dark. A plain script, so that a chosen theme is applied before the first paint.
"use strict";
(() => {
  const NAME = "concertina-theme";
  const stored = () => { try { return localStorage.getItem(NAME); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem(NAME, theme); } catch { /* kept as long as the page is open */ } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const now = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");

  function apply(theme) {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("themechange")); // canvases draw with the colours of the theme
  }

  apply(stored());
  system.addEventListener("change", () => apply(stored()));
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const other = now() === "dark" ? "light" : "dark";
      store(other);
      apply(other);
    });
  });
})();
