// A notifier: it tells a service about alerts, once. Retrying, grouping and muting is the host's affair.
//
// This one posts a line of text to a chat.

import { send } from "watchfire:plugin/http@0.1.0";

const schema = {
  type: "object",
  properties: { url: { type: "string", description: "where to post" } },
  required: ["url"],
};

let url;

const header = (response, wanted) => response.headers.find(([name]) => name.toLowerCase() === wanted)?.[1];

// UTF-8, which QuickJS has no TextEncoder for.
const bytes = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (letter) => letter.charCodeAt(0));

// 2xx, or the error that tells the host whether to try again.
function check(response) {
  const { status } = response;
  if (status >= 200 && status < 300) return response;
  if (status === 408 || status === 429 || status >= 500) {
    const wait = Number.parseInt(header(response, "retry-after") ?? "", 10);
    const retryAfterMs = Number.isNaN(wait) ? undefined : wait * 1000;
    throw { tag: "unavailable", val: { message: `answered ${status}`, retryAfterMs } };
  }
  throw { tag: "rejected", val: `answered ${status}` };
}

// Lets the message of an unexpected exception reach the operator: nobody reads the interpreter's own words.
const told = (call) => (...args) => {
  try {
    return call(...args);
  } catch (error) {
    throw error?.tag || error?.payload ? error : { tag: "internal", val: `${error} ${error?.stack ?? ""}` };
  }
};

export const notifier = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "@SUMMARY@",
      configSchema: JSON.stringify(schema),
      // What to ask the operator for; nothing is allowed until it stands in the configuration.
      wants: ["http https://chat.example:443"],
      extra: [],
    };
  },

  // An error here refuses the configuration before anything changes: say what to write instead.
  configure: told((config) => {
    // May be "{{secret:chat}}": the host fills it in on the way out, this code never sees it.
    url = JSON.parse(config).url ?? "";
    if (!["https://", "http://", "{{secret:"].some((start) => url.startsWith(start))) {
      throw { tag: "config", val: "config.url: write a whole address, https://chat.example/hook, or {{secret:NAME}}" };
    }
  }),

  notify: told((notification) => {
    const sign = notification.reason === "resolve" ? "resolved" : "firing";
    const response = check(
      send({
        method: "POST",
        url,
        // The id is the same over retries: the service can drop a duplicate by it.
        headers: [["Content-Type", "application/json"], ["Idempotency-Key", notification.id]],
        body: bytes(JSON.stringify({ text: `${sign}: ${notification.title}` })),
        fillBody: false,
        timeoutMs: 10_000,
        extra: [],
      }),
    );
    return { remoteId: header(response, "x-message-id"), extra: [] };
  }),
};
