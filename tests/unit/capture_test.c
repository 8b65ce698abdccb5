/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Captures: packets through bpf/capture.h into the ring, by core/capture.c into a file; the file is read
 * back here, block by block, from what the format's draft says. tests/net/capture_test.sh lets tshark judge.
 */
#include "capture.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "flow_hash.h"

#include "capture.skel.h"
#include "pcapng_file.h"

#define START	7
#define FRAME	128
#define NO_RULE 0xff

static struct capture_bpf *skeleton;
static struct tg_datapath dp;
static struct tg_tap *taps;
static uv_loop_t loop;
static struct tg_mailbox *box;
static struct tg_captures *captures;
static char path[64];

/* --- a switch of one step --- */

static void use(struct bpf_map *of)
{
	bpf_map__set_autocreate(of, true);
}

static void open_step(void)
{
	struct bpf_map *map;

	memset(dp.maps, 0xff, sizeof(dp.maps));
	skeleton = capture_bpf__open();
	bpf_object__for_each_map(map, skeleton->obj) if (!strstr(bpf_map__name(map), "rodata"))
		bpf_map__set_autocreate(map, false);
	use(skeleton->maps.taps);
	use(skeleton->maps.tap_counters);
	use(skeleton->maps.captures);
	bpf_map__set_max_entries(skeleton->maps.captures, 1 << 20);
	CHECK_INT(0, capture_bpf__load(skeleton));
	dp.maps[TG_MAP_TAPS] = bpf_map__fd(skeleton->maps.taps);
	dp.maps[TG_MAP_TAP_COUNTERS] = bpf_map__fd(skeleton->maps.tap_counters);
	dp.maps[TG_MAP_CAPTURES] = bpf_map__fd(skeleton->maps.captures);
	taps = mmap(NULL, TG_MAX_TAPS * sizeof(*taps), PROT_READ | PROT_WRITE, MAP_SHARED,
		dp.maps[TG_MAP_TAPS], 0);
	CHECK(taps != MAP_FAILED);
}

static __u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* As core/taps.c starts one. */
static void tap_on(__u32 snap)
{
	for (__u32 i = 0; i < TG_TAP_COUNT; i++)
		tg_datapath_reset_counter(&dp, TG_MAP_TAP_COUNTERS, i);
	taps[0] = (struct tg_tap){
		.kind = TG_TAP_CAPTURE, .snap = snap, .start = START, .until = now() + 5000000000ull
	};
}

/* Runs a frame through the step; what it counts (enum tg_tap_count). */
static int send_frame(const void *frame, __u32 size, int times)
{
	LIBBPF_OPTS(
		bpf_test_run_opts, run, .data_in = frame, .data_size_in = size, .repeat = times);

	CHECK_INT(0, bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.capture), &run));
	return run.retval;
}

static __u8 frame[1 << 16];

static void make_frame(__u8 direction, __u8 verdict, __u8 reason, __u8 rule)
{
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = i * 7;
	memcpy(frame, (__u8[]){ 2, direction, verdict, reason, rule, 0 }, 6);
	memcpy(frame + 12, "\x08\x00", 2);
}

/* 1,024 bytes, which the step makes 256 times `to` by zeros: a test run takes no more than a page. */
static void grow_frame(__u8 to)
{
	frame[5] = to;
	memset(frame + 1024, 0, sizeof(frame) - 1024);
}

static int send_large(__u8 to, int times)
{
	grow_frame(to);
	return send_frame(frame, 1024, times);
}

/* --- captures --- */

static int ended;

static void on_end(void *user, struct tg_capture *capture)
{
	ended++;
}

static struct tg_capture *start(struct tg_capture_options options)
{
	struct tg_error error = { "" };
	struct tg_capture *capture;

	options.start = START;
	if (!options.fd)
		options.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ended = 0;
	capture = tg_captures_start(captures, &options, on_end, NULL, &error);
	CHECK_STR("", error.text);
	tap_on(options.snap);
	return capture;
}

static void await_end(void)
{
	for (int i = 0; i < 500 && !ended; i++) {
		uv_run(&loop, UV_RUN_NOWAIT);
		usleep(10000);
	}
	CHECK_INT(1, ended);
}

static struct tg_capture_status stop(struct tg_capture *capture)
{
	struct tg_capture_status status;

	tg_capture_stop(capture);
	await_end();
	tg_capture_status(capture, &status);
	tg_capture_free(capture);
	return status;
}

static struct tg_capture_status end_of(struct tg_capture *capture)
{
	struct tg_capture_status status;

