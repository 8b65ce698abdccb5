/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Connections that must not break, for tests/net:
 *
 *   steady serve PORT ID                              answers each byte with the byte ID
 *   steady hold ADDRESS PORT COUNT SECONDS FILE       keeps COUNT connections
 *   steady ask ADDRESS PORT COUNT RATE                opens RATE connections a second, a byte over each
 *   steady flood DEV MAC ADDRESS PORT COUNT RATE      sends SYNs from random sources
 *
 * `hold` opens its connections one after the other, then sends a byte over each every SECONDS,
 * spread evenly, and expects an answer within 5 s, from the backend that answered first. FILE is
 * written anew five times a second: a line `open N`, a line `broken N`, then `ID OPEN BROKEN` for
 * each backend. A connection that breaks is not opened again. It ends by a signal.
 *
 * `ask` expects one answer over each of COUNT connections, within 5 s, and closes it; it prints
 * `asked N failed M unanswered U lossy L` at its end. L are those that failed after packets of theirs
 * had been lost and sent again: if a SYN's answer is lost, and the slot moves before the SYN is sent
 * again, then two backends answer it, and no balancer could know. They are not in M.
 *
 * `flood` sends COUNT frames at RATE a second out of DEV to MAC; sources are 10.0.0.0/8's and, where
 * ADDRESS is IPv6, of 2001:db8:f00d::/48.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_NS 5000000000ull
#define REPORT_NS 200000000ull
#define BACKENDS  256
#define IN_FLIGHT 50 /* connections being opened at once */

static void die(const char *what)
{
	fprintf(stderr, "steady: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static socklen_t address(const char *text, int port, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (void *)out;
	struct sockaddr_in6 *in6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1)
		die(text);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	return sizeof(*in6);
}

static void watch(int epoll, int fd, uint32_t events, uint32_t tag)
{
	struct epoll_event event = { .events = events, .data.u32 = tag };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll");
}

/* --- serve ----------------------------------------------------------------------------------------- */

static int listen_on(int port)
{
	struct sockaddr_storage any;
	socklen_t size = address("::", port, &any);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (void *)&any, size) || listen(fd, 4096))
		die("listen");
	return fd;
}

static void answer(int fd, char id)
{
	char bytes[256];
	ssize_t got = read(fd, bytes, sizeof(bytes));

	if (got <= 0 && !(got < 0 && errno == EAGAIN)) {
		close(fd);
		return;
	}
	memset(bytes, id, sizeof(bytes));
	if (got > 0 && write(fd, bytes, got) != got)
		close(fd);
}

static void serve(int port, int id)
{
	int epoll = epoll_create1(0), listener = listen_on(port), fd;
	struct epoll_event events[64];

	watch(epoll, listener, EPOLLIN, listener);
	for (;;) {
		int count = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < count; i++) {
			if ((int)events[i].data.u32 != listener) {
				answer(events[i].data.u32, id);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
				watch(epoll, fd, EPOLLIN, fd);
		}
	}
}

/* --- hold ------------------------------------------------------------------------------------------ */

enum state { WAITING, OPENING, OPEN, DONE, BROKEN };

struct connection {
	int fd;
	enum state state;
	uint8_t backend;    /* 0: has not answered yet */
	uint64_t asked_at;  /* 0: no answer is awaited */
	uint64_t next_byte; /* when to send */
};

struct holder {
	struct sockaddr_storage to;
	socklen_t to_size;
	int epoll;
	uint32_t count, opened, opening;
	uint64_t interval;
	uint64_t started;
	uint32_t unanswered; /* of those that broke */
	uint32_t after_loss; /* ask: of those that broke, packets of these were sent again before */
	uint64_t rate;	     /* ask: so many a second; 0: hold */
	const char *file;
	struct connection *all;
};

static void finish_opening(struct holder *holder, struct connection *c)
{
	if (c->state == OPENING)
		holder->opening--;
}

static void end(struct holder *holder, struct connection *c, enum state state)
{
	finish_opening(holder, c);
	c->state = state;
	close(c->fd);
}

/* Tells what became of a request that fails, by its port; true if packets of it had been lost. */
static bool describe(const struct connection *c, int why)
{
	struct sockaddr_in6 from = { 0 };
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(from), info_size = sizeof(info);

	getsockname(c->fd, (void *)&from, &size);
	getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &info_size);
	fprintf(stderr, "from port %d: broke while %s, after %.3f s: %s; %u packets sent again\n",
		ntohs(from.sin6_port), c->state == OPENING ? "opening" : "open",
		(now() - c->asked_at) / 1e9, strerror(why), info.tcpi_total_retrans);
	return info.tcpi_total_retrans;
}

static void lose(struct holder *holder, struct connection *c)
{
	if (holder->rate && describe(c, errno))
		holder->after_loss++;
	end(holder, c, BROKEN);
}

