"""An action: it tries to put things right, once an attempt. When, how often, and whether it helped is the host's
affair: the next samples tell.

This one asks a service to drain what the alert names.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.action import Outcome
from wit_world.imports import http
from wit_world.imports.types import (
    Alert,
    Description,
    Error_Config,
    Error_Rejected,
    Error_Unavailable,
    Unavailability,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "description": "where to post"},
        "label": {"type": "string", "description": "the label that says what to drain"},
    },
    "required": ["url", "label"],
}


class Action(exports.Action):
    def describe(self) -> Description:
        # The last but one: what to ask the operator for; nothing is allowed until it stands in the configuration.
        wants = ["http http://127.0.0.1:8080"]
        return Description("@NAME@", "0.1.0", "@SUMMARY@", json.dumps(SCHEMA), wants, [])

    def configure(self, config: str) -> None:
        """An error here refuses the configuration before anything changes: say what to write instead."""
        table = json.loads(config)
        self.url, self.label = table.get("url", ""), table.get("label", "")
        if not self.url.startswith("http"):
            raise Err(Error_Config("config.url: write a whole address, like http://127.0.0.1:8080/drain"))
        if not self.label:
            raise Err(Error_Config("config.label: write the label of the alert that says what to drain"))

    def act(self, alert: Alert, attempt: int, dry_run: bool) -> Outcome:
        what = dict(alert.labels).get(self.label)
        if what is None:
            raise Err(Error_Config(f"config.label: the alert has no label {self.label!r}"))
        if dry_run:
            return Outcome(f"would drain {what}", False)
        response = http.send(
            http.Request(
                method="POST",
                url=self.url,
                # A repeated attempt must not act twice on one request.
                headers=[("Content-Type", "application/json"), ("Idempotency-Key", f"{alert.fingerprint}-{attempt}")],
                body=json.dumps({"drain": what}).encode(),
                fill_body=False,
                timeout_ms=10_000,
                extra=[],
            )
        )
        # The case of the error tells the host whether trying again would help.
        if response.status in (408, 429) or response.status >= 500:
            raise Err(Error_Unavailable(Unavailability(f"answered {response.status}", None)))
        if not 200 <= response.status < 300:
            raise Err(Error_Rejected(f"answered {response.status}"))
        return Outcome(f"drained {what}", True)
