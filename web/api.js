// Requests to the server, with the API key if there is one.

const KEY = "concertina-api-key";

/** Storage can be forbidden; then the key is kept as long as the page is open. */
let remembered = null;

function key() {
  try {
    return sessionStorage.getItem(KEY) ?? remembered;
  } catch {
    return remembered;
  }
}

export function setKey(value) {
  remembered = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // kept for this page only
  }
}

export function authorization() {
  const value = key();
  return value ? { authorization: `Bearer ${value}` } : {};
}

/** Returns the error text of a failed answer. */
export async function errorOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch {
    // not JSON: the answer of a proxy
  }
  return `the server answered ${response.status} ${response.statusText}`.trim();
}

/** Sends a request; returns `{data, response}` or `{error}` as text; never throws. */
export async function call(method, path, body, headers = {}) {
  const sent = body === undefined ? {} : { body: typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body) };
  try {
    const response = await fetch(path, {
      method,
      headers: { ...(sent.body ? { "content-type": "application/json" } : {}), ...authorization(), ...headers },
      ...sent,
    });
    if (!response.ok) return { error: await errorOf(response), response };
    return { data: await response.json().catch(() => null), response };
  } catch (error) {
    return { error: `the server did not answer: ${error.message}` };
  }
}
