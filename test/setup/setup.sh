#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what `make demo` or `make test` needs and this machine lacks, with the distribution's package manager. Users
# who may not install packages are told which ones they need. Usage: setup.sh demo|test|ci
set -eu

# lacks says whether a program is missing. The ip of busybox cannot do what we need.
lacks() {
  case $1 in
  ip) ! ip -V 2>/dev/null | grep -q iproute2 ;;
  cc) ! command -v "$(go env CC)" >/dev/null ;;
  browser) ! { command -v chromium || command -v google-chrome; } >/dev/null ;;
  *) ! command -v "$1" >/dev/null ;;
  esac
}

# package prints the name of a program's package for the package manager $manager.
package() {
  case $manager/$1 in
  dnf/ip) echo iproute ;;
  */ip) echo iproute2 ;;
  */nft) echo nftables ;;
  dnf/promtool) echo golang-github-prometheus ;;
  zypper/promtool) echo golang-github-prometheus-prometheus ;;
  */promtool) echo prometheus ;;
  apt-get/cc) echo gcc libc6-dev ;;
  apk/cc) echo gcc musl-dev ;;
  pacman/cc) echo gcc ;;
  */cc) echo gcc glibc-devel ;;
  */browser) echo chromium ;;
  *) echo "$1" ;;
  esac
}

case ${1-} in
demo) need="go ip" ;;
test) need="go ip nft promtool" ;;
ci) need="go make ip nft promtool cc browser" ;; # cc for the race detector
*) echo "usage: $0 demo|test|ci" >&2 && exit 2 ;;
esac

if lacks go; then
  echo "netpold is written in Go: install Go $(sed -n 's/^go //p' "$(dirname "$0")/../../go.mod") or later, see https://go.dev/doc/install" >&2
  exit 1
fi
missing=
for program in $need; do
  if lacks "$program"; then missing="$missing $program"; fi
done
[ -n "$missing" ] || exit 0

manager=
for m in apt-get dnf zypper apk pacman; do
  if command -v $m >/dev/null; then manager=$m && break; fi
done
packages=
for program in $missing; do packages="$packages $(package "$program")"; done
case $manager in
apt-get) install="apt-get update -qq &&
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends$packages" ;;
dnf) install="dnf install -y -q$packages" ;;
zypper) install="zypper --non-interactive --quiet install$packages" ;;
apk) install="apk add --quiet$packages" ;;
pacman) install="pacman -Sy --noconfirm --needed$packages" ;;
*)
  echo "missing programs:$missing" >&2
  exit 1
  ;;
esac
if [ "$(id -u)" != 0 ]; then
  printf 'missing programs:%s. Install them, as root:\n\n    %s\n\n' "$missing" "$install" >&2
  exit 1
fi
echo "installing missing packages:$packages" >&2
for try in 1 2 3; do # mirrors have bad moments
  if (eval "$install") >/dev/null; then break; fi
  if [ $try = 3 ]; then exit 1; fi
done
hash -r # forget where programs were before
for program in $missing; do
  if lacks "$program"; then
    echo "$program is still missing after: $install" >&2
    exit 1
  fi
done
