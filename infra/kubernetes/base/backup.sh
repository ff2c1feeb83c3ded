#!/bin/sh
# Saves and restores the databases of ledger and registry; needs PostgreSQL's programs and a POSIX shell:
#
#   sh backup.sh backup FOLDER            makes FOLDER/<time>, whole or not at all, and prints its name
#   sh backup.sh restore FOLDER/<time>    into databases that are there and empty
#
# LEDGER_URL and REGISTRY_URL name the databases, as the product does (postgresql+psycopg://…) or as libpq does.
set -eu

# The ledger comes first: a version that only the registry has is made good by the next command, one that only the
# ledger has could not be served.
names="ledger registry"

fail() {
    echo "backup: $1" >&2
    exit 1
}

url_of() {
    case $1 in
        ledger) url=${LEDGER_URL:-} ;;
        registry) url=${REGISTRY_URL:-} ;;
    esac
    case $url in
        postgresql://* | postgresql+psycopg://*) echo "postgresql://${url#*://}" ;;
        *) fail "the URL of the $1 must be one of PostgreSQL. Received: none. Set LEDGER_URL and REGISTRY_URL." ;;
    esac
}

backup() {
    [ -d "$1" ] || fail "$1 must be a folder. Received: none. Make it, or mount the volume there."
    target=$1/$(date -u +%Y-%m-%dT%H-%M-%SZ)
    temporary=$1/.unfinished-$$
    trap 'rm -rf "$temporary"' EXIT
    mkdir "$temporary"
    for name in $names; do
        url=$(url_of "$name")
        pg_dump --format=custom --no-owner --file "$temporary/$name.dump" "$url"
    done
    (cd "$temporary" && sha256sum -- *.dump >SHA256SUMS)
    sync
    [ ! -e "$target" ] || fail "$target must not be there yet. Wait a second, and run it again."
    mv "$temporary" "$target"
    echo "$target"
}

restore() {
    (cd "$1" && sha256sum --check --quiet SHA256SUMS) || fail "$1 must be whole. Take another backup."
    for name in $names; do
        url=$(url_of "$name")
        tables=$(psql --no-psqlrc --tuples-only --no-align --command \
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')" "$url")
        [ "$tables" -eq 0 ] || fail "the database of the $name must be empty. Received: $tables tables. Name a new one."
    done
    for name in $names; do
        url=$(url_of "$name")
        pg_restore --exit-on-error --single-transaction --no-owner --dbname "$url" "$1/$name.dump"
    done
    echo "restored $1"
}

case ${1:-} in
    backup | restore) [ $# -eq 2 ] || fail "say which folder" ;;
    *) fail "say backup or restore, and a folder" ;;
esac
"$1" "$2"
