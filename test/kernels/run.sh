#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs netpold's kernel tests on other kernels, in virtual machines. Each argument is a kernel package of any
# distribution (.deb, .rpm, .apk or .pkg.tar.*), several separated by commas if the kernel and its modules are in
# different packages, or a folder with such packages unpacked. The host needs qemu-system-x86_64, cpio, kmod, a static
# busybox, nft and ip. The machine is amd64, has no network, and keeps everything in memory. ARCH chooses another
# architecture (s390x, …); ROOT is then a folder with its busybox, nft, ip and their libraries, as packages unpack.
#
#   test/kernels/run.sh linux-image-6.1.0-45-cloud-amd64_6.1.170-1_amd64.deb
#   PACKAGES="nft/kernel" FLAGS="-test.run=TestOwn" LOGS=yes test/kernels/run.sh /path/to/unpacked
#   test/kernels/run.sh -n KERNEL     # makes the machine but does not start it
set -euo pipefail
cd "$(dirname "$0")/../.."
run=yes
if [[ ${1-} == -n ]]; then run= && shift; fi
(($#)) || { echo "usage: $0 [-n] KERNEL..." >&2; exit 2; }
read -ra packages <<<"${PACKAGES:-nft/kernel nft/nflog test/kernel test/faults test/drops}"
read -ra flags <<<"${FLAGS-}"
log=/dev/null # shows tests as they run, in case TIMEOUT ends the machine
if [[ ${LOGS-} ]]; then log=/dev/console; fi
arch=${ARCH:-amd64}
case $arch in
amd64) qemu=qemu-system-x86_64 console="console=ttyS0" ;;
*) qemu=qemu-system-$arch console= ;;
esac
for program in $qemu cpio depmod busybox nft ip; do
  [[ ! $run && $program == qemu* ]] || command -v "$program" >/dev/null ||
    { echo "$0: $program is not installed" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,run,tree,lib/modules}
if [[ $arch == amd64 ]]; then programs="nft ip" && cp "$(command -v busybox)" "$root/bin/busybox"; else
  programs= && cp -a "${ROOT:?has the programs of $arch}/." "$root"
fi
for program in $programs; do # with their libraries, where the loader looks for them
  cp -L "$(command -v $program)" "$root/sbin/"
  ldd "$(command -v $program)" | grep -o '/[^ ]*' | while read -r library; do cp -L --parents "$library" "$root"; done
done
export CGO_ENABLED=0 GOARCH=$arch
go build -o "$root/bin/netpold" ./cmd/netpold
for p in "${packages[@]}"; do
  mkdir -p "$root/tree/$p"
  if [[ -d $p/testdata ]]; then cp -R "$p/testdata" "$root/tree/$p"; fi
  go test -c -o "$root/tree/$p/run.test" "./$p"
