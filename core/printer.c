/* SPDX-License-Identifier: GPL-2.0-only */
#include "printer.h"

#include "embed.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_MOST (1 << 20) /* bytes: a longer block is no block of ours */
#define ROOM	   (BLOCK_MOST + 65536)

struct tg_printer {
	int fd;
	pthread_t thread;
	lua_State *L; /* on its stack the function that makes a block's line */
	size_t start, end;
	uint8_t buffer[ROOM];
};

/* Reads more; what was printed is looked at while nothing more has come. False: the end. */
static bool fill(struct tg_printer *printer)
{
	struct pollfd pollfd = { .fd = printer->fd, .events = POLLIN };
	ssize_t n;

	if (printer->start) {
		memmove(printer->buffer, printer->buffer + printer->start,
			printer->end - printer->start);
		printer->end -= printer->start;
		printer->start = 0;
	}
	if (!poll(&pollfd, 1, 0))
		fflush(stdout);
	do
		n = read(printer->fd, printer->buffer + printer->end, ROOM - printer->end);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	printer->end += n;
	return true;
}

/* The next whole block's length, 0: it is not all there; more than BLOCK_MOST: it is none. */
static uint32_t block_length(const struct tg_printer *printer)
{
	size_t have = printer->end - printer->start;
	uint32_t length;

	if (have < 8)
		return 0;
	memcpy(&length, printer->buffer + printer->start + 4, sizeof(length));
	return length >= 12 && length <= BLOCK_MOST && have < length ? 0 : length;
}

static void print_block(struct tg_printer *printer, uint32_t length)
{
	lua_State *L = printer->L;

	lua_pushvalue(L, 1);
	lua_pushlstring(L, (const char *)printer->buffer + printer->start, length);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK)
		fprintf(stderr, "tidegate: %s\n", lua_tostring(L, -1));
	else if (lua_isstring(L, -1))
		puts(lua_tostring(L, -1));
	lua_settop(L, 1);
}

static void *printer_main(void *arg)
{
	struct tg_printer *printer = arg;
	uint32_t length;

	for (;;) {
		while (!(length = block_length(printer)))
			if (!fill(printer))
				goto out;
		if (length < 12 || length > BLOCK_MOST)
			break;
		print_block(printer, length);
		printer->start += length;
	}
out:
	fflush(stdout);
	close(printer->fd);
	return NULL;
}

/* Puts the function that makes lines on the stack. */
static int l_prepare(lua_State *L)
{
	luaL_openlibs(L);
	tg_embed_install(L);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "tidegate.packet.pcapng");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "printer");
	lua_call(L, 0, 1);
	return 1;
}

static int prepare(struct tg_printer *printer, struct tg_error *error)
{
	printer->L = luaL_newstate();
	if (!printer->L)
		return tg_fail(error, -ENOMEM, "out of memory");
	lua_pushcfunction(printer->L, l_prepare);
	if (lua_pcall(printer->L, 0, 1, 0) != LUA_OK)
		return tg_fail(error, -EINVAL, "%s", lua_tostring(printer->L, -1));
	return 0;
}

/* Signals are the main thread's. */
static int start_thread(struct tg_printer *printer, struct tg_error *error)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	sigdelset(&all, SIGPIPE); /* of standard output, it ends the command */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&printer->thread, NULL, printer_main, printer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result ? tg_fail(error, -result, "no thread for printing: %s", strerror(result)) : 0;
}

static void free_printer(struct tg_printer *printer)
{
	if (printer->L)
		lua_close(printer->L);
	free(printer);
}

struct tg_printer *tg_printer_start(int fd, struct tg_error *error)
{
	struct tg_printer *printer = calloc(1, sizeof(*printer));
	int result = printer ? 0 : tg_fail(error, -ENOMEM, "out of memory");

	if (!result) {
		printer->fd = fd;
		result = prepare(printer, error);
	}
	if (!result)
		result = start_thread(printer, error);
	if (!result)
		return printer;
	close(fd);
	if (printer)
		free_printer(printer);
	return NULL;
}

void tg_printer_finish(struct tg_printer *printer)
{
	pthread_join(printer->thread, NULL);
	free_printer(printer);
}
