#!/usr/bin/env bash
# Fetches the training corpora from Debian packages; data/README.md says what comes and why.
# Nothing is installed: packages are downloaded, unpacked into a temporary folder and read there.
set -euo pipefail
export LC_ALL=C

tools=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
extractor=$tools/extract_corpora.pl
recorded_hashes=$tools/corpora.sha256
domains=(prose code)
outputs=(prose/train.jsonl prose/held_out.jsonl code/train.jsonl code/held_out.jsonl)

# domain|package|format of extract_corpora.pl|licence of the text
sources=(
    'prose|r-cran-janeaustenr|novels|public domain'
    'prose|sword-text-web|bible|public domain'
    'prose|sword-comm-mhcc|commentary|public domain'
    'prose|sqlite3-doc|html|public domain'
    'code|libpython3.11-minimal|python|PSF'
    'code|libpython3.11-stdlib|python|PSF'
    'code|python3-sqlalchemy|python|MIT'
    'code|python3-networkx|python|BSD-3'
)
anarchism='prose|anarchism|markdown|GPL-2+'

usage() {
    cat <<'END'
usage: get_corpora.sh [--with-anarchism] [--out FOLDER]
  --with-anarchism  add the package anarchism to the prose: 11 MB, one-sided in subject, GPL-2+
  --out FOLDER      where prose/ and code/ go; the default is data/ of this project
Downloads are kept in FOLDER/packages; delete them to fetch newer ones.
END
}

warn() { printf 'get_corpora.sh: warning: %s\n' "$1" >&2; }
fail() { printf 'get_corpora.sh: %s\n' "$1" >&2; exit 1; }
wrong_use() { printf 'get_corpora.sh: %s\n' "$1" >&2; usage >&2; exit 2; }

# Prints the path of the cached package; downloads it if there is none.
package_file() {
    local package=$1 found
    found=$(find "$cache" -maxdepth 1 -name "${package}_*.deb" | sort | tail -n 1)
    if [[ -z $found ]]; then
        # The option lets root download into a folder that the user _apt cannot write to.
        mkdir -p "$scratch/download"
        (cd "$scratch/download" &&
            apt-get -q -o APT::Sandbox::User=root download "$package") >"$scratch/apt.log" 2>&1 ||
            return 1
        mv "$scratch/download/${package}"_*.deb "$cache/"
        found=$(find "$cache" -maxdepth 1 -name "${package}_*.deb" | sort | tail -n 1)
    fi
    printf '%s\n' "$found"
}

sha256_of() { sha256sum -- "$1" | cut -d ' ' -f 1; }

check_recorded() {
    local file=$1 hash=$2
    if ! grep -q "^$hash " "$recorded_hashes"; then
        warn "${file##*/} has a hash that ${recorded_hashes##*/} does not list"
    fi
}

up_to_date() {
    [[ -f $stamp && -f $table && $(head -n 1 "$stamp") == "$key" ]] &&
        (cd "$out" && tail -n +2 "$stamp" | sha256sum --check --status 2>/dev/null)
}

print_row() { printf '%-6s %-22s %-18s %9s %11s %11s  %-13s  %s\n' "$@"; }

# Reads every package into $scratch and writes the table beside the texts.
extract_all() {
    local entry domain package format licence file hash version counts documents train held_out
    local -A all_documents=() all_train=() all_held_out=()
    mkdir -p "$scratch/prose" "$scratch/code"
    exec 3>"$scratch/corpora.txt"
    print_row domain source version documents train held_out licence sha256 >&3
    for entry in "${available[@]}"; do
        IFS='|' read -r domain package format licence file hash <<<"$entry"
        version=$(dpkg-deb -f "$file" Version 2>/dev/null) ||
            fail "$file: not a whole Debian package, delete it"
        rm -rf "$scratch/root"
        mkdir "$scratch/root"
        dpkg-deb -x "$file" "$scratch/root" 2>/dev/null ||
            fail "$file: cannot be unpacked, delete it"
        counts=$(perl "$extractor" "$format" "$package" "$scratch/root" \
            "$scratch/$domain/train.jsonl" "$scratch/$domain/held_out.jsonl") ||
            fail "$package: no text could be read from $(basename -- "$file")"
        read -r documents train held_out <<<"$counts"
        print_row "$domain" "$package" "$version" "$documents" "$train" "$held_out" "$licence" \
            "${hash:0:12}" >&3
        all_documents[$domain]=$((${all_documents[$domain]:-0} + documents))
        all_train[$domain]=$((${all_train[$domain]:-0} + train))
        all_held_out[$domain]=$((${all_held_out[$domain]:-0} + held_out))
    done
    for domain in "${domains[@]}"; do
        print_row "$domain" total '' "${all_documents[$domain]}" "${all_train[$domain]}" \
            "${all_held_out[$domain]}" '' '' | sed 's/ *$//' >&3
    done
    exec 3>&-
}

# Without a stamp nothing counts as finished, so an interruption between two moves is harmless.
publish() {
    local file
    rm -f "$stamp"
    mkdir -p "$out/prose" "$out/code"
    for file in "${outputs[@]}"; do
        mv "$scratch/$file" "$out/$file"
    done
    mv "$scratch/corpora.txt" "$table"
    { printf '%s\n' "$key" && (cd "$out" && sha256sum "${outputs[@]}"); } >"$scratch/stamp"
    mv "$scratch/stamp" "$stamp"
}

out=$tools/../data
with_anarchism=0
while (($#)); do
    case $1 in
        --with-anarchism) with_anarchism=1 ;;
        --out)
            [[ -n ${2:-} ]] || wrong_use '--out needs a folder'
            out=$2
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) wrong_use "unknown argument: $1" ;;
    esac
    shift
done
if ((with_anarchism)); then sources=("$anarchism" "${sources[@]}"); fi

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: this script needs Debian or a relative"
done
perl -MCompress::Zlib -e 1 2>/dev/null ||
    fail "Perl's Compress::Zlib is missing: apt-get install perl"

mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)
cache=$out/packages
table=$out/corpora.txt
stamp=$out/.corpora.stamp
mkdir -p "$cache"
exec 9<"$out"
flock -n 9 || fail "$out: another get_corpora.sh is at work there"
scratch=$out/.corpora.tmp # under the lock: what is there was left by a run that was killed
rm -rf "$scratch"
mkdir "$scratch"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

available=()
found_domains=' '
for entry in "${sources[@]}"; do
    IFS='|' read -r domain package _ _ <<<"$entry"
    if ! file=$(package_file "$package"); then
        reason=$(grep -m 1 '^E: ' "$scratch/apt.log" || true)
        warn "$package: cannot be downloaded${reason:+: ${reason#E: }} (apt-get update may help)"
        continue
    fi
    hash=$(sha256_of "$file")
    check_recorded "$file" "$hash"
    available+=("$entry|$file|$hash")
    found_domains+="$domain "
done
for domain in "${domains[@]}"; do
    [[ $found_domains == *" $domain "* ]] || fail "$domain: none of its packages is there"
done

key=$(
    {
        sha256_of "${BASH_SOURCE[0]}"
        sha256_of "$extractor"
        printf '%s\n' "${available[@]##*|}"
    } | sha256sum | cut -d ' ' -f 1
)
if up_to_date; then
    echo "$out is up to date"
else
    extract_all
    publish
fi
cat "$table"
