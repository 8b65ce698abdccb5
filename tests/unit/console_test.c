/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket: instance names and locks, the listening socket, and the client against a scripted daemon. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "console.h"
#include "frame.h"
#include "instance.h"
#include "unit.h"

static struct tg_instance instance;

/* An instance of our own, so that tests beside each other don't meet. */
static void name_instance(void)
{
	char name[32];

	snprintf(name, sizeof(name), "test-%d", getpid());
	CHECK_INT(0, tg_instance_init(&instance, name, NULL));
}

static void remove_instance(void)
{
	unlink(instance.socket);
	unlink(instance.lock);
}

static void a_name_leads_to_its_paths(void)
{
	struct tg_instance web;

	CHECK_INT(0, tg_instance_init(&web, NULL, NULL));
	CHECK_STR("/run/tidegate/default.sock", web.socket);
	CHECK_INT(0, tg_instance_init(&web, "web-1_B", NULL));
	CHECK_STR("/run/tidegate/web-1_B.sock", web.socket);
	CHECK_STR("/run/tidegate/web-1_B.lock", web.lock);
	CHECK_STR("/sys/fs/bpf/tidegate/web-1_B", web.pins);
	CHECK_INT(0, tg_instance_init(&web, "12345678901234567890123456789012", NULL));
	CHECK_STR("/sys/fs/bpf/tidegate/12345678901234567890123456789012", web.pins);
}

static void a_name_that_could_lead_elsewhere_is_refused(void)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "../x", "a b", "a.ro", "ä", "a\n",
		"123456789012345678901234567890123" };
	struct tg_instance any;
	struct tg_error error;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_INT(-EINVAL, tg_instance_init(&any, bad[i], &error));
		CHECK(strstr(error.text, "letters, digits"));
	}
}

static void a_second_daemon_is_told_who_holds_the_instance(void)
{
	struct tg_error error;
	char holder[64];
	int first, second;

	first = tg_instance_lock(&instance, &error);
	CHECK(first >= 0);
	CHECK_INT(-EBUSY, tg_instance_lock(&instance, &error));
	snprintf(holder, sizeof(holder), "process %d holds", getpid());
	CHECK(strstr(error.text, holder));
	close(first);
	second = tg_instance_lock(&instance, &error);
	CHECK(second >= 0);
	close(second);
}

static void a_network_namespace_that_is_none_is_refused(void)
{
	struct tg_error error;

	CHECK_INT(-ENOENT, tg_instance_enter_netns("test-no-such-namespace", &error));
	CHECK(strstr(error.text, "test-no-such-namespace"));
	CHECK_INT(-EINVAL, tg_instance_enter_netns("/proc/self/ns/uts", &error));
	CHECK(strstr(error.text, "no network namespace"));
	CHECK_INT(0, tg_instance_enter_netns("/proc/self/ns/net", &error));
}

static void the_socket_is_for_its_owner_alone(void)
{
	struct stat st;
	int fd = tg_console_listen(instance.socket, NULL);

	CHECK(fd >= 0);
	CHECK_INT(0, stat(instance.socket, &st));
	CHECK_INT(S_IFSOCK | 0600, st.st_mode);
	close(fd);
}

static void a_dead_daemons_socket_is_replaced_and_a_file_is_not(void)
{
	struct tg_error error;
	int fd;

	close(tg_console_listen(instance.socket, NULL));	/* as after kill -9: the name stays */
	fd = tg_console_listen(instance.socket, &error);
	CHECK(fd >= 0);
	close(fd);
	unlink(instance.socket);
	close(open(instance.socket, O_CREAT | O_WRONLY, 0600));
	CHECK_INT(-EEXIST, tg_console_listen(instance.socket, &error));
	CHECK(strstr(error.text, instance.socket));
	CHECK_INT(0, access(instance.socket, F_OK));
	unlink(instance.socket);
}

static void without_a_daemon_the_error_names_the_socket(void)
{
	struct tg_client client;
	struct tg_error error;

	unlink(instance.socket);
	CHECK_INT(-ENOENT, tg_client_open(&client, &instance, &error));
	CHECK(strstr(error.text, instance.socket));
	close(tg_console_listen(instance.socket, NULL));
	CHECK_INT(-ECONNREFUSED, tg_client_open(&client, &instance, &error));
	CHECK(strstr(error.text, instance.socket));
	CHECK(!tg_client_daemon_runs(instance.name));
}

/* The scripted daemon: accepts one connection and plays `play` on it. */
struct daemon {
	int listener;
	void (*play)(int fd);
	pthread_t thread;
};

static void *play(void *data)
{
	struct daemon *daemon = data;
	struct pollfd pollfd = { .fd = daemon->listener, .events = POLLIN };
	struct ucred peer;
	int fd;

	CHECK_INT(1, poll(&pollfd, 1, 5000));
	fd = accept(daemon->listener, NULL, NULL);

	CHECK_INT(0, tg_console_peer(fd, &peer));
	CHECK_INT(geteuid(), peer.uid);
	CHECK(tg_console_welcomes(&peer));
	daemon->play(fd);
	close(fd);
	return NULL;
}

static void start_daemon(struct daemon *daemon, void (*script)(int fd))
{
	daemon->listener = tg_console_listen(instance.socket, NULL);
	daemon->play = script;
	CHECK(daemon->listener >= 0);
	CHECK_INT(0, pthread_create(&daemon->thread, NULL, play, daemon));
}

