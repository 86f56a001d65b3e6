#!/usr/bin/env bash
# curl and jq, and nothing else.
set -euo pipefail
: "${LETHE_TOKEN:?a token of manager@demo.example, see README.md}"
endpoint=${LETHE_URL:-http://127.0.0.1:8080}/graphql
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -r "$folder"' EXIT

# One operation a request: ask DOCUMENT [VARIABLES]. With this Accept header the status says whether the request was
# served; with application/json it is 200 whatever comes back, as older clients want it.
ask() {
  jq -n --arg query "$1" --argjson variables "${2:-null}" '{$query, $variables}' |
    curl -sS "$endpoint" -H "Authorization: Bearer $LETHE_TOKEN" -H 'Content-Type: application/json' \
      -H 'Accept: application/graphql-response+json' -d @-
}
# What is shown is what is so.
is() {
  [[ $2 == "$3" ]] || { echo "$1: $2, not $3" >&2; exit 1; }
  echo "$1: $2"
}

# Mutations. A name that is new, so that the list below is known.
name="curl $RANDOM$RANDOM$RANDOM"
for i in 1 2 3; do
  id=$(ask 'mutation ($name: String!) { createCustomer(input: {name: $name}) { customer { id } } }' "{\"name\": \"$name $i\"}" |
    jq -er .data.createCustomer.customer.id)
done

# A query by GET, and the next page of the same list.
page() {
  curl -sS -G "$endpoint" -H "Authorization: Bearer $LETHE_TOKEN" --data-urlencode "variables=$1" \
    --data-urlencode 'query=query ($where: CustomerWhereInput, $after: Cursor) {
      customers(first: 2, after: $after, where: $where, orderBy: {field: NAME, direction: ASC}) {
        nodes { name } pageInfo { hasNextPage endCursor } } }'
}
first=$(page "{\"where\": {\"nameHasPrefix\": \"$name\"}}")
is 'first page' "$(jq -r '[.data.customers.nodes[].name | .[-1:]] | join(" ")' <<<"$first")" '1 2'
after=$(jq -er .data.customers.pageInfo.endCursor <<<"$first")
second=$(page "{\"where\": {\"nameHasPrefix\": \"$name\"}, \"after\": \"$after\"}")
is 'second page' "$(jq -r '[.data.customers.nodes[].name | .[-1:]] | join(" ")' <<<"$second")" 3

# A subscription is a response that does not end. When it is cut off curl ends, and the loop asks again.
listen() {
  while true; do
    curl -sSN -G "$endpoint" -H "Authorization: Bearer $LETHE_TOKEN" -H 'Accept: text/event-stream' --data-urlencode \
      "query=subscription { recordChanged(ids: [\"$id\"]) { action version } }" 2>/dev/null &
    echo $! >"$folder/curl"
    wait $! || true
    sleep 0.2
  done
}
listen >"$folder/events" &
heard() { grep -c '^data: {' "$folder/events" || true; }
version=1
# Until it is heard, for nothing tells when a subscription has begun.
rename_until_heard() {
  local before
  before=$(heard)
  for _ in {1..40}; do
    version=$(ask 'mutation ($input: UpdateCustomerInput!) { updateCustomer(input: $input) { customer { version } } }' \
      "{\"input\": {\"id\": \"$id\", \"version\": $version, \"name\": \"$name, again\"}}" | jq -er .data.updateCustomer.customer.version)
    for _ in {1..10}; do
      sleep 0.05
      [[ $(heard) == "$before" ]] || return 0
    done
  done
  echo 'no event was heard' >&2
  exit 1
}
rename_until_heard
is subscription "$(grep '^data: {' "$folder/events" | tail -1 | cut -c7- | jq -r .data.recordChanged.action)" UPDATE
kill "$(cat "$folder/curl")"
rename_until_heard
echo 'heard again after the connection was cut'

# Delete and restore. The key makes it safe to send it again when the answer was lost: both are one operation.
ids="{\"ids\": [\"$id\"], \"key\": \"$name\"}"
delete() {
  ask 'mutation ($ids: [ID!]!, $key: String) { deleteRecords(input: {select: {ids: $ids}, idempotencyKey: $key}) { operation { id } } }' \
    "$ids" | jq -er .data.deleteRecords.operation.id
}
operation=$(delete)
is 'deleted once, by the operation' "$(delete)" "$operation"

# Errors. A record that is refused is data, with its code: it is in the bin, where nothing is archived.
ids="{\"ids\": [\"$id\"]}"
refused=$(ask 'mutation ($ids: [ID!]!) { archiveRecords(input: {select: {ids: $ids}}) { operation {
  items(first: 1) { nodes { code blockers { state allowed } } } } } }' "$ids" | jq -c '.data.archiveRecords.operation.items.nodes[0]')
is 'refused item' "$(jq -r .code <<<"$refused")" ILLEGAL_TRANSITION
is 'restored' "$(ask 'mutation ($ids: [ID!]!) { restoreRecords(input: {select: {ids: $ids}}) { operation { status } } }' "$ids" |
  jq -r .data.restoreRecords.operation.status)" SUCCEEDED

# A request that may not be made at all is an error, with its code in the extensions.
is error "$(ask 'mutation ($ids: [ID!]!) { purgeRecords(input: {select: {ids: $ids}}) { operation { id } } }' "$ids" |
  jq -r '.errors[0].extensions.code')" FORBIDDEN

# What the statuses are, as curl and the table in README.md have it: status NAME WANTED CURL-ARGUMENTS...
status() {
  is "$1" "$(curl -sS -o "$folder/answer" -w '%{http_code}' "$endpoint" "${@:3}")" "$2"
}
json=(-H 'Content-Type: application/json')
token=(-H "Authorization: Bearer $LETHE_TOKEN")
tenant='{"query": "{ viewer { tenant } }"}'
status 'signed in' 200 "${token[@]}" "${json[@]}" -d "$tenant"
status 'not signed in' 401 "${json[@]}" -H 'Accept: application/graphql-response+json' -d "$tenant"
status 'not signed in, plain JSON' 200 "${json[@]}" -d "$tenant"
is 'and there the code tells' "$(jq -r '.errors[0].extensions.code' "$folder/answer")" UNAUTHENTICATED
status 'media types that are not served' 406 "${token[@]}" "${json[@]}" -H 'Accept: text/html' -d "$tenant"
status 'what may be sent' 204 "${token[@]}" -X OPTIONS
status 'a mutation by GET' 405 "${token[@]}" -G --data-urlencode \
  "query=mutation { deleteRecords(input: {select: {ids: [\"$id\"]}}) { operation { id } } }"
status 'a form' 415 "${token[@]}" -d 'query={viewer{tenant}}'
status 'an array of operations' 400 "${token[@]}" "${json[@]}" -d "[$tenant]"
