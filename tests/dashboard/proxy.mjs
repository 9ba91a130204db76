// A proxy in front of the real server: a path prefix, optional API keys, and counts of the streams of events.

import { createServer, request as httpRequest } from "node:http";

export const PREFIX = "/models/concertina";

export async function startProxy(port) {
  const streams = new Set();
  const proxy = { port, streams: () => streams.size, streamsMax: 0, attempts: 0, keys: null };
  const server = createServer((request, response) => {
    if (!request.url.startsWith(`${PREFIX}/`)) return response.writeHead(404).end();
    const path = request.url.slice(PREFIX.length);
    if (path.startsWith("/api/") && !isAllowed(proxy, request)) return reject(response);
    if (path === "/api/events") count(proxy, streams, response);
    return pass(proxy, path, request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.url = `http://127.0.0.1:${server.address().port}${PREFIX}/`;
  proxy.end = () => {
    server.close();
    server.closeAllConnections();
  };
  return proxy;
}

const isAllowed = ({ keys }, { headers }) => !keys || keys.some((key) => headers.authorization === `Bearer ${key}`);

function reject(response) {
  response.writeHead(401, { "content-type": "application/json" }).end(JSON.stringify({ error: "an API key is required" }));
}

function count(proxy, streams, response) {
  proxy.attempts += 1;
  streams.add(response);
  proxy.streamsMax = Math.max(proxy.streamsMax, streams.size);
  response.once("close", () => streams.delete(response));
}

function pass(proxy, path, request, response) {
  const passed = httpRequest({ host: "127.0.0.1", port: proxy.port, path, method: request.method, headers: headersFor(proxy, request) }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.once("error", () => response.destroy()).pipe(response);
  });
  passed.once("error", () => response.destroy());
  response.once("close", () => passed.destroy());
  request.pipe(passed);
}

/** The server rejects changes from other origins. */
function headersFor({ port }, { headers: { origin, ...headers } }) {
  const host = `127.0.0.1:${port}`;
  return { ...headers, host, ...(origin && { origin: `http://${host}` }) };
}
