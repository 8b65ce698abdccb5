/* SPDX-License-Identifier: GPL-2.0-only */
#include "expression.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#define SNAP_MOST 262144 /* as tcpdump has it: what a filter lets through is not cut */

struct tg_expression {
	struct bpf_program program;
	char text[];
};

static int compile(struct tg_expression *expression, struct tg_error *error)
{
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, SNAP_MOST);
	int result = 0;

	if (!pcap)
		return tg_fail(error, -ENOMEM, "out of memory");
	if (pcap_compile(pcap, &expression->program, expression->text, 1, PCAP_NETMASK_UNKNOWN))
		result = tg_fail(error, -EINVAL, "\"%s\" is no tcpdump expression: %s",
			expression->text, pcap_geterr(pcap));
	pcap_close(pcap);
	return result;
}

struct tg_expression *tg_expression_new(const char *text, struct tg_error *error)
{
	struct tg_expression *expression = calloc(1, sizeof(*expression) + strlen(text) + 1);

	if (!expression) {
		tg_fail(error, -ENOMEM, "out of memory");
		return NULL;
	}
	strcpy(expression->text, text);
	if (!compile(expression, error))
		return expression;
	free(expression);
	return NULL;
}

bool tg_expression_matches(const struct tg_expression *expression, const void *frame,
	uint32_t length, uint32_t captured)
{
	return bpf_filter(expression->program.bf_insns, frame, length, captured);
}

const char *tg_expression_text(const struct tg_expression *expression)
{
	return expression->text;
}

void tg_expression_free(struct tg_expression *expression)
{
	if (expression)
		pcap_freecode(&expression->program);
	free(expression);
}
