/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate.core.balancer: services and what becomes of flows, for the library alone; of the instance that
 * tidegate.core.controller has started. Callbacks as there.
 */
#include "controller_lua.h"
#include "refuse.h"
#include "spec_lua.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int luaopen_tidegate_core_balancer(lua_State *L);

static struct tg_controller *started(lua_State *L)
{
	struct tg_controller *controller = tg_controller_opened(L);

	if (!controller->engine)
		luaL_error(L, "the engine is not started");
	return controller;
}

static void start_in_engine(struct tg_controller *controller, struct tg_call *call)
{
	tg_call_in_engine(call, controller->engine, controller->home);
}

struct apply_call {
	struct tg_call call;
	struct tg_spec *spec;
};

static void work_apply(struct tg_call *call)
{
	struct apply_call *this = (struct apply_call *)call;

	call->code =
		tg_balancer_apply(tg_controller_of_call(call)->balancer, this->spec, &call->error);
	this->spec = NULL;
}

/* apply(services, partial, done): makes the services those named; `partial` leaves others alone. */
static int l_apply(lua_State *L)
{
	struct tg_controller *controller = started(L);
	struct apply_call *this;

	tg_push_spec(L, 1);
	this = tg_call_new(L, sizeof(*this), 3);
	this->spec = tg_spec_take(L, -1);
	this->spec->partial = lua_toboolean(L, 2);
	this->call.work = work_apply;
	start_in_engine(controller, &this->call);
	return 0;
}

struct status_call {
	struct tg_call call;
	struct tg_status *status;
};

static void work_status(struct tg_call *call)
{
	struct status_call *this = (struct status_call *)call;

	this->status = tg_balancer_status(tg_controller_of_call(call)->balancer);
	call->code = this->status ? 0 : -ENOMEM;
}

static int push_status(struct tg_call *call, lua_State *L)
{
	tg_push_status(L, ((struct status_call *)call)->status);
	return 1;
}

static void release_status(struct tg_call *call)
{
	struct status_call *this = (struct status_call *)call;

	if (this->status)
		tg_status_free(this->status);
}

/* status(done): done(list of services) */
static int l_status(lua_State *L)
{
	struct tg_controller *controller = started(L);
	struct status_call *this = tg_call_new(L, sizeof(*this), 1);

	this->call.work = work_status;
	this->call.push = push_status;
	this->call.release = release_status;
	start_in_engine(controller, &this->call);
	return 0;
}

struct lookup_call {
	struct tg_call call;
	char service[TG_NAME_SIZE];
	struct tg_flow flow;
	struct tg_lookup found;
};

static void work_lookup(struct tg_call *call)
{
	struct lookup_call *this = (struct lookup_call *)call;

	call->code = tg_balancer_lookup(tg_controller_of_call(call)->balancer, this->service,
		&this->flow, &this->found, &call->error);
}

static int push_endpoint(lua_State *L, const struct tg_addr *addr, uint16_t port)
{
	char text[TG_ADDR_TEXT];

	lua_pushstring(L, tg_addr_print(addr, text));
	if (port)
		lua_pushinteger(L, port);
	else
		lua_pushnil(L);
	return 2;
}

static int push_lookup(struct tg_call *call, lua_State *L)
{
	struct lookup_call *this = (struct lookup_call *)call;
	int values = push_endpoint(L, &this->found.addr, this->found.port);

	if (this->found.moves)
		values += push_endpoint(L, &this->found.fresh_addr, this->found.fresh_port);
	return values;
}

/*
 * lookup(service, flow, done): done(backend's address, its port or nil) and, if the flow would go to another
 * one if it began now, that one's; `flow` as tg_check_flow reads it.
 */
static int l_lookup(lua_State *L)
{
	struct tg_controller *controller = started(L);
	const char *service = luaL_checkstring(L, 1);
	struct tg_flow flow = tg_check_flow(L, 2);
	struct lookup_call *this = tg_call_new(L, sizeof(*this), 3);

	snprintf(this->service, sizeof(this->service), "%s", service);
	this->flow = flow;
	this->call.work = work_lookup;
	this->call.push = push_lookup;
	start_in_engine(controller, &this->call);
	return 0;
}

