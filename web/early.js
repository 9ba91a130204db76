// Requests the first snapshot while the other modules are still loading.

import { authorization } from "./api.js";

export const first = fetch("api/snapshot", { headers: authorization() })
  .then((response) => (response.ok ? response.json() : null))
  .catch(() => null); // the stream reports the error
