// The reason for the state of an adapter, from the newest decision about it.

import { ago, duration, milliseconds } from "./format.js";
import { isOn } from "./states.js";

const TURNS_ON = new Set(["start", "resume"]);
const TURNS_OFF = new Set(["drain", "quarantine"]);

function newest(adapter, decisions, changes) {
  const about = (decision) => decision.adapter === adapter.id && changes.has(decision.change);
  const last = adapter.last_decision; // the log is limited, but this one is always kept
  return decisions.findLast(about) ?? (last && changes.has(last.change) ? last : undefined);
}

/** Returns `{lead, text}`: the state with its duration, and the reason. */
export function why(adapter, { decisions, snapshot, now }) {
  if (adapter.state === "unused") return { lead: "Not used: ", text: adapter.reason ?? "no reason given" };
  if (adapter.state === "quarantined") return failed(adapter, decisions, now);
  if (adapter.state === "unreaped") return { lead: "Not usable: ", text: adapter.fault ?? "its process does not end" };
  if (adapter.state === "draining" || adapter.state === "stopping") return turningOff(adapter, decisions, now);
  if (adapter.state === "off" && adapter.reason) return { lead: "Not usable now: ", text: adapter.reason };
  if (isOn(adapter.state) && adapter.trial > 0) return inVerification(adapter);
  if (isOn(adapter.state)) return on(adapter, decisions, now);
  return off(adapter, decisions, snapshot, now);
}

function failed(adapter, decisions, now) {
  const decision = newest(adapter, decisions, new Set(["quarantine"]));
  const text = decision?.text ?? adapter.fault ?? "";
  return { lead: `Failed ${ago(now - adapter.since_ms)}: `, text };
}

/** After a wrong answer, the adapter repeats batches of another one before it answers by itself. */
function inVerification(adapter) {
  const batches = adapter.trial === 1 ? "1 batch" : `${adapter.trial} batches`;
  return { lead: "On, being verified after a wrong answer: ", text: `${batches} must agree with another adapter first` };
}

function turningOff(adapter, decisions, now) {
  const decision = newest(adapter, decisions, TURNS_OFF);
  if (!decision) return { lead: "Turning off", text: "" };
  return { lead: `Turning off for ${duration(now - decision.at_ms)}: `, text: decision.text };
}

function on(adapter, decisions, now) {
  const decision = newest(adapter, decisions, TURNS_ON);
  const turning = adapter.state === "starting" || adapter.state === "loading" ? "Turning on" : "On";
  if (decision) return { lead: `${turning} for ${duration(now - decision.at_ms)}: `, text: decision.text };
  const lasting = `${turning} for ${duration(now - adapter.since_ms)}`;
  return adapter.mode === "on" ? { lead: `${lasting}: `, text: "kept on by the operator" } : { lead: lasting, text: "" };
}

function off(adapter, decisions, snapshot, now) {
  if (adapter.mode === "off") return { lead: "Off: ", text: "turned off by the operator" };
  const decision = newest(adapter, decisions, TURNS_OFF);
  const present = stillOff(adapter, snapshot);
  if (!decision) return { lead: "Off: ", text: present ? `not needed yet. ${present}` : "not needed yet" };
  return { lead: `Off for ${duration(now - adapter.since_ms)}: `, text: present ? `${decision.text}. ${present}` : decision.text };
}

/** Returns the reason why it is not turned on again now, or an empty text. */
function stillOff(adapter, { queue, adapters }) {
  if (adapter.bridge) return "It serves only models that meet their targets on it; none is known.";
  if (adapter.fallback) return "It is used only while no other adapter is usable.";
  const outstanding = queue.queued_requests + queue.in_flight_requests;
  if (outstanding === 0 || !adapters.some(({ state }) => isOn(state))) return "";
  if (queue.drain_ms < 1) return "The active adapters can handle the current load.";
  return `The queue takes about ${milliseconds(queue.drain_ms)} on the active adapters.`;
}

/** Returns the progress of a start: its step, and its share, `null` if unknown. */
export function progress(adapter, now) {
  const words = adapter.phase ?? (adapter.state === "loading" ? "loading models" : "starting the worker");
  const elapsed = now - adapter.since_ms;
  const step = /\((\d+) of (\d+)\)/.exec(adapter.phase ?? "");
  const stepped = step ? Number(step[1]) / Number(step[2]) : null;
  const timed = adapter.cold_start_ms ? Math.min(0.97, elapsed / adapter.cold_start_ms) : null;
  const usual = adapter.cold_start_ms ? `, last time ${milliseconds(adapter.cold_start_ms)}` : "";
  return { words, share: stepped ?? timed, time: `${duration(elapsed)}${usual}` };
}
