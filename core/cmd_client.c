/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Commands that ask the running daemon and print its answer: `eval`, `status`, `reload`. Their
 * options are checked here, so that a wrong one needs no daemon to be told so; what they do is
 * registered in Lua (lua/tidegate/console.lua).
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"

struct request {
	const char *instance;
	bool json;
	char **words;		/* what follows the options */
	int count;
};

static int usage(const char *text)
{
	fprintf(stderr, "usage: tidegate %s\n", text);
	return TG_EXIT_USAGE;
}

/* Reads --instance, and --json where `json` allows it; 0 or TG_EXIT_USAGE, said what was wrong. */
static int parse(int argc, char **argv, bool json, const char *help, struct request *request)
{
	static const struct option options[] = {
		{ "instance", required_argument, NULL, 'i' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	int option;

	memset(request, 0, sizeof(*request));
	optind = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'i')
			request->instance = optarg;
		else if (option == 'j' && json)
			request->json = true;
		else if (option == 'j')
			return fprintf(stderr, "%s: no option --json\n", argv[0]), usage(help);
		else
			return usage(help);
	}
	request->words = argv + optind;
	request->count = argc - optind;
	return 0;
}

int tg_cmd_eval(int argc, char **argv)
{
	static const char help[] = "eval [--instance NAME] 'EXPRESSION or STATEMENTS'";
	struct request request;

	if (parse(argc, argv, false, help, &request))
		return TG_EXIT_USAGE;
	if (request.count != 1) {
		fprintf(stderr, "eval: takes one argument, %d given (quote it for the shell)\n",
			request.count);
		return usage(help);
	}
	return tg_client_run(request.instance, 2, (char *[]){ "eval", request.words[0] });
}

/* A command without arguments; with --json it is sent along. */
static int plain_command(int argc, char **argv, bool json, const char *help)
{
	struct request request;

	if (parse(argc, argv, json, help, &request))
		return TG_EXIT_USAGE;
	if (request.count) {
		fprintf(stderr, "%s: takes no arguments: \"%s\"\n", argv[0], request.words[0]);
		return usage(help);
	}
	return tg_client_run(request.instance, 1 + request.json, (char *[]){ argv[0], "--json" });
}

int tg_cmd_status(int argc, char **argv)
{
	return plain_command(argc, argv, true, "status [--instance NAME] [--json]");
}

int tg_cmd_reload(int argc, char **argv)
{
	return plain_command(argc, argv, false, "reload [--instance NAME]");
}
