# shellcheck shell=bash disable=SC2154
# Sourced by recipes/paper-mini.sh, whose settings and files it uses: the tables and the page.

: "${run:?}" "${name:?}" "${tables:?}" "${duo:?}" "${work:?}"

# Of JSON with an object per line: a number or a text of the line that awk reads, "nan" for null.
json_value='
    function value(key,  text) {
        if (!match($0, "\"" key "\":(\"[^\"]*\"|[^,}]*)")) return "nan"
        text = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
        gsub(/"/, "", text)
        return text == "null" ? "nan" : text
    }
    function places(number) { return number == "nan" ? number : sprintf("%.4f", number) }'

# table NAME WHAT COMMAND...: stdin, whose first line names the columns, under what it is and the
# commands that it was made of. Without any rows there is no table.
table() {
    local file=$tables/$1.tsv what=$2
    shift 2
    cat >"$work/rows"
    [ "$(wc -l <"$work/rows")" -gt 1 ] || return 0
    {
        printf '# %s\n' "$what"
        printf '#   %s\n' "$@"
        cat "$work/rows"
    } >"$work/table"
    mv "$work/table" "$file"
    echo "$file"
}

# shares LABEL FILE: rows of a usage file of duo eval: share of a module in each layer, over all
# positions and over eighths of them; of two modules, big alone
shares() {
    [ -e "$2" ] || return 0
    awk -F '\t' -v OFS='\t' -v label="$1" '
        FNR == 1 { for (i = 4; i <= NF; i++) module[i] = $i; next }
        { layers = $2 + 1; if ($3 + 1 > positions) positions = $3 + 1 }
        { for (i = 4; i <= NF; i++) { share[i, $2, $3] = $i; used[i] += $i } }
        END {
            for (i = 4; i in module; i++) modules += used[i] > 0
            for (i = 4; i in module; i++) {
                if (!used[i] || (modules == 2 && module[i] != "big")) continue
                for (l = 0; l < layers; l++) {
                    line = label OFS module[i] OFS l
                    all = 0
                    eighths = ""
                    for (e = 0; e < 8; e++) {
                        first = int(e * positions / 8); end = int((e + 1) * positions / 8)
                        sum = 0
                        for (t = first; t < end; t++) sum += share[i, l, t]
                        all += sum
                        eighths = eighths sprintf("%s%.4f", OFS, end > first ? sum / (end - first) : 0)
                    }
                    print line, sprintf("%.4f", all / positions) eighths
                }
            }
        }' "$2"
}

share_columns='module\tlayer\tshare\teighth1\teighth2\teighth3\teighth4\teighth5\teighth6\teighth7\teighth8'

oracle_shares() {
    local domain kind file
    printf "domain\tbudget\t$share_columns\n"
    for domain in "${domains[@]}"; do
        for kind in 4 6 8 skip-6; do
            file=$run/oracle-$domain-$kind
            [ -e "$file.done" ] || continue
            "$duo" eval "$model" --policy "file:$file.h5" --usage "$work/usage.tsv" >"$work/log"
            shares "$domain"$'\t'"$kind" "$work/usage.tsv"
        done
    done
}

router_shares() {
    local domain router
    printf "domain\trouter\t$share_columns\n"
    for domain in "${domains[@]}"; do
        for router in "${routers[@]}"; do
            shares "$domain"$'\t'"$router" "$run/tables/router-$domain-$router.tsv"
        done
    done
}

# Figure 4: the comparison, and the routers on the same windows.
perplexities() {
    local domain=$1 router file
    [ -e "$run/oracle-$domain-all.done" ] || return 0
    printf 'policy\tbig_layers\tloss\tloss_error\tperplexity\tperplexity_error\n'
    awk -F '\t' -v OFS='\t' -v layers="$(setting n_layers)" "$json_value"'
        FNR > 1 && $1 != "big-drawn" {
        print $1, sprintf("%.3f", $2 == "nan" ? $7 * layers : $2), places($3), places($4), places($5), \
            places($6)
    }' "$run/tables/oracle-$domain-all.tsv"
    for router in "${routers[@]}"; do
        file=$run/tables/router-$domain-$router.json
        [ -e "$file" ] || continue
        awk -v OFS='\t' -v label="$router" "$json_value"' {
            match($0, /"big":\[[^]]*/)
            n = split(substr($0, RSTART + 7, RLENGTH - 7), share, ",")
            for (i = 1; i <= n; i++) big += share[i]
            print "router " label, sprintf("%.3f", big), places(value("loss")), \
                places(value("loss_error")), places(value("perplexity")), \
                places(value("perplexity") * value("loss_error"))
        }' "$file"
    done
}

