/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_pins.h"

#include "datapath.h"
#include "datapath_tc.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_dir(const char *dir, struct tg_error *error)
{
	if (mkdir(dir, 0700) == 0 || errno == EEXIST)
		return 0;
	return tg_fail(error, -errno, "can't make %s: %s", dir, strerror(errno));
}

int tg_pins_make_dirs(const char *dir, struct tg_error *error)
{
	static const char *const subdirs[] = { "", "/maps", "/rings", "/links", "/ingress",
		"/egress" };
	char path[192];
	int result = make_dir(TG_PIN_DIR, error);

	for (size_t i = 0; !result && i < sizeof(subdirs) / sizeof(*subdirs); i++) {
		snprintf(path, sizeof(path), "%s%s", dir, subdirs[i]);
		result = make_dir(path, error);
	}
	return result;
}

static int stop_at_pin(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return type != FTW_D && type != FTW_DP;
}

bool tg_pins_empty(const char *dir)
{
	return nftw(dir, stop_at_pin, 8, FTW_PHYS) == 0;
}

/* A pinned link is detached, not only unpinned: a daemon may hold another descriptor of it. */
static void detach(const char *path)
{
	int link = bpf_obj_get(path);

	if (link < 0)
		return;
	bpf_link_detach(link);
	close(link);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path) && errno != ENOENT ? -errno : 0;
}

static int remove_link(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_F)
		detach(path);
	return remove_entry(path, st, type, ftw);
}

int tg_pins_remove(const char *dir, __u64 netns)
{
	static const char *const kinds[] = { "links", "ingress", "egress" };
	char links[192];
	int result = tg_tc_remove_filters(dir, netns);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		snprintf(links, sizeof(links), "%s/%s", dir, kinds[i]);
		if (access(links, F_OK) == 0) /* traffic first: no program runs on half its maps */
			nftw(links, remove_link, 8, FTW_PHYS | FTW_DEPTH);
	}
	return result ? result : nftw(dir, remove_entry, 8, FTW_PHYS | FTW_DEPTH);
}
