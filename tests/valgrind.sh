#!/usr/bin/env bash
# Every command, short, under valgrind's memcheck: nothing that was not written decides anything,
# nothing is read or written outside its block, what our code allocates is freed.
# Usage: valgrind.sh DUO
set -euo pipefail
duo=$(realpath "$1")
. "$(dirname "$0")/tiny_run.sh"
. "$(dirname "$0")/every_command.sh"

if ! command -v valgrind >/dev/null || ! valgrind "$duo" --version >/dev/null 2>&1; then
    skip "valgrind does not run this build"
fi
# Its instructions end before AVX-512; one thread, since it runs them one at a time anyway.
export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 DUO_ISA=portable
enter_scratch
make_inputs

held=0 tried=0
for command in "${commands[@]}"; do
    tried=$((tried + 1))
    clean
    words_of "$command"
    if valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
        --show-leak-kinds=definite --trace-children=no "$duo" "${words[@]}" \
        >out.log 2>err.log </dev/null; then
        held=$((held + 1))
    else
        echo "valgrind: duo ${words[*]}: $(grep -A12 -m1 '^==' err.log || tail -3 err.log)" >&2
    fi
done
echo "valgrind: tried $tried, held $held (commands)"
[ $held -eq $tried ]
