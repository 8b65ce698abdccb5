/* SPDX-License-Identifier: GPL-2.0-only */
/* Events, neighbours and timers of neighbour.h; see neighbour_private.h for how the parts meet. */
#include "neighbour.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#include "neighbour_private.h"

#define DEBOUNCE_MS	 5
#define AGAIN_MS	 100
#define TICK_MS		 100
#define READS_PER_TURN	 64	/* datagrams read before the rest of the loop gets its turn */
#define READS_PER_OVERRUN 100000	/* more than fit in the socket buffer */
#define COLD_INTERVAL_NS (1 * (uint64_t)TG_SECOND_NS)
#define WARM_INTERVAL_NS (8 * (uint64_t)TG_SECOND_NS)
#define WARM_JITTER_NS	 (2 * (uint64_t)TG_SECOND_NS)

#define USABLE (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

/* ---- neighbours ---- */

bool tg_neigh_usable(const struct tg_neigh *neigh)
{
	return neigh->state & USABLE && neigh->has_mac;
}

static uint32_t neigh_hash(uint32_t ifindex, const struct tg_addr *addr)
{
	return tg_hash(addr, sizeof(*addr)) ^ ifindex * 0x9e3779b1u;
}

struct tg_neigh *tg_neigh_find(struct tg_neighbour *n, uint32_t ifindex, const struct tg_addr *addr)
{
	struct tg_table_node *node = tg_table_first(&n->neighs, neigh_hash(ifindex, addr));

	for (; node; node = tg_table_next(node)) {
		struct tg_neigh *neigh = tg_container(node, struct tg_neigh, node);

		if (neigh->ifindex == ifindex && tg_addr_equal(&neigh->addr, addr))
			return neigh;
	}
	return NULL;
}

static struct tg_neigh *neigh_create(struct tg_neighbour *n, uint32_t ifindex, const struct tg_addr *addr)
{
	struct tg_neigh *neigh = calloc(1, sizeof(*neigh));

	if (!neigh || tg_table_insert(&n->neighs, &neigh->node, neigh_hash(ifindex, addr))) {
		free(neigh);
		return NULL;
	}
	neigh->ifindex = ifindex;
	neigh->addr = *addr;
	tg_list_init(&neigh->changed);
	tg_list_init(&neigh->queue);
	tg_list_init(&neigh->targets);
	tg_list_init(&neigh->routes);
	tg_list_add(&n->all_neighs, &neigh->all);
	return neigh;
}

struct tg_neigh *tg_neigh_obtain(struct tg_neighbour *n, uint32_t ifindex, const struct tg_addr *addr)
{
	struct tg_neigh *neigh = tg_neigh_find(n, ifindex, addr);

	return neigh ? neigh : neigh_create(n, ifindex, addr);
}

static void neigh_free(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	tg_table_remove(&n->neighs, &neigh->node);
	tg_list_remove(&neigh->all);
	tg_list_remove(&neigh->changed);
	tg_list_remove(&neigh->queue);
	free(neigh);
}

static bool neigh_in_use(const struct tg_neigh *neigh)
{
	return !tg_list_empty(&neigh->targets) || !tg_list_empty(&neigh->routes);
}

/* Queues it for the next question. The jitter is the neighbour's own, so that crowds disperse. */
static void enqueue(struct tg_neighbour *n, struct tg_neigh *neigh, uint64_t now)
{
	bool usable = tg_neigh_usable(neigh);
	uint64_t warm = WARM_INTERVAL_NS - neigh->node.hash % WARM_JITTER_NS;

	tg_list_remove(&neigh->queue);
	neigh->due = now + (usable ? warm : COLD_INTERVAL_NS);
	tg_list_add(usable ? &n->warm : &n->cold, &neigh->queue);
	tg_neighbour_tick(n);
}

static void ask_at_once(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	tg_list_remove(&neigh->queue);
	neigh->due = 0;
	tg_list_add_first(&n->cold, &neigh->queue);
	tg_neighbour_tick(n);
	tg_neighbour_work(n);
}

/*
 * A stale one is used at once, which makes the kernel confirm it: its MAC may be another's by now. One
 * that failed is asked for at once if it was usable, as the kernel has just asked its old MAC alone;
 * else the kernel has asked everybody, three times.
 */
static void requeue(struct tg_neighbour *n, struct tg_neigh *neigh, bool was_usable)
{
	bool settled = tg_neigh_usable(neigh) ? !(neigh->state & NUD_STALE)
					      : neigh->state & NUD_FAILED && !was_usable;

	if (settled)
		enqueue(n, neigh, uv_hrtime());
	else
		ask_at_once(n, neigh);
}

