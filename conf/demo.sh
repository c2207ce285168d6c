#!/usr/bin/env bash
# A whole Weir cluster on this machine's loopback: three nginx-rtmp nodes, the router, a test picture going in and out.
#   conf/demo.sh          stays up until Ctrl-C
#   conf/demo.sh --once   stops after the check; exit code 0: all well, 1: not
# Installs missing Debian packages, builds into build/release, keeps everything else in one folder below build/ that it removes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=conf/packages.sh
. "$root/conf/packages.sh"
# shellcheck source=conf/nginx/instance.sh
. "$root/conf/nginx/instance.sh"

readonly nodes=(node1 node2 node3)
readonly seconds=5 rate=25
readonly stream=live/demo
router=$root/build/release/bin/weir-router
once=
dir=
pids=() # in the order in which they were started

usage()
{
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

say()
{
    printf '%s\n' "$*"
}

# fail TEXT [LOG...]: says what failed, with the end of those logs.
fail()
{
    say "FAILED: $1" >&2
    local log
    for log in "${@:2}"; do
        [ -s "$log" ] || continue
        say "--- the end of $(basename "$log"):" >&2
        tail -n 15 "$log" >&2
    done
    exit 1
}

# Ends what we started, last first, and removes the folder.
clean_up()
{
    local i pid
    trap '' INT TERM
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        pid=${pids[i]}
        kill "$pid" 2>/dev/null || continue
        for _ in {1..50}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    [ -z "$dir" ] || rm -rf "$dir"
}

# free_port FIRST: the first port from FIRST on that nobody listens on and that we have not given out.
given=' '
free_port()
{
    local port=$1
    while [[ $given == *" $port "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
        [ "$port" -lt 32000 ] || fail "no free port from $1 on"
    done
    given+="$port "
    found_port=$port
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for()
{
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

alive()
{
    kill -0 "$1" 2>/dev/null
}

# logged PID FILE TEXT: the text is in the file. Fails at once if the process has ended.
logged()
{
    alive "$1" || fail "$(basename "$2" .log) ended" "$2"
    grep -qs -- "$3" "$2"
}

# The statistics page of the node at that port.
stat_page()
{
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET /stat HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
        tr -d '\r\n' <&3
    ) 2>/dev/null
}

# Names of the nodes whose own statistics show a publisher of the stream.
nodes_with_stream()
{
    local i
    for i in "${!nodes[@]}"; do
        stat_page "${http_ports[i]}" | sed 's/<stream>/\n&/g' |
            grep "^<stream><name>${stream#*/}</name>" | grep -q '</time><flashver>.*<publishing/>' && echo "${nodes[i]}"
    done
    return 0
}

stream_is_somewhere()
{
    owner=$(nodes_with_stream)
    [ -n "$owner" ]
}

build()
{
    local log=$dir/build.log
    say "Building the router (build/release) ..."
    { cd "$root" && cmake --preset release && cmake --build --preset release --target weir-router; } >"$log" 2>&1 ||
        fail "the build" "$log"
}

start_nodes()
{
    local i id first=19351
    for i in "${!nodes[@]}"; do
        id=${nodes[i]}
        mkdir "$dir/$id"
        free_port "$first"
        rtmp_ports[i]=$found_port
        free_port $((18081 + i))
        http_ports[i]=$found_port
        nginx_instance "$root/conf/nginx/nginx-rtmp.conf" "$dir/$id" "${rtmp_ports[i]}" "${http_ports[i]}" >"$dir/$id/nginx.conf"
        /usr/sbin/nginx -c "$dir/$id/nginx.conf" -e "$dir/$id/error.log" -g 'daemon off;' >"$dir/$id.log" 2>&1 &
        pids+=($!)
        wait_for 10 logged $! "$dir/$id/error.log" 'start worker process ' || fail "$id does not start" "$dir/$id/error.log"
        say "  $id: nginx-rtmp at 127.0.0.1:${rtmp_ports[i]}, statistics at http://127.0.0.1:${http_ports[i]}/stat"
        first=$((found_port > first ? first + 1 : first))
    done
}

start_router()
{
    local i config=$dir/weir.yaml
    free_port 1935
    address=127.0.0.1:$found_port
    {
        say "cluster: { name: demo, store: \"lmdb:$dir/store\", live: \"$dir/live\" }"
        say "nodes:"
        for i in "${!nodes[@]}"; do
            say "  - { id: ${nodes[i]}, rtmp: \"127.0.0.1:${rtmp_ports[i]}\", stat: \"http://127.0.0.1:${http_ports[i]}/stat\" }"
        done
        say "router:"
        say "  shutdown_grace: 1s"
        say "  listen: [{ address: \"$address\" }]"
        say "log: { stream_names: true }"
    } >"$config"
    "$router" -c "$config" -t >"$dir/router.log" 2>&1 || fail "the router refuses its configuration" "$dir/router.log"
    "$router" -c "$config" 2>"$dir/router.log" &
    router_pid=$!
    pids+=("$router_pid")
    wait_for 10 logged "$router_pid" "$dir/router.log" 'event=router_started' || fail "the router does not start" "$dir/router.log"
    say "  router: rtmp://$address"
}

publish()
{
    local log=$dir/publisher.log
    ffmpeg -nostdin -hide_banner -loglevel warning -re -f lavfi -i "testsrc=size=640x360:rate=$rate" \
        -f lavfi -i "sine=frequency=440:sample_rate=44100" -c:v libx264 -preset ultrafast -tune zerolatency \
        -pix_fmt yuv420p -g "$rate" -b:v 500k -c:a aac -b:a 96k -f flv "rtmp://$address/$stream" >"$log" 2>&1 &
    pids+=($!)
    wait_for 15 stream_is_somewhere || fail "no node has the stream" "$log" "$dir/router.log"
    alive "${pids[-1]}" || fail "the publisher ended" "$log" "$dir/router.log"
}

# Which node the router names, and which node says that it has the stream: must be the same one.
show_owner()
{
    local explained named line
    explained=$("$router" -c "$dir/weir.yaml" --explain "$stream" 2>&1) || fail "weir-router --explain $stream: $explained"
    named=$(sed -n 's/^node  *//p' <<<"$explained")
    say "weir-router --explain $stream:"
    while IFS= read -r line; do say "  $line"; done <<<"$explained"
    [ "$(wc -l <<<"$owner")" = 1 ] || fail "more than one node has the stream: $owner" "$dir/router.log"
    [ "$owner" = "$named" ] || fail "the router names $named, but the stream is on $owner" "$dir/router.log"
    say "$owner has the stream, and says so in its own statistics. The other nodes do not have it."
}

play()
{
    local log=$dir/player.log expected=$((seconds * rate)) frames bytes
    timeout 40 ffmpeg -nostdin -hide_banner -loglevel warning -i "rtmp://$address/$stream" -frames:v "$expected" -c copy \
        -progress "$dir/progress" -y "$dir/played.flv" >"$log" 2>&1 || fail "playing through the router" "$log" "$dir/router.log"
    frames=$(sed -n 's/^frame= *//p' "$dir/progress" | tail -n 1)
    bytes=$(stat -c %s "$dir/played.flv")
    say "Played $seconds seconds through the router: ${frames:-0} frames, $((bytes * 8 / seconds / 1000)) kbit/s."
    [ "${frames:-0}" -ge "$expected" ] || fail "too few frames, expected $expected" "$log" "$dir/router.log"
}

case ${1-} in
'') ;;
--once) once=yes ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

need_packages "${packages_build[@]}" "${packages_nodes[@]}" || fail "installing packages"
mkdir -p "$root/build"
trap clean_up EXIT
trap 'exit 130' INT TERM
dir=$(mktemp -d "$root/build/demo.XXXXXX")

build
say "Starting a cluster:"
rtmp_ports=() http_ports=()
start_nodes
start_router
say "Publishing a test picture to rtmp://$address/$stream ..."
publish
show_owner
play
[ -z "$once" ] || exit 0
trap 'exit 0' INT TERM

cat <<END

All well. Point your encoder at it (OBS: Settings, Stream, Service "Custom"):
  Server      rtmp://$address/live
  Stream key  any name
Watch:        ffplay rtmp://$address/$stream
Which node:   build/release/bin/weir-router -c ${dir#"$root"/}/weir.yaml --explain live/NAME
Log:          tail -f ${dir#"$root"/}/router.log
Ctrl-C ends everything and removes ${dir#"$root"/}.
END
wait "$router_pid" || true
fail "the router ended" "$dir/router.log"
