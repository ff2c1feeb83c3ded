#!/bin/sh
# Makes a base image of Debian 13 from its packages, where none can be pulled:  sh infra/images/base.sh TAG
#
# Does nothing when the image is there already.
set -eu
! podman image exists "$1" || exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase trixie "$folder/tree" >"$folder/log" || { tail "$folder/log" >&2 && exit 1; }
rm -rf "$folder"/tree/var/cache/apt/archives/*.deb "$folder"/tree/var/lib/apt/lists/* "$folder"/tree/var/log/*
tar -C "$folder/tree" -c . | podman import --quiet - "$1" >/dev/null
