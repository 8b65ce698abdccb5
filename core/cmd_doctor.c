/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate doctor [--instance NAME] [--netns NETNS] [DEV…]: a line for each finding of core/doctor.h; all
 * devices but loopback ones where none is named; and what the services of a daemon that runs need
 * (lua/tidegate/advice.lua). Exit 1 if something required is missing.
 */
#include <getopt.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "doctor.h"
#include "instance.h"

struct tally {
	int missing, unknown;	/* of what is required */
};

static void print_finding(const struct tg_finding *finding, void *user)
{
	static const char *const words[] = { "MISSING", "yes", "unknown" };
	const char *word = words[finding->presence];
	struct tally *tally = user;
	char name[96];

	if (finding->presence == TG_ABSENT && !finding->required)
		word = "no";
	tally->missing += finding->required && finding->presence == TG_ABSENT;
	tally->unknown += finding->required && finding->presence == TG_UNKNOWN;
	snprintf(name, sizeof(name), "%s%s%s", finding->device ? finding->device : "",
		finding->device ? ": " : "", finding->name);
	printf("%-8s %-42s %-7s without it: %s%s%s%s%s\n", word, name,
		finding->since ? finding->since : "-", finding->lost,
		finding->required ? " [required]" : "", *finding->note ? " (" : "", finding->note,
		*finding->note ? ")" : "");
}

static bool is_loopback(const char *device)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };
	bool loopback = false;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", device);
	if (fd >= 0 && !ioctl(fd, SIOCGIFFLAGS, &ifr))
		loopback = ifr.ifr_flags & IFF_LOOPBACK;
	if (fd >= 0)
		close(fd);
	return loopback;
}

static void examine_all_devices(struct tally *tally)
{
	struct if_nameindex *list = if_nameindex();

	for (struct if_nameindex *at = list; at && at->if_index; at++)
		if (!is_loopback(at->if_name))
			tg_doctor_device(at->if_name, print_finding, tally);
	if (list)
		if_freenameindex(list);
}

static void examine_services(const struct tg_instance *instance)
{
	struct tg_client client;
	struct tg_error error = { "" };
	char *args[] = { "doctor" };
	int result = tg_client_open(&client, instance, &error);

	fflush(stdout); /* the client writes past it */
	if (!result) {
		result = tg_client_request(&client, 1, args, &error);
		tg_client_close(&client);
	}
	if (result < 0)
		printf("services are not looked at: %s\n", error.text);
}

/* The one that it is developed on, and those of scripts/test --kernels. */
static const char tested_kernels[] = "6.1, 6.12 and 6.18";

static void print_head(void)
{
	struct utsname kernel;

	if (!uname(&kernel))
		printf("tidegate %s on Linux %s %s (tested on %s)\n", TIDEGATE_VERSION, kernel.release,
			kernel.machine, tested_kernels);
	printf("%-8s %-42s %s\n", "", "", "since");
}

static int print_verdict(const struct tally *tally)
{
	if (tally->missing)
		printf("%d required missing\n", tally->missing);
	else if (tally->unknown)
		printf("nothing required is known to be missing, %d unknown (run as root to see)\n",
			tally->unknown);
	else
		printf("all that is required is there\n");
	return tally->missing ? TG_EXIT_NO : TG_EXIT_OK;
}

int tg_cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = { { "instance", required_argument, NULL, 'i' },
		{ "netns", required_argument, NULL, 'n' }, { 0 } };
	const char *netns = NULL, *name = NULL;
	struct tg_instance instance;
	struct tally tally = { 0 };
	struct tg_error error;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'n')
			netns = optarg;
		else if (option == 'i')
			name = optarg;
		else
			return TG_MISUSED;
	}
	if (tg_instance_init(&instance, name, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_USAGE;
	}
	print_head();
	tg_doctor_kernel(print_finding, &tally);
	if (netns && tg_instance_enter_netns(netns, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_ENVIRONMENT;
	}
	tg_doctor_network(print_finding, &tally);
	for (int i = optind; i < argc; i++)
		tg_doctor_device(argv[i], print_finding, &tally);
	if (optind == argc)
		examine_all_devices(&tally);
	examine_services(&instance);
	return print_verdict(&tally);
}
