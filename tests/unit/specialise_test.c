/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Does the verifier accept the programs in every specialisation? Combinations of features that the
 * controller can ask for are loaded the daemon's own way (tg_datapath_open, tg_datapath_specialise),
 * with the maps that TG_MAPS makes for them and no others: all of TC's; all of XDP's without those of TC that it looks
 * at; with these, few and nearly all of its own, and some of the rest; with events some, too. Two processes share the work. Prints
 * what was the most for the verifier; a refusal names its features and shows the end of the verifier's log.
 * The tracing program is loaded with few features, and with nearly all.
 * scripts/test --kernels runs it on older kernels.
 *
 *	specialise_test             all combinations
 *	specialise_test v4 nat …    this one alone
 */
#include "datapath.h"
#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#define WORKERS	 2
#define LOG_TAIL 1500
#define ONE_IN	 8
#define ENOUGH	 500000 /* instructions for the verifier: half of what it would process */

static const struct {
	const char *name;
	__u32 bit;
} names[] = {
#define FEATURE_NAME(symbol, text, bit) { text, TG_FEATURE_##symbol },
	TG_FEATURES(FEATURE_NAME)
#undef FEATURE_NAME
};
#define FEATURE_COUNT (sizeof(names) / sizeof(*names))

/* Which of others a feature is for: without one of them nobody asks for it. What is not here is for itself. */
#define VIPS (TG_FEATURE_V4 | TG_FEATURE_V6)
static const struct {
	__u32 feature, for_one_of;
} rules[] = {
	{ TG_FEATURE_NAT, VIPS },
	{ TG_FEATURE_TUNNEL, VIPS },
	{ TG_FEATURE_RANGES, VIPS },
	{ TG_FEATURE_QUIC, VIPS },
	{ TG_FEATURE_DENY_COUNT, TG_FEATURE_DENY4 | TG_FEATURE_DENY6 },
	{ TG_FEATURE_EVENTS, TG_FEATURE_DENY4 | TG_FEATURE_DENY6 },
	{ TG_FEATURE_FLOW, TG_FEATURE_POLICY },
	{ TG_FEATURE_CONNTRACK, TG_FEATURE_POLICY },
};

/* What TC's features are to XDP. */
#define SHARED (TG_FEATURES_XDP & TG_FEATURES_TC)

struct outcome {
	int code;	    /* 0, or the errno of the refusal */
	__u32 instructions; /* processed by the verifier: of XDP's main program, or, if it is more, one of TC's */
	__u32 milliseconds;
	struct tg_error error;
	char log[LOG_TAIL]; /* how the verifier's log ended */
};

static struct {
	__u32 combinations[1 << FEATURE_COUNT];
	__u32 count, next;
	struct outcome outcomes[1 << FEATURE_COUNT];
} * shared;

static const char *name_of(__u32 features, char *text, size_t size)
{
	snprintf(text, size, features ? "" : "none");
	for (size_t i = 0, used = 0; i < FEATURE_COUNT && used < size; i++)
		if (features & names[i].bit)
			used += snprintf(
				text + used, size - used, "%s%s", used ? " " : "", names[i].name);
	return text;
}

static bool is_asked_for(__u32 features)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
		if (features & rules[i].feature && !(features & rules[i].for_one_of))
			return false;
	return true;
}

/* The features whose bits in `names` are set in `mask`. */
static __u32 features_of(__u32 mask)
{
	__u32 features = 0;

	for (size_t i = 0; i < FEATURE_COUNT; i++)
		if (mask >> i & 1)
			features |= names[i].bit;
	return features;
}

/* So few features of XDP's alone, or all but so few. */
static bool is_extreme(__u32 features, int few)
{
	int count = __builtin_popcount(features & ~TG_FEATURES_TC),
	    all = __builtin_popcount(TG_FEATURE_ALL & ~TG_FEATURES_TC);

	return count <= few || count >= all - few;
}

