// Formatting of numbers. An unknown value is shown as unknown, never as 0.

export const UNKNOWN = "unknown";
const NONE = "–";

export function known(value, format) {
  return value == null ? UNKNOWN : format(value);
}

/** Formats a recent figure; a dash if nothing happened. */
export function recent(value, format) {
  return value == null ? NONE : format(value);
}

export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Formats an age, less precisely for a longer one, so that old lines do not change. */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** Formatters by the maximum number of decimals. `toLocaleString` creates one on each call, which was half of the cost of an update. */
const NUMBERS = [0, 1, 2].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits }));

/** Formats a number with about three significant digits. */
export function number(value) {
  const size = Math.abs(value);
  return NUMBERS[size >= 100 ? 0 : size >= 10 ? 1 : 2].format(value);
}

export function milliseconds(ms) {
  if (ms < 1000) return `${number(ms)} ms`;
  if (ms < 60000) return `${number(ms / 1000)} s`;
  return duration(ms);
}

/** Formats a pair of quantiles, with one unit if both have the same. */
export function quantiles(p50, p99) {
  if (p50 == null) return NONE;
  const short = milliseconds(p50);
  if (p99 == null) return short;
  const [value, unit] = short.split(" ");
  const long = milliseconds(p99);
  return long.endsWith(` ${unit}`) ? `${value} / ${long}` : `${short} / ${long}`;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${number(bytes / 1024 ** power)} ${["", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;
export const watts = (value) => `${number(Math.round(value * 10) / 10)} W`;
export const celsius = (value) => `${Math.round(value)} °C`;

export function count(value, noun) {
  return `${NUMBERS[0].format(value)} ${noun}${value === 1 ? "" : "s"}`;
}

const APIS = { vulkan: "Vulkan", metal: "Metal", dx12: "DX12", gl: "OpenGL", cpu: "CPU" };
export const apiName = (api) => APIS[api] ?? api;

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const clock = (wallMs) => CLOCK.format(wallMs);
