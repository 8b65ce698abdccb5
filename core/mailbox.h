/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Work for another thread's loop: letters are run there in the order they were posted.
 */
#ifndef TG_MAILBOX_H
#define TG_MAILBOX_H

#include <uv.h>

struct tg_mailbox;

/* A mailbox whose letters run on `loop`; call it in that loop's thread. NULL without memory. */
struct tg_mailbox *tg_mailbox_new(uv_loop_t *loop);
/* Runs fn(arg) on the mailbox's loop, soon. From any thread. */
void tg_mailbox_post(struct tg_mailbox *box, void (*fn)(void *), void *arg);
/* Runs what is left and frees the box. In the loop's thread, with nobody posting any more. */
void tg_mailbox_close(struct tg_mailbox *box);

#endif
