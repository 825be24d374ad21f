/*
 * Measures whole container lifecycles: create, start, wait for the exit, delete.
 *
 *   bench-lifecycle RUNS SUBJECT_DIR...
 *
 * A subject is a directory with these files:
 *   command     one argument per line: the runtime and its global options. A line that is "ONCE"
 *               instead of the runtime's path: the rest is one program that does everything.
 *   env         one NAME=VALUE per line, added to PATH
 *   bundle/     the bundle; config.json is written anew from config.json.orig before each run,
 *               because some wrappers edit it in place
 *   stderr      what the subject said (written here)
 *
 * The subjects take turns within a run, and each run begins with another one, so that a change of
 * the machine's mood meets all of them. Prints one line per lifecycle:
 *   SUBJECT_DIR wall_us cpu_us max_rss_kib create_us start_us exit_us delete_us
 * or "SUBJECT_DIR failed STEP", after which that subject is left out.
 *
 * CPU time is user + system of every process that ran, from wait4(2): the runtime's own processes
 * with the children that they waited for, and the container's init, which is reparented to this
 * program (PR_SET_CHILD_SUBREAPER). ru_maxrss survives fork and exec, so this program stays
 * small: it must be linked statically and allocates nothing per run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SUBJECTS = 16, MAX_ARGS = 48, STEP_TIMEOUT_S = 30 };

struct subject {
	const char *dir;
	char *prefix[MAX_ARGS]; /* the runtime and its global options */
	int prefix_len;
	char *env[MAX_ARGS];
	int once;
	int dead;
	char id[64];
	char bundle[4096], config[4096], original[4096], pid_file[4096], stderr_file[4096];
};

struct cost {
	long cpu_us;
	long max_rss_kib;
};

static struct subject subjects[MAX_SUBJECTS];
static volatile sig_atomic_t timed_out;

static void on_alarm(int signal)
{
	(void)signal;
	timed_out = 1;
}

static long now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* The lines of a small file, as strings that live as long as the program. */
static int read_lines(const char *path, char **lines, int max)
{
	FILE *file = fopen(path, "re");
	char line[4096];
	int count = 0;
	if (!file)
		return 0;
	while (count < max - 1 && fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = 0;
		if (*line)
			lines[count++] = strdup(line);
	}
	lines[count] = NULL;
	fclose(file);
	return count;
}

static void load(struct subject *s, const char *dir, int number)
{
	char path[4096];
	s->dir = dir;
	snprintf(s->id, sizeof s->id, "gpurun-bench-%d-%d", (int)getpid(), number);
	snprintf(s->bundle, sizeof s->bundle, "%s/bundle", dir);
	snprintf(s->config, sizeof s->config, "%s/bundle/config.json", dir);
	snprintf(s->original, sizeof s->original, "%s/bundle/config.json.orig", dir);
	snprintf(s->pid_file, sizeof s->pid_file, "%s/pid", dir);
	snprintf(s->stderr_file, sizeof s->stderr_file, "%s/stderr", dir);
	snprintf(path, sizeof path, "%s/command", dir);
	s->prefix_len = read_lines(path, s->prefix, MAX_ARGS - 8);
	if (!s->prefix_len)
		die(path);
	if (!strcmp(s->prefix[0], "ONCE")) {
		s->once = 1;
		memmove(s->prefix, s->prefix + 1, sizeof s->prefix[0] * (size_t)s->prefix_len--);
	}
	snprintf(path, sizeof path, "%s/env", dir);
	s->env[0] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	read_lines(path, s->env + 1, MAX_ARGS - 1);
	unlink(s->stderr_file);
}

