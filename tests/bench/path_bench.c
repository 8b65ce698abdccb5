/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * path_bench NAME ACTION ADDRESS PORT PINS JSON: packets a second along a whole path of veth pairs,
 * through the switch (a daemon's program, pinned below PINS) and beside it through a program that does
 * nothing but ACTION: drop, tx or redirect. Or ACTION is filter: both drop what no rule accepts, the
 * switch by its policy, the other by whatever it has (nftables, see rules.sh). Called by path.sh and
 * rules.sh, which make the namespaces:
 *
 *	gen:g0 ── s0:sw (the daemon)	gen:h0 ── b0:bare (the bare program)
 *	gen:g1 ── s1			gen:h1 ── b1
 *
 * A sender runs on live frames (BPF_F_TEST_XDP_LIVE_FRAMES) and redirects each to g0 or h0, as TCP
 * from 2^20 sources in 10.0.0.0/12 to ADDRESS:PORT. All is one thread's work on one CPU, NAPI
 * included, so the time of a run is the path's. Both switches take turns, ROUNDS times; printed are
 * the medians. Each frame must have arrived where ACTION says: at a sink or among the dropped.
 *
 * Environment: GEN and BARE, the namespaces; FRAMES, how many a run sends to BARE (FRAMES_MOST, as to the
 * switch): a slow filter need not get as many.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "tidegate_abi.h"

#include "path_bench.skel.h"

#define ROUNDS 7
#define FLOWS  (1 << 20)
#define FRAMES_MOST (1 << 20)

static void die(const char *what)
{
	fprintf(stderr, "path_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void enter(const char *netns)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static __u32 device(const char *name)
{
	__u32 index = if_nametoindex(name);

	if (!index)
		die(name);
	return index;
}

static void attach(const char *name, const struct bpf_program *program)
{
	if (bpf_xdp_attach(device(name), bpf_program__fd(program), XDP_FLAGS_DRV_MODE, NULL))
		die(name);
}

static void mac_of(const char *name, __u8 mac[6])
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		die(name);
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
}

/* An Ethernet frame with a TCP packet; checksums don't matter on this way. */
static void make_frame(__u64 *words, const char *address, int port)
{
	__u8 *frame = (void *)words;
	__be16 dport = htons(port);
	__be32 addr;

	if (inet_pton(AF_INET, address, &addr) != 1)
		die(address);
	memcpy(frame + 6, "\2\0\0\0\0\1\x08\x00\x45\0\0\x28\0\0\x40\0\x40\x06", 18);
	memcpy(frame + 30, &addr, 4);
	memcpy(frame + 36, &dport, 2);
	frame[46] = 0x50;
	frame[47] = 0x10; /* ACK */
}

static __u64 sum(int map, __u32 index)
{
	__u64 values[256], all = 0;

	if (bpf_map_lookup_elem(map, &index, values))
		die("counters");
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		all += values[i];
	return all;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

struct path {
	struct path_bench_bpf *object;
	int reasons; /* the daemon's */
	bool drops, filters;
	__u32 bare_frames; /* of a run */
};

/* Frames that went the way they should, so far: arrived, or dropped as denied. */
static __u64 seen(const struct path *path, bool bare)
{
	int arrived = bpf_map__fd(path->object->maps.arrived);

	if (path->filters)
		return bare ? 0 : sum(path->reasons, TG_REASON_POLICY_DROP);
	if (!path->drops)
		return sum(arrived, 0);
	return bare ? sum(arrived, 1) : sum(path->reasons, TG_REASON_DENIED);
}

/* Sends frames out of a device: packets a second. What another filter drops, its own counters tell: rules.sh. */
static double run(const struct path *path, const char *from, bool bare)
{
	const __u32 frames = bare ? path->bare_frames : FRAMES_MOST;
	__u8 data[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = sizeof(data),
		.repeat = frames, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
	__u32 zero = 0, index = device(from);
	__u64 before = seen(path, bare), got;
	double start;

	mac_of(from, (__u8 *)path->object->bss->frame); /* the switch minds no destination */
	if (bpf_map_update_elem(bpf_map__fd(path->object->maps.out), &zero, &index, 0))
		die("devmap");
	start = seconds();
	if (bpf_prog_test_run_opts(bpf_program__fd(path->object->progs.path_sender), &opts))
		die("live frames");
	start = seconds() - start;
	got = path->filters && bare ? frames : seen(path, bare) - before;
	if (got < frames - frames / 100) {
		fprintf(stderr, "path_bench: %llu of %u frames from %s took the path\n", got,
			frames, from);
		exit(1);
	}
	return got / start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static const struct bpf_program *bare_program(struct path_bench_bpf *object, const char *action)
{
	if (!strcmp(action, "drop"))
		return object->progs.bare_drop;
	return strcmp(action, "tx") ? object->progs.bare_redirect : object->progs.bare_tx;
}

static void set_up(struct path *path, char **argv)
{
	char reasons[256];
	__u32 zero = 0, index;

	path->object = path_bench_bpf__open_and_load();
	if (!path->object)
		die("path_bench.bpf.o");
	path->object->bss->flow_mask = FLOWS - 1;
	make_frame(path->object->bss->frame, argv[3], atoi(argv[4]));
	path->drops = !strcmp(argv[2], "drop");
	path->filters = !strcmp(argv[2], "filter");
	path->bare_frames = getenv("FRAMES") ? atoi(getenv("FRAMES")) : FRAMES_MOST;
	snprintf(reasons, sizeof(reasons), "%s/maps/reasons", argv[5]);
	path->reasons = bpf_obj_get(reasons);
	if (path->reasons < 0)
		die(reasons);
	enter(getenv("BARE"));
	if (!path->filters) {
		attach("b0", bare_program(path->object, argv[2]));
		attach("b1", path->object->progs.path_sink);
		index = device("b1");
		bpf_map_update_elem(bpf_map__fd(path->object->maps.other), &zero, &index, 0);
	}
	enter(getenv("GEN"));
	for (const char **name = (const char *[]){ "g0", "h0", "g1", "h1", NULL };
		*name && !(path->filters && strcmp(*name + 1, "0")); name++)
		attach(*name, path->object->progs.path_sink);
}

static void stay_on_one_cpu(void)
{
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(libbpf_num_possible_cpus() - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
}

int main(int argc, char **argv)
{
	double ours[ROUNDS], bare[ROUNDS], ratio[ROUNDS];
	struct path path;
	FILE *json;

	if (argc != 7) {
		fprintf(stderr, "usage: path_bench NAME ACTION ADDRESS PORT PINS JSON\n");
		return 2;
	}
	stay_on_one_cpu();
	set_up(&path, argv);
	for (int i = 0; i < ROUNDS; i++) {
		ours[i] = run(&path, "g0", false);
		bare[i] = run(&path, "h0", true);
		ratio[i] = ours[i] / bare[i];
	}
	qsort(ours, ROUNDS, sizeof(*ours), compare);
	qsort(bare, ROUNDS, sizeof(*bare), compare);
	qsort(ratio, ROUNDS, sizeof(*ratio), compare);
	printf("%-16s %6.3f million packets/s, %s %-8s %6.3f: %.2f of it\n", argv[1],
		ours[ROUNDS / 2] / 1e6, path.filters ? "another" : "bare", argv[2],
		bare[ROUNDS / 2] / 1e6, ratio[ROUNDS / 2]);
	json = fopen(argv[6], "a");
	if (!json)
		die(argv[6]);
	fprintf(json,
		"{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"packets/"
		"s\",\"floor\":%.0f,\"ratio\":%.3f}\n",
		argv[1], ours[ROUNDS / 2], bare[ROUNDS / 2], ratio[ROUNDS / 2]);
	return fclose(json) != 0;
}
