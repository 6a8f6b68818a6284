#!/usr/bin/env bash
# Files of strangers whose seals are right. Every command that reads one must say in one line what
# is wrong with it, naming the file, with status 1; within little memory, and without opening
# anything outside the folder. Cases FIRST, FIRST + STEP, ... of the tables in hostile.c; what is
# opened is looked at in every TRACE-th of them, where strace is there.
# Usage: hostile.sh DUO HOSTILE STEP FIRST TRACE
set -euo pipefail
duo=$1 hostile=$2 step=$3 first=$4 trace=$5
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 # set: the program need not start itself again
enter_scratch
make_tokens
make_recipe 2 1 2 4 1
train_whole --set stage.router.calibrate=8 --set stage.router.penalty=lagrangian
study=(--windows 2 --compare)
quietly oracle whole/tiny "${study[@]}" --output routes.h5
quietly probe whole/tiny --rows 2 --seq-len 8 --output probe.h5
for kind in checkpoint tokens routes probe; do
    good=$kind.h5
    [ $kind != checkpoint ] || good=whole/tiny/step-00000008.h5 # in the middle of its stage
    mkdir -p "hostile/$kind"
    "$hostile" "$good" "hostile/$kind" >"$kind.cases" || fail "no files of kind $kind"
done

# Twice what the same commands take for the good files. Sanitizers need the whole address space.
limit=
if (ulimit -v 400000 && exec "$duo" eval whole/tiny --windows 2) >limit.log 2>&1; then
    limit=400000
fi
# A path that strace cuts short could seem to be another.
watch=(strace -f -s 4096 -o opened -e trace=%file)
tracing=false
if "${watch[@]}" true 2>/dev/null; then tracing=true; fi

# command KIND LETTER FILE: the words of a command that reads the file, into `words`
command_of() {
    case $1$2 in
    *i) words=(inspect "$3") ;;
    checkpointr) # the only checkpoint of a run
        rm -rf resumed
        mkdir -p resumed/tiny
        ln "$3" "resumed/tiny/step-00000008.h5"
        words=(train tiny.conf --resume --checkpoints resumed)
        ;;
    checkpointn) words=(train tiny.conf --checkpoints new --set "init=$3") ;;
    checkpointe) words=(eval "$3" --windows 2 --policy small) ;;
    checkpointo) words=(oracle "$3" --windows 1 --output out.h5) ;;
    checkpointg) words=(generate "$3" --prompt the --max-tokens 3) ;;
    checkpointp) words=(probe "$3" --rows 1 --seq-len 8 --output out.h5) ;;
    checkpointc) words=(calibrate "$3" --budget 1 --windows 2 --output out.h5) ;;
    checkpointR)
        rm -rf seen
        mkdir seen
        ln "$3" seen/latest
        words=(report seen --output out.html)
        ;;
    tokensn) words=(train tiny.conf --checkpoints new --set "data.tokens=$3") ;;
    tokense) words=(eval whole/tiny --windows 2 --policy small --tokens "$3") ;;
    tokenso) words=(oracle whole/tiny --windows 1 --output out.h5 --tokens "$3") ;;
    tokensp) words=(probe whole/tiny --rows 1 --seq-len 8 --output out.h5 --tokens "$3") ;;
    tokensc) words=(calibrate whole/tiny --budget 1 --windows 2 --output out.h5 --tokens "$3") ;;
    tokensh) words=(choices "$3" --output out.jsonl --items 2 --context 4 --continuation 2) ;;
    routesn) words=(train taught.conf --checkpoints new --set "stage.router.teacher=$3") ;;
    routese) words=(eval whole/tiny --policy "file:$3") ;;
    routesp) words=(probe whole/tiny --rows 1 --output out.h5 --routes "file:$3") ;;
    routeso)
        cp "$3" resumed.h5 # whatever it is, it must stay as it is
        words=(oracle whole/tiny "${study[@]}" --output resumed.h5)
        ;;
    routesR) words=(report whole/tiny --routes "$3" --output out.html) ;;
    *) fail "no command for $1$2" ;;
    esac
}
sed 's/stage router {.*/stage router { steps = 1  batch_size = 2  budget = 1 }/' tiny.conf >taught.conf