hindsight() {
    local domain kind keys
    keys='big oracle oracle_error gain gain_error control control_error corrected corrected_error'
    keys="$keys label_free label_free_error label_free_gain label_free_gain_error"
    printf 'domain\tcontext\tmodules\t%s\n' "$(echo "$keys" | tr ' ' '\t')"
    for domain in "${domains[@]}"; do
        for kind in all 4 6 8 skip-6; do
            [ -e "$run/tables/oracle-$domain-$kind.json" ] || continue
            awk -v OFS='\t' -v domain="$domain" -v keys="$keys" "$json_value"'
                /"model_hash"/ { context = value("context"); modules = value("modules") }
                /^{"big":/ {
                    n = split(keys, key, " ")
                    line = domain OFS context OFS modules
                    for (i = 1; i <= n; i++) line = line OFS (i == 1 ? value(key[i]) : places(value(key[i])))
                    print line
                }' "$run/tables/oracle-$domain-$kind.json"
        done
    done
}

# Figures 5 and 6: over all tokens, and the tokens of one sequence.
difficulty() {
    local domain
    printf 'domain\ttokens\tsmall\tbig\toracle\tgap\tgap_above_1\tgap_of_hardest_tenth\t'
    printf 'correlation_of_small_and_gap\tcorrelation_of_big_and_gap\n'
    for domain in "${domains[@]}"; do
        [ -e "$run/tables/difficulty-$domain.tsv" ] || continue
        tail -n +2 "$run/tables/difficulty-$domain.tsv" | LC_ALL=C sort -t $'\t' -k7,7gr |
            awk -F '\t' -v OFS='\t' -v domain="$domain" '
                {
                    n++; s = $7; b = $8; g = $10
                    S += s; B += b; O += $9; G += g; SS += s * s; BB += b * b; GG += g * g
                    SG += s * g; BG += b * g; large += g > 1; gap[n] = g
                }
                function correlation(x, xx, xg) {
                    return (xg / n - x / n * G / n) / sqrt((xx / n - (x / n) ^ 2) * (GG / n - (G / n) ^ 2))
                }
                END {
                    tenth = int(n / 10)
                    for (i = 1; i <= tenth; i++) hard += gap[i]
                    printf "%s\t%d\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\n", domain, n, S / n, \
                        B / n, O / n, G / n, large / n, tenth ? hard / tenth : 0, \
                        correlation(S, SS, SG), correlation(B, BB, BG)
                }'
    done
}

token_losses() {
    local domain
    printf 'domain\tposition\toffset\ttext\tsmall\tbig\toracle\tgap\troute\n'
    for domain in "${domains[@]}"; do
        [ -e "$run/tables/difficulty-$domain.tsv" ] || continue
        awk -F '\t' -v OFS='\t' 'FNR > 1 && $2 == 0 { print $1, $3, $4, $6, $7, $8, $9, $10, $11 }' \
            "$run/tables/difficulty-$domain.tsv"
    done
}

# Figure 7: the routes of one sequence, a column per router.
router_routes() {
    local router checkpoint
    "$duo" calibrate "$run-plain-b4-s1/stage-router.h5" --target-big 0.3 \
        --output "$work/three-tenths.h5" >"$work/log" || return 0
    printf 'router\tposition\troute\n'
    for router in plain-30 skip-b6-s1 three-s1; do
        checkpoint=$run-$router/stage-router.h5
        [ "$router" = plain-30 ] && checkpoint=$work/three-tenths.h5
        [ -e "$checkpoint" ] || continue
        "$duo" eval "$checkpoint" --policy router --domain prose --windows 1 \
            --routes-out "$work/routes.h5" >"$work/log"
        "$duo" inspect "$work/routes.h5" --values /routes | tr ' ' '\n' | grep . |
            awk -v OFS='\t' -v router="$router" -v layers="$(setting n_layers)" '
                { route = route substr("-SB", $1 + 1, 1) }
                NR % layers == 0 { print router, NR / layers - 1, route; route = "" }'
    done
}

# Figure 8: Duo and dense models, held-out loss and multiple choice.
models() {
    local of policy domain
    printf 'model\tpolicy\tmflops_per_token\tloss\tloss_error\tperplexity'
    for domain in "${domains[@]}"; do printf '\t%s_accuracy\t%s_accuracy_error' "$domain" "$domain"; done
    echo
    for of in duo frozen dense-0 dense-0.25 dense-0.5 dense-0.75 dense-1; do
        [ -e "$run/loss-$of.json" ] || continue
        while IFS=$'\t' read -r policy line; do
            printf '%s\t%s\t%s' "$of" "$policy" "$line"
            for domain in "${domains[@]}"; do
                awk -v policy="$policy" "$json_value"'value("policy") == policy {
                    printf "\t%.4f\t%.4f", value("accuracy"), value("accuracy_error") }' \
                    "$run/choices-$domain-$of.json"
            done
            echo
        done < <(awk -v OFS='\t' "$json_value"'{ print value("policy"),
            places(value("flops_per_token") / 1e6), places(value("loss")), places(value("loss_error")),
            places(value("perplexity")) }' "$run/loss-$of.json")
    done
}

