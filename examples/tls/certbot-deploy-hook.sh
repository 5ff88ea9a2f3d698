#!/bin/sh
# certbot renewed a certificate: put it where isr-proxy reads it, and have it read again. No connection is dropped.
#
#   sudo install -m 0755 certbot-deploy-hook.sh /etc/letsencrypt/renewal-hooks/deploy/isr-proxy
#   sudo certbot certonly --webroot -w /var/www/html -d www.example.org
#
# In isr-proxy.service say `SupplementaryGroups=ssl-cert`, so that the service may read the key. A pair that does not fit
# leaves the old certificate in use; `journalctl -u isr-proxy` says what is wrong.
set -eu

: "${RENEWED_LINEAGE:?certbot sets it}"
: "${TARGET:=/etc/isr-proxy/tls}"
: "${GROUP:=ssl-cert}"
: "${RELOAD:=systemctl reload isr-proxy}"

install -d -m 0750 -g "$GROUP" "$TARGET"
for file in fullchain.pem privkey.pem; do
  install -m 0640 -g "$GROUP" "$RENEWED_LINEAGE/$file" "$TARGET/$file.new"
  mv "$TARGET/$file.new" "$TARGET/$file"
done
$RELOAD