# Paths that were opened and are neither ours nor of the system's libraries.
strangers() {
    grep -v -e ENOENT -e 'execve(' -e AT_REMOVEDIR opened | grep -o '"[^"]*"' | tr -d '"' | sort -u |
        grep -E '^/|\.\.' |
        grep -Ev "^($work|$(dirname "$(dirname "$(realpath "$duo")")")|/proc|/sys|/dev|/lib|/usr|/etc/ld\.so|/etc/localtime)" || true
}

# try KIND NAME LETTER SAYS TRACED
try() {
    local kind=$1 name=$2 letter=$3 says=$4 status=0 errors wanted=1 said prefix=()
    local file=hostile/$kind/$name.h5 words=()
    command_of "$kind" "$letter" "$file"
    case $kind$letter in
    checkpointr) file=resumed/tiny/step-00000008.h5 ;;
    checkpointR) file=seen/latest wanted=0 ;; # the page shows the rest of the run
    routeso) file=resumed.h5 ;;
    esac
    ! $5 || prefix=(env ASAN_OPTIONS=detect_leaks=0 "${watch[@]}")
    (
        [ -z "$limit" ] || ulimit -v $limit
        ulimit -t 20 -c 0
        exec "${prefix[@]}" "$duo" "${words[@]}"
    ) >out.log 2>err.log || status=$?
    errors=$(grep -c '^duo: ' err.log) || true
    errors=$((errors - $(grep -c '^duo: warning: ' err.log || true)))
    said=$(grep '^duo: ' err.log | tr '\n' ' ') || true
    if [ $wanted -eq 0 ]; then said=$(grep -o '"problem":"[^"]*"' out.html) || true; fi
    local complaint=''
    case $says in
    */etc/passwd*) file='' ;; # the recipe's word, and the one file outside that is asked for
    *) ! $5 || [ -z "$(strangers)" ] || complaint="opened $(strangers | head -3 | tr '\n' ' ')" ;;
    esac
    [ $status -eq $wanted ] || complaint="status $status"
    [ "$errors" -eq $wanted ] || complaint="$errors lines"
    [[ $said == *"$file"* ]] || complaint="does not name $file"
    [[ $said == *"$says"* ]] || complaint="does not say '$says'"
    [ -z "$(find . -name '*.tmp-*')" ] || complaint="leaves $(find . -name '*.tmp-*')"
    [ "$kind$letter" != routeso ] || cmp -s "hostile/routes/$name.h5" resumed.h5 ||
        complaint="changed it"
    rm -rf new out.h5 out.jsonl out.html
    [ -n "$complaint" ] || return 0
    echo "hostile: $kind/$name, duo ${words[*]}: $complaint: $(tail -3 err.log)" >&2
    return 1
}

tried=0 held=0 files=0 n=0
for kind in checkpoint tokens routes probe; do
    while IFS=$'\t' read -r name readers says; do
        n=$((n + 1))
        [ $(((n - 1) % step)) -eq $((first % step)) ] || continue
        files=$((files + 1)) traced=false
        if $tracing && [ $((files % trace)) -eq 0 ]; then traced=true; fi
        for ((i = 0; i < ${#readers}; i++)); do
            tried=$((tried + 1))
            if try $kind "$name" "${readers:i:1}" "$says" $traced </dev/null; then
                held=$((held + 1))
            fi
        done
    done <$kind.cases
done
echo "hostile: tried $tried, held $held ($files files; ${limit:-no} KiB of address space; \
opened files $($tracing && echo looked at || echo not looked at))"
[ $held -eq $tried ]
