/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of kernel features and their probes. A feature's version is the first mainline release
 * that has it (docs.ebpf.io's feature-versions, bcc's kernel-versions.md, checked against each other).
 */
#include "doctor.h"

#include "datapath_tracks.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/wait.h>
#include <unistd.h>

#include "instance.h"

#define TCX_INGRESS ((enum bpf_attach_type)46)	/* newer than Debian 12's <linux/bpf.h> */
#define LO_IFINDEX  1				/* in every new network namespace */
#if defined(__aarch64__)
#define JIT_SINCE "3.18"
#else
#define JIT_SINCE "3.16"
#endif

struct feature {
	const char *name, *since;
	bool required;
	enum tg_presence (*probe)(const struct feature *feature, struct tg_finding *finding);
	int value, flags;	/* the probe's: a program type, a map type, a helper … */
	const char *text;	/* likewise: a function's name */
	const char *lost;
};

static void note(struct tg_finding *finding, const char *text)
{
	snprintf(finding->note, sizeof(finding->note), "%s", text);
}

static enum tg_presence presence(bool present)
{
	return present ? TG_PRESENT : TG_ABSENT;
}

/* --- privileges --- */

static bool has_capability(cap_value_t capability)
{
	cap_t caps = cap_get_proc();
	cap_flag_value_t value = CAP_CLEAR;

	if (caps)
		cap_get_flag(caps, capability, CAP_EFFECTIVE, &value);
	cap_free(caps);
	return value == CAP_SET;
}

/* `flags`: another capability that includes this one, or 0 (CAP_CHOWN, which includes none). */
static enum tg_presence probe_capability(const struct feature *feature, struct tg_finding *finding)
{
	return presence(has_capability(feature->value) ||
		(feature->flags && has_capability(feature->flags)));
}

/* Whether the kernel lets us probe at all; capabilities within a user namespace don't count for it. */
static bool may_use_bpf(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tg_probe", 4, 8, 1, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EPERM;
}

/* Programs need more than maps: CAP_NET_ADMIN for those that see packets. */
static bool may_load(struct tg_finding *finding)
{
	if (may_use_bpf() &&
		(has_capability(CAP_NET_ADMIN) || has_capability(CAP_SYS_ADMIN)))
		return true;
	note(finding, "no privilege");
	return false;
}

static bool may_create_maps(struct tg_finding *finding)
{
	if (may_use_bpf())
		return true;
	note(finding, "no privilege");
	return false;
}

/* --- programs --- */

static const struct bpf_insn return_pass[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 2 },
	{ .code = BPF_JMP | BPF_EXIT },
};

static const struct bpf_insn compare_and_swap[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = 1 },
	{ .code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_0, .off = -8 },
	{ .code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_1,
		.off = -8, .imm = BPF_CMPXCHG },
	{ .code = BPF_JMP | BPF_EXIT },
};

static int load(enum bpf_prog_type type, unsigned int flags)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = flags);

	return bpf_prog_load(type, "tg_probe", "GPL", return_pass, 2, &opts);
}

static enum tg_presence close_probed(int fd)
{
	if (fd >= 0)
		close(fd);
	return presence(fd >= 0);
}

static enum tg_presence probe_program(const struct feature *feature, struct tg_finding *finding)
{
	if (!may_load(finding))
		return TG_UNKNOWN;
	return close_probed(load(feature->value, feature->flags));
}

static enum tg_presence probe_atomics(const struct feature *feature, struct tg_finding *finding)
{
	if (!may_load(finding))
		return TG_UNKNOWN;
	return close_probed(bpf_prog_load(BPF_PROG_TYPE_XDP, "tg_probe", "GPL", compare_and_swap,
		sizeof(compare_and_swap) / sizeof(*compare_and_swap), NULL));
}

static enum tg_presence probe_jit(const struct feature *feature, struct tg_finding *finding)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);
	int fd, err;

	if (!may_load(finding))
		return TG_UNKNOWN;
	fd = load(BPF_PROG_TYPE_XDP, 0);
	err = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &size);
	if (fd >= 0)
		close(fd);
	if (!err && !info.jited_prog_len)
		note(finding, "sysctl -w net.core.bpf_jit_enable=1");
	return presence(!err && info.jited_prog_len);
}

static enum tg_presence probe_test_run(const struct feature *feature, struct tg_finding *finding)
{
	char packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		.repeat = 1);
	int fd, err;

	if (!may_load(finding))
		return TG_UNKNOWN;
	fd = load(BPF_PROG_TYPE_XDP, 0);
	err = fd < 0 ? fd : bpf_prog_test_run_opts(fd, &opts);
	if (fd >= 0)
		close(fd);
	return presence(!err && opts.retval == 2);
}

/* --- links: attached to lo in a network namespace that ends with a child process --- */

