/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Deny and allow lists as the datapath has them: sets of prefixes of both families, each in a class.
 * A class is a list with its verdict (at most TG_DENY_CLASSES of them, for both families together).
 * The longest prefix that covers a packet's source decides, over all lists; of equal ones an allowing
 * one, then that of the lower class. core/deny4.c and core/deny6.c keep the tables (bpf/deny.h reads
 * them); this module is what the rest of the controller uses. It knows nothing of times to live,
 * reasons, owners or files: those are of whoever calls.
 *
 * Life. tg_deny_new in a daemon that has opened its datapath. Then, after each tg_datapath_specialise
 * that asked for TG_FEATURE_DENY4, _DENY6 or _DENY_COUNT, tg_deny_open: it maps what is there now. On
 * an adopted instance this reads everything back: prefixes, classes and counters are in pinned maps,
 * the datapath goes on with them meanwhile, nothing has to be added again (tg_deny_each says what is
 * there). A daemon that was killed amid a change leaves some of its prefixes changed and the others
 * not; each one is whole.
 *
 * Changes are safe under traffic: what is on the lists before and after one is judged so throughout,
 * by whichever prefix. Adding or removing is all or nothing, unless said otherwise.
 *
 * Who may call: any thread; the functions lock. Those marked "slow" take up to a second for a million
 * prefixes, and wait for an RCU grace period (some 20 ms): never in a loop's thread, use a worker's
 * (tg_call_in_pool). They wait for one another; the others wait a few milliseconds for them at most.
 * Those marked "at once" take no lock. tg_deny_open and tg_deny_release not while tg_datapath_specialise runs.
 */
#ifndef TG_DENY_H
#define TG_DENY_H

#include "datapath.h"
#include "error.h"
#include "tidegate_abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tg_deny;

/* A prefix: host bits are ignored on input and 0 on output. */
struct tg_deny_prefix {
	uint32_t addr[4]; /* network order; IPv4 in addr[0], the rest 0 */
	uint8_t v6;       /* 0 or 1 */
	uint8_t length;   /* 0 … 32, or 0 … 128 */
	uint8_t count;    /* 1: a whole address with counters of its own (TG_FEATURE_DENY_COUNT); else ignored */
	uint8_t class;    /* set by tg_deny_each and tg_deny_find; ignored on input */
};

enum tg_deny_verdict { TG_DENY_DENY, TG_DENY_ALLOW };

/* NULL only without memory. */
struct tg_deny *tg_deny_new(struct tg_datapath *dp);
/* Frees what is the daemon's; the datapath goes on. */
void tg_deny_free(struct tg_deny *deny);

/* Maps the tables that the datapath has and that are not mapped yet, and reads them back. Slow. */
int tg_deny_open(struct tg_deny *deny, struct tg_error *error);
/* Unmaps, closes and unpins the tables of families without a prefix that the attached program does not use. */
void tg_deny_release(struct tg_deny *deny);
/* The features that the prefixes now on the lists need: TG_FEATURE_DENY4 | …  At once. */
uint32_t tg_deny_features(const struct tg_deny *deny);

/* --- classes --- */

/*
 * The class (1 … TG_DENY_CLASSES) of the list `name`, made if there is none. -ENOSPC: all are taken;
 * -EEXIST: the name is a list of the other verdict; -ENODEV: no table of any family is open.
 */
int tg_deny_class(struct tg_deny *deny, const char *name, enum tg_deny_verdict verdict,
	struct tg_error *error);
/* The class of that name, or -ENOENT. */
int tg_deny_class_find(struct tg_deny *deny, const char *name);
/* Frees a class, its prefixes are removed. Slow. */
void tg_deny_class_drop(struct tg_deny *deny, int class);

struct tg_deny_class_info {
	char name[TG_NAME_SIZE];
	enum tg_deny_verdict verdict;
	size_t prefixes[2];         /* of IPv4 and IPv6 */
	struct tg_counter counter;  /* packets that this class decided, and their bytes */
};
/* False if there is no such class. */
bool tg_deny_class_info(struct tg_deny *deny, int class, struct tg_deny_class_info *info);

/* --- prefixes --- */

struct tg_deny_change {
	size_t added, removed;
	size_t kept; /* given, and there already */
};

/*
 * Adds prefixes to a class, those that are there already are left (except `count`: it is set as given).
 * Prefixes may be given in any order, and twice. Slow. -ENOSPC: a table is full, -ENODEV: the table
 * of a family is not open: specialise and tg_deny_open first. Nothing is added then.
 */
int tg_deny_add(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes, size_t count,
	struct tg_deny_change *change, struct tg_error *error);
/* Removes prefixes from a class; those that aren't in it are passed over. Slow. */
void tg_deny_remove(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes,
	size_t count, struct tg_deny_change *change);
/*
 * Makes the class hold these prefixes and no others: first what is new comes, then what is no longer
 * given goes. Slow. Errors as of tg_deny_add; nothing has changed then.
 */
int tg_deny_replace(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefixes,
	size_t count, struct tg_deny_change *change, struct tg_error *error);

/* Is this very prefix in the class? */
bool tg_deny_has(struct tg_deny *deny, int class, const struct tg_deny_prefix *prefix);
/*
 * The longest prefix of one of the classes (bits 1 << class; ~0ull: of any) that covers the given one
 * wholly (a whole address: what decides about it). False: none.
 */
bool tg_deny_find(struct tg_deny *deny, uint64_t classes, const struct tg_deny_prefix *of,
	struct tg_deny_prefix *found);
/*
 * Reads the prefixes of the classes, in no order: up to `room` of them, from *cursor on (0 at first).
 * Returns how many; 0: there are no more. What is added or removed meanwhile may be seen or not.
 */
size_t tg_deny_each(struct tg_deny *deny, uint64_t classes, size_t *cursor,
	struct tg_deny_prefix *prefixes, size_t room);

/* --- what they did --- */

/*
 * Packets from an address that was added with `count`, and their bytes, as far as that prefix decided about
 * them. -ENOENT: it has no counters.
 */
int tg_deny_host_counter(
	struct tg_deny *deny, const struct tg_deny_prefix *host, struct tg_counter *counter);

/* One of the heaviest denied sources; both numbers are estimates, from samples. */
struct tg_deny_source {
	uint32_t addr[4];
	uint8_t v6, class;
	uint64_t packets, bytes;
};
/* The heaviest denied sources since the last reset, heaviest first; returns how many. */
size_t tg_deny_top(struct tg_deny *deny, struct tg_deny_source *sources, size_t room);
void tg_deny_top_reset(struct tg_deny *deny);

/* Bytes of the tables in the kernel, by family, and at most of the controller's own memory. At once. */
struct tg_deny_memory {
	size_t tables[2], controller;
};
struct tg_deny_memory tg_deny_memory(const struct tg_deny *deny);

#endif