	await_end();
	tg_capture_status(capture, &status);
	tg_capture_free(capture);
	return status;
}

static struct tg_expression *expression(const char *text)
{
	struct tg_error error = { "" };
	struct tg_expression *made = tg_expression_new(text, &error);

	CHECK_STR("", error.text);
	return made;
}

/* --- the file, read back --- */

static int packets_in_file(void)
{
	struct packet packet;
	int n = 0;

	read_file(path);
	while (next_packet(&packet))
		n++;
	CHECK_INT(file.size, file.at);
	return n;
}

/* --- the tests --- */

static void a_file_has_a_section_an_interface_packets_and_statistics(void)
{
	struct tg_capture *capture =
		start((struct tg_capture_options){ .filter = expression("ip") });
	struct tg_capture_status status;
	struct block block;
	__u16 size;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 3);
	status = stop(capture);
	CHECK_INT(TG_CAPTURE_STOPPED, status.end);
	CHECK_INT(3, status.packets);
	CHECK_INT(3 * FRAME, status.bytes);
	read_file(path);
	CHECK_INT(file.size, status.size);
	CHECK(next_block(&block));
	CHECK_INT(0x0a0d0d0a, block.type);
	CHECK_INT(0x1a2b3c4d, word(block.body));
	CHECK_INT(1, word(block.body + 4)); /* version 1.0 */
	CHECK(strstr(text_option(&block, 16, 4), "tidegate "));
	CHECK(next_block(&block));
	CHECK_INT(1, block.type);
	CHECK_INT(1, word(block.body)); /* Ethernet */
	CHECK_INT(TG_RECORD_BYTES, word(block.body + 4));
	CHECK_STR("lo", text_option(&block, 8, 2)); /* that of test runs */
	CHECK_INT(9, *option(&block, 8, 9, &size));
	CHECK(!memcmp("\0ip", option(&block, 8, 11, &size), 3));
	for (int i = 0; i < 3; i++)
		CHECK(next_block(&block) && block.type == 6);
	CHECK(next_block(&block));
	CHECK_INT(5, block.type);
	CHECK_INT(3, long_word(option(&block, 12, 4, &size)));
	CHECK_INT(0, long_word(option(&block, 12, 5, &size)));
	CHECK_INT(3, long_word(option(&block, 12, 8, &size)));
	CHECK(!next_block(&block));
}

/* In pages of 256 bytes from 1,024 up: `frame` has zeros there. */
static __u32 send_size(__u32 size, __u8 direction)
{
	make_frame(direction, TG_ACTION_ACCEPT, 0, NO_RULE);
	CHECK_INT(TG_TAPPED_COPIED,
		size % 256 ? send_frame(frame, size, 1) : send_large(size / 256, 1));
	return size;
}

static void a_packet_has_its_bytes_its_time_and_its_direction(void)
{
	static const __u32 sizes[] = { 60, 64, 65, 128, 129, 300, 513, 1000, 1514, 1600, 3000, 4352,
		8960, 15360 };
	struct tg_capture *capture = start((struct tg_capture_options){ .snap = 0 });
	struct timespec real;
	struct packet packet;
	__u64 time;

	clock_gettime(CLOCK_REALTIME, &real);
	time = real.tv_sec * 1000000000ull + real.tv_nsec;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		send_size(sizes[i], i & 1 ? TG_EGRESS : TG_INGRESS);
	stop(capture);
	read_file(path);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		make_frame(i & 1 ? TG_EGRESS : TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
		if (sizes[i] % 256 == 0)
			grow_frame(sizes[i] / 256);
		CHECK(next_packet(&packet));
		CHECK_INT(sizes[i], packet.length);
		CHECK_INT(sizes[i], packet.captured);
		CHECK(!memcmp(frame, packet.data, sizes[i]));
		CHECK_INT(i & 1 ? 2 : 1, packet.flags);
		CHECK(packet.time + 1000000000 > time && packet.time < time + 20000000000ull);
	}
	CHECK(!next_packet(&packet));
}

