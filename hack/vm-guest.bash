# Runs in the virtual machine as the service vm, with the terminal on /dev/hvc0: the tests or a
# shell, then reports a status and turns the machine off.
set -u
. /vm/settings
report=/dev/virtio-ports/status
echo booted > "$report"
stty -onlcr
echo "== $(uname -sr), up in $(cut -d ' ' -f 1 /proc/uptime) s"

cp /vm/gpurun* /usr/local/bin/ 2>/dev/null || cp /vm/[a-z]*run* /usr/local/bin/
runtime=$(find /vm -maxdepth 1 -type f -perm -1 -printf '%f\n' | head -n 1)
export RUNTIME=/usr/local/bin/$runtime
export GPURUN_TEST_CACHE=/var/cache/gpurun-tests
cp -a /vm/cache "$GPURUN_TEST_CACHE"
# The tests sit in a cgroup of systemd's; containers go where a runtime puts them.
cd /root || exit

status=0
for test in /vm/tests/*; do
    [ -x "$test" ] || continue
    echo "== ${test##*/}"
    "$test" --test-threads=2 "${filter[@]}" </dev/null || status=1
done
if [ "$mode" = shell ] || [ "$keep" = yes ]; then
    stty onlcr
    bash -il
fi
echo "$status" > "$report"
poweroff -ff
