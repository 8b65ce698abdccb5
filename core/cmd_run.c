/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate run FILE…: the daemon. tidegate check FILE… and tidegate unload: by the daemon if one runs, else here
 * with a VM of their own. What they do is lua/tidegate/daemon.lua.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "controller.h"
#include "instance.h"
#include "vm.h"
#include "watchdog.h"

struct options {
	const char *instance, *netns;
	bool no_attach, json;
	int count; /* of files */
	char **files;
};

struct daemon {
	uv_loop_t loop;
	uv_signal_t interrupt, terminate, hangup;
	struct tg_vm *vm;
	struct tg_controller *controller;
	bool watched;	/* by the watchdog */
};

static int complain(const struct tg_error *error, int code)
{
	fprintf(stderr, "tidegate: %s\n", error->text);
	return code;
}

/* ---- options ---- */

static const struct option all_options[] = {
	{ "instance", required_argument, NULL, 'i' },
	{ "netns", required_argument, NULL, 'n' },
	{ "no-attach", no_argument, NULL, 'a' },
	{ "json", no_argument, NULL, 'j' },
	{ 0 },
};

/* Reads options, of which `allowed` has the letters; options may stand between files. 0 or TG_MISUSED. */
static int parse(int argc, char **argv, const char *allowed, struct options *options)
{
	int option;

	memset(options, 0, sizeof(*options));
	optind = 0;
	while ((option = getopt_long(argc, argv, "", all_options, NULL)) != -1) {
		if (!strchr(allowed, option)) {
			if (option != '?')
				fprintf(stderr, "%s: no such option here: %s\n", argv[0], argv[optind - 1]);
			return TG_MISUSED;
		}
		if (option == 'i')
			options->instance = optarg;
		else if (option == 'n')
			options->netns = optarg;
		else if (option == 'a')
			options->no_attach = true;
		else
			options->json = true;
	}
	options->files = argv + optind;
	options->count = argc - optind;
	return 0;
}

/* `words`, then the files from the root; NULL without memory. Freed with free_words. */
static char **with_files(const char *const *words, int word_count, const struct options *options)
{
	char **all = calloc(word_count + options->count + 1, sizeof(*all));

	for (int i = 0; all && i < word_count; i++)
		all[i] = strdup(words[i]);
	for (int i = 0; all && i < options->count; i++)
		all[word_count + i] = tg_client_absolute(options->files[i]);
	return all;
}

