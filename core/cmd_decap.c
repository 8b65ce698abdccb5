/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tidegate decap DEV: on a backend, takes packets of ipip and gue out (see decap.h). It attaches and
 * returns; what is attached goes on until `--detach`, and another call changes what it accepts.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "decap.h"
#include "instance.h"

struct request {
	struct tg_decap decap;
	const char *device, *netns;
	bool detach, counters;
};

static int misused(const char *what, const char *given)
{
	fprintf(stderr, "decap: %s \"%s\" given\n", what, given);
	return TG_MISUSED;
}

static int add_address(struct tg_decap_list *list, const char *option, const char *text)
{
	struct tg_addr addr;

	if (!tg_addr_parse(text, &addr) && !tg_decap_add(list, &addr))
		return 0;
	fprintf(stderr, "decap: %s: \"%s\" given, an IP address expected, at most %d of them\n", option,
		text, TG_DECAP_MAX_ADDRESSES / 2);
	return TG_MISUSED;
}

static int set_port(struct request *request, const char *text)
{
	char *end;
	long port = strtol(text, &end, 10);

	if (*end || port < 1 || port > 65535)
		return misused("--gue-port: 1 to 65535 expected,", text);
	request->decap.gue_port = port;
	return 0;
}

static int set_mode(struct request *request, const char *text)
{
	if (strcmp(text, "auto") && strcmp(text, "native") && strcmp(text, "generic"))
		return misused("--xdp: auto, native or generic expected,", text);
	request->decap.xdp = text;
	return 0;
}

static int take_option(struct request *request, int option)
{
	switch (option) {
	case 'v':
		return add_address(&request->decap.vips, "--vip", optarg);
	case 't':
		return add_address(&request->decap.to, "--to", optarg);
	case 'p':
		return set_port(request, optarg);
	case 'x':
		return set_mode(request, optarg);
	case 'n':
		request->netns = optarg;
		return 0;
	case 'd':
		request->detach = true;
		return 0;
	case 'c':
		request->counters = true;
		return 0;
	default:
		return TG_MISUSED;
	}
}

static int parse(int argc, char **argv, struct request *request)
{
	static const struct option options[] = {
		{ "vip", required_argument, NULL, 'v' },
		{ "to", required_argument, NULL, 't' },
		{ "gue-port", required_argument, NULL, 'p' },
		{ "xdp", required_argument, NULL, 'x' },
		{ "netns", required_argument, NULL, 'n' },
		{ "detach", no_argument, NULL, 'd' },
		{ "counters", no_argument, NULL, 'c' },
		{ 0 },
	};
	int option, result = 0;

	optind = 0;
	while (!result && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		result = take_option(request, option);
	if (result)
		return result;
	if (optind + 1 != argc)
		return misused("one device expected,", optind < argc ? argv[optind + 1] : "none");
	request->device = argv[optind];
	if (request->detach && request->counters)
		return misused("either --detach or --counters expected,", "both");
	return 0;
}

static void print_list(const char *what, const struct tg_decap_list *list)
{
	char text[TG_ADDR_TEXT];

	printf("  %s:", what);
	for (size_t i = 0; i < list->count; i++)
		printf(" %s", tg_addr_print(&list->addr[i], text));
	printf("\n");
}

static void print_advice(void *user, const char *text)
{
	printf("  warning: %s\n", text);
}

static void print_attached(const struct request *request)
{
	const struct tg_decap *decap = &request->decap;

	printf("%s: takes packets out of ipip and gue (port %d)%s\n", request->device,
		decap->gue_port ? decap->gue_port : TG_GUE_PORT,
		decap->generic ? ", generic XDP" : "");
	print_list("sent to", &decap->to);
	print_list("for the VIPs", &decap->vips);
	tg_decap_advise(decap, request->device, print_advice, NULL);
}

static int print_counters(const struct request *request, struct tg_error *error)
{
	static const char *const texts[] = {
#define TEXT(symbol, text) text,
		TG_DECAP_COUNTERS(TEXT)
#undef TEXT
	};
	struct tg_counter counters[TG_DECAP_COUNTER_COUNT];
	int result = tg_decap_read(request->device, counters, error);

	for (int i = 0; !result && i < TG_DECAP_COUNTER_COUNT; i++)
		printf("%12llu packets %16llu bytes  %s\n", (unsigned long long)counters[i].packets,
			(unsigned long long)counters[i].bytes, texts[i]);
	return result;
}

static int carry_out(struct request *request, struct tg_error *error)
{
	int result;

	if (request->detach)
		return tg_decap_detach(request->device, error);
	if (request->counters)
		return print_counters(request, error);
	result = tg_decap_attach(&request->decap, request->device, error);
	if (!result)
		print_attached(request);
	return result;
}

int tg_cmd_decap(int argc, char **argv)
{
	static struct request request; /* large */
	struct tg_error error = { "" };
	int result;

	request.decap.xdp = "auto";
	result = parse(argc, argv, &request);
	if (result)
		return result;
	if (request.netns && tg_instance_enter_netns(request.netns, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_ENVIRONMENT;
	}
	result = carry_out(&request, &error);
	if (!result)
		return TG_EXIT_OK;
	fprintf(stderr, "tidegate: %s\n", error.text);
	return result == -ENOENT ? TG_EXIT_NO : TG_EXIT_ENVIRONMENT;
}
