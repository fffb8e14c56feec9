#!/usr/bin/env bash
# A hundred distinct plugins, each called every ten seconds: what they add to the PSS of an agent without any.
#
#   agent/benches/hundred.sh [BINARY [COMPONENT]]   default: target/release/watchfire and the guest example-probe
#
# The components are one probe whose code differs in a constant. Nothing is shared between them: each is compiled,
# loaded and kept by itself, and its samples have a label of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:-target/release/watchfire}
component=${2:-target/plugins/wasm32-wasip2/plugin/guest_example_probe.wasm}
bound_kib=$((35 << 10))

folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT

# parts PID: PSS by what it belongs to, in KiB.
parts() {
  awk '/^[0-9a-f]+-[0-9a-f]+ / { of = /\(deleted\)$/ ? "plugins" : NF < 6 || $6 == "[heap]" ? "heap, stacks, memories" : "program" }
    /^Pss:/ { kib[of] += $2 }
    END { for (of in kib) printf "  %-24s %6d KiB\n", of, kib[of] }' "/proc/$1/smaps" | sort
}

# measure NAME: starts an agent, waits for its rounds, prints its PSS in KiB.
measure() {
  "$binary" run --config "$folder/$1/watchfire.toml" >"$folder/$1/log" 2>&1 &
  pid=$!
  for _ in $(seq 3000); do
    grep -q 'plugins are ready' "$folder/$1/log" && break
    sleep 0.1
  done
  grep -q 'plugins are ready' "$folder/$1/log" || { cat "$folder/$1/log" >&2; exit 1; }
  # Seven rounds, and the minute after which idle memory goes back.
  sleep 75
  { echo "$1:"; parts "$pid"; } >&2
  awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup"
  kill "$pid"
  wait "$pid" 2>/dev/null || true
  pid=
}

for name in empty hundred; do
  mkdir -p "$folder/$name/data/plugins"
  chmod 755 "$folder" "$folder/$name" "$folder/$name/data" "$folder/$name/data/plugins"
  printf '[agent]\ndata_dir = "data"\n[api]\nlisten = ""\n[defaults]\nevery = "10s"\ntimeout = "5s"\n' >"$folder/$name/watchfire.toml"
done
for number in $(seq 1 100); do
  # i64.const of the bits of 42.0; the lowest seven of them become the number.
  perl -0777 -pe 's/\x42\x80(\x80{5}\xc0\xa2\xc0\x00)/"\x42" . chr(0x80 | '"$number"') . $1/e' \
    "$component" >"$folder/hundred/data/plugins/p$number.wasm"
  printf '[[probe]]\nid = "p%s"\nplugin = "p%s"\nlabels = { copy = "%s" }\n' "$number" "$number" "$number" \
    >>"$folder/hundred/watchfire.toml"
done
distinct=$(sha256sum "$folder"/hundred/data/plugins/*.wasm | cut -d' ' -f1 | sort -u | wc -l)
[ "$distinct" = 100 ] || { echo "only $distinct components differ: the constant was not found"; exit 1; }

empty=$(measure empty)
hundred=$(measure hundred)
grep -q ' probes=100 ' "$folder/hundred/log" || { grep 'plugins are ready' "$folder/hundred/log"; exit 1; }
echo "PSS: empty agent $empty KiB, with 100 plugins $hundred KiB, added $((hundred - empty)) KiB; at most $bound_kib"
((hundred - empty <= bound_kib))
