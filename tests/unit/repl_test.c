/* SPDX-License-Identifier: GPL-2.0-only */
/* The REPL on a terminal: a person's keys on one side, a scripted daemon on the other. */
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "console.h"
#include "frame.h"
#include "unit.h"

#define SCREEN_ROOM 65536
#define PATIENCE_MS 5000

static struct tg_instance instance;
static char home[] = "/tmp/tidegate-repl.XXXXXX", history_file[64];
static int listener, terminal;
static pid_t repl;
static pthread_t daemon_thread;
static char screen[SCREEN_ROOM];
static size_t seen, shown;	/* of screen: looked at, arrived */

/* --- the daemon: "1+" goes on, "wait" waits for a cancel, everything else is echoed --- */

static void reply(int fd, const char *text, char code)
{
	tg_frame_send(fd, TG_FRAME_OUTPUT, text, strlen(text));
	tg_frame_send(fd, TG_FRAME_EXIT, &code, 1);
}

static void answer(int fd, const struct tg_frame *frame)
{
	char text[256];
	const char *entry = (const char *)frame->data + strlen("repl") + 1;

	if (frame->type == TG_FRAME_CANCEL)
		reply(fd, "<cancelled>\n", 1);
	else if (!strcmp(entry, "1+\n"))
		reply(fd, "", (char)TG_EXIT_INCOMPLETE);
	else if (!strcmp(entry, "wait\n"))
		tg_frame_send(fd, TG_FRAME_OUTPUT, "<waiting>\n", 10);
	else {
		snprintf(text, sizeof(text), "<%s>\n", entry);
		for (char *newline; (newline = strchr(text, '\n')) && newline[1];)
			*newline = '|';
		reply(fd, text, 0);
	}
}

static void *serve(void *data)
{
	struct pollfd pollfd = { .fd = listener, .events = POLLIN };
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame;
	int fd;

	CHECK_INT(1, poll(&pollfd, 1, PATIENCE_MS));
	fd = accept(listener, NULL, NULL);
	do
		while (tg_frame_next(&reader, &frame) > 0)
			answer(fd, &frame);
	while (tg_frame_fill(&reader, fd) > 0);
	tg_frame_reader_free(&reader);
	close(fd);
	return NULL;
}

/* --- the person --- */

static void start(void)
{
	listener = tg_console_listen(instance.socket, NULL);
	CHECK(listener >= 0);
	seen = shown = 0;
	repl = forkpty(&terminal, NULL, NULL, NULL);
	if (!repl) {
		char *argv[] = { "repl", "--instance", instance.name, NULL };

		setenv("HOME", home, 1);
		setenv("TERM", "vt100", 1);
		setenv("LC_ALL", "C.UTF-8", 1);
		exit(tg_cmd_repl(3, argv));
	}
	/* Only now: a lock that the thread held at the fork, malloc's say, would stay held in the child. */
	CHECK_INT(0, pthread_create(&daemon_thread, NULL, serve, NULL));
}

static int end(void)
{
	int status;

	waitpid(repl, &status, 0);
	pthread_join(daemon_thread, NULL);
	close(listener);
	close(terminal);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool look(void)
{
	struct pollfd pollfd = { .fd = terminal, .events = POLLIN };
	ssize_t n;

	if (poll(&pollfd, 1, PATIENCE_MS) < 1)
		return false;
	n = read(terminal, screen + shown, sizeof(screen) - 1 - shown);
	if (n > 0)
		shown += n;
	screen[shown] = 0;
	return n > 0;
}

/* Waits until the screen shows `text` after what was seen before. */
static void expect(const char *text)
{
	char *found;

	screen[shown] = 0;
	while (!(found = strstr(screen + seen, text)))
		if (!look()) {
			fprintf(stderr, "waited for \"%s\" in \"%s\"\n", text, screen + seen);
			unit_faults++;
			return;
		}
	seen = found - screen + strlen(text);
}

/* Waits for a prompt, and until keys are read one by one: libedit prints first. */
static void expect_prompt(const char *text)
{
	struct termios mode;

	expect(text);
	for (int i = 0; i < PATIENCE_MS; i++) {
		if (!tcgetattr(terminal, &mode) && !(mode.c_lflag & ICANON))
			return;
		usleep(1000);
	}
	unit_faults++;
}

static void type(const char *keys)
{
	CHECK_INT(strlen(keys), write(terminal, keys, strlen(keys)));
}

/* --- tests --- */

static void entries_are_sent_and_answers_shown(void)
{
	start();
	expect("instance \"");
	expect_prompt("> ");
	type("1 + 2\r");
	expect("<1 + 2|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
}

static void an_entry_goes_on_until_it_is_complete(void)
{
	start();
	expect_prompt("> ");
	type("1+\r");
	expect_prompt(">> ");
	type("2\r");
	expect("<1+|2|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
}

static void ctrl_c_drops_the_entry_at_the_prompt(void)
{
	start();
	expect_prompt("> ");
	type("1+\r");
	expect_prompt(">> ");
	type("rubbish\003");
	expect("^C\r\n");
	expect_prompt("> ");
	type("x\r");
	expect("<x|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
}

static void ctrl_c_cancels_what_runs(void)
{
	start();
	expect_prompt("> ");
	type("wait\r");
	expect("<waiting>");
	type("\003");
	expect("<cancelled>");
	expect_prompt("> ");
	type("y\r");
	expect("<y|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
}

static void history_is_kept_for_its_owner_alone(void)
{
	struct stat st;

	unlink(history_file);
	start();
	expect_prompt("> ");
	type("from grün before\r");
	expect("<from grün before|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
	CHECK_INT(0, stat(history_file, &st));
	CHECK_INT(S_IFREG | 0600, st.st_mode);
	start();
	expect_prompt("> ");
	type("\020\r");		/* Ctrl-P: the entry before */
	expect("<from grün before|>");
	expect_prompt("> ");
	type("\004");
	CHECK_INT(0, end());
}

int main(void)
{
	char name[32];

	alarm(60);
	snprintf(name, sizeof(name), "repl-%d", getpid());
	CHECK_INT(0, tg_instance_init(&instance, name, NULL));
	close(tg_instance_lock(&instance, NULL));	/* makes /run/tidegate */
	CHECK(mkdtemp(home) != NULL);
	snprintf(history_file, sizeof(history_file), "%s/.tidegate_history", home);
	RUN(entries_are_sent_and_answers_shown);
	RUN(an_entry_goes_on_until_it_is_complete);
	RUN(ctrl_c_drops_the_entry_at_the_prompt);
	RUN(ctrl_c_cancels_what_runs);
	RUN(history_is_kept_for_its_owner_alone);
	unlink(history_file);
	rmdir(home);
	unlink(instance.socket);
	unlink(instance.lock);
	return unit_result();
}
