#!/usr/bin/env python3
"""Every mutant of cargo-mutants in one build of the engine.

cargo-mutants builds anew for each mutant: 5 s of building for 0.7 s of tests. This takes its list
(`cargo mutants --list --json`) and writes the mutants of a function beside its body, as arms of a `match` on a
number that the environment gives; then the tests run once a mutant. What does not compile as an arm is unviable,
as with cargo-mutants. Constants and functions that return `impl Trait` cannot be written so: they are `apart`, and
left to cargo-mutants itself.

    mutants.py generate CLONE     spoils the sources of the clone
    mutants.py run CLONE          the quick tests, for every mutant without a verdict
    mutants.py run CLONE --all    the slow ones too, for what they missed
    mutants.py run CLONE 17 42    these once more
    mutants.py report CLONE
"""

import collections
import json
import os
import re
import resource
import subprocess
import sys
import time

ENGINE = "agent/engine/src/lib.rs"

# Seconds of CPU for one mutant: what needs three times as long as the tests without any hangs.
CPU_SECS = {"quick": 12, "all": 120}

# Seconds by the wall, for what waits without computing.
WALL_SECS = 1_200

# Bytes of address space: some mutants allocate for ever.
MEMORY_BYTES = 6 << 30

# Run after the other quick ones, for most mutants need no more than those.
SLOW = ["scenarios::random", "silences::the_number", "bounds::when_no_place", "alertmanager::every_change"]

# No part of the quick tests.
LAST = ["properties::", "promtool"]

# Chosen where no mutant is.
NONE = 2**32 - 1

SELECT = """
pub(crate) fn mutant() -> u32 {
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").map_or(u32::MAX, |n| n.parse().expect("a number")))
}
"""


def cargo(clone, *args):
    return subprocess.run(["cargo", *args], cwd=clone, capture_output=True, text=True)


def read(clone, name):
    with open(f"{clone}/mutants.{name}") as file:
        return json.load(file)


def save(clone, name, what):
    path = f"{clone}/mutants.{name}"
    with open(f"{path}.new", "w") as file:
        json.dump(what, file)
    os.replace(f"{path}.new", path)


def generate(clone):
    listed = cargo(clone, "mutants", "-p", "watchfire-engine", "--list", "--json")
    listed = json.loads(listed.stdout)
    status = {}
    files = collections.defaultdict(list)
    for number, mutant in enumerate(listed):
        function = mutant["function"]
        if not function or "impl " in function["return_type"]:
            status[number] = "apart"
        else:
            files[mutant["file"]].append((number, mutant))
    assert ENGINE not in files, "it gets the choice alone"
    sources = {}
    for file in [*files, ENGINE]:
        with open(f"{clone}/{file}") as source:
            sources[file] = source.read()
    with open(f"{clone}/{ENGINE}", "w") as to:
        to.write(sources[ENGINE] + SELECT)
    while True:
        arms = {}
        for file, all in files.items():
            viable = [one for one in all if one[0] not in status]
            text, arms[file] = with_arms(sources[file], viable)
            with open(f"{clone}/{file}", "w") as to:
                to.write(text)
        check = cargo(clone, "check", "-p", "watchfire-engine", "--profile", "mutants", "--message-format=json")
        if check.returncode == 0:
            break
        unviable = set()
        for line in check.stdout.splitlines():
            message = json.loads(line).get("message")
            if message and message["level"] == "error":
                for span in message["spans"]:
                    for first, last, number in arms.get(span["file_name"], []):
                        if span["is_primary"] and first <= span["line_start"] <= last:
                            unviable.add(number)
        assert unviable, check.stderr
        status.update(dict.fromkeys(unviable, "unviable"))
    save(clone, "list", listed)
    save(clone, "status", {number: [verdict, 0] for number, verdict in status.items()})


