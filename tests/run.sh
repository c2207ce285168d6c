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
# What feeds the daemons bytes that they must not trust runs with sanitizers: some only so; once more what also looks at
# memory and time, without the tests that mostly wait.
readonly sanitized_only=(tests/system/test_wire.py tests/system/test_proxy.py)
sanitized_too=(tests/system/test_hostile.py tests/system/test_broken_nodes.py tests/system/test_healthd.py
    tests/system/test_sessions.py tests/system/test_soak.py)
# The system tests mostly wait, so they run in lanes side by side, each about as long. What needs a processor most, the browser
# and the first drills of moving, is one lane: never at the same time. A new file is in the lane of all the others.
readonly busy=(tests/system/test_rehoming.py tests/system/test_dashboard.py)
readonly with_sanitized=(tests/system/test_haproxy.py tests/system/test_routing.py)
readonly drills=(tests/system/test_drills.py tests/system/test_share.py tests/system/test_bench.py
    tests/system/test_soak.py)
readonly waiting="test_head_and_raw or test_event_streams_are_bounded or test_ten_thousand_checks or test_stuck_node"
fuzz_seconds=8
fuzz_seed=1 # the same inputs every time; --long looks for new ones
suite_limit=1500
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

# What this shell has started ends with it: suites by SIGINT, the shells beside this one by SIGTERM.
beside=()
end_with_children()
{
    trap 'kill -INT $(jobs -p) 2>/dev/null; [ ${#beside[@]} = 0 ] || kill "${beside[@]}" 2>/dev/null; wait' EXIT
    trap 'exit 130' INT TERM
}

# run_suite NAME COMMAND...: many tests; the command writes $logs/NAME.xml (JUnit).
run_suite()
{
    local name=$1
    shift
    rm -f "$logs/$name.xml"
    # In a session of its own: one SIGINT is for pytest to clean up on, a second one would interrupt that.
    setsid timeout --foreground -s INT -k 30 "$suite_limit" env --default-signal=INT "$@" >"$logs/$name.log" 2>&1 &
    wait $! # which a signal can interrupt
    echo $? >"$logs/$name.code"
}

# count_suite NAME: counts what run_suite has left.
count_suite()
{
    local name=$1 counts
    counts=$("$python" - "$logs/$name.xml" "$(cat "$logs/$name.code")" <<'COUNT'
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
    cmake --preset "$1" && nice -n 15 cmake --build --preset "$1" # lanes are waiting for something else beside it
}

fuzz()
{
    local what=$1 work=build/fuzz/corpus/$1
    mkdir -p "$work"
    nice -n 19 "build/fuzz/bin/fuzz_$what" -seed="$fuzz_seed" -max_total_time="$fuzz_seconds" -timeout=60 -rss_limit_mb=1024 \
        -artifact_prefix="$logs/fuzz-$what-" "$work" "tests/fuzz/corpus/$what"
}

system_tests()
{
    local preset=$1 name=$2
    shift 2
    WEIR_BUILD=$root/build/$preset run_suite "$name" "$python" -m pytest -q -p no:cacheprovider \
        --durations=10 -o junit_family=xunit1 --junitxml="$logs/$name.xml" "$@"
}

lane_others()
{
    local elsewhere=("${sanitized_only[@]}" "${busy[@]}" "${with_sanitized[@]}" "${drills[@]}")
    system_tests release system tests/system "${elsewhere[@]/#/--ignore=}"
}

lane_busy()
{
    system_tests release system-busy "${busy[@]}"
}

lane_drills()
{
    system_tests release system-drills "${drills[@]}"
}

lane_sanitized()
{
    system_tests asan system-asan "${sanitized_only[@]}" "${sanitized_too[@]}" -k "not ($waiting)"
    system_tests release system-more "${with_sanitized[@]}"
}

# start_lane FUNCTION: runs it beside this shell.
# shellcheck disable=SC2030,SC2031 # the others beside this shell are not the lane's to end
start_lane()
{
    (
        beside=()
        end_with_children
        "$1"
    ) &
    beside+=($!)
}

case ${1-} in
'') ;;
--long)
    fuzz_seconds=300
    fuzz_seed=0
    suite_limit=7200
    sanitized_too+=(tests/system/test_admin.py)
    export WEIR_TEST_LONG=1
    ;;
*)
    sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

end_with_children
mkdir -p "$logs"
export PYTHONDONTWRITEBYTECODE=1
packages=("${packages_build[@]}" "${packages_nodes[@]}" libcmocka-dev clang libclang-rt-14-dev python3 python3-pytest
    iproute2 rtmpdump haproxy openssl dpkg-dev lmdb-utils prometheus chromium chromium-driver python3-selenium systemd)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
step packages need_packages "${packages[@]}"

for preset in release dev; do
    step "build-$preset" build "$preset"
done
start_lane lane_others
start_lane lane_busy
start_lane lane_drills
step build-asan build asan
start_lane lane_sanitized
step build-haproxy conf/haproxy/build.sh
step build-fuzz build fuzz # the build with clang
for preset in dev asan; do
    run_suite "ctest-$preset" nice -n 10 ctest --preset "$preset" -j 2 --timeout 300 --output-junit "$logs/ctest-$preset.xml"
    count_suite "ctest-$preset"
done
for source in tests/fuzz/fuzz_*.c; do
    what=$(basename "$source" .c)
    step "fuzz-${what#fuzz_}" fuzz "${what#fuzz_}"
done
wait "${beside[@]}"
beside=()
for name in system system-busy system-drills system-asan system-more; do
    count_suite "$name"
done
step demo conf/demo.sh --once

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
