/* SPDX-License-Identifier: GPL-2.0-only */
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct message {
	uint64_t serial;	/* 0: empty */
	enum tg_log_level level;
	char *text;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum tg_log_level least_level = TG_LOG_INFO;
static struct message recent[TG_LOG_RECENT];
static uint64_t last_serial;

static const char *const names[] = { "debug", "info", "warn", "error" };

void tg_log_set_level(enum tg_log_level least)
{
	least_level = least;
}

/* The keeper's memory ends with the process, so that a leak checker sees none. */
__attribute__((destructor)) static void forget(void)
{
	for (size_t i = 0; i < TG_LOG_RECENT; i++) {
		free(recent[i].text);
		recent[i].text = NULL;
	}
}

static void keep(enum tg_log_level level, const char *text)
{
	struct message *slot = &recent[last_serial % TG_LOG_RECENT];

	free(slot->text);
	slot->text = strndup(text, TG_LOG_TEXT);
	slot->serial = ++last_serial;
	slot->level = level;
}

static void print_prefix(enum tg_log_level level)
{
	static const int priority[] = { 7, 6, 4, 3 };	/* sd-daemon(3) */
	struct timespec now;
	struct tm tm;
	char text[32];

	if (getenv("JOURNAL_STREAM")) {
		fprintf(stderr, "<%d>", priority[level]);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	strftime(text, sizeof(text), "%F %T", localtime_r(&now.tv_sec, &tm));
	fprintf(stderr, "%s.%03ld %-5s ", text, now.tv_nsec / 1000000, names[level]);
}

static void print(enum tg_log_level level, const char *text)
{
	print_prefix(level);
	for (; *text; text++) {
		fputc(*text, stderr);
		if (*text == '\n')
			fputs("    ", stderr);
	}
	fputc('\n', stderr);
	fflush(stderr);
}

void tg_log_text(enum tg_log_level level, const char *text)
{
	if (level < least_level)
		return;
	pthread_mutex_lock(&lock);
	keep(level, text);
	print(level, text);
	pthread_mutex_unlock(&lock);
}

void tg_log(enum tg_log_level level, const char *format, ...)
{
	char text[TG_LOG_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	tg_log_text(level, text);
}

void tg_log_recent(uint64_t after,
	void (*each)(void *user, uint64_t serial, enum tg_log_level level, const char *text), void *user)
{
	pthread_mutex_lock(&lock);
	for (uint64_t i = 0; i < TG_LOG_RECENT; i++) {
		const struct message *slot = &recent[(last_serial + i) % TG_LOG_RECENT];

		if (slot->serial > after && slot->text)
			each(user, slot->serial, slot->level, slot->text);
	}
	pthread_mutex_unlock(&lock);
}
