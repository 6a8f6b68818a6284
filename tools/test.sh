#!/usr/bin/env bash
# Install what is needed, build, run all tests. BUILD=FOLDER builds elsewhere than in build/;
# arguments go to CMake, as in: tools/test.sh -DDUO_SANITIZE=ON
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

install_packages "${duo_packages[@]}"
folder=${BUILD:-$root/build}
say "building in $folder"
build "$folder" "$@"
say "running the tests"
# Tests share the cores: a thread that waits must not keep one busy.
export OMP_WAIT_POLICY=passive
ctest --test-dir "$folder" --output-on-failure -j "$jobs"
