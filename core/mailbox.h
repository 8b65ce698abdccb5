/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Work for another thread's loop: letters are run there in the order they were posted.
 */
#ifndef TG_MAILBOX_H
#define TG_MAILBOX_H

#include <stdbool.h>
#include <uv.h>

struct tg_mailbox;

/* A mailbox whose letters run on `loop`; call it in that loop's thread. NULL without memory. */
struct tg_mailbox *tg_mailbox_new(uv_loop_t *loop);
/* Runs fn(arg) on the mailbox's loop, soon. From any thread. */
void tg_mailbox_post(struct tg_mailbox *box, void (*fn)(void *), void *arg);
/* Whether the box alone keeps its loop running: at first it does. In the loop's thread. */
void tg_mailbox_hold(struct tg_mailbox *box, bool hold);
/* Runs what is left and frees the box. In the loop's thread, with nobody posting any more. */
void tg_mailbox_close(struct tg_mailbox *box);

#endif
