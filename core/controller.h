/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a daemon holds beside its VM: the datapath, the engine and the balancer in it. One a process;
 * the binding (lua_controller.c) and cmd_run.c use it in the main thread.
 */
#ifndef TG_CONTROLLER_H
#define TG_CONTROLLER_H

#include "balancer.h"
#include "capture.h"
#include "datapath.h"
#include "engine.h"
#include "lister.h"
#include "taps.h"
#include "trace.h"
#include "vm.h"

struct tg_controller {
	struct tg_vm *vm;
	struct tg_mailbox *home;	/* the engine's letters to the main thread */
	struct tg_datapath datapath;
	struct tg_tracer *tracer;	/* from when the datapath is open */
	struct tg_taps *taps;		/* the main thread's; NULL until somebody asks for them */
	struct tg_engine *engine;	/* NULL until started */
	struct tg_balancer *balancer;	/* belongs to the engine's thread */
	struct tg_lister *lister;	/* with a thread of its own; NULL until started */
	struct tg_captures *captures;	/* made by the first one (lua_capture.c), or NULL */
	struct tg_neighbour *neighbour;	/* the main thread's own, for questions without an engine; or NULL */
	struct tg_error engine_error;
	uv_sem_t ready;
	int on_event;			/* reference to Lua's handler, or LUA_NOREF */
	bool opened;
};

struct tg_controller *tg_controller_new(struct tg_vm *vm);
/* Starts the engine and the balancer in it; the datapath is open and specialised. Blocks briefly. */
int tg_controller_start(struct tg_controller *controller, struct tg_error *error);
/* As tg_balancer_route, in the main thread and without an engine. Not with a question under way at the start. */
int tg_controller_ask(struct tg_controller *controller, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user, struct tg_error *error);
/*
 * Ends the engine and closes the datapath, which goes on; another one can be opened then. With calls
 * (core/call.h) under way nothing happens: -EBUSY.
 */
int tg_controller_stop(struct tg_controller *controller);
/* Waits for calls, stops, and frees the controller. Before tg_vm_close. */
void tg_controller_close(struct tg_controller *controller);

#endif
