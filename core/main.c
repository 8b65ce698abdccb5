/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate: the commands. Each is a function in core/cmd_NAME.c. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments, *summary;
} commands[] = {
	{ "run", tg_cmd_run, "FILE…", "the daemon, in the foreground" },
	{ "check", tg_cmd_check, "FILE…", "validate files and print the plan; attaches nothing" },
	{ "reload", tg_cmd_reload, "", "load the daemon's files anew" },
	{ "status", tg_cmd_status, "[--json]", "what the daemon runs" },
	{ "eval", tg_cmd_eval, "'EXPR'", "evaluate Lua in the running daemon" },
	{ "repl", tg_cmd_repl, "", "the same, interactive" },
	{ "doctor", tg_cmd_doctor, "[DEV…]", "what this machine offers, and what is missing" },
	{ "unload", tg_cmd_unload, "", "remove everything that an instance left in the kernel" },
	{ "test", tg_cmd_test, "SPEC…", "busted inside the host: specs that may wait" },
	{ "lua", tg_cmd_lua, "FILE [ARG…]", "run a plain Lua program with the bindings" },
	{ "version", tg_cmd_version, "", "print the version" },
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void print_usage(FILE *out)
{
	fprintf(out, "usage: tidegate COMMAND [ARG…]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %-14s %s\n", commands[i].name, commands[i].arguments,
			commands[i].summary);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *command;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_usage(stdout);
		return TG_EXIT_OK;
	}
	command = argc > 1 ? find_command(argv[1]) : NULL;
	if (!command) {
		print_usage(stderr);
		return TG_EXIT_USAGE;
	}
	return command->run(argc - 1, argv + 1);
}
