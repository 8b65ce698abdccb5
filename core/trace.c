// SPDX-License-Identifier: GPL-2.0-only
#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "datapath_load.h"
#include "flow_hash.h"

#include "tc_trace.skel.h"
#include "trace.skel.h"

#include "xdp.skel.h"

/* Made from the same source, they have the same settings, which tg_datapath_load fills in. */
_Static_assert(sizeof(struct trace_bpf__rodata) == sizeof(struct xdp_bpf__rodata), "settings");

struct tg_tracer {
	const struct tg_datapath *dp;
	uv_mutex_t lock;
	struct trace_bpf *skeleton; /* NULL: not loaded */
	struct tc_trace_bpf *tc;    /* likewise; or no port needs TC */
	__u32 program;		    /* which of the datapath's they follow */
};

struct tg_tracer *tg_tracer_new(const struct tg_datapath *dp)
{
	struct tg_tracer *tracer = calloc(1, sizeof(*tracer));

	if (!tracer)
		return NULL;
	tracer->dp = dp;
	uv_mutex_init(&tracer->lock);
	return tracer;
}

static void forget(struct tg_tracer *tracer)
{
	trace_bpf__destroy(tracer->skeleton);
	tc_trace_bpf__destroy(tracer->tc);
	tracer->skeleton = NULL;
	tracer->tc = NULL;
}

void tg_tracer_free(struct tg_tracer *tracer)
{
	if (!tracer)
		return;
	forget(tracer);
	uv_mutex_destroy(&tracer->lock);
	free(tracer);
}

static int load_xdp(struct tg_tracer *tracer, struct tg_error *error)
{
	tracer->skeleton = trace_bpf__open();
	if (!tracer->skeleton)
		return tg_fail(
			error, -errno, "the tracing program can't be opened: %s", strerror(errno));
	return tg_datapath_load(tracer->dp, tracer->skeleton->skeleton, tracer->skeleton->rodata,
		tracer->dp->info.features, error);
}

static int load_tc(struct tg_tracer *tracer, struct tg_error *error)
{
	const struct tg_datapath *dp = tracer->dp;
	struct tg_policies policies = { dp->policy_pages, dp->info.policy_words,
		dp->info.policy_hash };

	if (!(dp->info.features & TG_FEATURES_TC))
		return 0;
	tracer->tc = tc_trace_bpf__open();
	if (!tracer->tc)
		return tg_fail(
			error, -errno, "the tracing program can't be opened: %s", strerror(errno));
	return tg_load_object(dp, tracer->tc->skeleton, tracer->tc->rodata, dp->info.features,
		&policies, error);
}

/* Loads the programs, if others have been put in force since. */
static int follow(struct tg_tracer *tracer, struct tg_error *error)
{
	__u32 current = __atomic_load_n(&tracer->dp->programs, __ATOMIC_ACQUIRE);
	int result;

	if (!current)
		return tg_fail(error, -EAGAIN, "no program is in force yet");
	if (tracer->skeleton && tracer->program == current)
		return 0;
	forget(tracer);
	result = load_xdp(tracer, error);
	if (!result)
		result = load_tc(tracer, error);
	tracer->program = current;
	if (result)
		forget(tracer);
	return result;
}

static int run_xdp(struct tg_tracer *tracer, unsigned int ifindex, const void *frame, size_t size,
	struct tg_trace *out)
{
	struct xdp_md context = { .data_end = size, .ingress_ifindex = ifindex };
	struct tg_trace_log *log = &tracer->skeleton->bss->trace_log;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = size,
		.data_out = out->frame, .data_size_out = sizeof(out->frame), .ctx_in = &context,
		.ctx_size_in = sizeof(context), .repeat = 1);
	int result;

	log->count = 0;
	log->reason = TG_REASON_NONE;
	result = bpf_prog_test_run_opts(
		bpf_program__fd(tracer->skeleton->progs.tidegate_xdp), &options);
	if (result)
		return result;
	out->verdict = options.retval;
	out->size = options.data_size_out;
	out->log = *log;
	return 0;
}

/* Behind what the first program noted. */
static void append(struct tg_trace_log *log, const struct tg_trace_log *more)
{
	__u32 first = more->count > TG_TRACE_STEPS ? more->count - TG_TRACE_STEPS : 0;

	for (__u32 i = first; i < more->count; i++)
		log->step[log->count++ % TG_TRACE_STEPS] = more->step[i % TG_TRACE_STEPS];
	if (more->reason != TG_REASON_NONE)
		log->reason = more->reason;
}

static bool has_tc(const struct tg_tracer *tracer, unsigned int ifindex)
{
	struct tg_port port;

	return tracer->tc && !bpf_map_lookup_elem(tracer->dp->maps[TG_MAP_PORTS], &ifindex, &port) &&
	       port.flags & TG_PORT_TC;
}

/* What XDP let pass meets TC's program next. */
static int run_tc(struct tg_tracer *tracer, unsigned int ifindex, struct tg_trace *out)
{
	struct __sk_buff context = { .ifindex = ifindex };
	struct tg_trace_log *log = &tracer->tc->bss->trace_log;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = out->frame, .data_size_in = out->size,
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1);
	int result;

	log->count = 0;
	log->reason = TG_REASON_NONE;
	result = bpf_prog_test_run_opts(
		bpf_program__fd(tracer->tc->progs.tidegate_ingress), &options);
	if (result)
		return result;
	append(&out->log, log);
	if (log->reason == TG_REASON_POLICY_DROP || log->reason == TG_REASON_POLICY_REJECT)
		out->verdict = XDP_DROP;
	return 0;
}

static int run(struct tg_tracer *tracer, unsigned int ifindex, const void *frame, size_t size,
	struct tg_trace *out)
{
	int result = run_xdp(tracer, ifindex, frame, size, out);

	if (result || out->verdict != XDP_PASS || !has_tc(tracer, ifindex))
		return result;
	return run_tc(tracer, ifindex, out);
}

int tg_tracer_run(struct tg_tracer *tracer, unsigned int ifindex, const void *frame, size_t size,
	struct tg_trace *out, struct tg_error *error)
{
	int result;

	if (size < TG_FRAME_MIN)
		return tg_fail(error, -EINVAL, "a frame has %d bytes at least, this one %zu",
			TG_FRAME_MIN, size);
	uv_mutex_lock(&tracer->lock);
	result = follow(tracer, error);
	if (!result) {
		result = run(tracer, ifindex, frame, size, out);
		if (result)
			tg_fail(error, result,
				"the kernel does not run a frame of %zu bytes on device %u: %s",
				size, ifindex, strerror(-result));
	}
	uv_mutex_unlock(&tracer->lock);
	return result;
}

const char *tg_verdict_name(__u32 verdict)
{
	static const char *const names[] = { "aborted", "drop", "pass", "tx", "redirect" };

	return verdict < sizeof(names) / sizeof(*names) ? names[verdict] : "?";
}

const char *tg_reason_name(__u32 reason)
{
	static const char *const names[TG_REASON_COUNT] = { [TG_REASON_NONE] = "none",
		[TG_REASON_FORWARD] = "forward",
#define REASON_NAME(symbol, name) [TG_REASON_##symbol] = name,
		TG_PASS_REASONS(REASON_NAME) TG_DROP_REASONS(REASON_NAME)
#undef REASON_NAME
	};

	return reason < TG_REASON_COUNT && names[reason] ? names[reason] : "?";
}
