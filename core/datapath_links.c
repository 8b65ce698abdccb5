/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath_links.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* bpffs reserves names with dots, which devices may have; they can't have colons. */
static void replace_char(char *text, char from, char to)
{
	for (; *text; text++)
		if (*text == from)
			*text = to;
}

void tg_link_path(
	const struct tg_datapath *dp, const char *kind, const char *device, char path[256])
{
	char name[IF_NAMESIZE];

	snprintf(name, sizeof(name), "%s", device);
	replace_char(name, '.', ':');
	snprintf(path, 256, "%s/%s/%s", dp->dir, kind, name);
}

unsigned int tg_link_ifindex(int link)
{
	struct bpf_link_info info = { 0 }; /* TCX has it in the same place as XDP */
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(link, &info, &size) ? 0 : info.xdp.ifindex;
}

int tg_link_open(const struct tg_datapath *dp, const char *kind, const char *device)
{
	char path[256];
	int link;

	tg_link_path(dp, kind, device, path);
	link = bpf_obj_get(path);
	return link < 0 ? -errno : link;
}

int tg_links_each(const struct tg_datapath *dp, const char *kind,
	void (*fn)(void *user, const char *device, unsigned int ifindex, int link), void *user)
{
	char path[256], device[IF_NAMESIZE];
	struct dirent *entry;
	DIR *dir;
	int link;

	snprintf(path, sizeof(path), "%s/%s", dp->dir, kind);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(device, sizeof(device), "%.15s", entry->d_name);
		replace_char(device, ':', '.');
		link = tg_link_open(dp, kind, device);
		if (link < 0)
			continue;
		fn(user, device, tg_link_ifindex(link), link);
		close(link);
	}
	closedir(dir);
	return 0;
}

struct update {
	int program, result;
	bool go_on; /* past refusals */
	char device[IF_NAMESIZE];
};

static void update_link(void *user, const char *device, unsigned int ifindex, int link)
{
	struct update *update = user;

	if (!ifindex || (update->result && !update->go_on))
		return;
	if (!bpf_link_update(link, update->program, NULL) ||
		errno == ENOLINK) /* the device went just now */
		return;
	update->result = -errno;
	snprintf(update->device, sizeof(update->device), "%s", device);
}

int tg_links_update(
	const struct tg_datapath *dp, const char *kind, int program, struct tg_error *error)
{
	struct update update = { .program = program, .go_on = !error };

	tg_links_each(dp, kind, update_link, &update);
	return update.result
		       ? tg_fail(error, update.result, "the program on %s can't be replaced: %s",
				 update.device, strerror(-update.result))
		       : 0;
}

int tg_link_keep(const struct tg_datapath *dp, const char *kind, const char *device, int link,
	struct tg_error *error)
{
	char path[256];
	int code = 0;

	tg_link_path(dp, kind, device, path);
	if (bpf_obj_pin(link, path)) {
		code = tg_fail(
			error, -errno, "port %s: can't pin %s: %s", device, path, strerror(errno));
		bpf_link_detach(link);
	}
	close(link);
	return code;
}

int tg_link_remove(
	const struct tg_datapath *dp, const char *kind, const char *device, struct tg_error *error)
{
	int link = tg_link_open(dp, kind, device), code = 0;
	char path[256];

	tg_link_path(dp, kind, device, path);
	if (link < 0)
		return link == -ENOENT ? 0
				       : tg_fail(error, link, "port %s: can't open %s: %s", device,
						 path, strerror(-link));
	if (bpf_link_detach(link))
		code = tg_fail(error, -errno, "port %s: can't detach: %s", device, strerror(errno));
	close(link);
	if (!code)
		unlink(path);
	return code;
}
