/* Runs a program and disturbs one of its system calls, or lists them.
 *
 *   faults OUT SECONDS PID list                    PROGRAM ARGS...
 *   faults OUT SECONDS PID fail PROCESS NUMBER ERR PROGRAM ARGS...
 *   faults OUT SECONDS PID kill PROCESS NUMBER WHO PROGRAM ARGS...
 *
 * A process is known by its number: 0 the program, then whatever it forks, in order; PID (0: none)
 * is a process to trace besides, as number 1. A call is known by its number among its process's.
 * `fail` lets it fail with ERR (0: an error that is plausible for it), without it being made.
 * `kill` sends SIGKILL before it is made, to the program (WHO 0) or to the process itself (1).
 * Processes are traced until they execute another program; PROGRAM itself beyond that.
 *
 * OUT gets the calls of `list`, one a line, or the call that was disturbed:
 * "PROCESS NUMBER NAME ERR DETAIL"; and a line "hang" where the whole took longer than SECONDS.
 * Exits as the program does, as soon as it does (128 + signal where it was killed, 124 after a hang).
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is known of a call: the error, 0 where it cannot fail or is none of the program's doing;
 * which argument is a path; whether the first is a descriptor. */
static const struct call {
    long number;
    const char *name;
    int error, path, descriptor;
} calls[] = {
#define C(name, error, path, descriptor) {SYS_##name, #name, error, path, descriptor},
#ifdef SYS_open
    C(open, EMFILE, 0, 0) C(mkdir, ENOSPC, 0, 0) C(rmdir, EBUSY, 0, 0) C(unlink, EPERM, 0, 0)
    C(rename, ENOSPC, 0, 0) C(chmod, EPERM, 0, 0) C(access, EIO, 0, 0) C(readlink, EIO, 0, 0)
    C(stat, EIO, 0, 0) C(lstat, EIO, 0, 0) C(symlink, ENOSPC, 1, 0) C(dup2, EMFILE, -1, 1)
    C(poll, EINTR, -1, 0) C(pipe, EMFILE, -1, 0) C(fork, EAGAIN, -1, 0) C(vfork, EAGAIN, -1, 0)
    C(arch_prctl, 0, -1, 0) C(chown, EPERM, 0, 0) C(getdents, EIO, -1, 1)
#endif
    C(openat, EMFILE, 1, 0) C(openat2, EMFILE, 1, 0) C(mkdirat, ENOSPC, 1, 0)
    C(mknodat, ENOSPC, 1, 0) C(symlinkat, ENOSPC, 2, 0) C(unlinkat, EPERM, 1, 0)
    C(renameat, ENOSPC, 1, 0) C(renameat2, ENOSPC, 1, 0) C(readlinkat, EIO, 1, 0)
    C(faccessat, EIO, 1, 0) C(faccessat2, EIO, 1, 0) C(newfstatat, EIO, 1, 1)
    C(statx, EIO, 1, 1) C(fstat, EIO, -1, 1) C(statfs, EIO, 0, 0) C(fstatfs, EIO, -1, 1)
    C(fchmod, EPERM, -1, 1) C(fchmodat, EPERM, 1, 0) C(fchown, EPERM, -1, 1)
    C(fchownat, EPERM, 1, 0) C(utimensat, EPERM, 1, 0) C(linkat, ENOSPC, 1, 0)
    C(fsetxattr, ENOSPC, -1, 1) C(fgetxattr, EIO, -1, 1) C(setxattr, ENOSPC, 0, 0)
    C(read, EIO, -1, 1) C(write, ENOSPC, -1, 1) C(pread64, EIO, -1, 1) C(pwrite64, ENOSPC, -1, 1)
    C(readv, EIO, -1, 1) C(writev, ENOSPC, -1, 1) C(copy_file_range, EIO, -1, 1)
    C(sendfile, EIO, -1, 1) C(splice, EIO, -1, 1)
    C(lseek, EIO, -1, 1) C(ftruncate, EIO, -1, 1) C(fsync, EIO, -1, 1) C(fdatasync, EIO, -1, 1)
    C(getdents64, EIO, -1, 1) C(close, EINTR, -1, 1) C(close_range, EPERM, -1, 0)
    C(dup, EMFILE, -1, 1) C(dup3, EMFILE, -1, 1) C(pipe2, EMFILE, -1, 0) C(fcntl, EMFILE, -1, 1)
    C(flock, ENOLCK, -1, 1) C(ioctl, EIO, -1, 1) C(inotify_init1, EMFILE, -1, 0)
    C(memfd_create, EMFILE, -1, 0)
    C(socket, EMFILE, -1, 0) C(socketpair, EMFILE, -1, 0) C(connect, ECONNREFUSED, -1, 1)
    C(bind, EADDRINUSE, -1, 1) C(sendto, ENOBUFS, -1, 1) C(recvfrom, EINTR, -1, 1)
    C(sendmsg, ENOBUFS, -1, 1) C(recvmsg, EINTR, -1, 1) C(setsockopt, ENOMEM, -1, 1)
    C(shutdown, ENOTCONN, -1, 1) C(ppoll, EINTR, -1, 0) C(epoll_create1, EMFILE, -1, 0)
    C(clone, EAGAIN, -1, 0) C(clone3, EAGAIN, -1, 0) C(execve, ENOMEM, 0, 0)
    C(execveat, ENOMEM, 1, 0) C(wait4, EINTR, -1, 0) C(waitid, EINTR, -1, 0)
    C(pidfd_open, EMFILE, -1, 0) C(pidfd_getfd, EPERM, -1, 1) C(pidfd_send_signal, EPERM, -1, 1)
    C(kill, EPERM, -1, 0) C(tgkill, EPERM, -1, 0)
    C(mount, EPERM, 1, 0) C(umount2, EPERM, 0, 0) C(pivot_root, EPERM, -1, 0)
    C(open_tree, ENOMEM, 1, 0) C(move_mount, EPERM, 3, 0) C(mount_setattr, EPERM, 1, 1)
    C(fsopen, EPERM, 0, 0) C(fsconfig, ENOMEM, 2, 0) C(fsmount, EPERM, -1, 0)
    C(fspick, EPERM, 1, 0) C(chroot, EPERM, 0, 0) C(chdir, EACCES, 0, 0) C(fchdir, EACCES, -1, 1)
    C(unshare, EPERM, -1, 0) C(setns, EPERM, -1, 1) C(sethostname, EPERM, -1, 0)
    C(setdomainname, EPERM, -1, 0) C(setsid, EPERM, -1, 0) C(setpgid, EPERM, -1, 0)
    C(setresuid, EAGAIN, -1, 0) C(setresgid, EPERM, -1, 0) C(setuid, EAGAIN, -1, 0)
    C(setgid, EPERM, -1, 0) C(setgroups, EPERM, -1, 0) C(getgroups, EINVAL, -1, 0)
    C(capset, EPERM, -1, 0) C(capget, EINVAL, -1, 0) C(prctl, EPERM, -1, 0)
    C(seccomp, ENOMEM, -1, 0) C(bpf, EPERM, -1, 0) C(keyctl, EDQUOT, -1, 0)
    C(prlimit64, EPERM, -1, 0) C(personality, EPERM, -1, 0) C(ioprio_set, EPERM, -1, 0)
    C(ioprio_get, EINVAL, -1, 0) C(sched_setaffinity, EINVAL, -1, 0)
    C(sched_getaffinity, EINVAL, -1, 0) C(sched_setattr, EPERM, -1, 0)
    C(sched_setscheduler, EPERM, -1, 0) C(setpriority, EPERM, -1, 0)
    C(set_mempolicy, EPERM, -1, 0) C(rt_sigaction, 0, -1, 0)
    C(rt_sigprocmask, 0, -1, 0) C(sigaltstack, ENOMEM, -1, 0) C(signalfd4, EMFILE, -1, 0)
    C(getrandom, ENOSYS, -1, 0) C(getcwd, ENOENT, -1, 0) C(sysinfo, EFAULT, -1, 0)
    C(uname, EFAULT, -1, 0) C(clock_nanosleep, 0, -1, 0) C(nanosleep, 0, -1, 0)
    C(mmap, ENOMEM, -1, 0) C(mprotect, ENOMEM, -1, 0) C(munmap, ENOMEM, -1, 0)
    C(mremap, ENOMEM, -1, 0) C(brk, 0, -1, 0) C(madvise, EINVAL, -1, 0)
    C(umask, 0, -1, 0) C(getpid, 0, -1, 0) C(getppid, 0, -1, 0) C(gettid, 0, -1, 0)
    C(getuid, 0, -1, 0) C(geteuid, 0, -1, 0) C(getgid, 0, -1, 0) C(getegid, 0, -1, 0)
    C(exit, 0, -1, 0) C(exit_group, 0, -1, 0) C(rt_sigreturn, 0, -1, 0)
    C(restart_syscall, 0, -1, 0) C(set_tid_address, 0, -1, 0) C(set_robust_list, 0, -1, 0)
    C(rseq, 0, -1, 0) C(futex, 0, -1, 0) C(clock_gettime, 0, -1, 0) C(sched_yield, 0, -1, 0)
#undef C
};

