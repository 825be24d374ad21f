/* A container process that attacks every other process that it can see, for as long as it runs.
 *
 *   prowl LOG CANARY OWN...
 *
 * OWN are the programs of the container; a process that executes anything else is the runtime. What
 * an attack gained is a line in LOG, once for each kind: "PID KIND DETAIL". CANARY is the path of a
 * file of the host. For the runtime's processes:
 *
 *   exe      /proc/PID/exe opened for writing
 *   kept     /proc/PID/exe opened for reading, and that descriptor opened again for writing later
 *   root     CANARY found below /proc/PID/root
 *   cwd      /proc/PID/cwd is not a directory of the container
 *   fd       a file behind /proc/PID/fd that is on no mount of the container
 *   caps     it may use capabilities that a process on its way to another user does not need and
 *            that the container does not have
 *   mem      /proc/PID/mem opened
 *   environ  the environment read
 *   ptrace   attached to
 *   seen     (no attack) the process was seen; the log shows that there was something to attack
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *out;
static char said[64][16];
static int kinds;
static int own_count;
static char **own_programs;

static int is_own(const char *pid);

static void say(const char *pid, const char *kind, const char *detail) {
    /* It may have become a program of the container's before the attack. */
    if (strcmp(kind, "seen") && strcmp(kind, "kept") && is_own(pid))
        return;
    for (int i = 0; i < kinds; i++)
        if (!strcmp(said[i], kind))
            return;
    if (kinds < 64)
        snprintf(said[kinds++], sizeof said[0], "%s", kind);
    fprintf(out, "%s %s %s\n", pid, kind, detail);
    fflush(out);
}

/* Of a process whose executable cannot even be looked at, its name tells: a program's own is its
 * file's, and the runtime changes its. */
static int is_own(const char *pid) {
    char path[PATH_MAX], name[64] = "";
    struct stat exe, known;
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    if (!stat(path, &exe)) {
        for (int i = 0; i < own_count; i++)
            if (!stat(own_programs[i], &known) && known.st_ino == exe.st_ino && known.st_dev == exe.st_dev)
                return 1;
        return 0;
    }
    if (errno == ENOENT || errno == ESRCH)
        return 1; /* gone, or a kernel thread */
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return 1;
    if (read(fd, name, sizeof name - 1) < 0)
        name[0] = 0;
    close(fd);
    return 0;
}

static int is_own_file(int fd) {
    struct stat file, known;
    if (fstat(fd, &file))
        return 1;
    for (int i = 0; i < own_count; i++)
        if (!stat(own_programs[i], &known) && known.st_ino == file.st_ino && known.st_dev == file.st_dev)
            return 1;
    return 0;
}

static void reopen(const char *pid, int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int written = open(path, O_WRONLY);
    if (written >= 0) {
        say(pid, "kept", "opened again for writing");
        close(written);
    }
}

/* A number after `name` in a file of /proc; -1 without one. */
static long long number_in(const char *path, const char *name, int base) {
    char text[8192];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    char *found = strstr(text, name);
    return found ? strtoll(found + strlen(name), NULL, base) : -1;
}