struct route_call {
	struct tg_call call;
	struct tg_addr addr;
	struct tg_nexthop hop;
};

static void on_route(void *user, const struct tg_nexthop *hop)
{
	struct route_call *this = user;

	this->hop = *hop;
	tg_call_answer(&this->call);
}

static void work_route(struct tg_call *call)
{
	struct route_call *this = (struct route_call *)call;

	call->code =
		tg_balancer_route(tg_controller_of_call(call)->balancer, &this->addr, on_route, this);
	call->later = call->code == 0;
}

/* The same without an engine, as for `check` when no daemon runs. */
static void route_here(struct tg_controller *controller, struct route_call *this)
{
	this->call.home = controller->home;
	this->call.code =
		tg_controller_ask(controller, &this->addr, on_route, this, &this->call.error);
	if (this->call.code)
		tg_call_answer(&this->call);
}

static int push_route(struct tg_call *call, lua_State *L)
{
	tg_push_nexthop(L, &((struct route_call *)call)->hop);
	return 1;
}

/* route(addr, done): done(next hop), as the kernel would reach it. With or without an engine. */
static int l_route(lua_State *L)
{
	struct tg_controller *controller = tg_controller_of(L);
	struct tg_addr addr = tg_check_addr(L, 1);
	struct route_call *this = tg_call_new(L, sizeof(*this), 2);

	this->addr = addr;
	this->call.work = work_route;
	this->call.push = push_route;
	if (controller->engine)
		start_in_engine(controller, &this->call);
	else
		route_here(controller, this);
	return 0;
}

struct report {
	struct tg_controller *controller;
	struct tg_probe_result result;
	char key[];
};

static void take_report(void *arg)
{
	struct report *report = arg;

	tg_balancer_report(report->controller->balancer, report->key, &report->result);
	free(report);
}

/* report(check_key, ok, reason, latency): the result of a check that a script ran. */
static int l_report(lua_State *L)
{
	struct tg_controller *controller = started(L);
	const char *key = luaL_checkstring(L, 1), *reason = luaL_optstring(L, 3, "");
	double latency = luaL_optnumber(L, 4, 0);
	struct report *report = calloc(1, sizeof(*report) + strlen(key) + 1);

	if (!report)
		return luaL_error(L, "out of memory");
	report->controller = controller;
	report->result.ok = lua_toboolean(L, 2);
	report->result.latency_ns = latency * 1e9;
	snprintf(report->result.reason, sizeof(report->result.reason), "%s", reason);
	strcpy(report->key, key);
	tg_engine_post(controller->engine, take_report, report);
	return 0;
}

struct tune_call {
	struct tg_call call;
	uint64_t idle_ms;
	uint32_t newcomers;
};

static void work_tune(struct tg_call *call)
{
	struct tune_call *this = (struct tune_call *)call;

	tg_balancer_tune(tg_controller_of_call(call)->balancer, this->idle_ms, this->newcomers);
}

/* tune(idle, newcomers, done): see tg_balancer_tune; seconds, 0: the default. done(true) */
static int l_tune(lua_State *L)
{
	struct tg_controller *controller = started(L);
	double idle = luaL_checknumber(L, 1);
	lua_Integer newcomers = luaL_checkinteger(L, 2);
	struct tune_call *this;

	luaL_argcheck(L, idle >= 0 && idle <= 86400, 1, "0 to 86400 s");
	luaL_argcheck(L, newcomers >= 0 && newcomers <= UINT32_MAX, 2, "0 to 2^32 - 1");
	this = tg_call_new(L, sizeof(*this), 3);
	this->idle_ms = idle * 1000;
	this->newcomers = newcomers;
	this->call.work = work_tune;
	start_in_engine(controller, &this->call);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "apply", l_apply },
	{ "status", l_status },
	{ "lookup", l_lookup },
	{ "tune", l_tune },
	{ "route", l_route },
	{ "report", l_report },
	{ NULL, NULL },
};

int luaopen_tidegate_core_balancer(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