static void open_next(struct holder *holder)
{
	struct connection *c = &holder->all[holder->opened];

	c->fd = socket(holder->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		die("socket");
	c->state = OPENING;
	c->asked_at = now();
	holder->opening++;
	if (connect(c->fd, (void *)&holder->to, holder->to_size) && errno != EINPROGRESS)
		lose(holder, c);
	else
		watch(holder->epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLET, holder->opened);
	holder->opened++;
}

static void send_byte(struct holder *holder, struct connection *c, uint64_t time)
{
	c->next_byte = time + holder->interval;
	if (c->asked_at)
		return; /* still waits for an answer */
	c->asked_at = time;
	if (send(c->fd, "?", 1, MSG_NOSIGNAL) != 1)
		lose(holder, c);
}

static void read_answer(struct holder *holder, struct connection *c)
{
	uint8_t ids[16];
	ssize_t got = read(c->fd, ids, sizeof(ids));

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0 || (c->backend && c->backend != ids[0])) {
		lose(holder, c);
		return;
	}
	c->backend = ids[0];
	c->asked_at = 0;
	if (holder->rate)
		end(holder, c, DONE);
}

static void happened(struct holder *holder, struct connection *c, uint32_t events, uint64_t time)
{
	if (c->state >= DONE)
		return;
	if (c->state == OPENING && events & EPOLLOUT && !(events & (EPOLLERR | EPOLLHUP))) {
		finish_opening(holder, c);
		c->state = OPEN;
		c->asked_at = 0;
		send_byte(holder, c, time);
		/* from now on spread over the interval */
		c->next_byte = time + holder->interval * (c - holder->all) / holder->count;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		read_answer(holder, c);
}

static bool may_open(const struct holder *holder, uint64_t time)
{
	if (!holder->rate)
		return holder->opening < IN_FLIGHT;
	return holder->opened * 1000000000ull < (time - holder->started) * holder->rate;
}

static void pass_time(struct holder *holder, uint64_t time)
{
	for (uint32_t i = 0; i < holder->opened; i++) {
		struct connection *c = &holder->all[i];

		if (c->state < DONE && c->asked_at && time - c->asked_at > ANSWER_NS) {
			holder->unanswered++;
			lose(holder, c);
		} else if (c->state == OPEN && time >= c->next_byte)
			send_byte(holder, c, time);
	}
	while (holder->opened < holder->count && may_open(holder, time))
		open_next(holder);
}

static void report(const struct holder *holder)
{
	uint32_t open[BACKENDS] = { 0 }, broken[BACKENDS] = { 0 }, all_open = 0, all_broken = 0;
	char fresh[256];
	FILE *file;

	for (uint32_t i = 0; i < holder->opened; i++) {
		const struct connection *c = &holder->all[i];

		all_broken += c->state == BROKEN;
		broken[c->backend] += c->state == BROKEN;
		all_open += c->state == OPEN && c->backend;
		open[c->backend] += c->state == OPEN;
	}
	snprintf(fresh, sizeof(fresh), "%s.new", holder->file);
	file = fopen(fresh, "w");
	if (!file)
		die(fresh);
	fprintf(file, "open %u\nbroken %u\n", all_open, all_broken);
	for (int i = 0; i < BACKENDS; i++)
		if (open[i] || broken[i])
			fprintf(file, "%d %u %u\n", i, open[i], broken[i]);
	fclose(file);
	rename(fresh, holder->file);
}

static uint64_t turn(struct holder *holder)
{
	struct epoll_event events[256];
	int count = epoll_wait(holder->epoll, events, 256, holder->rate ? 1 : 5);
	uint64_t time = now();

	for (int i = 0; i < count; i++)
		happened(holder, &holder->all[events[i].data.u32], events[i].events, time);
	pass_time(holder, time);
	return time;
}

static uint32_t in_state(const struct holder *holder, enum state state)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < holder->opened; i++)
		count += holder->all[i].state == state;
	return count;
}

static void ask(struct holder *holder)
{
	holder->started = now();
	while (holder->opened < holder->count || in_state(holder, OPENING) ||
		in_state(holder, OPEN))
		turn(holder);
	printf("asked %u failed %u unanswered %u lossy %u\n", holder->opened,
		in_state(holder, BROKEN) - holder->after_loss, holder->unanswered,
		holder->after_loss);
}

static void hold(struct holder *holder)
{
	uint64_t reported = 0;

	for (;;) {
		uint64_t time = turn(holder);

		if (time - reported > REPORT_NS) {
			report(holder);
			reported = time;
		}
	}
}

/* --- flood ----------------------------------------------------------------------------------------- */

#define AT_ONCE 64

struct frame {
	struct ethhdr eth;
	union {
		struct {
			struct iphdr ip4;
			struct tcphdr tcp4;
		} __attribute__((packed));
		struct {
			struct ipv6hdr ip6;
			struct tcphdr tcp6;
		} __attribute__((packed));
	};
} __attribute__((packed));