static const struct call *call_of(long number) {
    static struct call unknown = {0, "unknown", EPERM, -1, 0};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].number == number)
            return &calls[i];
    return &unknown;
}

#define MOST 64
static struct process {
    pid_t pid;
    long count;
    int alive, error; /* what the close(2) that it is in is to return */
} processes[MOST];
static int known;

static struct process *process_of(pid_t pid) {
    for (int i = 0; i < known; i++)
        if (processes[i].pid == pid && processes[i].alive)
            return &processes[i];
    if (known == MOST)
        exit(125);
    processes[known] = (struct process){.pid = pid, .alive = 1};
    return &processes[known++];
}

static void end_all(int signal) {
    (void)signal;
    for (int i = 0; i < known; i++)
        if (processes[i].alive)
            kill(processes[i].pid, SIGKILL);
}

static volatile sig_atomic_t late;
static void too_late(int signal) {
    late = 1;
    end_all(signal);
}

static void detail(pid_t pid, const struct call *call, const uint64_t *args, char *text, size_t size) {
    char link[64];
    text[0] = 0;
    if (call->path >= 0) {
        struct iovec here = {text, size - 1}, there = {(void *)args[call->path], size - 1};
        ssize_t n;
        do /* It may end just before a page that is not there. */
            n = process_vm_readv(pid, &here, 1, &there, 1, 0);
        while (n < 0 && (here.iov_len = there.iov_len /= 2));
        text[n < 0 ? 0 : n] = 0;
    }
    if (call->descriptor && !text[0]) {
        snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, (int)args[0]);
        ssize_t n = readlink(link, text, size - 1);
        text[n < 0 ? 0 : n] = 0;
    }
    if (!text[0])
        snprintf(text, size, "%#lx %#lx", (unsigned long)args[0], (unsigned long)args[1]);
    for (char *c = text; *c; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
}