static void end_daemon(struct daemon *daemon)
{
	pthread_join(daemon->thread, NULL);
	close(daemon->listener);
}

/* Waits for a frame of `type` with exactly this payload. */
static void expect(int fd, char type, const void *payload, size_t size)
{
	struct tg_frame_reader reader = { 0 };
	struct tg_frame frame = { 0 };

	while (!tg_frame_next(&reader, &frame) && tg_frame_fill(&reader, fd) > 0)
		;
	CHECK_INT(type, frame.type);
	CHECK_INT(size, frame.size);
	CHECK(frame.size == size && !memcmp(frame.data, payload, size));
	tg_frame_reader_free(&reader);
}

/* Runs a request in a child whose output is collected; its exit code, 1000 + signal if it was killed. */
static int run_client(char *output, size_t room, int argc, char *const argv[])
{
	int pipes[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	CHECK_INT(0, pipe(pipes));
	pid = fork();
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		dup2(pipes[1], STDERR_FILENO);
		_exit(tg_client_run(instance.name, argc, argv));
	}
	close(pipes[1]);
	while ((n = read(pipes[0], output + used, room - 1 - used)) > 0)
		used += n;
	output[used] = 0;
	close(pipes[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void answer_and_exit(int fd)
{
	expect(fd, 'R', "eval\0\0two words\0", 16);
	tg_frame_send(fd, TG_FRAME_OUTPUT, "out ", 4);
	tg_frame_send(fd, TG_FRAME_ERROR, "err ", 4);
	tg_frame_send(fd, TG_FRAME_OUTPUT, "put", 3);
	tg_frame_send(fd, TG_FRAME_EXIT, "\4", 1);
}

static void an_answer_is_copied_and_its_code_returned(void)
{
	struct daemon daemon;
	char output[256];

	start_daemon(&daemon, answer_and_exit);
	CHECK_INT(4, run_client(output, sizeof(output), 3, (char *[]){ "eval", "", "two words" }));
	CHECK_STR("out err put", output);
	end_daemon(&daemon);
}

static void interrupt_client(int fd)
{
	struct ucred peer;

	CHECK_INT(0, tg_console_peer(fd, &peer));
	CHECK_INT(0, kill(peer.pid, SIGINT));
}

static void answer_the_cancel(int fd)
{
	expect(fd, 'R', "wait\0", 5);
	interrupt_client(fd);
	expect(fd, 'C', "", 0);
	tg_frame_send(fd, TG_FRAME_ERROR, "cancelled", 9);
	tg_frame_send(fd, TG_FRAME_EXIT, "\1", 1);
}

static void ignore_the_cancel(int fd)
{
	char byte;

	expect(fd, 'R', "wait\0", 5);
	interrupt_client(fd);
	expect(fd, 'C', "", 0);
	interrupt_client(fd);
	CHECK_INT(0, read(fd, &byte, 1));	/* it left */
}

static void an_interrupt_cancels_the_request_and_a_second_one_leaves(void)
{
	struct daemon daemon;
	char output[256];

	start_daemon(&daemon, answer_the_cancel);
	CHECK_INT(1, run_client(output, sizeof(output), 1, (char *[]){ "wait" }));
	CHECK_STR("cancelled", output);
	end_daemon(&daemon);
	start_daemon(&daemon, ignore_the_cancel);
	CHECK_INT(TG_EXIT_ENVIRONMENT, run_client(output, sizeof(output), 1, (char *[]){ "wait" }));
	CHECK(strstr(output, "left without waiting"));
	end_daemon(&daemon);
}

static void die_midway(int fd)
{
	expect(fd, 'R', "status\0", 7);
	CHECK_INT(7, write(fd, "\0\0\0\5Ohe", 7));
}

static void a_daemon_that_dies_midway_is_an_error(void)
{
	struct daemon daemon;
	char output[256];

	start_daemon(&daemon, die_midway);
	CHECK_INT(TG_EXIT_ENVIRONMENT, run_client(output, sizeof(output), 1, (char *[]){ "status" }));
	CHECK(strstr(output, "closed the connection"));
	end_daemon(&daemon);
}

static void a_file_is_named_from_the_root(void)
{
	char directory[4096], want[8192], *path;

	CHECK(getcwd(directory, sizeof(directory)) != NULL);
	snprintf(want, sizeof(want), "%s/a.lua", directory);
	path = tg_client_absolute("a.lua");
	CHECK_STR(want, path);
	free(path);
	path = tg_client_absolute("/etc/a.lua");
	CHECK_STR("/etc/a.lua", path);
	free(path);
}

int main(void)
{
	alarm(30);		/* a test that waits in vain fails */
	name_instance();
	RUN(a_name_leads_to_its_paths);
	RUN(a_name_that_could_lead_elsewhere_is_refused);
	RUN(a_second_daemon_is_told_who_holds_the_instance);
	RUN(a_network_namespace_that_is_none_is_refused);
	RUN(the_socket_is_for_its_owner_alone);
	RUN(a_dead_daemons_socket_is_replaced_and_a_file_is_not);
	RUN(without_a_daemon_the_error_names_the_socket);
	RUN(an_answer_is_copied_and_its_code_returned);
	RUN(an_interrupt_cancels_the_request_and_a_second_one_leaves);
	RUN(a_daemon_that_dies_midway_is_an_error);
	RUN(a_file_is_named_from_the_root);
	remove_instance();
	return unit_result();
}
