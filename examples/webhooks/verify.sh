#!/bin/sh
# Checks one message with openssl: verify.sh SECRET ID TIMESTAMP SIGNATURES <body
#
# SIGNATURES is the header webhook-signature: `v1,…`, or several with spaces between.
set -eu
key=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
age=$(($(date +%s) - $3))
if [ "$age" -gt 300 ] || [ "$age" -lt -300 ]; then
    echo "too old, or of the future" >&2
    exit 1
fi
signed=$({ printf '%s.%s.' "$2" "$3"; cat; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
for each in $4; do
    if [ "$each" = "v1,$signed" ]; then
        echo "signed"
        exit 0
    fi
done
echo "not signed by this secret" >&2
exit 1
