# shellcheck shell=sh
# Sourced by the tests that are scripts, before they leave the folder that they are called from.

fail() {
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

# As CTest and tools/torture.sh know it.
skip() {
    echo "skipped: $*"
    exit 77
}

# enter_folder [PLACE]: into an empty folder, removed in the end
enter_folder() {
    work=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/duo-test.XXXXXX") || exit 1
    trap leave_folder EXIT
    cd "$work" || exit 1
}

leave_folder() {
    cd /
    rm -rf "$work"
}

# sentences SEED COUNT: of a small vocabulary with some order in them, so that there is something to learn
sentences() {
    awk -v seed="$1" -v count="$2" 'BEGIN {
        srand(seed)
        n = split("the a one no every", det); m = split("king cat stone river ship child", noun)
        k = split("sees takes loves breaks follows", verb)
        for (i = 0; i < count; i++)
            print det[int(rand() * n) + 1], noun[int(rand() * m) + 1], verb[int(rand() * k) + 1], \
                det[int(rand() * n) + 1], noun[int(rand() * m) + 1] "."
    }'
}

# make_tokens [COUNT]: text.txt of so many sentences, and its tokens.h5
make_tokens() {
    sentences 7 "${1:-6000}" >text.txt
    "${duo:?}" prepare --input text.txt --output tokens.h5 --vocab-size 320 >prepare.log 2>&1 ||
        fail "prepare: $(cat prepare.log)"
}
