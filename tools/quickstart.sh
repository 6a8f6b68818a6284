#!/usr/bin/env bash
# From nothing to a table: packages, build, corpora, tokens, a small Duo with routers, its oracle,
# a generated text. Six to ten minutes on two cores. What is there already is not done again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"

recipe=recipes/quickstart.conf
run=checkpoints/quickstart
tokens=data/quickstart.h5
oracle=$run/oracle-4.h5
duo=build/src/cli/duo

install_packages "${duo_packages[@]}"

say "building"
build build

say "corpora"
tools/get_corpora.sh

say "tokens"
$duo prepare --output $tokens --vocab-size 4096 \
    --domain prose --input data/prose/train.jsonl --held-out data/prose/held_out.jsonl \
    --domain code --input data/code/train.jsonl --held-out data/code/held_out.jsonl

say "training: stage duo, then stage router"
$duo train $recipe --auto-resume

say "oracle: the best route of every token, 4 of 8 layers big"
[ $oracle -nt $run/latest ] || rm -f $oracle # of an older model
$duo oracle $run --budget 4 --windows 64 --output $oracle

say "a text"
$duo generate $run --prompt "It was a fine morning, and" --max-tokens 60 --policy router --seed 1

say "all policies on the oracle's held-out windows"
$duo eval $run --policy small --policy big --policy random:0.5 --policy router \
    --policy file:$oracle --routes-out $run/policies.h5

say "a page with all figures, to be opened in a browser"
$duo report $run --output $run/report.html
