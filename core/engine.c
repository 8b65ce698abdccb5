/* SPDX-License-Identifier: GPL-2.0-only */
#include "engine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

struct tg_engine {
	uv_loop_t loop;
	uv_thread_t thread;
	struct tg_mailbox *box;
	void (*on_start)(uv_loop_t *loop, void *user);
	void (*on_stop)(void *user);
	void *user;
};

static void block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void engine_main(void *arg)
{
	struct tg_engine *engine = arg;

	block_signals(); /* they are the main loop's */
	engine->on_start(&engine->loop, engine->user);
	uv_run(&engine->loop, UV_RUN_DEFAULT);
}

struct tg_engine *tg_engine_start(void (*on_start)(uv_loop_t *loop, void *user),
	void (*on_stop)(void *user), void *user, struct tg_error *error)
{
	struct tg_engine *engine = calloc(1, sizeof(*engine));
	int result = engine ? uv_loop_init(&engine->loop) : UV_ENOMEM;

	if (result)
		goto no_loop;
	engine->on_start = on_start;
	engine->on_stop = on_stop;
	engine->user = user;
	engine->box = tg_mailbox_new(&engine->loop);
	result = engine->box ? 0 : UV_ENOMEM;
	if (result)
		goto no_box;
	result = uv_thread_create(&engine->thread, engine_main, engine);
	if (!result)
		return engine;

	tg_mailbox_close(engine->box);
	uv_run(&engine->loop, UV_RUN_DEFAULT);
no_box:
	uv_loop_close(&engine->loop);
no_loop:
	free(engine);
	tg_fail(error, result, "the engine's thread can't start: %s", uv_strerror(result));
	return NULL;
}

void tg_engine_post(struct tg_engine *engine, void (*fn)(void *), void *arg)
{
	tg_mailbox_post(engine->box, fn, arg);
}

/* The last letter: with the mailbox closed and on_stop's handles gone, the loop ends by itself. */
static void stop(void *arg)
{
	struct tg_engine *engine = arg;

	engine->on_stop(engine->user);
	tg_mailbox_close(engine->box);
}

void tg_engine_stop(struct tg_engine *engine)
{
	tg_engine_post(engine, stop, engine);
	uv_thread_join(&engine->thread);
	uv_loop_close(&engine->loop);
	free(engine);
}
