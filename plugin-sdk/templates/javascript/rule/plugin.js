// A rule: it judges numbers, and reaches nothing.
//
// This one breaches above a limit and, once it fires, until the value falls below another. How long a breach must last
// (`for`, `keep`), what happens without data and who is told is the host's affair.

const schema = {
  type: "object",
  properties: {
    limit: { type: "number", description: "above it, it is a breach" },
    clear: { type: "number", description: "what fires goes on until it is at or below this" },
  },
  required: ["limit"],
};

let limit, clear;

const none = { low: false, warning: false, high: false, critical: false };

function judge(value, limit) {
  if (Number.isNaN(value)) return undefined; // unknown: never fires, never resolves
  return { ...none, warning: value > limit };
}

// Lets the message of an unexpected exception reach the operator: nobody reads the interpreter's own words.
const told = (call) => (...args) => {
  try {
    return call(...args);
  } catch (error) {
    throw error?.tag || error?.payload ? error : { tag: "internal", val: `${error} ${error?.stack ?? ""}` };
  }
};

export const rule = {
  describe() {
    return { name: "@NAME@", version: "0.1.0", summary: "@SUMMARY@", configSchema: JSON.stringify(schema), wants: [], extra: [] };
  },

  // An error here refuses the configuration before anything changes: say what to write instead.
  configure: told((config, inputs) => {
    const table = JSON.parse(config);
    if (table.limit === undefined) {
      throw { tag: "config", val: "config.limit: write the value above which it is a breach, like limit = 10" };
    }
    if (inputs.length !== 1) {
      throw { tag: "config", val: `the rule has ${inputs.length} inputs, and this plugin judges one: write metric = "…"` };
    }
    limit = table.limit;
    clear = table.clear ?? limit;
    if (clear > limit) {
      throw { tag: "config", val: "config.clear: write a value at or below the limit, like limit = 10, clear = 8" };
    }
    return { labels: false, memory: false, pointsOf: [], backMs: 0 };
  }),

  // One round: every list has one entry an instance. Equal rounds give equal verdicts: no clock, no chance.
  evaluate: told((batch) => {
    const values = Array.from(batch.columns[0]);
    const fires = (active) => Object.values(active).some(Boolean);
    const limits = batch.active.map((active) => (fires(active) ? clear : limit));
    return {
      breached: values.map((value, index) => judge(value, limits[index])),
      values,
      limits: limits.map((limit, index) => (Number.isNaN(values[index]) ? NaN : limit)),
      notes: [],
      memory: [],
    };
  }),
};
