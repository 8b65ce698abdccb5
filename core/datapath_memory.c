/* SPDX-License-Identifier: GPL-2.0-only */
/* What the datapath's tables take of the kernel's memory (see datapath.h). */
#include "datapath.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <bpf/bpf.h>

static const char *const names[] = {
#define MAP_NAME(symbol, name, needed_for) [TG_MAP_##symbol] = #name,
	TG_MAPS(MAP_NAME)
#undef MAP_NAME
};

/* As the kernel accounts for it: `memlock` in the descriptor's fdinfo; 0 if it doesn't say. */
static __u64 memory_of(int fd)
{
	unsigned long long bytes = 0;
	char path[64], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && !bytes && fgets(line, sizeof(line), file))
		sscanf(line, "memlock: %llu", &bytes);
	if (file)
		fclose(file);
	return bytes;
}

static void add_ring(void *user, struct tg_datapath *dp, __u32 index)
{
	__u64 *bytes = user;
	char path[192];
	int fd;

	snprintf(path, sizeof(path), "%s/rings/%u", dp->dir, index);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return; /* it went just then */
	*bytes += memory_of(fd);
	close(fd);
}

void tg_datapath_memory(
	struct tg_datapath *dp, void (*fn)(void *user, const char *table, __u64 bytes), void *user)
{
	__u64 rings = 0;

	tg_ring_each(dp, add_ring, &rings);
	for (int i = 0; i < TG_MAP_COUNT; i++)
		if (dp->maps[i] >= 0)
			fn(user, names[i],
				memory_of(dp->maps[i]) + (i == TG_MAP_RINGS ? rings : 0));
	if (dp->policy_pages >= 0)
		fn(user, "policy_pages", memory_of(dp->policy_pages));
}
