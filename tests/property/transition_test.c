/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The balancer's promises as a property (DATAPATH.md, I1 to I5): random schedules of changes, new
 * flows, packets, silence and restarts go through the real program and the real controller, and each
 * answer is compared with a model that knows flows, not slots:
 *
 *   - a packet of a flow that is not silent for too long goes where the flow's last one went, unless
 *     its backend failed, was cut, or its drain has ended (I1, I2);
 *   - a new flow goes to the backend that a Maglev ring of those that take new flows says;
 *   - a slot that is settled has no live flow off its home (I3);
 *   - a backend index means another backend only when no slot and no entry names it (I4);
 *   - a restart leaves every slot as it was (I5);
 *   - after a silence all slots are settled, on the backends that take new flows.
 *
 * Time is the controller's epoch, ticked by the test. `--schedules N` and `--seed S` run others; a
 * schedule begins with what the one before left.
 */
#include "transition_world.h"

/* --- steps of a schedule -------------------------------------------------------------------------- */

/* May the flow speak, and be known? */
static bool is_live(const struct flow *flow)
{
	return flow->live && w.epoch - flow->spoke + MARGIN <= TG_IDLE_EPOCHS;
}

static void lose_flows_of(int backend)
{
	for (size_t i = 0; i < w.flows; i++)
		if (w.flow[i].backend == backend)
			w.flow[i].live = false;
}

static void a_new_flow(void)
{
	struct flow *flow = &w.flow[w.flows < MAX_FLOWS ? w.flows++ : below(MAX_FLOWS)];
	int homes[SLOTS], again;

	*flow = (struct flow){ .live = true,
		.client = htonl(0xac100000 + ++w.clients),
		.port = htons(1024 + below(60000)),
		.spoke = w.epoch };
	wanted_ring(homes);
	flow->backend = send_packet(flow, true);
	describe("a new flow in slot %u goes to %d", slot_of(flow), flow->backend);
	if (w.kind != UDP_FLOW)
		CHECK_INT(homes[slot_of(flow)], flow->backend);
	if (below(8) == 0) { /* the answer was lost: it begins again */
		again = send_packet(flow, true);
		CHECK(again == flow->backend);
	}
	if (below(10) == 0)
		flow->live = false; /* it never was a connection */
	else
		CHECK_INT(flow->backend, send_packet(flow, false));
	CHECK(flow->backend >= 0 && flow->backend < BACKENDS && w.member[flow->backend].healthy);
}

static void a_packet(void)
{
	struct flow *flow = &w.flow[below(MAX_FLOWS)];

	if (!is_live(flow)) {
		flow->live = false;
		return;
	}
	describe("a packet in slot %u of a flow on %d, silent for %u", slot_of(flow), flow->backend,
		w.epoch - flow->spoke);
	CHECK_INT(flow->backend, send_packet(flow, false));
	flow->spoke = w.epoch;
}

static void a_silence(void)
{
	for (uint32_t epochs = 1 + below(below(4) ? 3 : 20); epochs > 0; epochs--)
		tick();
}

static void a_weight(void)
{
	struct member *m = &w.member[below(BACKENDS)];
	int before = m->weight;

	m->weight = below(4) ? 1 + below(5) : 0;
	if (!taking())
		m->weight = before;
	describe("a weight becomes %d", m->weight);
	apply();
}

static void a_drain(void)
{
	struct member *m = &w.member[below(BACKENDS)];

	m->drains = !m->drains;
	if (!taking())
		m->drains = !m->drains;
	describe("a backend %s", m->drains ? "drains" : "is ready");
	apply();
}

/* One is added, or leaves: when it has drained, or at once. */
static void a_member(void)
{
	int i = below(BACKENDS);
	struct member *m = &w.member[i];

	m->listed = !m->listed;
	if (!taking() && !m->listed) {
		m->listed = true;
		return;
	}
	describe("backend %d %s", i, m->listed ? "is added" : "leaves");
	if (m->listed) {
		m->weight = 1 + below(3);
		m->drains = false;
	} else if (below(3) == 0) {
		w.cut = i + 1;
		lose_flows_of(i);
	}
	apply();
	w.cut = 0;
	if (m->listed)
		report_health(i, true);
}

static void a_failure(void)
{
	int i = below(BACKENDS);

	if (!w.member[i].listed)
		return;
	w.member[i].healthy = !w.member[i].healthy;
	if (!taking())
		w.member[i].healthy = true;
	describe("backend %d is %s", i, w.member[i].healthy ? "well" : "dead");
	report_health(i, w.member[i].healthy);
	if (!w.member[i].healthy)
		lose_flows_of(i);
}

