/* Runs a program step by step and writes the address of each instruction that it executes, once, in
 * the order in which that happens first.
 *
 *   order-functions OUT LOW HIGH PROGRAM ARGS...
 *
 * Only addresses from LOW to HIGH (hexadecimal) count. What the program forks is followed until it
 * executes something; the program itself may execute itself. Exits as the program does, as soon as it does. OUT is appended to.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 5)
        return 125;
    unsigned long low = strtoul(argv[2], 0, 16), high = strtoul(argv[3], 0, 16);
    FILE *out = fopen(argv[1], "ae");
    char *seen = high > low ? calloc(1, high - low) : 0;
    if (!out || !seen)
        return 125;
    pid_t program = fork();
    if (!program) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(argv[4], argv + 4);
        _exit(126);
    }
    int status;
    waitpid(program, &status, 0);
    ptrace(PTRACE_SETOPTIONS, program, 0,
           PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_CONT, program, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            if (pid != program)
                continue;
            fclose(out);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_EXEC && pid != program) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        struct user_regs_struct at;
        ptrace(PTRACE_GETREGS, pid, 0, &at);
        if (at.rip >= low && at.rip < high && !seen[at.rip - low]) {
            seen[at.rip - low] = 1;
            fprintf(out, "%016llx\n", (unsigned long long)at.rip);
        }
        int of_ours = event || signal == SIGTRAP || signal == SIGSTOP;
        ptrace(PTRACE_SINGLESTEP, pid, 0, of_ours ? 0 : signal);
    }
    return 125;
}
