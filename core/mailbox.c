/* SPDX-License-Identifier: GPL-2.0-only */
#include "mailbox.h"

#include <stdlib.h>

struct letter {
	struct letter *next;
	void (*fn)(void *);
	void *arg;
};

struct tg_mailbox {
	uv_async_t wake;
	uv_mutex_t lock;
	struct letter *first, **last;
};

static struct letter *take_all(struct tg_mailbox *box)
{
	struct letter *first;

	uv_mutex_lock(&box->lock);
	first = box->first;
	box->first = NULL;
	box->last = &box->first;
	uv_mutex_unlock(&box->lock);
	return first;
}

static void deliver(struct tg_mailbox *box)
{
	struct letter *letter, *next;

	for (letter = take_all(box); letter; letter = next) {
		next = letter->next;
		letter->fn(letter->arg);
		free(letter);
	}
}

static void on_wake(uv_async_t *wake)
{
	deliver(wake->data);
}

struct tg_mailbox *tg_mailbox_new(uv_loop_t *loop)
{
	struct tg_mailbox *box = calloc(1, sizeof(*box));

	if (!box || uv_async_init(loop, &box->wake, on_wake)) {
		free(box);
		return NULL;
	}
	uv_mutex_init(&box->lock);
	box->wake.data = box;
	box->last = &box->first;
	return box;
}

void tg_mailbox_post(struct tg_mailbox *box, void (*fn)(void *), void *arg)
{
	struct letter *letter = malloc(sizeof(*letter));

	if (!letter)
		abort(); /* a lost letter would leave its sender waiting for ever */
	*letter = (struct letter){ .fn = fn, .arg = arg };
	uv_mutex_lock(&box->lock);
	*box->last = letter;
	box->last = &letter->next;
	uv_mutex_unlock(&box->lock);
	uv_async_send(&box->wake);
}

void tg_mailbox_hold(struct tg_mailbox *box, bool hold)
{
	if (hold)
		uv_ref((uv_handle_t *)&box->wake);
	else
		uv_unref((uv_handle_t *)&box->wake);
}

static void on_closed(uv_handle_t *handle)
{
	struct tg_mailbox *box = handle->data;

	uv_mutex_destroy(&box->lock);
	free(box);
}

void tg_mailbox_close(struct tg_mailbox *box)
{
	deliver(box);
	uv_close((uv_handle_t *)&box->wake, on_closed);
}
