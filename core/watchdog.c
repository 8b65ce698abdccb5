/* SPDX-License-Identifier: GPL-2.0-only */
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "quarantine.h"

#define ARGUMENTS 1024	/* at most, for the program executed anew */

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	struct tg_guard *guard;
	uint64_t limit;
	tg_on_hang on_hang;
	void *user;
} dog;

/* Reports the running entry if it is overdue. Returns its start, so that it is reported once. */
static uint64_t look(uint64_t reported)
{
	uint64_t since = dog.guard->since, now = uv_hrtime();
	struct tg_hang hang;

	if (!since || since == reported || now - since < dog.guard->limit + dog.limit)
		return reported;
	hang = (struct tg_hang){
		.task = dog.guard->label, .script = dog.guard->script, .lasted = now - since,
	};
	dog.on_hang(dog.user, &hang);
	return since;
}

static void wait_a_little(void)
{
	uint64_t ns = dog.limit / 8;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += until.tv_nsec;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	pthread_cond_timedwait(&dog.wake, &dog.lock, &until);
}

static void *watch(void *unused)
{
	uint64_t reported = 0;

	pthread_mutex_lock(&dog.lock);
	while (!dog.stop) {
		wait_a_little();
		reported = look(reported);
	}
	pthread_mutex_unlock(&dog.lock);
	return NULL;
}

static void init_condition(void)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&dog.lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&dog.wake, &attributes);
	pthread_condattr_destroy(&attributes);
}

int tg_watchdog_start(struct tg_vm *vm, uint64_t limit, tg_on_hang on_hang, void *user)
{
	sigset_t all, before;
	int error;

	dog.stop = false;
	dog.guard = &vm->guard;
	dog.limit = limit;
	dog.on_hang = on_hang;
	dog.user = user;
	init_condition();
	sigfillset(&all);	/* signals are for the loop's thread */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&dog.thread, NULL, watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

void tg_watchdog_stop(void)
{
	pthread_mutex_lock(&dog.lock);
	dog.stop = true;
	pthread_cond_signal(&dog.wake);
	pthread_mutex_unlock(&dog.lock);
	pthread_join(dog.thread, NULL);
	pthread_cond_destroy(&dog.wake);
	pthread_mutex_destroy(&dog.lock);
}

/* --- starting anew --- */

/* Straight to stderr, without the log's lock, and not at all if nobody reads. */
static void say(const char *text)
{
	struct pollfd stderr_ready = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t written = 0;

	if (poll(&stderr_ready, 1, 100) == 1)
		written = write(STDERR_FILENO, text, strlen(text));
	(void)written;
}

/* This process's arguments, from the kernel. */
static char **read_arguments(void)
{
	static char text[65536], *argv[ARGUMENTS + 1];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC), argc = 0;
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	for (ssize_t i = 0; i < length && argc < ARGUMENTS; i += strlen(text + i) + 1)
		argv[argc++] = text + i;
	argv[argc] = NULL;
	if (fd >= 0)
		close(fd);
	return argv;
}

void tg_watchdog_restart(void *user, const struct tg_hang *hang)
{
	extern char **environ;
	enum tg_quarantine how;
	char text[1024];
	sigset_t none;

	snprintf(text, sizeof(text),
		"tidegate: task %s%s%s has not come back for %.1f s from a call that can't be stopped; "
		"starting anew%s\n", hang->task, *hang->script ? " of " : "", hang->script,
		hang->lasted / 1e9, *hang->script ? " with this script in quarantine" : "");
	say(text);
	how = strcmp(hang->task, hang->script) ? TG_QUARANTINE_TASK : TG_QUARANTINE_LOAD;
	if (*hang->script && tg_quarantine_add(user, hang->script, how))
		say("tidegate: the script could not be put into quarantine\n");
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	execve("/proc/self/exe", read_arguments(), environ);
	say("tidegate: can't execute itself anew\n");
	_exit(3);
}
