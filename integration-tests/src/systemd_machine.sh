# Boots a systemd as process 1 of namespaces of its own, in a root file system of its own.
#   sh systemd_machine.sh MODE TREE NAME FILE...
# MODE   v1 (hybrid) or v2
# TREE   a Debian with systemd and dbus, which stays read-only
# NAME   of the cgroup below which that systemd believes to be at the root
# FILE   host files to be seen at the same path below /host, read-only
#
# Nothing of the host is visible to that systemd in a way that it could write to: at boot it runs
# programs that empty /tmp and change what they find. The script stops where that is not so.
set -eu
if [ "${INSIDE-}" = "" ]; then
    mode=$1 name=$3
    for top in $(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts); do
        mkdir -p "$top/$name"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$top/$file" ] || [ -e "$top/cgroup.controllers" ] || cat "$top/$file" >"$top/$name/$file"
        done
        echo $$ >"$top/$name/cgroup.procs"
    done
    INSIDE=1 exec unshare --pid --fork --kill-child --mount --propagation private --cgroup --uts --ipc --net \
        sh "$0" "$@"
fi
mode=$1 tree=$2
shift 3
v1=$(awk '$3 == "cgroup" {print $2 " " $4}' /proc/self/mounts)
mount --bind "$tree" "$tree"
mount -o remount,bind,ro "$tree"
cd "$tree"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
for dir in run tmp var dev mnt; do mount -t tmpfs -o mode=755 tmpfs $dir; done
chmod 1777 tmp
mkdir -p run/systemd/system run/lock var/lib var/log var/tmp dev/pts dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
if [ "$mode" = v2 ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    echo "$v1" | while read -r top options; do
        top=sys/fs/cgroup/${top##*/}
        names=$(echo "$options" | sed 's/^rw,//; s/relatime,//; s/nosuid,//; s/nodev,//; s/noexec,//; s/xattr,//; s/release_agent=[^,]*,//')
        case $names in name=*) names=none,$names ;; esac
        mkdir "$top"
        mount -t cgroup -o "$names" cgroup "$top"
    done
    mkdir sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
for file; do
    at=mnt/host$file
    mkdir -p "${at%/*}"
    if [ -d "$file" ]; then mkdir "$at"; else : >"$at"; fi
    mount --bind "$file" "$at"
    mount -o remount,bind,ro "$at"
done
cat >run/systemd/system/gpurun-test.target <<X
[Unit]
DefaultDependencies=no
Requires=dbus.socket dbus.service
After=dbus.socket dbus.service
X
cat >run/systemd/system/dbus.socket <<X
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
X
cat >run/systemd/system/dbus.service <<X
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
X
# What every unit asks for, without what it would pull in.
for unit in sysinit.target basic.target local-fs.target; do
    printf '[Unit]\nDefaultDependencies=no\n' >run/systemd/system/$unit
    [ ! -d usr/lib/systemd/system/$unit.wants ] || mount -t tmpfs tmpfs usr/lib/systemd/system/$unit.wants
done
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.service \
    systemd-tmpfiles-clean.timer systemd-remount-fs.service systemd-journald.service \
    systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket; do
    ln -s /dev/null run/systemd/system/$unit
done
mkdir run/old
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
writable=$(awk '$6 ~ /^rw/ { type = ""; for (i = 7; i < NF; i++) if ($i == "-") type = $(i + 1)
    if (type !~ /^(tmpfs|proc|cgroup|cgroup2|devpts)$/) print $5 }' /proc/self/mountinfo)
if [ -n "$writable" ]; then
    echo "refusing to boot: $writable of the host is writable" >&2
    exit 1
fi
container=other exec /lib/systemd/systemd --unit=gpurun-test.target --log-target=null --show-status=no
