# Sourced by the other scripts: where the project is, what it needs, how it is built.
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(env -u OMP_NUM_THREADS nproc) # which goes by that setting otherwise
export root jobs

# What builds, tests and runs Duo.
duo_packages=(gcc g++ make cmake pkg-config perl ca-certificates
    libhdf5-dev libxxhash-dev libconfuse-dev libjansson-dev libsentencepiece-dev check
    libjs-chart.js)

say() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

# Install the packages that are not there yet; asks nothing of apt when all are.
install_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        echo "please install as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# build FOLDER [CMAKE OPTION ...]
build() {
    local folder=$1
    shift
    cmake -S "$root" -B "$folder" "$@" >/dev/null
    cmake --build "$folder" -j "$jobs"
}
