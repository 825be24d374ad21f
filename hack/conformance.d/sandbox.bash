# Sourced by hack/conformance: where one program runs, and the removal of what it left behind.
#
# A program runs in pid and mount namespaces of its own: whatever it leaves running ends with the
# pid namespace, and what a runtime mounts for a container without a mount namespace is not
# mounted on the host. Nothing here ever looks for processes to kill.

# How long one program may take, in seconds.
limit=120

# Cgroups that the programs name themselves; all others are named after a container.
fixed_cgroups=(cgrouptest testdir runtime-test runc-cgroups-integration-test)

# sandbox_make RUNTIME: writes $sandbox_command, the runtime with a state directory of its own. It
# notes every container id that is created.
sandbox_make() {
    sandbox_command=$work/bin/$(basename "$1")
    mkdir -p "$work/bin" "$work/tmp" "$work/state"
    chmod 1777 "$work/tmp"
    : >"$work/ids"
    : >"$work/left"
    cat >"$sandbox_command" <<EOF
#!/bin/bash
for word; do
    case \$word in create | run) echo "\${!#}" >>$work/ids ;; esac
done
# contest brings its own.
case " \$* " in *" --root "*) exec $1 "\$@" ;; esac
exec $1 --root $work/state "\$@"
EOF
    # The first process of the namespaces: the program, then the containers that it left.
    cat >"$work/bin/inside" <<EOF
#!/bin/bash
code=0
TMPDIR=$work/tmp timeout -k 5 $limit "\$@" || code=\$?
for id in \$(ls $work/state); do
    echo "container \$id" >>$work/left
    timeout 20 $sandbox_command delete --force "\$id" >/dev/null 2>&1
done
exit \$code
EOF
    chmod 755 "$sandbox_command" "$work/bin/inside"
}

# sandbox_run COMMAND...: runs one program, with $limit, TMPDIR and the exit code of `timeout`.
sandbox_run() {
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        "$work/bin/inside" "$@"
}

# Cgroup directories of the containers noted, deepest first.
sandbox_cgroups() {
    local name
    { printf '%s\n' "${fixed_cgroups[@]}"; cat "$work/ids" 2>/dev/null; } | sort -u |
        while read -r name; do
            # A shorter name may be somebody else's.
            [ "${#name}" -ge 7 ] || continue
            find /sys/fs/cgroup -type d -path "*/$name*" 2>/dev/null || true
        done | sort -ru
}

# Removes what is there and prints one line for each thing.
sandbox_clear() {
    local directory
    [ -d "$work/state" ] || return 0
    cat "$work/left"
    for directory in $(sandbox_cgroups); do
        echo "cgroup $directory"
        rmdir "$directory" 2>/dev/null || { sleep 0.2; rmdir "$directory" 2>/dev/null || true; }
    done
    rm -rf --one-file-system "$work/state" "$work/tmp" "$work/ids" "$work/left"
}