static void add_combination(__u32 features)
{
	if (is_asked_for(features))
		shared->combinations[shared->count++] = features;
}

/* With TC's features that XDP looks at: `turn` counts the combinations that are not extreme. */
static void add_with_shared(__u32 features, __u32 *turn)
{
	static const __u32 shared_features[] = { SHARED, TG_FEATURE_POLICY, TG_FEATURE_TAP };
	const __u32 count = sizeof(shared_features) / sizeof(*shared_features);

	if (is_extreme(features, 1))
		for (__u32 i = 0; i < count; i++)
			add_combination(features | shared_features[i]);
	else if (++*turn % ONE_IN == 0)
		add_combination(features | shared_features[*turn / ONE_IN % count]);
}

/* With events, which are the same whatever else there is, some of those that are not extreme. */
static bool is_one_too_many(__u32 features, __u32 *turn)
{
	return features & TG_FEATURE_EVENTS && !is_extreme(features, 1) && ++*turn % ONE_IN;
}

static void list_combinations(void)
{
	__u32 turn = 0, events_turn = 0;

	for (__u32 mask = 0; mask < 1u << FEATURE_COUNT; mask++) {
		__u32 features = features_of(mask);

		if (is_one_too_many(features, &events_turn))
			continue;
		if (!(features & TG_FEATURES_TC) || !(features & ~TG_FEATURES_TC))
			add_combination(features);
		if (!(features & TG_FEATURES_TC) && is_asked_for(features))
			add_with_shared(features, &turn);
	}
}

static struct outcome *current; /* of this process */

/* libbpf prints the verifier's log in one piece: its end says why. */
static int keep_log(enum libbpf_print_level level, const char *format, va_list args)
{
	char *text;
	int length;

	if (level != LIBBPF_WARN)
		return 0;
	length = vasprintf(&text, format, args);
	if (length < 0)
		return 0;
	if (strstr(text, "LOAD LOG"))
		snprintf(current->log, LOG_TAIL, "%s",
			length < LOG_TAIL ? text : text + length - LOG_TAIL + 1);
	free(text);
	return 0;
}

static __u32 instructions_of(int program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(program, &info, &size) ? 0 : info.verified_insns;
}

static __u64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Unpins the maps that only other features need: a program that uses one is refused. */
static void forget_maps(const char *directory, __u32 features)
{
	static const struct {
		const char *name;
		__u32 needed_for;
	} maps[] = {
#define MAP_NEED(symbol, name, needed_for) { #name, needed_for },
		TG_MAPS(MAP_NEED)
#undef MAP_NEED
	};
	char path[256];

	for (int i = 0; i < TG_MAP_COUNT; i++) {
		snprintf(path, sizeof(path), "%s/maps/%s", directory, maps[i].name);
		if (maps[i].needed_for != TG_FOR_ALL && !(maps[i].needed_for & features) &&
			unlink(path))
			CHECK_INT(ENOENT, errno);
	}
}

static void instance_of(pid_t worker, char name[TG_NAME_SIZE])
{
	snprintf(name, TG_NAME_SIZE, "specialise-%d", worker);
}

/* Loads the tracing program of the same features, by running it. */
static int load_tracer(const struct tg_datapath *datapath, struct tg_error *error)
{
	static struct tg_trace trace;
	static const char frame[64];
	struct tg_tracer *tracer = tg_tracer_new(datapath);
	int result = tg_tracer_run(tracer, 1, frame, sizeof(frame), &trace, error);

	tg_tracer_free(tracer);
	return result;
}

static __u32 most_instructions(const struct tg_datapath *datapath)
{
	__u32 most = instructions_of(datapath->program);

	for (int i = 0; i < TG_DIRECTIONS; i++)
		if (datapath->tc[i] >= 0 && instructions_of(datapath->tc[i]) > most)
			most = instructions_of(datapath->tc[i]);
	return most;
}

