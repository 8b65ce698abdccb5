/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>

struct delivery {
	struct tg_controller *controller;
	struct tg_event event;
};

struct tg_controller *tg_controller_new(struct tg_vm *vm)
{
	struct tg_controller *controller = calloc(1, sizeof(*controller));

	if (!controller)
		return NULL;
	controller->vm = vm;
	controller->on_event = LUA_NOREF;
	controller->home = tg_mailbox_new(vm->loop);
	tg_mailbox_hold(controller->home, false); /* an idle engine is no reason to go on */
	vm->user = controller;
	return controller;
}

static void set_field(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

/* In the main thread: one call of Lua's handler. */
static void deliver(void *arg)
{
	struct delivery *delivery = arg;
	struct tg_controller *controller = delivery->controller;
	lua_State *L = controller->vm->L;

	if (controller->on_event != LUA_NOREF) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, controller->on_event);
		lua_createtable(L, 0, 4);
		set_field(L, "name", delivery->event.name);
		set_field(L, "service", delivery->event.service);
		set_field(L, "backend", delivery->event.backend);
		set_field(L, "reason", delivery->event.reason);
		tg_vm_pcall(controller->vm, 1, 0);
	}
	free(delivery);
}

static void on_event(void *user, const struct tg_event *event)
{
	struct tg_controller *controller = user;
	struct delivery *delivery = malloc(sizeof(*delivery));

	if (!delivery)
		return;
	*delivery = (struct delivery){ controller, *event };
	tg_mailbox_post(controller->home, deliver, delivery);
}

static void engine_started(uv_loop_t *loop, void *user)
{
	struct tg_controller *controller = user;

	controller->balancer = tg_balancer_new(
		loop, &controller->datapath, on_event, controller, &controller->engine_error);
	uv_sem_post(&controller->ready);
}

static void engine_stopping(void *user)
{
	struct tg_controller *controller = user;

	if (controller->balancer)
		tg_balancer_close(controller->balancer);
}

int tg_controller_ask(struct tg_controller *controller, const struct tg_addr *addr,
	void (*done)(void *user, const struct tg_nexthop *hop), void *user, struct tg_error *error)
{
	int result = 0;

	if (!controller->neighbour)
		result = tg_neighbour_open(controller->vm->loop, &controller->neighbour, error);
	return result ? result : tg_nexthop_ask(controller->neighbour, addr, done, user);
}

static void close_neighbour(struct tg_controller *controller)
{
	if (controller->neighbour)
		tg_neighbour_close(controller->neighbour, NULL, NULL);
	controller->neighbour = NULL;
}

static int start_engine(struct tg_controller *controller, struct tg_error *error)
{
	uv_sem_init(&controller->ready, 0);
	controller->engine = tg_engine_start(engine_started, engine_stopping, controller, error);
	if (!controller->engine)
		return -EAGAIN;
	uv_sem_wait(&controller->ready);
	uv_sem_destroy(&controller->ready);
	if (controller->balancer)
		return 0;
	*error = controller->engine_error;
	tg_engine_stop(controller->engine);
	controller->engine = NULL;
	return -EIO;
}

int tg_controller_start(struct tg_controller *controller, struct tg_error *error)
{
	int result;

	close_neighbour(controller);
	result = start_engine(controller, error);
	if (result)
		return result;
	controller->lister =
		tg_lister_start(&controller->datapath, controller->datapath.info.name, error);
	if (controller->lister)
		return 0;
	tg_engine_stop(controller->engine);
	controller->engine = NULL;
	controller->balancer = NULL;
	return -EAGAIN;
}

int tg_controller_stop(struct tg_controller *controller)
{
	if (controller->vm->calls)
		return -EBUSY;
	if (controller->captures)
		tg_captures_free(controller->captures);
	if (controller->lister)
		tg_lister_stop(controller->lister);
	if (controller->engine)
		tg_engine_stop(controller->engine);
	close_neighbour(controller);
	tg_tracer_free(controller->tracer);
	controller->tracer = NULL;
	tg_taps_free(controller->taps);
	controller->taps = NULL;
	if (controller->opened)
		tg_datapath_close(&controller->datapath);
	controller->captures = NULL;
	controller->lister = NULL;
	controller->engine = NULL;
	controller->balancer = NULL;
	controller->opened = false;
	return 0;
}

void tg_controller_close(struct tg_controller *controller)
{
	while (tg_controller_stop(controller)) /* calls use the controller, and answer to the VM */
		uv_run(controller->vm->loop, UV_RUN_ONCE);
	tg_mailbox_close(controller->home);
	luaL_unref(controller->vm->L, LUA_REGISTRYINDEX, controller->on_event);
	controller->vm->user = NULL;
	free(controller);
}
