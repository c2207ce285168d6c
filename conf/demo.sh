#!/usr/bin/env bash
# A whole Weir cluster on this machine's loopback: three nginx-rtmp nodes, router, health daemon, API with dashboard,
# HAProxy with TLS in front, and a test picture going in and out.
#   conf/demo.sh          stays up until Ctrl-C
#   conf/demo.sh --once   stops after the check; exit code 0: all well, 1: not
#   conf/demo.sh --drill [KILLS]
#                         then kills the node that has the stream, 5 times or KILLS, and starts it again, while ffmpeg
#                         publishes and ffmpeg plays; exit code 0: the player has every frame, 1: not
# Installs missing Debian packages, builds into build/release and build/haproxy, keeps everything else in one folder below
# build/ that it removes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=conf/packages.sh
. "$root/conf/packages.sh"
# shellcheck source=conf/nginx/instance.sh
. "$root/conf/nginx/instance.sh"

readonly packages_demo=(openssl curl)
readonly nodes=(node1 node2 node3)
readonly seconds=5 rate=25
readonly stream=live/demo
readonly bin=$root/build/release/bin
once=
kills=0
dir=

usage()
{
    sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
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
    local i pid running
    trap '' INT TERM
    mapfile -t running < <(jobs -pr) # in the order in which they were started
    for ((i = ${#running[@]} - 1; i >= 0; i--)); do
        pid=${running[i]}
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

# page [OPTION...] URL: what is there. Loopback is asked straight, whatever proxy the environment names.
page()
{
    curl --silent --fail --max-time 5 --noproxy '*' --cacert "$dir/certs/weir.ecdsa.crt" "$@"
}

# api URL: the same with our token.
api()
{
    page --header "Authorization: Bearer $token" "$1"
}

# Names of the nodes whose own statistics show a publisher of the stream.
nodes_with_stream()
{
    local i
    for i in "${!nodes[@]}"; do
        page "http://127.0.0.1:${http_ports[i]}/stat" | tr -d '\r\n' | sed 's/<stream>/\n&/g' |
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
    say "Building Weir (build/release) and HAProxy (build/haproxy) ..."
    { cd "$root" && cmake --preset release && cmake --build --preset release; } >"$log" 2>&1 || fail "the build" "$log"
    haproxy=$(conf/haproxy/build.sh 2>"$log") || fail "the build of HAProxy" "$log"
}

# start_node INDEX: also for the second time.
start_node()
{
    local id=${nodes[$1]}
    : >"$dir/$id/error.log"
    /usr/sbin/nginx -c "$dir/$id/nginx.conf" -e "$dir/$id/error.log" -g 'daemon off;' >"$dir/$id.log" 2>&1 &
    node_pids[$1]=$!
    wait_for 40 logged $! "$dir/$id/error.log" 'start worker process ' || fail "$id does not start" "$dir/$id/error.log"
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
        start_node "$i"
        say "  $id: nginx-rtmp at 127.0.0.1:${rtmp_ports[i]}, statistics at http://127.0.0.1:${http_ports[i]}/stat"
        first=$((found_port > first ? first + 1 : first))
    done
}

# A token that may change things; the file has its hash only. weir-admin wants one as soon as a proxy is in front.
make_token()
{
    local made
    made=$("$bin/weir-admin" --new-token demo write) || fail "weir-admin --new-token"
    token=$(sed -n '2s/^# //p' <<<"$made")
    sed -n '$p' <<<"$made" >"$dir/tokens"
}

# One file for the three daemons.
write_config()
{
    local i
    free_port 1936
    router_address=127.0.0.1:$found_port
    free_port 8090
    admin_address=127.0.0.1:$found_port
    {
        say "cluster: { name: demo, store: \"lmdb:$dir/store\", live: \"$dir/live\" }"
        say "nodes:"
        for i in "${!nodes[@]}"; do
            say "  - { id: ${nodes[i]}, rtmp: \"127.0.0.1:${rtmp_ports[i]}\", stat: \"http://127.0.0.1:${http_ports[i]}/stat\" }"
        done
        say "router:"
        say "  shutdown_grace: 1s"
        say "  listen: [{ address: \"$router_address\", proxy_protocol: required, trust: [127.0.0.1/32] }]"
        say "admin: { listen: \"$admin_address\", tokens: \"$dir/tokens\" }"
        if [ "$kills" != 0 ]; then # nodes go and come more often than Weir puts up with
            say "failover: { max_moves: 1000 }"
            say "healthd: { flap_max: 0 }"
        fi
        say "log: { stream_names: true }"
    } >"$config"
}

# start_daemon NAME EVENT: weir-NAME, which says EVENT when it is ready.
start_daemon()
{
    local name=weir-$1 log=$dir/weir-$1.log
    "$bin/$name" -c "$config" -t >"$log" 2>&1 || fail "$name refuses its configuration" "$log"
    "$bin/$name" -c "$config" 2>"$log" &
    daemons+=($!)
    wait_for 40 logged $! "$log" "event=$2" || fail "$name does not start" "$log"
}

# weir.ecdsa.pem and weir.rsa.pem, for this machine's own name, signed by themselves.
make_certificates()
{
    local kind key_type
    mkdir "$dir/certs"
    for kind in ecdsa rsa; do
        key_type=(rsa:2048)
        [ "$kind" = rsa ] || key_type=(ec -pkeyopt ec_paramgen_curve:prime256v1)
        openssl req -x509 -newkey "${key_type[@]}" -nodes -days 2 -subj /CN=localhost \
            -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
            -keyout "$dir/certs/$kind.key" -out "$dir/certs/weir.$kind.crt" >"$dir/certs/log" 2>&1 ||
            fail "making certificates" "$dir/certs/log"
        cat "$dir/certs/weir.$kind.crt" "$dir/certs/$kind.key" >"$dir/certs/weir.$kind.pem"
    done
}

# conf/haproxy/haproxy.cfg with our addresses, one router, and as many clients as the descriptors here allow.
haproxy_config()
{
    local descriptors most
    descriptors=$(ulimit -Hn)
    [ "$descriptors" != unlimited ] || descriptors=1000000
    most=$(((descriptors - 200) / 2))
    sed -e "s|^    bind :1935$|    bind $rtmp_address|" \
        -e "s|^    bind :443 |    bind $rtmps_address |" \
        -e "s|^    bind :8443 |    bind $https_address |" \
        -e "s|^    bind 127.0.0.1:8404$|    bind $haproxy_address|" \
        -e "s|^    server r1 127.0.0.1:1936$|    server r1 $router_address|" \
        -e "/^    server r2 /d" \
        -e "s|^    server admin 127.0.0.1:8090 |    server admin $admin_address |" \
        -e "s|^    stats socket /run/haproxy/|    stats socket $dir/|" \
        -e "s|^    crt-base .*|    crt-base $dir/certs|" \
        -e "s|^    maxconn 20000$|    maxconn $((most < 20000 ? most : 20000))|" "$root/conf/haproxy/haproxy.cfg" |
        if [ "$(id -u)" = 0 ] && id haproxy >/dev/null 2>&1 && [ -d /var/lib/haproxy ]; then
            cat
        else
            sed -E '/^    (user|group|chroot) /d'
        fi
}

start_haproxy()
{
    local log=$dir/haproxy.log
    free_port 1935
    rtmp_address=127.0.0.1:$found_port
    free_port 4443
    rtmps_address=127.0.0.1:$found_port
    free_port 8443
    https_address=127.0.0.1:$found_port
    free_port 8404
    haproxy_address=127.0.0.1:$found_port
    make_certificates
    haproxy_config >"$dir/haproxy.cfg"
    "$haproxy" -db -f "$dir/haproxy.cfg" >"$log" 2>&1 &
    daemons+=($!)
    wait_for 40 all_up $! || fail "HAProxy does not reach the router and the API" "$log" "$dir/weir-admin.log" "$dir/weir-router.log"
}

# Servers that HAProxy has checked and found up: the router and the API.
all_up()
{
    local up
    alive "$1" || fail "HAProxy ended" "$dir/haproxy.log"
    up=$(page "http://$haproxy_address/;csv" | grep -cE '^weir_(routers,r1|admin,admin),.*,UP,.*,L[47]OK,') || true
    [ "$up" = 2 ]
}

# metric NAME: the value, as weir-admin gives it.
metric()
{
    api "http://$admin_address/metrics" | sed -n "s/^$1 //p"
}

nodes_are_up()
{
    [ "$(metric weir_nodes_up)" = "${#nodes[@]}" ]
}

check_control_plane()
{
    local path
    wait_for 40 nodes_are_up || fail "the health daemon does not find all nodes up" "$dir/weir-healthd.log" "$dir/weir-admin.log"
    for path in / /api/v1/nodes; do
        api "https://$https_address$path" >/dev/null ||
            fail "no answer to $path through HAProxy" "$dir/haproxy.log" "$dir/weir-admin.log"
    done
    say "The health daemon says that all ${#nodes[@]} nodes are up. Metrics and dashboard answer."
}

# In a drill what is sent is also written to a file, to be compared with what was played.
publish()
{
    local log=$dir/publisher.log to=(-f flv "rtmp://$rtmp_address/$stream")
    [ "$kills" = 0 ] || to=(-map 0:v -map 1:a -flags +global_header -f tee "[f=flv]${to[2]}|[f=flv]$dir/sent.flv")
    ffmpeg -nostdin -hide_banner -loglevel warning -re -f lavfi -i "testsrc=size=640x360:rate=$rate" \
        -f lavfi -i "sine=frequency=440:sample_rate=44100" -c:v libx264 -preset ultrafast -tune zerolatency \
        -pix_fmt yuv420p -g "$rate" -b:v 500k -c:a aac -b:a 96k "${to[@]}" >"$log" 2>&1 &
    publisher=$!
    wait_for 40 stream_is_somewhere || fail "no node has the stream" "$log" "$dir/weir-router.log"
    alive "$publisher" || fail "the publisher ended" "$log" "$dir/weir-router.log"
}

# Which node the router names, and which node says that it has the stream: must be the same one.
show_owner()
{
    local explained named line
    explained=$("$bin/weir-router" -c "$config" --explain "$stream" 2>&1) || fail "weir-router --explain $stream: $explained"
    named=$(sed -n 's/^node  *//p' <<<"$explained")
    say "weir-router --explain $stream:"
    while IFS= read -r line; do say "  $line"; done <<<"$explained"
    [ "$(wc -l <<<"$owner")" = 1 ] || fail "more than one node has the stream: $owner" "$dir/weir-router.log"
    [ "$owner" = "$named" ] || fail "the router names $named, but the stream is on $owner" "$dir/weir-router.log"
    say "$owner has the stream, and says so in its own statistics. The other nodes do not have it."
}

# start_player NAME URL
start_player()
{
    timeout 90 ffmpeg -nostdin -hide_banner -loglevel warning -i "$2" -frames:v $((seconds * rate)) -c copy \
        -progress "$dir/$1.progress" -y "$dir/$1.flv" >"$dir/$1.log" 2>&1 &
    players[$1]=$!
}

finish_player()
{
    local frames bytes
    wait "${players[$1]}" || fail "playing over $1" "$dir/$1.log" "$dir/weir-router.log" "$dir/haproxy.log"
    frames=$(sed -n 's/^frame= *//p' "$dir/$1.progress" | tail -n 1)
    bytes=$(stat -c %s "$dir/$1.flv")
    say "Played $seconds seconds over $1: ${frames:-0} frames, $((bytes * 8 / seconds / 1000)) kbit/s."
    [ "${frames:-0}" -ge $((seconds * rate)) ] || fail "too few frames over $1" "$dir/$1.log" "$dir/weir-router.log"
}

play()
{
    local -A players=()
    start_player rtmp "rtmp://$rtmp_address/$stream"
    start_player rtmps "rtmps://$rtmps_address/$stream"
    finish_player rtmp
    finish_player rtmps
}

# What the drill's player receives, a line per packet with the time of its arrival; and the same as a film.
start_recorder()
{
    mkfifo "$dir/packets"
    while IFS= read -r line; do
        printf '%s,%s\n' "$EPOCHREALTIME" "$line"
    done <"$dir/packets" >"$dir/received" &
    stamper=$!
    ffmpeg -nostdin -hide_banner -loglevel warning -copyts -i "rtmp://$rtmp_address/$stream" \
        -map 0:v -map 0:a -c copy -copyts -flush_packets 1 -f framehash -hash md5 -y "$dir/packets" \
        -map 0:v -map 0:a -c copy -y "$dir/played.flv" >"$dir/recorder.log" 2>&1 &
    recorder=$!
    wait_for 40 test -s "$dir/received" || fail "the player gets nothing" "$dir/recorder.log" "$dir/weir-router.log"
}

a_node_is_missing()
{
    ! nodes_are_up
}

# Master and worker at once, as when the machine dies.
kill_node()
{
    local master=${node_pids[$1]} workers
    read -ra workers <"/proc/$master/task/$master/children" || true
    kill -KILL "$master" "${workers[@]}"
    { wait "$master" || true; } 2>/dev/null # or the shell would say that it was killed
}

# lose_and_return NUMBER: the node that has the stream is killed, and comes back when the others have noticed.
lose_and_return()
{
    local i lost
    wait_for 40 stream_is_somewhere || fail "no node has the stream" "$dir/weir-router.log"
    [ "$(wc -l <<<"$owner")" = 1 ] || fail "more than one node has the stream: $owner" "$dir/weir-router.log"
    lost=$owner
    for i in "${!nodes[@]}"; do
        [ "${nodes[i]}" != "$lost" ] || break
    done
    kill_node "$i"
    wait_for 40 stream_is_somewhere || fail "no other node has the stream" "$dir/weir-router.log"
    wait_for 40 a_node_is_missing || fail "the health daemon does not notice" "$dir/weir-healthd.log"
    start_node "$i"
    wait_for 40 nodes_are_up || fail "$lost does not come back" "$dir/$lost/error.log" "$dir/weir-healthd.log"
    say "  kill $1: $lost. The stream went on at $owner; $lost is back."
}

# packets FILE: of a film that ffmpeg wrote, as start_recorder has them, without arrival.
packets()
{
    ffmpeg -nostdin -loglevel error -copyts -i "$1" -map 0:v -map 0:a -c copy -copyts -f framehash -hash md5 -
}

# compare STOPPED: the player should have each packet that was sent, from its first one on, once, in order, with its own
# time. Prints pictures, sounds, missing, wrong, longest gap in ms until STOPPED.
# A packet is known by stream, decoding time, presentation time and hash.
compare()
{
    awk -F ', *' -v stopped="$1" '
        /^#/ || /^[0-9.]+,#/ { next }
        FILENAME == ARGV[1] { at[$1, $2, $3, $6] = ++sent[$1]; next }
        {
            if (arrived && $1 - arrived > gap) gap = $1 - arrived
            arrived = $1
            place = at[$2, $3, $4, $7]
            if (!place || place <= last[$2]) { wrong++; next }
            if (last[$2]) missing += place - last[$2] - 1
            last[$2] = place
            count[$2]++
        }
        END {
            if (stopped - arrived > gap) gap = stopped - arrived
            printf "%d %d %d %d %d\n", count[0], count[1], missing, wrong, 1000 * gap
        }
    ' "$dir/sent" "$dir/received"
}

drill()
{
    local n pictures sounds missing wrong gap errors stopped
    say "Killing the stream's node $kills times, while ffmpeg publishes and plays ..."
    start_recorder
    for ((n = 1; n <= kills; n++)); do
        sleep 2
        lose_and_return "$n"
    done
    sleep 2
    alive "$publisher" || fail "the publisher ended" "$dir/publisher.log" "$dir/weir-router.log"
    alive "$recorder" || fail "the player ended" "$dir/recorder.log" "$dir/weir-router.log"
    stopped=$EPOCHREALTIME
    kill "$recorder"
    wait "$recorder" "$stamper" || true
    kill "$publisher"
    wait "$publisher" || true
    packets "$dir/sent.flv" >"$dir/sent"
    read -r pictures sounds missing wrong gap <<<"$(compare "$stopped")"
    errors=$(ffmpeg -nostdin -v error -i "$dir/played.flv" -f null - 2>&1 | wc -l)
    say "Kills: $kills. Disconnected: nobody."
    say "Frames at the player: $pictures pictures, $sounds of sound. Lost: $missing. Repeated or damaged: $wrong. Decoder's complaints: $errors."
    say "Longest time without a frame: $gap ms."
    [[ $pictures -ge $((kills * 2 * rate)) && $sounds -gt 0 ]] || fail "too few frames" "$dir/recorder.log" "$dir/weir-router.log"
    [ "$missing$wrong$errors" = 000 ] || fail "the player noticed" "$dir/recorder.log" "$dir/weir-router.log"
}

case ${1-} in
'') ;;
--once) once=yes ;;
--drill)
    kills=${2-5}
    [[ $kills =~ ^[1-9][0-9]{0,3}$ ]] || { usage >&2; exit 2; }
    ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

need_packages "${packages_build[@]}" "${packages_nodes[@]}" "${packages_demo[@]}" || fail "installing packages"
mkdir -p "$root/build"
trap clean_up EXIT
trap 'exit 130' INT TERM
dir=$(mktemp -d "$root/build/demo.XXXXXX")
config=$dir/weir.yaml

build
say "Starting a cluster:"
rtmp_ports=() http_ports=() node_pids=() daemons=()
start_nodes
make_token
write_config
start_daemon router router_started
start_daemon healthd healthd_started
start_daemon admin admin_started
start_haproxy
say "  weir-router, weir-healthd, weir-admin, and HAProxy in front of them"
check_control_plane
say "Publishing a test picture to rtmp://$rtmp_address/$stream ..."
publish
show_owner
play
[ "$kills" = 0 ] || drill
[ -z "$once" ] && [ "$kills" = 0 ] || exit 0
trap 'exit 0' INT TERM

cat <<END

All well. Point your encoder at it (OBS: Settings, Stream, Service "Custom"):
  Server      rtmp://$rtmp_address/live     with TLS: rtmps://$rtmps_address/live (the certificate is self-made)
  Stream key  any name
Watch:        ffplay rtmp://$rtmp_address/$stream
Dashboard:    http://$admin_address/     with TLS: https://$https_address/
Token:        $token
              The dashboard and the API ask for it: whoever has it may see everything, drain nodes and end streams.
Metrics:      curl -H "Authorization: Bearer $token" http://$admin_address/metrics
              HAProxy's: http://$haproxy_address/metrics
Which node:   build/release/bin/weir-router -c ${config#"$root"/} --explain live/NAME
Logs:         tail -f ${dir#"$root"/}/*.log
Ctrl-C ends everything and removes ${dir#"$root"/}.
END
wait -n "${daemons[@]}" || true
fail "a daemon ended" "$dir"/weir-*.log "$dir/haproxy.log"