/* Puts an error in place of the call's result; before the call, also -1 in place of its number: then
 * the result stays as it is here, even if we end before the call does. */
static void change(pid_t pid, int error, int before) {
    struct user_regs_struct regs;
    struct iovec io = {&regs, sizeof regs};
    ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io);
#if defined __x86_64__
    regs.rax = -error;
    if (before)
        regs.orig_rax = -1;
#elif defined __aarch64__
    regs.regs[0] = -error;
    if (before) {
        int number = -1;
        struct iovec it = {&number, sizeof number};
        ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &it);
    }
#else
#error "which register has a call's number here?"
#endif
    ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io);
}

int main(int argc, char **argv) {
    if (argc < 6)
        return 125;
    FILE *out = fopen(argv[1], "we");
    pid_t other = atoi(argv[3]);
    int listing = !strcmp(argv[4], "list"), killing = !strcmp(argv[4], "kill");
    int first = listing ? 5 : 8, hit = 0;
    if (!out || argc <= first)
        return 125;
    int process = listing ? -1 : atoi(argv[5]), what = listing ? 0 : atoi(argv[7]);
    long number = listing ? -1 : atol(argv[6]);
    int go[2];
    if (pipe(go))
        return 125;
    pid_t program = fork();
    if (!program) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
            _exit(125);
        close(go[0]);
        execv(argv[first], argv + first);
        _exit(126);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, program, 0, options))
        return 125;
    process_of(program);
    if (other) {
        if (ptrace(PTRACE_SEIZE, other, 0, options))
            return 125;
        process_of(other);
        ptrace(PTRACE_INTERRUPT, other, 0, 0);
    }
    ptrace(PTRACE_INTERRUPT, program, 0, 0);
    struct sigaction action = {.sa_handler = too_late};
    sigaction(SIGALRM, &action, 0);
    action.sa_handler = end_all;
    sigaction(SIGTERM, &action, 0);
    alarm(atoi(argv[2]));
    int started = 0, released = 0, code = -1, status;
    while (code < 0) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            break;
        struct process *p = process_of(pid);
        if (!WIFSTOPPED(status)) {
            p->alive = 0;
            if (pid == program)
                code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int event = status >> 16, pass = 0;
        if (event == PTRACE_EVENT_EXEC) {
            if (pid != program) {
                /* A hook, or the container's program. */
                p->alive = 0;
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
            started = 1;
        } else if (!event && WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY && (started || pid != program)) {
                const struct call *call = call_of(info.entry.nr);
                long own = p->count++;
                int index = p - processes, here = index == process && own == number && !hit;
                if (listing || here) {
                    char text[512];
                    /* Only a debug build looks whether what it closes is open (F_GETFD). */
                    int error = call->error;
                    detail(pid, call, (uint64_t *)info.entry.args, text, sizeof text);
                    if (info.entry.nr == SYS_fcntl && info.entry.args[1] == F_GETFD)
                        error = 0;
                    else if (info.entry.nr == SYS_read &&
                             (!strncmp(text, "socket:", 7) || strstr(text, ".fifo")))
                        error = EINTR;
                    else if (!strncmp(text, "socket:", 7) && info.entry.nr == SYS_write)
                        error = ENOBUFS;
                    fprintf(out, "%d %ld %s %d %s\n", index, own, call->name, error, text);
                    fflush(out);
                }
                if (here) {
                    hit = 1;
                    if (killing)
                        kill(what ? pid : program, SIGKILL);
                    else {
                        int result = what ? what : call->error;
                        /* close(2) closes, whatever it returns. */
                        if (info.entry.nr == SYS_close)
                            p->error = result;
                        else
                            change(pid, result, 1);
                    }
                }
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && p->error) {
                change(pid, p->error, 0);
                p->error = 0;
            }
        } else if (event == PTRACE_EVENT_STOP) {
            if (pid == program && !released) {
                released = 1;
                if (write(go[1], "", 1) != 1)
                    return 125;
            } else if (WSTOPSIG(status) != SIGTRAP) {
                ptrace(PTRACE_LISTEN, pid, 0, 0);
                continue;
            }
        } else if (!event)
            pass = WSTOPSIG(status);
        ptrace(PTRACE_SYSCALL, pid, 0, pass);
    }
    if (late) {
        fputs("hang\n", out);
        code = 124;
    }
    fclose(out);
    /* What still lives goes on untraced. */
    return code < 0 ? 125 : code;
}
