// SPDX-License-Identifier: GPL-2.0-only
/*
 * `tidegate capture`: packets of a port of the running daemon, into a file, to a pipe, or as lines of text. The
 * daemon writes to a descriptor that this command opens, with its caller's rights, and hands over with
 * the request (lua/tidegate/capture.lua); the capture ends with the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "printer.h"

#define WORDS_MAX 256 /* of a match or an expression */

struct order {
	const char *instance, *port, *file;
	char *settings[8]; /* "packets=10" … */
	int setting_count;
	char **words;
	int word_count;
};

static int misused(const char *why)
{
	fprintf(stderr, "capture: %s\n", why);
	return TG_MISUSED;
}

/* Options that the daemon reads: their names there. */
static const char *setting_of(int option)
{
	switch (option) {
	case 'c':
		return "packets";
	case 's':
		return "snap";
	case 't':
		return "seconds";
	case 'b':
		return "bytes";
	case 'd':
		return "direction";
	default:
		return NULL;
	}
}

static int take_option(struct order *order, int option)
{
	const char *setting = setting_of(option);

	if (option == 'i')
		order->instance = optarg;
	else if (option == 'w')
		order->file = optarg;
	else if (!setting)
		return TG_MISUSED;
	else if (order->setting_count == sizeof(order->settings) / sizeof(*order->settings))
		return misused("too many options");
	else if (asprintf(&order->settings[order->setting_count++], "%s=%s", setting, optarg) < 0)
		return misused("out of memory");
	return 0;
}

static int take_options(int argc, char **argv, struct order *order)
{
	static const struct option options[] = {
		{ "instance", required_argument, NULL, 'i' },
		{ "seconds", required_argument, NULL, 't' },
		{ "snap", required_argument, NULL, 's' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "direction", required_argument, NULL, 'd' },
		{ 0 },
	};
	int option, result = 0;

	optind = 0;
	while (!result && (option = getopt_long(argc, argv, "w:c:s:", options, NULL)) != -1)
		result = take_option(order, option);
	return result;
}

static int parse(int argc, char **argv, struct order *order)
{
	if (take_options(argc, argv, order))
		return TG_MISUSED;
	if (optind == argc)
		return misused("a port is needed");
	order->port = argv[optind];
	order->words = argv + optind + 1;
	order->word_count = argc - optind - 1;
	return order->word_count > WORDS_MAX ? misused("too many words for a match") : 0;
}

/* A new file, of this command's caller: nothing is written over, nor a symbolic link followed. */
static int open_file(const char *path, struct tg_error *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno == EEXIST)
		return tg_fail(error, -EEXIST,
			"%s: is there already, and a capture never writes over anything", path);
	return tg_fail(error, -errno, "%s: %s", path, strerror(errno));
}

/* The write end of a pipe whose packets are printed. */
static int open_printer(struct tg_printer **printer, struct tg_error *error)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return tg_fail(error, -errno, "pipe: %s", strerror(errno));
	*printer = tg_printer_start(fds[0], error);
	if (*printer)
		return fds[1];
	close(fds[1]);
	return -EAGAIN;
}

static int open_target(
	const struct order *order, struct tg_printer **printer, struct tg_error *error)
{
	int fd;

	if (!order->file)
		return open_printer(printer, error);
	if (strcmp(order->file, "-"))
		return open_file(order->file, error);
	if (isatty(STDOUT_FILENO))
		return tg_fail(error, -EINVAL,
			"-w -: standard output is a terminal, and pcapng is not text");
	fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? tg_fail(error, -errno, "standard output: %s", strerror(errno)) : fd;
}

static int ask(struct tg_client *client, const struct order *order, struct tg_error *error)
{
	char *args[WORDS_MAX + 16];
	int n = 0;

	args[n++] = "capture";
	args[n++] = (char *)order->port;
	for (int i = 0; i < order->setting_count; i++)
		args[n++] = order->settings[i];
	args[n++] = "--";
	for (int i = 0; i < order->word_count; i++)
		args[n++] = order->words[i];
	return tg_client_request(client, n, args, error);
}

static bool is_empty(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISREG(st.st_mode) && !st.st_size;
}

/* Has the daemon write to the descriptor, until the capture is over. */
static int capture(struct tg_client *client, const struct order *order, struct tg_error *error)
{
	struct tg_printer *printer = NULL;
	int fd = open_target(order, &printer, error), code;

	if (fd < 0)
		return fd;
	client->descriptor = fd;
	code = ask(client, order, error);
	close(fd);
	if (printer && code >= 0)
		tg_printer_finish(
			printer); /* else the daemon may hold the other end, and the process just ends */
	if (code && order->file && strcmp(order->file, "-") && is_empty(order->file))
		unlink(order->file); /* it did not begin */
	return code;
}

static int run(const struct order *order)
{
	struct tg_instance instance;
	struct tg_client client;
	struct tg_error error;
	int code;

	if (tg_instance_init(&instance, order->instance, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_DFL); /* of standard output: `tidegate capture eth0 | head` just ends */
	code = tg_client_open(&client, &instance, &error);
	if (!code) {
		code = capture(&client, order, &error);
		tg_client_close(&client);
	}
	if (code >= 0)
		return code;
	fprintf(stderr, "tidegate: %s\n", error.text);
	return TG_EXIT_ENVIRONMENT;
}

int tg_cmd_capture(int argc, char **argv)
{
	struct order order = { 0 };
	int code = parse(argc, argv, &order);

	if (!code)
		code = run(&order);
	for (int i = 0; i < order.setting_count; i++)
		free(order.settings[i]);
	return code;
}