void tg_neigh_used(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	if (neigh_in_use(neigh)) {
		if (tg_list_empty(&neigh->queue))
			requeue(n, neigh, false);
		return;
	}
	tg_list_remove(&neigh->queue);
	if (!neigh->state && tg_list_empty(&neigh->changed))
		neigh_free(n, neigh);
}

/* What the kernel says of it. Users are told from the idle handler, and only of what matters. */
static void neigh_update(struct tg_neighbour *n, struct tg_neigh *neigh, const struct tg_nl_neigh *now)
{
	bool was = tg_neigh_usable(neigh), moved = memcmp(neigh->mac, now->mac, sizeof(now->mac));
	bool failed = !(neigh->state & NUD_FAILED) && now->state & NUD_FAILED;
	bool stale = !(neigh->state & NUD_STALE) && now->state & NUD_STALE;
	bool is;

	neigh->state = now->state;
	neigh->has_mac = now->has_mac;
	neigh->generation = n->generation;
	memcpy(neigh->mac, now->mac, sizeof(now->mac));
	is = tg_neigh_usable(neigh);
	if (neigh_in_use(neigh) && (was != is || stale || !neigh->state))
		requeue(n, neigh, was);
	if (was == is && !(is && moved) && !failed && neigh->state)
		return;
	if (tg_list_empty(&neigh->changed))
		tg_list_add(&n->changed, &neigh->changed);
	tg_neighbour_work(n);
}

static void neigh_message(struct tg_neighbour *n, const struct nlmsghdr *message)
{
	struct tg_nl_neigh now;
	struct tg_neigh *neigh;

	if (!tg_nl_neigh(message, &now))
		return;
	if (message->nlmsg_type == RTM_DELNEIGH)
		now.state = NUD_NONE;
	neigh = now.state ? tg_neigh_obtain(n, now.ifindex, &now.addr)
			  : tg_neigh_find(n, now.ifindex, &now.addr);
	if (neigh)
		neigh_update(n, neigh, &now);
}

/* After a dump: what was not in it is gone. */
static void neigh_forget_older(struct tg_neighbour *n)
{
	const struct tg_nl_neigh gone = { .state = NUD_NONE };

	tg_list_each(position, &n->all_neighs) {
		struct tg_neigh *neigh = tg_container(position, struct tg_neigh, all);

		if (neigh->generation != n->generation && neigh->state)
			neigh_update(n, neigh, &gone);
	}
}

/* What the kernel knows by now, announced or not (devices without ARP are not). 0 or -ENOENT. */
static int get(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	struct tg_nl_neigh now;
	int error = tg_netlink_get_neigh(&n->netlink, neigh->ifindex, &neigh->addr, &now);

	if (!error)
		neigh_update(n, neigh, &now);
	return error;
}

/*
 * Asks the kernel to resolve or confirm a neighbour. Not a permanent one: NTF_USE would make the
 * kernel forget its MAC (a_permanent_neighbour_stays_permanent), so look before.
 */
static void ask(struct tg_neighbour *n, struct tg_neigh *neigh)
{
	const struct tg_link *link = tg_link_by_index(n, neigh->ifindex);
	int error;

	if (!link || !link->up || !link->carrier)
		return;
	n->stats.asks++;
	error = get(n, neigh);
	if (!error && neigh->state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_INCOMPLETE))
		return;
	tg_netlink_use_neigh(&n->netlink, neigh->ifindex, &neigh->addr);
	if (error)
		get(n, neigh);
}

/* Asks for those at the front of a queue that are due. */
static void ask_due(struct tg_neighbour *n, struct tg_list *queue, uint64_t now)
{
	for (int i = 0; i < TG_WORK_SLICE && !tg_list_empty(queue); i++) {
		struct tg_neigh *neigh = tg_container(queue->next, struct tg_neigh, queue);

		if (neigh->due > now)
			break;
		enqueue(n, neigh, now);
		ask(n, neigh);
	}
}

/* ---- everything anew ---- */

static int on_dumped(void *user, const struct nlmsghdr *message)
{
	struct tg_neighbour *n = user;

	if (message->nlmsg_type == RTM_NEWLINK)
		tg_link_message(n, message);
	else
		neigh_message(n, message);
	return n->closing;
}

