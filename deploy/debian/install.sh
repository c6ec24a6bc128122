#!/bin/sh
# Install packages of Debian or Ubuntu, as root or by sudo.
# usage: install.sh PACKAGE...
set -eu
command -v apt-get >/dev/null || {
    echo "This is no Debian or Ubuntu; what they call $* is yours to install." >&2
    exit 1
}
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "As root: apt-get install --no-install-recommends $*" >&2
        exit 1
    }
    as_root=sudo
fi
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    >/dev/null
