# shellcheck shell=bash
# Sourced by demo.sh and tests/run.sh: installs the Debian packages that are missing, and nothing if none is.

# What a build needs.
# shellcheck disable=SC2034
packages_build=(cmake ninja-build gcc libc6-dev pkg-config libev-dev libssl-dev libjansson-dev libyaml-dev liblmdb-dev
    libxxhash-dev libexpat1-dev libmicrohttpd-dev)
# shellcheck disable=SC2034
packages_nodes=(nginx-light libnginx-mod-rtmp ffmpeg)
# Installed as programs only: Debian would start them as services.
packages_services=(nginx haproxy prometheus)

packages_missing()
{
    local p
    for p in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
    done
}

# need_packages NAME...: quiet when all goes well; the output of apt-get on standard error when not.
need_packages()
{
    local missing service masked=() as_root=() log
    mapfile -t missing < <(packages_missing "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "these Debian packages are needed: ${missing[*]}" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "as root, please: apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "installing: ${missing[*]}" >&2
    if [ -d /run/systemd/system ]; then
        for service in "${packages_services[@]}"; do
            ! systemctl cat "$service.service" >/dev/null 2>&1 || continue
            "${as_root[@]}" systemctl --quiet --runtime mask "$service.service" 2>/dev/null && masked+=("$service.service")
        done
    fi
    log=$(mktemp)
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 PREVLEVEL=N
        apt-get -q -y -o DPkg::Lock::Timeout=300)
    local failed=
    "${apt[@]}" update >"$log" 2>&1 && "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 || failed=yes
    for service in "${masked[@]}"; do
        "${as_root[@]}" systemctl --quiet --runtime unmask "$service" 2>/dev/null
        "${as_root[@]}" systemctl --quiet disable "$service" 2>/dev/null
    done
    [ -z "$failed" ] || tail -n 30 "$log" >&2
    rm -f "$log"
    [ -z "$failed" ]
}
