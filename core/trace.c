// SPDX-License-Identifier: GPL-2.0-only
#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "flow_hash.h"

#include "trace.skel.h"

#include "xdp.skel.h"

/* Made from the same source, they have the same settings, which tg_datapath_load fills in. */
_Static_assert(sizeof(struct trace_bpf__rodata) == sizeof(struct xdp_bpf__rodata), "settings");

struct tg_tracer {
	const struct tg_datapath *dp;
	uv_mutex_t lock;
	struct trace_bpf *skeleton; /* NULL: not loaded */
	__u32 program;		    /* which of the datapath's it follows */
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

void tg_tracer_free(struct tg_tracer *tracer)
{
	if (!tracer)
		return;
	trace_bpf__destroy(tracer->skeleton);
	uv_mutex_destroy(&tracer->lock);
	free(tracer);
}

/* Loads the program, if another one has been put in force since. */
static int follow(struct tg_tracer *tracer, struct tg_error *error)
{
	__u32 current = __atomic_load_n(&tracer->dp->programs, __ATOMIC_ACQUIRE);
	int result;

	if (!current)
		return tg_fail(error, -EAGAIN, "no program is in force yet");
	if (tracer->skeleton && tracer->program == current)
		return 0;
	trace_bpf__destroy(tracer->skeleton);
	tracer->skeleton = trace_bpf__open();
	if (!tracer->skeleton)
		return tg_fail(
			error, -errno, "the tracing program can't be opened: %s", strerror(errno));
	result = tg_datapath_load(tracer->dp, tracer->skeleton->skeleton, tracer->skeleton->rodata,
		tracer->dp->info.features, error);
	tracer->program = current;
	if (result) {
		trace_bpf__destroy(tracer->skeleton);
		tracer->skeleton = NULL;
	}
	return result;
}

static int run(struct tg_tracer *tracer, unsigned int ifindex, const void *frame, size_t size,
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
