#!/usr/bin/env bash
# From `plugin new` to a probe that gives samples in a running agent: how long it takes and how much CPU time.
# Crates are taken from cargo's cache; everything of the new plugin is compiled, its dependencies included.
# Usage: agent/benches/template.sh [WATCHFIRE]
set -euo pipefail

watchfire=$(realpath "${1:-$(dirname "$0")/../../target/release/watchfire}")
folder=$(mktemp -d)
agent=''
trap '[ -z "$agent" ] || kill "$agent"; rm -rf "$folder"' EXIT
cd "$folder"
unset CARGO_TARGET_DIR RUSTFLAGS

# Each line: seconds of wall time, seconds of CPU time.
TIMEFORMAT='%R s, of CPU %U + %S s'
step() { printf '%-28s' "$1"; shift; time "$@" >>log 2>&1; }

start=$(date +%s.%N)
step 'plugin new' "$watchfire" plugin new probe-new
# The versions of this repository, where it is at hand: the same crates as it uses.
lock=$(dirname "$watchfire")/../../Cargo.lock
[ ! -f "$lock" ] || cp "$lock" probe-new/
step 'plugin build' "$watchfire" plugin build probe-new
step 'plugin test' "$watchfire" plugin test --component probe-new/probe-new.wasm probe-new
mkdir -p data/plugins
cat >watchfire.toml <<'TOML'
[agent]
data_dir = "data"
[api]
listen = "127.0.0.1:19465"
[[probe]]
id     = "new"
plugin = "probe-new"
every  = "1s"
grant  = { system = true }
TOML
step 'plugin install' "$watchfire" plugin install probe-new/probe-new.wasm --into data/plugins
"$watchfire" run --config watchfire.toml >>log 2>&1 &
agent=$!
sampled() {
  for _ in $(seq 1000); do
    if curl -sf http://127.0.0.1:19465/metrics | grep -q '^load_to_limit_ratio'; then return; fi
    sleep 0.02
  done
  echo 'no sample within 20 s' >&2
  return 1
}
step 'agent until its sample' sampled
printf '%-28s%.1f s\n' 'template to running probe' "$(echo "$(date +%s.%N) - $start" | bc)"