static void a_comment_tells_verdict_and_rule(void)
{
	static const struct {
		__u8 verdict, reason, rule;
		const char *comment;
	} cases[] = {
		{ TG_ACTION_DROP, TG_REASON_POLICY_DROP, 1,
			"verdict drop, rule dns (policy.lua:12)" },
		{ TG_ACTION_ACCEPT, 0, 1, "verdict accept, rule dns (policy.lua:12)" },
		{ TG_ACTION_REJECT, TG_REASON_POLICY_REJECT, 2, "verdict reject, rule 2" },
		{ TG_ACTION_DROP, TG_REASON_TRUNCATED, NO_RULE, "verdict drop, reason truncated" },
		{ TG_RECORD_FORWARDED, 0, NO_RULE, "verdict forward" },
		{ TG_RECORD_UNJUDGED, 0, NO_RULE, "verdict none" },
		{ TG_RECORD_UNJUDGED, 0, NO_RULE, "verdict none" },
	};
	struct tg_capture *capture = start((struct tg_capture_options){ .snap = 100 });
	char **names = calloc(2, sizeof(*names));
	struct packet packet;

	names[1] = strdup("dns (policy.lua:12)");
	tg_captures_rules(captures, names, 2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		make_frame(TG_INGRESS, cases[i].verdict, cases[i].reason, cases[i].rule);
		send_frame(frame, FRAME, 1);
	}
	stop(capture);
	read_file(path);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CHECK(next_packet(&packet));
		CHECK_STR(cases[i].comment, packet.comment);
		CHECK_INT(100, packet.captured);
		CHECK_INT(FRAME, packet.length);
	}
}

static void an_expression_chooses(void)
{
	struct tg_capture *capture =
		start((struct tg_capture_options){ .snap = 96, .filter = expression("len > 200") });
	struct tg_error error = { "" };
	struct tg_capture_status status;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, 128, 5);
	send_frame(frame, 256, 2);
	status = stop(capture);
	CHECK_INT(2, status.packets);
	CHECK_INT(5, status.filtered);
	CHECK_INT(2, packets_in_file());
	CHECK(!tg_expression_new("tcp porta 80", &error));
	CHECK(strstr(error.text, "\"tcp porta 80\" is no tcpdump expression: "));
}

static void a_capture_ends_after_so_many_packets(void)
{
	struct tg_capture *capture =
		start((struct tg_capture_options){ .snap = 64, .packets = 10 });
	struct tg_capture_status status;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 1000);
	status = end_of(capture);
	CHECK_INT(TG_CAPTURE_PACKETS, status.end);
	CHECK_INT(10, status.packets);
	CHECK_INT(10, packets_in_file());
	CHECK(taps[0].until <= now());
}

static void a_capture_ends_before_its_file_is_larger_than_allowed(void)
{
	struct tg_capture *capture =
		start((struct tg_capture_options){ .snap = 64, .bytes = 10000 });
	struct tg_capture_status status;
	int packets;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 1000);
	status = end_of(capture);
	CHECK_INT(TG_CAPTURE_BYTES, status.end);
	packets = packets_in_file();
	CHECK_INT(status.packets, packets);
	CHECK(file.size <= 10000 && file.size > 9500);
}

static void a_capture_ends_after_its_time(void)
{
	struct tg_capture *capture =
		start((struct tg_capture_options){ .snap = 64, .ns = 200000000 });
	struct tg_capture_status status;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 5);
	status = end_of(capture);
	CHECK_INT(TG_CAPTURE_SECONDS, status.end);
	CHECK_INT(5, packets_in_file());
}

static void its_tap_ends_soon_without_it(void)
{
	struct tg_capture *capture = start((struct tg_capture_options){ .snap = 64 });

	taps[0].until = 1;
	for (int i = 0; i < 100 && taps[0].until == 1; i++)
		usleep(10000);
	CHECK(taps[0].until > now());
	CHECK(taps[0].until <= now() + TG_CAPTURE_LEASE * 1000000000ull);
	stop(capture);
	CHECK(taps[0].until <= now());
}

static void records_of_an_earlier_start_are_nobodys(void)
{
	struct tg_capture *capture;

	tap_on(64);
	taps[0].start = START - 1;
	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 5);
	capture = start((struct tg_capture_options){ .snap = 64 });
	send_frame(frame, FRAME, 2);
	CHECK_INT(2, stop(capture).packets);
}

static void a_full_ring_is_counted(void)
{
	/* so many wait until the reader has the lock, which the test has */
	struct tg_capture *capture = start((struct tg_capture_options){ .snap = 0 });
	struct tg_capture_status status;
	int copied = 0, full = 0, what;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	for (int i = 0; i < 400; i++) {
		what = send_large(60, 1);
		copied += what == TG_TAPPED_COPIED;
		full += what == TG_TAPPED_RING_FULL;
	}
	status = stop(capture);
	CHECK_INT(400, copied + full);
	CHECK_INT(copied, status.packets + status.slow);
	CHECK_INT(full, status.ring_full);
	CHECK_INT(status.packets, packets_in_file());
}

