# Runs in the virtual machine as the service vm, with the terminal on /dev/hvc0: the tests or a
# shell, then reports a status and turns the machine off.
set -u
mode=tests keep=no filter=()
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