done
mkdir -p "$root"/tree/{translate,docs,nft} && cp -R translate/testdata "$root/tree/translate"
cp docs/*.md "$root/tree/docs"
cp nft/*.go "$root/tree/nft" # which a test of nft/kernel reads
mkdir -p "$root/tree/manifests/base" && cp manifests/base/daemonset.yaml "$root/tree/manifests/base"
# Some tests build netpold, one of them the last release; they get the binaries built here.
last=$(sed -n 's/^const lastRelease = "\(.*\)"/\1/p' test/faults/takeover_test.go)
if [[ " ${packages[*]} " == *" test/faults "* ]] && git cat-file -e "$last^{commit}" 2>/dev/null; then
  mkdir "$work/last" && git archive "$last" | tar -x -C "$work/last"
  go build -C "$work/last" -buildvcs=false -o "$root/bin/netpold-last" ./cmd/netpold
  cat >"$root/bin/git" <<'EOF'
#!/bin/busybox sh
for a; do case $a in --output=*) exec tar -cf "${a#*=}" -C /bin git ;; esac; done
exit 1
EOF
  chmod +x "$root/bin/git"
fi
cat >"$root/bin/go" <<'EOF'
#!/bin/busybox sh
from=/bin/netpold
while [ $# -gt 0 ]; do
  case $1 in
  -o) out=$2 ;;
  -C) from=/bin/netpold-last ;; # of other sources
  esac
  shift
done
exec cp $from "$out"
EOF
cat >"$root/init" <<EOF
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin:/usr/sbin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mkdir -p /dev/shm /run/netns
# Memory cgroups: version 2, unless it does not report the kernel's memory, as before Linux 5.18.
mount -t cgroup2 cgroup /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/t
if grep -q '^kernel ' /sys/fs/cgroup/t/memory.stat; then rmdir /sys/fs/cgroup/t; else
  rmdir /sys/fs/cgroup/t; echo -memory >/sys/fs/cgroup/cgroup.subtree_control; umount /sys/fs/cgroup
  mount -t tmpfs cgroup /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory &&
    mount -t cgroup -o memory memory /sys/fs/cgroup/memory
fi
ip link set lo up
while read -r m; do insmod "\$m" 2>/dev/null; done </modules
[ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
echo "kernel \$(uname -r), SCTP sockets: \$(grep -q ^SCTP /proc/net/protocols && echo yes || echo no)"
failed=0
count() { grep -cE "^ *--- \$1:" /tmp/log; }
for p in ${packages[*]}; do
  case \$p in
  test/kernel) more=-flows=${FLOWS:-100000} ;;
  test/faults) more=-patience=5m ;; # this machine is slow
  *) more= ;;
  esac
  cd /tree/\$p
  { ./run.test -test.v -test.timeout=60m \$more ${flags[*]@Q} 2>&1; echo \$? >/tmp/status; } | tee /tmp/log >$log
  r=ok; grep -qx 0 /tmp/status || { r=FAIL failed=1; }
  if [ "${LOGS-}" = "" ] && [ \$r = FAIL ]; then
    grep -vE '^ *(=== |--- (PASS|SKIP))' /tmp/log | tail -n 60
  fi
  grep -E '^ *--- SKIP' /tmp/log
  echo "\$r \$p: \$(count PASS) passed, \$(count FAIL) failed, \$(count SKIP) skipped," \
    "\$(cut -d. -f1 /proc/uptime) s after boot"
done
echo "status \$failed"
sync; poweroff -f
EOF
chmod +x "$root/init" "$root/bin/go"

# unpack puts a kernel package's files into a folder.
unpack() {
  mkdir -p "$2"
  case $1 in
  *.deb) dpkg-deb -x "$1" "$2" ;;
  *.rpm) (cd "$2" && rpm2cpio "$1" | cpio -id --quiet) ;;
  *) tar -C "$2" -xf "$1" ;;
  esac
}

# modules copies the kernel modules that the tests need, with their dependencies, and lists them in loading order.
modules() {
  local base=$1 version=$2
  depmod -b "$base" "$version"
  rm -rf "$root/m" && mkdir -p "$root/m" && : >"$root/modules"
  for module in nf_tables nf_tables_set nft_ct nft_chain_nat nft_limit nft_log nft_reject nft_reject_inet nft_counter \
    nft_nat nft_masq nft_fib_inet nfnetlink_log nf_log_syslog nf_conntrack nf_conntrack_netlink nf_reject_ipv4 \
    nf_reject_ipv6 tun veth bridge br_netfilter dummy sctp; do
    modprobe -d "$base" -S "$version" --show-depends "$module" 2>/dev/null || true
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    to=m/$(basename "${file%.ko*}").ko
    case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -dcq "$file" ;;
    *.gz) gzip -dc "$file" ;;
    *) cat "$file" ;;
    esac >"$root/$to"
    echo "/$to" >>"$root/modules"
  done
}

failed=0
for kernel; do
  base=$work/unpacked
  if [[ -d $kernel ]]; then
    base=$(realpath "$kernel")
  else
    rm -rf "$base"
    for package in ${kernel//,/ }; do unpack "$(realpath "$package")" "$base"; done
  fi
  [[ -d $base/lib/modules ]] || { mkdir -p "$base/lib" && mv "$base/usr/lib/modules" "$base/lib/"; }
  version=$(basename "$(ls -d "$base"/lib/modules/*/ | head -n 1)")
  image=$(find "$base" -name 'vmlinuz*' -type f | head -n 1)
  modules "$base" "$version"
  (cd "$root" && find . | cpio -o -H newc --quiet) | gzip -1 >"$work/initrd"
  echo "$kernel: Linux $version, $(wc -l <"$root/modules") modules, $(du -m "$work/initrd" | cut -f1) MB"
  [[ $run ]] || continue
  accelerator=tcg,thread=single # distribution kernels need VMX or SVM behind /dev/kvm
  if [[ -w /dev/kvm && $arch == amd64 ]] && grep -qwE 'vmx|svm' /proc/cpuinfo; then accelerator=kvm; fi
  timeout "${TIMEOUT:-5400}" $qemu -accel "$accelerator" -cpu max -smp 2 -m 4096 -nodefaults -no-reboot \
    -display none -nic none -kernel "$image" -initrd "$work/initrd" \
    -append "$console quiet panic=-1 mitigations=off" -serial stdio </dev/null |
    tee "$work/console" || true
  if ! grep -q '^status 0' "$work/console"; then echo "FAILED: $kernel" && failed=1; fi
done
exit $failed
