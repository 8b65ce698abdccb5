/* SPDX-License-Identifier: GPL-2.0-only */
/* The links of neighbour.h. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>

#include "neighbour_private.h"

struct link_entry {
	struct tg_table_node node;
	struct tg_list all;
	uint32_t generation;
	struct tg_link link;
};

struct tg_link_watch {
	struct tg_list list;
	void (*on_link)(void *user, enum tg_link_event event, const struct tg_link *link);
	void *user;
};

void tg_link_init(struct tg_neighbour *n)
{
	tg_list_init(&n->all_links);
	tg_list_init(&n->link_watches);
}

static struct link_entry *find(const struct tg_neighbour *n, uint32_t ifindex)
{
	struct tg_table_node *node = tg_table_first(&n->links, tg_hash(&ifindex, sizeof(ifindex)));

	for (; node; node = tg_table_next(node)) {
		struct link_entry *entry = tg_container(node, struct link_entry, node);

		if (entry->link.ifindex == ifindex)
			return entry;
	}
	return NULL;
}

const struct tg_link *tg_link_by_index(const struct tg_neighbour *n, uint32_t ifindex)
{
	struct link_entry *entry = find(n, ifindex);

	return entry ? &entry->link : NULL;
}

const struct tg_link *tg_link_by_name(const struct tg_neighbour *n, const char *name)
{
	tg_list_each(position, &n->all_links) {
		struct link_entry *entry = tg_container(position, struct link_entry, all);

		if (!strcmp(entry->link.name, name))
			return &entry->link;
	}
	return NULL;
}

/* ---- watches ---- */

struct tg_link_watch *tg_link_watch(struct tg_neighbour *n,
	void (*on_link)(void *user, enum tg_link_event event, const struct tg_link *link), void *user)
{
	struct tg_link_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->on_link = on_link;
	watch->user = user;
	tg_list_add(&n->link_watches, &watch->list);
	return watch;
}

void tg_link_unwatch(struct tg_link_watch *watch)
{
	tg_list_remove(&watch->list);
	free(watch);
}

/* Watches move over one by one, so that each may remove any of them. */
static void tell(struct tg_neighbour *n, enum tg_link_event event, const struct tg_link *link)
{
	struct tg_list todo, *position;

	n->sweep_again = true;
	tg_neighbour_disturb(n);
	tg_list_init(&todo);
	tg_list_splice(&todo, &n->link_watches);
	while ((position = tg_list_take(&todo))) {
		struct tg_link_watch *watch = tg_container(position, struct tg_link_watch, list);

		tg_list_add(&n->link_watches, position);
		if (!n->closing)
			watch->on_link(watch->user, event, link);
	}
}

/* ---- what the kernel says ---- */

static void vanish(struct tg_neighbour *n, struct link_entry *entry)
{
	tg_table_remove(&n->links, &entry->node);
	tg_list_remove(&entry->all);
	tell(n, TG_LINK_VANISHED, &entry->link);
	free(entry);
}

static void appear(struct tg_neighbour *n, const struct tg_link *link)
{
	struct link_entry *entry = calloc(1, sizeof(*entry));

	if (!entry || tg_table_insert(&n->links, &entry->node, tg_hash(&link->ifindex, sizeof(link->ifindex)))) {
		free(entry);
		return;
	}
	entry->link = *link;
	entry->generation = n->generation;
	tg_list_add(&n->all_links, &entry->all);
	tell(n, TG_LINK_APPEARED, &entry->link);
}

static void change(struct tg_neighbour *n, struct link_entry *entry, const struct tg_link *link)
{
	bool was = entry->link.up && entry->link.carrier, is = link->up && link->carrier;
	bool same = !memcmp(&entry->link, link, sizeof(*link));

	entry->link = *link;
	entry->generation = n->generation;
	if (same)
		return;
	if (was != is)
		tell(n, is ? TG_LINK_UP : TG_LINK_DOWN, &entry->link);
	else
		tell(n, TG_LINK_CHANGED, &entry->link);
}

void tg_link_message(struct tg_neighbour *n, const struct nlmsghdr *message)
{
	struct link_entry *entry;
	struct tg_link link;

	if (!tg_nl_link(message, &link))
		return;
	entry = find(n, link.ifindex);
	if (message->nlmsg_type == RTM_NEWLINK && entry)
		change(n, entry, &link);
	else if (message->nlmsg_type == RTM_NEWLINK)
		appear(n, &link);
	else if (entry)
		vanish(n, entry);
}

static void sort_out_older(struct tg_neighbour *n, struct tg_list *older)
{
	struct tg_list all, *position;

	tg_list_init(&all);
	tg_list_splice(&all, &n->all_links);
	while ((position = tg_list_take(&all))) {
		struct link_entry *entry = tg_container(position, struct link_entry, all);

		tg_list_add(entry->generation == n->generation ? &n->all_links : older, position);
	}
}

void tg_link_forget_older(struct tg_neighbour *n)
{
	struct tg_list older, *position;

	tg_list_init(&older);
	sort_out_older(n, &older);
	while ((position = tg_list_take(&older)))
		vanish(n, tg_container(position, struct link_entry, all));
}

void tg_link_free(struct tg_neighbour *n)
{
	struct tg_list *position;

	while ((position = tg_list_take(&n->all_links)))
		free(tg_container(position, struct link_entry, all));
	while ((position = tg_list_take(&n->link_watches)))
		free(tg_container(position, struct tg_link_watch, list));
	tg_table_free(&n->links);
}