static void load(__u32 features, struct outcome *outcome)
{
	static const __u64 seed[2] = { 1, 2 };
	struct tg_datapath datapath;
	char instance[TG_NAME_SIZE];
	__u64 start = now_ms();
	bool replaced;

	current = outcome;
	instance_of(getpid(), instance);
	outcome->code = tg_datapath_open(&datapath, instance, seed, &replaced, &outcome->error);
	if (outcome->code)
		return;
	libbpf_set_print(keep_log);
	forget_maps(datapath.dir, features);
	outcome->code = tg_datapath_specialise(&datapath, features, &outcome->error);
	if (!outcome->code)
		outcome->instructions = most_instructions(&datapath);
	if (!outcome->code && is_extreme(features, 2))
		outcome->code = load_tracer(&datapath, &outcome->error);
	tg_datapath_close(&datapath);
	outcome->milliseconds = now_ms() - start;
}

static void unload(pid_t worker)
{
	struct tg_error error = { 0 };
	char instance[TG_NAME_SIZE];

	instance_of(worker, instance);
	if (tg_datapath_unload(instance, &error))
		printf("# %s\n", error.text);
}

static void work(void)
{
	__u32 i;

	while ((i = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED)) < shared->count)
		load(shared->combinations[i], &shared->outcomes[i]);
}

static void load_all(void)
{
	pid_t workers[WORKERS];
	int status;

	for (int i = 0; i < WORKERS; i++) {
		workers[i] = fork();
		if (workers[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			work();
			_exit(unit_faults != 0);
		}
	}
	for (int i = 0; i < WORKERS; i++) {
		CHECK(waitpid(workers[i], &status, 0) == workers[i] && status == 0);
		unload(workers[i]);
	}
}

static void show_refusal(__u32 features, const struct outcome *outcome)
{
	char name[256];

	printf("refused with features: %s: %s\n%s\n", name_of(features, name, sizeof(name)),
		outcome->error.text, outcome->log);
}

static void the_verifier_accepts_every_combination_of_features(void)
{
	__u32 worst = 0, refused = 0;
	char name[256];

	load_all();
	for (__u32 i = 0; i < shared->count; i++) {
		const struct outcome *outcome = &shared->outcomes[i];

		if (outcome->code && refused++ < 3)
			show_refusal(shared->combinations[i], outcome);
		CHECK(outcome->code || outcome->instructions > 0);
		if (outcome->instructions > shared->outcomes[worst].instructions)
			worst = i;
	}
	printf("# %u combinations of %zu features, %u refused; the most: %u instructions, %u ms: "
	       "%s\n",
		shared->count, FEATURE_COUNT, refused, shared->outcomes[worst].instructions,
		shared->outcomes[worst].milliseconds,
		name_of(shared->combinations[worst], name, sizeof(name)));
	CHECK_INT(0, refused);
	CHECK(shared->outcomes[worst].instructions < ENOUGH);
}

static __u32 feature_called(const char *name)
{
	for (size_t i = 0; i < FEATURE_COUNT; i++)
		if (!strcmp(names[i].name, name))
			return names[i].bit;
	printf("no feature is called %s\n", name);
	exit(2);
}

/* One combination, by hand: the names of its features are given. */
static int load_these(int count, char **given)
{
	struct outcome *outcome = &shared->outcomes[0];
	__u32 features = 0;

	for (int i = 0; i < count; i++)
		features |= feature_called(given[i]);
	load(features, outcome);
	unload(getpid());
	if (outcome->code)
		show_refusal(features, outcome);
	else
		printf("%u instructions, %u ms\n", outcome->instructions, outcome->milliseconds);
	return outcome->code != 0;
}

int main(int argc, char **argv)
{
	if (geteuid() != 0) {
		printf("# needs root, to load BPF programs\n0 passed, 0 failed, 1 skipped\n");
		return 0;
	}
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	if (argc > 1)
		return load_these(argc - 1, argv + 1);
	list_combinations();
	RUN(the_verifier_accepts_every_combination_of_features);
	return unit_result();
}
