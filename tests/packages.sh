#!/bin/sh
# Install missing Debian packages that the demo or the tests need, as root; otherwise print their names and fail.
# Usage: packages.sh demo|test
set -eu
PATH="$PATH:/usr/sbin:/sbin"

packages=""
need() { # COMMAND PACKAGE…
    command -v "$1" >/dev/null 2>&1 || { shift; packages="$packages $*"; }
}
need nginx nginx
need curl curl
python3=$([ -x /usr/bin/python3 ] && echo /usr/bin/python3 || echo python3)
"$python3" -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
if [ "$1" = test ]; then
    need squeue slurm-client
    need slurmctld slurmctld
    need slurmd slurmd
    need slurmdbd slurmdbd
    need munged munge
    need mariadbd mariadb-server
    need jq jq
    need openssl openssl
    need sshd openssh-server
    need ssh-keyscan openssh-client
    [ -x /usr/lib/gridengine/sge_qmaster ] || packages="$packages gridengine-master gridengine-exec gridengine-client"
    need chromium chromium
fi
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Install these Debian packages first:$packages" >&2
    exit 1
fi
echo "Installing:$packages"
export DEBIAN_FRONTEND=noninteractive
# Keep the packages from starting their servers: the tests start their own, with other paths and ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $packages >/dev/null
