/* SPDX-License-Identifier: GPL-2.0-only */
#include "pinned.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

static int explain(const char *path, int code, struct tg_error *error)
{
	struct statfs fs;

	if (!statfs(path, &fs) && fs.f_type != BPF_FS_MAGIC)
		return tg_fail(error, -EINVAL, "%s: not in a BPF file system", path);
	if (code == -EPERM || code == -EACCES)
		return tg_fail(error, code, "%s: %s (root, or CAP_BPF and a pin that is ours)", path,
			strerror(-code));
	return tg_fail(error, code, "%s: %s", path, strerror(-code));
}

/* The kernel names a BPF descriptor's kind in its link: "anon_inode:bpf-map". */
static int check_kind(int fd, const char *path, const char *kind, struct tg_error *error)
{
	char link[64], name[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, name, sizeof(name) - 1);
	if (length < 0)
		return tg_fail(error, -errno, "%s: %s", link, strerror(errno));
	name[length] = '\0';
	if (length > 15 && !strcmp(name + 15, kind))
		return 0;
	return tg_fail(error, -EINVAL, "%s: a pinned %s, not a %s", path,
		length > 15 ? name + 15 : name, kind);
}

int tg_pinned_open(const char *path, const char *kind, struct tg_error *error)
{
	int fd = bpf_obj_get(path);
	int err;

	if (fd < 0)
		return explain(path, fd, error);
	err = check_kind(fd, path, kind, error);
	if (!err)
		return fd;
	close(fd);
	return err;
}
