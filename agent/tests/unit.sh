#!/usr/bin/env bash
# Runs the unit of config/systemd under a real systemd and treats it as operators and accidents do: reload, kill, hang,
# a plugin dropped in, stop. Needs root; changes nothing outside: systemd is process 1 of namespaces of its own, on a
# layer of memory over this machine's files. Where that cannot be, it says so and ends well.
#
#   agent/tests/unit.sh [BINARY [COMPONENT]]   default: target/debug/watchfire and the guest example-probe
set -euo pipefail

# boot LAYER BINARY COMPONENT: inside the namespaces; makes the layer and becomes systemd.
boot() {
  local root=$1/root
  mount -t tmpfs none "$1" -o size=1g
  mkdir "$1/upper" "$1/work" "$root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs none "$root/run"
  rm -rf "$root"/var/lib/{,private/}watchfire "$root/etc/watchfire" "$root"/etc/systemd/system/*.wants
  # As the unit's first lines say.
  install -D -m 755 "$2" "$root/usr/bin/watchfire"
  install -D -m 644 config/minimal.toml "$root/etc/watchfire/watchfire.toml"
  install -D -m 644 config/systemd/watchfire.service "$root/etc/systemd/system/watchfire.service"
  install -D -m 644 "$3" "$root/usr/share/watchfire/mine.wasm"
  printf '[Unit]\nDefaultDependencies=no\nWants=watchfire.service systemd-journald.service\n' \
    >"$root/etc/systemd/system/watchfire-test.target"
  : >"$root/etc/machine-id"
  exec env -i container=watchfire-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" /lib/systemd/systemd --system --unit=watchfire-test.target --log-target=journal
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ "${1:-}" = --boot ]; then
  boot "${@:2}"
fi
binary=$(realpath "${1:-target/debug/watchfire}")
component=$(realpath "${2:-target/plugins/wasm32-wasip2/plugin/guest_example_probe.wasm}")

skip() { echo "the unit was not run under systemd: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip 'that needs root'
[ -x /lib/systemd/systemd ] || skip 'systemd is not installed'
namespaces=(--fork --kill-child --pid --mount --ipc --uts --net --propagation private)
unshare "${namespaces[@]}" mount -t tmpfs none /mnt 2>/dev/null || skip 'namespaces cannot be made here'

layer=$(mktemp -d)
unshare "${namespaces[@]}" bash agent/tests/unit.sh --boot "$layer" "$binary" "$component" >"$layer.log" 2>&1 &
outer=$!
trap 'kill -KILL "$outer" 2>/dev/null || true; wait "$outer" 2>/dev/null || true; rmdir "$layer"; rm -f "$layer.log"' EXIT

# inside COMMAND...: beside systemd.
inside() { nsenter -t "$init" -m -p -i -u -n -r -w "$@"; }
unit() { inside systemctl show -p "$1" --value watchfire; }
fail() {
  echo "the unit: $1" >&2
  inside journalctl --no-pager -o cat -u watchfire >&2 || cat "$layer.log" >&2
  exit 1
}
# until WHAT COMMAND...: within the time that a start of an unoptimised agent and the unit's watchdog (30 s) take.
until_true() {
  local what=$1
  for _ in $(seq 400); do
    if "${@:2}" >/dev/null 2>&1; then return; fi
    sleep 0.25
  done
  fail "$what did not come about in 100 s"
}
watches() { [ "$(unit ActiveState) $(unit StatusText)" = 'active watching' ]; }
another_than() { watches && [ "$(unit MainPID)" != "$1" ]; }

init() { init=$(pgrep -P "$outer" -f 'lib/systemd/systemd --system') && inside systemctl list-units; }
for _ in $(seq 40); do
  if init >/dev/null 2>&1; then break; fi
  kill -0 "$outer" 2>/dev/null || skip "systemd does not start here: $(tail -n 1 "$layer.log")"
  sleep 0.25
done
init >/dev/null 2>&1 || skip 'systemd does not answer here'

until_true 'a ready agent' watches
pid=$(unit MainPID)
[ "$(inside stat -c %U "/proc/$pid")" != root ] || fail 'runs as root'
inside grep -q '^CapEff:\s*0*$' "/proc/$pid/status" || fail 'has capabilities'
inside grep -q '^NoNewPrivs:\s*1$' "/proc/$pid/status" || fail 'may gain privileges'
inside grep -q '^Seccomp:\s*2$' "/proc/$pid/status" || fail 'may call everything'

inside systemctl reload watchfire || fail 'does not reload'
watches || fail 'does not live through a reload'
[ "$(unit MainPID)" = "$pid" ] || fail 'a reload is a restart'

inside install -m 644 /usr/share/watchfire/mine.wasm /var/lib/watchfire/plugins/mine.wasm
runs() { inside watchfire plugin list --config /etc/watchfire/watchfire.toml | grep -q '^mine .* running '; }
until_true 'a plugin that was dropped in' runs

inside kill -KILL "$pid"
until_true 'an agent after a kill' another_than "$pid"
until_true 'the plugin after a kill' runs

# Seconds without a sign of life until the watchdog strikes: WatchdogSec= of the unit.
pid=$(unit MainPID)
inside kill -STOP "$pid"
until_true 'an agent after a hang' another_than "$pid"
[ "$(unit NRestarts)" = 2 ] || fail "restarted $(unit NRestarts) times, not twice"

# Its own limit is five seconds a stage, and it would say that it needed it; this is less than the unit's 15 s.
timeout 14 nsenter -t "$init" -m -p -i -u -n -r -w systemctl stop watchfire || fail 'takes more than 14 s to stop'
[ "$(unit Result)" = success ] || fail "ended with $(unit Result)"
journal=$(inside journalctl --no-pager -o cat -u watchfire)
for complaint in 'not permitted' 'ermission denied' 'did not end in time' ERROR; do
  ! grep "$complaint" <<<"$journal" || fail "says: $complaint"
done
echo "the unit under $(inside systemctl --version | head -n 1): ready, confined, reloaded, killed, hung, extended by a plugin and stopped"
