/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_program.h"

#include "datapath_links.h"
#include "datapath_tc.h"
#include "flow_hash.h"

#include "tc.skel.h"
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

static int write_instance(const struct tg_datapath *dp, const struct tg_instance_record *info)
{
	__u32 zero = 0;

	return bpf_map_update_elem(dp->maps[TG_MAP_INSTANCE], &zero, info, BPF_ANY) ? -errno : 0;
}

/* --- what a program is told by ------------------------------------------------------------------------------ */

/* Adds a program's tag to those of others, `nth` keeping equal ones from cancelling out. */
static void add_tag(const struct bpf_program *program, int nth, __u8 sum[BPF_TAG_SIZE])
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
		return;
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		sum[i] ^= info.tag[(i + nth) % BPF_TAG_SIZE];
}

static void print_tag(const __u8 sum[BPF_TAG_SIZE], char tag[16])
{
	char text[17];

	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", sum[i]);
	memcpy(tag, text, 16);
}

/* What tells a program and those that it calls from another's, in hex. */
static void tag_of_xdp(const struct xdp_bpf *skeleton, char tag[16])
{
	__u8 sum[BPF_TAG_SIZE] = { 0 };

	add_tag(skeleton->progs.tidegate_xdp, 0, sum);
	add_tag(skeleton->progs.tidegate_rare4, 1, sum);
	add_tag(skeleton->progs.tidegate_rare6, 2, sum);
	print_tag(sum, tag);
}

static void tag_of_tc(const struct tc_bpf *skeleton, char tag[16])
{
	__u8 sum[BPF_TAG_SIZE] = { 0 };

	add_tag(skeleton->progs.tidegate_ingress, 0, sum);
	add_tag(skeleton->progs.tidegate_egress, 1, sum);
	print_tag(sum, tag);
}

/* --- in the place of others ------------------------------------------------------------------------------------ */

struct pin {
	const char *name;
	int fd, old; /* what it is to be, and what it is; -1: nothing */
	bool done;
};

/* What is replaced: pins, and on links the programs that are not -1. */
struct replacement {
	struct pin pins[5];
	int count;
	int xdp, tc[TG_DIRECTIONS];
};

static const char *const tc_names[TG_DIRECTIONS] = { "tc_ingress", "tc_egress" };

static int open_pin(const struct tg_datapath *dp, const char *name)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", dp->dir, name);
	return bpf_obj_get(path);
}

static void add_pin(const struct tg_datapath *dp, struct replacement *r, const char *name, int fd)
{
	r->pins[r->count++] = (struct pin){ name, fd, open_pin(dp, name), false };
}

static void close_old(const struct replacement *r)
{
	for (int i = 0; i < r->count; i++)
		if (r->pins[i].old >= 0)
			close(r->pins[i].old);
}

/* What the pin was before; -1: nothing, or it is not replaced. */
static int old_of(const struct replacement *r, const char *name)
{
	for (int i = 0; i < r->count; i++)
		if (!strcmp(r->pins[i].name, name))
			return r->pins[i].old;
	return -1;
}

static void paths_of(
	const struct tg_datapath *dp, const struct pin *pin, char path[192], char fresh[200])
{
	snprintf(path, 192, "%s/%s", dp->dir, pin->name);
	snprintf(fresh, 200, "%s-new", path);
}

static int pin_fresh(
	const struct tg_datapath *dp, const struct replacement *r, struct tg_error *error)
{
	char path[192], fresh[200];

	for (int i = 0; i < r->count; i++) {
		paths_of(dp, &r->pins[i], path, fresh);
		unlink(fresh);
		if (bpf_obj_pin(r->pins[i].fd, fresh))
			return tg_fail(error, -errno, "can't pin %s: %s", fresh, strerror(errno));
	}
	return 0;
}

static int rename_fresh(const struct tg_datapath *dp, struct replacement *r, struct tg_error *error)
{
	char path[192], fresh[200];

	for (int i = 0; i < r->count; i++) {
		paths_of(dp, &r->pins[i], path, fresh);
		if (rename(fresh, path))
			return tg_fail(error, -errno, "can't pin %s: %s", path, strerror(errno));
		r->pins[i].done = true;
	}
	return 0;
}

static void restore_pins(const struct tg_datapath *dp, const struct replacement *r)
{
	char path[192], fresh[200];

	for (int i = 0; i < r->count; i++) {
		const struct pin *pin = &r->pins[i];

		paths_of(dp, pin, path, fresh);
		unlink(pin->done ? path : fresh);
		if (pin->done && pin->old >= 0)
			bpf_obj_pin(pin->old, path);
	}
}

/* Links that have the new programs get the old ones back. */
static void restore_links(struct tg_datapath *dp, const struct replacement *r)
{
	int xdp = old_of(r, "program");
	int tc[TG_DIRECTIONS] = { old_of(r, tc_names[0]), old_of(r, tc_names[1]) };

	if (xdp >= 0)
		tg_links_update(dp, "links", xdp, NULL);
	tg_tc_update(dp, tc, NULL);
}

static int update_links(struct tg_datapath *dp, const struct replacement *r, struct tg_error *error)
{
	int result = r->xdp < 0 ? 0 : tg_links_update(dp, "links", r->xdp, error);

	return result ? result : tg_tc_update(dp, r->tc, error);
}

/*
 * On every link first, then as the pins. The array of the programs that XDP's calls (bpf/rare.h) is emptied when
 * it is no longer pinned, and TC's filters are told by what is pinned, so all of it is pinned before. Who dies on
 * the way leaves a record that fits no program: the next daemon replaces all.
 */
