/* SPDX-License-Identifier: GPL-2.0-only */
#include "client.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cmd.h"

static int explain_no_connection(const struct tg_instance *instance, struct tg_error *error)
{
	if (errno == ENOENT || errno == ECONNREFUSED)
		return tg_fail(error, -errno,
			"no daemon runs as instance \"%s\" (nobody listens on %s); start one with: tidegate run FILE",
			instance->name, instance->socket);
	if (errno == EACCES)
		return tg_fail(error, -errno,
			"%s: permission denied: only root and the daemon's own user may talk to it",
			instance->socket);
	return tg_fail(error, -errno, "%s: %s", instance->socket, strerror(errno));
}

int tg_client_open(struct tg_client *client, const struct tg_instance *instance,
	struct tg_error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int err;

	memset(client, 0, sizeof(*client));
	client->instance = instance;
	client->descriptor = -1;
	strncpy(address.sun_path, instance->socket, sizeof(address.sun_path) - 1);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return tg_fail(error, -errno, "socket: %s", strerror(errno));
	if (!connect(client->fd, (struct sockaddr *)&address, sizeof(address)))
		return 0;
	err = explain_no_connection(instance, error);
	close(client->fd);
	client->fd = -1;
	return err;
}

void tg_client_close(struct tg_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	tg_frame_reader_free(&client->reader);
}

/* The arguments one after the other, a NUL behind each. */
static char *pack_arguments(int argc, char *const argv[], size_t *size)
{
	char *payload, *at;

	*size = 0;
	for (int i = 0; i < argc; i++)
		*size += strlen(argv[i]) + 1;
	payload = at = malloc(*size ? *size : 1);
	for (int i = 0; payload && i < argc; i++)
		at = stpcpy(at, argv[i]) + 1;
	return payload;
}

static int send_request(struct tg_client *client, int argc, char *const argv[])
{
	size_t size;
	char *payload = pack_arguments(argc, argv, &size);
	int err;

	if (!payload)
		return -ENOMEM;
	err = tg_frame_send_with(client->fd, TG_FRAME_REQUEST, payload, size, client->descriptor);
	client->descriptor = -1;
	free(payload);
	return err;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		data += n;
		size -= n;
	}
	return 0;
}

/* Does what one frame says: 0, a negative errno, or 1 with the exit code in `code`. */
static int take_frame(const struct tg_frame *frame, int *code)
{
	switch (frame->type) {
	case TG_FRAME_OUTPUT:
		return write_all(STDOUT_FILENO, frame->data, frame->size);
	case TG_FRAME_ERROR:
		return write_all(STDERR_FILENO, frame->data, frame->size);
	case TG_FRAME_EXIT:
		if (frame->size != 1)
			return -EPROTO;
		*code = frame->data[0];
		return 1;
	default:
		return -EPROTO;
	}
}

static volatile sig_atomic_t interrupts;

static void count_interrupt(int signal)
{
	interrupts++;
}

/*
 * Waits for bytes: 1 when there are some. SIGINT is let through only here, so that none is lost
 * between two waits. The first one asks the daemon to cancel, whose answer ends the request; the
 * next one ends the wait.
 */
static int wait_for_bytes(struct tg_client *client, const sigset_t *unblocked)
{
	struct pollfd pollfd = { .fd = client->fd, .events = POLLIN };
	sig_atomic_t before = interrupts;

	if (ppoll(&pollfd, 1, NULL, unblocked) > 0)
		return 1;
	if (errno != EINTR)
		return -errno;
	if (interrupts == before)
		return 0;
	if (before)
		return -EINTR;
	return tg_frame_send(client->fd, TG_FRAME_CANCEL, NULL, 0);
}

static int fill(struct tg_client *client)
{
	int n = tg_frame_fill(&client->reader, client->fd);

	return n == 0 ? -ECONNRESET : n == -EINTR ? 0 : n;
}

static int copy_answer(struct tg_client *client, const sigset_t *unblocked)
{
	struct tg_frame frame;
	int code = 0, n;

	for (;;) {
		while ((n = tg_frame_next(&client->reader, &frame)) > 0) {
			n = take_frame(&frame, &code);
			if (n)
				return n < 0 ? n : code;
		}
		if (n < 0)
			return n;
		n = wait_for_bytes(client, unblocked);
		if (n > 0)
			n = fill(client);
		if (n < 0)
			return n;
	}
}

/* SIGINT is ours from before the request leaves until its answer is complete. */
static int send_and_copy_answer(struct tg_client *client, int argc, char *const argv[])
{
	struct sigaction count = { .sa_handler = count_interrupt }, old_action;
	sigset_t interrupt, old_mask, unblocked;
	int code;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	interrupts = 0;
	sigprocmask(SIG_BLOCK, &interrupt, &old_mask);
	sigaction(SIGINT, &count, &old_action);
	unblocked = old_mask;
	sigdelset(&unblocked, SIGINT);
	code = send_request(client, argc, argv);
	if (!code || code == -EPIPE)	/* a daemon that refuses says why before it closes */
		code = copy_answer(client, &unblocked);
	sigaction(SIGINT, &old_action, NULL);
	sigprocmask(SIG_SETMASK, &old_mask, NULL);
	return code;
}

int tg_client_request(struct tg_client *client, int argc, char *const argv[],
	struct tg_error *error)
{
	int code = send_and_copy_answer(client, argc, argv);

	switch (code < 0 ? code : 0) {
	case 0:
		return code;
	case -EINTR:
		return tg_fail(error, code, "left without waiting for the daemon's answer");
	case -ECONNRESET:
	case -EPIPE:
		return tg_fail(error, code, "the daemon of instance \"%s\" closed the connection",
			client->instance->name);
	case -EMSGSIZE:
		return tg_fail(error, code, "request too long: %u MiB at most", TG_FRAME_MAX >> 20);
	default:
		return tg_fail(error, code, "%s: %s", client->instance->socket, strerror(-code));
	}
}

int tg_client_run(const char *name, int argc, char *const argv[])
{
	struct tg_instance instance;
	struct tg_client client;
	struct tg_error error;
	int code;

	if (tg_instance_init(&instance, name, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_DFL);	/* of standard output: `tidegate dump | head` just ends */
	code = tg_client_open(&client, &instance, &error);
	if (!code) {
		code = tg_client_request(&client, argc, argv, &error);
		tg_client_close(&client);
	}
	if (code >= 0)
		return code;
	fprintf(stderr, "tidegate: %s\n", error.text);
	return TG_EXIT_ENVIRONMENT;
}

bool tg_client_daemon_runs(const char *name)
{
	struct tg_instance instance;
	struct tg_client client;
	int result;

	if (tg_instance_init(&instance, name, NULL))
		return false;
	result = tg_client_open(&client, &instance, NULL);
	if (!result)
		tg_client_close(&client);
	return result != -ENOENT && result != -ECONNREFUSED;
}

char *tg_client_absolute(const char *path)
{
	char directory[PATH_MAX], *absolute;

	if (*path == '/')
		return strdup(path);
	if (!getcwd(directory, sizeof(directory)))
		return strdup(path);
	return asprintf(&absolute, "%s/%s", directory, path) < 0 ? NULL : absolute;
}
