// SPDX-License-Identifier: GPL-2.0-only
/* TC's part of the datapath as `trace` runs it: changes nothing, and logs which tables it consults (see trace.h). */
#define TG_TRACING
#include "tc.bpf.c"
