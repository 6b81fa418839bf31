#!/usr/bin/env bash
# Runs the same programs on a real GPU, on the real GPU through Tensor Fusion's worker, and on the software GPU, and
# prints where they differ. Needs no network and no compiler. Without a GPU it says so and runs the software part.
#
# usage: ./run.sh [PROGRAM...]        writes report.txt and logs/ beside itself
# REAL_DRIVER=PATH names the real libcuda.so.1 where it is not found by itself.
set -u
cd "$(dirname "$0")" || exit 1
here=$PWD
logs=$here/logs
rm -rf "$logs"; mkdir -p "$logs"
work=$(mktemp -d); chmod 700 "$work"
export TENSOR_FUSION_DIR=$work
workers=()
cleanup() {
    for worker in "${workers[@]}"; do kill "$worker" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT

# The software GPU's own libcuda.so.1, for programs and for a worker.
mkdir -p "$work/soft"
ln -s "$here/bin/libtensor_fusion_cuda.so" "$work/soft/libcuda.so.1"
ln -s "$here/bin/libtensor_fusion_cuda.so" "$work/soft/libnvidia-ml.so.1"

real=${REAL_DRIVER:-}
for candidate in $(ldconfig -p 2>/dev/null | awk '/libcuda\.so\.1 .*x86-64/ {print $NF}') \
    /usr/lib/x86_64-linux-gnu/libcuda.so.1 /usr/lib64/libcuda.so.1 /usr/local/nvidia/lib64/libcuda.so.1; do
    [ -n "$real" ] && break
    [ -e "$candidate" ] && real=$candidate
done
if [ -z "${REAL_DRIVER:-}" ] && [ -n "$real" ] && ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
    echo "There is $real, but no /dev/nvidia0."
    real=
fi
if [ -n "$real" ]; then
    echo "Real driver: $real"
    command -v nvidia-smi >/dev/null && nvidia-smi -L
else
    echo "There is no NVIDIA GPU here: only the software GPU is run."
fi

# start_worker NAME OPTIONS...: starts a worker and waits for the line that says where it listens.
start_worker() {
    local name=$1 line=; shift
    mkfifo "$work/$name.out"
    "$here/bin/tensor-fusion" worker --listen tcp://127.0.0.1:0 --gpu 0 "$@" >"$work/$name.out" 2>"$logs/worker-$name.log" &
    workers+=($!)
    exec {pipe}<"$work/$name.out"
    read -r -t 60 line <&"$pipe" || { echo "The worker '$name' did not start: see logs/worker-$name.log"; return 1; }
    echo "$line" | sed -n 's/.*"listening" *: *"\([^"]*\)".*/\1/p' >"$work/$name.address"
}

start_worker soft --vram 4GiB --driver soft || exit 1
[ -n "$real" ] && start_worker real --vram 4GiB --driver "$real"

# run_on WAY PROGRAM: runs a program on one way to a GPU; its exit code is the outcome.
run_on() {
    local way=$1 program=$2 log="$logs/$2.$1"
    case $way in
    real-direct) LD_LIBRARY_PATH="${REAL_DRIVER:+$(dirname "$real"):}${LD_LIBRARY_PATH:-}" timeout 120 "programs/$program" ;;
    real-worker) timeout 120 "$here/bin/tensor-fusion" run --connect "$(cat "$work/real.address")" -- "programs/$program" ;;
    soft-direct) LD_LIBRARY_PATH=$work/soft timeout 300 "programs/$program" ;;
    soft-worker) timeout 300 "$here/bin/tensor-fusion" run --connect "$(cat "$work/soft.address")" -- "programs/$program" ;;
    esac >"$log" 2>"$log.err" </dev/null
}

ways=(soft-direct soft-worker)
[ -n "$real" ] && ways=(real-direct real-worker "${ways[@]}")
if [ $# -gt 0 ]; then programs=("$@"); else
    programs=(); for file in programs/*; do [ -x "$file" ] && [ "${file##*.}" = "$file" ] && programs+=("${file#programs/}"); done
fi

passed=0 failed=0 differ=0
{
    printf '%-22s' program; printf '%-14s' "${ways[@]}"; echo
    for program in "${programs[@]}"; do
        printf '%-22s' "$program"
        outcomes=()
        for way in "${ways[@]}"; do
            run_on "$way" "$program"; code=$?
            if [ $code -eq 0 ] && [ -e "programs/$program.expected" ] &&
                ! diff <(sort "programs/$program.expected") <(sort "$logs/$program.$way") >"$logs/$program.$way.diff"; then
                code=output
            fi
            if [ "$code" = 0 ]; then printf '%-14s' ok; passed=$((passed + 1)); else printf '%-14s' "FAIL($code)"; failed=$((failed + 1)); fi
            outcomes+=("$code")
        done
        [ "$(printf '%s\n' "${outcomes[@]}" | sort -u | wc -l)" -gt 1 ] && { differ=$((differ + 1)); printf 'differs'; }
        echo
        for way in "${ways[@]}"; do
            [ -s "$logs/$program.$way.err" ] && sed "s/^/    $way: /" "$logs/$program.$way.err" | head -5
        done
    done
    echo
    echo "$differ programs differ between the ways"
    echo "$passed passed, $failed failed"
} | tee report.txt
tail -1 report.txt | grep -q ' 0 failed'