static int replace(struct tg_datapath *dp, struct replacement *r, struct tg_error *error)
{
	struct tg_instance_record torn = dp->info;
	int result = pin_fresh(dp, r, error);

	memset(torn.program_tag, 0, sizeof(torn.program_tag));
	memset(torn.tc_tag, 0, sizeof(torn.tc_tag));
	torn.policy_hash = 0;
	torn.policy_words = TG_POLICY_WORDS;
	if (!result)
		write_instance(dp, &torn);
	if (!result)
		result = update_links(dp, r, error);
	if (!result)
		result = rename_fresh(dp, r, error);
	if (!result)
		return 0;
	restore_links(dp, r);
	restore_pins(dp, r);
	if (dp->adopted || dp->programs)
		write_instance(dp, &dp->info);
	return result;
}

/* --- those that are pinned ------------------------------------------------------------------------------------------- */

/* Has the pinned program of a hook what is asked for? */
static bool is_same(const struct tg_datapath *dp, const struct tg_programs *programs,
	const char pinned[16], const char loaded[16], __u32 (*of)(__u32 features))
{
	__u32 features = of(programs->features);

	return features == of(dp->info.features) && !memcmp(pinned, loaded, 16) &&
	       (!(features & TG_FOR_POLICY) || programs->policies.hash == dp->info.policy_hash);
}

static void set_descriptor(int *to, int fd)
{
	if (*to >= 0)
		close(*to);
	*to = fd;
}

/* Takes over the pinned XDP program, or lets it be replaced. */
static void choose_xdp(struct tg_datapath *dp, const struct tg_programs *programs,
	struct tg_instance_record *info, struct replacement *r)
{
	char tag[16];
	int pinned = -1;

	if (!programs->xdp)
		return;
	tag_of_xdp(programs->xdp, tag);
	if (is_same(dp, programs, info->program_tag, tag, tg_features_of_xdp))
		pinned = open_pin(dp, "program");
	memcpy(info->program_tag, tag, sizeof(tag));
	if (pinned >= 0) {
		set_descriptor(&dp->program, pinned);
		return;
	}
	r->xdp = bpf_program__fd(programs->xdp->progs.tidegate_xdp);
	add_pin(dp, r, "rare", bpf_map__fd(programs->xdp->maps.rare_programs));
	add_pin(dp, r, "program", r->xdp);
}

/* The same of TC's two. */
static void choose_tc(struct tg_datapath *dp, const struct tg_programs *programs,
	struct tg_instance_record *info, struct replacement *r)
{
	int pinned[TG_DIRECTIONS] = { -1, -1 };
	char tag[16];

	if (!programs->tc)
		return;
	tag_of_tc(programs->tc, tag);
	if (is_same(dp, programs, info->tc_tag, tag, tg_features_of_tc)) {
		pinned[TG_INGRESS] = open_pin(dp, tc_names[TG_INGRESS]);
		pinned[TG_EGRESS] = open_pin(dp, tc_names[TG_EGRESS]);
	}
	memcpy(info->tc_tag, tag, sizeof(tag));
	if (pinned[TG_INGRESS] >= 0 && pinned[TG_EGRESS] >= 0) {
		for (int i = 0; i < TG_DIRECTIONS; i++)
			set_descriptor(&dp->tc[i], pinned[i]);
		return;
	}
	r->tc[TG_INGRESS] = bpf_program__fd(programs->tc->progs.tidegate_ingress);
	r->tc[TG_EGRESS] = bpf_program__fd(programs->tc->progs.tidegate_egress);
	for (int i = 0; i < TG_DIRECTIONS; i++) {
		set_descriptor(&pinned[i], -1);
		add_pin(dp, r, tc_names[i], r->tc[i]);
	}
}

static void choose_policies(
	const struct tg_datapath *dp, const struct tg_programs *programs, struct replacement *r)
{
	const struct tg_policies *policies = &programs->policies;

	if (policies->map >= 0 && (dp->policy_pages < 0 || policies->hash != dp->info.policy_hash))
		add_pin(dp, r, "maps/policy_pages", policies->map);
}

/* What was loaded is in force: descriptors of it, for longer than the skeletons live. */
static void keep(
	struct tg_datapath *dp, const struct tg_programs *programs, const struct replacement *r)
{
	if (r->xdp >= 0)
		set_descriptor(&dp->program, dup(r->xdp));
	for (int i = 0; i < TG_DIRECTIONS; i++)
		if (r->tc[i] >= 0)
			set_descriptor(&dp->tc[i], dup(r->tc[i]));
	if (programs->policies.map >= 0)
		set_descriptor(&dp->policy_pages, dup(programs->policies.map));
}

int tg_program_put_in_force(
	struct tg_datapath *dp, const struct tg_programs *programs, struct tg_error *error)
{
	struct replacement r = { .xdp = -1, .tc = { -1, -1 } };
	struct tg_instance_record info = dp->info;
	int result;

	choose_xdp(dp, programs, &info, &r);
	choose_tc(dp, programs, &info, &r);
	choose_policies(dp, programs, &r);
	result = r.count ? replace(dp, &r, error) : 0;
	close_old(&r);
	if (result)
		return result;
	keep(dp, programs, &r);
	info.features = programs->features;
	info.policy_hash = programs->policies.hash;
	info.policy_words = programs->policies.words;
	dp->info = info;
	__atomic_add_fetch(&dp->programs, 1, __ATOMIC_RELEASE);
	result = write_instance(dp, &dp->info);
	return result ? tg_fail(error, result, "can't write the instance's record: %s",
				strerror(-result))
		      : 0;
}