/* Reads links and neighbours anew, and has everything that depends on them looked at again. */
static int synchronize(struct tg_neighbour *n)
{
	int error;

	n->generation++;
	n->lost = false;
	error = tg_netlink_dump(&n->netlink, RTM_GETLINK, AF_UNSPEC, 0, on_dumped, n);
	if (!error && !n->closing)
		error = tg_netlink_dump(&n->netlink, RTM_GETNEIGH, AF_INET, 0, on_dumped, n);
	if (!error && !n->closing)
		error = tg_netlink_dump(&n->netlink, RTM_GETNEIGH, AF_INET6, 0, on_dumped, n);
	if (n->closing)
		return 0;
	tg_neighbour_disturb(n);
	if (error) {
		n->lost = true;
		tg_neighbour_tick(n);
		return error;
	}
	tg_link_forget_older(n);
	neigh_forget_older(n);
	return 0;
}

/* ---- timers ---- */

static void on_tick(uv_timer_t *timer)
{
	struct tg_neighbour *n = timer->data;
	uint64_t now = uv_hrtime();

	if (n->lost)
		synchronize(n);
	if (n->closing)
		return;
	ask_due(n, &n->cold, now);
	ask_due(n, &n->warm, now);
	tg_targets_mark_due(n, now);
	if (tg_list_empty(&n->cold) && tg_list_empty(&n->warm) && tg_list_empty(&n->refresh) && !n->lost)
		uv_timer_stop(timer);
}

void tg_neighbour_tick(struct tg_neighbour *n)
{
	if (!n->closing && !uv_is_active((uv_handle_t *)&n->tick))
		uv_timer_start(&n->tick, on_tick, TICK_MS, TICK_MS);
}

static void on_changed(struct tg_neighbour *n)
{
	for (int i = 0; i < TG_WORK_SLICE && !tg_list_empty(&n->changed); i++) {
		struct tg_neigh *neigh = tg_container(n->changed.next, struct tg_neigh, changed);

		/* Callbacks may end its use: it stays on the list so as not to be freed meanwhile. */
		tg_targets_mark_hop(n, neigh);
		tg_mirror_neigh(n, neigh);
		if (n->closing)
			return;
		tg_list_remove(&neigh->changed);
		tg_neigh_used(n, neigh);
	}
}

/* After an iteration's work: is a sweep done, and what did it cost? */
static void account(struct tg_neighbour *n, uint64_t start)
{
	uint64_t now = uv_hrtime();

	n->sweep_cost += now - start;
	if (!tg_list_empty(&n->dirty))
		return;
	if (n->quiet_until < now + 2 * n->sweep_cost)
		n->quiet_until = now + 2 * n->sweep_cost;
	n->sweep_cost = 0;
}

static bool asks_wait(const struct tg_neighbour *n)
{
	return !tg_list_empty(&n->cold) && !tg_container(n->cold.next, struct tg_neigh, queue)->due;
}

static void on_work(uv_idle_t *idle)
{
	struct tg_neighbour *n = idle->data;
	uint64_t start = uv_hrtime();

	on_changed(n);
	if (!n->closing)
		tg_targets_work(n);
	if (n->closing)
		return;
	account(n, start);
	if (asks_wait(n))
		ask_due(n, &n->cold, start);
	if (tg_list_empty(&n->changed) && tg_list_empty(&n->dirty) && !asks_wait(n))
		uv_idle_stop(idle);
}

void tg_neighbour_work(struct tg_neighbour *n)
{
	if (!n->closing)
		uv_idle_start(&n->work, on_work);
}

/* Neighbours that nobody answered for are worth asking for when a link came up. */
static void wake_cold(struct tg_neighbour *n)
{
	tg_list_each(position, &n->cold)
		tg_container(position, struct tg_neigh, queue)->due = 0;
}

/*
 * A link that went down is announced before the kernel has removed its IPv4 routes, and their removal
 * is not announced at all: so after a link changed there is a second look, AGAIN_MS later.
 */
static void on_sweep(uv_timer_t *timer)
{
	struct tg_neighbour *n = timer->data;
	uint64_t start = uv_hrtime();

	if (n->sweep_again) {
		uv_timer_start(timer, on_sweep, AGAIN_MS, 0);
		wake_cold(n);
	}
	n->sweep_again = false;
	tg_targets_mark_all(n);
	tg_mirror_read(n);
	n->sweep_cost += uv_hrtime() - start;
	tg_neighbour_work(n);
}

void tg_neighbour_disturb(struct tg_neighbour *n)
{
	uint64_t now = uv_hrtime(), wait = DEBOUNCE_MS;

	if (n->closing)
		return;
	if (n->quiet_until > now + DEBOUNCE_MS * 1000000)
		wait = (n->quiet_until - now) / 1000000;
	if (uv_is_active((uv_handle_t *)&n->sweep) && uv_timer_get_due_in(&n->sweep) <= wait)
		return;
	uv_timer_start(&n->sweep, on_sweep, wait, 0);
}

