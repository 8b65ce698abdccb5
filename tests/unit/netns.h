/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A network of our own for unit tests: the test moves into a new network namespace ("here"), a child
 * process that only sleeps holds another ("there"), and veth pairs connect the two. Nothing has to be
 * cleaned up: both namespaces end with their process, also when the test crashes.
 */
#ifndef TG_TEST_NETNS_H
#define TG_TEST_NETNS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <uv.h>

static pid_t netns_there;

/* Writes under /proc/sys/net of the calling process' namespace. */
static inline void netns_sysctl(const char *path, const char *value)
{
	char full[256];
	int fd;

	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fprintf(stderr, "%s: %s\n", full, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Unanswered questions fail in 0.2 s instead of three. */
static inline void netns_hurry(int i)
{
	static const struct { const char *name, *value; } settings[] = {
		{ "retrans_time_ms", "100" }, { "mcast_solicit", "2" }, { "ucast_solicit", "2" },
		{ "delay_first_probe_time", "1" },
	};
	char path[128];

	for (size_t s = 0; s < sizeof(settings) / sizeof(*settings); s++) {
		snprintf(path, sizeof(path), "ipv4/neigh/v%d/%s", i, settings[s].name);
		netns_sysctl(path, settings[s].value);
		snprintf(path, sizeof(path), "ipv6/neigh/v%d/%s", i, settings[s].name);
		netns_sysctl(path, settings[s].value);
	}
}

static inline void netns_child(int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET) == 0) {
		netns_sysctl("ipv6/conf/default/accept_dad", "0");
		if (write(ready, "x", 1) == 1)
			for (;;)
				pause();
	}
	_exit(1);
}

/* 0, or -1 after printing why there can be no such network. */
static inline int netns_enter(void)
{
	int ready[2];
	char byte;

	if (unshare(CLONE_NEWNET) < 0) {
		printf("# no network namespace: %s (needs root)\n", strerror(errno));
		return -1;
	}
	netns_sysctl("ipv6/conf/default/accept_dad", "0");
	if (pipe(ready) < 0)
		return -1;
	netns_there = fork();
	if (netns_there == 0)
		netns_child(ready[1]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		printf("# no second network namespace\n");
		return -1;
	}
	close(ready[0]);
	return 0;
}

/* What main() returns then: all of its tests count as one that was skipped. */
static inline int netns_skipped(void)
{
	printf("0 passed, 0 failed, 1 skipped\n");
	return 0;
}

static inline void netns_leave(void)
{
	kill(netns_there, SIGKILL);
}

static inline int netns_vrun(const char *prefix, const char *format, va_list list)
{
	char command[1024];
	int length = snprintf(command, sizeof(command), "%s", prefix), status;

	vsnprintf(command + length, sizeof(command) - length, format, list);
	status = system(command);
	if (status)
		fprintf(stderr, "status %d of: %s\n", status, command);
	return status;
}

/* Both run a shell command, complain if it fails, and return its status. */
static inline __attribute__((format(printf, 1, 2))) int here(const char *format, ...)
{
	va_list list;
	int status;

	va_start(list, format);
	status = netns_vrun("", format, list);
	va_end(list);
	return status;
}

static inline __attribute__((format(printf, 1, 2))) int there(const char *format, ...)
{
	char prefix[64];
	va_list list;
	int status;

	snprintf(prefix, sizeof(prefix), "nsenter -t %d -n ", netns_there);
	va_start(list, format);
	status = netns_vrun(prefix, format, list);
	va_end(list);
	return status;
}

static inline void netns_addresses_there(int i)
{
	there("sh -c 'ip addr replace 10.0.%d.2/24 dev p%d; ip addr replace fd00:%d::2/64 dev p%d; "
	      "ip addr replace fe80::%d:2/64 dev p%d'", i, i, i, i, i, i);
}

/*
 * A veth pair: vN here with 10.0.N.1/24, fd00:N::1/64 and MAC 02:00:00:00:N:01; pN there with .2, ::2,
 * fe80::N:2 and 02:00:00:00:N:02. N is one digit.
 */
static inline void netns_pair(int i)
{
	here("ip link add v%d address 02:00:00:00:0%d:01 type veth "
	     "peer name p%d address 02:00:00:00:0%d:02 netns %d", i, i, i, i, netns_there);
	netns_hurry(i);
	netns_addresses_there(i);
	there("ip link set p%d up", i);
	here("ip addr add 10.0.%d.1/24 dev v%d; ip addr add fd00:%d::1/64 dev v%d; ip link set v%d up",
		i, i, i, i, i);
}

static inline void netns_ignore_timer(uv_timer_t *timer)
{
}

/* Runs the loop until `holds`, for at most `ms`; says whether it held. */
static inline bool netns_until(uv_loop_t *loop, bool (*holds)(void *), void *user, int ms)
{
	uint64_t end = uv_hrtime() + ms * 1000000ull;
	bool held = holds(user);
	uv_timer_t timer;

	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, netns_ignore_timer, 5, 5);
	while (!held && uv_hrtime() < end) {
		uv_run(loop, UV_RUN_ONCE);
		held = holds(user);
	}
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
	return held;
}

#endif
