"""An action: it tries to put things right, once an attempt. When, how often, and whether it helped is the host's
affair: the next samples tell.

This one asks a service to drain what the alert names.
"""

import functools
import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.action import Outcome
from wit_world.imports import http
from wit_world.imports.types import (
    Alert,
    Description,
    Error_Config,
    Error_Internal,
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


def told(call):
    """Lets the message of an unexpected exception reach the operator: the interpreter's own words end up nowhere."""

    @functools.wraps(call)
    def wrapper(*arguments):
        try:
            return call(*arguments)
        except Err:
            raise
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            raise Err(Error_Internal(f"app.py:{line}: {type(error).__name__}: {error}")) from error

    return wrapper


# What `configure` read. Every call is made on a new object in a fresh instance, after `configure`.
table = {}


class Action(exports.Action):
    def describe(self) -> Description:
        # The last but one: what to ask the operator for; nothing is allowed until it stands in the configuration.
        wants = ["http http://127.0.0.1:8080"]
        return Description("@NAME@", "0.1.0", "@SUMMARY@", json.dumps(SCHEMA), wants, [])

    @told
    def configure(self, config: str) -> None:
        """An error here refuses the configuration before anything changes: say what to write instead."""
        table.update({"url": "", "label": ""}, **json.loads(config))
        if not table["url"].startswith("http"):
            raise Err(Error_Config("config.url: write a whole address, like http://127.0.0.1:8080/drain"))
        if not table["label"]:
            raise Err(Error_Config("config.label: write the label of the alert that says what to drain"))

    @told
    def act(self, alert: Alert, attempt: int, dry_run: bool) -> Outcome:
        label = table["label"]
        what = dict(alert.labels).get(label)
        if what is None:
            raise Err(Error_Config(f"config.label: the alert has no label {label!r}"))
        if dry_run:
            return Outcome(f"would drain {what}", False)
        response = http.send(
            http.Request(
                method="POST",
                url=table["url"],
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
