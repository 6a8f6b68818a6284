#!/usr/bin/env bash
# Kill a run (-9) at random moments of training and saving, in every stage, and resume it, on other
# thread counts each time. What `latest` pointed to is what it goes on from, or a later one; no
# checkpoint is damaged; a run that comes to its end is, bit for bit, the one never killed.
# Usage: kills.sh DUO KILLS SEED
set -euo pipefail
duo=$1
kills=$2
RANDOM=$3
. "$(dirname "$0")/tiny_run.sh"

enter_scratch
make_tokens
make_recipe 40 40 240 120 2
started=$(date +%s%N)
OMP_NUM_THREADS=2 train_whole
tenth=$((($(date +%s%N) - started) / 10000000 + 20)) # of a whole run, in ms

# Moments after the start: before anything is saved, and anywhere up to a tenth of a whole run.
nap() {
    local ms=$((RANDOM % tenth))
    sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
}

# begin: the run in the background, resumed when there is something to resume
begin() {
    before=$(latest_step killed)
    OMP_NUM_THREADS=$((RANDOM % 3 + 1)) train_on killed
}

# The step that this process went on from is no earlier than the one acknowledged before.
check_resumed() {
    local from
    ! compgen -G 'killed/tiny/*.damaged' >/dev/null || fail "kill $killed damaged a checkpoint"
    [ "$before" -gt 0 ] || return 0
    from=$(grep -o '^resuming from .* step [0-9]*$' killed.log | grep -o '[0-9]*$') || return 0
    [ "$from" -ge "$before" ] || fail "kill $killed: step $before was saved, resumed from $from"
}

killed=0 ended=0 stages=
for ((turn = 0; killed < kills && turn < 4 * kills + 20; turn++)); do
    begin
    nap
    if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
    if wait $pid 2>/dev/null; then
        check_resumed
        same_end killed
        ended=$((ended + 1))
        rm -rf killed
        continue
    fi
    [ ! -s killed.log ] || ! grep -q '^duo: ' killed.log || fail "$(tail -1 killed.log)"
    check_resumed
    stages+=" $(tail -1 killed/tiny/metrics.jsonl 2>/dev/null | grep -o '"stage":"[a-z]*"' || true)"
done
begin
wait $pid || fail "after $killed kills: $(tail -1 killed.log)"
check_resumed
same_end killed
counts=$(tr ' ' '\n' <<<"$stages" | { grep stage || true; } | sort | uniq -c | sed 's/"stage"://; s/"//g' |
    awk '{ printf "%s%s %d", (NR > 1 ? ", " : ""), $2, $1 }')
echo "kills: tried $killed, held $killed ($counts; $((ended + 1)) runs ended in the same bits)"
[ "$killed" -ge "$kills" ] || fail "only $killed kills met a run: too fast a machine"