static void free_words(char **words)
{
	for (int i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

/* ---- the process ---- */

static void on_signal(uv_signal_t *handle, int number)
{
	struct daemon *daemon = handle->data;
	struct tg_error error;

	if (number != SIGHUP)
		tg_vm_exit(daemon->vm, TG_EXIT_OK);
	else if (tg_vm_call(daemon->vm, "tidegate.daemon", "reload_signal", 0, NULL, &error))
		complain(&error, 0);
}

static void watch_signal(struct daemon *daemon, uv_signal_t *handle, int number)
{
	uv_signal_init(&daemon->loop, handle);
	handle->data = daemon;
	uv_signal_start(handle, on_signal, number);
	uv_unref((uv_handle_t *)handle);
}

static int finish(struct daemon *daemon)
{
	int code = daemon->vm->exit_code;
	bool closed;

	tg_controller_close(daemon->controller);
	if (daemon->watched)
		tg_watchdog_stop();
	closed = tg_vm_close(daemon->vm);
	uv_close((uv_handle_t *)&daemon->interrupt, NULL);
	uv_close((uv_handle_t *)&daemon->terminate, NULL);
	uv_close((uv_handle_t *)&daemon->hangup, NULL);
	fflush(NULL);
	if (!closed)
		_exit(code);
	uv_run(&daemon->loop, UV_RUN_DEFAULT);
	uv_loop_close(&daemon->loop);
	return code;
}

/* What scripts may use; and what happens to one that hangs: it is put into the list at `quarantine`. */
static void set_limits(struct daemon *daemon, const char *quarantine)
{
	daemon->vm->cap = TG_VM_MEMORY;
	daemon->vm->quarantine = quarantine;
	daemon->watched = quarantine && !tg_watchdog_start(daemon->vm, TG_WATCHDOG_LIMIT,
		tg_watchdog_restart, (void *)quarantine);
}

/* A loop, a VM and a controller; daemon.FUNCTION(words…) starts what is to be done. `quarantine`:
 * the list of scripts that hung, or NULL for a command that ends soon. */
static int run_daemon(const char *function, char **words, const char *quarantine)
{
	struct daemon daemon;
	struct tg_error error;
	int count = 0;

	while (words[count])
		count++;
	uv_loop_init(&daemon.loop);
	daemon.vm = tg_vm_new(&daemon.loop, &error);
	if (!daemon.vm)
		return complain(&error, TG_EXIT_ENVIRONMENT);
	set_limits(&daemon, quarantine);
	daemon.controller = tg_controller_new(daemon.vm);
	watch_signal(&daemon, &daemon.interrupt, SIGINT);
	watch_signal(&daemon, &daemon.terminate, SIGTERM);
	watch_signal(&daemon, &daemon.hangup, SIGHUP);
	if (tg_vm_call(daemon.vm, "tidegate.daemon", function, count, words, &error)) {
		complain(&error, 0);
		tg_vm_exit(daemon.vm, TG_EXIT_NO);
	}
	while (!daemon.vm->exiting)
		uv_run(&daemon.loop, UV_RUN_DEFAULT);
	return finish(&daemon);
}

static int enter_netns(const struct options *options)
{
	struct tg_error error;
	int result = options->netns ? tg_instance_enter_netns(options->netns, &error) : 0;

	return result ? complain(&error, TG_EXIT_ENVIRONMENT) : 0;
}

/* ---- the commands ---- */

int tg_cmd_run(int argc, char **argv)
{
	struct tg_instance instance;
	struct options options;
	struct tg_error error;
	char **words;
	int lock, code;

	if (parse(argc, argv, "ina", &options))
		return TG_MISUSED;
	if (!options.count) {
		fprintf(stderr, "run: a script is missing\n");
		return TG_MISUSED;
	}
	if (tg_instance_init(&instance, options.instance, &error))
		return complain(&error, TG_EXIT_USAGE);
	lock = tg_instance_lock(&instance, &error);
	if (lock < 0)
		return complain(&error, TG_EXIT_ENVIRONMENT);
	code = enter_netns(&options);
	if (code)
		return code;
	words = with_files((const char *[]){ instance.name, instance.socket,
		options.no_attach ? "no-attach" : "attach", TIDEGATE_VERSION }, 4, &options);
	code = words ? run_daemon("run", words, instance.quarantine) : TG_EXIT_ENVIRONMENT;
	free_words(words);
	close(lock);
	return code;
}

int tg_cmd_check(int argc, char **argv)
{
	struct tg_instance instance;
	struct options options;
	struct tg_error error;
	char **words;
	int count = 0, code;

	if (parse(argc, argv, "inj", &options))
		return TG_MISUSED;
	if (!options.count) {
		fprintf(stderr, "check: a script is missing\n");
		return TG_MISUSED;
	}
	if (tg_instance_init(&instance, options.instance, &error))
		return complain(&error, TG_EXIT_USAGE);
	if (tg_client_daemon_runs(options.instance)) {
		words = with_files((const char *[]){ "check", "--json" }, 1 + options.json, &options);
		while (words && words[count])
			count++;
		code = words ? tg_client_run(options.instance, count, words) : TG_EXIT_ENVIRONMENT;
	} else {
		code = enter_netns(&options);
		words = with_files((const char *[]){ options.json ? "--json" : "" }, 1, &options);
		if (!code)
			code = words ? run_daemon("check", words, NULL) : TG_EXIT_ENVIRONMENT;
	}
	free_words(words);
	return code;
}

int tg_cmd_unload(int argc, char **argv)
{
	struct tg_instance instance;
	struct options options;
	struct tg_error error;
	int lock, code;

	if (parse(argc, argv, "i", &options))
		return TG_MISUSED;
	if (options.count) {
		fprintf(stderr, "unload: takes no arguments: \"%s\"\n", options.files[0]);
		return TG_MISUSED;
	}
	if (tg_instance_init(&instance, options.instance, &error))
		return complain(&error, TG_EXIT_USAGE);
	if (tg_client_daemon_runs(options.instance))
		return tg_client_run(options.instance, 1, (char *[]){ "unload" });
	lock = tg_instance_lock(&instance, &error);
	if (lock < 0)
		return complain(&error, TG_EXIT_ENVIRONMENT);
	code = run_daemon("unload", (char *[]){ instance.name, NULL }, NULL);
	close(lock);
	return code;
}
