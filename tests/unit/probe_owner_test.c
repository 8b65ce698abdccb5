/* SPDX-License-Identifier: GPL-2.0-only */
/* What the prober owes whom it works for: targets that come and go, and failures that are not the server's. */
#include "prober.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* --- owners that change things --- */

static void on_change_remove_all(void *user, enum tg_health state,
	const struct tg_probe_result *last)
{
	struct seen *crowd = user;

	for (int i = 0; i < CROWD; i++)
		tg_prober_remove(crowd[i].target);
	crowd->changes++;
}

static void targets_may_be_removed_from_within_a_callback(void)
{
	struct seen crowd[CROWD] = { 0 };
	struct tg_check check;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 128, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 10, 10);
	for (int i = 0; i < CROWD; i++)
		crowd[i].target = tg_prober_add(prober, &check, TG_HEALTH_UNKNOWN,
			on_change_remove_all, crowd, NULL);
	usleep(20000); /* all are due: their events come in one batch */
	run_for(50);
	CHECK_INT(1, crowd->changes);
	CHECK_INT(0, tg_prober_stats(prober).targets);
	CHECK_INT(0, tg_prober_stats(prober).in_flight);
	tear_down();
	close(fd);
}

static void a_target_may_be_removed_in_flight(void)
{
	struct tg_check check;
	struct seen gone, stays;
	uint16_t port, open_port;
	int fd = listen_on("127.0.0.1", 0, &port), filler = connect_to(port);
	int open_fd = listen_on("127.0.0.1", 8, &open_port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 1000, 1000);
	add(&gone, &check, TG_HEALTH_UP);
	run_for(30);
	CHECK_INT(1, tg_prober_stats(prober).in_flight);
	tg_prober_remove(gone.target);
	CHECK_INT(0, tg_prober_stats(prober).in_flight);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", open_port, 20, 20);
	add(&stays, &check, TG_HEALTH_UNKNOWN); /* on the socket of the one that is gone */
	run_for(100);
	CHECK_INT(TG_HEALTH_UP, stays.state);
	CHECK_INT(1, tg_prober_stats(prober).sockets);
	CHECK_INT(0, gone.changes);
	tear_down();
	close(open_fd);
	close(filler);
	close(fd);
}

static void a_check_can_be_changed_and_keeps_its_history(void)
{
	struct tg_error error = { "" };
	struct tg_check check;
	struct seen seen;
	uint64_t before;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 8, &port);

	set_up();
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 10000, 100);
	add(&seen, &check, TG_HEALTH_UNKNOWN);
	run_until_change(&seen);
	before = status_of(&seen)->ok;
	CHECK(before >= 1); /* more where a busy machine had the first one spread anew */
	check.interval = 20 * MS;
	check.timeout = 20 * MS;
	CHECK_INT(0, tg_target_set_check(seen.target, &check, &error));
	run_for(200);
	CHECK(status_of(&seen)->ok >= before + 5);
	CHECK_INT(1, seen.changes);
	check.port++;
	CHECK_INT(-EINVAL, tg_target_set_check(seen.target, &check, &error));
	CHECK_STR("a target keeps its type of check, address and port", error.text);
	tear_down();
	close(fd);
}

static void somebody_elses_results_drive_the_same_machine(void)
{
	struct tg_check check = { .type = TG_CHECK_EXTERNAL, .rise = 2, .fall = 2 };
	struct tg_probe_result bad = { .reason = "no PONG", .latency_ns = 7 };
	struct seen seen;

	set_up();
	add(&seen, &check, TG_HEALTH_UP);
	tg_target_report(seen.target, &bad);
	CHECK_INT(0, seen.changes);
	tg_target_report(seen.target, &bad);
	CHECK_INT(TG_HEALTH_DOWN, seen.state);
	CHECK_STR("no PONG", seen.reason);
	run_for(20);
	CHECK_INT(2, status_of(&seen)->failed);
	CHECK_INT(0, tg_prober_stats(prober).probes);
	tear_down();
}

/* --- want of descriptors --- */

static void on_trouble(void *user, int code)
{
	int *codes = user;

	codes[0]++;
	codes[1] = code;
}

static void want_of_descriptors_is_not_the_servers_fault(void)
{
	struct rlimit before, none;
	int told[2] = { 0 };
	struct tg_check check;
	struct seen seen;
	uint16_t port;
	int fd = listen_on("127.0.0.1", 8, &port);

	set_up();
	tg_prober_on_trouble(prober, on_trouble, told);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 20, 20);
	check.fall = 1;
	add(&seen, &check, TG_HEALTH_UP);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = 3; /* below every descriptor that is free */
	setrlimit(RLIMIT_NOFILE, &none);
	run_for(150);
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK(status_of(&seen)->skipped >= 4);
	CHECK_INT(0, status_of(&seen)->failed + status_of(&seen)->ok);
	CHECK_INT(0, seen.changes);
	CHECK_INT(1, told[0]);
	CHECK_INT(-EMFILE, told[1]);
	run_for(100);
	CHECK(status_of(&seen)->ok >= 2);
	tear_down();
	close(fd);
}

/* --- what the network itself refuses --- */

/* A network of our own, with nothing but lo and one local port. Returns where to go back to, or -1. */
static int enter_private_network(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (unshare(CLONE_NEWNET) < 0) {
		printf("# no private network: %s\n", strerror(errno));
		close(home);
		return -1;
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK_INT(0, ioctl(fd, SIOCSIFFLAGS, &lo));
	close(fd);
	fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
	CHECK_INT(11, write(fd, "40000 40000", 11));
	close(fd);
	return home;
}

static void leave_private_network(int home)
{
	CHECK_INT(0, setns(home, CLONE_NEWNET));
	close(home);
}

static void no_route_is_a_failure_but_no_local_port_is_not(void)
{
	int home = enter_private_network(), fd, taken;
	struct seen unreachable, starved;
	struct tg_check check;
	uint16_t port;

	if (home < 0)
		return;
	fd = listen_on_port("127.0.0.1", 8, 8080, &port);
	taken = connect_to(port);
	set_up();
	check = check_of(TG_CHECK_TCP, "192.0.2.1", 80, 50, 50);
	add(&unreachable, &check, TG_HEALTH_UP);
	check = check_of(TG_CHECK_TCP, "127.0.0.1", port, 50, 50);
	add(&starved, &check, TG_HEALTH_UP);
	run_for(300);
	CHECK_INT(TG_HEALTH_DOWN, unreachable.state);
	CHECK_STR("network is unreachable", unreachable.reason);
	CHECK_INT(TG_HEALTH_UP, starved.state);
	CHECK(status_of(&starved)->skipped >= 4 && !status_of(&starved)->failed);
	tear_down();
	close(taken);
	close(fd);
	leave_private_network(home);
}

int main(void)
{
	note_descriptors();
	RUN(targets_may_be_removed_from_within_a_callback);
	RUN(a_target_may_be_removed_in_flight);
	RUN(a_check_can_be_changed_and_keeps_its_history);
	RUN(somebody_elses_results_drive_the_same_machine);
	RUN(want_of_descriptors_is_not_the_servers_fault);
	RUN(no_route_is_a_failure_but_no_local_port_is_not);
	RUN(no_test_left_a_descriptor);
	return unit_result();
}
