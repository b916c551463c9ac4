#!/usr/bin/env bash
# claimgate beside a real OPA: same policy, same data, one core for the server, wrk on another.
#
#   tests/bench/side_by_side.sh [rounds] [seconds]      default: 5 rounds of 8 s for each server and case
#
# CLAIMGATE and OPA name programs that are already built. Needs wrk, taskset and Go (OPA is built by `go install`); without them it says so and ends with 0.
# The token case is measured twice: with claimgate's cache of verified tokens, as it comes, and without it, where it
# verifies the signature for each request as OPA does. Rounds alternate between the servers; the table shows medians and the ratio of the medians.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} seconds=${2:-8}
opa_version=${OPA_VERSION:-v1.22.2}

skip() { echo "SKIPPED side_by_side: $1" >&2; exit 0; }
command -v wrk >/dev/null || skip "wrk is not installed (Debian: apt-get install wrk)"
command -v taskset >/dev/null || skip "taskset is not installed (Debian: util-linux)"
[ "$(nproc)" -ge 2 ] || skip "needs two cores: one for the server, one for wrk"
if [ -z "${OPA:-}" ]; then
  command -v go >/dev/null || skip "Go is not installed, so OPA cannot be built"
  OPA=${GOBIN:-$(go env GOPATH)/bin}/opa
  "$OPA" version 2>/dev/null | grep -q "${opa_version#v}" || go install "github.com/open-policy-agent/opa@$opa_version" || skip "OPA could not be built"
fi
claimgate=${CLAIMGATE:-}
if [ -z "$claimgate" ]; then
  cargo build --release --quiet
  claimgate=${CARGO_TARGET_DIR:-target}/release/claimgate
fi

work=$(mktemp -d)
pids=()
cleanup() { for p in "${pids[@]:-}"; do kill "$p" 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT

# --- policies, data, keys -------------------------------------------------------------------------------------------
mkdir -p "$work"/{plain,token_cg,token_opa}
cp tests/bench/rbac/policy.rego tests/bench/rbac/data.json "$work/plain/"
cp tests/bench/rbac_token/claimgate.rego "$work/token_cg/policy.rego"
cp tests/bench/rbac_token/opa.rego "$work/token_opa/policy.rego"
cp tests/bench/rbac/data.json "$work/token_cg/"
cp tests/fixtures/bench/rs256.jwk.json "$work/key.json"
python3 - "$work" <<'PY'
import json, sys
work = sys.argv[1]
key = json.load(open(f"{work}/key.json"))
public = {"keys": [{k: key[k] for k in ("kty", "n", "e", "kid", "alg", "use") if k in key}]}
json.dump(public, open(f"{work}/jwks.json", "w"))
data = json.load(open(f"{work}/plain/data.json"))
data["jwks"] = json.dumps(public)
json.dump(data, open(f"{work}/token_opa/data.json", "w"))
PY
# Twelve hours, so that no round meets an expired token.
token=$($claimgate token mint --key "$work/key.json" --ttl 43200 --claim iss=https://idp.example --claim aud=bench \
  --claim sub=alice --claim org_id=acme --claim role=editor)
cat > "$work/token.yaml" <<YAML
listen: 127.0.0.1:18281
admin: {listen: 127.0.0.1:18282}
issuers:
  - issuer: https://idp.example
    audiences: [bench]
    algorithms: [RS256]
    jwks: {file: $work/jwks.json}
log: {level: error}
YAML
sed 's/1828/1858/' "$work/token.yaml" > "$work/uncached.yaml"
echo 'token: {cache: {entries: 0}}' >> "$work/uncached.yaml"
cat > "$work/plain.yaml" <<YAML
listen: 127.0.0.1:18181
admin: {listen: 127.0.0.1:18182}
opa: {identity: passthrough}
log: {level: error}
YAML
body='{"input":{"user":"alice","action":"edit","type":"folder"}}'
cat > "$work/plain.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '$body'
LUA
cat > "$work/token_cg.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer $token"
wrk.body = '{"input":{"action":"edit","type":"folder"}}'
LUA
cat > "$work/token_opa.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"input":{"jwt":"$token","action":"edit","type":"folder"}}'
LUA

# --- servers, each on core 0 ----------------------------------------------------------------------------------------
start() { taskset -c 0 "$@" >>"$work/log" 2>&1 & pids+=($!); }
start "$claimgate" run -c "$work/plain.yaml" -b "$work/plain"
start "$claimgate" run -c "$work/token.yaml" -b "$work/token_cg"
start "$claimgate" run -c "$work/uncached.yaml" -b "$work/token_cg"
start env GOMAXPROCS=1 "$OPA" run --server --log-level error --addr 127.0.0.1:18381 -b "$work/plain"
start env GOMAXPROCS=1 "$OPA" run --server --log-level error --addr 127.0.0.1:18481 -b "$work/token_opa"
answer() { curl -s -X POST "$@" | tr -d '\n' || cat "$work/log" >&2; }
ports=(18182 18282 18582 18381 18481)
for _ in $(seq 100); do
  healthy=0
  for port in "${ports[@]}"; do curl -sf "127.0.0.1:$port/health" >/dev/null && healthy=$((healthy + 1)); done
  [ "$healthy" -lt ${#ports[@]} ] || break
  sleep 0.1
done
[ "$healthy" -eq ${#ports[@]} ] || { echo "$healthy of ${#ports[@]} servers started:" >&2; cat "$work/log" >&2; exit 1; }
# A server that finds its port taken ends; what answers there is another's, and must not be measured.
all_run() {
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2>/dev/null || { echo "a server has ended; is its port taken?" >&2; cat "$work/log" >&2; exit 1; }
  done
}
url=/v1/data/rbac/allow
for port in 18181 18381; do
  got=$(answer -d "$body" 127.0.0.1:$port$url)
  case $got in *'"result":true'*) ;; *) echo "port $port answered: $got" >&2; cat "$work/log" >&2; exit 1;; esac
done
got=$(answer -H "Authorization: Bearer $token" -d '{"input":{"action":"edit","type":"folder"}}' 127.0.0.1:18281$url)
case $got in *'"result":true'*) ;; *) echo "claimgate with a token answered: $got" >&2; cat "$work/log" >&2; exit 1;; esac
got=$(answer -d "{\"input\":{\"jwt\":\"$token\",\"action\":\"edit\",\"type\":\"folder\"}}" 127.0.0.1:18481$url)
case $got in *'"result":true'*) ;; *) echo "OPA with a token answered: $got" >&2; cat "$work/log" >&2; exit 1;; esac
all_run

