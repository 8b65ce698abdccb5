/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_program.h"

#include "flow_hash.h"

#include "xdp.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Tells the main program those that it calls. */
int tg_program_enter_rare(struct bpf_object *object)
{
	static const char *const names[] = { "tidegate_rare4", "tidegate_rare6" };
	int map = bpf_object__find_map_fd_by_name(object, "rare_programs"), result = 0;

	for (__u32 i = 0; !result && i < 2; i++) {
		int program = bpf_program__fd(bpf_object__find_program_by_name(object, names[i]));

		result = bpf_map_update_elem(map, &i, &program, BPF_ANY) ? -errno : 0;
	}
	return result;
}

static int write_instance(struct tg_datapath *dp)
{
	__u32 zero = 0;

	return bpf_map_update_elem(dp->maps[TG_MAP_INSTANCE], &zero, &dp->info, BPF_ANY) ? -errno
											 : 0;
}

/* Adds a program's tag to those of others, `nth` keeping equal ones from cancelling out. */
static void add_tag(int program, int nth, __u8 sum[BPF_TAG_SIZE])
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &size))
		return;
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		sum[i] ^= info.tag[(i + nth) % BPF_TAG_SIZE];
}

/* What tells a program and those that it calls from another's, in hex. */
static void tag_of(const struct xdp_bpf *skeleton, char tag[16])
{
	__u8 sum[BPF_TAG_SIZE] = { 0 };
	char text[17];

	add_tag(bpf_program__fd(skeleton->progs.tidegate_xdp), 0, sum);
	add_tag(bpf_program__fd(skeleton->progs.tidegate_rare4), 1, sum);
	add_tag(bpf_program__fd(skeleton->progs.tidegate_rare6), 2, sum);
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", sum[i]);
	memcpy(tag, text, 16);
}

struct relink {
	struct tg_datapath *dp;
	int program, result;
	char device[64];
};

static void update_link(void *user, const char *device, unsigned int ifindex)
{
	struct relink *relink = user;
	char path[256];
	int link;

	tg_datapath_link_path(relink->dp, device, path);
	if (!ifindex || relink->result)
		return;
	link = bpf_obj_get(path);
	if (link < 0 || (bpf_link_update(link, relink->program, NULL) && errno != ENOLINK)) {
		relink->result = -errno; /* ENOLINK: the device went just now */
		snprintf(relink->device, sizeof(relink->device), "%.63s", device);
	}
	if (link >= 0)
		close(link);
}

/* Gives all links a program; on failure those that have it get the pinned one back. */
static int relink_all(struct tg_datapath *dp, int program, const char *pin, struct tg_error *error)
{
	struct relink relink = { .dp = dp, .program = program }, undo = { .dp = dp };

	tg_datapath_links(dp, update_link, &relink);
	if (!relink.result)
		return 0;
	undo.program = bpf_obj_get(pin);
	if (undo.program >= 0) {
		tg_datapath_links(dp, update_link, &undo);
		close(undo.program);
	}
	return tg_fail(error, relink.result, "the program on %s can't be replaced: %s",
		relink.device, strerror(-relink.result));
}

static int pin_as(int fd, const char *path, struct tg_error *error)
{
	unlink(path);
	return bpf_obj_pin(fd, path)
		       ? tg_fail(error, -errno, "can't pin %s: %s", path, strerror(errno))
		       : 0;
}

/*
 * Puts a program in force: on every link first, then as the pin. The array of the programs that it
 * calls (bpf/rare.h) is emptied when it is no longer pinned, so that one is pinned before.
 */
static int replace_program(struct tg_datapath *dp, int program, int rare, struct tg_error *error)
{
	char path[2][192], fresh[2][200];
	int result;

	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/%s", dp->dir, i ? "program" : "rare");
		snprintf(fresh[i], sizeof(fresh[i]), "%s-new", path[i]);
	}
	result = pin_as(rare, fresh[0], error);
	if (!result)
		result = relink_all(dp, program, path[1], error);
	if (!result)
		result = pin_as(program, fresh[1], error);
	for (int i = 0; !result && i < 2; i++)
		if (rename(fresh[i], path[i]))
			result = tg_fail(
				error, -errno, "can't pin %s: %s", path[i], strerror(errno));
	if (result)
		unlink(fresh[0]);
	return result;
}

static bool same_program(const struct tg_datapath *dp, const char tag[16], __u32 features)
{
	return dp->info.features == features && !memcmp(dp->info.program_tag, tag, 16);
}

/* The program that is pinned, if it is the one that we would load. */
static int open_current(const struct tg_datapath *dp, const char tag[16], __u32 features)
{
	char path[192];

	if (!same_program(dp, tag, features))
		return -1;
	snprintf(path, sizeof(path), "%s/program", dp->dir);
	return bpf_obj_get(path);
}

int tg_program_put_in_force(
	struct tg_datapath *dp, struct xdp_bpf *skeleton, __u32 features, struct tg_error *error)
{
	int loaded = bpf_program__fd(skeleton->progs.tidegate_xdp), current, result;
	char tag[16];

	tag_of(skeleton, tag);
	current = open_current(dp, tag, features);
	if (current < 0) {
		result = replace_program(
			dp, loaded, bpf_map__fd(skeleton->maps.rare_programs), error);
		if (result)
			return result;
		current = dup(loaded);
	}
	if (dp->program >= 0)
		close(dp->program);
	dp->program = current;
	dp->info.features = features;
	memcpy(dp->info.program_tag, tag, sizeof(tag));
	__atomic_add_fetch(&dp->programs, 1, __ATOMIC_RELEASE);
	result = write_instance(dp);
	return result ? tg_fail(error, result, "can't write the instance's record: %s",
				strerror(-result))
		      : 0;
}
