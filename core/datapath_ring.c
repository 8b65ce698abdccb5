/* SPDX-License-Identifier: GPL-2.0-only */
/* The datapath's rings: one mapped slot table a service and family (see datapath.h). */
#include "datapath.h"
#include "slots.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void ring_path(const struct tg_datapath *dp, __u32 index, char path[192])
{
	snprintf(path, 192, "%s/rings/%u", dp->dir, index);
}

/* Slots, and what was seen of them. */
static size_t bytes_of(const struct tg_ring *ring)
{
	return TG_RING_ELEMENTS(ring->size) * sizeof(__u64);
}

static int map_slots(struct tg_ring *ring)
{
	void *memory = mmap(
		NULL, bytes_of(ring), PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	ring->slots = memory;
	return 0;
}

int tg_ring_create(struct tg_datapath *dp, __u32 index, __u32 size, struct tg_ring *ring,
	struct tg_error *error)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	char path[192];
	int result = 0;

	*ring = (struct tg_ring){ .index = index, .size = size };
	ring_path(dp, index, path);
	unlink(path);
	ring->fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tg_ring", 4, sizeof(__u64),
		TG_RING_ELEMENTS(size), &options);
	if (ring->fd < 0)
		result = -errno;
	else if (bpf_obj_pin(ring->fd, path))
		result = -errno;
	else
		result = map_slots(ring);
	if (!result)
		return 0;
	unlink(path);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = (struct tg_ring){ .fd = -1 };
	return tg_fail(error, result, "can't make a ring of %u slots: %s", size, strerror(-result));
}

int tg_ring_adopt(struct tg_datapath *dp, __u32 index, struct tg_ring *ring, struct tg_error *error)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	char path[192];
	int result;

	ring_path(dp, index, path);
	*ring = (struct tg_ring){ .index = index, .fd = bpf_obj_get(path) };
	if (ring->fd < 0)
		return tg_fail(error, -errno, "no ring at %s: %s", path, strerror(errno));
	result = bpf_obj_get_info_by_fd(ring->fd, &info, &size) ? -errno : 0;
	ring->size = TG_RING_SLOTS(info.max_entries);
	if (!result)
		result = map_slots(ring);
	if (!result)
		return 0;
	close(ring->fd);
	return tg_fail(error, result, "can't adopt the ring at %s: %s", path, strerror(-result));
}

int tg_ring_install(
	struct tg_datapath *dp, const struct tg_ring *rings, size_t count, struct tg_error *error)
{
	__u32 *indexes = calloc(count + 1, sizeof(*indexes)),
	      *fds = calloc(count + 1, sizeof(*fds));
	__u32 done = count;
	int result = indexes && fds ? 0 : -ENOMEM;

	for (size_t i = 0; !result && i < count; i++) {
		indexes[i] = rings[i].index;
		fds[i] = rings[i].fd;
	}
	if (!result && count &&
		bpf_map_update_batch(dp->maps[TG_MAP_RINGS], indexes, fds, &done, NULL))
		result = -errno;
	free(indexes);
	free(fds);
	return result ? tg_fail(error, result, "rings can't be put in place: %s", strerror(-result))
		      : 0;
}

static bool home_lives(const struct tg_backend *backends, __u32 home)
{
	return home && home < TG_MAX_BACKENDS && !(backends[home].flags & TG_BACKEND_DEAD);
}

__u32 tg_ring_retarget(struct tg_ring *ring, const __u32 *targets,
	const struct tg_backend *backends, bool keeps, __u32 epoch)
{
	__u8 *seen = tg_ring_seen(ring);
	__u32 moving = 0;

	for (__u32 i = 0; i < ring->size; i++) {
		__u64 slot = ring->slots[i], fresh = TG_SLOT(targets[i], targets[i], 0);

		if (keeps)
			fresh = tg_slot_retarget(slot, targets[i],
				home_lives(backends, TG_SLOT_HOME(slot)), epoch);
		moving += TG_SLOT_T(fresh);
		if (fresh == slot)
			continue;
		if (!TG_SLOT_T(slot))
			__atomic_store_n(&seen[i], tg_not_seen(epoch), __ATOMIC_RELAXED);
		__atomic_store_n(&ring->slots[i], fresh, __ATOMIC_RELEASE);
	}
	return moving;
}

void tg_ring_unpin(struct tg_datapath *dp, __u32 index)
{
	char path[192];

	ring_path(dp, index, path);
	unlink(path);
}

void tg_ring_each(struct tg_datapath *dp,
	void (*fn)(void *user, struct tg_datapath *dp, __u32 index), void *user)
{
	struct dirent *entry;
	char path[192];
	__u32 index;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/rings", dp->dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "%u", &index) == 1 && index < TG_MAX_RINGS)
			fn(user, dp, index);
	if (dir)
		closedir(dir);
}

void tg_ring_release(struct tg_datapath *dp, struct tg_ring *ring)
{
	if (ring->slots) {
		munmap(ring->slots, bytes_of(ring));
		close(ring->fd);
	}
	if (dp && ring->slots)
		tg_ring_unpin(dp, ring->index);
	*ring = (struct tg_ring){ .fd = -1 };
}

/*
 * The kernel deletes from an array of maps one by one, each after an RCU grace period, and sets in
 * batches: so what goes is replaced by a ring of one free slot, that all share.
 */
int tg_ring_clear(
	struct tg_datapath *dp, const __u32 *indexes, size_t count, struct tg_error *error)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct tg_ring *rings = calloc(count, sizeof(*rings));
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tg_no_ring", 4, sizeof(__u64), 1, &options),
	    result;

	if (fd < 0 || !rings) {
		result = tg_fail(error, fd < 0 ? -errno : -ENOMEM, "no memory to clear rings");
	} else {
		for (size_t i = 0; i < count; i++)
			rings[i] = (struct tg_ring){ .index = indexes[i], .fd = fd };
		result = tg_ring_install(dp, rings, count, error);
	}
	if (fd >= 0)
		close(fd);
	free(rings);
	return result;
}