# Regret: paired by sequence, as its mean and standard error.
regrets() {
    local method file
    printf 'method\tloss\tregret\tregret_error\tsame_route\tsearch_mflops_per_token\n'
    for method in "${methods[@]}"; do
        file=$run/methods/${method/:/-}
        [ -e "$file.done" ] || continue
        awk -F '\t' -v OFS='\t' -v method="$method" \
            -v mflops="$(awk "$json_value"'/"model_hash"/ { print value("search_flops_per_token") / 1e6 }' \
                "$file.json")" '
            FNR == 1 { file++; next }
            file == 1 { exact[$2, $3] = $9; route[$2, $3] = $11; next }
            {
                n++; loss += $9; same += $11 == route[$2, $3]
                sum[$2] += $9 - exact[$2, $3]; tokens[$2]++
            }
            END {
                for (r in sum) { R++; mean += sum[r] / tokens[r] }
                mean /= R
                for (r in sum) square += (sum[r] / tokens[r] - mean) ^ 2
                error = R > 1 ? sqrt(square / (R - 1) / R) : "nan"
                print method, sprintf("%.4f", loss / n), sprintf("%.5f", mean), \
                    error == "nan" ? error : sprintf("%.5f", error), sprintf("%.3f", same / n), mflops
            }' "$run/methods/exact.tsv" "$file.tsv"
    done
}

make_tables() {
    local script=recipes/paper-mini.sh domain folder shown=()
    mkdir -p "$tables"
    oracle_shares | table figure-2 "Oracle, committed context: share of each module by layer, over all \
positions and over eighths of them" \
        "$script oracle-prose oracle-code tables" \
        "duo oracle $model --domain DOMAIN --windows $committed_windows --budget 4|6|8|skip:6 --output O.h5" \
        "duo eval $model --policy file:O.h5 --usage TSV"
    router_shares | table figure-3 "Routers: the same, on the windows of the reference studies" "$script routers tables" \
        "duo eval $name-ROUTER/stage-router.h5 --domain DOMAIN --windows $windows --usage TSV"
    for domain in "${domains[@]}"; do
        perplexities "$domain" | table "figure-4-$domain" "Perplexity by big layers per token, held-out \
$domain; errors are standard errors over sequences" "$script oracle-$domain routers tables" \
            "duo oracle $model --domain $domain --windows $windows --context reference --compare \
--schedule 6:2 --schedule 2:6 --tsv TSV"
    done
    hindsight | table hindsight "Gain of the oracle over all-big in nats, its control on targets drawn from \
the model, and the difference; what the route of least expected loss gains" \
        "$script oracle-prose oracle-code tables" \
        "duo oracle $model --domain DOMAIN --windows $windows --context reference --compare --json FILE" \
        "duo oracle $model --domain DOMAIN --windows $committed_windows --budget B --control --json FILE"
    difficulty | table figure-5-6 "Token difficulty: mean losses, the gap between small and the best of all \
routes (reference context), and how it goes with the loss" "$script oracle-prose oracle-code tables" \
        "duo oracle $model --domain DOMAIN --windows $windows --context reference --compare --difficulty TSV"
    token_losses | table figure-5-6-tokens "The tokens of one sequence of prose and one of code: nats, and the \
best route" "$script oracle-prose oracle-code tables" "as figure-5-6.tsv"
    router_routes | table figure-7 "Routes of the first sequence of prose, layer by layer: - skip, S small, \
B big" "$script routers tables" "duo eval $name-ROUTER/stage-router.h5 --domain prose --windows 1 --routes-out FILE" \
        "plain-30: duo calibrate $name-plain-b4-s1/stage-router.h5 --target-big 0.3"
    models | table figure-8 "Duo by its policy, freeze-then-small, and dense models of equal FLOPs: held-out \
loss in nats, and accuracy of a choice among 4" "$script frozen dense dense-more choices tables" \
        "duo eval CHECKPOINT --policy P --windows $eval_windows" \
        "duo eval CHECKPOINT --policy P --choices choices-DOMAIN.jsonl"
    regrets | table methods "Searches of routes with exactly 6 of 12 big, committed context: nats above the \
exact oracle on the same sequences, with its standard error over them" "$script methods tables" \
        "duo oracle $model --windows $committed_windows --budget 6 --method METHOD --difficulty TSV"
    for folder in "$run" "$run-frozen" "$run"-dense-* "${routers[@]/#/$run-}"; do
        [ -e "$folder/metrics.jsonl" ] && shown+=("$folder")
    done
    "$duo" report "${shown[@]}" --output "$run/report.html"
}
