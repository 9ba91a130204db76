// The page: one store, and the views that render it.

import { renderAdapters } from "./adapters.js";
import { renderDecisions, setUpDecisions } from "./decisions.js";
import { byId, show } from "./dom.js";
import { follow } from "./feed.js";
import { renderConnection, renderHeader, setUpHeader } from "./header.js";
import { giveHues } from "./hues.js";
import { renderLoad, setUpLoad } from "./load.js";
import { renderModels } from "./models.js";
import { renderPlayground, setUpPlayground } from "./playground.js";
import { serverNow, store } from "./store.js";
import { newestOn, renderTimeline, setUpTimeline } from "./timeline.js";

const VIEWS = [renderHeader, renderAdapters, renderLoad, renderTimeline, renderDecisions, renderModels, renderPlayground];

let planned = 0;
let later = 0;

/** Plans one rendering per frame, whatever the number of changes, and none while the page is hidden. */
function schedule() {
  if (document.hidden) return;
  planned ||= requestAnimationFrame(render);
}

function render() {
  planned = 0;
  again();
  renderConnection();
  show(byId("content"), store.snapshot !== null);
  show(byId("waiting"), store.snapshot === null && store.connection.state !== "key");
  if (!store.snapshot) return;
  giveHues(store.snapshot.adapters);
  const view = { snapshot: store.snapshot, decisions: store.decisions, now: serverNow() };
  for (const draw of VIEWS) draw(view);
}

/** Updates durations once a second if nothing is received; otherwise each change renders them. */
function again() {
  clearTimeout(later);
  later = setTimeout(schedule, 1000);
}

store.changed = schedule;
for (const setUp of [setUpHeader, setUpTimeline, setUpLoad, setUpDecisions, setUpPlayground]) setUp();
byId("whatif").addEventListener("toggle", ({ target }) => target.open && import("./whatif.js").then(({ compare }) => compare()));
document.addEventListener("visibilitychange", schedule); // renders the changes since the page was hidden
schedule();
follow();

/** For tests, read-only. */
globalThis.concertina = Object.freeze({
  bandsAt: newestOn,
  get samples() { return store.samples.length; },
});
