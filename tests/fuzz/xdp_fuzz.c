/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xdp_fuzz --pins DIR [--packets N] [--seed S] [--from NUMBER] [--device DEV] [--trace] [--list NAME=PREFIX]…
 *          [ADDRESS…]: sends N
 * random packets (see fuzz.h) through the program that an instance has pinned below DIR, on its live
 * tables, and disturbs those meanwhile. Holds:
 *
 *   - no verdict but drop, pass, tx and redirect;
 *   - each packet that leaves or was changed is well-formed (judge.c);
 *   - each packet has exactly one reason: what the program counted is what was sent;
 *   - who is on a list (--list names all its prefixes) is dropped or not as it says, and counted by it;
 *   - the judge would notice: packets that left well-formed are damaged, and shown to it again;
 *   - with --trace: the tracer says beforehand the verdict, the reason and the bytes that come out, and
 *     tracing all packets once more leaves every table as it is.
 *
 * A packet that does not hold is printed as hex, with what brings it back (`--seed S --from NUMBER
 * --packets 1`). ADDRESSes join the dictionary. Closes with a line of totals.
 */
#include "fuzz.h"

#include "tidegate_abi.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BATCH	   4096 /* packets between two looks at the counters */
#define MOST_FAILS 10
#define MAX_RINGS  64 /* that are disturbed */
#define MOST_LISTED 128

struct fuzz {
	const char *pins;
	uint64_t seed, from, packets;
	unsigned int device;
	struct dictionary words;
	int program, reasons, services, replies;
	struct tg_backend *backends;
	struct tg_clock *clock;
	uint64_t *ring[MAX_RINGS];
	uint32_t ring_slots[MAX_RINGS], ring_count, backend_count;
	uint64_t verdicts[XDP_REDIRECT + 1], fails;
	uint64_t damaged, noticed;
	bool trace; /* asked for */
	struct bytes in, out;
};

static void die(const char *what)
{
	fprintf(stderr, "xdp_fuzz: %s: %s\n", what, strerror(errno));
	exit(3);
}

static int try_pin(const struct fuzz *fuzz, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", fuzz->pins, name);
	return bpf_obj_get(path);
}

static int open_pin(const struct fuzz *fuzz, const char *name)
{
	int fd = try_pin(fuzz, name);

	if (fd < 0)
		die(name);
	return fd;
}

/* --- the tables, disturbed ------------------------------------------------------------------------ */

static void *map_memory(int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void map_ring(struct fuzz *fuzz, uint32_t index)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/rings/%u", fuzz->pins, index);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		return;
	fuzz->ring_slots[fuzz->ring_count] = info.max_entries;
	fuzz->ring[fuzz->ring_count++] = map_memory(fd, info.max_entries * sizeof(uint64_t));
}

static void map_tables(struct fuzz *fuzz)
{
	fuzz->backends = map_memory(
		open_pin(fuzz, "maps/backends"), TG_MAX_BACKENDS * sizeof(struct tg_backend));
	fuzz->clock = map_memory(open_pin(fuzz, "maps/clock"), sizeof(struct tg_clock));
	for (uint32_t i = 0; i < MAX_RINGS; i++)
		map_ring(fuzz, i);
	for (uint32_t i = 1; i < 256; i++)
		if (fuzz->backends[i].addr[0])
			fuzz->backend_count = i;
}

/* A slot: of another backend, of none, in transition. */
static void disturb_slot(struct fuzz *fuzz, struct rng *rng)
{
	uint32_t ring = rng_below(rng, fuzz->ring_count);
	uint64_t *slot = &fuzz->ring[ring][rng_below(rng, fuzz->ring_slots[ring])];
	uint32_t home = rng_below(rng, fuzz->backend_count + 2);
	uint32_t next = rng_once_in(rng, 2) ? home : rng_below(rng, fuzz->backend_count + 2);

	__atomic_store_n(slot, TG_SLOT(home, next, rng_once_in(rng, 2)), __ATOMIC_RELAXED);
}

