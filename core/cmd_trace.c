// SPDX-License-Identifier: GPL-2.0-only
/*
 * `tidegate trace`: asks the running daemon what would become of a packet. A capture is read here, with
 * the caller's own rights, and sent packet by packet as hexadecimal digits; the rest is
 * lua/tidegate/trace.lua. libpcap reads it: both formats, either byte order, and link types enough.
 */
#include <getopt.h>
#include <pcap/pcap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cmd.h"

#define FRAME_MAX 65549 /* bytes: the largest IP packet in an Ethernet frame */
#define ETHERNET  14
#define WORDS_MAX 64 /* of a packet's text */

struct question {
	const char *instance, *hex, *pcap, *port;
	bool json;
	char **words; /* of the packet's text */
	int count;
};

/* How captured packets become frames: `skip` bytes go, and an Ethernet header comes instead. */
static const struct link {
	int type;
	int skip;
	int ether_type; /* where it stands, -1: by the IP version */
} links[] = {
	{ DLT_EN10MB, 0, 0 },
	{ DLT_RAW, 0, -1 },
	{ DLT_IPV4, 0, -1 },
	{ DLT_IPV6, 0, -1 },
	{ DLT_LINUX_SLL, 16, 14 },
	{ DLT_LINUX_SLL2, 20, 0 },
};

static int misused(const char *why)
{
	fprintf(stderr, "trace: %s\n", why);
	return TG_MISUSED;
}

static int parse(int argc, char **argv, struct question *question)
{
	static const struct option options[] = {
		{ "instance", required_argument, NULL, 'i' },
		{ "hex", required_argument, NULL, 'x' },
		{ "pcap", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	int option;

	optind = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'i')
			question->instance = optarg;
		else if (option == 'x')
			question->hex = optarg;
		else if (option == 'p')
			question->pcap = optarg;
		else if (option == 'j')
			question->json = true;
		else
			return TG_MISUSED;
	}
	if (optind == argc)
		return misused("a port is needed");
	question->port = argv[optind];
	question->words = argv + optind + 1;
	question->count = argc - optind - 1;
	if (question->count > WORDS_MAX)
		return misused("too many words for a packet");
	if (!!question->hex + !!question->pcap + !!question->count != 1)
		return misused("one packet is needed: as text, --hex or --pcap");
	return 0;
}

/* One packet: its text, or its digits. */
static int ask(struct tg_client *client, const struct question *question, const char *hex)
{
	char *args[WORDS_MAX + 4];
	struct tg_error error;
	int n = 0, code;

	args[n++] = "trace";
	if (question->json)
		args[n++] = "--json";
	args[n++] = (char *)question->port;
	if (hex) {
		args[n++] = "--hex";
		args[n++] = (char *)hex;
	}
	for (int i = 0; i < question->count; i++)
		args[n++] = question->words[i];
	code = tg_client_request(client, n, args, &error);
	if (code >= 0)
		return code;
	fprintf(stderr, "tidegate: %s\n", error.text);
	return TG_EXIT_ENVIRONMENT;
}

static const struct link *find_link(int type)
{
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (links[i].type == type)
			return &links[i];
	return NULL;
}

/* A captured packet as the frame that it was; bytes that the capture cut off are zeros. Its length, 0: none. */
static size_t to_frame(const struct link *link, const struct pcap_pkthdr *header,
	const unsigned char *data, unsigned char frame[FRAME_MAX])
{
	static const unsigned char macs[] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1 };
	size_t at = link->type == DLT_EN10MB ? 0 : ETHERNET, have = header->caplen, size;

	size = header->len > have ? header->len : have;
	if (have <= (size_t)link->skip || size > FRAME_MAX - at)
		return 0;
	have -= link->skip;
	size -= link->skip;
	memset(frame, 0, at + size);
	memcpy(frame + at, data + link->skip, have);
	if (!at)
		return size;
	memcpy(frame, macs, sizeof(macs));
	if (link->ether_type >= 0)
		memcpy(frame + 12, data + link->ether_type, 2);
	else
		memcpy(frame + 12, data[0] >> 4 == 6 ? "\x86\xdd" : "\x08\x00", 2);
	return at + size;
}

static void to_hex(const unsigned char *bytes, size_t size, char *hex)
{
	for (size_t i = 0; i < size; i++)
		sprintf(hex + 2 * i, "%02x", bytes[i]);
}

/* Traces the packets of an open capture, one after the other, until one can't be. */
static int trace_capture(struct tg_client *client, const struct question *question, pcap_t *capture)
{
	static unsigned char frame[FRAME_MAX];
	static char hex[2 * FRAME_MAX + 1];
	const struct link *link = find_link(pcap_datalink(capture));
	struct pcap_pkthdr *header;
	const unsigned char *data;
	int code = 0, n = 0, got;

	while (!code && (got = pcap_next_ex(capture, &header, &data)) == 1) {
		size_t size = to_frame(link, header, data, frame);

		if (!question->json)
			printf("%spacket %d%s\n", n ? "\n" : "", n + 1,
				header->caplen < header->len
					? " (cut by the capture; the rest is zeros)"
					: "");
		n++;
		fflush(stdout);
		to_hex(frame, size, hex);
		hex[2 * size] = 0;
		if (size)
			code = ask(client, question, hex);
		else
			fprintf(stderr, "trace: packet %d: %u bytes are no frame\n", n, header->len);
	}
	if (code || got == PCAP_ERROR_BREAK)
		return code;
	fprintf(stderr, "trace: %s: after packet %d: %s\n", question->pcap, n,
		pcap_geterr(capture));
	return TG_EXIT_ENVIRONMENT;
}

static int ask_capture(struct tg_client *client, const struct question *question)
{
	char why[PCAP_ERRBUF_SIZE];
	pcap_t *capture = pcap_open_offline(question->pcap, why);
	int code = TG_EXIT_ENVIRONMENT;

	if (!capture) {
		fprintf(stderr, "trace: %s%s%s\n", strstr(why, question->pcap) ? "" : question->pcap,
			strstr(why, question->pcap) ? "" : ": ", why);
		return code;
	}
	if (find_link(pcap_datalink(capture)))
		code = trace_capture(client, question, capture);
	else
		fprintf(stderr, "trace: %s: packets of type %s are not Ethernet's or IP's\n",
			question->pcap, pcap_datalink_val_to_name(pcap_datalink(capture)));
	pcap_close(capture);
	return code;
}

int tg_cmd_trace(int argc, char **argv)
{
	struct question question = { 0 };
	struct tg_instance instance;
	struct tg_client client;
	struct tg_error error;
	int code;

	if (parse(argc, argv, &question))
		return TG_MISUSED;
	if (tg_instance_init(&instance, question.instance, &error)) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_USAGE;
	}
	code = tg_client_open(&client, &instance, &error);
	if (code) {
		fprintf(stderr, "tidegate: %s\n", error.text);
		return TG_EXIT_ENVIRONMENT;
	}
	code = question.pcap ? ask_capture(&client, &question)
			     : ask(&client, &question, question.hex);
	tg_client_close(&client);
	return code;
}
