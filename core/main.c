/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate: the commands. Each is a function in core/cmd_NAME.c. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments, *summary;
} commands[] = {
	{ "run", tg_cmd_run, "FILE… [--instance NAME] [--netns NETNS] [--no-attach]",
		"the daemon, in the foreground" },
	{ "check", tg_cmd_check, "FILE… [--json] [--instance NAME] [--netns NETNS]",
		"validate files and print the plan; changes nothing" },
	{ "reload", tg_cmd_reload, "[--instance NAME]", "load the daemon's files anew" },
	{ "status", tg_cmd_status, "[--json] [--instance NAME]", "what the daemon runs" },
	{ "trace", tg_cmd_trace, "PORT PACKET|--hex DIGITS|--pcap FILE [--json] [--instance NAME]",
		"what would become of a packet, and by which tables; changes nothing" },
	{ "capture", tg_cmd_capture,
		"PORT [-w FILE.pcapng] [-c N] [--seconds N] [--bytes N] [--snap N] [--direction WHICH] "
		"[--instance NAME] [MATCH…]",
		"packets of a port, with what became of them: to a file, a pipe, or as text" },
	{ "eval", tg_cmd_eval, "'EXPR' [--instance NAME]", "evaluate Lua in the running daemon" },
	{ "repl", tg_cmd_repl, "[--instance NAME]", "the same, interactive" },
	{ "decap", tg_cmd_decap,
		"DEVICE [--vip ADDR]… [--to ADDR]… [--gue-port N] [--xdp MODE] [--netns NETNS] "
		"[--counters|--detach]",
		"on a backend: take packets of ipip and gue out, until --detach" },
	{ "doctor", tg_cmd_doctor, "[DEV…] [--instance NAME] [--netns NETNS]",
		"what this machine offers, and what is missing" },
	{ "unload", tg_cmd_unload, "[--instance NAME]",
		"remove everything that an instance has in the kernel, and end its daemon" },
	{ "test", tg_cmd_test, "SPEC…", "busted inside the host: specs that may wait" },
	{ "lua", tg_cmd_lua, "FILE [ARG…]", "run a plain Lua program with the bindings" },
	{ "version", tg_cmd_version, "", "print the version" },
};

/* What the words in `arguments` mean; those that a command has are explained with it. */
static const struct {
	const char *word, *meaning;
} meanings[] = {
	{ "FILE…", "Lua scripts, loaded as one whole, in sorted order" },
	{ "'EXPR'", "an expression, whose values are printed as Lua, or statements" },
	{ "PORT", "one of the daemon's ports" },
	{ "-w FILE.pcapng", "a new file; - is standard output. Without it, a line of text a packet" },
	{ "-c N", "end after so many packets" },
	{ "--seconds N", "end after so long" },
	{ "--bytes N", "end before the file is larger (\"100M\")" },
	{ "--snap N", "so many bytes of each packet at most" },
	{ "--direction WHICH", "ingress, egress or both; default: both" },
	{ "MATCH…", "what a policy's rule matches by, as proto=tcp dport=80,443 src=10.0.0.0/8; or a tcpdump expression" },
	{ "PACKET", "as text: 'tcp 192.0.2.7:40000 > 198.51.100.10:443 S', 'icmp 192.0.2.7 > 198.51.100.10'" },
	{ "--hex DIGITS", "the frame, as tcpdump -xx prints it" },
	{ "--pcap FILE", "each packet of a capture (pcap or pcapng); - is standard input" },
	{ "DEVICE", "what the switch's packets come in by" },
	{ "--vip ADDR", "a VIP to take packets out for; default: the addresses of lo, but 127.0.0.0/8 and ::1" },
	{ "--to ADDR", "where the tunnel leads; default: the addresses of DEVICE. All other packets pass untouched" },
	{ "--gue-port N", "UDP port of gue; default: 6080" },
	{ "--xdp MODE", "auto, native or generic" },
	{ "--counters", "print what became of packets in tunnels" },
	{ "--detach", "end it" },
	{ "DEV…", "network devices; default: all but loopback" },
	{ "SPEC…", "files of busted specs, and busted's own options" },
	{ "--json", "for programs instead of people" },
	{ "--instance NAME", "which daemon: several run side by side; default: \"default\"" },
	{ "--netns NETNS", "the network namespace to enter, a name or a path" },
	{ "--no-attach", "everything but attaching to devices" },
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* UTF-8: a column a character. */
static int columns(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static int print_usage(FILE *out, int code)
{
	fprintf(out, "usage: tidegate COMMAND [ARG…]\n\n");
	for (size_t i = 0; i < COUNT(commands); i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "\n`tidegate COMMAND --help` shows its arguments. Exit codes:\n"
		     "  0  fine; check: nothing would change\n"
		     "  1  the answer is no, or a script is faulty\n"
		     "  2  wrong usage\n"
		     "  3  the environment refuses: privilege, kernel, device, no daemon\n"
		     "  4  check: the plan has changes\n");
	return code;
}

static int print_command(FILE *out, const struct command *command, int code)
{
	fprintf(out, "usage: tidegate %s%s%s\n", command->name, *command->arguments ? " " : "",
		command->arguments);
	if (code)
		return code;
	fprintf(out, "%s\n\n", command->summary);
	for (size_t i = 0; i < COUNT(meanings); i++)
		if (strstr(command->arguments, meanings[i].word))
			fprintf(out, "  %s%*s%s\n", meanings[i].word,
				18 - columns(meanings[i].word), "", meanings[i].meaning);
	return code;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COUNT(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static bool asks_for_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

int main(int argc, char **argv)
{
	const struct command *command;
	int code;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return print_usage(stderr, TG_EXIT_USAGE);
	if (asks_for_help(argv[1]) || !strcmp(argv[1], "help"))
		return print_usage(stdout, TG_EXIT_OK);
	command = find_command(argv[1]);
	if (!command) {
		fprintf(stderr, "tidegate: there is no command \"%s\"\n", argv[1]);
		return print_usage(stderr, TG_EXIT_USAGE);
	}
	if (argc > 2 && asks_for_help(argv[2]))
		return print_command(stdout, command, TG_EXIT_OK);
	code = command->run(argc - 1, argv + 1);
	return code == TG_MISUSED ? print_command(stderr, command, TG_EXIT_USAGE) : code;
}
