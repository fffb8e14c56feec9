"""A rule: it judges numbers, and reaches nothing.

This one breaches above a limit and, once it fires, until the value falls below another. How long a breach must last
(`for`, `keep`), what happens without data and who is told is the host's affair.
"""

import functools
import json
import math
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.rule import Batch, Needs, Verdicts
from wit_world.imports.types import Description, Error_Config, Error_Internal, Severities

SCHEMA = {
    "type": "object",
    "properties": {
        "limit": {"type": "number", "description": "above it, it is a breach"},
        "clear": {"type": "number", "description": "what fires goes on until it is at or below this"},
    },
    "required": ["limit"],
}


def judge(value: float, limit: float) -> Severities | None:
    if math.isnan(value):
        return None  # unknown: never fires, never resolves
    return Severities.WARNING if value > limit else Severities(0)


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


class Rule(exports.Rule):
    def describe(self) -> Description:
        return Description("@NAME@", "0.1.0", "@SUMMARY@", json.dumps(SCHEMA), [], [])

    @told
    def configure(self, config: str, inputs: list[str]) -> Needs:
        """An error here refuses the configuration before anything changes: say what to write instead."""
        table.update(json.loads(config))
        if "limit" not in table:
            raise Err(Error_Config("config.limit: write the value above which it is a breach, like limit = 10"))
        if len(inputs) != 1:
            raise Err(Error_Config(f"the rule has {len(inputs)} inputs, and this plugin judges one: write metric = \"…\""))
        if table.setdefault("clear", table["limit"]) > table["limit"]:
            raise Err(Error_Config("config.clear: write a value at or below the limit, like limit = 10, clear = 8"))
        return Needs(labels=False, memory=False, points_of=[], back_ms=0)

    @told
    def evaluate(self, batch: Batch) -> Verdicts:
        """One round: every list has one entry an instance. Equal rounds give equal verdicts: no clock, no chance."""
        values = batch.columns[0]
        limits = [table["clear"] if active else table["limit"] for active in batch.active]
        breached = [judge(value, limit) for value, limit in zip(values, limits)]
        known = [math.nan if math.isnan(value) else limit for value, limit in zip(values, limits)]
        return Verdicts(breached, values, known, [], [])
