#!/usr/bin/env bash
# Installs what building and testing Forest needs, and only what is missing. Does nothing if all is there.
# For Debian and Ubuntu; elsewhere it says what to install. Needs root, or sudo.
set -euo pipefail

# Daemons and the loader's folders are not on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

have() { command -v "$1" >/dev/null 2>&1; }

# Debian's protoc finds its own definitions in a package of their own.
have_descriptors() {
    local protoc
    protoc=$(command -v "${PROTOC:-protoc}") || return 1
    [[ -e $(dirname "$(dirname "$protoc")")/include/google/protobuf/descriptor.proto
        || -e /usr/include/google/protobuf/descriptor.proto ]]
}

missing=() reasons=()
need() {
    missing+=("$1")
    reasons+=("$1: $2")
}
have cc || need gcc "links Rust programs and compiles SQLite"
have cc || need libc6-dev "links Rust programs"
have "${PROTOC:-protoc}" || need protobuf-compiler "generates the gRPC code (build)"
have_descriptors || need libprotobuf-dev "the definitions that protoc reads (build)"
have "${FOREST_TEST_ETCD:-etcd}" || need etcd-server "the tests start etcd servers of their own"
have etcdctl || need etcd-client "an independent client of etcd in the tests"
have "${FOREST_TEST_MARIADBD:-mariadbd}" || need mariadb-server "the tests start MariaDB servers of their own"
have setpriv || need util-linux "ends the tests' servers with the tests (setpriv)"

if ((${#missing[@]} == 0)); then
    echo "== dependencies: all there"
    exit 0
fi
echo "== dependencies: missing"
printf '   %s\n' "${reasons[@]}"

if ! have apt-get; then
    echo "error: there is no apt-get here. Install what these Debian packages contain, then run this again:" >&2
    echo "       ${missing[*]}" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! have sudo; then
        echo "error: not root, and there is no sudo. As root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
    # Nobody is there to type a password.
    [[ ${CI:-} == true ]] && as_root=(sudo -n)
fi

# The packages start their servers at once and at every boot. The tests start their own; a server that
# nobody asked for would only hold ports and memory.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
"${as_root[@]}" apt-get update -q
"${install[@]}" "${missing[@]}" </dev/null

for package in "${missing[@]}"; do
    case $package in
    etcd-server) unit=etcd ;;
    mariadb-server) unit=mariadb ;;
    *) continue ;;
    esac
    have systemctl || continue
    "${as_root[@]}" systemctl disable -q "$unit" || echo "warning: $unit will start at the next boot" >&2
    [[ ! -d /run/systemd/system ]] || "${as_root[@]}" systemctl stop "$unit"
done
echo "== dependencies: installed ${missing[*]}"
