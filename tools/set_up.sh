#!/bin/sh
# Set-up, from a bare machine with Python and git:  sh tools/set_up.sh [PYTHON]
#
# Makes .venv, installs what requirements.lock names (checked by hash, nothing resolved again), then the product itself.
# Does nothing when that is done already. The stamp is removed first and written last: a set-up that was
# killed leaves none, and the next one starts from an empty .venv (what was downloaded is in uv's cache).
set -eu
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV

asked=${1:-}
env=.venv
log=$env/set-up.log
stamp=$env/set-up.stamp
python=$env/bin/python

# What the environment is made from, and where: its scripts hold the checkout's path. The stamp holds their digest, then the Python
# that made it, then that path. Of pyproject.toml only what stands before the settings of the tools counts.
inputs() { cat requirements.lock tools/set_up.sh && sed '/^\[tool\.uv\]/,$d' pyproject.toml && pwd -P && "$1" -V; }
is_done() {
    [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$(inputs "$python" 2>&1 | sha256sum)" ] && is_asked_for
}
is_asked_for() { [ -z "$asked" ] || [ "$("$asked" -V 2>&1)" = "$("$python" -V 2>&1)" ]; }

# stage TITLE COMMAND...: one line for the person, the rest for the log; a failure ends set-up with the log's last lines.
stage() {
    title=$1 && shift
    echo "set-up: $title"
    echo "== $title: $*" >>"$log"
    "$@" >>"$log" 2>&1 && return
    {
        echo "set-up: \"$title\" must succeed. Received: exit code $?, and at the end of $log:"
        tail -n 8 "$log" | sed 's/^/    /'
        echo "Check the network and the disk, then run the same command again; what was downloaded is kept."
        echo "Behind a mirror, set PIP_INDEX_URL and UV_DEFAULT_INDEX first."
    } >&2
    exit 1
}

# The lines of requirements.lock for the packages that install the others.
installers() { awk '/^[^ #]/ { keep = /^(uv|setuptools)==/ } keep' requirements.lock; }

# A Python of any age, only to run the preflight.
any_python() {
    for candidate in python3 python3.13 python3.12 python3.11 "$asked"; do
        [ -n "$candidate" ] && "$candidate" -c "" 2>/dev/null && echo "$candidate" && return
    done
    echo "set-up: PATH must hold Python 3.11 to 3.13. Received: no python3. Install one, or name it: make setup PYTHON=/path/to/python3.11." >&2
    return 1
}

! is_done || exit 0

# Two at once would write the same .venv. Children inherit the lock, so what a killed set-up left running is waited for, too.
if command -v flock >/dev/null; then
    exec 9<tools/set_up.sh
    flock -n 9 || { echo "set-up: waiting for another one to finish" && flock 9; }
    ! is_done || exit 0
fi

# Without a wish, an environment keeps the Python it was made with.
made_with=$(sed -n 2p "$stamp" 2>/dev/null || true)
[ -n "$asked" ] || [ ! -x "$made_with" ] || asked=$made_with
boot=$(any_python)
chosen=$("$boot" tools/preflight.py "$asked")

mkdir -p "$env"
if [ "$made_with, $(sed -n 3p "$stamp" 2>/dev/null)" = "$chosen, $(pwd -P)" ] && [ "$("$python" -V 2>&1)" = "$("$chosen" -V)" ]; then
    rm "$stamp" # the environment is whole, and in its place: only what differs is changed
    : >"$log"
else
    find "$env/" -mindepth 1 -delete
    stage "making $env" "$chosen" -m venv "$env"
fi
installers >"$env/installers.lock"
stage "installing uv" "$python" -m pip install --disable-pip-version-check --no-deps --require-hashes -r "$env/installers.lock"
# Compiled now, as where PYTHONDONTWRITEBYTECODE is set, in containers say, every process would compile what it imports:
# importing the libraries takes 44 s of processor time like that, and 16 s from bytecode.
stage "installing requirements.lock (3.9 GB when nothing is cached)" \
    "$env/bin/uv" pip sync --python "$python" --require-hashes --no-build-isolation --compile-bytecode requirements.lock
stage "installing the product" \
    "$env/bin/uv" pip install --python "$python" --no-deps --no-build-isolation --editable .

{ inputs "$python" 2>&1 | sha256sum && echo "$chosen" && pwd -P; } >"$stamp.new"
mv "$stamp.new" "$stamp"
echo "set-up: done"
