#!/bin/sh
# Measures MANIFEST in a container: `bench.sh cpu|cuda MANIFEST [options of sdbench run]`. It needs Docker and nothing else.
# OUT (default results) receives the run; IMAGE names an image to pull instead of building one; GPUS, CPUS and MEMORY
# limit the container; HF_TOKEN or HF_TOKEN_FILE reaches the step that fetches weights, and no other.
set -eu
. "$(dirname "$0")/docker.sh"
kind=$1 manifest=$2
shift 2
OUT=${OUT:-results}
container=
# Labels of sdbench launch; a variable of the caller's environment must not become one.
JOB='' LAUNCH=''
log=$(mktemp)
mark=sdbench.bench=$(basename "$log")

# By its label: a container may have been made while a signal came, and its id not be known yet.
clean_up() {
    for left in $("$DOCKER" ps --all --quiet --filter "label=$mark" 2>/dev/null); do
        "$DOCKER" rm --force --volumes "$left" >/dev/null 2>&1 || true
    done
    rm -f "$log"
}
trap clean_up EXIT
# The container seals what it has; this script goes on to say so.
trap 'if [ -n "$container" ]; then "$DOCKER" kill --signal=TERM "$container" >/dev/null 2>&1 || true; else exit 130; fi' INT TERM

absolute_folder() {
    (cd "$1" && pwd -P)
}

writable_folder() {
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] || fail "cannot write in $1: choose another folder with $2"
}

find_image() {
    if [ -z "${IMAGE-}" ]; then
        IMAGE=sdbench:$kind
        "$(dirname "$0")/build.sh" "$kind" "$IMAGE"
    elif ! "$DOCKER" image inspect "$IMAGE" >/dev/null 2>&1; then
        say "pulling $IMAGE"
        "$DOCKER" pull --quiet "$IMAGE" >"$log" 2>&1 || fail_as_docker_says "$log" "$IMAGE cannot be pulled"
    fi
}

# What the container cannot see, as JSON: fields of `docker info`, the image's id and digests, the toolkit's version.
read_host_facts() {
    template='' separator='{'
    while IFS= read -r field; do
        case $field in '' | '#'*) continue ;; esac
        template="$template$separator\"$field\":{{json .$field}}" separator=,
    done <"$LAUNCH_DATA/host_facts.txt"
    info=$("$DOCKER" info --format "$template}" 2>"$log") || fail_as_docker_says "$log" "Docker does not describe itself"
    image=$("$DOCKER" image inspect --format '{"Id":{{json .Id}},"RepoDigests":{{json .RepoDigests}}}' "$IMAGE")
    toolkit=$(nvidia-ctk --version 2>/dev/null | sed -n '1{s/[^A-Za-z0-9 .+-]//g;p;}' || true)
    HOST_FACTS="{\"info\":$info,\"image\":$image,\"toolkit\":\"$toolkit\"}"
}

choose_user() {
    USER_IDS=$(id -u):$(id -g)
    # There the container's root is this user, and every other id is a stranger.
    case $info in *name=rootless*) USER_IDS=0:0 ;; esac
}

# Runs sdbench with the arguments in a container of the shared option set; returns its exit code.
run_container() {
    set -- "$IMAGE" "$@"
    while IFS= read -r line; do
        case $line in
        '' | '#'*) continue ;;
        *'${'*)
            name=${line#*\$\{}
            name=${name%%\}*}
            eval "value=\${$name-}"
            [ -n "$value" ] || continue
            line=${line%%\$\{*}$value${line#*\}}
            ;;
        esac
        set -- "$line" "$@"
    done <"$LAUNCH_DATA/container.flags"
    container=$("$DOCKER" create --label "$mark" "$@" 2>"$log") || fail_as_docker_says "$log" "the container cannot be made"
    "$DOCKER" start "$container" >/dev/null 2>"$log" || fail_as_docker_says "$log" "the container cannot start"
    # A signal ends the wait and the client that shows the output, not the container.
    "$DOCKER" logs --follow "$container" &
    wait $! || true
    while [ "$("$DOCKER" inspect --format '{{.State.Running}}' "$container")" = true ]; do sleep 0.2 || true; done
    state=$("$DOCKER" inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$container")
    "$DOCKER" rm --force --volumes "$container" >/dev/null
    container=
    code=${state% *} oom=${state#* }
    if [ "$code" = 137 ]; then
        if [ "$oom" = true ]; then fail "the container ran out of memory: raise MEMORY, or measure a smaller batch or image"; fi
        fail "the container was killed, not by its own memory limit: see dmesg whether the host ran out of memory; the same command continues the run"
    fi
    return "$code"
}

# Weights that are pinned and missing; the network and the token are there for this step alone.
fetch_weights() {
    NETWORK=none OFFLINE=1 TOKEN_NAME=
    missing=0
    run_container fetch --check "$@" || missing=$?
    case $missing in
    0) return ;;
    1) ;;
    *) exit "$missing" ;;
    esac
    NETWORK=bridge OFFLINE=0
    if [ -n "${HF_TOKEN_FILE-}" ]; then HF_TOKEN=$(cat "$HF_TOKEN_FILE") || fail "cannot read HF_TOKEN_FILE $HF_TOKEN_FILE"; fi
    if [ -n "${HF_TOKEN-}" ]; then TOKEN_NAME=HF_TOKEN && export HF_TOKEN; fi
    run_container fetch "$@" || exit $?
    NETWORK=none OFFLINE=1 TOKEN_NAME=
    unset HF_TOKEN
}

[ -f "$manifest" ] || { say "there is no manifest $manifest; name one with MANIFEST=FILE" && exit 2; }
check_docker
CACHE=${SDBENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sdbench}
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/sdbench
LOCKS=/tmp/sdbench-locks
writable_folder "$OUT" OUT=FOLDER
writable_folder "$CACHE" SDBENCH_CACHE=FOLDER
writable_folder "$STATE" XDG_STATE_HOME=FOLDER
mkdir -m 1777 "$LOCKS" 2>/dev/null || [ -d "$LOCKS" ] || fail "cannot make $LOCKS, where runs wait for each other"
RESULTS=$(absolute_folder "$OUT") CACHE=$(absolute_folder "$CACHE") STATE=$(absolute_folder "$STATE")
MANIFESTS=$(absolute_folder "$(dirname "$manifest")")
if [ "$kind" = cuda ]; then GPUS=${GPUS:-all}; else GPUS=; fi
find_image
read_host_facts
choose_user

fetch_weights "/input/$(basename "$manifest")" "$@"
code=0
run_container run "/input/$(basename "$manifest")" --out results "$@" || code=$?
if [ "$OUT" != results ] && [ "$code" != 2 ]; then say "what is called results here is $OUT"; fi
exit "$code"
