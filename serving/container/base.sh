#!/bin/sh
# Make sure that a base image has Python 3.12 and the time zone data: base.sh
# python:3.12-slim has both already; NVIDIA's Ubuntu 24.04 images get them from Ubuntu.
set -eu

zones() { [ -f /usr/share/zoneinfo/America/New_York ]; }

if command -v python3.12 >/dev/null && python3.12 -c "import ensurepip, venv" && zones; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends python3.12 python3.12-venv tzdata
rm -rf /var/lib/apt/lists/*
