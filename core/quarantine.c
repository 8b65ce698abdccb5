/* SPDX-License-Identifier: GPL-2.0-only */
#include "quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE 4400	/* bytes: a hash, a path of PATH_MAX, and some */
#define LIST 65536	/* bytes of the list; what is beyond is not read */

/* FNV-1a of a file's content: enough to see that it changed. */
static int hash_file(const char *path, uint64_t *hash)
{
	unsigned char bytes[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return -errno;
	*hash = 0xcbf29ce484222325ull;
	while ((length = read(fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t i = 0; i < length; i++)
			*hash = (*hash ^ bytes[i]) * 0x100000001b3ull;
	close(fd);
	return length < 0 ? -errno : 0;
}

static void make_line(char *line, uint64_t hash, enum tg_quarantine how, const char *script)
{
	snprintf(line, LINE, "%016" PRIx64 " %s %s\n", hash,
		how == TG_QUARANTINE_LOAD ? "load" : "task", script);
}

/* Reads the list; an absent one is empty. */
static void read_list(const char *list, char *text)
{
	int fd = open(list, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, text, LIST - 1);

	text[length > 0 ? length : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

static bool has_line(const char *text, const char *line)
{
	size_t length = strlen(line);

	for (; *text; text = strchr(text, '\n') + 1) {
		if (!strncmp(text, line, length))
			return true;
		if (!strchr(text, '\n'))
			break;
	}
	return false;
}

enum tg_quarantine tg_quarantine_of(const char *list, const char *script)
{
	char text[LIST], line[LINE];
	uint64_t hash;

	if (hash_file(script, &hash))
		return TG_QUARANTINE_NONE;
	read_list(list, text);
	for (int how = TG_QUARANTINE_LOAD; how > TG_QUARANTINE_NONE; how--) {
		make_line(line, hash, how, script);
		if (has_line(text, line))
			return how;
	}
	return TG_QUARANTINE_NONE;
}

int tg_quarantine_add(const char *list, const char *script, enum tg_quarantine how)
{
	char line[LINE];
	uint64_t hash;
	int error = hash_file(script, &hash), fd;

	if (error)
		return error;
	if (tg_quarantine_of(list, script) >= how)
		return 0;
	fd = open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	make_line(line, hash, how, script);
	error = write(fd, line, strlen(line)) < 0 ? -errno : 0;
	close(fd);
	return error;
}
