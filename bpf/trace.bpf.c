// SPDX-License-Identifier: GPL-2.0-only
/* The datapath as `trace` runs it: changes nothing, and logs which tables it consults (see trace.h). */
#define TG_TRACING
#include "xdp.bpf.c"