/* A backend: its next hop is lost or found again, its MTU another. */
static void disturb_backend(struct fuzz *fuzz, struct rng *rng)
{
	static const uint16_t mtus[] = { 0, 1280, 1500, 1500, 1500, 576 };
	struct tg_backend *backend = &fuzz->backends[1 + rng_below(rng, fuzz->backend_count)];
	struct tg_hop *hop = &backend->hop[backend->current & 1];

	hop->ifindex = rng_once_in(rng, 4) ? 0 : fuzz->device;
	memset(hop->dmac, 2, sizeof(hop->dmac));
	memset(hop->smac, 4, sizeof(hop->smac));
	backend->mtu = mtus[rng_below(rng, sizeof(mtus) / sizeof(mtus[0]))];
}

static void disturb(struct fuzz *fuzz, struct rng *rng)
{
	for (int i = 0; i < 64 && fuzz->ring_count; i++)
		disturb_slot(fuzz, rng);
	if (fuzz->backend_count)
		disturb_backend(fuzz, rng);
	if (rng_once_in(rng, 8))
		fuzz->clock->epoch++;
}

/* --- packets through the program ------------------------------------------------------------------ */

static uint32_t send_one(struct fuzz *fuzz, uint64_t number)
{
	struct xdp_md context = { .ingress_ifindex = fuzz->device };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = fuzz->in.at, .data_out = fuzz->out.at,
		.data_size_out = FUZZ_MAX_PACKET, .ctx_in = &context,
		.ctx_size_in = sizeof(context));

	generate(&fuzz->in, &fuzz->words, fuzz->seed, number);
	run.data_size_in = fuzz->in.length;
	context.data_end = fuzz->in.length;
	if (fuzz->trace)
		trace_ask(&fuzz->in, fuzz->device);
	if (bpf_prog_test_run_opts(fuzz->program, &run))
		die("test run");
	fuzz->out.length = run.data_size_out;
	return run.retval;
}

static uint64_t sum_reasons(const struct fuzz *fuzz)
{
	uint64_t values[256], sum = 0;

	for (__u32 i = 1; i < TG_REASON_COUNT; i++) {
		if (bpf_map_lookup_elem(fuzz->reasons, &i, values))
			die("reasons");
		for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
			sum += values[cpu];
	}
	return sum;
}

static uint64_t sum_counters(int map, uint32_t count)
{
	struct tg_counter values[256];
	uint64_t sum = 0;

	for (__u32 i = 0; map >= 0 && i < count; i++) {
		if (bpf_map_lookup_elem(map, &i, values))
			die("counters");
		for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
			sum += values[cpu].packets;
	}
	return sum;
}

/* All that has been counted. What the stack forwards for nat has a reason of its own and is counted for its service too. */
static uint64_t counted(const struct fuzz *fuzz)
{
	uint64_t values[256], twice = 0;
	__u32 index = TG_REASON_NAT_STACK;

	if (bpf_map_lookup_elem(fuzz->reasons, &index, values))
		die("reasons");
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		twice += values[cpu];
	return sum_reasons(fuzz) + sum_counters(fuzz->services, MAX_RINGS) +
	       sum_counters(fuzz->replies, fuzz->backend_count + 1) - twice;
}

static void print_packet(const char *name, const struct bytes *packet)
{
	printf("  # %s ", name);
	for (uint32_t i = 0; i < packet->length; i++)
		printf("%02x", packet->at[i]);
	printf("\n");
}

static void complain(struct fuzz *fuzz, uint64_t number, uint32_t verdict, const char *wrong)
{
	fuzz->fails++;
	printf("not ok packet %llu, verdict %u: %s (--seed %llu --from %llu --packets 1)\n",
		(unsigned long long)number, verdict, wrong, (unsigned long long)fuzz->seed,
		(unsigned long long)number);
	print_packet("in ", &fuzz->in);
	print_packet("out", &fuzz->out);
	if (fuzz->fails >= MOST_FAILS) {
		printf("too many: the rest is not run\n0 passed, %llu failed\n",
			(unsigned long long)fuzz->fails);
		exit(1);
	}
}