/* Mount ids are unique on the machine. */
static int is_on_own_mount(int fd) {
    char path[64], line[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    long long id = number_in(path, "mnt_id:", 10);
    int found = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    while (mounts && fgets(line, sizeof line, mounts))
        found |= atoll(line) == id;
    if (mounts)
        fclose(mounts);
    return found;
}

/* CAP_SETGID, CAP_SETUID, CAP_SETPCAP */
#define TO_BECOME_A_USER ((1 << 6) | (1 << 7) | (1 << 8))

static void look_at_capabilities(const char *pid) {
    char path[64], detail[64];
    snprintf(path, sizeof path, "/proc/%s/status", pid);
    long long its = number_in(path, "CapPrm:", 16);
    long long own = number_in("/proc/self/status", "CapPrm:", 16);
    if (its < 0 || !(its & ~own & ~TO_BECOME_A_USER))
        return;
    snprintf(detail, sizeof detail, "%llx", its);
    say(pid, "caps", detail);
}

#define KEPT 64
static int kept[KEPT], next_kept;

static void attack(const char *pid, const char *canary) {
    char path[PATH_MAX], detail[PATH_MAX + 32];
    struct stat st, root;
    say(pid, "seen", "");
    look_at_capabilities(pid);

    snprintf(path, sizeof path, "/proc/%s/root%s", pid, canary);
    if (!stat(path, &st))
        say(pid, "root", path);
    snprintf(path, sizeof path, "/proc/%s/cwd", pid);
    ssize_t length = readlink(path, detail, sizeof detail - 1);
    if (!stat(path, &st) && !stat("/", &root) && st.st_dev != root.st_dev) {
        detail[length < 0 ? 0 : length] = 0;
        say(pid, "cwd", detail);
    }

    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    int fd = open(path, O_WRONLY);
    if (fd >= 0) {
        say(pid, "exe", "opened for writing");
        close(fd);
    }
    fd = open(path, O_RDONLY);
    if (fd >= 0 && is_own_file(fd)) {
        close(fd);
    } else if (fd >= 0) {
        if (kept[next_kept % KEPT] > 0)
            close(kept[next_kept % KEPT]);
        kept[next_kept++ % KEPT] = fd;
    }
    for (int i = 0; i < KEPT; i++)
        if (kept[i] > 0)
            reopen(pid, kept[i]);

    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *fds = opendir(path);
    for (struct dirent *e; fds && (e = readdir(fds));) {
        char link[PATH_MAX + 300], target[PATH_MAX];
        snprintf(link, sizeof link, "%s/%s", path, e->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n <= 0 || e->d_name[0] == '.')
            continue;
        target[n] = 0;
        /* What exec is given by its caller (0 to 2) is not the runtime's. */
        if (target[0] != '/' || atoi(e->d_name) < 3)
            continue;
        int opened = open(link, O_PATH);
        if (opened >= 0) {
            snprintf(detail, sizeof detail, "%s -> %s", e->d_name, target);
            if (!is_on_own_mount(opened))
                say(pid, "fd", detail);
            close(opened);
        }
    }
    if (fds)
        closedir(fds);

    snprintf(path, sizeof path, "/proc/%s/mem", pid);
    fd = open(path, O_RDWR);
    if (fd >= 0) {
        /* That of a process that has just ended can be opened before Linux 6.14; it is empty. Any
         * other has this byte, or fails with EIO where nothing is. */
        char byte;
        if (pread(fd, &byte, 1, 0x10000) != 0)
            say(pid, "mem", "opened");
        close(fd);
    }
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    fd = open(path, O_RDONLY);
    if (fd >= 0) {
        char text[4096];
        ssize_t n = read(fd, text, sizeof text - 1);
        if (n > 0) {
            text[n] = 0;
            snprintf(detail, sizeof detail, "%.200s", text);
            say(pid, "environ", detail);
        }
        close(fd);
    }
    /* In a process of its own, whose end lets go again. */
    pid_t tracer = fork();
    if (!tracer)
        _exit(ptrace(PTRACE_SEIZE, atoi(pid), 0, 0) ? 1 : 0);
    int status;
    if (tracer > 0 && waitpid(tracer, &status, 0) == tracer && !status)
        say(pid, "ptrace", "attached");
}

int main(int argc, char **argv) {
    if (argc < 4 || !(out = fopen(argv[1], "a")))
        return 2;
    own_count = argc - 3;
    own_programs = argv + 3;
    char own[16];
    snprintf(own, sizeof own, "%d", (int)getpid());
    fprintf(out, "0 begun\n");
    fflush(out);
    for (;;) {
        DIR *proc = opendir("/proc");
        if (!proc)
            return 2;
        for (struct dirent *e; (e = readdir(proc));)
            if (isdigit((unsigned char)e->d_name[0]) && strcmp(e->d_name, own) &&
                !is_own(e->d_name))
                attack(e->d_name, argv[2]);
        closedir(proc);
    }
}
