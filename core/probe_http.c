/* SPDX-License-Identifier: GPL-2.0-only */
#include "probe_http.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not empty, and every byte visible ASCII or beyond it: nothing that could end a line or a word. */
static bool is_word(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	if (!*c)
		return false;
	while (*c > ' ' && *c != 0x7f)
		c++;
	return !*c;
}

static int check_words(const char *method, const char *path, const char *host,
	struct tg_error *error)
{
	if (!is_word(method))
		return tg_fail(error, -EINVAL, "method \"%s\": must be one word", method);
	if (!is_word(path) || *path != '/')
		return tg_fail(error, -EINVAL, "path \"%s\": must begin with / and have no spaces",
			path);
	if (host && !is_word(host))
		return tg_fail(error, -EINVAL, "host \"%s\": must be one word", host);
	return 0;
}

char *tg_http_request(const char *method, const char *path, const char *host,
	struct tg_error *error)
{
	char *request;
	int length;

	if (check_words(method, path, host, error) < 0)
		return NULL;
	length = asprintf(&request, "%s %s HTTP/1.%d\r\n%s%s%sUser-Agent: tidegate\r\n"
		"Connection: close\r\n\r\n", method, path, host ? 1 : 0,
		host ? "Host: " : "", host ? host : "", host ? "\r\n" : "");
	if (length >= 0)
		return request;
	tg_fail(error, -ENOMEM, "no memory for a request");
	return NULL;
}

int tg_http_status(const char *head, size_t length)
{
	static const char pattern[TG_HTTP_HEAD + 1] = "HTTP/1.x nnn ";
	int status = 0;

	for (size_t i = 0; i < length && i < TG_HTTP_HEAD; i++) {
		bool fits = head[i] == pattern[i];

		if (pattern[i] == 'x')
			fits = head[i] == '0' || head[i] == '1';
		else if (pattern[i] == 'n')
			fits = isdigit((unsigned char)head[i]);
		else if (i == TG_HTTP_HEAD - 1)
			fits = fits || head[i] == '\r' || head[i] == '\n';
		if (!fits)
			return -EPROTO;
		if (pattern[i] == 'n')
			status = status * 10 + head[i] - '0';
	}
	if (length < TG_HTTP_HEAD)
		return -EAGAIN;
	return status < 100 ? -EPROTO : status;
}
