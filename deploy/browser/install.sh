#!/bin/sh
# Install Chromium from Debian's packages, with which reports are printed as PDF.
set -eu
found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
found >/dev/null || "$(dirname "$0")/../debian/install.sh" chromium
echo "Reports are printed by $(found)"
