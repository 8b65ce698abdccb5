/* SPDX-License-Identifier: GPL-2.0-only */
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

__u64 tg_netns_current(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : st.st_ino;
}

/* Opens the file among those of a pattern that is this namespace. */
static int open_among(const char *pattern, __u64 inode)
{
	glob_t found;
	int fd = -ENOENT;

	if (glob(pattern, GLOB_NOSORT, NULL, &found))
		return fd;
	for (size_t i = 0; fd < 0 && i < found.gl_pathc; i++) {
		struct stat st;

		if (!stat(found.gl_pathv[i], &st) && st.st_ino == inode)
			fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
	}
	globfree(&found);
	return fd < 0 ? -ENOENT : fd;
}

struct visit {
	void (*fn)(void *user);
	void *user;
	int fd, result;
};

static void *go_there(void *arg)
{
	struct visit *visit = arg;

	if (setns(visit->fd, CLONE_NEWNET))
		visit->result = -errno;
	else
		visit->fn(visit->user);
	return NULL;
}

static int call_there(struct visit *visit)
{
	pthread_t thread;
	int code = pthread_create(&thread, NULL, go_there, visit);

	if (code)
		return -code;
	pthread_join(thread, NULL);
	return visit->result;
}

int tg_netns_call(__u64 inode, void (*fn)(void *user), void *user)
{
	struct visit visit = { fn, user, 0, 0 };
	int result;

	if (!inode || inode == tg_netns_current()) {
		fn(user);
		return 0;
	}
	visit.fd = open_among("/run/netns/*", inode);
	if (visit.fd < 0)
		visit.fd = open_among("/proc/[0-9]*/ns/net", inode);
	if (visit.fd < 0)
		return visit.fd;
	result = call_there(&visit);
	close(visit.fd);
	return result;
}
