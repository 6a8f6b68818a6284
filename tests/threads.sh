#!/usr/bin/env bash
# Every command, short, on four threads under ThreadSanitizer: no two threads touch the same bytes
# without order. gcc's OpenMP runtime is not known to it and gives false reports; clang's is, by
# the library archer. BUILD/src/cli/duo is made with
#     cmake -S . -B BUILD -DDUO_SANITIZE_THREADS=ON -DCMAKE_C_COMPILER=clang
#         -DCMAKE_CXX_COMPILER=clang++
# Usage: threads.sh BUILD
set -euo pipefail
duo=$(realpath "$1")/src/cli/duo
. "$(dirname "$0")/tiny_run.sh"
. "$(dirname "$0")/every_command.sh"

if ! grep -qs 'DUO_SANITIZE_THREADS:BOOL=ON' "$1/CMakeCache.txt" || [ ! -x "$duo" ]; then
    skip "$1 is not made for it; see $0"
fi
export OMP_NUM_THREADS=4 GOMP_SPINCOUNT=0 DUO_ISA=${DUO_ISA:-avx2}
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66 halt_on_error=0"
archer=$(find /usr/lib -name libarcher.so | sort | tail -1)
export OMP_TOOL_LIBRARIES=${OMP_TOOL_LIBRARIES:-$archer}
export ARCHER_OPTIONS=verbose=1
enter_scratch
# Large enough that the kernels share out their work.
make_inputs 's/d_model = 32/d_model = 64/; s/d_big = 40/d_big = 256/; s/max_seq = 24/max_seq = 64/'
grep -q 'Archer detected OpenMP' whole.log || fail "archer is not loaded: $(head -1 whole.log)"

held=0 tried=0
for command in "${commands[@]}"; do
    tried=$((tried + 1))
    clean
    words_of "$command"
    if timeout 300 "$duo" "${words[@]}" >out.log 2>err.log </dev/null &&
        ! grep -q 'WARNING: ThreadSanitizer' err.log; then
        held=$((held + 1))
    else
        echo "threads: duo ${words[*]}:" >&2
        grep -A14 -m1 'WARNING: ThreadSanitizer' err.log >&2 || tail -3 err.log >&2
    fi
done
echo "threads: tried $tried, held $held (commands on $OMP_NUM_THREADS threads)"
[ $held -eq $tried ]
