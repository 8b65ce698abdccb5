/* SPDX-License-Identifier: GPL-2.0-only */
/* Opens what is pinned in a BPF file system, and nothing else that lies there. */
#ifndef TG_PINNED_H
#define TG_PINNED_H

#include "error.h"

/*
 * A descriptor of the object pinned at `path`, which has to be a `kind`: "map" or "prog". Returns
 * it, or a negative errno: -ENOENT, -EPERM, -EINVAL (another kind of object, no BPF file system) …
 */
int tg_pinned_open(const char *path, const char *kind, struct tg_error *error);

#endif
