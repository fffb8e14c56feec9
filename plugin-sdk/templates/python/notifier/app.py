"""A notifier: it tells a service about alerts, once. Retrying, grouping and muting is the host's affair.

This one posts a line of text to a chat.
"""

import functools
import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.notifier import Notification, Receipt
from wit_world.imports import http
from wit_world.imports.types import (
    Description,
    Error_Config,
    Error_Internal,
    Error_Rejected,
    Error_Unavailable,
    Unavailability,
)

SCHEMA = {
    "type": "object",
    "properties": {"url": {"type": "string", "description": "where to post"}},
    "required": ["url"],
}


def check(response: http.Response) -> http.Response:
    """2xx, or the error that tells the host whether to try again."""
    status = response.status
    if 200 <= status < 300:
        return response
    if status in (408, 429) or status >= 500:
        wait = next((value for name, value in response.headers if name.lower() == "retry-after"), "")
        wait = int(wait) * 1000 if wait.isdigit() else None
        raise Err(Error_Unavailable(Unavailability(f"answered {status}", wait)))
    raise Err(Error_Rejected(f"answered {status}: {response.body[:200].decode(errors='replace')}"))


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


class Notifier(exports.Notifier):
    def describe(self) -> Description:
        # The last but one: what to ask the operator for; nothing is allowed until it stands in the configuration.
        wants = ["http https://chat.example:443"]
        return Description("@NAME@", "0.1.0", "@SUMMARY@", json.dumps(SCHEMA), wants, [])

    @told
    def configure(self, config: str) -> None:
        """An error here refuses the configuration before anything changes: say what to write instead."""
        # May be "{{secret:chat}}": the host fills it in on the way out, this code never sees it.
        table.update({"url": ""}, **json.loads(config))
        if not table["url"].startswith(("https://", "http://", "{{secret:")):
            raise Err(Error_Config("config.url: write a whole address, https://chat.example/hook, or {{secret:NAME}}"))

    @told
    def notify(self, notification: Notification) -> Receipt:
        sign = "resolved" if notification.reason == "resolve" else "firing"
        body = json.dumps({"text": f"{sign}: {notification.title}"})
        response = check(
            http.send(
                http.Request(
                    method="POST",
                    url=table["url"],
                    # The id is the same over retries: the service can drop a duplicate by it.
                    headers=[("Content-Type", "application/json"), ("Idempotency-Key", notification.id)],
                    body=body.encode(),
                    fill_body=False,
                    timeout_ms=10_000,
                    extra=[],
                )
            )
        )
        ids = (value for name, value in response.headers if name.lower() == "x-message-id")
        return Receipt(next(ids, None), [])
