/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_tracks.h"

#include "datapath_load.h"
#include "flow_hash.h"

#include "tc.skel.h"
#include "tc_conntrack.skel.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* Two objects of one source: who has loaded one need not know which. */
#define SAME_PLACE(member)                                                                         \
	_Static_assert(                                                                            \
		offsetof(struct tc_bpf, member) == offsetof(struct tc_conntrack_bpf, member),      \
		"skeletons")
SAME_PLACE(skeleton);
SAME_PLACE(obj);
SAME_PLACE(maps.flows);
SAME_PLACE(progs.tidegate_ingress);
SAME_PLACE(progs.tidegate_egress);
SAME_PLACE(rodata);

static size_t pinned_size(const struct tg_datapath *dp, const char *map)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	char path[192];
	int fd;

	snprintf(path, sizeof(path), "%s/maps/%s", dp->dir, map);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.max_entries = 0;
	close(fd);
	return info.max_entries;
}

int tg_tracks_size(const struct tg_datapath *dp, struct bpf_object *object)
{
	static const char *const names[] = { "flows", "embryos" };
	int result = 0;

	for (int i = 0; !result && i < 2; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, names[i]);
		size_t size = pinned_size(dp, names[i]);

		if (!size)
			size = dp->tracked ? dp->tracked : TG_DEFAULT_TRACKED;
		result = map ? bpf_map__set_max_entries(map, size) : -ENOENT;
	}
	return result;
}

static bool has_function(const struct btf *btf, const char *name)
{
	return btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;
}

bool tg_conntrack_supported(const char *function, bool *module)
{
	struct btf *kernel = btf__load_vmlinux_btf(), *loaded = NULL;
	bool found = has_function(kernel, function);

	if (kernel && !found)
		loaded = btf__load_module_btf("nf_conntrack", kernel);
	*module = kernel && !found && !loaded;
	found = found || has_function(loaded, function);
	btf__free(loaded);
	btf__free(kernel);
	return found;
}

static int lacks_conntrack(bool module, struct tg_error *error)
{
	if (module)
		return tg_fail(error, -EOPNOTSUPP,
			"stateful = \"conntrack\": this kernel tracks no connections now: modprobe "
			"nf_conntrack (its functions are found by root, or with CAP_SYS_ADMIN)");
	return tg_fail(error, -EOPNOTSUPP,
		"stateful = \"conntrack\": this kernel does not let programs ask for its "
		"connections "
		"(bpf_skb_ct_lookup, since 5.18, with BTF): stateful = true needs nothing of it");
}

struct tc_bpf *tg_tracks_open_programs(__u32 features, int *code, struct tg_error *error)
{
	struct tc_bpf *programs;
	bool module;

	if (features & TG_FEATURE_CONNTRACK &&
		!tg_conntrack_supported("bpf_skb_ct_lookup", &module)) {
		*code = lacks_conntrack(module, error);
		return NULL;
	}
	programs = features & TG_FEATURE_CONNTRACK ? (struct tc_bpf *)tc_conntrack_bpf__open()
						   : tc_bpf__open();
	if (!programs)
		*code = tg_load_error(-errno, error);
	return programs;
}