static void fresh_config(const struct subject *s)
{
	char buffer[65536];
	ssize_t n;
	int from = open(s->original, O_RDONLY | O_CLOEXEC);
	int to = open(s->config, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (from < 0 || to < 0)
		die(s->config);
	while ((n = read(from, buffer, sizeof buffer)) > 0)
		if (write(to, buffer, (size_t)n) != n)
			die(s->config);
	close(from);
	close(to);
	unlink(s->pid_file);
}

static void add(struct cost *cost, const struct rusage *usage)
{
	cost->cpu_us += (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000L +
			usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
	if (usage->ru_maxrss > cost->max_rss_kib)
		cost->max_rss_kib = usage->ru_maxrss;
}

/* Waits for `pid` with a limit; the exit status, or -1. */
static int reap(pid_t pid, struct cost *cost)
{
	struct rusage usage;
	int status;
	pid_t got;
	timed_out = 0;
	alarm(STEP_TIMEOUT_S);
	do
		got = wait4(pid, &status, 0, &usage);
	while (got < 0 && errno == EINTR && !timed_out);
	alarm(0);
	if (got < 0) {
		if (timed_out)
			kill(pid, SIGKILL);
		return -1;
	}
	add(cost, &usage);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs the subject's program with these further arguments; its exit status, or -1. */
static int run(struct subject *s, char *const *more, struct cost *cost)
{
	char *argv[MAX_ARGS];
	int n = s->prefix_len;
	pid_t pid;
	memcpy(argv, s->prefix, sizeof argv[0] * (size_t)n);
	while (more && *more && n < MAX_ARGS - 1)
		argv[n++] = *more++;
	argv[n] = NULL;
	pid = vfork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		int err = open(s->stderr_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
		dup2(null, 0);
		dup2(null, 1);
		dup2(err, 2);
		if (null > 2)
			close(null);
		if (err > 2)
			close(err);
		execve(argv[0], argv, s->env);
		_exit(127);
	}
	return pid < 0 ? -1 : reap(pid, cost);
}

static pid_t read_pid(const char *path)
{
	char text[32];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = 0;
	return (pid_t)atoi(text);
}

/* Takes what was left behind by a broken subject. */
static void clean(struct subject *s)
{
	struct cost ignored = {0, 0};
	pid_t init = read_pid(s->pid_file);
	if (s->once)
		return;
	run(s, (char *[]){"delete", "--force", s->id, NULL}, &ignored);
	if (init > 1 && kill(init, SIGKILL) == 0)
		reap(init, &ignored);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void fail(struct subject *s, const char *step)
{
	printf("%s failed %s\n", s->dir, step);
	s->dead = 1;
	clean(s);
}

static void lifecycle(struct subject *s)
{
	struct cost cost = {0, 0};
	struct rusage usage;
	long begin, created, started, exited, deleted;
	pid_t init;
	fresh_config(s);
	begin = now_us();
	if (s->once) {
		if (run(s, NULL, &cost) != 0)
			return fail(s, "run");
		deleted = now_us();
		printf("%s %ld %ld %ld 0 0 0 0\n", s->dir, deleted - begin, cost.cpu_us, cost.max_rss_kib);
		return;
	}
	if (run(s, (char *[]){"create", "--bundle", s->bundle, "--pid-file", s->pid_file, s->id, NULL},
		&cost) != 0)
		return fail(s, "create");
	created = now_us();
	init = read_pid(s->pid_file);
	if (init <= 0)
		return fail(s, "pid-file");
	if (run(s, (char *[]){"start", s->id, NULL}, &cost) != 0)
		return fail(s, "start");
	started = now_us();
	if (reap(init, &cost) != 0)
		return fail(s, "exit");
	exited = now_us();
	if (run(s, (char *[]){"delete", s->id, NULL}, &cost) != 0)
		return fail(s, "delete");
	deleted = now_us();
	/* Helpers that the runtime left to us; rarely any. */
	while (wait4(-1, NULL, WNOHANG, &usage) > 0)
		add(&cost, &usage);
	printf("%s %ld %ld %ld %ld %ld %ld %ld\n", s->dir, deleted - begin, cost.cpu_us,
	       cost.max_rss_kib, created - begin, started - created, exited - started,
	       deleted - exited);
}

int main(int argc, char **argv)
{
	int runs, count = argc - 2;
	struct sigaction action = {.sa_handler = on_alarm};
	if (argc < 3 || count > MAX_SUBJECTS) {
		fprintf(stderr, "usage: bench-lifecycle RUNS SUBJECT_DIR... (at most %d)\n", MAX_SUBJECTS);
		return 2;
	}
	runs = atoi(argv[1]);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		die("PR_SET_CHILD_SUBREAPER");
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < count; i++)
		load(&subjects[i], argv[i + 2], i);
	for (int r = 0; r < runs; r++) {
		for (int i = 0; i < count; i++) {
			struct subject *s = &subjects[(i + r) % count];
			if (!s->dead)
				lifecycle(s);
		}
		fflush(stdout);
	}
	return 0;
}
