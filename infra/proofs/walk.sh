#!/usr/bin/env bash
# Walks an account and its journal with plain curl against a running laptop stack (make run):
#   infra/proofs/walk.sh [http://127.0.0.1:2001] [.local/outbox]
# Ends with 0 when every step answered as the API says, else with 1 at the first that did not.
set -euo pipefail

API=${1:-http://127.0.0.1:2001}
OUTBOX=${2:-.local/outbox}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
address="walk-$(date +%s)-$$@example.com"
first='correct horse battery 1'
second='correct horse battery 2'
third='correct horse battery 3'
token=''

# call EXPECTED METHOD PATH [CURL ARGUMENTS ...]: the body lands in $work/body, the head in $work/head
call() {
    local expected=$1 method=$2 path=$3
    shift 3
    local status
    status=$(curl --silent --show-error --max-time 60 --output "$work/body" --dump-header "$work/head" \
        --write-out '%{http_code}' --request "$method" "$API$path" "$@")
    printf '%-6s %-52s %s\n' "$method" "$path" "$status"
    if [ "$status" != "$expected" ]; then
        printf 'expected %s, the answer was:\n' "$expected" >&2
        cat "$work/body" >&2
        exit 1
    fi
}

# as EXPECTED METHOD PATH [...]: the same, signed in
as() {
    local expected=$1 method=$2 path=$3
    shift 3
    call "$expected" "$method" "$path" --header "Authorization: Bearer $token" "$@"
}

# field NAME: a field of the last answer, which may not be null
field() {
    python3 -c 'import json, sys
value = json.load(open(sys.argv[1]))
for part in sys.argv[2].split("."):
    value = value[int(part)] if part.isdigit() else value[part]
assert value is not None, sys.argv[2] + " is null"
print(value)' "$work/body" "$1"
}

json() { printf 'Content-Type: application/json'; }

# code WORD: the code in the newest mail to our address whose link has WORD in it; waits for the worker
code() {
    python3 - "$OUTBOX" "$address" "$1" <<'PY'
import email, email.policy, pathlib, re, sys, time

folder, address, word = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
until = time.monotonic() + 30
while time.monotonic() < until:
    for path in sorted(folder.glob("**/*.eml"), key=lambda one: one.stat().st_mtime, reverse=True):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        text = message.get_body(("plain",)).get_content()
        found = re.search(rf"/{word}\?code=([\w-]+)", text)
        if address in str(message["To"]) and found:
            print(found[1])
            sys.exit(0)
    time.sleep(0.2)
sys.exit(f"no mail to {address} with a link to /{word} came in 30 s")
PY
}

login() {
    call 200 POST /api/v1/auth/login --header "$(json)" --cookie-jar "$work/cookies" \
        --data "{\"email\": \"$address\", \"password\": \"$1\"}"
    token=$(field access_token)
}

call 202 POST /api/v1/auth/register --header "$(json)" \
    --data "{\"email\": \"$address\", \"password\": \"$first\", \"full_name\": \"Walker\"}"
call 200 POST /api/v1/auth/verify-email --header "$(json)" --data "{\"code\": \"$(code verify-email)\"}"
login "$first"
as 200 GET /api/v1/auth/me
[ "$(field is_verified)" = True ]
as 200 PUT /api/v1/auth/me --header "$(json)" --data '{"full_name": "Walker the Second"}'
[ "$(field full_name)" = 'Walker the Second' ]
as 200 POST /api/v1/auth/change-password --header "$(json)" \
    --data "{\"current_password\": \"$first\", \"new_password\": \"$second\"}"
as 200 GET /api/v1/auth/sessions
# curl sends a Secure cookie over plain HTTP to no host but localhost: hand it over by name
cookie=$(awk '!/^# / && NF >= 7 {print $6 "=" $7}' "$work/cookies" | tail -n 1)
call 200 POST /api/v1/auth/refresh --header "$(json)" --header "Cookie: $cookie" --cookie-jar "$work/cookies"
token=$(field access_token)

as 200 GET '/api/v1/fusion/EURUSD=X?journal=true'
as 200 GET /api/v1/journal
entry=$(field items.0.id)
as 200 GET "/api/v1/journal/$entry"
as 200 GET /api/v1/journal/stats
[ "$(field total)" -ge 1 ]
as 202 POST /api/v1/journal/verify-now --header "Idempotency-Key: walk-$$-$(date +%s)"
job=$(field id)
for _ in $(seq 60); do
    as 200 GET "/api/v1/ml/jobs/$job" >/dev/null
    state=$(field status)
    [ "$state" = SUCCEEDED ] || [ "$state" = FAILED ] && break
    sleep 0.5
done
printf '%-6s %-52s %s\n' '' "job $job" "$state"
[ "$state" = SUCCEEDED ]

as 200 POST /api/v1/auth/logout --header "$(json)"
as 401 GET /api/v1/auth/me
call 202 POST /api/v1/auth/forgot-password --header "$(json)" --data "{\"email\": \"$address\"}"
call 200 POST /api/v1/auth/reset-password --header "$(json)" \
    --data "{\"code\": \"$(code reset-password)\", \"new_password\": \"$third\"}"
call 401 POST /api/v1/auth/login --header "$(json)" --data "{\"email\": \"$address\", \"password\": \"$second\"}"
login "$third"
echo 'every step answered as the API says'
