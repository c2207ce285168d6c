#!/usr/bin/env bash
# Everything, from a bare Debian 12: installs, builds with gcc and clang, runs unit, replay, fuzz and system tests.
#   tests/run.sh [--long]     --long: longer fuzzing, and the tests that take minutes
# Details are in build/test-logs. The last line is "N passed, N failed"; exit code 0: none failed.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
# shellcheck source=conf/packages.sh
. conf/packages.sh

readonly logs=$root/build/test-logs
readonly python=/usr/bin/python3 # Debian's, which has Debian's pytest
# The ones that feed the router what it must not trust, once more with sanitizers.
readonly sanitized=(tests/system/test_hostile.py tests/system/test_wire.py tests/system/test_sessions.py)
fuzz_seconds=8
passed=0
failed=0

# step NAME COMMAND...: one thing that works or not; counted, its log shown when not.
step()
{
    local name=$1
    shift
    if "$@" >"$logs/$name.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name ($logs/$name.log)"
        tail -n 20 "$logs/$name.log"
        return 1
    fi
}

# suite NAME COMMAND...: many tests; the command writes $logs/NAME.xml (JUnit), which is counted.
suite()
{
    local name=$1 counts
    shift
    rm -f "$logs/$name.xml"
    "$@" >"$logs/$name.log" 2>&1
    local code=$?
    counts=$("$python" - "$logs/$name.xml" "$code" <<'COUNT'
import sys
import xml.etree.ElementTree as tree

cases = list(tree.parse(sys.argv[1]).iter("testcase"))
bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
skipped = [c for c in cases if c.find("skipped") is not None]
if not bad and sys.argv[2] != "0":
    sys.exit("ended with code " + sys.argv[2])
print(len(cases) - len(bad) - len(skipped), len(bad))
for c in bad:
    print("  ", c.get("classname"), c.get("name"))
COUNT
    ) || counts="0 1"
    local good bad
    read -r good bad <<<"${counts%%$'\n'*}"
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$bad" != 0 ]; then
        echo "FAILED: $bad of $name ($logs/$name.log)"
        [[ $counts != *$'\n'* ]] || echo "${counts#*$'\n'}"
        [ "$good" != 0 ] || tail -n 20 "$logs/$name.log"
    fi
}

build()
{
    cmake --preset "$1" && cmake --build --preset "$1"
}

fuzz()
{
    local what=$1 work=build/fuzz/corpus/$1
    mkdir -p "$work"
    "build/fuzz/bin/fuzz_$what" -max_total_time="$fuzz_seconds" -timeout=5 -rss_limit_mb=1024 \
        -artifact_prefix="$logs/fuzz-$what-" "$work" "tests/fuzz/corpus/$what"
}

system_tests()
{
    local preset=$1 name=$2
    shift 2
    WEIR_BUILD=$root/build/$preset suite "$name" timeout -k 30 "${pytest_limit:-600}" \
        "$python" -m pytest -q -p no:cacheprovider -o junit_family=xunit1 --junitxml="$logs/$name.xml" "$@"
}

case ${1-} in
'') ;;
--long)
    fuzz_seconds=600
    pytest_limit=7200
    export WEIR_TEST_LONG=1
    ;;
*)
    sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

mkdir -p "$logs"
export PYTHONDONTWRITEBYTECODE=1
packages=("${packages_build[@]}" "${packages_nodes[@]}" libcmocka-dev clang libclang-rt-14-dev rtmpdump python3 python3-pytest iproute2)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
step packages need_packages "${packages[@]}"

for preset in dev asan fuzz release; do # fuzz is the build with clang
    step "build-$preset" build "$preset"
done
for preset in dev asan; do
    suite "ctest-$preset" ctest --preset "$preset" -j 2 --timeout 120 --output-junit "$logs/ctest-$preset.xml"
done
for source in tests/fuzz/fuzz_*.c; do
    what=$(basename "$source" .c)
    step "fuzz-${what#fuzz_}" fuzz "${what#fuzz_}"
done
system_tests release system tests/system
system_tests asan system-asan "${sanitized[@]}"
step demo conf/demo.sh --once

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
