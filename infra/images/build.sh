#!/bin/sh
# Builds the image by buildah, and says its size and its digest:  BASE=IMAGE sh infra/images/build.sh TAG
#
# BASE        a distribution with glibc 2.39 or newer and apt; PYTHON its Python's package (python3.13)
# TENSORFLOW  tensorflow-cpu (the default), or tensorflow, which uses the GPUs of a base with CUDA
# What names a registry for pip and uv (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, UV_DEFAULT_INDEX, UV_INDEX) and the bundle of
# authorities that SSL_CERT_FILE names reach the build as secrets, and nothing else of this machine.
set -eu
cd "$(dirname "$0")/../.."
tag=$1
: "${BASE:?the image to build on, such as BASE=debian:13 by its digest}"

secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_INDEX; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || printf "export %s='%s'\n" "$name" "$value"
done >"$secrets/packages"
set -- --secret "id=packages,src=$secrets/packages"
[ -z "${SSL_CERT_FILE:-}" ] || set -- "$@" --secret "id=certificates,src=$SSL_CERT_FILE"

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' perennial/__init__.py)
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain -- requirements.lock setup.py pyproject.toml schemas perennial components pipelines serving infra)" ] ||
    commit=$commit-modified
buildah bud --quiet --isolation chroot --layers "$@" \
    --build-arg "BASE=$BASE" --build-arg "PYTHON=${PYTHON:-python3.13}" --build-arg "TENSORFLOW=${TENSORFLOW:-tensorflow-cpu}" \
    --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" \
    --ignorefile infra/images/Dockerfile.dockerignore --file infra/images/Dockerfile --tag "$tag" .
# Again, since buildah 1.28 takes a label from its cache whatever the argument in it says now.
container=$(buildah from --pull-never "$tag")
buildah config --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$commit" "$container"
buildah commit --quiet --rm "$container" "$tag"
