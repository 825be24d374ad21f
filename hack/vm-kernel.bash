#!/bin/bash
# Run by mmdebstrap with the new root as its argument: adds Debian's kernel for virtual machines.
# Not as an installed package, which would bring initramfs-tools and build an initramfs: this
# kernel has NVMe and ext4 built in and mounts its root itself.
set -euo pipefail
root=$1
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p')
cd "$root/var/cache/apt/archives"
ls "${package}"_*.deb >/dev/null 2>&1 || apt-get download -q "$package"
dpkg-deb --fsys-tarfile "${package}"_*.deb | tar -x -C "$root" --keep-directory-symlink
chroot "$root" depmod "${package#linux-image-}"
