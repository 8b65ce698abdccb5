/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this machine offers: each kernel feature that the datapath uses, and each device's, one
 * finding apiece. Every kernel feature is tried out, not guessed from the version; what is attached
 * for that is attached in a network namespace that ends with the probe. Nothing is left behind, no
 * live port is touched. Works without privilege as far as it goes: the rest is unknown.
 */
#ifndef TG_DOCTOR_H
#define TG_DOCTOR_H

#include <stdbool.h>

enum tg_presence { TG_ABSENT, TG_PRESENT, TG_UNKNOWN };

struct tg_finding {
	const char *name;
	const char *since;	/* kernel version, or NULL where it is a setting */
	bool required;		/* without it Tidegate doesn't run at all */
	const char *lost;	/* what doesn't work without it */
	enum tg_presence presence;
	const char *device;	/* NULL: of the machine */
	char note[128];		/* why, or what to do about it; may be empty */
};

typedef void (*tg_doctor_report)(const struct tg_finding *finding, void *user);

/* Privileges and kernel features. Forks: call it before threads start. */
void tg_doctor_kernel(tg_doctor_report report, void *user);
/* Settings of the network namespace that the process is in. */
void tg_doctor_network(tg_doctor_report report, void *user);
/* One device of that namespace; one that does not exist is a required finding that is absent. */
void tg_doctor_device(const char *device, tg_doctor_report report, void *user);

#endif
