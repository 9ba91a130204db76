// Why an adapter is in its state, in a sentence, from the newest decision about it.

import { ago, duration, milliseconds } from "./format.js";
import { isOn } from "./states.js";

const TURNS_ON = new Set(["start", "resume"]);
const TURNS_OFF = new Set(["drain", "quarantine"]);

function newest(adapter, decisions, changes) {
  const about = (decision) => decision.adapter === adapter.id && changes.has(decision.change);
  const last = adapter.last_decision; // the log has an end; this has none
  return decisions.findLast(about) ?? (last && changes.has(last.change) ? last : undefined);
}

/** `{lead, text}`: what is, and because of what. */
export function why(adapter, { decisions, snapshot, now }) {
  if (adapter.state === "unused") return { lead: "Not used: ", text: adapter.reason ?? "the server does not say why" };
  if (adapter.state === "quarantined") return letDown(adapter, decisions, now);
  if (adapter.state === "unreaped") return { lead: "Not usable: ", text: adapter.fault ?? "its process does not end" };
  if (adapter.state === "draining" || adapter.state === "stopping") return turningOff(adapter, decisions, now);
  if (adapter.state === "off" && adapter.reason) return { lead: "Not usable now: ", text: adapter.reason };
  if (isOn(adapter.state) && adapter.trial > 0) return onTrial(adapter);
  if (isOn(adapter.state)) return on(adapter, decisions, now);
  return off(adapter, decisions, snapshot, now);
}

function letDown(adapter, decisions, now) {
  const decision = newest(adapter, decisions, new Set(["quarantine"]));
  const text = decision?.text ?? adapter.fault ?? "the cause is no longer in the log";
  return { lead: `Off since ${ago(now - adapter.since_ms)} because it failed: `, text };
}

/** It computed wrongly: while another adapter can answer, it repeats what that one did. */
function onTrial(adapter) {
  const batches = adapter.trial === 1 ? "1 batch" : `${adapter.trial} batches`;
  return { lead: "On, on trial after a wrong answer: ", text: `${batches} must agree with another adapter first` };
}

function turningOff(adapter, decisions, now) {
  const decision = newest(adapter, decisions, TURNS_OFF);
  if (!decision) return { lead: "Turning off", text: "" };
  return { lead: `Turning off since ${ago(now - decision.at_ms)} because: `, text: decision.text };
}

function on(adapter, decisions, now) {
  const decision = newest(adapter, decisions, TURNS_ON);
  const turning = adapter.state === "starting" || adapter.state === "loading" ? "Turning on" : "On";
  if (!decision) return { lead: `${turning}: `, text: adapter.mode === "on" ? "the operator keeps it on" : "why is no longer in the log" };
  return { lead: `${turning} since ${ago(now - decision.at_ms)} because: `, text: decision.text };
}

function off(adapter, decisions, snapshot, now) {
  if (adapter.mode === "off") return { lead: "Off: ", text: "the operator turned it off" };
  const decision = newest(adapter, decisions, TURNS_OFF);
  const present = stillOff(adapter, snapshot);
  if (!decision) return { lead: "Off: ", text: `nothing has needed it yet. ${present}`.trim() };
  return { lead: `Off since ${ago(now - adapter.since_ms)} because: `, text: `${decision.text}. ${present}`.trim() };
}

/** Why it is not turned on again now. */
function stillOff(adapter, { queue, adapters }) {
  if (adapter.bridge) return "It serves models that it answers within their targets; none is known.";
  if (adapter.fallback) return "It joins only while no other adapter is usable.";
  const outstanding = queue.queued_requests + queue.in_flight_requests;
  if (outstanding === 0) return "Nothing waits now.";
  if (!adapters.some(({ state }) => isOn(state))) return "";
  if (queue.drain_ms < 1) return "What is on keeps up with what comes.";
  return `What waits now takes about ${milliseconds(queue.drain_ms)} on what is on.`;
}

/** How a start is coming on: its words and its share, `null` where nobody can tell. */
export function progress(adapter, now) {
  const words = adapter.phase ?? (adapter.state === "loading" ? "loading models" : "starting the worker");
  const elapsed = now - adapter.since_ms;
  const step = /\((\d+) of (\d+)\)/.exec(adapter.phase ?? "");
  const stepped = step ? Number(step[1]) / Number(step[2]) : null;
  const timed = adapter.cold_start_ms ? Math.min(0.97, elapsed / adapter.cold_start_ms) : null;
  const usual = adapter.cold_start_ms ? `, last time ${milliseconds(adapter.cold_start_ms)}` : "";
  return { words, share: stepped ?? timed, time: `${duration(elapsed)}${usual}` };
}
