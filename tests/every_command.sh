# shellcheck shell=bash
# Sourced by the scripts that run every command of the program, short, each with a file that it
# makes and that is the same in every run; behind tiny_run.sh, in its scratch folder.

: "${duo:?the program to run}"

# make_inputs [EDIT]: what the commands read, of a recipe that sed has edited
make_inputs() {
    make_tokens
    make_recipe 1 1 1 2 1
    sed -i "${1:-}" tiny.conf
    train_whole --set stage.router.calibrate=8 --set stage.router.penalty=lagrangian
    mkdir -p half/tiny
    cp whole/tiny/step-00000004.h5 half/tiny # the router stage after its first step
    {
        echo 'name = taught'
        sed -n '/^model/p; /^data/p' tiny.conf
        echo 'init = "whole/tiny/stage-duo.h5"'
        echo 'stage router { steps = 2  batch_size = 4  micro_batch = 2  budget = 1  teacher = "teacher.h5"'
        echo '    learn = gaps  huber = 1  language = 0.5  balance = 0.1  z_loss = 0.1  train = all'
        echo '    precision = bf16  calibrate = 4  val_windows = 4 }'
    } >taught.conf
    head -30 text.txt >little.txt
    cp tokens.h5 again.h5
    tac text.txt >other.txt
    quietly prepare --input text.txt --held-out other.txt --tokenizer tokens.h5 --output held.h5
    sed 's/.*/{"text": "&\\n", "lines": 1}/' little.txt >little.jsonl
    quietly choices held.h5 --items 2 --choices 2 --context 4 --continuation 2 --output items.jsonl
    quietly eval whole/tiny --windows 1 --seq-len 8 --policy big --json measured.json
    quietly oracle whole/tiny/stage-duo.h5 --windows 2 --seq-len 8 --compare --fixed-windows 1 --random 2 \
        --output compared.h5
    quietly oracle whole/tiny/stage-duo.h5 --windows 6 --training --budget 1 --values best --output teacher.h5
}

# shellcheck disable=SC2034 # read by those who source this
commands=(prepare train resume taught eval text answer oracle study worth compare calibrate choices generate
    probe report inspect seal)

# words_of COMMAND: its words into `words`, what it makes into `output`
# shellcheck disable=SC2034
words_of() {
    output=out.h5
    case $1 in
    prepare) words=(prepare --input little.jsonl --output out.h5 --vocab-size 290) ;;
    train)
        words=(train tiny.conf --checkpoints run --set stage.router.calibrate=8
            --set stage.router.penalty=lagrangian)
        output=run/tiny/stage-router.h5
        ;;
    resume)
        cp -r half run
        words=(train tiny.conf --checkpoints run --resume --set stage.router.calibrate=8
            --set stage.router.penalty=lagrangian)
        output=run/tiny/stage-router.h5
        ;;
    taught) # a stage that learns from an oracle, with every term of its loss
        words=(train taught.conf --checkpoints run)
        output=run/taught/stage-router.h5
        ;;
    eval) words=(eval whole/tiny --windows 1 --seq-len 8 --routes-out out.h5) ;;
    text) words=(eval whole/tiny --text little.txt --windows 2 --usage out.h5) ;;
    answer) words=(eval whole/tiny --choices items.jsonl --policy big) output=out.log ;;
    oracle) words=(oracle whole/tiny --windows 1 --seq-len 8 --output out.h5) ;;
    study)
        words=(oracle whole/tiny --windows 1 --seq-len 8 --compare --fixed-windows 1 --random 2 --schedule 2:0
            --tsv out.h5)
        ;;
    worth)
        words=(oracle whole/tiny --windows 1 --seq-len 8 --budget 1 --values same --along router:exact:1
            --goal label-free --output out.h5)
        ;;
    compare)
        words=(compare whole/tiny/stage-duo.h5 --oracle compared.h5 --budget 1 --windows 2 --seq-len 8
            --row plain:1:1=whole/tiny/stage-router.h5 --by-layer out.h5)
        ;;
    calibrate) words=(calibrate whole/tiny --budget 1 --windows 1 --output out.h5) ;;
    choices)
        words=(choices held.h5 --items 2 --choices 2 --context 4 --continuation 2 --output out.h5)
        ;;
    generate) words=(generate whole/tiny --prompt the --max-tokens 3) output=out.log ;;
    probe) words=(probe whole/tiny --rows 1 --seq-len 8 --gradients --output out.h5) ;;
    report) words=(report whole/tiny --routes measured.json --output out.h5) ;;
    inspect) words=(inspect whole/tiny/latest) output=out.log ;;
    seal) words=(seal again.h5 out.h5) ;;
    esac
}

# Before each of them.
clean() {
    rm -rf run out.h5 out.log err.log
}
