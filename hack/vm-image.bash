# Sourced by hack/vm: the machine's kernel and root file system, from Debian's packages.

vm_dir=$PWD/target/vm

# What the machine has besides Debian's essential packages. From the second line on for the tests: what
# they run and compile with, the engines' tools, criu with the iptables that it locks a network
# with, and AppArmor's compiler.
vm_packages=(
    systemd systemd-sysv dbus udev kmod libpam-systemd dbus-user-session
    busybox-static procps util-linux mount iproute2 uidmap gcc libc6-dev runc crun containerd criu
    iptables apparmor
)

# Units that a machine which lives for a minute does not need. Each costs a second under
# emulation, apparmor.service (it compiles every profile of the distribution) nine.
vm_masked=(
    apparmor.service containerd.service apt-daily.timer apt-daily-upgrade.timer
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    getty@.service serial-getty@.service console-getty.service
    systemd-timesyncd.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
    systemd-hwdb-update.service systemd-udev-trigger.service systemd-binfmt.service
    systemd-journal-flush.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
    modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service modprobe@loop.service
    proc-sys-fs-binfmt_misc.automount
)

# The user of rootless tests: has subordinate ids and a service manager of its own.
vm_user=user

# vm_image: prints the directory of the image, which is built unless it is there already. Runs in a
# subshell, whose end gives the lock back.
vm_image() {
    local key image
    # Debian's release of this machine, so that programs compiled here run there.
    . /etc/os-release
    if [ "${ID:-}" != debian ] || [ -z "${VERSION_CODENAME:-}" ]; then
        echo "vm: the machine is made of this machine's Debian, and this is ${PRETTY_NAME:-not one}" >&2
        return 1
    fi
    key=$({ echo "$VERSION_CODENAME"; cat hack/vm-image.bash hack/vm-kernel.bash; } | sha256sum | cut -c 1-16)
    image=$vm_dir/image-$key
    mkdir -p "$vm_dir"
    exec 9>"$vm_dir/lock"
    flock 9
    if [ ! -e "$image/root.img" ]; then
        echo "== build the machine's image ($VERSION_CODENAME)" >&2
        if ! vm_build "$VERSION_CODENAME" "$image.new" >"$vm_dir/build.log" 2>&1; then
            tail -n 20 "$vm_dir/build.log" >&2
            as_root rm -rf "$image.new"
            return 1
        fi
        # Images of older recipes have no use any more.
        rm -rf "$vm_dir"/image-????????????????
        mv "$image.new" "$image"
    fi
    echo "$image"
}

# vm_build CODENAME DIR: builds DIR/vmlinuz and DIR/root.img.
vm_build() {
    local codename=$1 image=$2 root=$2/root
    local packages
    as_root rm -rf "$image"
    mkdir -p "$image/keys" "$vm_dir/packages"

    # The archives, the keys and the proxy of this machine's own apt.
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u > "$image/sources.list"
    if [ ! -s "$image/sources.list" ]; then
        echo "apt on this machine knows no Debian archive: run apt-get update"
        return 1
    fi
    apt-config dump | grep '^Acquire::' > "$image/apt.conf"
    find /usr/share/keyrings /etc/apt/keyrings /etc/apt/trusted.gpg.d -type f -exec cp -t "$image/keys" {} + || true

    packages=$(IFS=,; echo "${vm_packages[*]}")
    # Downloaded packages are kept for the next recipe.
    # shellcheck disable=SC2016 # mmdebstrap runs the hooks with the root as $1
    as_root mmdebstrap --mode=root --variant=essential --include="$packages" \
        --aptopt="$image/apt.conf" --keyring="$image/keys" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --skip=essential/unlink \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
        --setup-hook="sync-in '$vm_dir/packages' /var/cache/apt/archives" \
        --customize-hook=hack/vm-kernel.bash \
        --customize-hook="sync-out /var/cache/apt/archives '$vm_dir/packages'" \
        "$codename" "$root" "$image/sources.list" || return
    as_root cp "$root"/boot/vmlinuz-* "$image/vmlinuz" || return
    vm_configure | as_root chroot "$root" bash -eu || return
    as_root rm -rf "$root"/boot/* "$root"/var/lib/apt/lists/*
    as_root bash -c "$(declare -f disk)"'; disk "$@"' disk "$image/root.img" "$root" 1024 || return
    as_root rm -rf "$root" "$image/keys"
}

# disk IMAGE DIRECTORY SPARE: an ext4 file system of the directory's content and SPARE MiB.
disk() {
    local size
    size=$(du -s --block-size=1M "$2" | cut -f 1)
    # An eighth for inodes and journal.
    PATH=$PATH:/usr/sbin mke2fs -q -F -t ext4 -E lazy_itable_init=1,nodiscard -d "$2" "$1" \
        "$((size + size / 8 + $3))M"
}

# vm_configure: prints the script that runs in the new root.
vm_configure() {
    printf 'masked="%s"\nuser=%s\n' "${vm_masked[*]}" "$vm_user"
    cat <<'SCRIPT'
for unit in $masked; do ln -s /dev/null /etc/systemd/system/$unit; done
# A machine id from the start: the first boot would otherwise preset every unit.
echo 67707572756e67707572756e67707572 > /etc/machine-id
echo gpurun-vm > /etc/hostname
printf '127.0.0.1 localhost gpurun-vm\n::1 localhost\n' > /etc/hosts
# Without udev's coldplug, what the machine needs is named.
printf '%s\n' virtio_pci virtio_console overlay fuse loop > /etc/modules-load.d/vm.conf
mkdir -p /vm /etc/systemd/system/multi-user.target.wants /var/lib/systemd/linger
useradd --create-home --shell /bin/bash --uid 1000 $user
touch /var/lib/systemd/linger/$user
# What rootless engines ask administrators to delegate.
mkdir -p /etc/systemd/system/user@.service.d
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' \
    > /etc/systemd/system/user@.service.d/delegate.conf
ln -sfn /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
cat > /etc/systemd/system/vm.service <<'UNIT'
[Unit]
Description=Tests or a shell, as the second disk says
[Service]
Type=exec
ExecStartPre=mount -o ro /dev/nvme1n1 /vm
ExecStart=/bin/bash /vm/guest.bash
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc0
Environment=HOME=/root TERM=linux
UNIT
ln -s ../vm.service /etc/systemd/system/multi-user.target.wants/vm.service
SCRIPT
}
