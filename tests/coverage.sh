#!/usr/bin/env bash
# Which lines of the protocol and of the router's machines do the unit, replay, allocation and fuzz tests reach (those of ctest)?
#   tests/coverage.sh [--lines]     a table, a file a line; --lines: the lines that none of them reaches, too
# Needs clang and llvm (Debian: llvm-14). What system tests reach is not counted. Everything stays in build/coverage. Clang 14 takes
# the line behind an assert() for one that is not reached.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly build=$PWD/build/coverage
case ${1-} in
'' | --lines) ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

# tool NAME: with its version or without.
tool()
{
    local version
    version=$(clang -dumpversion)
    command -v "$1-${version%%.*}" || command -v "$1" || { echo "$1 is not there (Debian: llvm)" >&2 && return 1; }
}
profdata=$(tool llvm-profdata)
cov=$(tool llvm-cov)

cmake --preset coverage >"$build.log"
nice -n 15 cmake --build --preset coverage >>"$build.log" || { tail -n 20 "$build.log" && exit 1; }
rm -rf "$build/profiles"
LLVM_PROFILE_FILE=$build/profiles/%p-%m.profraw nice -n 15 ctest --preset coverage -j 2 >>"$build.log" ||
    { tail -n 20 "$build.log" && exit 1; }
"$profdata" merge -sparse -o "$build/profile" "$build"/profiles/*.profraw

programs=("$build"/bin/{unit,replay,fuzz,store}_*)
objects=("${programs[0]}" "${programs[@]/#/-object=}")
sources=()
for source in lib/{base,rtmp}/*.c router/*.c; do
    [[ $source == *_io.c || $source == */main.c ]] || sources+=("$source")
done
"$cov" report -instr-profile="$build/profile" -show-region-summary=false -show-branch-summary=false "${objects[@]}" "${sources[@]}"
if [ "${1-}" = --lines ]; then
    "$cov" show -instr-profile="$build/profile" "${objects[@]}" "${sources[@]}" |
        awk -F'|' '/^[^ |].*:$/ { file = $0 } NF > 2 && $2 ~ /^ *0$/ { print file $1 "|" $3 }'
fi
