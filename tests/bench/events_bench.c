/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * events_bench [--json FILE]: how many events a second get from the ring to a handler in Lua, tg.on("*", fn,
 * { batch = 0.1 }), which looks at each; a second of the reading thread's processor time, which is all of it where
 * the machine has nothing else to do. A thread lets the datapath's own code tell of a packet of a rule with
 * `event` as long as the ring is not three quarters full: nothing is lost, and the reader is what limits. The sources
 * are 65,536, by turns. The floor is the same without Lua: the ring read, and each record looked at, in C.
 * Medians of ROUNDS, by turns.
 */
#include "events.h"
#include "flow_hash.h"
#include "tidegate_abi.h"
#include "vm.h"

#include "events_bench.skel.h"

#include <bpf/bpf.h>
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS	5
#define SECONDS 1.0
#define REPEAT	64

static const char script[] =
	"local core, event = require 'tidegate.core.events', require 'tidegate.event'\n"
	"local seen, drops = 0, 0\n"
	"event.on('*', function(list)\n"
	"  for i = 1, #list do\n"
	"    local ev = list[i]\n"
	"    if ev.dport == 23 and ev.action == 'drop' and #ev.src > 0 then drops = drops + 1 end\n"
	"  end\n"
	"  seen = seen + #list\n"
	"end, { batch = 0.1 })\n"
	"function bench_begin(pin)\n"
	"  seen, drops = 0, 0\n"
	"  assert(core.open(pin, event.emit_all))\n"
	"end\n"
	"function bench_end()\n"
	"  core.stop()\n"
	"  assert(seen == drops and next(event.lost()) == nil)\n"
	"  return seen\n"
	"end\n";

struct bench {
	struct events_bench_bpf *object;
	struct tg_vm *vm;
	uv_loop_t loop;
	uv_timer_t timer;
	uv_thread_t thread;
	atomic_bool stop;
	__u64 in_c;
	char pin[64];
	double lua[ROUNDS], c[ROUNDS];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void tell(void *user)
{
	static const char frame[64];
	struct bench *bench = user;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame),
		.repeat = REPEAT);

	while (!bench->stop)
		if (bpf_prog_test_run_opts(
			    bpf_program__fd(bench->object->progs.bench_events), &opts))
			die("test run");
}

static void over(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static double thread_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* The loop runs, and is told of packets, for SECONDS; how long it worked. */
static double run(struct bench *bench)
{
	double start = thread_seconds();

	bench->stop = false;
	if (uv_thread_create(&bench->thread, tell, bench))
		die("thread");
	uv_timer_start(&bench->timer, over, SECONDS * 1000, 0);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	start = thread_seconds() - start;
	bench->stop = true;
	uv_thread_join(&bench->thread);
	return start;
}

static void count_in_c(void *user, const struct tg_packet_event *events, size_t count)
{
	struct bench *bench = user;

	for (size_t i = 0; i < count; i++)
		bench->in_c += ntohs(events[i].dport) == 23;
}

static double rate_in_c(struct bench *bench)
{
	struct tg_error error;
	struct tg_events *events = tg_events_open(
		&bench->loop, bpf_map__fd(bench->object->maps.events), count_in_c, bench, &error);
	double seconds;

	if (!events)
		die(error.text);
	bench->in_c = 0;
	seconds = run(bench);
	tg_events_close(events);
	uv_run(&bench->loop, UV_RUN_NOWAIT);
	return bench->in_c / seconds;
}

static double rate_in_lua(struct bench *bench)
{
	lua_State *L = bench->vm->L;
	double seconds, rate;

	lua_getglobal(L, "bench_begin");
	lua_pushstring(L, bench->pin);
	if (!tg_vm_pcall(bench->vm, 1, 0))
		exit(1);
	seconds = run(bench);
	lua_getglobal(L, "bench_end");
	if (!tg_vm_pcall(bench->vm, 0, 1))
		exit(1);
	rate = lua_tointeger(L, -1) / seconds;
	lua_pop(L, 1);
	uv_run(&bench->loop, UV_RUN_NOWAIT);
	return rate;
}

static void prepare(struct bench *bench)
{
	struct tg_error error;

	bench->object = events_bench_bpf__open();
	if (!bench->object)
		die("open");
	bench->object->rodata->features = TG_FEATURE_POLICY;
	if (events_bench_bpf__load(bench->object))
		die("load");
	snprintf(bench->pin, sizeof(bench->pin), "/sys/fs/bpf/tidegate-bench-%d", getpid());
	if (bpf_obj_pin(bpf_map__fd(bench->object->maps.events), bench->pin))
		die(bench->pin);
	uv_loop_init(&bench->loop);
	uv_timer_init(&bench->loop, &bench->timer);
	bench->vm = tg_vm_new(&bench->loop, &error);
	if (!bench->vm)
		die(error.text);
	bench->vm->cap = TG_VM_MEMORY;
	if (luaL_loadbuffer(bench->vm->L, script, sizeof(script) - 1, "=script") ||
		!tg_vm_pcall(bench->vm, 0, 0))
		exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	static struct bench bench;
	FILE *json = argc > 2 && !strcmp(argv[1], "--json") ? fopen(argv[2], "a") : NULL;
	double lua, c;

	prepare(&bench);
	for (int i = 0; i < ROUNDS; i++) {
		bench.c[i] = rate_in_c(&bench);
		bench.lua[i] = rate_in_lua(&bench);
	}
	unlink(bench.pin);
	lua = median(bench.lua);
	c = median(bench.c);
	printf("%-18s %10.0f events/s to Lua, %.0f to C alone\n", "events.batch", lua, c);
	if (json)
		fprintf(json,
			"{\"name\":\"events.batch\",\"value\":%.0f,\"unit\":\"events/"
			"s\",\"floor\":%.0f,\"ratio\":%.3f}\n",
			lua, c, lua / c);
	return json && fclose(json);
}
