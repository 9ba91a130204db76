// Requests to the server, with the API key if there is one.

const KEY = "concertina-api-key";

/** Storage can be forbidden; then the key lasts as long as the page. */
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
    // remembered for this page
  }
}

export function authorization() {
  const value = key();
  return value ? { authorization: `Bearer ${value}` } : {};
}

/** The words of a failed answer. */
export async function errorOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch {
    // no JSON: a proxy answered
  }
  return `the server answered ${response.status} ${response.statusText}`.trim();
}

/** `{data, response}`, or `{error}` in words; never throws. */
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
