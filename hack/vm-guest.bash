# Runs in the virtual machine as the service vm, with the terminal on /dev/hvc0: the tests or a
# shell, then reports a status and turns the machine off.
set -u
mode=tests keep=no limit=1800 filter=()
# shellcheck source=/dev/null
. /vm/settings
report=/dev/virtio-ports/status
echo booted > "$report"
stty -onlcr
echo "== $(uname -sr), up in $(cut -d ' ' -f 1 /proc/uptime) s"

cp /vm/bin/* /usr/local/bin/
RUNTIME=/usr/local/bin/$(ls /vm/bin)
export RUNTIME
export GPURUN_TEST_CACHE=/var/cache/gpurun-tests
cp -a /vm/cache "$GPURUN_TEST_CACHE"
cd /root || exit

# finish STATUS: the end of the machine.
finish() {
    echo "$1" > "$report"
    poweroff -ff
}

# When the tests take too long: says what runs (the stacks go to the console) before the host
# kills the machine.
watch() {
    sleep $((limit - 45))
    echo "vm: the tests do not end; what runs:"
    ps --ppid 2 -p 2 --deselect -o pid,ppid,stat,pcpu,time,wchan:20,args
    grep -s gpurun-test /proc/[0-9]*/cgroup
    echo l > /proc/sysrq-trigger
    echo w > /proc/sysrq-trigger
    finish 124
}
if [ "$mode" = tests ] && [ "$keep" = no ]; then watch & fi

status=0
for test in /vm/tests/*; do
    [ -x "$test" ] || continue
    echo "== ${test##*/}"
    # As from a pipeline, without a controlling terminal and without colours.
    setsid --wait "$test" --test-threads=2 "${filter[@]}" </dev/null 2>&1 | cat
    [ "${PIPESTATUS[0]}" -eq 0 ] || status=1
done
if [ "$mode" = shell ] || [ "$keep" = yes ]; then
    stty onlcr
    bash -il
fi
finish "$status"
