#!/usr/bin/env bash
# Runs that are gone on with: with a changed recipe, by their folder, and by scripts that do not
# know whether there is one. Usage: changed_recipe.sh DUO
set -euo pipefail
duo=$1
. "$(dirname "$0")/tiny_run.sh"

export OMP_NUM_THREADS=1
enter_scratch
make_tokens
make_recipe 1 1 1 4 1
sed -i 's/^keep = 2/keep = 9/' tiny.conf
train_whole

mkdir -p mid/tiny
cp whole/tiny/step-00000005.h5 whole/tiny/recipe.conf whole/tiny/metrics.jsonl mid/tiny # two of four steps
mkdir -p end/tiny
cp whole/tiny/step-00000001.h5 end/tiny # the last step of its stage
go_on=(train tiny.conf --checkpoints mid --resume)
says 1 'stands at step 2 of stage router, which has 1 in the recipe' \
    "${go_on[@]}" --set stage.router.steps=1
says 1 'stage.dense.lr was 0.0006 and is 0.5, but that stage is over' \
    "${go_on[@]}" --set stage.dense.lr=0.5
sed 's/^stage dense {/stage first { kind = dense /' tiny.conf >renamed.conf
says 1 'stage.dense is not there any more, but that stage is over' \
    train renamed.conf --checkpoints mid --resume
says 1 'stage.dense.lr was 0.0006 and is 0.5, but that stage is over' \
    train tiny.conf --checkpoints end --resume --set stage.dense.lr=0.5
says 1 'stage router has begun, and would train other weights now: stage.router.train was router and is all' \
    "${go_on[@]}" --set stage.router.train=all
says 1 'would train other weights now: stage.router.router_hidden was 0 and is 5' \
    "${go_on[@]}" --set stage.router.router_hidden=5
cmp -s whole/tiny/recipe.conf mid/tiny/recipe.conf || fail 'a refused recipe was kept'
cp -r mid watched
says 0 'stage.dense.val_every was 10 and is 5' \
    train tiny.conf --checkpoints watched --resume --set stage.dense.val_every=5
cp -r mid changed
says 0 "changed/tiny/step-00000005.h5: seed was 1 and is 4; stage.router.lr was 0.0006 and is 0.001" \
    train tiny.conf --checkpoints changed --resume --set seed=4 --set stage.router.lr=1e-3

says 1 'mid/tiny: is a folder; --resume goes on with the run in it' train mid/tiny
says 0 'all stages done after 7 steps' train mid/tiny --resume
cmp whole/tiny/stage-router.h5 mid/tiny/stage-router.h5 || fail 'by its folder it ends otherwise'

says 2 '--checkpoints: mid/tiny is the run' train mid/tiny --resume --checkpoints mid
says 2 '--resume and --auto-resume exclude each other' train tiny.conf --resume --auto-resume

auto=(train tiny.conf --checkpoints auto --auto-resume)
says 0 'all stages done after 7 steps' "${auto[@]}"
says 0 'resuming from auto/tiny/' "${auto[@]}"
rm auto/tiny/stage-* auto/tiny/step-0000000[67].h5
says 0 'resuming from auto/tiny/step-00000005.h5' "${auto[@]}"
cmp whole/tiny/stage-router.h5 auto/tiny/stage-router.h5 || fail 'resumed by itself it ends otherwise'

says 1 'stage router: its teacher cannot be read yet: gone.h5: cannot open' train tiny.conf \
    --checkpoints taught --set stage.router.teacher=gone.h5
[ "$(head -c 13 err.log)" = 'duo: warning:' ] || fail "no warning at the start: $(cat err.log)"
says 0 'its teacher cannot be read yet: tokens.h5: is a tokens file' \
    train tiny.conf --dry-run --set stage.router.teacher=tokens.h5
says 0 'its init cannot be read yet: gone.h5' train tiny.conf --dry-run --set init=gone.h5
says 1 'tokens.h5: is a tokens file' train tiny.conf --dry-run --set init=tokens.h5
says 1 'has a vocabulary of 320, the recipe' train tiny.conf --dry-run --set model.vocab_size=10
# More than any machine has.
says 0 'needs ' train tiny.conf --dry-run --set model.max_seq=1048576 \
    --set stage.dense.micro_batch=4095 --set stage.dense.batch_size=4095
echo 'changed_recipe: all as told'
