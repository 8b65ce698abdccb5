/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An instance: one daemon's name, and where its things are. Several live side by side.
 *
 *   /run/tidegate/NAME.sock        control socket (core/console.h)
 *   /run/tidegate/NAME.lock        held by the daemon as long as it lives, with its process id inside;
 *                                  the file stays behind, the lock does not
 *   /run/tidegate/NAME.quarantine  scripts that hung the daemon (core/quarantine.h)
 *   /sys/fs/bpf/tidegate/NAME/     what the kernel keeps for it
 *
 * A name holds letters, digits, `_` and `-`. No dot: the BPF file system reserves names with dots.
 *
 * A daemon calls, in this order and before it starts a thread: tg_instance_init, tg_instance_lock,
 * tg_instance_enter_netns if asked to, tg_instance_need_bpffs. A client only needs the first.
 */
#ifndef TG_INSTANCE_H
#define TG_INSTANCE_H

#include "error.h"

#define TG_INSTANCE_DEFAULT  "default"
#define TG_INSTANCE_NAME_MAX 32
#define TG_RUN_DIR	     "/run/tidegate"
#define TG_BPFFS	     "/sys/fs/bpf"
#define TG_PIN_DIR	     TG_BPFFS "/tidegate"

struct tg_instance {
	char name[TG_INSTANCE_NAME_MAX + 1];
	char socket[64];
	char lock[64];
	char quarantine[80];	/* scripts that hung (core/quarantine.h) */
	char pins[64];		/* without a closing slash */
};

/* Checks `name` (NULL is "default") and fills the paths; touches nothing. 0 or -EINVAL. */
int tg_instance_init(struct tg_instance *instance, const char *name, struct tg_error *error);

/*
 * Takes the instance's lock, making /run/tidegate where it is missing. Returns a descriptor to keep
 * open (close-on-exec) or a negative errno: -EBUSY where another process holds it, named in `error`.
 */
int tg_instance_lock(const struct tg_instance *instance, struct tg_error *error);

/*
 * Moves the calling thread into a network namespace, by name (as `ip netns` lists it) or by path, and
 * into nothing else: mounts stay the host's, so the BPF file system and the control socket do too.
 */
int tg_instance_enter_netns(const char *netns, struct tg_error *error);

/*
 * Makes sure that the BPF file system is mounted, mounting it where it is missing. Refused (-EXDEV) under
 * `ip netns exec`, whose own /sys hides the host's: pins made there would vanish with the command.
 */
int tg_instance_need_bpffs(struct tg_error *error);

enum tg_bpffs_state {
	TG_BPFFS_MOUNTED,
	TG_BPFFS_MISSING,	/* not mounted, though the kernel has it */
	TG_BPFFS_HIDDEN,	/* by a private /sys, as under `ip netns exec` */
	TG_BPFFS_UNSUPPORTED,	/* the kernel has none */
};
/* How the BPF file system is to be found from here; changes nothing. */
enum tg_bpffs_state tg_instance_bpffs_state(void);

#endif
