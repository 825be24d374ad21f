/* Builds a filter with libseccomp from a line format and writes its BPF to stdout.
 *
 *   default ACTION        first line; actions are SECCOMP_RET_* in hexadecimal
 *   arch NAME             as seccomp_arch_resolve_name(3) knows it; the host's own one is removed
 *                         unless it is named
 *   rule NAME ACTION [ARG OP A B]...
 *
 * Names that libseccomp does not know, and rules that it refuses, go to stderr. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t scmp_action(uint32_t value)
{
	switch (value & 0xffff0000) {
	case 0x00050000: return SCMP_ACT_ERRNO(value & 0xffff);
	case 0x7ff00000: return SCMP_ACT_TRACE(value & 0xffff);
	default: return value;
	}
}

int main(void)
{
	char line[4096];
	scmp_filter_ctx ctx = NULL;
	int native = 0;

	while (fgets(line, sizeof line, stdin)) {
		char *word = strtok(line, " \n");
		if (!word)
			continue;
		if (!strcmp(word, "default")) {
			ctx = seccomp_init(scmp_action(strtoul(strtok(NULL, " \n"), NULL, 16)));
		} else if (!ctx) {
			return 2;
		} else if (!strcmp(word, "arch")) {
			uint32_t arch = seccomp_arch_resolve_name(strtok(NULL, " \n"));
			if (arch == seccomp_arch_native())
				native = 1;
			else if (seccomp_arch_add(ctx, arch))
				return 3;
		} else if (!strcmp(word, "archs-end")) {
			if (!native && seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE))
				return 4;
		} else if (!strcmp(word, "rule")) {
			char *name = strtok(NULL, " \n");
			uint32_t action = scmp_action(strtoul(strtok(NULL, " \n"), NULL, 16));
			struct scmp_arg_cmp cmp[6];
			unsigned int n = 0;
			char *arg;
			int nr = seccomp_syscall_resolve_name(name), rc;
			if (nr == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", name);
				continue;
			}
			while (n < 6 && (arg = strtok(NULL, " \n"))) {
				cmp[n].arg = atoi(arg);
				cmp[n].op = atoi(strtok(NULL, " \n"));
				cmp[n].datum_a = strtoull(strtok(NULL, " \n"), NULL, 16);
				cmp[n].datum_b = strtoull(strtok(NULL, " \n"), NULL, 16);
				n++;
			}
			rc = seccomp_rule_add_array(ctx, action, nr, n, cmp);
			if (rc)
				fprintf(stderr, "refused %s %s\n", name, strerror(-rc));
		} else {
			return 5;
		}
	}
	return ctx && !seccomp_export_bpf(ctx, 1) ? 0 : 6;
}