static uint64_t random64(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15ull;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static uint32_t sum(const void *data, uint32_t length, uint32_t start)
{
	const uint8_t *at = data;

	for (uint32_t i = 0; i < length; i++)
		start += i & 1 ? at[i] : at[i] << 8;
	return start;
}

static uint16_t finish_sum(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

static struct tcphdr syn_to(int port)
{
	return (struct tcphdr){ .source = random64(),
		.dest = htons(port),
		.seq = random64(),
		.doff = 5,
		.syn = 1,
		.window = 0xffff };
}

static uint32_t fill_frame(struct frame *frame, const struct sockaddr_storage *to, int port)
{
	uint64_t random[2] = { random64(), random64() };

	if (to->ss_family == AF_INET) {
		frame->eth.h_proto = htons(ETH_P_IP);
		frame->ip4 = (struct iphdr){ .version = 4,
			.ihl = 5,
			.tot_len = htons(40),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = htonl(10 << 24 | (random[0] & 0xffffff)),
			.daddr = ((const struct sockaddr_in *)to)->sin_addr.s_addr };
		frame->ip4.check = finish_sum(sum(&frame->ip4, 20, 0));
		frame->tcp4 = syn_to(port);
		frame->tcp4.check = finish_sum(
			sum(&frame->tcp4, 20, sum(&frame->ip4.saddr, 8, IPPROTO_TCP + 20)));
		return sizeof(frame->eth) + 40;
	}
	frame->eth.h_proto = htons(ETH_P_IPV6);
	frame->ip6 = (struct ipv6hdr){ .version = 6,
		.payload_len = htons(20),
		.nexthdr = IPPROTO_TCP,
		.hop_limit = 64,
		.daddr = ((const struct sockaddr_in6 *)to)->sin6_addr };
	memcpy(&frame->ip6.saddr, "\x20\x01\x0d\xb8\xf0\x0d", 6);
	memcpy((char *)&frame->ip6.saddr + 6, random, 10);
	frame->tcp6 = syn_to(port);
	frame->tcp6.check =
		finish_sum(sum(&frame->tcp6, 20, sum(&frame->ip6.saddr, 32, IPPROTO_TCP + 20)));
	return sizeof(frame->eth) + 60;
}

static int raw_socket(const char *device)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(device) };
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0 || !ll.sll_ifindex || bind(fd, (void *)&ll, sizeof(ll)))
		die(device);
	return fd;
}

static void flood(int fd, const uint8_t mac[6], const struct sockaddr_storage *to, int port,
	uint64_t count, uint64_t rate)
{
	static struct frame frames[AT_ONCE];
	struct mmsghdr messages[AT_ONCE] = { 0 };
	struct iovec parts[AT_ONCE];
	uint64_t start = now(), sent = 0;

	while (sent < count) {
		int ready = 0, result;

		for (int i = 0; i < AT_ONCE && sent + i < count; i++, ready++) {
			memcpy(frames[i].eth.h_dest, mac, 6);
			memcpy(frames[i].eth.h_source, "\2\0\0\0\0\1", 6);
			parts[i] = (struct iovec){ &frames[i], fill_frame(&frames[i], to, port) };
			messages[i].msg_hdr =
				(struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
		}
		result = sendmmsg(fd, messages, ready, 0);
		if (result < 0 && errno != ENOBUFS)
			die("send");
		sent += result > 0 ? result : 0;
		while ((now() - start) * rate < sent * 1000000000ull)
			usleep(500);
	}
	printf("%llu SYNs in %.1f s\n", (unsigned long long)sent, (now() - start) / 1e9);
}

/* --- the command line ------------------------------------------------------------------------------- */

static int misused(void)
{
	fprintf(stderr,
		"usage: steady serve PORT ID | hold ADDRESS PORT COUNT SECONDS FILE |\n"
		"       ask ADDRESS PORT COUNT RATE | flood DEV MAC ADDRESS PORT COUNT RATE\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct holder holder = { .epoll = epoll_create1(0) };
	uint8_t mac[6];

	if (argc == 4 && !strcmp(argv[1], "serve")) {
		serve(atoi(argv[2]), atoi(argv[3]));
	} else if (argc == 7 && !strcmp(argv[1], "hold")) {
		holder.to_size = address(argv[2], atoi(argv[3]), &holder.to);
		holder.count = atoi(argv[4]);
		holder.interval = atof(argv[5]) * 1e9;
		holder.file = argv[6];
		holder.all = calloc(holder.count, sizeof(*holder.all));
		hold(&holder);
	} else if (argc == 6 && !strcmp(argv[1], "ask")) {
		holder.to_size = address(argv[2], atoi(argv[3]), &holder.to);
		holder.count = atoi(argv[4]);
		holder.rate = atoi(argv[5]);
		holder.interval = 1000000000000ull;
		holder.all = calloc(holder.count, sizeof(*holder.all));
		ask(&holder);
		return 0;
	} else if (argc == 8 && !strcmp(argv[1], "flood")) {
		address(argv[4], 0, &holder.to);
		if (sscanf(argv[3], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2],
			    &mac[3], &mac[4], &mac[5]) != 6)
			return misused();
		flood(raw_socket(argv[2]), mac, &holder.to, atoi(argv[5]),
			strtoull(argv[6], NULL, 0), strtoull(argv[7], NULL, 0));
		return 0;
	}
	return misused();
}
