#!/bin/sh
# What continuous integration does with a repository of Perennial projects:  sh infra/ci/ci.sh STEP
#
# In the repository's folder, where STEP is
#   setup    make Perennial's environment
#   check    perennial validate
#   test     pytest, where a project has a folder `tests`
#   golden   compare the compiled pipeline with the project's pipeline.yaml
#   sample   train on the sample that the project's ci.yaml names, as it was at PERENNIAL_CI_BASE and as it is; write comparison.md
#   scan     look for known vulnerabilities in the image's Python packages
#   image    build and push the image of this version of Perennial, unless it is there; print its name with its digest
#   submit   upload the pipeline and run the project on Kubeflow Pipelines to its end
#
# A step does all projects and ends with the exit code of the first that failed; those of `perennial` are in docs/kubernetes.md.
# PERENNIAL_CI_PROJECTS names their folders, with spaces between; by default they are those whose project.yaml git tracks.
# docs/ci.md has the other variables.
set -eu
ci=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$ci/../.." && pwd)
step=${1:-}
[ ! -x "$source/.venv/bin/perennial" ] || PATH=$source/.venv/bin:$PATH
scratch=$(mktemp -d)
renewal=
trap '[ -z "$renewal" ] || kill "$renewal" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "ci: $1" >&2
    exit 2
}

# Prints a line here, and where GitHub shows the job's summary.
tell() {
    echo "$1"
    [ -z "${GITHUB_STEP_SUMMARY:-}" ] || echo "- $1" >>"$GITHUB_STEP_SUMMARY"
}

list_projects() {
    if [ -n "${PERENNIAL_CI_PROJECTS:-}" ]; then
        echo "$PERENNIAL_CI_PROJECTS"
    else
        git ls-files -- project.yaml '*/project.yaml' | sed 's|^project.yaml$|.|; s|/project.yaml$||'
    fi
}

# each COMMAND: calls it with each project. As it tells failures apart, `set -e` does not end what it calls.
each() {
    code=0
    for project in $projects; do
        result=0
        ("$1" "$project") || result=$?
        if [ "$result" -ne 0 ]; then
            echo "ci: $project: $step must succeed. Received: exit code $result" >&2
            [ "$code" -ne 0 ] || code=$result
        fi
    done
    return "$code"
}

check_project() {
    echo "== $1"
    perennial validate "$1"
}

test_project() {
    if [ -d "$1/tests" ]; then
        python3 -m pytest -q "$1/tests"
    else
        echo "$1: no folder tests"
    fi
}

compare_pipeline() {
    perennial compile "$1" --output "$scratch/pipeline.yaml" >&2 || return
    if diff -u "$1/pipeline.yaml" "$scratch/pipeline.yaml"; then
        echo "$1: the compiled pipeline is $1/pipeline.yaml"
    else
        echo "ci: run \`perennial compile $1 --output $1/pipeline.yaml\`, read the difference and commit it" >&2
        return 1
    fi
}

scan_packages() {
    python3 "$source/infra/images/runtime_lock.py" "$source/requirements.in" "$source/requirements.lock" >"$scratch/runtime.lock"
    python3 -m venv "$scratch/scan"
    "$scratch/scan/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$ci/scan.lock"
    set -- --disable-pip --progress-spinner off --vulnerability-service osv --osv-url "${PERENNIAL_CI_OSV:-https://api.osv.dev/v1/query}"
    for id in ${PERENNIAL_CI_ACCEPTED:-}; do
        set -- "$@" --ignore-vuln "$id"
    done
    "$scratch/scan/bin/pip-audit" "$@" --requirement "$scratch/runtime.lock"
}

# The tag is the commit of Perennial: an image holds no project, so it is built once for each version.
build_image() {
    images=${PERENNIAL_CI_IMAGES:?where images are kept, such as registry.example/team/perennial}
    tag=$images:$(git -C "$source" rev-parse HEAD)
    if ! digest=$(skopeo inspect --format '{{.Digest}}' "docker://$tag" 2>"$scratch/log"); then
        cat "$scratch/log" >&2
        sh "$source/infra/images/build.sh" "$tag" >&2
        buildah push --digestfile "$scratch/digest" "$tag" >&2
        digest=$(cat "$scratch/digest")
    fi
    echo "$images@$digest"
}

# A token of the job's identity is good for minutes, and a run takes hours: files have it, which are read for each call.
fetch_tokens() {
    if [ -n "${PERENNIAL_CI_KUBEFLOW_AUDIENCE:-}" ]; then
        python3 "$ci/github.py" token "$PERENNIAL_CI_KUBEFLOW_AUDIENCE" "$PERENNIAL_KUBEFLOW_TOKEN_FILE" || return
    fi
    if [ -n "${PERENNIAL_CI_CLOUD_AUDIENCE:-}" ]; then
        python3 "$ci/github.py" token "$PERENNIAL_CI_CLOUD_AUDIENCE" "$AWS_WEB_IDENTITY_TOKEN_FILE" || return
    fi
}

renew_tokens() {
    tokens=${RUNNER_TEMP:-$scratch}
    if [ -n "${PERENNIAL_CI_KUBEFLOW_AUDIENCE:-}" ]; then
        export PERENNIAL_KUBEFLOW_TOKEN_FILE="$tokens/kubeflow.token"
    fi
    if [ -n "${PERENNIAL_CI_CLOUD_AUDIENCE:-}" ]; then
        export AWS_WEB_IDENTITY_TOKEN_FILE="$tokens/cloud.token"
    fi
    fetch_tokens
    while sleep 120 >/dev/null 2>&1; do fetch_tokens || true; done &
    renewal=$!
}

# What runs is the package of the files that lie here: `submit` stores it in the root.
submit_project() {
    code=0
    # shellcheck disable=SC2086 # several options
    perennial submit "$1" --trigger ci --wait --minutes "${PERENNIAL_CI_MINUTES:-330}" ${PERENNIAL_CI_OPTIONS:-} --json >"$scratch/ended" || code=$?
    tell "$1: $(tail -n 1 "$scratch/ended" | python3 -c '
import json, sys
ended = json.load(sys.stdin)
print("; ".join([ended["outcome"], *ended["reasons"]]))')"
    return "$code"
}

case $step in
    check | test | golden | sample | submit)
        projects=$(list_projects)
        [ -n "$projects" ] ||
            fail "the repository must hold a project. Received: no project.yaml that git tracks. Commit one, or set PERENNIAL_CI_PROJECTS."
        for project in $projects; do
            [ -f "$project/project.yaml" ] || fail "$project must be a project's folder. Received: no project.yaml there. Correct PERENNIAL_CI_PROJECTS."
        done
        command -v perennial >/dev/null || fail "perennial must be on PATH. Received: no such command. Run the step setup first."
        ;;
esac
case $step in
    setup) make -C "$source" setup ;;
    check) each check_project ;;
    test) each test_project ;;
    golden) each compare_pipeline ;;
    sample)
        # shellcheck disable=SC2086 # several projects
        python3 "$ci/sample.py" "${PERENNIAL_CI_BASE:?the commit to compare with, such as HEAD^1}" comparison.md $projects
        ;;
    scan) scan_packages ;;
    image) build_image ;;
    submit)
        renew_tokens
        each submit_project
        ;;
    *) fail "the step must be setup, check, test, golden, sample, scan, image or submit. Received: ${step:-none}" ;;
esac