/* In a file system of 1 MiB, which nobody else sees. */
static void a_full_disk_ends_it_and_the_file_keeps_what_was_written(void)
{
	char directory[] = "/tmp/capture-full-XXXXXX", before[64];
	struct tg_capture_status status;
	struct tg_capture *capture;
	int packets;

	CHECK(mkdtemp(directory));
	CHECK_INT(0, unshare(CLONE_NEWNS));
	CHECK_INT(0, mount("none", "/", "none", MS_REC | MS_PRIVATE, ""));
	CHECK_INT(0, mount("none", directory, "tmpfs", 0, "size=1m"));
	strcpy(before, path);
	snprintf(path, sizeof(path), "%s/file", directory);
	capture = start((struct tg_capture_options){ .snap = 0 });
	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	for (int i = 0; i < 1000 && !ended; i++) {
		send_frame(frame, 1514, 20);
		usleep(1000);
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	status = end_of(capture);
	CHECK_INT(TG_CAPTURE_FAILED, status.end);
	CHECK_INT(-ENOSPC, status.error);
	packets = packets_in_file();
	CHECK_INT(status.packets, packets);
	CHECK_INT(status.size, file.size);
	CHECK(packets > 500);
	umount(directory);
	rmdir(directory);
	strcpy(path, before);
}

static void a_reader_that_goes_ends_it(void)
{
	struct tg_capture_status status;
	struct tg_capture *capture;
	int fds[2];

	CHECK_INT(0, pipe(fds));
	capture = start((struct tg_capture_options){ .snap = 64, .fd = fds[1] });
	close(fds[0]);
	status = end_of(capture);
	CHECK_INT(TG_CAPTURE_FAILED, status.end);
	CHECK_INT(-EPIPE, status.error);
}

static void a_reader_that_sleeps_holds_up_nobody(int fds[2])
{
	struct tg_capture *capture = start((struct tg_capture_options){ .snap = 0, .fd = fds[1] });
	struct tg_capture_status status;

	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	for (int i = 0; i < 3000; i++) {
		send_large(60, 1);
		usleep(100);
	}
	tg_capture_status(capture, &status);
	CHECK(status.packets < 3000);
	status = stop(capture);
	CHECK_INT(3000, status.packets + status.slow + status.ring_full);
	CHECK(status.slow + status.ring_full > 50);
	CHECK_INT(TG_CAPTURE_STOPPED, status.end);
	close(fds[0]);
}

static void a_pipe_that_nobody_reads_holds_up_nobody(void)
{
	int fds[2];

	CHECK_INT(0, pipe(fds));
	a_reader_that_sleeps_holds_up_nobody(fds);
}

static void nor_does_such_a_socket(void)
{
	int fds[2];

	CHECK_INT(0, socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	a_reader_that_sleeps_holds_up_nobody(fds);
}

static void captures_that_run_end_with_the_controller(void)
{
	start((struct tg_capture_options){ .snap = 64 });
	make_frame(TG_INGRESS, TG_ACTION_ACCEPT, 0, NO_RULE);
	send_frame(frame, FRAME, 5);
	tg_captures_free(captures);
	uv_run(&loop, UV_RUN_NOWAIT);
	CHECK_INT(0, ended);
	CHECK_INT(5, packets_in_file());
}

int main(void)
{
	if (geteuid()) {
		puts("skip captures: only root may load programs");
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof(path), "/tmp/capture-test-%d", getpid());
	uv_loop_init(&loop);
	box = tg_mailbox_new(&loop);
	open_step();
	captures = tg_captures_new(&dp, box);
	RUN(a_file_has_a_section_an_interface_packets_and_statistics);
	RUN(a_packet_has_its_bytes_its_time_and_its_direction);
	RUN(a_comment_tells_verdict_and_rule);
	RUN(an_expression_chooses);
	RUN(a_capture_ends_after_so_many_packets);
	RUN(a_capture_ends_before_its_file_is_larger_than_allowed);
	RUN(a_capture_ends_after_its_time);
	RUN(its_tap_ends_soon_without_it);
	RUN(records_of_an_earlier_start_are_nobodys);
	RUN(a_full_ring_is_counted);
	RUN(a_full_disk_ends_it_and_the_file_keeps_what_was_written);
	RUN(a_reader_that_goes_ends_it);
	RUN(a_pipe_that_nobody_reads_holds_up_nobody);
	RUN(nor_does_such_a_socket);
	RUN(captures_that_run_end_with_the_controller);
	tg_mailbox_close(box);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	capture_bpf__destroy(skeleton);
	munmap(taps, TG_MAX_TAPS * sizeof(*taps));
	unlink(path);
	return unit_result();
}
