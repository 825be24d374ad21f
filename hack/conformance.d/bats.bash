# Sourced by hack/conformance: runc's integration tests. One of its files is a program here.
#
# They want two images and a few helper programs, which runc's own scripts download and build:
#   tests/integration/testdata/{busybox,debian}-amd64.tar.xz  any compression tar knows will do
#   tests/cmd/_bin/{recvtty,sd-helper,…}                       `make test-binaries`, with runc's Go
# What is there is used. For busybox the rootfs of runtime-tools does; for Debian a debootstrap.

suite_prepare() {
    bats_folder=$checkout/tests/integration
    if [ ! -f "$bats_folder/helpers.bash" ]; then
        echo "$checkout is not a checkout of opencontainers/runc" >&2
        return 1
    fi
    need_packages bats=bats jq=jq gawk=gawk python3=python3-minimal go=golang-go
    local needed
    for needed in tests/integration/testdata/{busybox,debian}-amd64.tar.xz \
        tests/cmd/_bin/{recvtty,sd-helper,fs-idmap,pidfd-kill,remap-rootfs,seccompagent}; do
        if [ ! -e "$checkout/$needed" ]; then
            echo "note: $needed is missing, and the tests that need it will fail" >&2
        fi
    done
    limit=600
}

suite_list() {
    local path
    for path in "$bats_folder"/*.bats; do
        basename "$path" .bats
    done
}

# In a terminal of its own: some tests open /dev/tty. script(1) would not do, it types an end of file
# into the containers' terminals when its own input ends.
suite_run() {
    local terminal='import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))'
    RUNC=$sandbox_command sandbox_run python3 -c "$terminal" \
        bats --tap "$bats_folder/${1%.bats}.bats" | tr -d '\r'
}