static int link_in_child(const struct feature *feature)
{
	LIBBPF_OPTS(bpf_link_create_opts, xdp, .flags = XDP_FLAGS_SKB_MODE);
	bool is_xdp = feature->value == BPF_PROG_TYPE_XDP;
	int fd;

	if (unshare(CLONE_NEWNET))
		return TG_UNKNOWN;
	fd = load(feature->value, 0);
	if (fd < 0)
		return TG_ABSENT;
	fd = bpf_link_create(fd, LO_IFINDEX, feature->flags, is_xdp ? &xdp : NULL);
	return presence(fd >= 0);
}

static enum tg_presence probe_link(const struct feature *feature, struct tg_finding *finding)
{
	int status = 0;
	pid_t pid;

	if (!may_load(finding))
		return TG_UNKNOWN;
	pid = fork();
	if (!pid)
		_exit(link_in_child(feature));
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return TG_UNKNOWN;
	if (WEXITSTATUS(status) == TG_UNKNOWN)
		note(finding, "no privilege to make a network namespace");
	return WEXITSTATUS(status);
}

/* --- maps --- */

static enum tg_presence probe_map(const struct feature *feature, struct tg_finding *finding)
{
	if (!may_create_maps(finding))
		return TG_UNKNOWN;
	return presence(libbpf_probe_bpf_map_type(feature->value, NULL) == 1);
}

static int create_array(unsigned int flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);

	return bpf_map_create(BPF_MAP_TYPE_ARRAY, "tg_probe", 4, 8, 1, &opts);
}

static enum tg_presence probe_array_flags(const struct feature *feature, struct tg_finding *finding)
{
	if (!may_create_maps(finding))
		return TG_UNKNOWN;
	return close_probed(create_array(feature->flags));
}

static enum tg_presence probe_batch(const struct feature *feature, struct tg_finding *finding)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	__u32 key = 0, count = 1;
	__u64 value = 1;
	int fd, err;

	if (!may_create_maps(finding))
		return TG_UNKNOWN;
	fd = create_array(0);
	err = fd < 0 ? fd : bpf_map_update_batch(fd, &key, &value, &count, &opts);
	if (fd >= 0)
		close(fd);
	return presence(!err);
}

/* --- functions that programs call --- */

/* `value` the helper, `flags` the program type. */
static enum tg_presence probe_helper(const struct feature *feature, struct tg_finding *finding)
{
	if (!may_load(finding))
		return TG_UNKNOWN;
	return presence(libbpf_probe_bpf_helper(feature->flags, feature->value, NULL) == 1);
}

static enum tg_presence probe_kfunc(const struct feature *feature, struct tg_finding *finding)
{
	bool module, found = tg_conntrack_supported(feature->text, &module);

	if (module)
		note(finding, "not in the kernel itself, and the module nf_conntrack is not loaded");
	return presence(found);
}

/* --- the rest of the kernel --- */

static enum tg_presence probe_file(const struct feature *feature, struct tg_finding *finding)
{
	return presence(!access(feature->text, R_OK));
}

static enum tg_presence probe_bpffs(const struct feature *feature, struct tg_finding *finding)
{
	switch (tg_instance_bpffs_state()) {
	case TG_BPFFS_MOUNTED:
		return TG_PRESENT;
	case TG_BPFFS_HIDDEN:
		note(finding, "hidden by a private /sys, as under `ip netns exec`: use --netns NAME instead");
		return TG_ABSENT;
	case TG_BPFFS_MISSING:
		if (has_capability(CAP_SYS_ADMIN)) {
			note(finding, "not mounted now: `tidegate run` does it");
			return TG_PRESENT;
		}
		note(finding, "not mounted; as root: mount -t bpf bpf " TG_BPFFS);
		return TG_ABSENT;
	default:
		return TG_ABSENT;
	}
}

/* --- the table --- */

#define XDP_HELPER(name) probe_helper, BPF_FUNC_##name, BPF_PROG_TYPE_XDP, NULL
#define TC_HELPER(name)	 probe_helper, BPF_FUNC_##name, BPF_PROG_TYPE_SCHED_CLS, NULL
#define MAP(type)	 probe_map, BPF_MAP_TYPE_##type, 0, NULL

