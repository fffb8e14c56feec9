#!/usr/bin/env bash
# Idle wake-ups: how often each thread of an agent gets up between two rounds. No periodic wake-up may be faster than
# one second: no thread gets up more often than once a second beyond what the rounds themselves take.
#
#   agent/benches/idle.sh [BINARY [SECONDS]]        default: target/release/watchfire, 60
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:-target/release/watchfire}
seconds=${2:-60}

folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
chmod 755 "$folder"
# A round every five minutes: what is seen in a minute is no round's.
cat >"$folder/watchfire.toml" <<TOML
[agent]
data_dir = "data"
packs = ["host"]
[api]
listen = ""
[[probe]]
id = "host"
plugin = "probe-host"
every = "5m"
grant = { system = true }
TOML
"$binary" run --config "$folder/watchfire.toml" >"$folder/log" 2>&1 &
pid=$!
for _ in $(seq 600); do
  grep -q 'plugins are ready' "$folder/log" && break
  sleep 0.1
done
grep -q 'plugins are ready' "$folder/log" || { cat "$folder/log"; exit 1; }
# The start is over: its first round, its first looks, its first writes.
sleep 15

count() {
  for task in /proc/"$pid"/task/*; do
    printf '%s %s %s\n' "${task##*/}" "$(tr ' ' _ <"$task/comm")" "$(awk '/^voluntary_ctxt_switches/ {print $2}' "$task/status")"
  done
}
count >"$folder/before"
sleep "$seconds"
count >"$folder/after"
awk -v seconds="$seconds" '
  NR == FNR { before[$1] = $3; next }
  {
    ups = $3 - before[$1]; all += ups
    if (ups > 0) printf "  %-20s %6d in %d s, %.2f a second\n", $2, ups, seconds, ups / seconds
    if (ups > seconds) fast = 1
  }
  END {
    printf "all threads: %d wake-ups in %d s, %.2f a second\n", all, seconds, all / seconds
    if (fast) { print "FAILED: a thread wakes up faster than once a second"; exit 1 }
  }' "$folder/before" "$folder/after"