/* Sends a batch's packets again, one by one, to find those that are not counted once. */
static void find_uncounted(struct fuzz *fuzz, uint64_t first, uint64_t count)
{
	uint64_t found = 0;

	for (uint64_t number = first; number < first + count; number++) {
		uint64_t before = counted(fuzz), more;
		uint32_t verdict = send_one(fuzz, number);
		char text[64];

		more = counted(fuzz) - before;
		if (more == 1)
			continue;
		found++;
		snprintf(text, sizeof(text), "it was counted %llu times", (unsigned long long)more);
		complain(fuzz, number, verdict, text);
	}
	if (found)
		return;
	fuzz->fails++;
	printf("not ok packets %llu to %llu: not each was counted once, though now they are\n",
		(unsigned long long)first, (unsigned long long)(first + count - 1));
}

/* Damages the IPv4 header of a packet that left: does the judge see it? */
static void damage(struct fuzz *fuzz, struct rng *rng, uint32_t verdict)
{
	const struct bytes *in = &fuzz->in;
	struct bytes *out = &fuzz->out;

	if (verdict != XDP_TX || in->at[12] != 8 || in->at[13] != 0 || out->length < 34 ||
		in->length != out->length)
		return;
	out->at[14 + rng_below(rng, 20)] ^= 1 << rng_below(rng, 8);
	fuzz->damaged++;
	fuzz->noticed += judge(in, out, verdict) != NULL;
}

/* What the lists want of it; with --trace, which of them the trace has named. */
static const char *judge_listed(const struct fuzz *fuzz, uint32_t verdict)
{
	struct listed listed = lists_find(&fuzz->in);

	if (listed.denied && verdict != XDP_DROP)
		return "it is denied, and was not dropped";
	if (fuzz->trace && listed.class && trace_class() != listed.class)
		return "its trace names another list";
	return NULL;
}

static void run_batch(struct fuzz *fuzz, struct rng *rng, uint64_t first, uint64_t count)
{
	uint64_t before = counted(fuzz);
	const char *differs;

	lists_begin();

	for (uint64_t number = first; number < first + count; number++) {
		uint32_t verdict = send_one(fuzz, number);
		const char *wrong = judge(&fuzz->in, &fuzz->out, verdict),
			   *listed = judge_listed(fuzz, verdict);

		if (!wrong)
			wrong = listed;
		if (fuzz->trace && !wrong)
			wrong = trace_differs(&fuzz->out, verdict);
		if (wrong)
			complain(fuzz, number, verdict, wrong);
		else if (rng_once_in(rng, 64))
			damage(fuzz, rng, verdict);
		fuzz->verdicts[verdict <= XDP_REDIRECT ? verdict : XDP_ABORTED]++;
	}
	differs = lists_differ();
	if (differs && fuzz->fails++ < MOST_FAILS) {
		printf("not ok packets %llu to %llu: %s\n", (unsigned long long)first,
			(unsigned long long)(first + count - 1), differs);
	}
	if (counted(fuzz) - before != count)
		find_uncounted(fuzz, first, count);
}

/* Traces all packets, and nothing else: the tables stay as they are. */
static void trace_again(struct fuzz *fuzz)
{
	static struct tables before, after;
	const char *changed;

	tables_read(&before, fuzz->pins);
	for (uint64_t number = fuzz->from; number < fuzz->from + fuzz->packets; number++) {
		generate(&fuzz->in, &fuzz->words, fuzz->seed, number);
		trace_ask(&fuzz->in, fuzz->device);
	}
	tables_read(&after, fuzz->pins);
	changed = tables_differ(&before, &after);
	fuzz->fails += changed != NULL;
	if (changed)
		printf("not ok tracing changes nothing: %s is another\n", changed);
	send_one(fuzz, fuzz->from);
	tables_read(&after, fuzz->pins);
	fuzz->fails += tables_differ(&before, &after) == NULL;
	printf("  # traced again, %zu tables compared; a packet then changed %s\n", after.count,
		tables_differ(&before, &after) ?: "nothing: not ok");
}

/* --- the command line ------------------------------------------------------------------------------ */

