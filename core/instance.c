/* SPDX-License-Identifier: GPL-2.0-only */
#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAME_CHARACTERS                                                                            \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

int tg_instance_init(struct tg_instance *instance, const char *name, struct tg_error *error)
{
	size_t length;

	name = name ? name : TG_INSTANCE_DEFAULT;
	length = strlen(name);
	if (!length || length > TG_INSTANCE_NAME_MAX || strspn(name, NAME_CHARACTERS) != length)
		return tg_fail(error, -EINVAL,
			"instance \"%s\": a name has 1 to %d letters, digits, '_' or '-'", name,
			TG_INSTANCE_NAME_MAX);
	memset(instance, 0, sizeof(*instance));
	memcpy(instance->name, name, length);
	snprintf(instance->socket, sizeof(instance->socket), TG_RUN_DIR "/%s.sock", name);
	snprintf(instance->lock, sizeof(instance->lock), TG_RUN_DIR "/%s.lock", name);
	snprintf(instance->quarantine, sizeof(instance->quarantine), TG_RUN_DIR "/%s.quarantine", name);
	snprintf(instance->pins, sizeof(instance->pins), TG_PIN_DIR "/%s", name);
	return 0;
}

/* The directory is made, or is root's or ours and nobody else can put files there. */
static int need_run_dir(struct tg_error *error)
{
	struct stat st;

	if (mkdir(TG_RUN_DIR, 0755) && errno != EEXIST)
		return tg_fail(error, -errno, TG_RUN_DIR ": can't be made: %s", strerror(errno));
	if (lstat(TG_RUN_DIR, &st))
		return tg_fail(error, -errno, TG_RUN_DIR ": %s", strerror(errno));
	if (!S_ISDIR(st.st_mode) || (st.st_uid && st.st_uid != geteuid()) || st.st_mode & S_IWOTH)
		return tg_fail(error, -EPERM,
			TG_RUN_DIR ": not a directory that belongs to root or to this user alone");
	return 0;
}

/* Who wrote its process id into the lock file: the holder, or nobody yet (0). */
static long holder_of(int fd)
{
	char text[32] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		return 0;
	return strtol(text, NULL, 10);
}

static int take_lock(int fd, const struct tg_instance *instance, struct tg_error *error)
{
	if (!flock(fd, LOCK_EX | LOCK_NB)) {
		if (ftruncate(fd, 0) || dprintf(fd, "%d\n", getpid()) < 0)
			return tg_fail(error, -errno, "%s: %s", instance->lock, strerror(errno));
		return 0;
	}
	if (errno != EWOULDBLOCK)
		return tg_fail(error, -errno, "%s: %s", instance->lock, strerror(errno));
	return tg_fail(error, -EBUSY,
		"instance \"%s\" is already running: process %ld holds %s "
		"(another one needs another --instance NAME)",
		instance->name, holder_of(fd), instance->lock);
}

int tg_instance_lock(const struct tg_instance *instance, struct tg_error *error)
{
	int err = need_run_dir(error), fd;

	if (err)
		return err;
	fd = open(instance->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return tg_fail(error, -errno, "%s: %s%s", instance->lock, strerror(errno),
			errno == EACCES ? ": it takes root to run an instance" : "");
	err = take_lock(fd, instance, error);
	if (err)
		close(fd);
	return err ? err : fd;
}

static int open_netns(const char *netns)
{
	char path[256];
	int fd;

	if (strchr(netns, '/'))
		return open(netns, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	snprintf(path, sizeof(path), "/var/run/netns/%s", netns);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int tg_instance_enter_netns(const char *netns, struct tg_error *error)
{
	int fd = open_netns(netns), err = 0;

	if (fd < 0 && errno == ENOENT)
		return tg_fail(error, -ENOENT,
			"network namespace \"%s\": there is none (`ip netns list` shows the names)", netns);
	if (fd < 0)
		return tg_fail(error, -errno, "network namespace \"%s\": %s", netns, strerror(errno));
	if (setns(fd, CLONE_NEWNET))
		err = tg_fail(error, -errno, "network namespace \"%s\": can't be entered: %s", netns,
			errno == EINVAL ? "it is no network namespace" : strerror(errno));
	close(fd);
	return err;
}

static bool is_mounted(const char *path, unsigned long magic)
{
	struct statfs fs;

	return !statfs(path, &fs) && (unsigned long)fs.f_type == magic;
}

/* `ip netns exec NAME` mounts a /sys of its own, and names it NAME. */
static bool sys_is_of_ip_netns_exec(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *mount;
	char path[256] = "";

	if (!mounts)
		return false;
	while ((mount = getmntent(mounts)))	/* the last one counts */
		if (!strcmp(mount->mnt_dir, "/sys"))
			snprintf(path, sizeof(path), "/run/netns/%s", mount->mnt_fsname);
	endmntent(mounts);
	return *path && !access(path, F_OK);
}

/* /sys is not what process 1 sees there (if we may look): another one lies over it, for us alone. */
static bool sys_is_private(void)
{
	struct stat ours, init;

	return sys_is_of_ip_netns_exec() ||
		(!stat("/sys", &ours) && !stat("/proc/1/root/sys", &init) &&
			ours.st_dev != init.st_dev);
}

enum tg_bpffs_state tg_instance_bpffs_state(void)
{
	if (is_mounted(TG_BPFFS, BPF_FS_MAGIC))
		return TG_BPFFS_MOUNTED;
	if (sys_is_private())
		return TG_BPFFS_HIDDEN;
	return access(TG_BPFFS, F_OK) ? TG_BPFFS_UNSUPPORTED : TG_BPFFS_MISSING;
}

int tg_instance_need_bpffs(struct tg_error *error)
{
	switch (tg_instance_bpffs_state()) {
	case TG_BPFFS_MOUNTED:
		return 0;
	case TG_BPFFS_HIDDEN:
		return tg_fail(error, -EXDEV,
			TG_BPFFS ": hidden by a private /sys, as under `ip netns exec`; "
				 "run tidegate outside of it with --netns NAME instead");
	case TG_BPFFS_UNSUPPORTED:
		return tg_fail(error, -ENOTSUP,
			TG_BPFFS ": does not exist (a kernel without CONFIG_BPF_SYSCALL, or no /sys)");
	case TG_BPFFS_MISSING:
		break;
	}
	if (mount("bpf", TG_BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700"))
		return tg_fail(error, -errno,
			TG_BPFFS ": no BPF file system there, and it can't be mounted: %s "
				 "(as root: mount -t bpf bpf " TG_BPFFS ")",
			strerror(errno));
	return 0;
}
