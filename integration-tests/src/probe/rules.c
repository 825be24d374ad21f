/* What a container can do to the device program of its cgroup (v2).
 *
 *   rules CGROUP    tries, and says "STEP errno" for each: to detach whatever is there, to attach a
 *                   program that allows everything (alone, beside, in place of another), to find the
 *                   programs of others
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr) {
    return syscall(SYS_bpf, command, attr, sizeof *attr);
}

static void say(const char *step, long result) {
    const char *name = result < 0 ? strerrorname_np(errno) : "ok";
    printf("%s %s\n", step, name ? name : "?");
}

int main(int argc, char **argv) {
    int group = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
    if (group < 0) {
        say("open", -1);
        return 1;
    }
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = group;
    attr.attach_type = BPF_CGROUP_DEVICE;
    say("detach", bpf(BPF_PROG_DETACH, &attr));

    __u32 id = 0;
    for (int tries = 0; tries < 1000; tries++) {
        memset(&attr, 0, sizeof attr);
        attr.start_id = id;
        if (bpf(BPF_PROG_GET_NEXT_ID, &attr) < 0)
            break;
        id = attr.next_id;
        memset(&attr, 0, sizeof attr);
        attr.prog_id = id;
        long fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
        if (fd < 0)
            continue;
        memset(&attr, 0, sizeof attr);
        attr.target_fd = group;
        attr.attach_type = BPF_CGROUP_DEVICE;
        attr.attach_bpf_fd = fd;
        if (!bpf(BPF_PROG_DETACH, &attr))
            printf("found-and-detached ok\n");
        close(fd);
    }

    struct bpf_insn all[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
        {.code = BPF_JMP | BPF_EXIT},
    };
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (__u64)(unsigned long)all;
    attr.insn_cnt = 2;
    attr.license = (__u64)(unsigned long)"GPL";
    long program = bpf(BPF_PROG_LOAD, &attr);
    say("load", program);
    unsigned flags[] = {BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, 0};
    const char *names[] = {"attach-beside", "attach-over", "attach-alone"};
    for (int i = 0; program >= 0 && i < 3; i++) {
        memset(&attr, 0, sizeof attr);
        attr.target_fd = group;
        attr.attach_type = BPF_CGROUP_DEVICE;
        attr.attach_bpf_fd = program;
        attr.attach_flags = flags[i];
        say(names[i], bpf(BPF_PROG_ATTACH, &attr));
    }
    return 0;
}