static void read_options(struct fuzz *fuzz, int argc, char **argv)
{
	static const struct option options[] = { { "pins", 1, NULL, 'p' },
		{ "packets", 1, NULL, 'n' }, { "seed", 1, NULL, 's' }, { "from", 1, NULL, 'f' },
		{ "device", 1, NULL, 'd' },
		{ "trace", 0, NULL, 't' }, { "list", 1, NULL, 'l' }, { 0 } };
	const char *device = "lo", *lists[MOST_LISTED];
	size_t list_count = 0;
	char maps[256];
	int option;

	fuzz->packets = 100000;
	fuzz->seed = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'p':
			fuzz->pins = optarg;
			break;
		case 'n':
			fuzz->packets = strtoull(optarg, NULL, 0);
			break;
		case 's':
			fuzz->seed = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			fuzz->from = strtoull(optarg, NULL, 0);
			break;
		case 'd':
			device = optarg;
			break;
		case 't':
			fuzz->trace = true;
			break;
		case 'l':
			if (list_count < MOST_LISTED)
				lists[list_count++] = optarg;
			break;
		default:
			exit(2);
		}
	}
	fuzz->device = if_nametoindex(device);
	if (!fuzz->pins || !fuzz->device) {
		fprintf(stderr, "xdp_fuzz: --pins DIR and a --device that exists are needed\n");
		exit(2);
	}
	snprintf(maps, sizeof(maps), "%s/maps", fuzz->pins);
	dictionary_read(&fuzz->words, maps);
	lists_open(maps);
	for (size_t i = 0; i < list_count; i++)
		if (!lists_add(&fuzz->words, lists[i])) {
			fprintf(stderr, "xdp_fuzz: %s: no prefix of a list\n", lists[i]);
			exit(2);
		}
	for (; optind < argc; optind++)
		if (!dictionary_add(&fuzz->words, argv[optind])) {
			fprintf(stderr, "xdp_fuzz: %s: not an address\n", argv[optind]);
			exit(2);
		}
}

static void report(const struct fuzz *fuzz)
{
	static const char *const names[] = { "aborted", "drop", "pass", "tx", "redirect" };
	static const char *const reason_names[TG_REASON_COUNT] = {
#define REASON_NAME(symbol, name) [TG_REASON_##symbol] = name,
		TG_PASS_REASONS(REASON_NAME) TG_DROP_REASONS(REASON_NAME)
#undef REASON_NAME
	};

	printf("  # damaged  %llu, noticed %llu\n", (unsigned long long)fuzz->damaged,
		(unsigned long long)fuzz->noticed);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf("  # %-8s %llu\n", names[i], (unsigned long long)fuzz->verdicts[i]);
	for (__u32 i = 1; i < TG_REASON_COUNT; i++) {
		uint64_t values[256], sum = 0;

		if (bpf_map_lookup_elem(fuzz->reasons, &i, values))
			die("reasons");
		for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
			sum += values[cpu];
		if (reason_names[i])
			printf("  # reason %-20s %llu\n", reason_names[i], (unsigned long long)sum);
	}
	lists_report();
}

int main(int argc, char **argv)
{
	static struct fuzz fuzz;
	struct rng rng;

	read_options(&fuzz, argc, argv);
	fuzz.program = open_pin(&fuzz, "program");
	fuzz.reasons = open_pin(&fuzz, "maps/reasons");
	fuzz.services = open_pin(&fuzz, "maps/service_counters");
	fuzz.replies = try_pin(&fuzz, "maps/reply_counters"); /* nat's */
	map_tables(&fuzz);
	if (fuzz.trace)
		trace_open(strrchr(fuzz.pins, '/') + 1);
	rng_seed(&rng, fuzz.seed);
	for (uint64_t done = 0; done < fuzz.packets; done += BATCH) {
		uint64_t left = fuzz.packets - done;

		if (fuzz.packets > 1)
			disturb(&fuzz, &rng);
		run_batch(&fuzz, &rng, fuzz.from + done, left < BATCH ? left : BATCH);
	}
	if (fuzz.trace)
		trace_again(&fuzz);
	report(&fuzz);
	/* A wrong checksum may hide damage: those packets are few. */
	if (fuzz.verdicts[XDP_TX] > BATCH && (!fuzz.damaged || fuzz.noticed * 100 < fuzz.damaged * 80)) {
		fuzz.fails++;
		printf("not ok the judge notices damage: %llu of %llu\n",
			(unsigned long long)fuzz.noticed, (unsigned long long)fuzz.damaged);
	}
	printf("%d passed, %llu failed\n", fuzz.fails == 0, (unsigned long long)fuzz.fails);
	return fuzz.fails != 0;
}
