/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate repl: an interactive `eval`. One connection for the whole session, since the session's
 * globals live with it. The daemon says whether an entry goes on in the next line
 * (TG_EXIT_INCOMPLETE); the entry is then sent again, longer.
 *
 * On a terminal: libedit, history in ~/.tidegate_history, Ctrl-C drops the entry, or cancels what
 * runs; Ctrl-D ends. Otherwise lines are read plainly, and the exit code is 1 if an entry failed.
 */
#include <errno.h>
#include <getopt.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/ttydefaults.h>
#include <unistd.h>
#include <wchar.h>

#include "client.h"
#include "cmd.h"

#define HISTORY_SIZE 1000

struct repl {
	struct tg_instance instance;
	struct tg_client client;	/* fd -1: not connected */
	EditLine *editor;		/* NULL: not a terminal */
	History *history;
	char *line;			/* getline's */
	size_t line_room;
	char *entry;			/* the lines so far; NULL: none */
	bool dropped;			/* Ctrl-C at the prompt */
	int code;			/* worst so far */
};

/* --- the editor --- */

static struct repl *repl_of(EditLine *editor)
{
	struct repl *repl;

	el_get(editor, EL_CLIENTDATA, &repl);
	return repl;
}

static char *prompt(EditLine *editor)
{
	static char first[] = "> ", next[] = ">> ";

	return repl_of(editor)->entry ? next : first;
}

/*
 * The next key. Ctrl-C ends the line, to be dropped. (A function bound to Ctrl-C would be the usual way,
 * but libedit never frees the name of one.)
 */
