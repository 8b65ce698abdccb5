/* SPDX-License-Identifier: GPL-2.0-only */
#include "grace.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* MEMBARRIER_CMD_GLOBAL is synchronize_rcu(); kernels with nohz_full refuse it. */
void tg_grace(void)
{
	static const struct timespec rest = { .tv_nsec = 100 * 1000 * 1000 };

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		nanosleep(&rest, NULL);
}