static const struct feature features[] = {
	{ "CAP_BPF", "5.8", true, probe_capability, CAP_BPF, CAP_SYS_ADMIN, NULL,
		"no program or map can be loaded (before 5.8: CAP_SYS_ADMIN)" },
	{ "CAP_NET_ADMIN", "2.2", true, probe_capability, CAP_NET_ADMIN, 0, NULL,
		"nothing can be attached to a port" },
	{ "CAP_PERFMON", "5.8", true, probe_capability, CAP_PERFMON, CAP_SYS_ADMIN, NULL,
		"the verifier may refuse the programs" },
	{ "CAP_SYS_ADMIN", "2.2", false, probe_capability, CAP_SYS_ADMIN, 0, NULL,
		"--netns, mounting the BPF file system, opening others' maps by id" },

	{ "XDP programs", "4.8", true, probe_program, BPF_PROG_TYPE_XDP, 0, NULL,
		"balancing and deny lists" },
	{ "XDP programs for frames in fragments", "5.18", true, probe_program, BPF_PROG_TYPE_XDP,
		BPF_F_XDP_HAS_FRAGS, NULL, "the programs don't load; jumbo frames" },
	{ "XDP by BPF link", "5.9", true, probe_link, BPF_PROG_TYPE_XDP, BPF_XDP, NULL,
		"forwarding would end with the daemon" },
	{ "TC programs (sched_cls)", "4.1", false, probe_program, BPF_PROG_TYPE_SCHED_CLS, 0, NULL,
		"policies and mirrors" },
	{ "TC by BPF link (TCX)", "6.6", false, probe_link, BPF_PROG_TYPE_SCHED_CLS, TCX_INGRESS, NULL,
		"TC programs go through a clsact qdisc instead" },
	{ "atomic compare-and-swap", "5.12", true, probe_atomics, 0, 0, NULL,
		"the programs don't load; flow tables" },
	{ "JIT compiler", JIT_SINCE, false, probe_jit, 0, 0, NULL,
		"programs are interpreted, several times slower" },
	{ "program test runs", "4.12", false, probe_test_run, 0, 0, NULL, "trace, test" },

	{ "map HASH", "3.19", true, MAP(HASH), "VIPs" },
	{ "map LPM_TRIE", "4.11", true, MAP(LPM_TRIE), "routes of nat" },
	{ "map PERCPU_ARRAY", "4.6", true, MAP(PERCPU_ARRAY), "counters" },
	{ "map ARRAY_OF_MAPS", "4.12", true, MAP(ARRAY_OF_MAPS), "a ring for each service" },
	{ "map ARRAY, mapped", "5.5", true, probe_array_flags, 0, BPF_F_MMAPABLE, NULL,
		"rings that change slot by slot" },
	{ "map ARRAY, inner, of any size", "5.10", true, probe_array_flags, 0, BPF_F_INNER_MAP, NULL,
		"rings of different sizes" },
	{ "map DEVMAP_HASH", "5.4", true, MAP(DEVMAP_HASH), "forwarding from one port to another" },
	{ "map RINGBUF", "5.8", false, MAP(RINGBUF), "capture, logging of packets" },
	{ "batched map updates", "5.6", false, probe_batch, 0, 0, NULL,
		"large tables are filled one entry at a time" },

	{ "bpf_fib_lookup (XDP)", "4.18", true, XDP_HELPER(fib_lookup),
		"next hops that the controller has not resolved" },
	{ "bpf_redirect_map (XDP)", "4.14", true, XDP_HELPER(redirect_map),
		"forwarding from one port to another" },
	{ "bpf_xdp_get_buff_len (XDP)", "5.18", true, XDP_HELPER(xdp_get_buff_len),
		"lengths of frames in fragments" },
	{ "bpf_xdp_adjust_head (XDP)", "4.10", false, XDP_HELPER(xdp_adjust_head),
		"ipip and gue" },
	{ "bpf_xdp_adjust_tail (XDP)", "4.18", false, XDP_HELPER(xdp_adjust_tail),
		"answers with packet-too-big" },
	{ "bpf_jiffies64 (XDP)", "5.6", false, XDP_HELPER(jiffies64), "timestamps of flows" },
	{ "bpf_ringbuf_output (XDP)", "5.8", false, XDP_HELPER(ringbuf_output),
		"capture, logging of packets" },
	{ "bpf_clone_redirect (TC)", "4.2", false, TC_HELPER(clone_redirect), "mirrors" },
	{ "bpf_skb_load_bytes (TC)", "4.5", false, TC_HELPER(skb_load_bytes), "policies, captures" },

	{ "BTF of the kernel", "5.4", false, probe_file, 0, 0, "/sys/kernel/btf/vmlinux",
		"stateful = \"conntrack\"" },
	{ "bpf_xdp_ct_lookup", "5.18", false, probe_kfunc, 0, 0, "bpf_xdp_ct_lookup",
		"stateful = \"conntrack\" for what XDP balances" },
	{ "bpf_skb_ct_lookup", "5.18", false, probe_kfunc, 0, 0, "bpf_skb_ct_lookup",
		"stateful = \"conntrack\"" },

	{ "BPF file system", "4.4", true, probe_bpffs, 0, 0, NULL,
		"forwarding would end with the daemon" },
};

void tg_doctor_kernel(tg_doctor_report report, void *user)
{
	libbpf_set_print(NULL);
	for (size_t i = 0; i < sizeof(features) / sizeof(*features); i++) {
		const struct feature *feature = &features[i];
		struct tg_finding finding = {
			.name = feature->name,
			.since = feature->since,
			.required = feature->required,
			.lost = feature->lost,
		};

		finding.presence = feature->probe(feature, &finding);
		report(&finding, user);
	}
}
