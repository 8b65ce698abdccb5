/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the bindings of feeds, drafts and lists share (lua_feed.c, lua_draft.c, lua_lists.c): arguments, answers,
 * and calls whose work is done elsewhere.
 *
 * A list is named by its verdict ("deny", "allow") and its name. Terms are a table { ttl, reason, count }.
 */
#ifndef TG_LISTS_LUA_H
#define TG_LISTS_LUA_H

#include "call.h"
#include "draft.h"
#include "feed.h"
#include "lister.h"
#include "lists.h"
#include "tidegate_abi.h"

#define TG_LIST_PAGE 1000 /* entries that a question gives at a time */

extern const char *const tg_list_verdicts[]; /* for luaL_checkoption */

/* At `index` and `index` + 1; the name may be nil. */
struct tg_list_id tg_check_list_id(lua_State *L, int index);
struct tg_cidr tg_check_prefix(lua_State *L, int index);
/* The texts live as long as the table. */
struct tg_list_terms tg_check_list_terms(lua_State *L, int index);
struct tg_feed *tg_check_feed(lua_State *L, int index);
struct tg_draft *tg_check_draft(lua_State *L, int index);

void tg_push_prefix(lua_State *L, const struct tg_cidr *prefix);
/* { prefix, list, owner, reason, who, ttl, since }, with a counter: packets, bytes. */
void tg_push_list_entry(
	lua_State *L, const struct tg_list_entry *entry, const struct tg_counter *counter);
void tg_set_string(lua_State *L, const char *name, const char *value);
void tg_set_integer(lua_State *L, const char *name, lua_Integer value);

/* A call: what it is given, and what it finds. Texts are copies of its own, but for `text`. */
struct tg_lists_call {
	struct tg_call call;
	int kept[2]; /* references to what has to live until its end */
	struct tg_list_id id;
	struct tg_list_terms terms;
	struct tg_list_actor actor;
	struct tg_cidr prefix;
	bool has_prefix;
	struct tg_feed *feed;
	struct tg_draft *draft;
	int number; /* of a draft's list */
	const char *text;
	size_t size;
	char **scripts;
	size_t min;
	bool found;
	lua_Integer integer;
	struct tg_list_entry *entries; /* found: malloc's, as are their texts */
	struct tg_counter *counters;   /* theirs, or NULL */
	size_t count;
	void *answer; /* malloc's: what else the work leaves for `push` */
	struct tg_list_change change;
};

struct tg_lists_call *tg_new_lists_call(lua_State *L, int callback, void (*work)(struct tg_call *),
	int (*push)(struct tg_call *, lua_State *));
/* The same for a call into the lister's thread: raises without a daemon. */
struct tg_lists_call *tg_new_lister_call(lua_State *L, int callback, void (*work)(struct tg_call *),
	int (*push)(struct tg_call *, lua_State *));
struct tg_lister *tg_lister_of(const struct tg_call *call);
void tg_call_lister(struct tg_lists_call *this);
/* Keeps a value alive until the call is over; two of them at most. */
void tg_lists_call_keep(lua_State *L, struct tg_lists_call *this, int index);
/* Copies what the texts in it point to. */
void tg_lists_call_terms(struct tg_lists_call *this, struct tg_list_terms terms);
/* In the work: keeps entries with copies of their texts. 0 or -ENOMEM. */
int tg_lists_call_found(
	struct tg_lists_call *this, const struct tg_list_entry *entries, size_t count);
/* Pushes `integer`. */
int tg_push_call_integer(struct tg_call *call, lua_State *L);

#endif
