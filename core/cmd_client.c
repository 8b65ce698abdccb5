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

/* Reads --instance, and --json where `json` allows it; 0 or TG_MISUSED. */
static int parse(int argc, char **argv, bool json, struct request *request)
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
			return fprintf(stderr, "%s: no option --json\n", argv[0]), TG_MISUSED;
		else
			return TG_MISUSED;
	}
	request->words = argv + optind;
	request->count = argc - optind;
	return 0;
}

int tg_cmd_eval(int argc, char **argv)
{
	struct request request;

	if (parse(argc, argv, false, &request))
		return TG_MISUSED;
	if (request.count != 1) {
		fprintf(stderr, "eval: takes one argument, %d given (quote it for the shell)\n",
			request.count);
		return TG_MISUSED;
	}
	return tg_client_run(request.instance, 2, (char *[]){ "eval", request.words[0] });
}

/* A command without arguments; with --json it is sent along. */
static int plain_command(int argc, char **argv, bool json)
{
	struct request request;

	if (parse(argc, argv, json, &request))
		return TG_MISUSED;
	if (request.count) {
		fprintf(stderr, "%s: takes no arguments: \"%s\"\n", argv[0], request.words[0]);
		return TG_MISUSED;
	}
	return tg_client_run(request.instance, 1 + request.json, (char *[]){ argv[0], "--json" });
}

int tg_cmd_status(int argc, char **argv)
{
	return plain_command(argc, argv, true);
}

int tg_cmd_reload(int argc, char **argv)
{
	return plain_command(argc, argv, false);
}
