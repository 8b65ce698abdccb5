/* SPDX-License-Identifier: GPL-2.0-only */
/* Network namespaces, told by their inodes. */
#ifndef TG_NETNS_H
#define TG_NETNS_H

#include <linux/types.h>

/* That of the calling thread; 0 if it can't be told. */
__u64 tg_netns_current(void);
/*
 * Calls fn in the namespace with that inode (0: the caller's), in a thread of its own if it is another than the caller's, and waits
 * for it. 0; -ENOENT: none that has a name or a process is the one; or another negative errno.
 */
int tg_netns_call(__u64 inode, void (*fn)(void *user), void *user);

#endif
