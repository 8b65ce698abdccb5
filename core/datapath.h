/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The datapath of one instance: its maps, rings, program and links, all pinned below
 * /sys/fs/bpf/tidegate/NAME/, so that they go on without the controller and the next one adopts them:
 *
 *	maps/NAME	the maps of bpf/maps.h
 *	rings/INDEX	the slot tables that `rings` points to
 *	program		the program that is attached
 *	links/DEV	an attachment each
 *
 * The program is specialised for the features in use; with other features another one is loaded
 * beside it and every link is updated in place. Functions here block (a link update some 15 ms) and
 * are called by one thread at a time.
 */
#ifndef TG_DATAPATH_H
#define TG_DATAPATH_H

#include "error.h"
#include "instance.h"
#include "tidegate_abi.h"

#include <stdbool.h>
#include <stddef.h>

/* The maps that the controller uses; TG_MAP_NAME in capitals for each of bpf/maps.h. */
#define TG_MAPS(X)                                                                                 \
	X(INSTANCE, instance)                                                                      \
	X(SERVICES, services)                                                                      \
	X(BACKENDS, backends)                                                                      \
	X(BACKEND_OWNERS, backend_owners)                                                          \
	X(VIPS4, vips4)                                                                            \
	X(VIPS6, vips6)                                                                            \
	X(RINGS, rings)                                                                            \
	X(SERVICE_COUNTERS, service_counters)                                                      \
	X(BACKEND_COUNTERS, backend_counters)                                                      \
	X(REASONS, reasons)                                                                        \
	X(CLOCK, clock)                                                                            \
	X(ENDPOINT_LINES, endpoint_lines)                                                          \
	X(ENDPOINTS, endpoints)                                                                    \
	X(TX_PORTS, tx_ports)                                                                      \
	X(REPLY_COUNTERS, reply_counters)                                                          \
	X(REVERSE4, reverse4)                                                                      \
	X(REVERSE6, reverse6)                                                                      \
	X(ROUTES4, routes4)                                                                        \
	X(ROUTES6, routes6)                                                                        \
	X(LINE_MARKS, line_marks)                                                                  \
	X(LINES, lines)

enum tg_map {
#define TG_MAP_ENUM(symbol, name) TG_MAP_##symbol,
	TG_MAPS(TG_MAP_ENUM)
#undef TG_MAP_ENUM
	TG_MAP_COUNT
};

struct tg_datapath {
	char dir[128];
	struct tg_instance_record info;
	int maps[TG_MAP_COUNT];	     /* descriptors; -1: not made, its feature is not in use */
	int program;		     /* descriptor; -1 before tg_datapath_specialise */
	bool adopted;		     /* this instance was running already */
	struct tg_backend *backends; /* mapped */
	struct tg_clock *clock;	     /* mapped */
	struct tg_line *lines;	     /* mapped; NULL without nat */
	__u64 *line_marks;	     /* likewise */
	size_t line_count;
};

enum tg_xdp_mode { TG_XDP_AUTO, TG_XDP_NATIVE, TG_XDP_GENERIC };

struct tg_attachment {
	unsigned int ifindex;
	enum tg_xdp_mode mode;	/* native or generic, as it is now */
	bool adopted;		/* the link was there already */
	char why[128];		/* why not native, or empty */
};

/*
 * Opens the instance: adopts its pins or, with none, prepares for making them. `seed` keys the flow
 * hash; 0,0 keeps the adopted one or draws one. Pins of another ABI version are removed, and *replaced
 * tells so. Errors: -EPERM (privilege), -ENOENT (no bpffs), -EEXIST (a directory that is not ours).
 */
int tg_datapath_open(struct tg_datapath *dp, const char *instance, const __u64 seed[2],
	bool *replaced, struct tg_error *error);

/*
 * Makes the program fit `features` (TG_FEATURE_*): nothing happens if the attached one does already.
 * Maps that a new feature needs are made; those of one no longer used stay until unload.
 */
int tg_datapath_specialise(struct tg_datapath *dp, __u32 features, struct tg_error *error);

/* Attaches the program to a device, or takes over the link that is there. */
int tg_datapath_attach(struct tg_datapath *dp, const char *device, enum tg_xdp_mode mode,
	struct tg_attachment *out, struct tg_error *error);
/* Detaches; a device without a link is no error. */
int tg_datapath_detach(struct tg_datapath *dp, const char *device, struct tg_error *error);
/* Calls fn for each pinned link. `ifindex` is 0 when its device is gone. */
int tg_datapath_links(const struct tg_datapath *dp,
	void (*fn)(void *user, const char *device, unsigned int ifindex), void *user);

/* Where the link of a device is pinned. */
void tg_datapath_link_path(const struct tg_datapath *dp, const char *device, char path[256]);

/* A ring's map: created, mapped, pinned as rings/INDEX and not yet in `rings`. */
struct tg_ring {
	int fd;
	__u32 index, size;
	__u64 *slots;
};
int tg_ring_create(struct tg_datapath *dp, __u32 index, __u32 size, struct tg_ring *ring,
	struct tg_error *error);
/* Adopts the pinned ring INDEX; -ENOENT if there is none. */
int tg_ring_adopt(struct tg_datapath *dp, __u32 index, struct tg_ring *ring, struct tg_error *error);
/* Puts rings into `rings`, all in one batch: each entry alone would wait for an RCU grace period. */
int tg_ring_install(struct tg_datapath *dp, const struct tg_ring *rings, size_t count,
	struct tg_error *error);
/* Makes backend homes[i] that of slot i: one aligned store for each slot that changes, none for others. */
void tg_ring_write(struct tg_ring *ring, const __u32 *homes);
/* Unmaps; with `dp` also unpins it. It stays in `rings` until tg_ring_clear. */
void tg_ring_release(struct tg_datapath *dp, struct tg_ring *ring);
/* Calls fn for each pinned ring; it may unpin that one. */
void tg_ring_each(
	struct tg_datapath *dp, void (*fn)(void *user, struct tg_datapath *dp, __u32 index), void *user);
void tg_ring_unpin(struct tg_datapath *dp, __u32 index);
/* Takes rings out of `rings`, all in one batch. */
int tg_ring_clear(struct tg_datapath *dp, const __u32 *indexes, size_t count, struct tg_error *error);

/*
 * Sets an element of a map. What can be foreseen (a full map) is checked before; what can't is logged
 * here, once a second at most, and returned.
 */
int tg_datapath_set(const struct tg_datapath *dp, enum tg_map map, const void *key, const void *value);

/* All elements of an array map, read at once: `count` values in malloc's memory, or NULL. */
void *tg_datapath_read(const struct tg_datapath *dp, enum tg_map map, size_t value_size, __u32 count);

/* Sums a per-CPU struct tg_counter. */
struct tg_counter tg_datapath_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index);
/* How many packets had this reason. */
__u64 tg_datapath_reason(const struct tg_datapath *dp, enum tg_reason reason);
/* Sets a per-CPU counter to zero. */
void tg_datapath_reset_counter(const struct tg_datapath *dp, enum tg_map map, __u32 index);

/* Closes descriptors and mappings. What is pinned goes on. */
void tg_datapath_close(struct tg_datapath *dp);

/*
 * Detaches and removes everything that the instance pinned, also what a dead daemon left. -ENOENT: there
 * was nothing; -EEXIST: the directory is not ours.
 */
int tg_datapath_unload(const char *instance, struct tg_error *error);

#endif