/* ---- events ---- */

static int on_event(void *user, const struct nlmsghdr *message)
{
	struct tg_neighbour *n = user;

	n->stats.events++;
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		tg_link_message(n, message);
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		neigh_message(n, message);
		break;
	default:	/* routes, rules, addresses, next hop objects */
		tg_neighbour_disturb(n);
	}
	return n->closing;
}

static int on_stale(void *user, const struct nlmsghdr *message)
{
	return 0;
}

/*
 * After an overrun the kernel drops announcements without another word until the socket has been
 * read empty. Only what is read from the kernel's tables after that is sure to be all.
 */
static void on_overrun(struct tg_neighbour *n)
{
	int result = 0;

	n->stats.overruns++;
	for (int i = 0; i < READS_PER_OVERRUN && result != -EAGAIN; i++)
		result = tg_netlink_read(&n->netlink, on_stale, n);
	n->lost = true;		/* read at the next tick: a storm has to be let pass */
	tg_neighbour_tick(n);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct tg_neighbour *n = poll->data;
	int result = 0;

	for (int i = 0; i < READS_PER_TURN && !result && !n->closing; i++)
		result = tg_netlink_read(&n->netlink, on_event, n);
	if (n->closing)
		return;
	if (result == -ENOBUFS)
		on_overrun(n);
	if (status < 0)		/* libuv stops polling at POLLERR, which an overrun sets */
		uv_poll_start(poll, UV_READABLE, on_readable);
}

/* ---- life ---- */

static void init_handles(struct tg_neighbour *n, uv_loop_t *loop)
{
	uv_timer_init(loop, &n->sweep);
	uv_timer_init(loop, &n->tick);
	uv_idle_init(loop, &n->work);
	n->sweep.data = n->tick.data = n->work.data = n->poll.data = n;
	n->handles = 3;
}

static void init_lists(struct tg_neighbour *n)
{
	tg_list_init(&n->all_neighs);
	tg_list_init(&n->changed);
	tg_list_init(&n->cold);
	tg_list_init(&n->warm);
	tg_link_init(n);
	tg_targets_init(n);
}

int tg_neighbour_open(uv_loop_t *loop, struct tg_neighbour **out, struct tg_error *error)
{
	struct tg_neighbour *n = calloc(1, sizeof(*n));
	int code;

	if (!n)
		return tg_fail(error, -ENOMEM, "routes and neighbours: out of memory");
	code = tg_netlink_open(&n->netlink, error);
	if (code) {
		free(n);
		return code;
	}
	init_lists(n);
	init_handles(n, loop);
	code = uv_poll_init(loop, &n->poll, tg_netlink_fd(&n->netlink));
	if (!code) {
		n->handles++;
		uv_poll_start(&n->poll, UV_READABLE, on_readable);
		code = synchronize(n);
	}
	if (code && code != -EINTR) {	/* interrupted by changes: the tick tries again */
		tg_neighbour_close(n, NULL, NULL);
		return tg_fail(error, code, "reading links and neighbours: %s", strerror(-code));
	}
	*out = n;
	return 0;
}

static void neighs_free(struct tg_neighbour *n)
{
	struct tg_list *position;

	while ((position = tg_list_take(&n->all_neighs)))
		free(tg_container(position, struct tg_neigh, all));
	tg_table_free(&n->neighs);
}

static void on_closed(uv_handle_t *handle)
{
	struct tg_neighbour *n = handle->data;

	if (--n->handles)
		return;
	tg_mirror_free(n);
	tg_targets_free(n);
	tg_link_free(n);
	neighs_free(n);
	tg_netlink_close(&n->netlink);
	if (n->closed)
		n->closed(n->closed_user);
	free(n);
}

void tg_neighbour_close(struct tg_neighbour *n, void (*closed)(void *user), void *user)
{
	bool polling = n->handles == 4;

	n->closing = true;
	n->closed = closed;
	n->closed_user = user;
	uv_close((uv_handle_t *)&n->sweep, on_closed);
	uv_close((uv_handle_t *)&n->tick, on_closed);
	uv_close((uv_handle_t *)&n->work, on_closed);
	if (polling)
		uv_close((uv_handle_t *)&n->poll, on_closed);
}

const struct tg_neighbour_stats *tg_neighbour_stats(const struct tg_neighbour *n)
{
	return &n->stats;
}
