"""A probe: it looks at something and answers with numbers.

This one reads the load of the host and holds it against a limit. Put what you want to watch in the place of `collect`.
"""

import functools
import json
import traceback

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.probe import Collection, Family, Kind, Point
from wit_world.imports import system
from wit_world.imports.types import (
    Description,
    Error_Config,
    Error_Internal,
    Error_Unavailable,
    Unavailability,
)

SCHEMA = {
    "type": "object",
    "properties": {"limit": {"type": "number", "description": "the load that counts as full, 4 if left out"}},
}


def gauge(metric: str, help: str, value: float) -> Family:
    return Family(metric, Kind.GAUGE, help, [Point("", [], value)])


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


class Probe(exports.Probe):
    def describe(self) -> Description:
        # The last but one: what to ask the operator for; nothing is allowed until it stands in the configuration.
        return Description("@NAME@", "0.1.0", "@SUMMARY@", json.dumps(SCHEMA), ["system"], [])

    @told
    def configure(self, config: str) -> None:
        """An error here refuses the configuration before anything changes: say what to write instead."""
        table.update({"limit": 4.0}, **json.loads(config))
        unknown = set(table) - {"limit"}
        if unknown:
            raise Err(Error_Config(f"config.{min(unknown)}: there is no such key: write limit"))
        if table["limit"] <= 0:
            raise Err(Error_Config("config.limit: write a load above 0, like limit = 4.0"))

    @told
    def collect(self) -> Collection:
        limit = table["limit"]
        # A refusal of the host is raised as `Err`, and goes to the host as it is.
        for reading in system.read(["load"]):
            if reading.metric == "load1":
                return Collection(
                    [
                        gauge("load_to_limit_ratio", "Load over its limit", reading.value / limit),
                        gauge("load_limit", "The load that counts as full", limit),
                    ],
                    [],
                )
        raise Err(Error_Unavailable(Unavailability("the host tells no load", None)))
