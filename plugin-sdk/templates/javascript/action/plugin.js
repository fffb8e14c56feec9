// An action: it tries to put things right, once an attempt. When, how often, and whether it helped is the host's
// affair: the next samples tell.
//
// This one asks a service to drain what the alert names.

import { send } from "watchfire:plugin/http@0.1.0";

const schema = {
  type: "object",
  properties: {
    url: { type: "string", description: "where to post" },
    label: { type: "string", description: "the label that says what to drain" },
  },
  required: ["url", "label"],
};

let url, label;

// UTF-8, which QuickJS has no TextEncoder for.
const bytes = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (letter) => letter.charCodeAt(0));

// Lets the message of an unexpected exception reach the operator: nobody reads the interpreter's own words.
const told = (call) => (...args) => {
  try {
    return call(...args);
  } catch (error) {
    throw error?.tag || error?.payload ? error : { tag: "internal", val: `${error} ${error?.stack ?? ""}` };
  }
};

export const action = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "@SUMMARY@",
      configSchema: JSON.stringify(schema),
      // What to ask the operator for; nothing is allowed until it stands in the configuration.
      wants: ["http http://127.0.0.1:8080"],
      extra: [],
    };
  },

  // An error here refuses the configuration before anything changes: say what to write instead.
  configure: told((config) => {
    ({ url = "", label = "" } = JSON.parse(config));
    if (!url.startsWith("http")) {
      throw { tag: "config", val: "config.url: write a whole address, like http://127.0.0.1:8080/drain" };
    }
    if (!label) throw { tag: "config", val: "config.label: write the label of the alert that says what to drain" };
  }),

  act: told((alert, attempt, dryRun) => {
    const what = alert.labels.find(([name]) => name === label)?.[1];
    if (what === undefined) throw { tag: "config", val: `config.label: the alert has no label "${label}"` };
    if (dryRun) return { did: `would drain ${what}`, changed: false };
    const { status } = send({
      method: "POST",
      url,
      // A repeated attempt must not act twice on one request.
      headers: [["Content-Type", "application/json"], ["Idempotency-Key", `${alert.fingerprint}-${attempt}`]],
      body: bytes(JSON.stringify({ drain: what })),
      fillBody: false,
      timeoutMs: 10_000,
      extra: [],
    });
    // The case of the error tells the host whether trying again would help.
    if (status === 408 || status === 429 || status >= 500) {
      throw { tag: "unavailable", val: { message: `answered ${status}` } };
    }
    if (status < 200 || status >= 300) throw { tag: "rejected", val: `answered ${status}` };
    return { did: `drained ${what}`, changed: true };
  }),
};
