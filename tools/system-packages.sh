#!/bin/sh
# Installs the Debian packages that tests need beyond `make setup`; does nothing when they are there:  sh tools/system-packages.sh
#
# postgresql: the ledger's test starts a server of its own from Debian's binaries.
# With the word `load`, wrk, which puts load on servers in `benchmarks/serving.py`.
# With the word `image`, what `make test-image` builds and runs the image with instead: podman, buildah, runc, debootstrap.
set -eu

if [ "${1:-}" = image ]; then
    for tool in podman buildah runc debootstrap; do
        command -v "$tool" >/dev/null || PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || missing="${missing:-} $tool"
    done
    [ -n "${missing:-}" ] || exit 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "system packages: must be there:$missing. Install them, on Debian: sudo sh tools/system-packages.sh image" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    echo "system packages: installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # names of packages
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
    exit 0
fi

if [ "${1:-}" = load ]; then
    if command -v wrk >/dev/null; then
        exit 0
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "system packages: must be there: wrk. Install it, on Debian: sudo sh tools/system-packages.sh load" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    echo "system packages: installing wrk"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends wrk >/dev/null
    exit 0
fi

if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "system packages: postgresql is not there, so its tests are skipped. Install it, on Debian: sudo sh tools/system-packages.sh" >&2
    exit 0
fi
# Only the binaries are wanted, not the server that Debian would create and start.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
echo "system packages: installing postgresql"
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql >/dev/null