def with_arms(source, mutants):
    """The source with all of its mutants, and the lines of each."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def edges(span):
        return [starts[span[edge]["line"] - 1] + span[edge]["column"] - 1 for edge in ("start", "end")]

    bodies = collections.defaultdict(list)
    for number, mutant in mutants:
        begin, end = edges(mutant["function"]["span"])
        name = re.sub(r"<.*>", "", mutant["function"]["function_name"].split("::")[-1])
        at = re.compile(rf"\bfn\s+{re.escape(name)}\b").search(source, begin, end).end()
        depth = 0
        while source[at] != "{" or depth:
            depth += (source[at] in "([") - (source[at] in ")]")
            at += 1
        bodies[(at + 1, end - 1)].append((number, mutant))
    out, arms, at, line = [], [], 0, 1

    def put(text):
        nonlocal line
        out.append(text)
        line += text.count("\n")

    for (begin, end), all in sorted(bodies.items()):
        assert begin >= at, "a function within another"
        put(source[at:begin] + " match crate::mutant() {\n")
        for number, mutant in all:
            first, last = edges(mutant["span"])
            before = line
            put(f"{number} => {{{source[begin:first]}{mutant['replacement']}{source[last:end]}}}\n")
            arms.append((before, line - 1, number))
        put(f"_ => {{{source[begin:end]}}}\n}}")
        at = end
    put(source[at:])
    return "".join(out), arms


def run(clone, everything, only):
    built = cargo(clone, "test", "-p", "watchfire-engine", "--profile", "mutants", "--lib", "--test", "it",
                  "--no-run", "--message-format=json")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    tests = [message["executable"] for message in messages if message.get("executable")]
    assert len(tests) == 2, built.stderr
    cpu = CPU_SECS["all" if everything else "quick"]
    late = [arg for name in LAST for arg in ("--skip", name)]
    slow = [arg for name in SLOW for arg in ("--skip", name)]
    stages = [LAST] if everything else [[*slow, *late], [*SLOW, *late]]

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))

    def verdict(number):
        # The bootstrap lets the test harness stop at the first failure; nothing is built with it.
        env = {**os.environ, "MUTANT": str(number), "RUSTC_BOOTSTRAP": "1", "RUST_MIN_STACK": str(64 << 20)}
        for test in tests:
            for stage in stages:
                command = [test, *stage, "-Z", "unstable-options", "--fail-fast"]
                try:
                    done = subprocess.run(command, cwd=f"{clone}/agent/engine", env=env, timeout=WALL_SECS,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limit)
                except subprocess.TimeoutExpired:
                    return "hung"
                if done.returncode in (-24, -9):  # SIGXCPU, SIGKILL: the limit
                    return "hung"
                if done.returncode:
                    return "caught"
        return "missed by all" if everything else "missed"

    assert verdict(NONE).startswith("missed"), "the tests fail without any mutant"
    listed, status = read(clone, "list"), read(clone, "status")

    def wanted(number):
        before = status.get(str(number), [None])[0]
        return number in only if only else before == ("missed" if everything else None)

    for number in filter(wanted, range(len(listed))):
        begin = time.monotonic()
        now = verdict(number)
        before = status.get(str(number), ["", 0])[0]
        if now in ("caught", "hung") and before.startswith("missed"):
            now += " later"
        status[str(number)] = [now, round(time.monotonic() - begin, 1)]
        save(clone, "status", status)
        if "missed" in now or "later" in now:
            print(number, now, listed[number]["name"], flush=True)


def report(clone):
    listed, status = read(clone, "list"), read(clone, "status")
    shards = [collections.Counter() for _ in range(12)]
    for number, mutant in enumerate(listed):
        verdict = status.get(str(number), ["not run"])[0]
        shards[number % 12][verdict] += 1
        if "missed" in verdict:
            print(number, verdict, mutant["name"])
    for number, shard in enumerate(shards):
        print(f"shard {number}:", dict(shard))
    print("all:", dict(sum(shards, collections.Counter())))
    print(f"{sum(secs for _, secs in status.values()):.0f} s of tests")


if __name__ == "__main__":
    what, clone, *rest = sys.argv[1:]
    if what == "run":
        run(clone, "--all" in rest, [int(number) for number in rest if number != "--all"])
    else:
        {"generate": generate, "report": report}[what](clone)
