#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs go build with these arguments, with a line of progress on a terminal: the first build takes a minute or two.
set -eu
if ! [ -t 2 ]; then exec go build "$@"; fi
{
  go build -v "$@" 2>&1 || echo "exit status $?"
} | awk '
  /^exit status / { status = $3; next }
  / / && !/^go: downloading / { printf "\r\033[K%s\n", $0; next } # anything but a package is an error
  { printf "\r\033[Kbuilding netpold (the first time takes a while): %d %s", ++n,
    /^go:/ ? "downloads, " $3 : "packages, " $1; fflush() }
  END { printf "\r\033[K"; exit status }' >&2