static void a_restart(void)
{
	uint64_t before[SLOTS];

	describe("a restart");
	memcpy(before, w.slots, sizeof(before));
	stop();
	start();
	turn_loop();
	for (int i = 0; i < SLOTS; i++) { /* I5; timers begin anew */
		CHECK_INT(TG_SLOT_HOME(before[i]), TG_SLOT_HOME(w.slots[i]));
		CHECK_INT(TG_SLOT_NEXT(before[i]), TG_SLOT_NEXT(w.slots[i]));
		CHECK_INT(TG_SLOT_T(before[i]), TG_SLOT_T(w.slots[i]));
	}
}

/* I3: where nothing moves, every live flow is at home. */
static void check_settled_slots(void)
{
	for (size_t i = 0; i < w.flows; i++) {
		uint64_t slot = w.slots[slot_of(&w.flow[i])];

		if (!is_live(&w.flow[i]) || TG_SLOT_T(slot))
			continue;
		CHECK_INT(w.member[w.flow[i].backend].index, TG_SLOT_HOME(slot));
	}
}

static void step(void)
{
	switch (below(100)) {
	case 0 ... 29:
		a_new_flow();
		break;
	case 30 ... 69:
		a_packet();
		break;
	case 70 ... 83:
		a_silence();
		break;
	case 84 ... 87:
		a_weight();
		break;
	case 88 ... 91:
		a_drain();
		break;
	case 92 ... 95:
		a_member();
		break;
	case 96 ... 98:
		a_failure();
		break;
	default:
		if (below(8) == 0)
			a_restart();
	}
	check_settled_slots();
}

/* After a long silence every slot is settled, and where a new ring would have it. */
static void a_long_silence(void)
{
	int homes[SLOTS];

	for (int i = 0; i < TG_IDLE_EPOCHS + 3 * MARGIN; i++)
		tick();
	wanted_ring(homes);
	for (int i = 0; i < SLOTS; i++) {
		describe("after a long silence, slot %d", i);
		CHECK_INT(0, TG_SLOT_T(w.slots[i]));
		CHECK_INT(w.member[homes[i]].index, TG_SLOT_HOME(w.slots[i]));
	}
}

/* The switch of the schedule before goes on, with other backends and another kind of service. */
static void begin_schedule(uint64_t seed)
{
	w.rng = (seed + 1) * 0x9e3779b97f4a7c15ull;
	w.flows = 0;
	w.kind = seed % KINDS;
	for (int i = 0; i < BACKENDS; i++) {
		w.member[i].listed = i < BACKENDS - 2;
		w.member[i].weight = 1;
		w.member[i].drains = false;
	}
	describe("the first backends");
	apply();
	for (int i = 0; i < BACKENDS - 2; i++)
		report_health(i, true);
}

/* True if all that should hold did. */
static bool run_schedule(uint64_t seed)
{
	int before = unit_faults;

	begin_schedule(seed);
	for (int i = 0; i < STEPS && unit_faults == before; i++)
		step();
	if (unit_faults == before)
		a_long_silence();
	if (unit_faults > before)
		fprintf(stderr, "schedule %llu (%s): %s\n", (unsigned long long)seed,
			kind_names[w.kind], w.what);
	return unit_faults == before;
}

static unsigned long long first_seed, schedules = 1000;

static void flows_stay_where_they_are_whatever_changes(void)
{
	unsigned long long seed = first_seed;

	while (seed < first_seed + schedules && run_schedule(seed))
		seed++;
	printf("# %llu of %llu schedules of %d steps\n", seed - first_seed, schedules, STEPS);
}

static void read_options(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--schedules"))
			schedules = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			first_seed = strtoull(argv[i + 1], NULL, 0);
	}
}

int main(int argc, char **argv)
{
	struct tg_error error;
	char name[64];

	read_options(argc, argv);
	if (netns_enter())
		return netns_skipped();
	netns_pair(1);
	for (int i = 0; i < BACKENDS; i++)
		here("ip neigh replace 10.0.1.%d dev v1 nud permanent lladdr 02:00:00:00:01:%02x",
			11 + i, 11 + i);
	w.device = if_nametoindex("v1");
	uv_loop_init(&w.loop);
	w.member[0].listed = true;
	start();
	RUN(flows_stay_where_they_are_whatever_changes);
	stop();
	netns_leave();
	snprintf(name, sizeof(name), "property-%d", getpid());
	tg_datapath_unload(name, &error);
	return unit_result();
}
