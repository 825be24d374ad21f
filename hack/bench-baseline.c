/*
 * The least that a container can cost: the same clone, mounts, pivot_root and exec as a runtime,
 * and nothing else. hack/bench measures gpurun's CPU time against this.
 *
 *   bench-baseline LIST ROOTFS PROGRAM
 *
 * No state, no cgroup, no capabilities, no seccomp, no second and third invocation. LIST holds one
 * step per line, paths relative to ROOTFS, which already has every mount point that does not lie
 * in one of the mounts:
 *   mount TYPE PATH FLAGS DATA     a new filesystem; "-" for no data
 *   bind SOURCE PATH               a read-only, nosuid, nodev bind mount
 *   node PATH MAJOR MINOR          a character device
 *   link TEXT PATH                 a symbolic link
 *   dir PATH                       a directory
 *   readonly PATH                  the path, bound over itself read-only, if it exists
 *   mask PATH                      /dev/null or an empty read-only tmpfs over it, if it exists
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#define MOVE_MOUNT_F_EMPTY_PATH 4
#define MOUNT_ATTR_RDONLY 1
#define MOUNT_ATTR_NOSUID 2
#define MOUNT_ATTR_NODEV 4
struct mount_attr {
	unsigned long long attr_set, attr_clr, propagation, userns_fd;
};
#endif

static void die(const char *what)
{
	fprintf(stderr, "bench-baseline: %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* A detached copy of `source`, read-only, moved onto `target`. */
static void bind_read_only(const char *source, const char *target, unsigned long long attrs)
{
	struct mount_attr attr = {.attr_set = attrs};
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, source,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr))
		die(source);
	if (syscall(SYS_move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH))
		die(target);
	close(fd);
}

static void mask(const char *path)
{
	if (mount("/dev/null", path, NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
		return;
	if (errno != ENOTDIR || mount("tmpfs", path, "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"))
		die(path);
}

static void step(char *line)
{
	char *verb = strtok(line, " "), *a = strtok(NULL, " "), *b = strtok(NULL, " ");
	char *c = strtok(NULL, " "), *d = strtok(NULL, " ");
	const unsigned long long safe = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	if (!verb || !a)
		return;
	if (!strcmp(verb, "mount") && d) {
		mkdir(b, 0755); /* some lie in a mount of an earlier line */
		if (mount(a, b, a, strtoul(c, NULL, 0), strcmp(d, "-") ? d : NULL))
			die(b);
	} else if (!strcmp(verb, "bind") && b) {
		bind_read_only(a, b, safe);
	} else if (!strcmp(verb, "node") && c) {
		if (mknod(a, S_IFCHR | 0666, makedev(strtoul(b, NULL, 0), strtoul(c, NULL, 0))))
			die(a);
	} else if (!strcmp(verb, "link") && b) {
		if (symlink(a, b))
			die(b);
	} else if (!strcmp(verb, "dir")) {
		if (mkdir(a, 0755))
			die(a);
	} else if (!strcmp(verb, "readonly")) {
		bind_read_only(a, a, MOUNT_ATTR_RDONLY);
	} else if (!strcmp(verb, "mask")) {
		mask(a);
	} else {
		errno = EINVAL;
		die(verb);
	}
}

static void init(char *list, const char *rootfs, char *program)
{
	char *argv[] = {program, NULL}, *env[] = {"PATH=/bin", NULL};
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) || chdir(rootfs))
		die(rootfs);
	for (char *next, *line = list; line && *line; line = next) {
		if ((next = strchr(line, '\n')))
			*next++ = 0;
		step(line);
	}
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		die("pivot_root");
	if (sethostname("bench", 5) || setsid() < 0)
		die("sethostname");
	execve(program, argv, env);
	die(program);
}

int main(int argc, char **argv)
{
	static char list[65536];
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
		.exit_signal = SIGCHLD,
	};
	int status, fd;
	pid_t pid;
	if (argc != 4) {
		fprintf(stderr, "usage: bench-baseline LIST ROOTFS PROGRAM\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, list, sizeof list - 1) <= 0)
		die(argv[1]);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0)
		die("clone3");
	if (pid == 0)
		init(list, argv[2], argv[3]);
	if (waitpid(pid, &status, 0) < 0)
		die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
