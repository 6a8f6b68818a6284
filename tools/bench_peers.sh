#!/bin/sh
# Duo beside oneDNN, OpenBLAS and PyTorch on this machine, with 1 and 2 threads: one table on stdout. Products
# are medians of 7, one program after the other; training steps are taken in turns, three rounds of three each,
# since a machine changes its speed from minute to minute. About a quarter of an hour. As root on Debian it
# installs the peers; a peer that is not there is said to be missing.
# Usage: bench_peers.sh [DUO]          by default build/src/cli/duo
set -u
here=$(dirname "$(realpath "$0")")/bench_peers
duo=$(realpath "${1:-$here/../../build/src/cli/duo}")
[ -x "$duo" ] || { echo "bench_peers.sh: $duo: not built; tools/test.sh builds it" >&2; exit 1; }
folder=$(mktemp -d) || exit 1
trap 'rm -r "$folder"' EXIT
cd "$folder" || exit 1

# These halve OpenBLAS where they are set; PyTorch otherwise returns its tensors to the system at every step.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
tuned_malloc='MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456'

say() {
    echo "bench_peers.sh: $*" >&2
}

install_peers() {
    missing=
    for package in libdnnl-dev libopenblas-dev python3-torch; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    [ -z "$missing" ] && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "not installed:$missing"
        return
    fi
    say "installing$missing"
    { apt-get update && apt-get install -y --no-install-recommends $missing; } >install.log 2>&1 ||
        say "cannot be installed:$missing"
}

# build NAME SOURCE FLAGS...: a program of a peer, if its library is there.
build() {
    name=$1 source=$2
    shift 2
    cc -O2 "$here/$source" -o "$name" "$@" 2>"$name.log" || echo 'not installed' >"$name.missing"
}

# library NAME THREADS
library() {
    [ -x "$1" ] || return 0
    OMP_NUM_THREADS=$2 OPENBLAS_NUM_THREADS=$2 timeout 100 "./$1" >"$1-$2.tsv" 2>"$1.log" ||
        echo 'stopped after 100 s or failed' >"$1.missing"
}

# torch_step KIND PRECISION THREADS ROUND
torch_step() {
    [ -e "torch-$2.missing" ] && return
    flags='--steps 3'
    [ "$1" = duo ] && flags="$flags --duo"
    [ "$2" = bf16 ] && flags="$flags --bf16"
    out=torch-$1-$2-$3-$4
    env $tuned_malloc OMP_NUM_THREADS="$3" timeout 60 /usr/bin/python3 "$here/torch_step.py" \
        --threads "$3" $flags >"$out" 2>torch.log && return
    rm -f "$out"
    echo 'stopped after 60 s or failed' >"torch-$2.missing"
}

duo_kernels() {
    say "Duo, products, $1 threads"
    "$duo" bench --only kernels --match W --threads "$1" $precisions --json "duo-kernels-$1.json" \
        >/dev/null 2>duo.log || { cat duo.log >&2; exit 1; }
}

# duo_step KIND PRECISION THREADS ROUND
duo_step() {
    "$duo" bench --only step --match "$1 step" --threads "$3" --precision "$2" --repeats 3 \
        --json "duo-$1-$2-$3-$4.json" >/dev/null 2>duo.log || { cat duo.log >&2; exit 1; }
}

install_peers
build openblas peer_sgemm.c -DPEER_CBLAS -lopenblas
build onednn peer_sgemm.c -ldnnl
# An OpenBLAS older than the processor falls back to kernels without AVX, and PyTorch with it.
if [ -x openblas ] && OPENBLAS_VERBOSE=2 ./openblas load 2>&1 | grep -qi 'core: *\(prescott\|generic\)'; then
    if grep -q avx512f /proc/cpuinfo; then
        export OPENBLAS_CORETYPE=SkylakeX
    elif grep -q avx2 /proc/cpuinfo; then
        export OPENBLAS_CORETYPE=Haswell
    fi
fi
precisions='--precision fp32'
if grep -q avx512_bf16 /proc/cpuinfo; then
    precisions='--precision fp32 bf16'
    build onednn_bf16 peer_bf16.c -ldnnl
else # both would emulate it, PyTorch for minutes
    echo 'this processor has no bf16 instructions' | tee onednn_bf16.missing >torch-bf16.missing
fi
/usr/bin/python3 -c 'import torch; print("PyTorch", torch.__version__)' >versions 2>/dev/null ||
    for precision in fp32 bf16; do echo 'not installed' >"torch-$precision.missing"; done
[ -n "${OPENBLAS_CORETYPE:-}" ] && cat >>versions <<NOTE
OpenBLAS does not know this processor: OPENBLAS_CORETYPE=$OPENBLAS_CORETYPE for it and PyTorch
NOTE
dpkg-query -W -f '${Package} ${Version}\n' libdnnl-dev libopenblas-dev 2>/dev/null >>versions

for threads in 1 2; do
    duo_kernels $threads
    for name in onednn openblas onednn_bf16; do
        say "$name, $threads threads"
        library $name $threads
    done
    for precision in ${precisions#--precision }; do
        for kind in dense duo; do
            say "Duo and PyTorch, $kind step, $precision, $threads threads"
            for round in 1 2 3; do
                duo_step $kind "$precision" $threads $round
                torch_step $kind "$precision" $threads $round
            done
        done
    done
done
/usr/bin/python3 "$here/table.py" "$folder"