# --- load -----------------------------------------------------------------------------------------------------------
measure() { # name port script
  taskset -c 1 wrk -t1 -c8 -d"${seconds}s" --latency -s "$3" "http://127.0.0.1:$2$url" > "$work/wrk.out"
  grep -q "Non-2xx" "$work/wrk.out" && { echo "$1 gave errors:"; cat "$work/wrk.out"; exit 1; } >&2
  awk -v name="$1" '
    function us(x) { return x ~ /us$/ ? x+0 : x ~ /ms$/ ? (x+0)*1000 : (x+0)*1000000 }
    /50%/ { p50 = us($2) } /99%/ { p99 = us($2) } /Requests\/sec/ { rps = $2 }
    END { printf "%s %.0f %.0f %.0f\n", name, rps, p50, p99 }' "$work/wrk.out" >> "$work/results"
}
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  measure plain_claimgate 18181 "$work/plain.lua"
  measure plain_opa       18381 "$work/plain.lua"
  measure token_claimgate 18281 "$work/token_cg.lua"
  measure uncached_claimgate 18581 "$work/token_cg.lua"
  measure token_opa       18481 "$work/token_opa.lua"
  all_run
done
python3 - "$work/results" "$("$OPA" version | head -1)" <<'PY'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    name, *numbers = line.split()
    rows.setdefault(name, []).append([float(n) for n in numbers])
median = {name: [statistics.median(c) for c in zip(*r)] for name, r in rows.items()}
print(f"OPA {sys.argv[2]}; one core each, wrk with 8 connections; medians of {len(next(iter(rows.values())))} rounds")
print(f"{'case':<28}{'requests/s':>12}{'p50 us':>10}{'p99 us':>10}")
for name in ("plain_claimgate", "plain_opa", "token_claimgate", "uncached_claimgate", "token_opa"):
    rps, p50, p99 = median[name]
    print(f"{name:<28}{rps:>12.0f}{p50:>10.0f}{p99:>10.0f}")
for case, opa, goal in (("plain", "plain", 3), ("token", "token", 5), ("uncached", "token", 5)):
    ours, theirs = median[f"{case}_claimgate"], median[f"{opa}_opa"]
    print(f"{case}: {ours[0]/theirs[0]:.2f}x OPA's requests/s (goal {goal}x), p99 {ours[2]/theirs[2]:.2f} of OPA's (goal 0.33)")
PY
