# Sourced by hack/vm: starts the machine, waits for its end.

# Seconds until the machine must have reached its tests.
vm_boot_limit=180
vm_pid=

# vm_kill: ends the machine if it still runs.
vm_kill() {
    [ -n "$vm_pid" ] || return 0
    kill -KILL "$vm_pid" 2>/dev/null || true
    wait "$vm_pid" 2>/dev/null || true
    vm_pid=
}

# vm_accelerator IMAGE ANSWER: prints kvm or tcg. Some virtual machines show a /dev/kvm that does not run
# a whole kernel, so one is tried: without a root disk it panics, and QEMU ends. Asked once per
# boot of the host; the file ANSWER keeps it.
vm_accelerator() {
    local boot answer=$2
    boot=$(cat /proc/sys/kernel/random/boot_id)
    if ! grep -qs "$boot" "$answer"; then
        if [ -w /dev/kvm ] && timeout -k 1 10 qemu-system-x86_64 -accel kvm -cpu host -m 512M \
            -nodefaults -display none -no-reboot -kernel "$1/vmlinuz" -append panic=-1 \
            </dev/null >/dev/null 2>&1; then
            echo "kvm $boot" > "$answer"
        else
            echo "tcg $boot" > "$answer"
        fi
    fi
    cut -d ' ' -f 1 "$answer"
}

# vm_boot IMAGE RUN LIMIT: runs the machine with the disk RUN/payload.img, for LIMIT seconds at
# most, or `interactive`, with this terminal. Returns the status that the machine reported. Nothing in IMAGE changes.
vm_boot() {
    local image=$1 run=$2 limit=$3 accelerator cpu=max begin=$SECONDS status
    accelerator=$(vm_accelerator "$image" "$image/../accelerator")
    [ "$accelerator" = tcg ] || cpu=host
    echo "== boot ($accelerator)"
    exec 3<&0
    if [ "$limit" = interactive ]; then limit=86400; else exec 3</dev/null; fi
    TMPDIR=$run qemu-system-x86_64 -accel "$accelerator" -cpu "$cpu" -smp 2 -m 2G -nodefaults \
        -display none -no-reboot -kernel "$image/vmlinuz" \
        -append "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 panic=-1 mitigations=off \
systemd.unified_cgroup_hierarchy=1 systemd.show_status=0" \
        -serial "file:$run/console" \
        -drive "file=$image/root.img,format=raw,if=none,id=root,snapshot=on,cache=unsafe" \
        -device nvme,drive=root,serial=root \
        -drive "file=$run/payload.img,format=raw,if=none,id=payload,readonly=on" \
        -device nvme,drive=payload,serial=payload \
        -device virtio-serial-pci \
        -chardev stdio,id=terminal,signal=off -device virtconsole,chardev=terminal \
        -chardev "file,id=status,path=$run/status" \
        -device virtserialport,chardev=status,name=status <&3 &
    vm_pid=$!
    # The shell's own copy of the terminal is not needed while the machine has it.
    exec 3<&-
    while kill -0 "$vm_pid" 2>/dev/null; do
        if [ ! -s "$run/status" ] && [ $((SECONDS - begin)) -gt "$vm_boot_limit" ]; then
            vm_hangs "$run" "did not boot within $vm_boot_limit s"
            return 1
        elif [ $((SECONDS - begin)) -gt "$limit" ]; then
            vm_hangs "$run" "did not end within $limit s"
            return 1
        fi
        sleep 0.2
    done
    wait "$vm_pid" || true
    vm_pid=
    # First line: booted; last line: the tests' exit status.
    status=$(tail -n 1 "$run/status" 2>/dev/null)
    case $status in
        124) vm_hangs "$run" "was too slow or its tests hang"; return 1 ;;
        [0-9]*) return "$status" ;;
        *) vm_hangs "$run" "ended without reporting a status"; return 1 ;;
    esac
}

# vm_hangs RUN WHAT: kills the machine and says what its kernel said last.
vm_hangs() {
    vm_kill
    echo "vm: the machine $2; the end of its console:" >&2
    tail -n 30 "$1/console" >&2
}
