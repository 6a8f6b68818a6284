# shellcheck shell=sh disable=SC2034
# Sourced by scripts that run commands of $duo and look at what they print: a folder of their own
# to work in, and counted failures, after which the script goes on. It ends with: [ "$failures" = 0 ]

: "${duo:?the program to run}"
. "$(dirname "$0")/common.sh"
enter_folder
failures=0

fail() {
    echo "$(basename "$0" .sh): $*"
    failures=$((failures + 1))
}

# expect STATUS STDERR COMMAND...: stderr is exactly this line, or empty.
expect() {
    status=$1 message=$2
    shift 2
    "$@" >out 2>err
    got=$?
    [ "$got" = "$status" ] && [ "$(cat err)" = "$message" ] || fail "$*: status $got, stderr: $(cat err)"
}

# ends STATUS LINE ARGUMENT...: the last line of stderr is this, or there is none.
ends() {
    status=$1 message=$2
    shift 2
    "$duo" "$@" >out 2>err
    got=$?
    [ "$got" = "$status" ] && [ "$(tail -n 1 err)" = "$message" ] ||
        fail "$*: status $got, stderr: $(cat err)"
}

# begins STATUS TEXT ARGUMENT...: stderr is one line that begins so.
begins() {
    status=$1 message=$2
    shift 2
    "$duo" "$@" >out 2>err
    got=$?
    case "$(cat err)" in
    "$message"*) [ "$got" = "$status" ] && [ "$(wc -l <err)" = 1 ] && return ;;
    esac
    fail "$*: status $got, stderr: $(cat err)"
}

# shows TEXT: the last stdout holds it.
shows() {
    grep -qF -e "$1" out || fail "no '$1' in: $(cat out)"
}

# Sentences of few words, to prepare and to measure.
make_texts() {
    awk 'BEGIN {
        srand(3)
        n = split("the king cat stone river ship child sees takes loves breaks", word)
        for (i = 0; i < 9000; i++) printf "%s%s", word[int(rand() * n) + 1], i % 9 ? " " : ".\n"
    }' >text.txt
    head -c 20000 text.txt >held_out.txt
}
