/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate lua FILE [ARG…] and tidegate test SPEC…: a program of lua/tidegate/program.lua as a task
 * on a loop of its own, until it ends or exits. SIGINT and SIGTERM end it in good order, so that
 * its <close> variables run.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "controller.h"
#include "vm.h"

struct program {
	uv_loop_t loop;
	uv_signal_t interrupt, terminate;
	struct tg_vm *vm;
	struct tg_controller *controller; /* for programs that drive a datapath of their own */
};

static void on_signal(uv_signal_t *handle, int number)
{
	tg_vm_exit(handle->data, 128 + number);
}

static void watch_signal(struct program *program, uv_signal_t *handle, int number)
{
	uv_signal_init(&program->loop, handle);
	handle->data = program->vm;
	uv_signal_start(handle, on_signal, number);
	uv_unref((uv_handle_t *)handle);
}

static int finish(struct program *program)
{
	int code = program->vm->exit_code;
	bool closed;

	tg_controller_close(program->controller);
	closed = tg_vm_close(program->vm);

	uv_close((uv_handle_t *)&program->interrupt, NULL);
	uv_close((uv_handle_t *)&program->terminate, NULL);
	fflush(NULL);
	if (!closed)
		_exit(code);
	uv_run(&program->loop, UV_RUN_DEFAULT);
	uv_loop_close(&program->loop);
	return code;
}

static int run(const char *function, int argc, char **argv)
{
	struct program program;
	struct tg_error error;

	uv_loop_init(&program.loop);
	program.vm = tg_vm_new(&program.loop, &error);
	if (!program.vm) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_ENVIRONMENT;
	}
	program.controller = tg_controller_new(program.vm);
	watch_signal(&program, &program.interrupt, SIGINT);
	watch_signal(&program, &program.terminate, SIGTERM);
	if (tg_vm_call(program.vm, "tidegate.program", function, argc - 1, argv + 1, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		tg_vm_exit(program.vm, TG_EXIT_NO);
	}
	if (!program.vm->exiting && !uv_run(&program.loop, UV_RUN_DEFAULT) && !program.vm->exiting) {
		fprintf(stderr, "tidegate: the program waits, and nothing is left to wake it\n");
		tg_vm_exit(program.vm, TG_EXIT_NO);
	}
	return finish(&program);
}

int tg_cmd_lua(int argc, char **argv)
{
	return argc < 2 ? TG_MISUSED : run("lua", argc, argv);
}

int tg_cmd_test(int argc, char **argv)
{
	return argc < 2 ? TG_MISUSED : run("test", argc, argv);
}
