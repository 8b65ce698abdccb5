/* SPDX-License-Identifier: GPL-2.0-only */
/* The watchdog and the quarantine. Called with --daemon LIST SCRIPT it is the program that hangs. */
#include "watchdog.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "quarantine.h"
#include "unit.h"

static struct tg_vm *vm;
static char list[64], script[64];

static struct {
	int count;
	char task[64], script[64];
	uint64_t lasted;
} seen;

static void note(void *user, const struct tg_hang *hang)
{
	seen.count++;
	snprintf(seen.task, sizeof(seen.task), "%s", hang->task);
	snprintf(seen.script, sizeof(seen.script), "%s", hang->script);
	seen.lasted = hang->lasted;
}

/* Runs `body` as a task with a budget of 50 ms. */
static void run_task(const char *path, const char *body)
{
	lua_State *L = vm->L;
	const char *code =
		"local path, body = ...\n"
		"local core = require 'tidegate.core.host'\n"
		"core.run(coroutine.create(load(body, '=body', 't', { core = core })), 'probe', path, 0.05)";

	if (luaL_loadstring(L, code) != LUA_OK)
		abort();
	lua_pushstring(L, path);
	lua_pushstring(L, body);
	CHECK_INT(1, tg_vm_pcall(vm, 2, 0));
}

static void write_script(const char *text)
{
	int fd = open(script, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK_INT((long long)strlen(text), write(fd, text, strlen(text)));
	close(fd);
}

static void a_call_that_does_not_come_back_is_reported_once_with_its_task_and_script(void)
{
	memset(&seen, 0, sizeof(seen));
	CHECK_INT(0, tg_watchdog_start(vm, 40000000, note, NULL));
	run_task("/etc/app.lua", "core.hang(0.3)");
	tg_watchdog_stop();
	CHECK_INT(1, seen.count);
	CHECK_STR("probe", seen.task);
	CHECK_STR("/etc/app.lua", seen.script);
	CHECK(seen.lasted >= 90000000);
}

static void a_task_within_its_budget_and_an_idle_loop_are_not_reported(void)
{
	memset(&seen, 0, sizeof(seen));
	CHECK_INT(0, tg_watchdog_start(vm, 40000000, note, NULL));
	for (int i = 0; i < 6; i++)
		run_task("/etc/app.lua", "core.hang(0.03)");
	usleep(150000);
	tg_watchdog_stop();
	CHECK_INT(0, seen.count);
}

static void a_task_that_the_guard_can_stop_is_not_reported_however_slow_the_machine(void)
{
	memset(&seen, 0, sizeof(seen));
	CHECK_INT(0, tg_watchdog_start(vm, 40000000, note, NULL));
	run_task("/etc/app.lua", "for i = 1, 30 do core.hang(0.01) for j = 1, 2000 do end end");
	CHECK_INT(0, seen.count);
	run_task("/etc/app.lua", "for i = 1, 10 do core.hang(0.01) for j = 1, 2000 do end end core.hang(0.2)");
	tg_watchdog_stop();
	CHECK_INT(1, seen.count);
}

static void a_script_is_held_in_quarantine_until_it_changes(void)
{
	write_script("return 1");
	CHECK_INT(TG_QUARANTINE_NONE, tg_quarantine_of(list, script));
	CHECK_INT(0, tg_quarantine_add(list, script, TG_QUARANTINE_TASK));
	CHECK_INT(TG_QUARANTINE_TASK, tg_quarantine_of(list, script));
	write_script("return 2");
	CHECK_INT(TG_QUARANTINE_NONE, tg_quarantine_of(list, script));
	CHECK_INT(0, tg_quarantine_add(list, script, TG_QUARANTINE_LOAD));
	CHECK_INT(0, tg_quarantine_add(list, script, TG_QUARANTINE_TASK));
	CHECK_INT(TG_QUARANTINE_LOAD, tg_quarantine_of(list, script));
	write_script("return 1");	/* that one hung as well */
	CHECK_INT(TG_QUARANTINE_TASK, tg_quarantine_of(list, script));
	CHECK_INT(TG_QUARANTINE_NONE, tg_quarantine_of(list, "/nonexistent"));
	CHECK(tg_quarantine_add(list, "/nonexistent", TG_QUARANTINE_LOAD) < 0);
	unlink(list);
}

/* The program under test: hangs, unless its script is in quarantine. */
static int daemon_main(const char *its_list, const char *its_script)
{
	if (tg_quarantine_of(its_list, its_script) == TG_QUARANTINE_TASK)
		return 42;
	alarm(20);
	tg_watchdog_start(vm, 40000000, tg_watchdog_restart, (void *)its_list);
	run_task(its_script, "core.hang(5)");
	return 1;
}

static void a_daemon_that_hangs_starts_anew_without_the_script(void)
{
	int status;
	pid_t child;

	write_script("hang()");
	child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "watchdog_test", "--daemon", list, script, NULL);
		_exit(1);
	}
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status));
	CHECK_INT(42, WEXITSTATUS(status));
	unlink(list);
	unlink(script);
}

int main(int argc, char **argv)
{
	struct tg_error error;
	uv_loop_t loop;
	int code;

	uv_loop_init(&loop);
	vm = tg_vm_new(&loop, &error);
	if (!vm)
		return 1;
	if (argc == 4 && !strcmp(argv[1], "--daemon")) {
		code = daemon_main(argv[2], argv[3]);
		tg_vm_close(vm);
		uv_loop_close(&loop);
		return code;
	}
	snprintf(list, sizeof(list), "/tmp/tg-watchdog-%d.quarantine", getpid());
	snprintf(script, sizeof(script), "/tmp/tg-watchdog-%d.lua", getpid());
	RUN(a_call_that_does_not_come_back_is_reported_once_with_its_task_and_script);
	RUN(a_task_within_its_budget_and_an_idle_loop_are_not_reported);
	RUN(a_task_that_the_guard_can_stop_is_not_reported_however_slow_the_machine);
	RUN(a_script_is_held_in_quarantine_until_it_changes);
	RUN(a_daemon_that_hangs_starts_anew_without_the_script);
	tg_vm_close(vm);
	uv_loop_close(&loop);
	return unit_result();
}
