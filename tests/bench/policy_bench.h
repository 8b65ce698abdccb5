/* SPDX-License-Identifier: GPL-2.0-only */
/* What policy_bench.c and policy_bench.bpf.c share. */
#define POLICY_KEYS 65536
