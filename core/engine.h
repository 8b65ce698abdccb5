/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The engine: a thread with a loop of its own for what must not wait for a script: probes, next
 * hops, rings. The main thread posts work to it and gets answers through its own mailbox. Nothing
 * that lives here is touched by another thread, so there are no locks.
 */
#ifndef TG_ENGINE_H
#define TG_ENGINE_H

#include "error.h"
#include "mailbox.h"

struct tg_engine;

/*
 * Starts the thread. `on_start` runs first in it, `on_stop` last; the handles that the latter closes
 * get the loop's turns that they need. Returns NULL with `error` filled on failure.
 */
struct tg_engine *tg_engine_start(void (*on_start)(uv_loop_t *loop, void *user),
	void (*on_stop)(void *user), void *user, struct tg_error *error);
/* Runs fn(arg) in the engine's thread. From any thread. */
void tg_engine_post(struct tg_engine *engine, void (*fn)(void *), void *arg);
/* Stops the thread, waits for it and frees the engine. */
void tg_engine_stop(struct tg_engine *engine);

#endif
