// Details of an adapter, collapsed below its card.

import { count, duration, known, milliseconds, number, size, watts } from "./format.js";
import { h, keyed, text } from "./dom.js";

export function makeNumbers() {
  const list = h("dl", { class: "numbers" });
  return { list, root: h("details", {}, h("summary", { text: "Details" }), list) };
}

/** Nothing is computed for details that are closed. */
export function updateNumbers(view, adapter, context) {
  if (!view.root.open) return;
  const lines = [...work(adapter), ...start(adapter), ...speed(adapter, context.snapshot.models), ...device(adapter)];
  keyed(view.list, lines, ([name]) => name, makeLine, updateLine);
}

function makeLine([name]) {
  const value = h("dd");
  return { value, root: h("div", {}, h("dt", { text: name }), value) };
}

function updateLine(line, [, value]) {
  text(line.value, value);
}

function work({ requests, rows, batches, recent }) {
  return [
    ["Served in total", `${count(requests, "request")}, ${count(rows, "row")}, ${batches === 1 ? "1 batch" : `${number(batches)} batches`}`],
    ["With a batch running", recent ? `${Math.round(recent.busy * 100)} % of the last 30 s` : "not in the last 30 s"],
    ["Batches", recent ? `${number(recent.batches_per_s)} /s` : "none in the last 30 s"],
  ];
}

function start({ starts, starts_last_hour, on_ms, cold_start_ms, open_ms, pid, fault }) {
  const lines = [
    ["Starts", `${number(starts)}, ${number(starts_last_hour)} of the last hour, on for ${duration(on_ms)} in total`],
    ["Last start took", `${known(cold_start_ms, milliseconds)}, opening the device ${known(open_ms, milliseconds)}`],
    ["Process", pid == null ? "none" : String(pid)],
  ];
  if (fault) lines.push(["Last fault", fault]);
  return lines;
}

function speed({ replicas, probe }, models) {
  const lines = replicas.map((replica) => [`${replica.model} ${replica.version}`, replicaWords(replica, models)]);
  lines.push(["Probed speed", probe ? `${known(probe.gflops, number)} GFLOP/s, ${known(probe.copy_gbytes_per_s, number)} GB/s copied` : "not measured"]);
  return lines;
}

function replicaWords(replica, models) {
  const facts = [replica.loaded ? "loaded" : "not loaded"];
  if (replica.batch_ms != null && replica.row_ms != null) facts.push(...batchWords(replica, models));
  else facts.push("speed unknown");
  if (replica.bytes != null) facts.push(size(replica.bytes));
  if (replica.load_ms != null) facts.push(`loads in ${milliseconds(replica.load_ms)}`);
  return facts.join(" · ");
}

/** Rows per second need the maximum batch, since a part of a batch's time is fixed. */
function batchWords(replica, models) {
  const formula = `${number(replica.batch_ms)} ms + ${number(replica.row_ms)} ms per row`;
  const rows = models.find(({ name }) => name === replica.model)?.max_rows;
  if (!rows) return [formula];
  const perSecond = (1000 * rows) / (replica.batch_ms + replica.row_ms * rows);
  return [`≈ ${number(Number(perSecond.toPrecision(2)))} rows/s at batches of ${rows}`, formula];
}

function device({ memory_bytes, power, sensors, driver, driver_info }) {
  return [
    ["Power above off", power ? `${watts(power.idle_watts)} idle, ${watts(power.active_watts)} busy, ${watts(power.start_watts)} starting${power.assumed ? " (assumed)" : ""}` : "unknown"],
    ["Memory", `${known(memory_bytes, size)}${sensorMemory(sensors)}`],
    ["Sensors", sensors?.source ?? "not readable"],
    ["Driver", [driver, driver_info].filter(Boolean).join(" ") || "unknown"],
  ];
}

function sensorMemory(sensors) {
  if (sensors?.memory_used_bytes == null) return "; used on the device: unknown";
  return `; ${size(sensors.memory_used_bytes)} of ${known(sensors.memory_total_bytes, size)} used on the device`;
}
