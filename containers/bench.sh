#!/bin/sh
# Measures MANIFEST in a container: `bench.sh cpu|cuda MANIFEST [options of sdbench run]`. It needs only Docker.
# OUT (default results) is where the run folder goes; IMAGE is an image to pull instead of building one; CUDA (12 or 13)
# is the one to build for a GPU, by default the newest that its driver runs; GPUS, CPUS and MEMORY limit the container;
# HF_TOKEN or HF_TOKEN_FILE is passed only to the step that fetches weights.
set -eu
. "$(dirname "$0")/docker.sh"
kind=$1 manifest=$2
shift 2
OUT=${OUT:-results}
container=
# Labels of sdbench run --image, which must not come from the caller's environment.
JOB='' SCHEDULE=''
log=$(mktemp)
mark=sdbench.bench=$(basename "$log")

# By label: a signal may arrive after a container was created and before its id is known.
clean_up() {
    for id in $("$DOCKER" ps --all --quiet --filter "label=$mark" 2>/dev/null); do
        "$DOCKER" rm --force --volumes "$id" >/dev/null 2>&1 || true
    done
    rm -f "$log"
}
trap clean_up EXIT
# The container seals the record with the launches so far; this script waits for it.
trap 'if [ -n "$container" ]; then "$DOCKER" kill --signal=TERM "$container" >/dev/null 2>&1 || true; else exit 130; fi' INT TERM

absolute_folder() {
    (cd "$1" && pwd -P)
}

writable_folder() {
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] || fail "cannot write in $1: choose another folder with $2"
}

find_image() {
    if [ -z "${IMAGE-}" ]; then
        if [ "$kind" = cuda ]; then
            choice=$("$(dirname "$0")/choose_cuda.sh") || exit $?
            kind=cuda${choice%% *}
            [ "$choice" = "${choice%% *}" ] || report "${choice#* }: using the CUDA ${choice%% *} image"
        fi
        IMAGE=sdbench:$kind
        "$(dirname "$0")/build.sh" "$kind" "$IMAGE"
    elif ! "$DOCKER" image inspect "$IMAGE" >/dev/null 2>&1; then
        report "pulling $IMAGE"
        "$DOCKER" pull --quiet "$IMAGE" >"$log" 2>&1 || fail_with_hint "$log" "$IMAGE cannot be pulled"
    fi
}

# Sets HOST_FACTS to what the container cannot see, as JSON: fields of `docker info`, the image's id and digests, the
# version of the NVIDIA toolkit.
read_host_facts() {
    template='' separator='{'
    while IFS= read -r field; do
        case $field in '' | '#'*) continue ;; esac
        template="$template$separator\"$field\":{{json .$field}}" separator=,
    done <"$CONTAINER_DATA/host_facts.txt"
    info=$("$DOCKER" info --format "$template}" 2>"$log") || fail_with_hint "$log" "docker info failed"
    image=$("$DOCKER" image inspect --format '{"Id":{{json .Id}},"RepoDigests":{{json .RepoDigests}}}' "$IMAGE")
    toolkit=$(nvidia-ctk --version 2>/dev/null | sed -n '1{s/[^A-Za-z0-9 .+-]//g;p;}' || true)
    HOST_FACTS="{\"info\":$info,\"image\":$image,\"toolkit\":\"$toolkit\"}"
}

choose_user() {
    USER_IDS=$(id -u):$(id -g)
    # In rootless Docker, root in the container is this user, and no other id has access to the folders.
    case $info in *name=rootless*) USER_IDS=0:0 ;; esac
}

# Runs sdbench in a container with the shared options; returns its exit code.
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
    done <"$CONTAINER_DATA/container.flags"
    container=$("$DOCKER" create --label "$mark" "$@" 2>"$log") || fail_with_hint "$log" "the container cannot be created"
    "$DOCKER" start "$container" >/dev/null 2>"$log" || fail_with_hint "$log" "the container cannot start"
    # A signal ends this wait and the client that follows the output, but not the container.
    "$DOCKER" logs --follow "$container" &
    wait $! || true
    while [ "$("$DOCKER" inspect --format '{{.State.Running}}' "$container")" = true ]; do sleep 0.2 || true; done
    state=$("$DOCKER" inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$container")
    "$DOCKER" rm --force --volumes "$container" >/dev/null
    container=
    code=${state% *} oom=${state#* }
    if [ "$code" = 137 ]; then
        if [ "$oom" = true ]; then fail "the container ran out of memory: raise MEMORY, or measure a smaller batch or image"; fi
        fail "the container was killed, not by its own memory limit: see dmesg whether the host ran out of memory; the same command resumes the run"
    fi
    return "$code"
}

# Downloads missing pinned weights: the only step with a network and the token.
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

[ -f "$manifest" ] || { report "manifest $manifest not found; set MANIFEST=FILE" && exit 2; }
check_docker
CACHE=${SDBENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sdbench}
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/sdbench
LOCKS=/tmp/sdbench-locks
writable_folder "$OUT" OUT=FOLDER
writable_folder "$CACHE" SDBENCH_CACHE=FOLDER
writable_folder "$STATE" XDG_STATE_HOME=FOLDER
mkdir -m 1777 "$LOCKS" 2>/dev/null || [ -d "$LOCKS" ] || fail "cannot create $LOCKS, which holds the device locks"
RESULTS=$(absolute_folder "$OUT") CACHE=$(absolute_folder "$CACHE") STATE=$(absolute_folder "$STATE")
MANIFESTS=$(absolute_folder "$(dirname "$manifest")")
# Before the caller's options, of which the last counts: without a usable GPU the run fails instead of taking the CPU, and
# a container for the CPU sees the files of the host's driver all the same.
set -- "--device=$kind" "$@"
if [ "$kind" = cuda ]; then GPUS=${GPUS:-all}; else GPUS=; fi
find_image
read_host_facts
choose_user

fetch_weights "/input/$(basename "$manifest")" "$@"
code=0
run_container run "/input/$(basename "$manifest")" --out results "$@" || code=$?
if [ "$OUT" != results ] && [ "$code" != 2 ]; then report "the folder results in the paths above is $OUT"; fi
exit "$code"
