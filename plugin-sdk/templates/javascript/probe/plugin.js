// A probe: it looks at something and answers with numbers.
//
// This one reads the load of the host and holds it against a limit. Put what you want to watch in the place of `collect`.

import { read } from "watchfire:plugin/system@0.1.0";

const schema = {
  type: "object",
  properties: { limit: { type: "number", description: "the load that counts as full, 4 if left out" } },
};

let limit;

const gauge = (metric, help, value) => ({ metric, kind: "gauge", help, points: [{ suffix: "", labels: [], value }] });

// Lets the message of an unexpected exception reach the operator: nobody reads the interpreter's own words.
const told = (call) => (...args) => {
  try {
    return call(...args);
  } catch (error) {
    throw error?.tag || error?.payload ? error : { tag: "internal", val: `${error} ${error?.stack ?? ""}` };
  }
};

export const probe = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "@SUMMARY@",
      configSchema: JSON.stringify(schema),
      // What to ask the operator for; nothing is allowed until it stands in the configuration.
      wants: ["system"],
      extra: [],
    };
  },

  // An error here refuses the configuration before anything changes: say what to write instead.
  configure: told((config) => {
    const table = JSON.parse(config);
    for (const key of Object.keys(table)) {
      if (key !== "limit") throw { tag: "config", val: `config.${key}: there is no such key: write limit` };
    }
    limit = table.limit ?? 4;
    if (!(limit > 0)) throw { tag: "config", val: "config.limit: write a load above 0, like limit = 4.0" };
  }),

  collect: told(() => {
    // A refusal of the host is thrown, and goes to the host as it is.
    const load = read(["load"]).find((reading) => reading.metric === "load1");
    if (!load) throw { tag: "unavailable", val: { message: "the host tells no load" } };
    return {
      families: [
        gauge("load_to_limit_ratio", "Load over its limit", load.value / limit),
        gauge("load_limit", "The load that counts as full", limit),
      ],
      failures: [],
    };
  }),
};
