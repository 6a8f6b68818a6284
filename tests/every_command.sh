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
    head -30 text.txt >little.txt
    cp tokens.h5 again.h5
    tac text.txt >other.txt
    "$duo" prepare --input text.txt --held-out other.txt --tokenizer tokens.h5 --output held.h5 \
        >prepare.log 2>&1 || fail "prepare: $(tail -1 prepare.log)"
    sed 's/.*/{"text": "&\\n", "lines": 1}/' little.txt >little.jsonl
    "$duo" choices held.h5 --items 2 --choices 2 --context 4 --continuation 2 --output items.jsonl \
        >choices.log 2>&1 || fail "choices: $(tail -1 choices.log)"
    "$duo" eval whole/tiny --windows 1 --seq-len 8 --policy big --json measured.json >eval.log 2>&1 ||
        fail "eval: $(tail -1 eval.log)"
}

# shellcheck disable=SC2034 # read by those who source this
commands=(prepare train resume eval answer oracle calibrate choices generate probe report inspect seal)

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
    eval) words=(eval whole/tiny --windows 1 --seq-len 8 --routes-out out.h5) ;;
    answer) words=(eval whole/tiny --choices items.jsonl --policy big) output=out.log ;;
    oracle) words=(oracle whole/tiny --windows 1 --seq-len 8 --output out.h5) ;;
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
