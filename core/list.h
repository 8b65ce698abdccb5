/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Intrusive, circular, doubly linked lists: the node stands inside the element, so that an element
 * leaves its list in O(1), without a search and without memory of its own. A node that is on no list
 * points at itself; removing it again does no harm. A list's head is a node, too.
 */
#ifndef TG_LIST_H
#define TG_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct tg_list {
	struct tg_list *next, *prev;
};

/* The element that `pointer` is the `member` of. */
#define tg_container(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

/* The body may not remove `position`; take elements with tg_list_take() where it has to. */
#define tg_list_each(position, head)                                                               \
	for (struct tg_list *position = (head)->next; position != (head); position = position->next)

static inline void tg_list_init(struct tg_list *node)
{
	node->next = node->prev = node;
}

static inline bool tg_list_empty(const struct tg_list *head)
{
	return head->next == head;
}

static inline void tg_list_remove(struct tg_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	tg_list_init(node);
}

/* Appends `node`, which is on no list. */
static inline void tg_list_add(struct tg_list *head, struct tg_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Puts `node`, which is on no list, in front of all. */
static inline void tg_list_add_first(struct tg_list *head, struct tg_list *node)
{
	tg_list_add(head->next, node);
}

/* Removes the first node and returns it, or NULL. */
static inline struct tg_list *tg_list_take(struct tg_list *head)
{
	struct tg_list *node = head->next;

	if (node == head)
		return NULL;
	tg_list_remove(node);
	return node;
}

/* Appends all of `from` to `head`; `from` is empty then. */
static inline void tg_list_splice(struct tg_list *head, struct tg_list *from)
{
	if (tg_list_empty(from))
		return;
	from->next->prev = head->prev;
	from->prev->next = head;
	head->prev->next = from->next;
	head->prev = from->prev;
	tg_list_init(from);
}

#endif
