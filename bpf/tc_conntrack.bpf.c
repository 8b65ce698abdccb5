// SPDX-License-Identifier: GPL-2.0-only
/* The TC programs where a policy asks for the kernel's connections (conntrack.h). */
#define TG_CONNTRACK
#include "tc.bpf.c"
