#!/usr/bin/env bash
# Builds HAProxy without Lua from Debian's own source package. (The distribution's binary has Lua compiled in.)
#   conf/haproxy/build.sh [DIR]     DIR: where results are kept; build/haproxy by default
# The last line on standard output is the path of the binary, DIR/VERSION/haproxy. It is built once per version.
# Needs Debian with a package source that is signed and has sources; installs missing packages when run as root.
# The machine's apt configuration is read, never changed: sources are found through a private copy of it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=conf/packages.sh
. "$root/conf/packages.sh"

readonly packages=(gcc make libc6-dev libssl-dev dpkg-dev pkg-config libsystemd-dev)
results=${1:-$root/build/haproxy}
work=

fail()
{
    echo "haproxy: $1" >&2
    [ -z "${2-}" ] || [ ! -s "$2" ] || tail -n 30 "$2" >&2
    exit 1
}

clean_up()
{
    [ -z "$work" ] || rm -rf "$work"
}

# Every package source of the machine, as a source for source packages, in a private folder.
copy_apt_sources()
{
    local Dir_Etc_List Dir_Etc_Parts file
    eval "$(apt-config shell Dir_Etc_List Dir::Etc::sourcelist/f Dir_Etc_Parts Dir::Etc::sourceparts/d)"
    for file in "$Dir_Etc_List" "$Dir_Etc_Parts"/*.list; do
        [ -f "$file" ] || continue
        sed -E 's/^[[:space:]]*deb([[:space:]])/deb-src\1/' "$file" >"$work/apt/sources/${file##*/}"
    done
    for file in "$Dir_Etc_Parts"/*.sources; do
        [ -f "$file" ] || continue
        sed -E 's/^Types:.*/Types: deb-src/I' "$file" >"$work/apt/sources/${file##*/}"
    done
}

# Proxies, keys and credentials stay the machine's; everything that is written is ours.
private_apt()
{
    mkdir -p "$work"/apt/{sources,lists/partial,cache/archives/partial}
    chmod 755 "$work" # apt downloads as another user
    chmod 700 "$work/apt/sources" # an address may have a password in it
    copy_apt_sources
    cat >"$work/apt/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/apt/sources";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
Dir::Cache::archives "archives";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
}

# Versions for which the index lists sources, newest first.
source_versions()
{
    apt-cache -c "$work/apt/apt.conf" showsrc --only-source haproxy 2>>"$log" |
        sed -n 's/^Version: *//p' | sort -ruV
}

# The index may name a version whose files are not there; then the next older one. Sets version.
download_source()
{
    private_apt
    # One package source that fails is no matter if another one has HAProxy.
    apt-get -q -c "$work/apt/apt.conf" update >>"$log" 2>&1 || true
    for version in $(source_versions); do
        ! is_cached || return 0
        (cd "$work" && apt-get -q -c "$work/apt/apt.conf" source --download-only "haproxy=$version") >>"$log" 2>&1 || continue
        return 0
    done
    return 1
}

is_cached()
{
    is_as_wanted "$results/$version/haproxy"
}

# In the list of features of `haproxy -vv` each has + or - before it. Without +SYSTEMD it does not know -Ws.
is_as_wanted()
{
    local features
    [ -x "$1" ] || return 1
    features=" $("$1" -vv 2>/dev/null | tr '\n' ' ') "
    [[ $features == *" -LUA "* && $features == *" +SYSTEMD "* ]]
}

# Options for what is not always there: used when its headers are.
optional_features()
{
    ! pkg-config --exists libpcre2-8 || echo USE_PCRE2=1 USE_PCRE2_JIT=1
}

# Compiled with the flags Debian compiles with.
compile()
{
    local source=$work/source features cflags ldflags
    dpkg-source --no-check -x "$work"/haproxy_*.dsc "$source" >>"$log" 2>&1 || fail "the source package cannot be unpacked" "$log"
    read -ra features < <(optional_features | xargs)
    cd "$source"
    export DEB_BUILD_MAINT_OPTIONS=hardening=+all
    cflags="$(dpkg-buildflags --get CFLAGS) $(dpkg-buildflags --get CPPFLAGS)"
    ldflags=$(dpkg-buildflags --get LDFLAGS)
    nice make -j "$(nproc)" TARGET=linux-glibc USE_OPENSSL=1 USE_PROMEX=1 USE_SYSTEMD=1 USE_LUA= "${features[@]}" \
        IGNOREGIT=true VERSION="$version" DEBUG_CFLAGS="$cflags" LDFLAGS="$ldflags" haproxy >>"$log" 2>&1 ||
        fail "the build of $version" "$log"
    cd "$root"
    is_as_wanted "$source/haproxy" || fail "$version: no -LUA or no +SYSTEMD in haproxy -vv"
    mkdir -p "$results/$version"
    strip --strip-unneeded -o "$results/$version/haproxy.new" "$source/haproxy"
    mv "$results/$version/haproxy.new" "$results/$version/haproxy"
}

case ${1-} in
-*)
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    [ "$1" = -h ] || [ "$1" = --help ] || exit 2
    exit 0
    ;;
esac

mkdir -p "$results"
results=$(cd "$results" && pwd)
log=$results/build.log
exec 9>"$results/lock"
flock 9 # two at once: the second finds the result of the first

# What apt would install now, and what we built when that was so: no download until the distribution has a newer one.
offered=$(apt-cache policy haproxy 2>/dev/null | sed -n 's/^  Candidate: *//p')
if [ -s "$results/built-for" ] && read -r known version <"$results/built-for" && [ "$known" = "${offered:-none}" ] && is_cached; then
    echo "$results/$version/haproxy"
    exit 0
fi

need_packages "${packages[@]}" || fail "packages are missing"
trap clean_up EXIT
work=$(mktemp -d "$results/work.XXXXXX")
: >"$log"
version=
download_source || fail "no package source has the sources of haproxy" "$log"
if ! is_cached; then
    echo "building HAProxy $version without Lua ..." >&2
    compile
fi
offered=$(apt-cache policy haproxy 2>/dev/null | sed -n 's/^  Candidate: *//p')
echo "${offered:-none} $version" >"$results/built-for"
echo "$results/$version/haproxy"
