/* SPDX-License-Identifier: GPL-2.0-only */
#include "jiffies.h"

#include "now.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define TICKS_BEFORE(hz) ((__u32)(-300 * (int)(hz))) /* at boot: INITIAL_JIFFIES */

__u32 tg_ticks_per_second(__u64 ticks, __u64 ns)
{
	static const __u32 known[] = { 100, 250, 300, 1000 };
	__u32 best = known[0];
	double least = -1;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		double off = (double)ticks - (TICKS_BEFORE(known[i]) + ns / 1e9 * known[i]);

		off = off < 0 ? -off : off;
		if (least < 0 || off < least) {
			least = off;
			best = known[i];
		}
	}
	return best;
}

int tg_ticks_read(struct tg_ticks *ticks, struct tg_error *error)
{
	static const char frame[64];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = sizeof(frame),
		.repeat = 1);
	static struct now_bpf *program;
	int result;

	if (!program)
		program = now_bpf__open_and_load();
	if (!program)
		return tg_fail(error, -errno, "the kernel's tick count can't be read: %s",
			strerror(errno));
	result = bpf_prog_test_run_opts(bpf_program__fd(program->progs.tidegate_now), &run);
	if (result)
		return tg_fail(error, result, "the kernel's tick count can't be read: %s",
			strerror(-result));
	*ticks = (struct tg_ticks){ program->bss->jiffies, program->bss->ns,
		tg_ticks_per_second(program->bss->jiffies, program->bss->ns) };
	return 0;
}

double tg_ticks_date(const struct tg_ticks *ticks, __u64 tick)
{
	struct timespec now, since;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_MONOTONIC, &since);
	return now.tv_sec + now.tv_nsec / 1e9 -
	       (since.tv_sec + since.tv_nsec / 1e9 - ticks->now_ns / 1e9) -
	       (double)(__s64)(ticks->now - tick) / ticks->per_second;
}
