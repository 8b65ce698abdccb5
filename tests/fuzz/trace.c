// SPDX-License-Identifier: GPL-2.0-only
/* The tracer (core/trace.h) beside the live program: it says beforehand what then happens. */
#include "fuzz.h"

#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	struct tg_datapath dp;
	struct tg_tracer *tracer;
	struct tg_trace said;
	uint64_t *reasons;
} here;

static void need(int result, const struct tg_error *error)
{
	if (!result)
		return;
	fprintf(stderr, "xdp_fuzz: %s\n", error->text);
	exit(3);
}

/* The reason that has been counted once more since the last call; FORWARD if none has. */
static uint32_t counted_reason(void)
{
	uint32_t found = TG_REASON_FORWARD;

	for (uint32_t i = 0; i < TG_REASON_COUNT; i++) {
		uint64_t now = tg_datapath_reason(&here.dp, i);

		if (now != here.reasons[i])
			found = i;
		here.reasons[i] = now;
	}
	return found;
}

void trace_open(const char *instance)
{
	struct tg_error error = { "" };
	bool replaced;

	need(tg_datapath_open(&here.dp, instance, (__u64[2]){ 0, 0 }, &replaced, &error), &error);
	need(tg_datapath_specialise(&here.dp, here.dp.info.features, &error), &error);
	here.tracer = tg_tracer_new(&here.dp);
	here.reasons = calloc(TG_REASON_COUNT, sizeof(*here.reasons));
	counted_reason(); /* from here on */
}

void trace_ask(const struct bytes *in, unsigned int device)
{
	struct tg_error error = { "" };

	need(tg_tracer_run(here.tracer, device, in->at, in->length, &here.said, &error), &error);
}

uint32_t trace_class(void)
{
	for (uint32_t i = 0; i < here.said.log.count && i < TG_TRACE_STEPS; i++) {
		const struct tg_trace_step *step = &here.said.log.step[i];

		if (step->kind == TG_STEP_DENY && step->hit)
			return step->value[0];
	}
	return 0;
}

/* What else is answered meanwhile, or the clock, may decide otherwise: the limit of too_big.h. */
static bool is_of_limit(uint32_t reason)
{
	return reason == TG_REASON_TOO_BIG_ANSWERED || reason == TG_REASON_TOO_BIG_DROPPED;
}

const char *trace_differs(const struct bytes *out, uint32_t verdict)
{
	static char text[128];
	uint32_t reason = counted_reason();

	if (reason != here.said.log.reason && is_of_limit(reason) &&
		is_of_limit(here.said.log.reason))
		return NULL;
	if (here.said.verdict != verdict)
		snprintf(text, sizeof(text), "traced as %s (%s)",
			tg_verdict_name(here.said.verdict), tg_reason_name(here.said.log.reason));
	else if (here.said.log.reason != reason)
		snprintf(text, sizeof(text), "traced as %s, counted as %s",
			tg_reason_name(here.said.log.reason), tg_reason_name(reason));
	else if (here.said.size != out->length || memcmp(here.said.frame, out->at, out->length))
		return "another packet came out of its trace";
	else
		return NULL;
	return text;
}
