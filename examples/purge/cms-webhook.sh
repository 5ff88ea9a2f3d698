#!/bin/sh
# A CMS that can call a URL when something is published (Contentful, Sanity, Strapi, Directus, a Git hook ...).
#
# What to enter in the CMS is what curl sends here: POST, two headers, a JSON body. Where the CMS can fill in
# the entry's own id or slug, let it: {"tags": ["post:{{ slug }}"]}.
#
#   ISR_ADMIN_URL=http://127.0.0.1:8081 ISR_ADMIN_TOKEN=... sh cms-webhook.sh post:hello blog
#
# `revalidate` keeps the old pages until the new ones are there. For what must vanish at once say `purge`.
set -eu

: "${ISR_ADMIN_URL:=http://127.0.0.1:8081}"
: "${ISR_ADMIN_TOKEN:=}"
: "${CALL:=revalidate}"
[ "$#" -gt 0 ] || { echo "usage: cms-webhook.sh TAG..." >&2; exit 2; }

tags=$(printf '"%s",' "$@")

# The token goes through a file that curl reads, so that nobody sees it in the list of processes.
printf 'header = "Authorization: Bearer %s"\n' "$ISR_ADMIN_TOKEN" |
  curl --config - --silent --show-error --fail-with-body --max-time 10 \
    --request POST "$ISR_ADMIN_URL/v1/$CALL" \
    --header 'Content-Type: application/json' \
    --data "{\"tags\": [${tags%,}]}"
echo