static int read_key(EditLine *editor, wchar_t *key)
{
	mbstate_t state = { 0 };
	size_t used = -2;
	char byte;

	while (used == (size_t)-2) {	/* a character that goes on in the next byte */
		ssize_t n = read(STDIN_FILENO, &byte, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n;
		used = mbrtowc(key, &byte, 1, &state);
	}
	if (used == (size_t)-1)
		*key = L'?';
	if (*key == CTRL('c')) {
		fputs("^C", stdout);
		repl_of(editor)->dropped = true;
		*key = L'\n';
	}
	return 1;
}

/* NULL without a home directory: no history is kept. To be freed. */
static char *history_path(void)
{
	const char *home = getenv("HOME");
	char *path;

	return !home || asprintf(&path, "%s/.tidegate_history", home) < 0 ? NULL : path;
}

static void open_history(struct repl *repl)
{
	char *path = history_path();
	HistEvent event;

	repl->history = history_init();
	history(repl->history, &event, H_SETSIZE, HISTORY_SIZE);
	history(repl->history, &event, H_SETUNIQUE, 1);
	if (path)
		history(repl->history, &event, H_LOAD, path);
	free(path);
}

static void save_history(struct repl *repl)
{
	char *path = history_path();
	mode_t mask = umask(077);
	HistEvent event;

	if (path && history(repl->history, &event, H_SAVE, path) < 0)
		fprintf(stderr, "tidegate: %s: history not saved\n", path);
	umask(mask);
	free(path);
}

/* Ctrl-C arrives as a key: no signal is made of it while a line is edited. */
static void open_editor(struct repl *repl)
{
	setlocale(LC_CTYPE, "");
	repl->editor = el_init("tidegate", stdin, stdout, stderr);
	if (!repl->editor)
		return;
	open_history(repl);
	el_set(repl->editor, EL_CLIENTDATA, repl);
	el_set(repl->editor, EL_PROMPT, prompt);
	el_set(repl->editor, EL_SIGNAL, 1);
	el_set(repl->editor, EL_EDITOR, "emacs");
	el_set(repl->editor, EL_HIST, history, repl->history);
	el_set(repl->editor, EL_GETCFN, read_key);
	el_set(repl->editor, EL_SETTY, "-d", "-isig", NULL);
	el_source(repl->editor, NULL);
	printf("tidegate %s, instance \"%s\" (Ctrl-C cancels, Ctrl-D ends)\n", TIDEGATE_VERSION,
		repl->instance.name);
}

static void close_editor(struct repl *repl)
{
	if (!repl->editor)
		return;
	save_history(repl);
	history_end(repl->history);
	el_end(repl->editor);
}

/* --- entries --- */

/* A line with its newline, "" for a dropped one, or NULL at the end. */
static const char *read_line(struct repl *repl)
{
	const char *line;
	int count;

	repl->dropped = false;
	if (!repl->editor)
		return getline(&repl->line, &repl->line_room, stdin) < 0 ? NULL : repl->line;
	line = el_gets(repl->editor, &count);
	if (repl->dropped)
		return "";
	if (!line)
		putchar('\n');
	return line;
}

static void forget_entry(struct repl *repl)
{
	free(repl->entry);
	repl->entry = NULL;
}

static int append(struct repl *repl, const char *line)
{
	char *entry = NULL;

	if (asprintf(&entry, "%s%s", repl->entry ? repl->entry : "", line) < 0)
		return -ENOMEM;
	free(repl->entry);
	repl->entry = entry;
	return 0;
}

static int complain(struct repl *repl, const struct tg_error *error)
{
	fprintf(stderr, "tidegate: %s\n", error->text);
	tg_client_close(&repl->client);
	return TG_EXIT_ENVIRONMENT;
}

/* Sends the entry; a lost connection is made anew at the next one (with other globals). */
static int send_entry(struct repl *repl, bool last)
{
	char *argv[] = { "repl", repl->entry, "last" };
	struct tg_error error;
	int code;

	if (repl->client.fd < 0 && tg_client_open(&repl->client, &repl->instance, &error))
		return complain(repl, &error);
	code = tg_client_request(&repl->client, last ? 3 : 2, argv, &error);
	return code < 0 ? complain(repl, &error) : code;
}

static void remember(struct repl *repl)
{
	HistEvent event;

	if (repl->editor)
		history(repl->history, &event, H_ENTER, repl->entry);
}

static void run_entry(struct repl *repl, bool last)
{
	int code = send_entry(repl, last);

	if (code == TG_EXIT_INCOMPLETE)
		return;
	if (code > repl->code)
		repl->code = code;
	remember(repl);
	forget_entry(repl);
}

static bool is_blank(const char *line)
{
	return !line[strspn(line, " \t\r\n")];
}

/* Lines until the end of input, or until a script's daemon is gone. */
static void run(struct repl *repl)
{
	const char *line;

	while ((line = read_line(repl))) {
		if (repl->dropped)
			forget_entry(repl);
		else if ((repl->entry || !is_blank(line)) && !append(repl, line))
			run_entry(repl, false);
		if (!repl->editor && repl->client.fd < 0)
			return;
	}
	if (repl->entry)
		run_entry(repl, true);
	forget_entry(repl);
}

/* 0, TG_MISUSED or TG_EXIT_USAGE. */
static int parse(int argc, char **argv, struct repl *repl)
{
	static const struct option options[] = { { "instance", required_argument, NULL, 'i' }, { 0 } };
	const char *name = NULL;
	struct tg_error error;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'i')
			return TG_MISUSED;
		name = optarg;
	}
	if (optind < argc) {
		fprintf(stderr, "repl: takes no arguments: \"%s\"\n", argv[optind]);
		return TG_MISUSED;
	}
	if (!tg_instance_init(&repl->instance, name, &error))
		return 0;
	fprintf(stderr, "tidegate: %s\n", error.text);
	return TG_EXIT_USAGE;
}

int tg_cmd_repl(int argc, char **argv)
{
	struct repl repl = { .client.fd = -1 };
	struct tg_error error;
	int code = parse(argc, argv, &repl);

	if (code)
		return code;
	if (tg_client_open(&repl.client, &repl.instance, &error))
		return complain(&repl, &error);
	signal(SIGPIPE, SIG_DFL);
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		open_editor(&repl);
	run(&repl);
	close_editor(&repl);
	tg_client_close(&repl.client);
	free(repl.line);
	return repl.editor ? TG_EXIT_OK : repl.code;
}
