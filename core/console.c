/* SPDX-License-Identifier: GPL-2.0-only */
#include "console.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

/* A socket of a dead daemon goes; a file that somebody put there stays, and is an error. */
static int clear_path(const char *path, struct tg_error *error)
{
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : tg_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return tg_fail(error, -EEXIST, "%s: in the way, and no socket of ours: left alone", path);
	if (unlink(path) && errno != ENOENT)
		return tg_fail(error, -errno, "%s: can't be replaced: %s", path, strerror(errno));
	return 0;
}

/* The mode that the descriptor has when it is bound becomes the file's, less the umask. */
static int bind_and_listen(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	if (fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
		listen(fd, BACKLOG))
		return -errno;
	return 0;
}

int tg_console_listen(const char *path, struct tg_error *error)
{
	int err = clear_path(path, error), fd;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return tg_fail(error, -errno, "socket: %s", strerror(errno));
	err = bind_and_listen(fd, path);
	if (!err)
		return fd;
	close(fd);
	return tg_fail(error, err, "%s: %s", path, strerror(-err));
}

int tg_console_peer(int fd, struct ucred *peer)
{
	socklen_t size = sizeof(*peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) ? -errno : 0;
}

bool tg_console_welcomes(const struct ucred *peer)
{
	return !peer->uid || peer->uid == geteuid();
}
